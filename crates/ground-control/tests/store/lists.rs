//! Pages of lists: together they are the list, whatever chooses it and however long it is.

use std::collections::BTreeSet;

use ground_control::domain::heartbeat::{CachedImage, HeartbeatRecord, Report};
use ground_control::domain::label::{Labels, Selector};
use ground_control::domain::rollout::Progress;
use ground_control::domain::satellite::{Satellite, SatelliteFilter, SatelliteState};
use ground_control::store::SharedStore;
use oci::Digest;
use rand::RngExt as _;
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, new_satellite, page, published};

const SELECTORS: [&str; 12] = [
    "env=prod",
    "env=test",
    "env!=prod",
    "env",
    "!env",
    "tier in (front,back)",
    "tier notin (front)",
    "env=prod,tier=front",
    "env,!tier",
    "env!=prod,tier!=back",
    "tier,env notin (test)",
    "env=none",
];

/// A fleet whose names stand in another order than their identifiers, and which of it drift.
async fn fleet(store: &SharedStore) -> (Vec<Satellite>, BTreeSet<String>) {
    let digest = Digest::sha256(b"a").to_string();
    for group in ["east", "west"] {
        let list = json!([{"repository": "library/a", "tag": "1", "digest": digest}]);
        store.sync_group(group, artifacts(list), "ann", at(1)).await.unwrap();
    }
    let mut made = Vec::new();
    for n in 0..61_usize {
        let groups: &[&str] = match n % 5 {
            0 | 1 => &["east"],
            2 => &["east", "west"],
            _ => &[],
        };
        let mut new = new_satellite(&format!("edge-{:02}", n * 37 % 61), groups);
        new.region = ["eu", "us", "asia"][n % 3].into();
        made.push((store.create_satellite(new, at(2)).await.unwrap(), groups));
    }
    while !published(store, at(100_000)).await.is_empty() {}
    while store.look_at_members().await.unwrap() {}
    let (mut drifting, mut gone) = (BTreeSet::new(), Vec::new());
    for (n, (satellite, groups)) in made.iter().enumerate() {
        let mut labels = Labels::new();
        if n % 4 != 0 {
            labels.insert("env".into(), if n % 9 == 1 { "test" } else { "prod" }.into());
        }
        if n % 7 != 0 {
            labels.insert("tier".into(), ["front", "middle", "back"][n % 3].into());
        }
        store.patch_labels(&satellite.name, &json!(labels), at(3)).await.unwrap();
        let holds = n % 11 < 6;
        if n % 11 < 8 {
            let reference = format!("h/library/a:1@{digest}");
            let images = if holds { vec![CachedImage { reference, size_bytes: 1 }] } else { Vec::new() };
            let report = Report { cached_images: images, ..Report::default() };
            let record = HeartbeatRecord { satellite: satellite.id.clone(), received_at: at(10), report };
            store.record_heartbeats(&[record]).await.unwrap();
        }
        if holds == groups.is_empty() {
            drifting.insert(satellite.name.clone());
        }
        match n % 13 {
            3 => store.revoke_satellite(&satellite.name, at(11)).await.map(drop).unwrap(),
            5 => {
                store.delete_satellite(&satellite.name, at(11)).await.unwrap();
                gone.push(satellite.name.clone());
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    for (satellite, _) in &made {
        if !gone.contains(&satellite.name) {
            all.push(store.satellite(&satellite.name).await.unwrap());
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    drifting.retain(|name| !gone.contains(name));
    (all, drifting)
}

/// One of these, or none.
fn any<T: Clone>(of: &[T]) -> Option<T> {
    of.get(rand::rng().random_range(0..of.len() * 2)).cloned()
}

/// All pages of a list.
async fn pages(store: &SharedStore, filter: &SatelliteFilter, size: u32) -> (Vec<Satellite>, BTreeSet<u64>) {
    let (mut found, mut totals) = (Vec::new(), BTreeSet::new());
    for number in 1.. {
        let part = store.satellites(filter.clone(), page(number, size)).await.unwrap();
        totals.insert(part.total);
        if part.items.is_empty() {
            break;
        }
        found.extend(part.items);
    }
    (found, totals)
}

pub(crate) async fn pages_together_are_the_list(fixture: Fixture) {
    let store = fixture.ready().await;
    let (all, drifting) = fleet(&store).await;
    let mut filters = vec![SatelliteFilter::default()];
    filters.extend([true, false].map(|drift| SatelliteFilter { drift: Some(drift), ..Default::default() }));
    filters.extend(
        SELECTORS.map(|text| SatelliteFilter { selector: Some(text.parse().unwrap()), ..Default::default() }),
    );
    for _ in 0..80 {
        filters.push(SatelliteFilter {
            state: any(&[SatelliteState::Online, SatelliteState::Pending, SatelliteState::Revoked]),
            group: any(&["east", "west", "nowhere"]).map(Into::into),
            region: any(&["eu", "us", "nowhere"]).map(Into::into),
            selector: any(&SELECTORS).map(|text| text.parse::<Selector>().unwrap()),
            drift: any(&[true, false]),
        });
    }
    for filter in filters {
        let expected: Vec<&Satellite> = all
            .iter()
            .filter(|s| filter.state.is_none_or(|state| s.state == state))
            .filter(|s| filter.group.as_ref().is_none_or(|group| s.groups.contains(group)))
            .filter(|s| filter.region.as_ref().is_none_or(|region| &s.region == region))
            .filter(|s| filter.selector.as_ref().is_none_or(|selector| selector.matches(&s.labels)))
            .filter(|s| filter.drift.is_none_or(|drift| drifting.contains(&s.name) == drift))
            .collect();
        let size = rand::rng().random_range(1..15);
        let (found, totals) = pages(&store, &filter, size).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?} by {size}");
        assert_eq!(totals, BTreeSet::from([expected.len() as u64]), "{filter:?}");
    }
}

pub(crate) async fn pages_of_a_rollout_are_the_members(fixture: Fixture) {
    let store = fixture.ready().await;
    let (all, _) = fleet(&store).await;
    let expected: Vec<&str> = all
        .iter()
        .filter(|satellite| satellite.groups.contains(&"east".to_owned()))
        .map(|satellite| satellite.name.as_str())
        .collect();
    let everyone = store.rollout("east", None, page(1, 100)).await.unwrap().members.items;
    let names: Vec<&str> = everyone.iter().map(|member| member.satellite.as_str()).collect();
    assert_eq!(names, expected);
    for progress in [None].into_iter().chain(Progress::ALL.map(Some)) {
        let chosen: Vec<_> =
            everyone.iter().filter(|m| progress.is_none_or(|progress| m.progress == progress)).collect();
        for size in [1, 4, 100] {
            let mut found = Vec::new();
            for number in 1.. {
                let part = store.rollout("east", progress, page(number, size)).await.unwrap();
                let mut totals = part.totals;
                assert_eq!(part.members.total, chosen.len() as u64, "{progress:?}");
                assert_eq!(totals.wanted(), expected.len() as u64);
                if let Some(progress) = progress {
                    assert_eq!(*totals.of(progress), chosen.len() as u64);
                }
                if part.members.items.is_empty() {
                    break;
                }
                found.extend(part.members.items);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), chosen, "{progress:?} by {size}");
        }
    }
}

/// An older program writes rows without the name that lists are ordered by.
pub(crate) async fn what_an_older_program_wrote_is_listed(fixture: Fixture) {
    let store = fixture.ready().await;
    let (all, drifting) = fleet(&store).await;
    for statement in [
        "UPDATE group_members SET satellite = ''",
        "UPDATE satellite_labels SET satellite = ''",
        "UPDATE satellite_drift SET satellite = ''",
    ] {
        fixture.execute(statement).await;
    }
    store.ask_for_unnumbered(at(20)).await.unwrap();
    let (found, _) = pages(&store, &SatelliteFilter { drift: Some(true), ..Default::default() }, 7).await;
    assert_eq!(found.into_iter().map(|s| s.name).collect::<BTreeSet<_>>(), drifting);
    let filter = SatelliteFilter {
        group: Some("east".into()),
        selector: Some("env=prod".parse().unwrap()),
        ..Default::default()
    };
    let expected: Vec<_> = all
        .into_iter()
        .filter(|s| s.groups.contains(&"east".to_owned()) && s.labels.get("env").is_some_and(|v| v == "prod"))
        .collect();
    assert_eq!(pages(&store, &filter, 3).await.0, expected);
}
