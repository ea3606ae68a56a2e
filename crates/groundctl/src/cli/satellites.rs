//! `satellites` and `spire`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use fleet_protocol::api::AttestationMethod;
use jiff::SignedDuration;

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
    /// Show all that is known of one on one screen: state, identity, accounts, last heartbeat, drift, artifacts, latest events
    Describe { name: String },
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
    /// What it shall have, and how far that is there; and what it holds that nobody wants
    Artifacts { name: String },
    /// Its accounts at Harbor, without secrets
    Accounts { name: String },
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
    /// Only those that lack a digest that they shall have, or hold one that nobody wants; `false`: only those that do not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) drift: Option<bool>,
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
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => text.parse::<SignedDuration>().ok().map(|time| time.as_secs()),
    };
    seconds
        .and_then(|seconds| u32::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write seconds (`600`) or a time (`10m`, `1h30m`) of at least a second".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

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
