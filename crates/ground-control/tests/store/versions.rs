//! Changes that depend on what their author has seen.

use fleet_protocol::api::Role;
use futures_util::future::join_all;
use ground_control::domain::StoreError;
use ground_control::domain::audit::{AuditFilter, AuditFrom};
use ground_control::domain::store::Terms;
use ground_control::domain::user::NewUser;
use ground_control::domain::version::{Condition, Version};
use ground_control::store::SharedStore;
use serde_json::json;

use crate::fixture::{self, Fixture, artifacts, at, page};

/// Who changes something, and how often at once.
const AT_ONCE: u32 = 8;

fn if_match(store: &SharedStore, version: Version) -> SharedStore {
    store.on_terms(Terms { condition: Some(Condition::OneOf(vec![version.to_string()])), ..Terms::default() })
}

fn if_there(store: &SharedStore) -> SharedStore {
    store.on_terms(Terms { condition: Some(Condition::Exists), ..Terms::default() })
}

fn list(tag: u32) -> Vec<ground_control::domain::group::Artifact> {
    artifacts(json!([{"repository": "a/one", "tag": format!("{tag}")}]))
}

#[track_caller]
fn outdated<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Outdated { .. })), "{outcome:?}");
}

/// Exactly one of them was made, and the others did not meet the condition.
#[track_caller]
fn one_won<T: std::fmt::Debug>(outcomes: Vec<Result<T, StoreError>>) {
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "{made:?} {refused:?}");
    refused.into_iter().for_each(outdated);
}

async fn account(store: &SharedStore, name: &str) {
    let user = NewUser { username: name.to_owned(), role: Role::Viewer, password_hash: "!".to_owned() };
    store.create_user(user, at(1)).await.unwrap();
}

pub(crate) async fn of_changes_of_one_version_one_is_made(fixture: Fixture) {
    // Two replicas, as far as the database can tell.
    let stores = [fixture.ready().await, fixture.open().await];
    let store = &stores[0];
    let by = |n: u32, version| if_match(&stores[usize::from(n.is_multiple_of(2))], version);

    store.sync_group("east", list(0), "ann", at(1)).await.unwrap();
    let seen = store.group("east").await.unwrap().version();
    one_won(
        join_all((1..=AT_ONCE).map(|n| {
            let store = by(n, seen);
            async move { store.sync_group("east", list(n), "ann", at(2)).await }
        }))
        .await,
    );
    assert_eq!(store.revisions("east", page(1, 100)).await.unwrap().total, 2);

    let document = json!({"app_config": {"log_level": "info"}});
    store.create_config("slow", document, at(1)).await.unwrap();
    let seen = store.config("slow").await.unwrap().version();
    let patch = |n: u32| json!({"app_config": {"heartbeat_interval": format!("@every 00h00m{n:02}s")}});
    one_won(
        join_all((11..11 + AT_ONCE).map(|n| {
            let store = by(n, seen);
            async move { store.patch_config("slow", patch(n), at(2)).await }
        }))
        .await,
    );

    fixture::satellite(store, "edge-01", &[]).await;
    let seen = store.satellite("edge-01").await.unwrap().version();
    one_won(
        join_all((1..=AT_ONCE).map(|n| {
            let store = by(n, seen);
            async move { store.patch_labels("edge-01", &json!({"n": n.to_string()}), at(2)).await }
        }))
        .await,
    );

    account(store, "ann").await;
    let seen = store.user_version("ann").await.unwrap();
    one_won(
        join_all((1..=AT_ONCE).map(|n| {
            let store = by(n, seen);
            async move { store.reset_password("ann", &format!("hash-{n}"), at(2)).await }
        }))
        .await,
    );
    // One row each: what was refused is no change.
    let rows = store.audit_entries(&AuditFilter::default(), AuditFrom::After(0), 100).await.unwrap();
    let count = |action: &str| rows.iter().filter(|row| row.action == action).count();
    assert_eq!(
        [count("group.synced"), count("config.changed"), count("satellite.labelled")],
        [2, 1, 1],
        "{rows:?}"
    );
}

pub(crate) async fn what_changed_since_is_not_changed(fixture: Fixture) {
    let store = fixture.ready().await;
    store.sync_group("east", list(1), "ann", at(1)).await.unwrap();
    fixture::satellite(&store, "edge-01", &["east"]).await;
    account(&store, "ann").await;
    let group = store.group("east").await.unwrap();
    let satellite = store.satellite("edge-01").await.unwrap();
    let user = store.user_version("ann").await.unwrap();

    // What a change answers is what the next look shows.
    let synced = store.sync_group("east", list(2), "bob", at(2)).await.unwrap();
    assert_eq!(synced.version(), store.group("east").await.unwrap().version());
    let (old, new) = (if_match(&store, group.version()), if_match(&store, synced.version()));
    outdated(old.sync_group("east", list(3), "ann", at(3)).await);
    outdated(old.restore_revision("east", 1, "ann", at(3)).await);
    outdated(old.set_selector("east", Some("env=prod".parse().unwrap()), at(3)).await);
    outdated(old.delete_group("east", at(3)).await);
    assert_eq!(store.group("east").await.unwrap(), synced);
    let selected = new.set_selector("east", Some("env=prod".parse().unwrap()), at(3)).await.unwrap();
    assert_eq!(selected.version(), store.group("east").await.unwrap().version());
    outdated(new.delete_group("east", at(3)).await);

    let labelled = store.patch_labels("edge-01", &json!({"env": "test"}), at(2)).await.unwrap();
    assert_eq!(labelled.version(), store.satellite("edge-01").await.unwrap().version());
    let old = if_match(&store, satellite.version());
    outdated(old.patch_labels("edge-01", &json!({"env": "prod"}), at(3)).await);
    outdated(old.leave_group("edge-01", "east", at(3)).await);
    outdated(old.revoke_satellite("edge-01", at(3)).await);
    outdated(old.delete_satellite("edge-01", at(3)).await);
    let new = if_match(&store, labelled.version());
    new.leave_group("edge-01", "east", at(3)).await.unwrap();
    outdated(new.revoke_satellite("edge-01", at(3)).await);
    let left = store.satellite("edge-01").await.unwrap();
    if_match(&store, left.version()).revoke_satellite("edge-01", at(4)).await.unwrap();

    let config = store.create_config("slow", json!({}), at(1)).await.unwrap();
    let document = json!({"app_config": {"log_level": "warn"}});
    let patched = store.patch_config("slow", document, at(2)).await.unwrap();
    assert_eq!(patched.version(), store.config("slow").await.unwrap().version());
    outdated(if_match(&store, config.version()).delete_config("slow", at(3)).await);
    if_match(&store, patched.version()).delete_config("slow", at(3)).await.unwrap();

    store.set_role("ann", Role::Admin, at(2)).await.unwrap();
    outdated(if_match(&store, user).set_role("ann", Role::Viewer, at(3)).await);
    let user = store.user_version("ann").await.unwrap();
    if_match(&store, user).set_role("ann", Role::Viewer, at(3)).await.unwrap();
}

pub(crate) async fn what_is_not_there_meets_no_condition(fixture: Fixture) {
    let store = fixture.ready().await;
    outdated(if_there(&store).sync_group("east", list(1), "ann", at(1)).await);
    store.sync_group("east", list(1), "ann", at(1)).await.unwrap();
    if_there(&store).sync_group("east", list(2), "ann", at(2)).await.unwrap();
    // That it is not there is said in the same words as without a condition.
    for outcome in [
        if_there(&store).delete_group("west", at(3)).await,
        if_there(&store).delete_satellite("nobody", at(3)).await,
        if_there(&store).delete_config("none", at(3)).await,
    ] {
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
    // A version of one that had the name before is none of this one.
    let before = store.group("east").await.unwrap().version();
    store.delete_group("east", at(4)).await.unwrap();
    store.sync_group("east", list(2), "ann", at(2)).await.unwrap();
    outdated(if_match(&store, before).delete_group("east", at(5)).await);
    // What is made has no version before.
    outdated(if_there(&store).create_config("slow", json!({}), at(5)).await);
    assert!(store.config("slow").await.is_err());
}
