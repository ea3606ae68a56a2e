//! Which changes lead from what there is to what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use ground_control_domain::label::{Labels, Selector};
use serde_json::{Map, Value};

use super::{Change, Current, Kind, Wanted, WantedSatellite, bare};

/// The changes, in an order in which each finds what it names: configs, groups, satellites; then what goes, the other way round.
///
/// Without `prune` nothing goes. With it goes what is of a kind that `wanted` has a section of, and not in it; never the config `default`.
pub(crate) fn plan(current: &Current, wanted: &Wanted, prune: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    configs(current, wanted, &mut changes);
    groups(current, wanted, &mut changes);
    Members::new(current, wanted, prune).changes(&mut changes);
    if prune {
        let surplus = |kind| current.surplus(wanted, kind).into_iter().map(str::to_owned);
        changes.extend(surplus(Kind::Satellite).map(|name| Change::DeleteSatellite { name }));
        changes.extend(surplus(Kind::Group).map(|name| Change::DeleteGroup { name }));
        changes.extend(surplus(Kind::Config).map(|name| Change::DeleteConfig { name }));
    }
    changes
}

fn configs(current: &Current, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (name, document) in wanted.configs.iter().flatten() {
        let name = name.clone();
        match current.configs.get(&name) {
            None => changes.push(Change::CreateConfig { name, document: document.clone() }),
            Some(before) if bare(before) != *document => changes.push(Change::PatchConfig {
                name,
                patch: merge_patch(before, document),
                before: bare(before),
                after: document.clone(),
            }),
            Some(_) => {}
        }
    }
}

/// The merge patch (RFC 7396) that makes `before` what `after` says, `null` and absence being the same.
fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for (key, value) in from {
        if !value.is_null() && !to.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in to {
        match from.get(key) {
            Some(same) if bare(same) == *value => {}
            Some(other) => {
                patch.insert(key.clone(), merge_patch(other, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

fn groups(current: &Current, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (name, group) in wanted.groups.iter().flatten() {
        let there = current.groups.get(name);
        let before = there.map(|there| there.artifacts.clone());
        let artifacts = match (&group.artifacts, &before) {
            (Some(artifacts), before) if before.as_ref() != Some(artifacts) => Some(artifacts.clone()),
            (None, None) => Some(Vec::new()),
            _ => None,
        };
        if let Some(artifacts) = artifacts {
            changes.push(Change::SyncGroup { name: name.clone(), before, artifacts });
        }
        let before = there.and_then(|there| there.selector.clone());
        if let Some(selector) = &group.selector
            && *selector != before
        {
            changes.push(Change::Select { group: name.clone(), before, selector: selector.clone() });
        }
    }
}

/// Satellites, and who is in which group.
///
/// Ground Control tells in which groups a satellite is, and not whether it is there by name, by its labels, or both. So what is held to is
/// whether it is in a group: by name where files say so, or because the group chooses it.
struct Members<'a> {
    current: &'a Current,
    wanted: &'a Wanted,
    /// Groups that will be no more.
    ending: BTreeSet<&'a str>,
    /// Satellites that will be no more.
    leaving: BTreeSet<&'a str>,
    /// Groups of satellites, as groups name them.
    listed: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Members<'a> {
    fn new(current: &'a Current, wanted: &'a Wanted, prune: bool) -> Self {
        let surplus = |kind| match prune {
            true => current.surplus(wanted, kind).into_iter().collect(),
            false => BTreeSet::new(),
        };
        let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (group, entry) in wanted.groups.iter().flatten() {
            for satellite in entry.satellites.iter().flatten() {
                listed.entry(satellite).or_default().insert(group);
            }
        }
        Self { current, wanted, ending: surplus(Kind::Group), leaving: surplus(Kind::Satellite), listed }
    }

    fn changes(&self, changes: &mut Vec<Change>) {
        let said = self.wanted.satellites.iter().flatten().map(|(name, _)| name.as_str());
        let names: BTreeSet<&str> = said.chain(self.current.satellites.keys().map(String::as_str)).collect();
        for name in names.into_iter().filter(|name| !self.leaving.contains(name)) {
            self.satellite(name, changes);
        }
    }

    fn satellite(&self, name: &str, changes: &mut Vec<Change>) {
        let unsaid = WantedSatellite::default();
        let entry = self.wanted.satellites.as_ref().and_then(|all| all.get(name)).unwrap_or(&unsaid);
        let there = self.current.satellites.get(name);
        let before = there.map(|there| there.labels.clone()).unwrap_or_default();
        let labels = entry.labels.as_ref().unwrap_or(&before);
        let own = |text: &str| text.to_owned();
        let Some(there) = there else {
            let none = BTreeSet::new();
            let groups = self.candidates(name, &none).into_iter();
            let groups = groups.filter(|group| self.by_name(name, group) == Some(true)).map(own).collect();
            changes.push(Change::CreateSatellite { name: own(name), groups, config: entry.config.clone() });
            if !labels.is_empty() {
                changes.push(Change::Label {
                    satellite: own(name),
                    before: Labels::new(),
                    after: labels.clone(),
                });
            }
            return;
        };
        if *labels != before {
            changes.push(Change::Label {
                satellite: own(name),
                before: before.clone(),
                after: labels.clone(),
            });
        }
        if let Some(config) = entry.config.as_ref().filter(|config| Some(*config) != there.config.as_ref()) {
            let before = there.config.clone();
            changes.push(Change::AssignConfig { satellite: own(name), before, config: config.clone() });
        }
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for group in self.candidates(name, &there.groups) {
            let member = there.groups.contains(group);
            let chosen = self.will_choose(group, labels);
            // In it for its labels only, as far as can be told, and not any more: it has to be named.
            let falls_out = member && self.current.chooses(group, &before) && !chosen;
            match self.by_name(name, group) {
                Some(true) if !member || falls_out => {
                    joins.push(Change::Join { satellite: own(name), group: own(group) });
                }
                Some(false) if member && !chosen => {
                    leaves.push(Change::Leave { satellite: own(name), group: own(group) });
                }
                _ => {}
            }
        }
        changes.extend(joins);
        changes.extend(leaves);
    }

    /// The groups that have, or shall have, to do with a satellite.
    fn candidates<'b>(&'b self, name: &str, there: &'b BTreeSet<String>) -> BTreeSet<&'b str> {
        let entry = self.wanted.satellites.as_ref().and_then(|all| all.get(name));
        let said = entry.and_then(|entry| entry.groups.as_ref()).into_iter().flatten();
        let listed = self.listed.get(name).into_iter().flatten().copied();
        let all = there.iter().chain(said).map(String::as_str).chain(listed);
        all.filter(|group| !self.ending.contains(group)).collect()
    }

    /// Whether files say that a satellite is in a group by name; `None` where they say nothing.
    fn by_name(&self, satellite: &str, group: &str) -> Option<bool> {
        let entry = self.wanted.satellites.as_ref().and_then(|all| all.get(satellite));
        if let Some(groups) = entry.and_then(|entry| entry.groups.as_ref()) {
            return Some(groups.contains(group));
        }
        let entry = self.wanted.groups.as_ref().and_then(|all| all.get(group));
        entry.and_then(|entry| entry.satellites.as_ref()).map(|satellites| satellites.contains(satellite))
    }

    /// Whether a group will choose a satellite with these labels.
    fn will_choose(&self, group: &str, labels: &Labels) -> bool {
        let entry = self.wanted.groups.as_ref().and_then(|all| all.get(group));
        match entry.and_then(|entry| entry.selector.as_ref()) {
            Some(selector) => selector.as_ref().is_some_and(|selector: &Selector| selector.matches(labels)),
            None => self.current.chooses(group, labels),
        }
    }
}

#[cfg(test)]
mod tests;
