//! `groups` and `configs`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Groups {
    /// List groups
    List,
    /// Show one with what its tags and rules stand for
    Get { name: String },
    /// Make a group what a file says, creating it where it is not there; YAML or JSON with `group` and `artifacts`
    Apply {
        /// The file; `-` is standard input
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete one: its satellites lose what only it asked for
    Delete { name: String },
    /// The last changes of a group's list, newest first; with a number, what that one did and the list that it made
    Revisions {
        name: String,
        /// The revision to show
        revision: Option<u64>,
    },
    /// Give a group the list of an earlier revision again; that is a new revision
    Restore {
        name: String,
        /// The revision whose list it gets
        revision: u64,
    },
    /// Choose the satellites of a group by their labels, beside those that are in it by name
    Select {
        group: String,
        /// Selector in Kubernetes' syntax (`env=prod,tier in (a,b),!old`); at least one label has to be there
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        selector: Option<String>,
        /// Only satellites by name from now on
        #[arg(long)]
        none: bool,
    },
    /// Make the URL to which a replication adapter posts what it pushed for a group; the one before ends
    Replication {
        group: String,
        /// Write the URL into this file (0600) in place of the terminal: whoever has it can add to the group
        #[arg(long, short, value_name = "FILE", conflicts_with = "remove")]
        file: Option<PathBuf>,
        /// Take the URL away
        #[arg(long)]
        remove: bool,
    },
    /// How many of its satellites have accounts at Harbor that may read what it lists, and who not, and why
    Accounts { name: String },
    /// List the satellites of a group
    Satellites { group: String },
    /// Add a satellite to a group
    Add { group: String, satellite: String },
    /// Remove a satellite from a group
    Remove { group: String, satellite: String },
}

#[derive(Subcommand)]
pub(crate) enum Configs {
    /// List configs
    List,
    /// Show one
    Get { name: String },
    /// Create one from a file with the config document
    Create {
        name: String,
        /// The file, YAML or JSON; `-` is standard input
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Change one by a merge patch (RFC 7396): what the file names is set, `null` removes
    Patch {
        name: String,
        /// The file, YAML or JSON; `-` is standard input
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete one that no satellite has
    Delete { name: String },
    /// Give a satellite a config
    Assign { config: String, satellite: String },
}
