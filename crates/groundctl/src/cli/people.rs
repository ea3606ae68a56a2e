//! `users` and `tokens`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use fleet_protocol::api::{Role, Scope};
use jiff::{SignedDuration, Timestamp};

#[derive(Subcommand)]
pub(crate) enum Users {
    /// List accounts
    List,
    /// Show one
    Get { name: String },
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
    use super::*;

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
}
