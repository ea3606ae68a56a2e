//! What a Harbor has, by number: the difference between before and after is what a run left behind, or took away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Harbor;
use crate::Result;

/// Projects, robots of system level and webhook policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Names of projects.
    pub projects: BTreeMap<i64, String>,
    /// Names of robots.
    pub robots: BTreeMap<i64, String>,
    /// `project: policy`.
    pub policies: BTreeMap<i64, String>,
}

impl Inventory {
    /// Lists everything.
    pub async fn take(harbor: &Harbor) -> Result<Self> {
        let projects = by_number(&harbor.list("/projects").await?, "project_id", "name");
        let robots = by_number(&harbor.robots().await?, "id", "name");
        let mut policies = BTreeMap::new();
        for project in projects.values() {
            for (id, name) in by_number(&harbor.policies(project).await?, "id", "name") {
                policies.insert(id, format!("{project}: {name}"));
            }
        }
        Ok(Self { projects, robots, policies })
    }

    /// What is here and not there, in words.
    pub fn without(&self, there: &Self) -> Vec<String> {
        let missing = |kind: &str, here: &BTreeMap<i64, String>, there: &BTreeMap<i64, String>| {
            let gone = here.iter().filter(|(id, _)| !there.contains_key(id));
            gone.map(|(id, name)| format!("{kind} {id} ({name})")).collect::<Vec<_>>()
        };
        let mut all = missing("project", &self.projects, &there.projects);
        all.extend(missing("robot", &self.robots, &there.robots));
        all.extend(missing("webhook policy", &self.policies, &there.policies));
        all
    }
}

fn by_number(all: &[Value], number: &str, name: &str) -> BTreeMap<i64, String> {
    let text = |item: &Value| item[name].as_str().unwrap_or_default().to_owned();
    all.iter().filter_map(|item| Some((item[number].as_i64()?, text(item)))).collect()
}
