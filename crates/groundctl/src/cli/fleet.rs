//! `apply`, `diff`, `export`, `rollout` and `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use super::satellites::seconds;
use crate::fleet::Kind;

/// What a person has to know of fleet files; below the flags.
pub(super) const FILES: &str = "\
A fleet file is YAML, of one document or several:

  configs:
    slow-link:                        # the whole document: what it does not name goes
      app_config: {heartbeat_interval: \"@every 5m\"}
  groups:
    shops:
      selector: env=prod              # satellites by label; null: none
      artifacts:                      # tags, digests and rules
      - {repository: library/nginx, tag: stable}
      - {repository: shop/app, match: {semver: ^1.2}, keep: 2}
      # satellites: [edge-01]         # satellites by name, instead of their `groups`
  satellites:
    edge-01: {config: slow-link, labels: {env: prod}, groups: [shops]}

What a file does not say is left as it is: a section that is absent, a field that an entry does not have.
Files given together are one. All of it is checked before anything is changed.

--prune deletes what is of a kind that the files have a section of and is not in it: with `satellites:` all
satellites that it does not name, with `groups:` the groups, with `configs:` the configs except `default`. A
section that is absent or empty (`groups:`) prunes nothing; `groups: {}` prunes all groups.";

/// Which fleet files.
#[derive(Args)]
pub(crate) struct Files {
    /// A fleet file, YAML or JSON; `-` is standard input; may be given several times
    #[arg(long = "file", short, required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Delete what is of a kind that the files have a section of and is not in it
    #[arg(long)]
    pub(crate) prune: bool,
}

#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Show the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Create satellites that are not there and write the one-time token of each into the file of its name in this folder,
    /// readable by its owner alone. Without it such satellites are refused. A token is good for 24 hours; one with a SPIFFE
    /// identity is made by `satellites register` instead
    #[arg(long, value_name = "DIR")]
    pub(crate) token_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) files: Files,
}

#[derive(Args)]
pub(crate) struct Export {
    /// Only these sections; may be given several times
    #[arg(long = "only", value_name = "SECTION", value_enum)]
    pub(crate) only: Vec<Section>,
}

/// A section of a fleet file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Configs
    Configs,
    /// Groups
    Groups,
    /// Satellites
    Satellites,
}

impl From<Section> for Kind {
    fn from(section: Section) -> Self {
        match section {
            Section::Configs => Self::Config,
            Section::Groups => Self::Group,
            Section::Satellites => Self::Satellite,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Rollout {
    /// How far the list of a group is at its satellites, and who has not all of it, and why. Exit code 0: every satellite has it,
    /// 1: not yet
    Status(RolloutStatus),
}

#[derive(Args)]
pub(crate) struct RolloutStatus {
    /// The group
    pub(crate) group: String,
    /// Wait until every satellite has it: with progress bars on a terminal, with a line for each step elsewhere. What failed at
    /// a satellite is tried again there, so that it is waited for, too: set a `--timeout`, or `--fail-fast`
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Give up waiting after this time (`90s`, `10m`); the exit code is 1 then
    #[arg(long, value_name = "TIME", requires = "watch", value_parser = seconds)]
    pub(crate) timeout: Option<u32>,
    /// Do not wait for what failed: the first failure ends it, and the exit code is 1
    #[arg(long, requires = "watch")]
    pub(crate) fail_fast: bool,
    /// Complete is what every satellite has that is heard of, and at least one is: sites that are away get it when they are back
    #[arg(long)]
    pub(crate) ignore_unreachable: bool,
    /// Complete is what every satellite has all of that the registry has: a rule may match nothing yet
    #[arg(long)]
    pub(crate) ignore_unresolved: bool,
    /// Name every satellite that has not all of it; the first hundred of each kind otherwise
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct Audit {
    /// Only what this one did: the name of a person, a satellite, a token
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Only this action: `group.synced`
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// Only what was done to this: `satellite/edge-01`
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only since then: a time ago (`12h`, `30d`) or a moment (`2030-01-31T00:00:00Z`)
    #[arg(long, value_name = "TIME", value_parser = |text: &str| past(text, Timestamp::now()))]
    pub(crate) since: Option<Timestamp>,
    /// Only until then: a time ago or a moment
    #[arg(long, value_name = "TIME", value_parser = |text: &str| past(text, Timestamp::now()))]
    pub(crate) until: Option<Timestamp>,
    /// How many rows, the newest first; 0: all of them
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Go on with rows as they come, the oldest first, until interrupted; none is missed. With `--output json` each is a line
    #[arg(long, short, conflicts_with = "until")]
    pub(crate) follow: bool,
}

/// Reads a moment, or a time ago.
fn past(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let time = match days {
        Some(days) => days.checked_mul(24).and_then(SignedDuration::try_from_hours),
        None => text.parse::<SignedDuration>().ok(),
    };
    let start = match time {
        Some(time) if !time.is_negative() => now.checked_sub(time).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    };
    start.ok_or_else(|| "write a time ago (`30d`, `12h`) or a moment (`2030-01-31T00:00:00Z`)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ago() {
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        let start = |text: &str| past(text, now).map(|start| start.to_string());
        assert_eq!(start("30d"), Ok("2026-01-01T00:00:00Z".into()));
        assert_eq!(start("90m"), Ok("2026-01-30T22:30:00Z".into()));
        assert_eq!(start("2026-01-01T00:00:00+01:00"), Ok("2025-12-31T23:00:00Z".into()));
        for bad in ["", "soon", "-5d", "-1h", "99999999999999d"] {
            assert!(past(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_examples_are_fleet_files() {
        let help: Vec<&str> = FILES.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let page = include_str!("../../../../docs/operations.md");
        let page = page.split_once("### A fleet in files").and_then(|(_, rest)| rest.split_once("```yaml\n"));
        let page = page.and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
        for text in [help.join("\n"), page.to_owned()] {
            let wanted = crate::fleet::read(&[("example".to_owned(), text.clone())]);
            let wanted = wanted.unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
            let wrong = crate::fleet::impossible(&crate::fleet::Current::default(), &wanted, false);
            assert!(wrong.is_empty() && wanted.satellites.is_some() && wanted.groups.is_some(), "{wrong:?}");
        }
    }
}
