//! The command line: every flag's documentation stands beside its definition.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Runs a fleet of Satellites through its Ground Control.
#[derive(Parser)]
#[command(name = "groundctl", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How answers are shown
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table, env = "GROUNDCTL_OUTPUT")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where Ground Control is and how it is trusted.
#[derive(Args)]
pub(crate) struct Connection {
    /// URL of Ground Control; the one of the last login if it is not given
    #[arg(long, short, global = true, env = "GROUNDCTL_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// PEM file of the authority that signed Ground Control's certificate
    #[arg(long, global = true, env = "GROUNDCTL_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Allow http:// to a host beyond loopback: the password and the session travel readable
    #[arg(long, global = true, env = "USE_UNSECURE")]
    pub(crate) use_unsecure: bool,
}

/// How answers are shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people
    Table,
    /// The answer as JSON, for scripts
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Log in and keep the session for later commands
    Login(Login),
    /// End the session
    Logout,
    /// The fleet in a few lines: Ground Control's health, satellites by state, groups
    Status,
    /// Satellites: the edge sites
    #[command(subcommand, visible_alias = "satellite")]
    Satellites(Satellites),
    /// Groups: which artifacts which satellites shall have
    #[command(subcommand, visible_alias = "group")]
    Groups(Groups),
    /// Configs: what satellites work with
    #[command(subcommand, visible_alias = "config")]
    Configs(Configs),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args)]
pub(crate) struct Login {
    /// Who logs in
    #[arg(long, short, default_value = "admin", env = "GROUNDCTL_USERNAME")]
    pub(crate) username: String,
    /// File that holds the password; `-` is standard input. Asked for on the terminal if it is not given
    #[arg(long, env = "GROUNDCTL_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Satellites {
    /// List satellites
    List {
        /// Only those in this state
        #[arg(long, value_enum, default_value_t = Which::All)]
        which: Which,
    },
    /// Show one
    Get { name: String },
    /// Create one and print its one-time token, which is shown this once
    Create {
        name: String,
        /// A group that it belongs to; may be given several times
        #[arg(long = "group", short, value_name = "GROUP")]
        groups: Vec<String>,
        /// Its config; `default` if it is not given
        #[arg(long, short, value_name = "CONFIG")]
        config: Option<String>,
    },
    /// Delete one: its identity is refused from now on
    Delete { name: String },
    /// Its latest heartbeat
    Status { name: String },
    /// The images that it has
    Images { name: String },
}

/// Which satellites are listed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Every one
    All,
    /// Those whose heartbeats come
    Active,
    /// Those whose heartbeats stay away
    Stale,
}

#[derive(Subcommand)]
pub(crate) enum Groups {
    /// List groups
    List,
    /// Show one with its artifacts
    Get { name: String },
    /// Make a group what a file says, creating it where it is not there; YAML or JSON with `group` and `artifacts`
    Apply {
        /// The file; `-` is standard input
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete one: its satellites lose what only it asked for
    Delete { name: String },
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
