//! What groups follow in the registry, and what adapters add to them.

use ground_control::domain::audit::{Action, AuditFilter, AuditFrom, Event};
use ground_control::domain::document::DocumentKey;
use ground_control::domain::group::Artifact;
use ground_control::domain::replication::Replicated;
use ground_control::domain::resolution::{Finding, Resolved, Selector};
use ground_control::domain::webhook::{ClaimedPolicy, PolicyOutcome, Wanted};
use ground_control::domain::{Entity, StoreError};
use ground_control::store::{DocumentSource, Followed, Look, SharedStore};
use jiff::Timestamp;
use oci::Digest;
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, group, hashed, page, published};

async fn claim(store: &SharedStore, now: i64) -> Vec<Followed> {
    store.claim_followed(100, at(now), at(now + 60)).await.unwrap()
}

fn names(claimed: &[Followed]) -> Vec<&str> {
    claimed.iter().map(|followed| followed.repository.as_str()).collect()
}

fn found(tag: &str, content: u8) -> Finding {
    let digest = Digest::sha256(&[content]);
    Finding::Found(vec![Resolved { tag: Some(tag.parse().unwrap()), digest, referrers: Some(digest) }])
}

fn nothing() -> Finding {
    Finding::Nothing("not there".into())
}

/// Looks at the one repository that is due; the same is found for all of its selectors. The next look is a minute later.
async fn look(store: &SharedStore, finding: &Finding, now: i64) -> Vec<String> {
    let mut claimed = claim(store, now).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    ended(store, &claimed.remove(0), finding, now).await
}

async fn ended(store: &SharedStore, followed: &Followed, finding: &Finding, now: i64) -> Vec<String> {
    let findings = followed.selectors.iter().map(|selector| (selector.clone(), finding.clone())).collect();
    let look = Look { findings, failure: None, next: at(now + 60) };
    store.looked(followed, look, at(now)).await.unwrap()
}

async fn document(store: &SharedStore, group: &str) -> (Vec<Artifact>, bool) {
    match store.document_source(&DocumentKey::group(group)).await.unwrap() {
        DocumentSource::Group(group) => (group.artifacts, group.unseen),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn what_groups_list_is_looked_at_in_turn(fixture: Fixture) {
    let store = fixture.ready().await;
    assert!(claim(&store, 1).await.is_empty());
    let list = json!([
        {"repository": "a/one", "tag": ["1", "2"]},
        {"repository": "a/one", "match": {"glob": "x-*"}, "keep": 2},
        {"repository": "a/two", "tag": "1", "digest": Digest::sha256(b"x").to_string()},
        {"repository": "a/gone", "tag": "1", "deleted": true},
    ]);
    store.sync_group("east", artifacts(list), "ann", at(1)).await.unwrap();
    group(&store, "west", "a/one").await;
    let claimed = claim(&store, 2).await;
    assert_eq!(names(&claimed), ["a/one", "a/two"]);
    let selectors: Vec<String> = claimed[0].selectors.iter().map(Selector::to_string).collect();
    assert_eq!(selectors, ["tag:1", "tag:2", "tag:latest", "glob:2:x-*"]);
    assert!(matches!(claimed[1].selectors[..], [Selector::Digest(_)]));
    // While somebody looks, nobody else does, unless they died.
    assert!(claim(&store, 3).await.is_empty());
    assert_eq!(claim(&store, 70).await.len(), 2);
    for followed in &claimed {
        ended(&store, followed, &nothing(), 71).await;
    }
    assert!(claim(&store, 72).await.is_empty());
    assert_eq!(claim(&store, 140).await.len(), 2);
    for followed in &claimed {
        ended(&store, followed, &nothing(), 140).await;
    }
    // The same list again asks for nothing; what comes to it does, before what only time has come for.
    group(&store, "west", "a/one").await;
    assert!(claim(&store, 141).await.is_empty());
    group(&store, "west", "a/three").await;
    let first = store.claim_followed(1, at(1000), at(1060)).await.unwrap();
    assert_eq!(names(&first), ["a/three"]);
    // What no group names any more is forgotten.
    store.delete_group("east", at(1001)).await.unwrap();
    store.follow(at(1070)).await.unwrap();
    assert_eq!(names(&claim(&store, 2000).await), ["a/three"]);
    assert_eq!(store.unresolved().await.unwrap(), 0);
}

pub(crate) async fn what_a_list_stands_for_is_told_to_its_groups(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "a/one").await;
    group(&store, "west", "a/one").await;
    let fixed = json!([{"repository": "a/one", "tag": "other"}]);
    store.sync_group("north", artifacts(fixed), "ann", at(1)).await.unwrap();
    published(&store, at(2)).await;
    assert!(document(&store, "east").await.1, "nobody has looked yet");

    let mut claimed = claim(&store, 3).await;
    let followed = claimed.remove(0);
    let latest: Selector = "tag:latest".parse().unwrap();
    let other: Selector = "tag:other".parse().unwrap();
    let findings = vec![(latest, found("latest", 1)), (other, nothing())];
    let look_one = Look { findings, failure: None, next: at(63) };
    assert_eq!(store.looked(&followed, look_one, at(3)).await.unwrap(), ["east", "west"]);
    assert_eq!(published(&store, at(4)).await, ["group/east", "group/north", "group/west"]);
    let (list, unseen) = document(&store, "east").await;
    assert_eq!(
        (list[0].digest, list[0].referrers, unseen),
        (Some(Digest::sha256(&[1])), list[0].digest, false)
    );
    let (list, unseen) = document(&store, "north").await;
    assert_eq!((list[0].digest, list[0].tags.len(), unseen), (None, 1, false));
    assert_eq!(store.unresolved().await.unwrap(), 1);
    // Nobody changed the groups.
    assert_eq!(store.revisions("east", page(1, 10)).await.unwrap().total, 1);
    assert_eq!(store.group("east").await.unwrap().artifacts[0].digest, None);

    // The same again is no news, nor is a registry that has lost it.
    let findings = |finding: &Finding| {
        followed.selectors.iter().map(|selector| (selector.clone(), finding.clone())).collect::<Vec<_>>()
    };
    for (now, finding, told) in [
        (100, found("latest", 1), vec!["north"]),
        (200, nothing(), vec![]),
        (300, found("latest", 1), vec![]),
        (400, found("latest", 2), vec!["east", "north", "west"]),
    ] {
        let claimed = claim(&store, now).await.remove(0);
        let look = Look { findings: findings(&finding), failure: None, next: at(now + 60) };
        assert_eq!(store.looked(&claimed, look, at(now)).await.unwrap(), told, "{now}");
    }
    let known = store.resolutions("east").await.unwrap();
    let latest = &known[&("a/one".parse().unwrap(), "tag:latest".parse().unwrap())];
    assert_eq!((latest.resolved_at, &latest.unresolved), (Some(at(400)), &None));
    let unknown = store.resolutions("south").await;
    assert!(matches!(unknown, Err(StoreError::NotFound { entity: Entity::Group, .. })));
    // What no group selects any more goes with the next look.
    group(&store, "north", "a/one").await;
    look(&store, &found("latest", 2), 500).await;
    assert_eq!(store.resolutions("north").await.unwrap().len(), 1);
}

pub(crate) async fn a_word_during_a_look_is_not_swallowed(fixture: Fixture) {
    let store = fixture.ready().await;
    assert!(!store.look_again("a/one").await.unwrap());
    group(&store, "east", "a/one").await;
    let first = claim(&store, 2).await.remove(0);
    assert!(store.look_again("a/one").await.unwrap());
    assert!(claim(&store, 3).await.is_empty(), "one look at a time");
    ended(&store, &first, &nothing(), 4).await;
    let second = claim(&store, 5).await.remove(0);
    // A failure is counted until a look ends well.
    let failure = Some("no answer".to_owned());
    let failed = Look { findings: Vec::new(), failure, next: at(10) };
    store.looked(&second, failed, at(6)).await.unwrap();
    assert!(claim(&store, 9).await.is_empty());
    assert_eq!(claim(&store, 10).await[0].attempts, 1);
    ended(&store, &second, &nothing(), 11).await;
    assert_eq!(store.look_at_all_again(at(12)).await.unwrap(), 1);
    assert_eq!(claim(&store, 12).await[0].attempts, 0);
    // A list that a program wrote that follows nothing is found by the look over all.
    fixture.execute("DELETE FROM followed_repositories").await;
    store.follow(at(13)).await.unwrap();
    assert_eq!(names(&claim(&store, 13).await), ["a/one"]);
}

pub(crate) async fn of_two_replicas_one_looks(fixture: Fixture) {
    let store = fixture.ready().await;
    let list: Vec<_> = (0..20).map(|n| json!({"repository": format!("a/n{n}"), "tag": "1"})).collect();
    store.sync_group("east", artifacts(json!(list)), "ann", at(1)).await.unwrap();
    let other = fixture.open().await;
    let (a, b) =
        tokio::join!(store.claim_followed(15, at(2), at(60)), other.claim_followed(15, at(2), at(60)),);
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.iter().all(|mine| b.iter().all(|theirs| mine.repository != theirs.repository)));
    let rest = claim(&store, 3).await;
    assert_eq!(a.len() + b.len() + rest.len(), 20);
    let ends = |store: &SharedStore, claimed: Vec<Followed>| {
        let store = store.clone();
        async move {
            for followed in &claimed {
                ended(&store, followed, &found("1", 1), 4).await;
            }
        }
    };
    tokio::join!(ends(&store, a), ends(&other, b), ends(&other, rest));
    assert!(document(&store, "east").await.0.iter().all(|artifact| artifact.digest.is_some()));
}

pub(crate) async fn rules_and_platforms_belong_to_the_list(fixture: Fixture) {
    let store = fixture.ready().await;
    let rule = json!({"repository": "a/one", "match": {"semver": "^1.2"}, "keep": 3, "platforms": ["linux/arm64/v8"]});
    let given = artifacts(json!([rule, {"repository": "a/two", "tag": "1", "platforms": ["linux/amd64"]}]));
    let group = store.sync_group("east", given.clone(), "ann", at(1)).await.unwrap();
    assert_eq!(group.artifacts, given);
    assert_eq!(store.group("east").await.unwrap().artifacts, given);
    assert_eq!(store.groups(page(1, 10)).await.unwrap().items[0].artifacts, given);
    let mut wider = given.clone();
    wider[0].keep = Some(4);
    // What is found out is nobody's to say.
    wider[1].referrers = Some(Digest::sha256(b"told"));
    store.sync_group("east", wider.clone(), "bob", at(2)).await.unwrap();
    let second = store.revision("east", 2).await.unwrap();
    assert_eq!((second.revision.changed, second.revision.added), (1, 0));
    assert_eq!(second.difference.changed[0].to.keep, Some(4));
    assert_eq!(store.restore_revision("east", 1, "cay", at(3)).await.unwrap().artifacts, given);
    let bad = artifacts(json!([{"repository": "a/one", "match": {"semver": "one"}}]));
    let refused = store.sync_group("east", bad, "ann", at(4)).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    // A rule that nobody has looked at stands for nothing yet.
    let (list, unseen) = document(&store, "east").await;
    assert_eq!((list.len(), unseen), (1, true));
    assert_eq!(list[0].platforms, given[1].platforms);
}

pub(crate) async fn an_adapter_adds_to_its_group(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "a/one").await;
    group(&store, "west", "a/one").await;
    let (first, second) = (hashed("first"), hashed("second"));
    let pushed = |tag: &str, content: u8| {
        let digest = Digest::sha256(&[content]).to_string();
        artifacts(json!([{"repository": "a/pushed", "tag": [tag], "digest": digest}]))
    };
    let tell =
        async |secret, named, list, now: Timestamp| store.replicate(secret, named, list, now).await.unwrap();
    assert_eq!(tell(&first, "east", pushed("1", 1), at(2)).await, Replicated::Unknown);
    let missing = store.set_replication_secret("south", &first, "ann", at(2)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    store.set_replication_secret("east", &first, "ann", at(3)).await.unwrap();
    assert!(store.knows_replication_secret(&first).await.unwrap());
    let Replicated::Merged(group_now) = tell(&first, "east", pushed("1", 1), at(4)).await else {
        panic!("merged")
    };
    assert_eq!(group_now.artifacts.len(), 2);
    // Another group is named: nothing changes. None is named: it is this one.
    assert_eq!(tell(&first, "west", pushed("2", 1), at(5)).await, Replicated::OtherGroup("east".into()));
    assert!(matches!(tell(&first, "", pushed("1", 2), at(6)).await, Replicated::Merged(_)));
    assert!(matches!(tell(&first, "east", pushed("1", 2), at(7)).await, Replicated::Merged(_)));
    let told = store.revisions("east", page(1, 10)).await.unwrap().items;
    let told: Vec<_> = told.iter().map(|r| (r.author.as_str(), r.added, r.changed)).collect();
    assert_eq!(told, [("replication", 0, 1), ("replication", 1, 0), ("ann", 1, 0)]);
    assert_eq!(store.group("west").await.unwrap().artifacts.len(), 1);
    let known = store.replication_secret("east").await.unwrap().unwrap();
    assert_eq!((known.created_by.as_str(), known.used_at), ("ann", Some(at(7))));
    // A new secret ends the old one; removing it ends it, too.
    store.set_replication_secret("east", &second, "bob", at(8)).await.unwrap();
    assert_eq!(tell(&first, "east", pushed("3", 1), at(9)).await, Replicated::Unknown);
    assert!(matches!(tell(&second, "east", pushed("1", 2), at(9)).await, Replicated::Merged(_)));
    assert!(store.remove_replication_secret("east").await.unwrap());
    assert!(!store.remove_replication_secret("east").await.unwrap());
    assert_eq!(tell(&second, "east", pushed("3", 1), at(10)).await, Replicated::Unknown);
    assert_eq!(store.replication_secret("east").await.unwrap(), None);
    // It goes with its group.
    store.set_replication_secret("west", &first, "ann", at(11)).await.unwrap();
    store.delete_group("west", at(12)).await.unwrap();
    assert!(!store.knows_replication_secret(&first).await.unwrap());
}

pub(crate) async fn projects_have_policies_while_groups_name_them(fixture: Fixture) {
    let store = fixture.ready().await;
    let claim = async |now: i64| store.claim_policies(10, at(now), at(now + 60)).await.unwrap();
    let told = |claimed: &[ClaimedPolicy]| -> Vec<(String, Wanted, Option<i64>, u32)> {
        claimed.iter().map(|c| (c.project.clone(), c.wanted, c.policy, c.attempts)).collect()
    };
    assert!(claim(1).await.is_empty());
    group(&store, "east", "apps/web").await;
    group(&store, "west", "library/nginx").await;
    let new = claim(2).await;
    let expected = |project: &str, wanted, policy, attempts| (project.to_owned(), wanted, policy, attempts);
    assert_eq!(
        told(&new),
        [expected("apps", Wanted::Kept, None, 0), expected("library", Wanted::Kept, None, 0)]
    );
    assert!(claim(3).await.is_empty(), "one at a time");
    store.policy_looked(&new[0], &PolicyOutcome::Kept(7), at(4), at(600)).await.unwrap();
    let refused = PolicyOutcome::Forbidden("not ours to make".into());
    store.policy_looked(&new[1], &refused, at(4), at(600)).await.unwrap();
    let summary = store.policies().await.unwrap();
    assert_eq!((summary.kept, summary.forbidden, summary.pending), (1, 1, 0));
    assert_eq!((summary.reason.as_deref(), summary.checked_at), (Some("not ours to make"), Some(at(4))));
    assert!(claim(5).await.is_empty());

    // What no group names any more does not wait for its time; what fails then does.
    store.delete_group("east", at(6)).await.unwrap();
    let gone = claim(7).await;
    assert_eq!(told(&gone), [expected("apps", Wanted::Gone, Some(7), 0)]);
    store.policy_looked(&gone[0], &PolicyOutcome::Failed("away".into()), at(8), at(20)).await.unwrap();
    assert!(claim(9).await.is_empty());
    let again = claim(20).await;
    assert_eq!(told(&again), [expected("apps", Wanted::Gone, Some(7), 1)]);
    store.policy_looked(&again[0], &PolicyOutcome::Gone, at(21), at(600)).await.unwrap();
    assert_eq!(told(&claim(600).await), [expected("library", Wanted::Kept, None, 1)]);
    assert_eq!(store.policies().await.unwrap().kept, 0);
}

pub(crate) async fn what_moves_is_in_the_audit(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "a/one").await;
    look(&store, &found("latest", 1), 2).await;
    // What is found at first follows from the list; the same again and nothing at all change nothing.
    let before = store.audit_end().await.unwrap();
    look(&store, &found("latest", 1), 100).await;
    look(&store, &nothing(), 200).await;
    assert_eq!(store.audit_end().await.unwrap(), before);
    look(&store, &found("latest", 2), 300).await;
    let filter = AuditFilter::default();
    let rows = store.audit_entries(&filter, AuditFrom::After(before), 100).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((row.action.as_str(), row.actor_kind.as_str()), ("repository.moved", "system"));
    assert_eq!(row.subject, "repository/a/one");
    let (from, to) = (Digest::sha256(&[1]).to_string(), Digest::sha256(&[2]).to_string());
    let moved = json!([{"selector": "tag:latest", "from": [from], "to": [to]}]);
    assert_eq!(json!(row.details), json!({"moved": moved, "groups": ["east"]}));

    let collected = Event::new(Action::GarbageCollected, "registry", "builtin").with("blobs", 3);
    store.record_event(&collected).await.unwrap();
    let rows = store.audit_entries(&filter, AuditFrom::After(row.sequence), 100).await.unwrap();
    assert_eq!((rows.len(), rows[0].action.as_str()), (1, "registry.garbage_collected"));
}

pub(crate) async fn a_claim_is_kept_while_its_look_goes_on(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "a/one").await;
    let claimed = claim(&store, 2).await.remove(0);
    store.hold_followed(&claimed, at(100)).await.unwrap();
    assert!(claim(&store, 99).await.is_empty());
    // Who is gone keeps nothing: it is another one's soon.
    let again = claim(&store, 100).await.remove(0);
    ended(&store, &again, &found("latest", 1), 101).await;
    // What is at its end is nobody's, whatever comes late.
    store.hold_followed(&claimed, at(1000)).await.unwrap();
    assert_eq!(claim(&store, 200).await.len(), 1);
}
