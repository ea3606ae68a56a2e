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
            };
            // Page by page: each tells the length of the whole.
            let mut found = Vec::new();
            for number in 1..=4 {
                let part = store.satellites(filter.clone(), page(number, 10)).await.unwrap();
                assert_eq!(part.total, expected.len() as u64, "{text}");
                found.extend(part.items);
            }
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
