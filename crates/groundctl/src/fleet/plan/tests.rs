//! A fleet in memory that does what Ground Control does, and properties of plans over it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::fleet::{
    Action, CurrentGroup, CurrentSatellite, DEFAULT_CONFIG, WantedGroup, export, impossible, read,
};

/// What Ground Control keeps: who is in a group by name, and who because the group chooses it.
#[derive(Debug, Clone, Default)]
struct Fleet {
    configs: BTreeMap<String, Value>,
    groups: BTreeMap<String, CurrentGroup>,
    satellites: BTreeMap<String, Site>,
}

#[derive(Debug, Clone, Default)]
struct Site {
    labels: Labels,
    config: String,
    named: BTreeSet<String>,
}

impl Fleet {
    fn chosen(&self, labels: &Labels) -> BTreeSet<String> {
        let chosen = self
            .groups
            .iter()
            .filter(|(_, group)| group.selector.as_ref().is_some_and(|s| s.matches(labels)));
        chosen.map(|(name, _)| name.clone()).collect()
    }

    fn seen(&self) -> Current {
        let satellites = self.satellites.iter().map(|(name, site)| {
            let groups = site.named.union(&self.chosen(&site.labels)).cloned().collect();
            let (labels, config) = (site.labels.clone(), Some(site.config.clone()));
            (name.clone(), CurrentSatellite { labels, config, groups })
        });
        Current {
            configs: self.configs.clone(),
            groups: self.groups.clone(),
            satellites: satellites.collect(),
        }
    }

    /// Does one change as Ground Control does, refusing what it refuses.
    fn apply(&mut self, change: &Change) -> Result<(), String> {
        let missing = |what: &str| format!("there is no {what}");
        match change.clone() {
            Change::CreateConfig { name, document } => {
                if self.configs.insert(name.clone(), document).is_some() {
                    return Err(format!("config {name} exists"));
                }
            }
            Change::PatchConfig { name, patch, .. } => {
                let document = self.configs.get_mut(&name).ok_or_else(|| missing(&name))?;
                *document = ground_control_domain::config::merge_patch(document.clone(), &patch);
            }
            Change::SyncGroup { name, artifacts, .. } => {
                self.groups.entry(name).or_default().artifacts = artifacts
            }
            Change::Select { group, selector, .. } => {
                self.groups.get_mut(&group).ok_or_else(|| missing(&group))?.selector = selector;
            }
            Change::CreateSatellite { name, groups, config } => {
                let config = config.unwrap_or_else(|| DEFAULT_CONFIG.to_owned());
                if !self.configs.contains_key(&config)
                    || groups.iter().any(|group| !self.groups.contains_key(group))
                {
                    return Err(missing("config or group of a new satellite"));
                }
                let site = Site { config, named: groups.into_iter().collect(), ..Site::default() };
                if self.satellites.insert(name.clone(), site).is_some() {
                    return Err(format!("satellite {name} exists"));
                }
            }
            Change::Label { satellite, after, .. } => {
                self.satellites.get_mut(&satellite).ok_or_else(|| missing(&satellite))?.labels = after;
            }
            Change::AssignConfig { satellite, config, .. } => {
                if !self.configs.contains_key(&config) {
                    return Err(missing(&config));
                }
                self.satellites.get_mut(&satellite).ok_or_else(|| missing(&satellite))?.config = config;
            }
            Change::Join { satellite, group } => {
                if !self.groups.contains_key(&group) {
                    return Err(missing(&group));
                }
                self.satellites.get_mut(&satellite).ok_or_else(|| missing(&satellite))?.named.insert(group);
            }
            Change::Leave { satellite, group } => {
                let site = self.satellites.get(&satellite).ok_or_else(|| missing(&satellite))?;
                if self.chosen(&site.labels).contains(&group) {
                    return Err(format!("group {group} chooses satellite {satellite}"));
                }
                self.satellites.get_mut(&satellite).ok_or_else(|| missing(&satellite))?.named.remove(&group);
            }
            Change::DeleteSatellite { name } => {
                self.satellites.remove(&name).ok_or_else(|| missing(&name))?;
            }
            Change::DeleteGroup { name } => {
                self.groups.remove(&name).ok_or_else(|| missing(&name))?;
                self.satellites.values_mut().for_each(|site| {
                    site.named.remove(&name);
                });
            }
            Change::DeleteConfig { name } => {
                if name == DEFAULT_CONFIG || self.satellites.values().any(|site| site.config == name) {
                    return Err(format!("config {name} is needed"));
                }
                self.configs.remove(&name).ok_or_else(|| missing(&name))?;
            }
        }
        Ok(())
    }
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn config() -> impl Strategy<Value = String> {
    select(vec![DEFAULT_CONFIG, "slow"]).prop_map(str::to_owned)
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        select(vec![0.5, 1.0, -2.25]).prop_map(Value::from),
        select(vec!["", "1.10", "yes", "null", "a: b", "# x", "línea\n  two ", "~", "0x1f", "- x"])
            .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(select(vec!["a", "b", "on", "1"]).prop_map(str::to_owned), inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    btree_map(select(vec!["x", "y", "z"]).prop_map(str::to_owned), value, 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn artifacts() -> impl Strategy<Value = Vec<fleet_protocol::Artifact>> {
    let artifact = select(vec![
        json!({"repository": "library/nginx", "tag": ["1.10", "latest"]}),
        json!({"repository": "library/nginx", "tag": "1.9", "digest": oci::Digest::sha256(b"x").to_string()}),
        json!({"repository": "shop/app", "match": {"semver": "^1.2"}, "keep": 2, "platforms": ["linux/arm/v7"]}),
        json!({"repository": "shop/app", "match": {"glob": "*-rc"}}),
        json!({"repository": "a/b", "tag": "t", "type": "chart", "labels": ["x", {"name": "y"}], "deleted": true}),
    ]);
    vec(artifact.prop_map(|value| serde_json::from_value(value).unwrap()), 0..4)
}

fn labels() -> impl Strategy<Value = Labels> {
    let key = select(vec!["env", "example.com/tier"]).prop_map(str::to_owned);
    btree_map(key, select(vec!["prod", "1.0", "no", ""]).prop_map(str::to_owned), 0..3)
}

fn selector() -> impl Strategy<Value = Option<Selector>> {
    option::of(
        select(vec!["env", "env=prod", "env in (prod,no),!gone", "example.com/tier"])
            .prop_map(|t| t.parse().unwrap()),
    )
}

prop_compose! {
    fn fleet()(
        default in document(), slow in option::of(document()),
        groups in btree_map(name(), (artifacts(), selector()), 0..3),
        sites in btree_map(name(), (labels(), config(), btree_set(name(), 0..3)), 0..4),
    ) -> Fleet {
        let mut configs = BTreeMap::from([(DEFAULT_CONFIG.to_owned(), default)]);
        configs.extend(slow.map(|slow| ("slow".to_owned(), slow)));
        let groups: BTreeMap<_, _> = groups.into_iter()
            .map(|(name, (artifacts, selector))| (name, CurrentGroup { artifacts, selector })).collect();
        let satellites = sites.into_iter().map(|(name, (labels, config, named))| {
            let config = if configs.contains_key(&config) { config } else { DEFAULT_CONFIG.to_owned() };
            let named = named.into_iter().filter(|group| groups.contains_key(group)).collect();
            (name, Site { labels, config, named })
        }).collect();
        Fleet { configs, groups, satellites }
    }
}

prop_compose! {
    fn wanted()(
        configs in option::of(btree_map(config(), document().prop_map(|d| bare(&d)), 0..3)),
        groups in option::of(btree_map(
            name(), (option::of(artifacts()), option::of(selector()), option::weighted(0.2, btree_set(name(), 0..3))), 0..3)),
        satellites in option::of(btree_map(
            name(), (option::of(labels()), option::of(config()), option::of(btree_set(name(), 0..3))), 0..4)),
    ) -> Wanted {
        let groups: Option<BTreeMap<_, _>> = groups.map(|all| all.into_iter()
            .map(|(name, (artifacts, selector, satellites))| (name, WantedGroup { artifacts, selector, satellites })).collect());
        let satellites = satellites.map(|all| all.into_iter().map(|(name, (labels, config, named))| {
            // Both sides say the same, as the reader demands.
            let named: Option<BTreeSet<String>> = named.map(|mut named: BTreeSet<String>| {
                for (group, entry) in groups.iter().flatten() {
                    match entry.satellites.as_ref().map(|all| all.contains(&name)) {
                        Some(true) => drop(named.insert(group.clone())),
                        Some(false) => drop(named.remove(group)),
                        None => {}
                    }
                }
                named
            });
            (name, WantedSatellite { labels, config, groups: named })
        }).collect());
        Wanted { configs, groups, satellites }
    }
}

/// Holds a fleet to what was said of it.
fn meets(fleet: &Fleet, wanted: &Wanted) {
    let seen = fleet.seen();
    for (name, document) in wanted.configs.iter().flatten() {
        assert_eq!(bare(&seen.configs[name]), *document);
    }
    for (name, entry) in wanted.groups.iter().flatten() {
        let group = &seen.groups[name];
        assert!(entry.artifacts.as_ref().is_none_or(|all| *all == group.artifacts));
        assert!(entry.selector.as_ref().is_none_or(|selector| *selector == group.selector));
        for (satellite, site) in seen.satellites.iter().filter(|_| entry.satellites.is_some()) {
            let named = entry.satellites.as_ref().is_some_and(|all| all.contains(satellite));
            assert_eq!(
                site.groups.contains(name),
                named || seen.chooses(name, &site.labels),
                "{satellite} {name}"
            );
        }
    }
    for (name, entry) in wanted.satellites.iter().flatten() {
        let site = &seen.satellites[name];
        assert!(entry.labels.as_ref().is_none_or(|labels| *labels == site.labels));
        assert!(entry.config.is_none() || entry.config == site.config);
        for group in seen.groups.keys().filter(|_| entry.groups.is_some()) {
            let named = entry.groups.as_ref().is_some_and(|all| all.contains(group));
            assert_eq!(
                site.groups.contains(group),
                named || seen.chooses(group, &site.labels),
                "{name} {group}"
            );
        }
    }
}

proptest! {
    #[test]
    fn applying_a_plan_gives_what_is_wanted_and_then_there_is_no_change(
        mut fleet in fleet(), wanted in wanted(), prune in any::<bool>()
    ) {
        let current = fleet.seen();
        prop_assume!(impossible(&current, &wanted, prune).is_empty());
        for change in plan(&current, &wanted, prune) {
            prop_assert_eq!(fleet.apply(&change), Ok(()), "{:?}", change);
        }
        meets(&fleet, &wanted);
        prop_assert_eq!(plan(&fleet.seen(), &wanted, prune), vec![]);
    }

    #[test]
    fn nothing_is_deleted_unless_that_is_asked_for(fleet in fleet(), wanted in wanted()) {
        for change in plan(&fleet.seen(), &wanted, false) {
            prop_assert!(change.action() != Action::Delete, "{:?}", change);
        }
        for change in plan(&fleet.seen(), &wanted, true) {
            let named = match change.subject().0 {
                Kind::Config => wanted.configs.is_some(),
                Kind::Group => wanted.groups.is_some(),
                Kind::Satellite => wanted.satellites.is_some(),
            };
            prop_assert!(change.action() != Action::Delete || named, "{:?}", change);
        }
    }

    #[test]
    fn an_export_changes_nothing(fleet in fleet()) {
        let mut current = fleet.seen();
        // What a real one refuses stands in no real one either.
        current.configs.values_mut().for_each(|document| *document = json!({"unknown": document}));
        let text = export(&current, &[Kind::Config, Kind::Group, Kind::Satellite]).unwrap();
        let wanted = read(&[("export".to_owned(), text.clone())]);
        prop_assert!(wanted.is_ok(), "{:?}\n{}", wanted, text);
        prop_assert_eq!(plan(&current, &wanted.unwrap(), true), vec![], "{}", text);
        prop_assert_eq!(export(&current, &[Kind::Config, Kind::Group, Kind::Satellite]).unwrap(), text);
    }

    #[test]
    fn a_merge_patch_leads_from_one_document_to_the_other(before in document(), after in document()) {
        let after = bare(&after);
        let made = ground_control_domain::config::merge_patch(before.clone(), &merge_patch(&before, &after));
        prop_assert_eq!(bare(&made), after);
    }
}
