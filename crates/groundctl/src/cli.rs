//! The command line: every flag's documentation stands beside its definition.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fleet_protocol::api::{AttestationMethod, Role, Scope};
use jiff::{SignedDuration, Timestamp};

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
    /// SPIFFE identities: who makes them, and the agents that attested
    #[command(subcommand)]
    Spire(Spire),
    /// Accounts of people
    #[command(subcommand, visible_alias = "user")]
    Users(Users),
    /// API tokens: what programs show in the place of a person's password
    #[command(subcommand, visible_alias = "token")]
    Tokens(Tokens),
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
    /// Log in at the identity provider instead, in a browser on this machine
    #[arg(long)]
    pub(crate) oidc: bool,
    /// Print the URL to open instead of opening a browser
    #[arg(long, requires = "oidc")]
    pub(crate) no_browser: bool,
}

#[derive(Subcommand)]
pub(crate) enum Satellites {
    /// List satellites
    List {
        /// Only those in this state
        #[arg(long, value_enum, default_value_t = Which::All)]
        which: Which,
        #[command(flatten)]
        filter: Filter,
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
    /// Give one a SPIFFE identity, creating it where it is not there. Repeating it is safe: unused join tokens end
    Register(Box<Register>),
    /// Refuse its identity from now on; its site keeps serving what it holds
    Revoke { name: String },
    /// Let a revoked one in again; prints the new one-time token, which is shown this once
    Enable {
        name: String,
        #[command(flatten)]
        handover: Handover,
    },
    /// Let in one that registered itself and waits for approval
    Approve { name: String },
    /// Set labels of one (`env=prod`) and remove them (`env-`)
    Label {
        name: String,
        /// `KEY=VALUE` sets, `KEY-` removes; Kubernetes' syntax
        #[arg(required = true, value_name = "LABEL", value_parser = label)]
        labels: Vec<Label>,
    },
    /// Delete one: its identity is refused from now on
    Delete { name: String },
    /// Its latest heartbeat
    Status { name: String },
    /// The images that it has
    Images { name: String },
}

/// Which satellites are listed: those that meet all of it.
#[derive(Args)]
pub(crate) struct Filter {
    /// Only those whose labels meet a selector in Kubernetes' syntax (`env=prod,tier in (a,b),!old`); may be given several times
    #[arg(long = "label", short = 'l', value_name = "SELECTOR")]
    pub(crate) labels: Vec<String>,
    /// Only those of this region
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", conflicts_with = "which",
          value_parser = ["pending", "awaiting_approval", "online", "stale", "revoked"])]
    pub(crate) state: Option<String>,
    /// Only those in this group
    #[arg(long, short, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

/// A change of one label: its key, and its value unless it is removed.
pub(crate) type Label = (String, Option<String>);

fn label(text: &str) -> Result<Label, String> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err("write `key=value` to set a label, or `key-` to remove it".to_owned()),
    }
}

#[derive(Args)]
pub(crate) struct Register {
    /// The satellite
    pub(crate) name: String,
    /// Its region; `default` if it is not given. A name belongs to one region
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// What its process must show to the SPIRE agent, as `type:value` (`unix:uid:1000`); may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    pub(crate) selectors: Vec<String>,
    /// How its node proves which one it is
    #[arg(long, value_name = "METHOD", default_value = "join_token", value_parser = attestation_method())]
    pub(crate) attestation_method: AttestationMethod,
    /// How long the join token is good: `600` (seconds), `10m`, `1h`; 10 minutes if it is not given
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) ttl: Option<u32>,
    /// SPIFFE ID of the agent that attested already; needed for sshpop
    #[arg(long, value_name = "SPIFFE-ID")]
    pub(crate) parent_agent: Option<String>,
    /// A group that it belongs to, beside those that it is in; may be given several times
    #[arg(long = "group", short, value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Its config; `default` for a new satellite if it is not given
    #[arg(long, short, value_name = "CONFIG")]
    pub(crate) config: Option<String>,
    #[command(flatten)]
    pub(crate) handover: Handover,
}

/// Where what a site needs is put, instead of being shown.
#[derive(Args)]
pub(crate) struct Handover {
    /// Write the one-time token into this file, readable by its owner alone, instead of showing it
    #[arg(long, visible_alias = "token-file", value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Write the authorities of the trust domain (PEM) into this file, instead of showing them
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_bundle_file: Option<PathBuf>,
}

fn attestation_method() -> impl TypedValueParser<Value = AttestationMethod> {
    PossibleValuesParser::new(["join_token", "x509pop", "sshpop"]).try_map(|text| text.parse())
}

/// Reads a time in whole seconds, at least one.
fn seconds(text: &str) -> Result<u32, String> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => text.parse::<SignedDuration>().ok().map(|time| time.as_secs()),
    };
    seconds
        .and_then(|seconds| u32::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write seconds (`600`) or a time (`10m`, `1h30m`) of at least a second".to_owned())
}

#[derive(Subcommand)]
pub(crate) enum Spire {
    /// Whether identities are SPIFFE's, whose, and whether their maker answers
    Status,
    /// The agents that attested
    Agents {
        /// Only those that attested in this way
        #[arg(long = "type", value_name = "METHOD", value_parser = attestation_method())]
        attestation_type: Option<AttestationMethod>,
    },
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

#[derive(Subcommand)]
pub(crate) enum Users {
    /// List accounts
    List,
    /// Make one; its password is asked for on the terminal if no file is given
    Create {
        name: String,
        /// What it may do
        #[arg(long, value_name = "ROLE", default_value = "admin", value_parser = role())]
        role: Role,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Give one another role, from its next request on
    Role {
        name: String,
        /// What it may do
        #[arg(value_name = "ROLE", value_parser = role())]
        role: Role,
    },
    /// Set the password of one: its sessions and API tokens end. Without a name one's own: one's sessions end
    Password {
        name: Option<String>,
        #[command(flatten)]
        password: NewPassword,
        /// File that holds one's present password; `-` is standard input. Asked for on the terminal if it is not given
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        current_password_file: Option<PathBuf>,
    },
    /// Delete one with its sessions and API tokens
    Delete { name: String },
}

/// Where a new password comes from.
#[derive(Args)]
pub(crate) struct NewPassword {
    /// File that holds the new password; `-` is standard input. Asked for on the terminal if it is not given
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(["viewer", "admin", "system_admin"]).try_map(|text| text.parse())
}

#[derive(Subcommand)]
pub(crate) enum Tokens {
    /// List one's own; a system_admin sees everybody's
    List,
    /// Make one and print it, which is shown this once
    Create {
        name: String,
        /// What it opens, never more than its owner may; may be given several times. `read`, `write` and `admin` are the API
        /// as a viewer, an admin and a system_admin
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope())]
        scopes: Vec<Scope>,
        /// When it ends: a time from now (`30d`, `12h`) or a moment (`2030-01-31T00:00:00Z`); after 90 days if it is not given
        #[arg(long, value_name = "TIME", value_parser = |text: &str| moment(text, Timestamp::now()))]
        expires: Option<Timestamp>,
        /// Write it into this file, readable by its owner alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Delete one by its id: it opens nothing from now on
    Delete { id: String },
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(["read", "write", "admin", "registry:pull", "registry:push"])
        .try_map(|text| text.parse())
}

/// Reads a moment, or a time from now.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let time = match days {
        Some(days) => days.checked_mul(24).and_then(SignedDuration::try_from_hours),
        None => text.parse::<SignedDuration>().ok(),
    };
    let end = match time {
        Some(time) => now.checked_add(time).ok().filter(|end| *end > now),
        None => text.parse().ok(),
    };
    end.ok_or_else(|| "write a time from now (`30d`, `12h`) or a moment (`2030-01-31T00:00:00Z`)".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ends_of_tokens() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let end = |text: &str| moment(text, now).map(|end| end.to_string());
        assert_eq!(end("30d"), Ok("2026-01-31T00:00:00Z".into()));
        assert_eq!(end("12h"), Ok("2026-01-01T12:00:00Z".into()));
        assert_eq!(end("2026-06-01T00:00:00+02:00"), Ok("2026-05-31T22:00:00Z".into()));
        for bad in ["", "soon", "-5d", "0d", "99999999999999d", "-1h"] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels() {
        assert_eq!(label("env=prod"), Ok(("env".into(), Some("prod".into()))));
        assert_eq!(label("env="), Ok(("env".into(), Some(String::new()))));
        assert_eq!(label("a=b-"), Ok(("a".into(), Some("b-".into()))));
        assert_eq!(label("example.com/env-"), Ok(("example.com/env".into(), None)));
        for bad in ["env", "", "-", "=prod"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_to_live() {
        assert_eq!(seconds("600"), Ok(600));
        assert_eq!(seconds("1h30m"), Ok(5400));
        for bad in ["0", "-5", "0s", "", "soon", "5000000000", "1 fortnight"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
