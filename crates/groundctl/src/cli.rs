//! The command line: every flag's documentation stands beside its definition.

#[cfg(test)]
mod coverage;
mod fleet;
mod groups;
mod people;
mod satellites;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use fleet::{Apply, Audit, Diff, Export, Files as FleetFiles, Rollout, RolloutStatus};
pub(crate) use groups::{Configs, Groups};
pub(crate) use people::{Tokens, Users};
pub(crate) use satellites::{Filter, Handover, Register, Satellites, Spire, Which};

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
    /// Who is logged in, and what they may do
    Whoami,
    /// The fleet in a few lines: Ground Control's health, satellites by state, groups
    Status,
    /// Make the fleet what files say: configs, groups, satellites. Shows the plan, and does it
    #[command(after_help = fleet::FILES)]
    Apply(Apply),
    /// Show what `apply` would change. Exit code 0: nothing, 1: something, 2: it cannot be told
    #[command(after_help = fleet::FILES)]
    Diff(Diff),
    /// Write the fleet as a file: applied here again, it changes nothing. It holds no secrets
    Export(Export),
    /// How far what a group lists is at its satellites
    #[command(subcommand)]
    Rollout(Rollout),
    /// Satellites: the edge sites
    #[command(subcommand, visible_alias = "satellite")]
    Satellites(Satellites),
    /// Groups: which artifacts which satellites shall have
    #[command(subcommand, visible_alias = "group")]
    Groups(Groups),
    /// Configs: what satellites work with
    #[command(subcommand, visible_alias = "config")]
    Configs(Configs),
    /// Who changed what, and who was refused; for a system_admin
    Audit(Audit),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
