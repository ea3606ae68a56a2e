//! A fleet as files declare it: what they want, what there is, and the changes that lead from one to the other.
//!
//! Everything here is pure; `commands::fleet` reads the files, asks Ground Control, and carries the changes out.
//!
//! What a file does not say is left as it is: a kind whose section is absent, a field that an entry does not have. So a file may hold
//! a part of a fleet, and only what is said to be otherwise is changed. Nothing is deleted unless that was asked for.

mod change;
mod check;
mod declared;
mod export;
mod file;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fleet_protocol::Artifact;
use ground_control_domain::label::{Labels, Selector};
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use change::{Action, Change, Sign, Summary, Touched};
pub(crate) use check::impossible;
pub(crate) use declared::read;
pub(crate) use export::export;
pub(crate) use plan::plan;

/// The config that Ground Control makes at its first start and never deletes.
pub(crate) const DEFAULT_CONFIG: &str = ground_control_domain::config::DEFAULT_CONFIG;

/// What a fleet file has sections of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A config.
    Config,
    /// A group.
    Group,
    /// A satellite.
    Satellite,
}

impl Kind {
    /// The name of its section.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Group => "groups",
            Self::Satellite => "satellites",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::Group => "group",
            Self::Satellite => "satellite",
        })
    }
}

/// What files say. A section that none of them has is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    /// Documents of configs, as [`bare`] leaves them.
    pub(crate) configs: Option<BTreeMap<String, Value>>,
    /// Groups.
    pub(crate) groups: Option<BTreeMap<String, WantedGroup>>,
    /// Satellites.
    pub(crate) satellites: Option<BTreeMap<String, WantedSatellite>>,
}

/// What files say of a group; `None` is not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WantedGroup {
    /// Its list, in its order.
    pub(crate) artifacts: Option<Vec<Artifact>>,
    /// Its selector, or that it has none.
    pub(crate) selector: Option<Option<Selector>>,
    /// The satellites that are in it by name, and no others.
    pub(crate) satellites: Option<BTreeSet<String>>,
}

/// What files say of a satellite; `None` is not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WantedSatellite {
    /// Its labels, and no others.
    pub(crate) labels: Option<Labels>,
    /// Its config.
    pub(crate) config: Option<String>,
    /// The groups that it is in by name, and no others.
    pub(crate) groups: Option<BTreeSet<String>>,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Current {
    /// Documents of configs, as they are.
    pub(crate) configs: BTreeMap<String, Value>,
    /// Groups.
    pub(crate) groups: BTreeMap<String, CurrentGroup>,
    /// Satellites.
    pub(crate) satellites: BTreeMap<String, CurrentSatellite>,
}

/// A group that there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CurrentGroup {
    /// Its list.
    pub(crate) artifacts: Vec<Artifact>,
    /// Its selector.
    pub(crate) selector: Option<Selector>,
}

/// A satellite that there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CurrentSatellite {
    /// Its labels.
    pub(crate) labels: Labels,
    /// Its config.
    pub(crate) config: Option<String>,
    /// The groups that it is in, by name or because they chose it. Ground Control does not tell which.
    pub(crate) groups: BTreeSet<String>,
}

impl Current {
    /// Whether a group chooses a satellite by its labels.
    fn chooses(&self, group: &str, labels: &Labels) -> bool {
        let selector = self.groups.get(group).and_then(|group| group.selector.as_ref());
        selector.is_some_and(|selector| selector.matches(labels))
    }

    /// What has one of these sections in a file and is not in it: what is deleted where that is asked for.
    fn surplus<'a>(&'a self, wanted: &'a Wanted, kind: Kind) -> Vec<&'a str> {
        fn beside<'a, T, U>(
            there: &'a BTreeMap<String, T>,
            said: Option<&BTreeMap<String, U>>,
        ) -> Vec<&'a str> {
            let Some(said) = said else { return Vec::new() };
            there.keys().filter(|name| !said.contains_key(*name)).map(String::as_str).collect()
        }
        match kind {
            Kind::Config => {
                let mut names = beside(&self.configs, wanted.configs.as_ref());
                names.retain(|name| *name != DEFAULT_CONFIG);
                names
            }
            Kind::Group => beside(&self.groups, wanted.groups.as_ref()),
            Kind::Satellite => beside(&self.satellites, wanted.satellites.as_ref()),
        }
    }
}

/// A document without members that are `null`: they say nothing, and a merge patch (RFC 7396) can set none.
pub(crate) fn bare(document: &Value) -> Value {
    match document {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), bare(value)))
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}
