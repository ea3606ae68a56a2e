//! Satellites, groups, configurations, and what a robot may read.

use ground_control::domain::StoreError;
use ground_control::domain::satellite::{SatelliteFilter, SatelliteState};
use serde_json::json;

use crate::fixture::{
    Fixture, artifacts, at, by_nonce, claim, group, new_satellite, page, published, satellite,
};

pub(crate) async fn satellites_are_created_listed_and_deleted(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    group(&store, "a-group", "library/alpine").await;
    let created = store
        .create_satellite(new_satellite("edge-01", &["us-east", "a-group", "us-east"]), at(5))
        .await
        .unwrap();
    assert_eq!(created.groups, ["a-group", "us-east"]);
    assert_eq!((created.state, created.config_name.as_str()), (SatelliteState::Pending, "default"));
    assert_eq!((created.created_at, created.updated_at, created.last_seen), (at(5), at(5), None));
    assert_eq!(store.satellite("edge-01").await.unwrap(), created);

    let again = store.create_satellite(new_satellite("edge-01", &[]), at(6)).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    // The same name in another region is another identity, and is refused.
    let mut elsewhere = new_satellite("edge-01", &[]);
    elsewhere.region = "eu".into();
    assert!(matches!(store.create_satellite(elsewhere, at(6)).await, Err(StoreError::Conflict { .. })));

    store.delete_satellite("edge-01", at(7)).await.unwrap();
    assert!(matches!(store.satellite("edge-01").await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.delete_satellite("edge-01", at(8)).await, Err(StoreError::NotFound { .. })));
    let all = store.satellites(SatelliteFilter::default(), page(1, 10)).await.unwrap();
    assert_eq!((all.total, all.items.len()), (0, 0));
}

pub(crate) async fn a_satellite_that_cannot_be_created_leaves_nothing_behind(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    published(&store, at(2)).await;
    let bad_names = ["", "Edge", "a/b", "../x", "a--b", "-a", &"a".repeat(64)];
    for name in bad_names {
        let refused = store.create_satellite(new_satellite(name, &[]), at(3)).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{name}: {refused:?}");
    }
    let mut region = new_satellite("edge-01", &[]);
    region.region = "Nowhere!".into();
    assert!(matches!(store.create_satellite(region, at(3)).await, Err(StoreError::Invalid { .. })));
    let no_group = store.create_satellite(new_satellite("edge-01", &["us-east", "missing"]), at(3)).await;
    assert!(matches!(no_group, Err(StoreError::NotFound { ref name, .. }) if name == "missing"));
    let mut config = new_satellite("edge-01", &[]);
    config.config_name = "missing".into();
    assert!(matches!(store.create_satellite(config, at(3)).await, Err(StoreError::NotFound { .. })));

    assert!(matches!(store.satellite("edge-01").await, Err(StoreError::NotFound { .. })));
    assert!(published(&store, at(9)).await.is_empty());
    satellite(&store, &"a".repeat(63), &["us-east"]).await;
}

pub(crate) async fn a_name_comes_back_as_another_satellite(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let first = satellite(&store, "edge-01", &["us-east"]).await;
    claim(&store, "edge-01", by_nonce("n"), "secret", at(2)).await.unwrap();
    store.delete_satellite("edge-01", at(3)).await.unwrap();
    assert!(store.pullable(&first.id).await.unwrap().is_empty());
    let mut new = new_satellite("edge-01", &[]);
    new.token = crate::fixture::hashed("another token");
    let second = store.create_satellite(new, at(4)).await.unwrap();
    assert_ne!(first.id, second.id);
    assert!(second.groups.is_empty());
    assert!(store.pullable(&first.id).await.unwrap().is_empty());
}

pub(crate) async fn lists_are_filtered_and_paged(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "even", "library/nginx").await;
    group(&store, "all", "library/nginx").await;
    for n in 0..25 {
        let groups: &[&str] = if n % 2 == 0 { &["even", "all"] } else { &["all"] };
        satellite(&store, &format!("edge-{n:02}"), groups).await;
    }
    let even = SatelliteFilter { group: Some("even".into()), ..SatelliteFilter::default() };
    let third = store.satellites(even.clone(), page(3, 5)).await.unwrap();
    assert_eq!(third.total, 13);
    let names: Vec<_> = third.items.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["edge-20", "edge-22", "edge-24"]);
    assert!(third.items.iter().all(|s| s.groups == ["all", "even"]));

    let all = store.satellites(SatelliteFilter::default(), page(2, 10)).await.unwrap();
    assert_eq!((all.total, all.items.len(), all.items[0].name.as_str()), (25, 10, "edge-10"));
    assert_eq!(all.items[1].groups, ["all"]);
    let online = SatelliteFilter { state: Some(SatelliteState::Online), ..SatelliteFilter::default() };
    assert_eq!(store.satellites(online, page(1, 10)).await.unwrap().total, 0);
    let pending = SatelliteFilter { state: Some(SatelliteState::Pending), ..even };
    assert_eq!(store.satellites(pending, page(1, 10)).await.unwrap().total, 13);
    let deleted = SatelliteFilter { state: Some(SatelliteState::Deleted), ..SatelliteFilter::default() };
    store.delete_satellite("edge-00", at(9)).await.unwrap();
    assert_eq!(store.satellites(deleted, page(1, 10)).await.unwrap().total, 0);
}

pub(crate) async fn memberships_and_configs_change(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    store.create_config("slow", json!({"app_config": {"log_level": "debug"}}), at(1)).await.unwrap();
    satellite(&store, "edge-01", &[]).await;
    published(&store, at(2)).await;

    store.join_group("edge-01", "us-east", at(3)).await.unwrap();
    assert_eq!(published(&store, at(4)).await, ["satellite/edge-01"]);
    // Saying it again is no error and no change.
    store.join_group("edge-01", "us-east", at(5)).await.unwrap();
    store.assign_config("edge-01", "default", at(5)).await.unwrap();
    assert!(published(&store, at(6)).await.is_empty());
    let now = store.satellite("edge-01").await.unwrap();
    assert_eq!((now.groups, now.updated_at), (vec!["us-east".to_owned()], at(3)));

    store.assign_config("edge-01", "slow", at(7)).await.unwrap();
    assert_eq!(published(&store, at(8)).await, ["satellite/edge-01"]);
    assert_eq!(store.satellite("edge-01").await.unwrap().config_name, "slow");
    store.leave_group("edge-01", "us-east", at(9)).await.unwrap();
    store.leave_group("edge-01", "us-east", at(9)).await.unwrap();
    assert_eq!(published(&store, at(10)).await, ["satellite/edge-01"]);
    assert!(store.satellite("edge-01").await.unwrap().groups.is_empty());

    for refused in [
        store.join_group("edge-01", "missing", at(11)).await,
        store.join_group("missing", "us-east", at(11)).await,
        store.leave_group("edge-01", "missing", at(11)).await,
        store.assign_config("edge-01", "missing", at(11)).await,
        store.assign_config("missing", "slow", at(11)).await,
    ] {
        assert!(matches!(refused, Err(StoreError::NotFound { ref name, .. }) if name == "missing"));
    }
}

pub(crate) async fn a_robot_may_pull_exactly_what_is_its_own(fixture: Fixture) {
    let store = fixture.ready().await;
    let list = artifacts(json!([
        {"repository": "library/nginx", "tag": ["latest"]},
        {"repository": "library/nginx", "tag": ["old"], "deleted": true},
        {"repository": "library/gone", "tag": ["latest"], "deleted": true},
        {"repository": "team/app/server", "digest": oci::Digest::sha256(b"x").to_string()},
    ]));
    store.sync_group("mine", list, "ann", at(1)).await.unwrap();
    group(&store, "both", "library/nginx").await;
    group(&store, "others", "secret/app").await;
    let mine = satellite(&store, "edge-01", &["mine", "both"]).await;
    satellite(&store, "edge-02", &["others"]).await;
    assert_eq!(
        store.pullable(&mine.id).await.unwrap(),
        [
            "library/nginx",
            "satellite/config-state/default/state",
            "satellite/group-state/both/state",
            "satellite/group-state/mine/state",
            "satellite/satellite-state/edge-01/state",
            "team/app/server",
        ]
    );
    store.leave_group("edge-01", "mine", at(2)).await.unwrap();
    store.delete_group("both", at(3)).await.unwrap();
    assert_eq!(
        store.pullable(&mine.id).await.unwrap(),
        ["satellite/config-state/default/state", "satellite/satellite-state/edge-01/state"]
    );
}

pub(crate) async fn a_group_keeps_its_list_as_given(fixture: Fixture) {
    let store = fixture.ready().await;
    let digest = oci::Digest::sha256(b"x").to_string();
    let given = json!([
        {"repository": "z/last", "tag": ["2", "1"], "labels": ["b", {"name": "a", "n": null}], "type": "chart",
         "digest": digest, "deleted": false},
        {"repository": "a/first", "tag": ["1"], "labels": [], "type": "image", "deleted": true},
        {"repository": "z/last", "tag": [], "labels": [], "type": "image", "digest": digest, "deleted": false},
    ]);
    let synced = store.sync_group("us-east", artifacts(given.clone()), "ann", at(1)).await.unwrap();
    assert_eq!(serde_json::to_value(&synced.artifacts).unwrap(), given);
    let read = store.group("us-east").await.unwrap();
    assert_eq!(read, synced);
    assert_eq!(read.projects(), ["a", "z"]);
    assert_eq!(published(&store, at(2)).await, ["group/us-east"]);

    // The same list is no change; a shorter one replaces it.
    let same = store.sync_group("us-east", artifacts(given.clone()), "ann", at(3)).await.unwrap();
    assert_eq!(same.updated_at, at(1));
    assert!(published(&store, at(4)).await.is_empty());
    let shorter = store.sync_group("us-east", artifacts(json!([given[1]])), "ann", at(5)).await.unwrap();
    assert_eq!((shorter.created_at, shorter.updated_at, &shorter.id), (at(1), at(5), &synced.id));
    assert_eq!(store.group("us-east").await.unwrap(), shorter);
    let empty = store.sync_group("us-east", Vec::new(), "ann", at(6)).await.unwrap();
    assert!(empty.artifacts.is_empty());

    // Two who replace the list at the same time: one of the two lists stays, whole.
    let other = fixture.open().await;
    let (a, b) = (artifacts(given.clone()), artifacts(json!([given[1]])));
    let (first, second) = tokio::join!(
        store.sync_group("us-east", a.clone(), "ann", at(7)),
        other.sync_group("us-east", b.clone(), "ann", at(7)),
    );
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let left = store.group("us-east").await.unwrap().artifacts;
    assert!(left == a || left == b, "{left:?}");

    for (name, list) in [
        ("Bad", json!([])),
        ("long", json!([{"repository": "library/nginx"}])),
        ("state", json!([{"repository": "satellite/config-state/default/state", "tag": "latest"}])),
    ] {
        let refused = store.sync_group(name, artifacts(list), "ann", at(8)).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{name}: {refused:?}");
        assert!(matches!(store.group(name).await, Err(StoreError::NotFound { .. })));
    }
    group(&store, "a-group", "library/alpine").await;
    let list = store.groups(page(1, 10)).await.unwrap();
    let names: Vec<_> = list.items.iter().map(|g| (g.name.as_str(), g.artifacts.len())).collect();
    assert_eq!((list.total, names), (2, vec![("a-group", 1), ("us-east", left.len())]));
    assert_eq!(store.groups(page(2, 1)).await.unwrap().items[0].artifacts, left);
}

pub(crate) async fn a_group_that_goes_takes_its_memberships_along(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    group(&store, "eu", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east", "eu"]).await;
    satellite(&store, "edge-02", &["us-east"]).await;
    satellite(&store, "edge-03", &["eu"]).await;
    published(&store, at(2)).await;
    store.delete_group("us-east", at(3)).await.unwrap();
    let asked = published(&store, at(4)).await;
    assert_eq!(asked, ["group/us-east", "satellite/edge-01", "satellite/edge-02"]);
    assert_eq!(store.satellite("edge-01").await.unwrap().groups, ["eu"]);
    assert!(matches!(store.group("us-east").await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.delete_group("us-east", at(5)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn configs_are_created_patched_and_deleted(fixture: Fixture) {
    let store = fixture.open().await;
    assert!(store.ensure_default_config(at(0)).await.unwrap());
    assert!(!store.ensure_default_config(at(1)).await.unwrap());
    let default = store.config("default").await.unwrap();
    assert_eq!(default.document, fleet_protocol::config::default_document());
    assert_eq!(published(&store, at(1)).await, ["config/default"]);

    let given = json!({"app_config": {"log_level": "debug", "use_unsecure": true}, "x": 1});
    let created = store.create_config("slow", given.clone(), at(2)).await.unwrap();
    assert_eq!((&created.document, created.created_at), (&given, at(2)));
    assert!(matches!(store.create_config("slow", json!({}), at(3)).await, Err(StoreError::Conflict { .. })));
    for bad in [json!([]), json!({"app_config": {"heartbeat_interval": "soon"}})] {
        let refused = store.create_config("bad", bad.clone(), at(3)).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
        let refused = store.patch_config("slow", bad, at(3)).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    }
    assert!(matches!(store.create_config("Bad", json!({}), at(3)).await, Err(StoreError::Invalid { .. })));
    assert_eq!(published(&store, at(3)).await, ["config/slow"]);

    let patch = json!({"app_config": {"log_level": "", "use_unsecure": false}, "x": null});
    let patched = store.patch_config("slow", patch.clone(), at(4)).await;
    // An empty level is no level: what the patch makes of the whole is checked.
    assert!(matches!(patched, Err(StoreError::Invalid { .. }) | Ok(_)), "{patched:?}");
    let patch = json!({"app_config": {"use_unsecure": false, "ground_control_url": ""}, "x": null});
    let patched = store.patch_config("slow", patch.clone(), at(5)).await.unwrap();
    assert_eq!(patched.document["app_config"]["use_unsecure"], json!(false));
    assert_eq!(patched.document["app_config"]["ground_control_url"], json!(""));
    assert_eq!(patched.document.get("x"), None);
    assert_eq!((patched.created_at, patched.updated_at), (at(2), at(5)));
    assert_eq!(store.config("slow").await.unwrap(), patched);
    assert_eq!(published(&store, at(6)).await, ["config/slow"]);
    store.patch_config("slow", patch, at(7)).await.unwrap();
    assert!(published(&store, at(8)).await.is_empty());
    assert!(matches!(store.patch_config("no", json!({}), at(8)).await, Err(StoreError::NotFound { .. })));

    satellite(&store, "edge-01", &[]).await;
    store.assign_config("edge-01", "slow", at(9)).await.unwrap();
    let refused = store.delete_config("slow", at(10)).await;
    assert!(matches!(refused, Err(StoreError::Invalid { ref message }) if message.contains("in use")));
    let list = store.configs(page(1, 1)).await.unwrap();
    assert_eq!((list.total, list.items[0].name.as_str()), (2, "default"));
    store.delete_satellite("edge-01", at(11)).await.unwrap();
    store.delete_config("slow", at(12)).await.unwrap();
    assert!(matches!(store.config("slow").await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.delete_config("slow", at(13)).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.delete_config("default", at(13)).await, Err(StoreError::Invalid { .. })));
}

pub(crate) async fn text_that_no_database_should_take_is_no_failure(fixture: Fixture) {
    let store = fixture.ready().await;
    for name in ["nul\0", "'; DROP TABLE users; --", "é", "%", &"x".repeat(100_000)] {
        for refused in [
            store.satellite(name).await.err(),
            store.group(name).await.err(),
            store.config(name).await.err(),
            store.user(name).await.err(),
            store.delete_group(name, at(1)).await.err(),
        ] {
            assert!(
                matches!(refused, Some(StoreError::NotFound { .. } | StoreError::Invalid { .. })),
                "{name:?}: {refused:?}"
            );
        }
    }
    assert_eq!(store.configs(page(1, 10)).await.unwrap().total, 1);
}

pub(crate) async fn an_older_program_opens_a_newer_database(fixture: Fixture) {
    fixture.ready().await.close().await;
    // What a later release does: it adds, and this program does not know the migration.
    fixture.execute("ALTER TABLE satellites ADD COLUMN later TEXT NOT NULL DEFAULT ''").await;
    fixture
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT version + 1000, 'later', success, checksum, 0 FROM _sqlx_migrations",
        )
        .await;
    let store = fixture.open().await;
    satellite(&store, "edge-01", &[]).await;
    assert_eq!(store.satellites(SatelliteFilter::default(), page(1, 1)).await.unwrap().total, 1);
}
