//! Labels, and lists filtered by them.

use ground_control::domain::StoreError;
use ground_control::domain::label::{Labels, Selector};
use ground_control::domain::satellite::{SatelliteFilter, SatelliteState};
use serde_json::json;

use crate::fixture::{Fixture, at, group, new_satellite, page, published, satellite};

pub(crate) async fn labels_are_set_and_go_with_their_satellite(fixture: Fixture) {
    let store = fixture.ready().await;
    satellite(&store, "edge-01", &[]).await;
    satellite(&store, "edge-02", &[]).await;
    published(&store, at(2)).await;
    let patch = json!({"env": "prod", "example.com/rack": "7"});
    let labelled = store.patch_labels("edge-01", &patch, at(3)).await.unwrap();
    assert_eq!((json!(labelled.labels), labelled.updated_at), (patch.clone(), at(3)));
    assert_eq!(store.satellite("edge-01").await.unwrap(), labelled);
    assert!(store.satellite("edge-02").await.unwrap().labels.is_empty());
    // The same again is no change, and no label is part of a document.
    assert_eq!(store.patch_labels("edge-01", &patch, at(4)).await.unwrap().updated_at, at(3));
    assert!(published(&store, at(5)).await.is_empty());
    let patched = store.patch_labels("edge-01", &json!({"env": null, "rack": ""}), at(6)).await.unwrap();
    assert_eq!(json!(patched.labels), json!({"example.com/rack": "7", "rack": ""}));
    for bad in [json!([]), json!({"a": 1}), json!({"a b": ""}), json!({"nul\0": "x"}), json!({"a": "\0"})] {
        let refused = store.patch_labels("edge-01", &bad, at(7)).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{bad}: {refused:?}");
    }
    let many: serde_json::Map<_, _> = (0..63).map(|n| (format!("k{n}"), json!("v"))).collect();
    let refused = store.patch_labels("edge-01", &json!(many), at(7)).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    assert_eq!(store.satellite("edge-01").await.unwrap(), patched);

    // Two at once: both are there.
    let other = fixture.open().await;
    let (one, two) = (json!({"one": "1"}), json!({"two": "2"}));
    let (a, b) =
        tokio::join!(store.patch_labels("edge-02", &one, at(8)), other.patch_labels("edge-02", &two, at(8)));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    assert_eq!(store.satellite("edge-02").await.unwrap().labels.len(), 2);

    store.delete_satellite("edge-01", at(9)).await.unwrap();
    let gone = store.patch_labels("edge-01", &patch, at(10)).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    let mut again = new_satellite("edge-01", &[]);
    again.token = crate::fixture::hashed("another token");
    assert!(store.create_satellite(again, at(11)).await.unwrap().labels.is_empty());
}

pub(crate) async fn the_database_chooses_what_the_selector_matches(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "library/nginx").await;
    let values = ["", "prod", "Prod", "test"];
    for n in 0..32_usize {
        let name = format!("edge-{n:02}");
        let mut new = new_satellite(&name, if n % 3 == 0 { &["east"] } else { &[] });
        new.region = if n % 2 == 0 { "eu" } else { "us" }.into();
        store.create_satellite(new, at(1)).await.unwrap();
        let mut labels = Labels::new();
        if n % 5 != 0 {
            labels.insert("env".into(), values[n % 4].into());
        }
        if n % 4 != 0 {
            labels.insert("a_b".into(), values[n / 4 % 4].into());
        }
        store.patch_labels(&name, &json!(labels), at(2)).await.unwrap();
    }
    store.delete_satellite("edge-31", at(3)).await.unwrap();
    let everyone = store.satellites(SatelliteFilter::default(), page(1, 100)).await.unwrap();
    assert_eq!(everyone.total, 31);
    for text in [
        "",
        "env",
        "!env",
        "env=prod",
        "env!=prod",
        "env=",
        "env in (prod,test)",
        "env notin (prod,test)",
        "a_b",
        "axb",
        "env,a_b",
        "env,!a_b",
        "!env,!a_b",
        "env=prod,a_b!=prod",
        "env in (prod,Prod,test),a_b notin (test),env!=Prod",
        "env=prod,env=test",
        "none=x",
        "none!=x",
    ] {
        let selector: Selector = text.parse().unwrap();
        for (region, group, state) in [
            (None, None, None),
            (Some("eu"), None, None),
            (Some("us"), Some("east"), Some(SatelliteState::Pending)),
        ] {
            let expected: Vec<&str> = everyone
                .items
                .iter()
                .filter(|s| selector.matches(&s.labels) && region.is_none_or(|region| s.region == region))
                .filter(|s| group.is_none_or(|group: &str| s.groups.iter().any(|name| name == group)))
                .map(|s| s.name.as_str())
                .collect();
            let filter = SatelliteFilter {
                state,
                group: group.map(Into::into),
                region: region.map(Into::into),
                selector: Some(selector.clone()),
                drift: None,
            };
            // Page by page: each tells the length of the whole.
            let mut found = Vec::new();
            for number in 1..=4 {
                let part = store.satellites(filter.clone(), page(number, 10)).await.unwrap();
                assert_eq!(part.total, expected.len() as u64, "{text}");
                found.extend(part.items);
            }
            // The first entry of a long list is looked for in another way.
            let first = store.satellites(filter, page(1, 1)).await.unwrap().items;
            assert_eq!(first.first().map(|s| s.name.as_str()), expected.first().copied(), "{text}");
            let names: Vec<&str> = found.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names, expected, "{text} {region:?} {group:?}");
            for satellite in &found {
                assert!(everyone.items.contains(satellite), "{satellite:?}");
            }
        }
    }
    // Texts that mean something to SQL mean nothing here.
    for text in ["'; DROP TABLE satellites; --", "%", "eu' OR '1'='1"] {
        let filter = SatelliteFilter { region: Some(text.into()), ..SatelliteFilter::default() };
        assert_eq!(store.satellites(filter, page(1, 10)).await.unwrap().total, 0, "{text}");
    }
}

pub(crate) async fn groups_follow_labels_and_selectors(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "library/nginx").await;
    let one = satellite(&store, "edge-01", &[]).await;
    satellite(&store, "edge-02", &[]).await;
    satellite(&store, "named", &["east"]).await;
    let label = async |name: &str, value: Option<&str>, now: i64| {
        store.patch_labels(name, &json!({"env": value}), at(now)).await.unwrap().groups
    };
    let select = async |selector: Option<&str>, now: i64| {
        store.set_selector("east", selector.map(|text| text.parse().unwrap()), at(now)).await
    };
    label("edge-01", Some("prod"), 2).await;
    label("named", Some("prod"), 2).await;
    published(&store, at(3)).await;

    // The selector takes in whom it chooses; who is in already is told nothing new.
    let group = select(Some("env=prod"), 4).await.unwrap();
    assert_eq!(store.group("east").await.unwrap(), group);
    assert_eq!(group.updated_at, at(1));
    assert_eq!(published(&store, at(5)).await, ["satellite/edge-01"]);
    assert!(store.pullable(&one.id).await.unwrap().contains(&"library/nginx".to_owned()));
    select(Some("env==prod"), 6).await.unwrap();
    assert!(published(&store, at(7)).await.is_empty());

    // So does a label, and it takes out again.
    assert_eq!(label("edge-02", Some("prod"), 8).await, ["east"]);
    assert_eq!(published(&store, at(9)).await, ["satellite/edge-02"]);
    assert!(label("edge-02", None, 10).await.is_empty());
    assert_eq!(published(&store, at(11)).await, ["satellite/edge-02"]);
    // Who was put in by name stays, whatever the labels say.
    assert_eq!(label("named", None, 12).await, ["east"]);
    assert_eq!(label("named", Some("prod"), 13).await, ["east"]);
    assert!(published(&store, at(14)).await.is_empty());

    // Nobody leaves by name whom the selector chooses; by name and by selector is both.
    let refused = store.leave_group("edge-01", "east", at(15)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { ref message }) if message.contains("selector")));
    store.join_group("edge-01", "east", at(16)).await.unwrap();
    published(&store, at(17)).await;
    assert_eq!(label("edge-02", Some("prod"), 18).await, ["east"]);
    published(&store, at(19)).await;
    select(Some("env=test"), 20).await.unwrap();
    assert_eq!(published(&store, at(21)).await, ["satellite/edge-02"]);
    assert_eq!(store.satellite("edge-01").await.unwrap().groups, ["east"]);
    assert!(store.satellite("edge-02").await.unwrap().groups.is_empty());
    store.leave_group("edge-01", "east", at(22)).await.unwrap();
    assert_eq!(published(&store, at(23)).await, ["satellite/edge-01"]);

    // A new satellite is in no group, and one that goes leaves nothing behind.
    for bad in ["!env", "env!=prod"] {
        assert!(matches!(select(Some(bad), 24).await, Err(StoreError::Invalid { .. })), "{bad}");
    }
    label("edge-01", Some("test"), 25).await;
    store.delete_satellite("edge-01", at(26)).await.unwrap();
    select(None, 27).await.unwrap();
    assert_eq!(published(&store, at(28)).await, ["satellite/edge-01"]);
    assert_eq!(store.satellite("named").await.unwrap().groups, ["east"]);
    let missing = store.set_selector("west", None, at(29)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

pub(crate) async fn a_selector_is_applied_whole(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "library/nginx").await;
    for n in 0..24_usize {
        let name = format!("edge-{n:02}");
        satellite(&store, &name, if n % 5 == 0 { &["east"] } else { &[] }).await;
        let env = ["prod", "test", "dev"][n % 3];
        let labels = json!({"env": env, "tier": (n % 4 == 0).then_some("web")});
        store.patch_labels(&name, &labels, at(2)).await.unwrap();
    }
    let everyone = store.satellites(SatelliteFilter::default(), page(1, 100)).await.unwrap().items;
    let in_group = SatelliteFilter { group: Some("east".into()), ..SatelliteFilter::default() };
    let mut before: Vec<String> = Vec::new();
    for (n, text) in
        ["env=prod", "env in (test,prod),!tier", "tier", "env notin (dev),tier=web", "nothing", "", "env"]
            .iter()
            .enumerate()
    {
        let now = 10 * i64::try_from(n).unwrap() + 10;
        published(&store, at(now)).await;
        let selector: Option<Selector> = (!text.is_empty()).then(|| text.parse().unwrap());
        store.set_selector("east", selector.clone(), at(now + 1)).await.unwrap();
        let expected: Vec<String> = everyone
            .iter()
            .filter(|s| {
                s.groups == ["east"] || selector.as_ref().is_some_and(|chosen| chosen.matches(&s.labels))
            })
            .map(|s| s.name.clone())
            .collect();
        let found = store.satellites(in_group.clone(), page(1, 100)).await.unwrap().items;
        let found: Vec<String> = found.into_iter().map(|s| s.name).collect();
        assert_eq!(found, expected, "{text}");
        // Exactly those that came or went are told.
        let moved: Vec<String> = everyone
            .iter()
            .map(|s| &s.name)
            .filter(|name| n > 0 && before.contains(name) != found.contains(name))
            .map(|name| format!("satellite/{name}"))
            .collect();
        let mut told = published(&store, at(now + 2)).await;
        told.sort();
        assert!(n == 0 || told == moved, "{text}: {told:?} and not {moved:?}");
        before = found;
    }
}
