use std::os::unix::fs::FileExt;
use std::path::Path;

use blob_store::{Options, ScrubOptions, Store, Verdict};
use oci::{Digest, Reference};

use crate::support::*;

const IMAGES: u64 = 20;

/// A closed store with images `r/<n>:t`.
async fn filled(dir: &Path) -> Vec<Digest> {
    let store = open(dir);
    let mut digests = Vec::new();
    for n in 0..IMAGES {
        digests.push(Digest::sha256(&push_image(&store, &format!("r/{n}"), n, &["t"]).await));
    }
    digests
}

async fn whole_images(store: &Store, digests: &[Digest]) -> usize {
    let mut whole = 0;
    for (n, digest) in digests.iter().enumerate() {
        let name = repository(&format!("r/{n}"));
        let tagged = store.manifest(&name, &Reference::Tag(tag("t"))).unwrap();
        if tagged.is_some_and(|m| m.digest == *digest) {
            assert!(store.wholeness(&name, digest).await.unwrap().is_whole());
            whole += 1;
        }
    }
    whole
}

fn flip(path: &Path, offset: u64, length: usize) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes.iter_mut().for_each(|b| *b ^= 0xff);
    file.write_all_at(&bytes, offset).unwrap();
}

#[tokio::test]
async fn an_index_that_is_gone_or_damaged_is_rebuilt_whole() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path()).await;
    let index = dir.path().join("index.redb");
    let length = std::fs::metadata(&index).unwrap().len();
    let damage: [&dyn Fn(); 6] = [
        &|| std::fs::remove_file(&index).unwrap(),
        &|| flip(&index, 0, 320),
        &|| std::fs::File::options().write(true).open(&index).unwrap().set_len(length / 2).unwrap(),
        &|| std::fs::File::options().write(true).open(&index).unwrap().set_len(0).unwrap(),
        &|| blob_store::durable::write_file(&index, b"this is not a database", 0o600).unwrap(),
        // Two openings that did not come to their end: the index may be what ends them.
        &|| blob_store::durable::write_file(&dir.path().join("index.opening"), &[2], 0o600).unwrap(),
    ];
    for (n, damage) in damage.iter().enumerate() {
        damage();
        let store = open(dir.path());
        assert!(store.was_rebuilt(), "damage {n}");
        assert_eq!(whole_images(&store, &digests).await, digests.len(), "damage {n}");
        assert_eq!(store.usage().unwrap().contents, 3 * IMAGES);
        assert_eq!(store.collect_garbage().await.unwrap(), Default::default());
        drop(store);
        assert!(!open(dir.path()).was_rebuilt());
    }
    assert!(dir.path().join("index.redb.damaged").try_exists().unwrap());
}

#[tokio::test]
async fn a_torn_journal_loses_its_tail_only() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path()).await;
    let journal = dir.path().join("journal/journal");
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::remove_file(dir.path().join("index.redb")).unwrap();
    let file = std::fs::File::options().write(true).open(&journal).unwrap();
    file.set_len(length - 3).unwrap();
    let store = open(dir.path());
    assert_eq!(whole_images(&store, &digests).await, digests.len() - 1);
    // What is new goes where the torn tail was.
    push_image(&store, &format!("r/{}", IMAGES - 1), IMAGES - 1, &["t"]).await;
    drop(store);
    std::fs::remove_file(dir.path().join("index.redb")).unwrap();
    assert_eq!(whole_images(&open(dir.path()), &digests).await, digests.len());
}

#[tokio::test]
async fn a_journal_damaged_in_the_middle_keeps_the_rest_and_no_blob_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path()).await;
    let journal = dir.path().join("journal/journal");
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::remove_file(dir.path().join("index.redb")).unwrap();
    flip(&journal, length / 2, 200);
    let store = open(dir.path());
    let whole = whole_images(&store, &digests).await;
    assert!(whole >= digests.len() - 3 && whole < digests.len(), "{whole}");
    assert!(dir.path().join("journal/journal.damaged").try_exists().unwrap());
    drop(store);

    // With a grace the blobs that lost their manifest are all there to be named again.
    let grace = Options { grace: std::time::Duration::from_secs(3600), ..options() };
    let store = Store::open(dir.path(), grace).unwrap();
    assert!(!store.was_rebuilt(), "the damage was healed by a new journal");
    let report = store.collect_garbage().await.unwrap();
    assert_eq!((report.blobs, store.usage().unwrap().contents), (0, 3 * IMAGES));
    for n in 0..IMAGES {
        let layer = Digest::sha256(&content(n + 1_000_000, 5000));
        assert_eq!(store.partial(layer, 5000).await.unwrap().offset(), 5000);
    }
}

#[tokio::test]
async fn a_damaged_header_and_a_missing_journal_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path()).await;
    let journal = dir.path().join("journal/journal");
    for with_index in [true, false] {
        flip(&journal, 12, 20);
        if !with_index {
            std::fs::remove_file(dir.path().join("index.redb")).unwrap();
        }
        assert_eq!(whole_images(&open(dir.path()), &digests).await, digests.len());
    }
    std::fs::remove_file(&journal).unwrap();
    assert_eq!(whole_images(&open(dir.path()), &digests).await, digests.len());
    std::fs::remove_file(dir.path().join("index.redb")).unwrap();
    assert_eq!(whole_images(&open(dir.path()), &digests).await, digests.len());
}

#[tokio::test]
async fn with_all_metadata_gone_the_files_are_taken_into_account_and_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    std::fs::remove_file(dir.path().join("journal/journal")).unwrap();
    std::fs::remove_file(dir.path().join("index.redb")).unwrap();
    let broken = Digest::sha256(&content(3, 100));
    flip(&file_of(dir.path(), &broken), 5, 1);
    let grace = Options { grace: std::time::Duration::from_secs(3600), ..options() };
    let store = Store::open(dir.path(), grace).unwrap();
    assert_eq!(store.repositories(None, 9).unwrap().items, []);
    let report = store.collect_garbage().await.unwrap();
    assert_eq!((report.orphans, report.blobs), (3 * IMAGES, 0));
    assert_eq!(store.usage().unwrap().contents, 3 * IMAGES - 1);
    assert!(!store.has_blob_anywhere(&broken).unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
}

#[tokio::test]
async fn an_index_of_an_earlier_time_catches_up_and_a_journal_of_one_does_not_pull_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let (index, journal) = (dir.path().join("index.redb"), dir.path().join("journal/journal"));
    push_image(&open(dir.path()), "early", 500, &["t"]).await;
    let (old_index, old_journal) = (std::fs::read(&index).unwrap(), std::fs::read(&journal).unwrap());
    let digests = filled(dir.path()).await;
    blob_store::durable::write_file(&index, &old_index, 0o600).unwrap();
    {
        let store = open(dir.path());
        assert!(!store.was_rebuilt() && store.replayed() > 0);
        assert_eq!(whole_images(&store, &digests).await, digests.len());
    }
    blob_store::durable::write_file(&journal, &old_journal, 0o600).unwrap();
    let store = open(dir.path());
    assert!(!store.was_rebuilt());
    assert_eq!(whole_images(&store, &digests).await, digests.len());
    drop(store);
    std::fs::remove_file(&index).unwrap();
    assert_eq!(whole_images(&open(dir.path()), &digests).await, digests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_only_a_bounded_part_of_the_journal_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = Digest::sha256(&push_image(&store, "r", 1, &[]).await);
    let writers: Vec<_> = (0..16)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..250 {
                    store.set_tag(&repository("r"), &tag(&format!("t{w}-{n}")), &manifest).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir.path(), copy.path());
    let killed = open(copy.path());
    assert!(!killed.was_rebuilt());
    assert!(killed.replayed() <= 1024 + 256, "{}", killed.replayed());
    assert_eq!(killed.tags(&repository("r"), None, 9999).unwrap().items.len(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_grew_is_compacted_beside_the_service_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path()).await;
    let small = Options { journal_slack: 2000, ..options() };
    let journal = dir.path().join("journal/journal");
    {
        let store = Store::open(dir.path(), small.clone()).unwrap();
        for n in 0..600 {
            let (name, digest) = (repository("r/0"), digests[0]);
            store.set_tag(&name, &tag(&format!("moving{}", n % 7)), &digest).await.unwrap();
            store.delete_tag(&name, &tag(&format!("moving{}", n % 7))).await.unwrap();
        }
        store.set_tag(&repository("r/0"), &tag("last"), &digests[0]).await.unwrap();
        assert_eq!(whole_images(&store, &digests).await, digests.len());
    }
    let grown = 1200 * 60;
    assert!(std::fs::metadata(&journal).unwrap().len() < grown, "never compacted");
    for remove_index in [false, true] {
        if remove_index {
            std::fs::remove_file(dir.path().join("index.redb")).unwrap();
        }
        let store = Store::open(dir.path(), small.clone()).unwrap();
        assert_eq!(store.was_rebuilt(), remove_index);
        assert_eq!(whole_images(&store, &digests).await, digests.len());
        let tags = store.tags(&repository("r/0"), None, 99).unwrap().items;
        assert_eq!(tags, ["last", "t"].map(tag));
        assert_eq!(store.usage().unwrap().contents, 3 * IMAGES);
        assert_eq!(store.collect_garbage().await.unwrap().blobs, 0);
    }
}

#[tokio::test]
async fn damaged_content_is_not_served_is_told_and_can_be_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("r");
    let manifest = push_image(&store, "r", 1, &["t"]).await;
    let parent = put(&store, "r", &index(&[&manifest, b"left out"]), &["multi"]).await;
    let (digest, layer) = (Digest::sha256(&manifest), content(1_000_001, 5000));
    let layer_digest = Digest::sha256(&layer);
    let healthy = store.wholeness(&name, &parent).await.unwrap();
    assert!(healthy.is_whole());
    assert_eq!(healthy.absent_children[0].digest, Digest::sha256(b"left out"));

    std::fs::remove_file(file_of(dir.path(), &layer_digest)).unwrap();
    let found = store.wholeness(&name, &parent).await.unwrap();
    assert_eq!(found.missing.iter().map(|d| (d.digest, d.size)).collect::<Vec<_>>(), [(layer_digest, 5000)]);
    assert!(read_blob(&store, "r", &layer_digest).await.is_none());
    put_blob(&store, "r", &layer).await;
    assert!(store.wholeness(&name, &parent).await.unwrap().is_whole());

    // Shorter than it should be.
    let file = std::fs::File::options().write(true).open(file_of(dir.path(), &layer_digest)).unwrap();
    file.set_len(4999).unwrap();
    assert!(read_blob(&store, "r", &layer_digest).await.is_none());
    assert!(!store.has_blob_anywhere(&layer_digest).unwrap());
    let mut partial = store.partial(layer_digest, 5000).await.unwrap();
    assert_eq!(partial.offset(), 0);
    partial.write(layer.clone()).await.unwrap();
    partial.finish(None).await.unwrap();
    assert_eq!(read_blob(&store, "r", &layer_digest).await, Some(layer));

    // Other bytes in a manifest, found when it is read from its file.
    drop(store);
    flip(&file_of(dir.path(), &digest), 3, 1);
    let store = open(dir.path());
    assert_eq!(store.manifest(&name, &Reference::Tag(tag("t"))).unwrap(), None);
    store.sync().await.unwrap();
    let found = store.wholeness(&name, &parent).await.unwrap();
    assert_eq!(found.missing.iter().map(|d| d.digest).collect::<Vec<_>>(), [digest]);
    assert!(!store.wholeness(&name, &digest).await.unwrap().manifest);
    put(&store, "r", &manifest, &["t"]).await;
    assert!(store.wholeness(&name, &parent).await.unwrap().is_whole());
    assert_eq!(store.manifest(&name, &Reference::Tag(tag("t"))).unwrap().unwrap().bytes, manifest);
}

#[tokio::test]
async fn a_scrub_finds_flipped_bits_and_sets_the_file_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    push_image(&store, "r", 1, &["t"]).await;
    let layer = content(1_000_001, 5000);
    let digest = Digest::sha256(&layer);
    let report = store.scrub(ScrubOptions::default()).await.unwrap();
    assert_eq!((report.checked, report.damaged.len()), (3, 0));
    assert_eq!(store.verify_blob(&digest).await.unwrap(), Verdict::Whole);
    flip(&file_of(dir.path(), &digest), 4000, 1);
    let report = store.scrub(ScrubOptions { bytes_per_second: 100 << 20 }).await.unwrap();
    assert_eq!(report.damaged, [digest]);
    assert!(read_blob(&store, "r", &digest).await.is_none());
    assert_eq!(store.verify_blob(&digest).await.unwrap(), Verdict::Missing);
    assert_eq!(std::fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
    put_blob(&store, "r", &layer).await;
    assert_eq!(store.verify_blob(&digest).await.unwrap(), Verdict::Whole);
    assert_eq!(store.verify_blob(&Digest::sha256(b"no")).await.unwrap(), Verdict::Missing);
}

#[tokio::test]
async fn a_wiped_directory_of_blobs_is_told_and_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = push_image(&store, "r", 1, &["t"]).await;
    std::fs::remove_dir_all(dir.path().join("blobs")).unwrap();
    let found = store.wholeness(&repository("r"), &Digest::sha256(&manifest)).await.unwrap();
    assert!(!found.is_whole() && !found.manifest);
    assert_eq!(store.usage().unwrap().manifests, 1);
    push_image(&store, "r", 1, &["t"]).await;
    assert!(store.wholeness(&repository("r"), &Digest::sha256(&manifest)).await.unwrap().is_whole());
    store.collect_garbage().await.unwrap();
    assert_eq!(store.usage().unwrap().contents, 3);
}

#[tokio::test]
async fn a_store_that_is_wiped_under_a_running_process_is_filled_again_and_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = Digest::sha256(&push_image(&store, "r", 1, &["t"]).await);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    assert!(!store.wholeness(&repository("r"), &digest).await.unwrap().is_whole());
    for bytes in [content(1, 100), content(1_000_001, 5000)] {
        let mut partial = store.partial(Digest::sha256(&bytes), bytes.len() as u64).await.unwrap();
        assert_eq!(partial.offset(), 0);
        partial.write(bytes).await.unwrap();
        partial.finish(Some(&repository("r"))).await.unwrap();
    }
    push_image(&store, "r", 1, &["t"]).await;
    assert!(store.wholeness(&repository("r"), &digest).await.unwrap().is_whole());
    drop(store);
    let store = open(dir.path());
    assert!(store.wholeness(&repository("r"), &digest).await.unwrap().is_whole());
}
