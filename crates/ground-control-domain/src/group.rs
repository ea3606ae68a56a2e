//! Groups: named lists of artifacts that satellites are given.

use jiff::Timestamp;

use crate::GroupId;

pub use fleet_protocol::Artifact;

/// A group and its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its identifier.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Its artifacts, in the order given.
    pub artifacts: Vec<Artifact>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its list last changed.
    pub updated_at: Timestamp,
}

impl Group {
    /// The projects (first path segments) of its repositories, sorted, each once.
    pub fn projects(&self) -> Vec<String> {
        let mut projects: Vec<String> = self
            .artifacts
            .iter()
            .filter_map(|a| a.repository.as_str().split_once('/').map(|(project, _)| project.to_owned()))
            .collect();
        projects.sort();
        projects.dedup();
        projects
    }
}

/// The most artifacts that one group may list.
pub const MAX_ARTIFACTS: usize = 10_000;
