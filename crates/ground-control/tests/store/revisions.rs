//! The history of groups.

use ground_control::domain::StoreError;
use ground_control::domain::revision::{HISTORY, Revision};
use ground_control::store::SharedStore;
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, page, published};

async fn set(store: &SharedStore, repositories: &[(&str, &str)], author: &str, now: i64) {
    let list: Vec<_> =
        repositories.iter().map(|(repository, tag)| json!({"repository": repository, "tag": tag})).collect();
    store.sync_group("east", artifacts(json!(list)), author, at(now)).await.unwrap();
}

async fn history(store: &SharedStore) -> Vec<Revision> {
    store.revisions("east", page(1, 100)).await.unwrap().items
}

pub(crate) async fn every_change_of_a_group_is_a_revision(fixture: Fixture) {
    let store = fixture.ready().await;
    set(&store, &[("a/one", "1"), ("a/two", "1")], "ann", 1).await;
    set(&store, &[("a/one", "1"), ("a/two", "1")], "bob", 2).await;
    set(&store, &[("a/three", "1"), ("a/two", "2")], "bob", 3).await;
    set(&store, &[("a/two", "2"), ("a/three", "1")], "ann", 4).await;
    set(&store, &[], "ann", 5).await;
    let told: Vec<_> = history(&store)
        .await
        .into_iter()
        .map(|r| (r.number, r.author, r.created_at, (r.added, r.removed, r.changed), r.reordered))
        .collect();
    assert_eq!(
        told,
        [
            (4, "ann".to_owned(), at(5), (0, 2, 0), false),
            (3, "ann".to_owned(), at(4), (0, 0, 0), true),
            (2, "bob".to_owned(), at(3), (1, 1, 1), false),
            (1, "ann".to_owned(), at(1), (2, 0, 0), false),
        ]
    );
    let second = store.revision("east", 2).await.unwrap();
    assert_eq!(
        second.artifacts,
        artifacts(json!([{"repository": "a/three", "tag": "1"}, {"repository": "a/two", "tag": "2"}]))
    );
    assert_eq!(second.difference.added[0].repository.as_str(), "a/three");
    assert_eq!(second.difference.removed[0].repository.as_str(), "a/one");
    assert_eq!(second.difference.changed[0].from.repository.as_str(), "a/two");
    let page_two = store.revisions("east", page(2, 3)).await.unwrap();
    assert_eq!((page_two.total, page_two.items.len(), page_two.items[0].number), (4, 1, 1));

    // What was refused is no revision.
    let refused = store.sync_group("east", artifacts(json!([{"repository": "a/one"}])), "ann", at(6)).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    assert_eq!(history(&store).await.len(), 4);
    for number in [0, 5, u64::MAX] {
        assert!(matches!(store.revision("east", number).await, Err(StoreError::NotFound { .. })));
    }
    assert!(matches!(store.revisions("west", page(1, 1)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn an_earlier_list_comes_back_as_a_new_revision(fixture: Fixture) {
    let store = fixture.ready().await;
    set(&store, &[("a/two", "1"), ("a/one", "1")], "ann", 1).await;
    let first = store.group("east").await.unwrap().artifacts;
    set(&store, &[("a/one", "2")], "bob", 2).await;
    published(&store, at(3)).await;
    let made = store.restore_revision("east", 1, "cay", at(4)).await.unwrap();
    assert_eq!((made.revision.number, made.revision.restored_from), (3, Some(1)));
    assert_eq!((made.revision.author.as_str(), made.revision.created_at), ("cay", at(4)));
    assert_eq!((made.revision.added, made.revision.changed), (1, 1));
    assert_eq!(made.artifacts, first);
    let group = store.group("east").await.unwrap();
    assert_eq!((group.artifacts, group.updated_at), (first, at(4)));
    // The registry is told in the same transaction.
    assert_eq!(published(&store, at(5)).await, ["group/east"]);
    // It has that list already: nothing is made and nothing is published.
    assert_eq!(store.restore_revision("east", 1, "dan", at(6)).await.unwrap(), made);
    assert_eq!(store.restore_revision("east", 3, "dan", at(6)).await.unwrap(), made);
    assert!(published(&store, at(7)).await.is_empty());
    assert_eq!(history(&store).await.len(), 3);
    for (group, number) in [("east", 9), ("west", 1)] {
        let refused = store.restore_revision(group, number, "dan", at(8)).await;
        assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
    }

    // Two at once: each is a revision, none is lost.
    let other = fixture.open().await;
    let (a, b) = tokio::join!(
        store.restore_revision("east", 2, "ann", at(9)),
        other.sync_group("east", Vec::new(), "bob", at(9)),
    );
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    let numbers: Vec<u64> = history(&store).await.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    let latest = store.revision("east", 5).await.unwrap();
    assert_eq!(store.group("east").await.unwrap().artifacts, latest.artifacts);
}

pub(crate) async fn the_history_is_bounded_and_ends_with_its_group(fixture: Fixture) {
    let store = fixture.ready().await;
    for n in 1..=HISTORY + 2 {
        set(&store, &[("a/one", &n.to_string())], "ann", n).await;
    }
    let kept = store.revisions("east", page(1, 100)).await.unwrap();
    assert_eq!((kept.total, kept.items[0].number), (100, 102));
    assert_eq!(kept.items[99].number, 3);
    assert!(matches!(store.revision("east", 2).await, Err(StoreError::NotFound { .. })));
    store.delete_group("east", at(200)).await.unwrap();
    assert!(matches!(store.revisions("east", page(1, 1)).await, Err(StoreError::NotFound { .. })));
    // A name that comes back is another group, with a history of its own.
    set(&store, &[("a/one", "1")], "bob", 201).await;
    let numbers: Vec<u64> = history(&store).await.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [1]);
}

pub(crate) async fn what_an_older_program_changed_is_not_lost(fixture: Fixture) {
    let store = fixture.ready().await;
    set(&store, &[("a/one", "1")], "ann", 1).await;
    store.close().await;
    // What a replica of the release before does to the list.
    fixture.execute("UPDATE artifact_groups SET updated_at = 2000").await;
    fixture.execute("UPDATE group_artifacts SET repository = 'a/older'").await;
    let store = fixture.open().await;
    set(&store, &[], "bob", 3).await;
    let told: Vec<_> =
        history(&store).await.into_iter().map(|r| (r.number, r.author, r.added, r.removed)).collect();
    assert_eq!(told, [(3, "bob".to_owned(), 0, 1), (2, String::new(), 1, 1), (1, "ann".to_owned(), 1, 0)]);
    let older = store.restore_revision("east", 2, "bob", at(4)).await.unwrap();
    assert_eq!(older.artifacts[0].repository.as_str(), "a/older");

    // A group from before there were revisions.
    fixture.execute("DELETE FROM group_revisions").await;
    assert!(history(&store).await.is_empty());
    set(&store, &[], "ann", 5).await;
    let told: Vec<_> = history(&store).await.into_iter().map(|r| (r.number, r.author)).collect();
    assert_eq!(told, [(2, "ann".to_owned()), (1, String::new())]);
    assert_eq!(store.revision("east", 1).await.unwrap().artifacts, older.artifacts);
}
