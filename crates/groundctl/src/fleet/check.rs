//! What cannot be, seen before anything is changed.

use std::collections::BTreeSet;

use super::{Current, DEFAULT_CONFIG, Kind, Wanted};
use fleet_protocol::{ConfigName, GroupName, SatelliteName};

/// Why what is wanted cannot be had of what there is: names of nothing, and what would be deleted while it is needed.
pub(crate) fn impossible(current: &Current, wanted: &Wanted, prune: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let gone = |kind| match prune {
        true => current.surplus(wanted, kind).into_iter().collect::<BTreeSet<&str>>(),
        false => BTreeSet::new(),
    };
    let (no_config, no_group, no_satellite) = (gone(Kind::Config), gone(Kind::Group), gone(Kind::Satellite));
    let config = |name: &str| {
        let said = wanted.configs.as_ref().is_some_and(|all| all.contains_key(name));
        (said || current.configs.contains_key(name)) && !no_config.contains(name)
    };
    let group = |name: &str| {
        let said = wanted.groups.as_ref().is_some_and(|all| all.contains_key(name));
        (said || current.groups.contains_key(name)) && !no_group.contains(name)
    };
    let satellite = |name: &str| {
        let said = wanted.satellites.as_ref().is_some_and(|all| all.contains_key(name));
        (said || current.satellites.contains_key(name)) && !no_satellite.contains(name)
    };
    for (name, entry) in wanted.satellites.iter().flatten() {
        if let Some(other) = entry.config.as_deref().filter(|other| !config(other)) {
            wrong.push(format!("satellites.{name}.config: there is no config {other}"));
        }
        for other in entry.groups.iter().flatten().filter(|other| !group(other)) {
            wrong.push(format!("satellites.{name}.groups: there is no group {other}"));
        }
        if !current.satellites.contains_key(name)
            && let Err(reason) = SatelliteName::new(name)
        {
            wrong.push(format!("satellites.{name}: {reason}"));
        }
    }
    for (name, entry) in wanted.groups.iter().flatten() {
        for other in entry.satellites.iter().flatten().filter(|other| !satellite(other)) {
            wrong.push(format!("groups.{name}.satellites: there is no satellite {other}"));
        }
        if !current.groups.contains_key(name)
            && let Err(reason) = GroupName::new(name)
        {
            wrong.push(format!("groups.{name}: {reason}"));
        }
    }
    for name in wanted.configs.iter().flatten().map(|(name, _)| name) {
        if !current.configs.contains_key(name)
            && let Err(reason) = ConfigName::new(name)
        {
            wrong.push(format!("configs.{name}: {reason}"));
        }
    }
    // Ground Control keeps a config that a satellite has; better to say so before half of it is done.
    for (name, there) in current.satellites.iter().filter(|(name, _)| !no_satellite.contains(name.as_str())) {
        let entry = wanted.satellites.as_ref().and_then(|all| all.get(name));
        let keeps = entry.and_then(|entry| entry.config.as_ref()).is_none();
        let has = there.config.as_deref().unwrap_or(DEFAULT_CONFIG);
        if keeps && no_config.contains(has) {
            wrong.push(format!("config {has} cannot be pruned: satellite {name} has it, and keeps it"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{CurrentSatellite, read};

    fn wanted(text: &str) -> Wanted {
        read(&[("f".to_owned(), text.to_owned())]).unwrap()
    }

    #[test]
    fn names_of_nothing() {
        let current = Current::default();
        let long = "a".repeat(64);
        for (text, words) in [
            ("satellites: {a: {config: c}}", "satellites.a.config: there is no config c"),
            ("satellites: {a: {groups: [g]}}", "satellites.a.groups: there is no group g"),
            ("groups: {g: {satellites: [a]}}", "groups.g.satellites: there is no satellite a"),
            (&format!("groups: {{{long}: {{}}}}"), "63"),
        ] {
            let wrong = impossible(&current, &wanted(text), true).join("\n");
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
        let whole = "configs: {c: {}}\ngroups: {g: {satellites: [a]}}\nsatellites: {a: {config: c}}";
        assert_eq!(impossible(&current, &wanted(whole), true), Vec::<String>::new());
    }

    #[test]
    fn what_is_needed_is_not_pruned() {
        let mut current = Current::default();
        current.configs.insert("slow".into(), serde_json::json!({}));
        let site = CurrentSatellite { config: Some("slow".into()), ..CurrentSatellite::default() };
        current.satellites.insert("a".into(), site);
        let wrong = impossible(&current, &wanted("configs: {}"), true);
        assert!(wrong.join("").contains("satellite a has it"), "{wrong:?}");
        assert!(impossible(&current, &wanted("configs: {}"), false).is_empty());
        let moved = "configs: {}\nsatellites: {a: {config: default}}";
        current.configs.insert(DEFAULT_CONFIG.into(), serde_json::json!({}));
        assert_eq!(impossible(&current, &wanted(moved), true), Vec::<String>::new());
    }
}
