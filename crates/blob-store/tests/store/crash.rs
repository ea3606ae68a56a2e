//! A process that writes is killed at any moment, again and again; what it had acknowledged is there, and whole.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use oci::{Digest, Reference};

use crate::support::*;

const CHILD: &str = "BLOB_STORE_TEST_CHILD";
const TEST: &str = "crash::a_kill_at_any_moment_loses_nothing_that_was_acknowledged";
const ROUNDS: u64 = 12;
const LAYER: usize = 300_000;

fn layer(n: u64) -> bytes::Bytes {
    content(n + 7_000_000, LAYER)
}

fn config(n: u64) -> bytes::Bytes {
    content(n, 200)
}

/// Replicates images one after the other, from where the last run stood, and says what is done.
async fn replicate(dir: &Path, first: u64) {
    let store = blob_store::Store::open(dir, options()).unwrap();
    let say = |line: String| writeln!(std::io::stdout().lock(), "{line}").unwrap();
    let name = repository("r");
    for n in first.. {
        for bytes in [config(n), layer(n)] {
            let digest = Digest::sha256(&bytes);
            let mut partial = store.partial(digest, bytes.len() as u64).await.unwrap();
            let mut at = usize::try_from(partial.offset()).unwrap();
            while at < bytes.len() {
                let next = (at + 20_000).min(bytes.len());
                partial.write(bytes.slice(at..next)).await.unwrap();
                at = next;
            }
            say(format!("written {n}"));
            partial.finish(Some(&name)).await.unwrap();
            say(format!("published {n}"));
        }
        put(&store, "r", &image(&config(n), &[&layer(n)]), &["latest", &format!("v{n}")]).await;
        say(format!("acknowledged {n}"));
        if n % 5 == 4 {
            store.delete_manifest(&name, &manifest_of(n - 4)).await.unwrap();
            say(format!("deleted {}", n - 4));
            store.collect_garbage().await.unwrap();
        }
    }
}

fn manifest_of(n: u64) -> Digest {
    Digest::sha256(&image(&config(n), &[&layer(n)]))
}

fn spawn(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, format!("{first}:{}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    if let Ok(told) = std::env::var(CHILD) {
        let (first, dir) = told.split_once(':').unwrap();
        replicate(Path::new(dir), first.parse().unwrap()).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut deleted) = (Vec::new(), Vec::new());
    let mut next = 0;
    for round in 0..ROUNDS {
        let mut child = spawn(dir.path(), next);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: String| {
            let Some((what, n)) = line.split_once(' ') else { return };
            match (what, n.parse::<u64>()) {
                ("acknowledged", Ok(n)) => acknowledged.push(n),
                ("deleted", Ok(n)) => deleted.push(n),
                _ => {}
            }
        };
        // A different moment each time: after so many things it said.
        for line in lines.by_ref().map_while(Result::ok).take(usize::try_from(3 + round * 7 % 23).unwrap()) {
            take(line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(take);
        next = acknowledged.iter().max().map_or(0, |n| n + 1);

        let in_files: Vec<(Digest, u64)> = [config(next), layer(next)]
            .iter()
            .map(|bytes| {
                let digest = Digest::sha256(bytes);
                let partial = dir.path().join(format!("partials/sha256-{}", digest.hex()));
                let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
                (digest, length(&partial).max(length(&file_of(dir.path(), &digest))))
            })
            .collect();
        let store = open(dir.path());
        assert!(!store.was_rebuilt(), "round {round}");
        for (digest, length) in in_files {
            let size = if digest == Digest::sha256(&config(next)) { 200 } else { LAYER as u64 };
            let offset = store.partial(digest, size).await.unwrap().offset();
            assert_eq!(offset, length, "round {round}: no byte that is in a file is asked for again");
        }
        let name = repository("r");
        for n in &acknowledged {
            let found = store.manifest(&name, &Reference::Digest(manifest_of(*n))).unwrap();
            let gone = deleted.contains(n);
            // The delete that was cut may or may not have happened; what was acknowledged has.
            assert!(found.is_some() || gone || n + 4 == next.max(1) - 1, "round {round}: image {n} is lost");
            assert!(!(found.is_some() && gone), "round {round}: image {n} came back");
        }
        for entry in store.manifests(&name, None, 9999).unwrap().items {
            let whole = store.wholeness(&name, &entry.digest).await.unwrap();
            assert!(whole.is_whole(), "round {round}: half an image is visible: {whole:?}");
        }
        assert!(store.scrub(Default::default()).await.unwrap().damaged.is_empty(), "round {round}");
    }
    assert!(next > 0, "something was acknowledged");
}
