//! Connections that break, and registries that lie.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use oci::Digest;
use transfer::{Cause, Event, SourceErrorKind};

use crate::content::{Content, bytes};
use crate::hostile::{End, Reply};
use crate::upstream::{Site, Upstream};

const REPOSITORY: &str = "library/app";

fn one_layer(size: usize) -> (Content, Digest, Vec<u8>) {
    let mut content = Content::default();
    let layer = bytes(77, size);
    let image = content.image(1, std::slice::from_ref(&layer));
    (content, image, layer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_blob_is_continued_and_no_byte_comes_twice() {
    let (content, image, layer) = one_layer(3_000_000);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = sent.clone();
    let big = layer.clone();
    let upstream = Upstream::with_fault(content.clone(), move |request, blob, number| {
        if blob != big {
            return None;
        }
        let from = request.range().unwrap_or(0);
        let cut = [400_001, 1, 1_000_000, 65_536, 7].get(number).copied();
        let rest = blob.len() - from;
        seen.lock().unwrap().push((from, cut.unwrap_or(rest).min(rest)));
        Some(match cut {
            Some(cut) => Reply::blob(request, blob).cut(cut),
            None => Reply::blob(request, blob),
        })
    })
    .await;
    let site = Site::new();
    let outcome = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap();
    site.assert_holds(REPOSITORY, &content).await;
    // Each request begins where the last one ended.
    let mut position = 0;
    for (from, length) in sent.lock().unwrap().iter() {
        assert_eq!(*from, position);
        position += length;
    }
    assert_eq!(position, layer.len());
    assert_eq!(outcome.bytes_fetched, content.unique_bytes());
    assert!(site.events().iter().any(|e| matches!(e, Event::Retrying { position: 400_001, .. })));
    assert!(site.events().iter().any(|e| matches!(e, Event::Resumed { position: 400_001, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_gets_nowhere_is_given_up_and_continued_later() {
    let (content, image, layer) = one_layer(500_000);
    let generous = Arc::new(AtomicUsize::new(0));
    let allowed = generous.clone();
    let upstream = Upstream::with_fault(content.clone(), move |request, blob, _| {
        (blob.len() == 500_000 && allowed.load(Ordering::SeqCst) == 0)
            .then(|| Reply::blob(request, blob).cut(10_000))
    })
    .await;
    let site = Site::new();
    let error = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let digest = Digest::sha256(&layer);
    let asked = upstream.asked(&digest);
    assert_eq!(asked, [0, 10_000, 20_000, 30_000, 40_000, 50_000]);
    generous.store(1, Ordering::SeqCst);
    // The next try, by another process, goes on from there.
    let site = site.restart().await;
    site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap();
    assert_eq!(upstream.asked(&digest).last(), Some(&60_000));
    site.assert_holds(REPOSITORY, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection_and_not_the_transfer() {
    let (content, image, layer) = one_layer(300_000);
    let upstream = Upstream::with_fault(content.clone(), |request, blob, number| {
        (blob.len() == 300_000 && number == 0)
            .then(|| Reply::blob(request, blob).cut(100_000).end(End::Stall))
    })
    .await;
    let site = Site::new();
    site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap();
    assert_eq!(upstream.asked(&Digest::sha256(&layer)), [0, 100_000]);
    site.assert_holds(REPOSITORY, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_ignores_ranges_is_read_from_its_beginning() {
    let (content, image, layer) = one_layer(300_000);
    let upstream = Upstream::with_fault(content.clone(), |_, blob, number| {
        (blob.len() == 300_000).then(|| {
            let whole = Reply::status(200).body(blob);
            if number == 0 { whole.cut(120_000) } else { whole }
        })
    })
    .await;
    let site = Site::new();
    let outcome = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap();
    site.assert_holds(REPOSITORY, &content).await;
    assert_eq!(upstream.asked(&Digest::sha256(&layer)), [0, 120_000, 0]);
    assert_eq!(outcome.bytes_fetched, content.unique_bytes() + 120_000);
    assert!(site.events().iter().any(|e| matches!(e, Event::RangeIgnored { skipped: 120_000, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_bounded() {
    let (content, image, layer) = one_layer(3_000_000);
    // Ignores ranges, and always breaks before its end, each time a little later.
    let upstream = Upstream::with_fault(content, |_, blob, number| {
        (blob.len() == 3_000_000).then(|| Reply::status(200).body(blob).cut(100_000 + number * 20_000))
    })
    .await;
    let site = Site::new();
    let error = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::Source(_)), "{error}");
    assert!(upstream.asked(&Digest::sha256(&layer)).len() <= 12);
    assert!(!site.has_manifest(REPOSITORY, &image));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_range_is_refused() {
    let (content, image, _) = one_layer(300_000);
    let upstream = Upstream::with_fault(content, |request, blob, _| {
        (blob.len() == 300_000).then(|| match request.range() {
            None => Reply::blob(request, blob).cut(50_000),
            Some(_) => Reply::status(206).header("Content-Range", "bytes 0-299999/300000").body(blob),
        })
    })
    .await;
    let site = Site::new();
    let error = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap_err();
    assert!(matches!(&*error.cause, Cause::Source(e) if e.kind == SourceErrorKind::Corrupt), "{error}");
    assert!(!site.has_manifest(REPOSITORY, &image));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_get_one_more_chance() {
    for always in [false, true] {
        let (content, image, layer) = one_layer(300_000);
        let upstream = Upstream::with_fault(content.clone(), move |_, blob, number| {
            (blob.len() == 300_000 && (always || number == 0))
                .then(|| Reply::status(200).body(bytes(5, 300_000)))
        })
        .await;
        let site = Site::new();
        let mut request = upstream.request(REPOSITORY, image);
        request.tags = vec!["t".parse().unwrap()];
        let copied = site.engine.copy(&request).await;
        let digest = Digest::sha256(&layer);
        assert_eq!(upstream.asked(&digest), [0, 0]);
        assert!(site.events().iter().any(|e| matches!(e, Event::Mismatch { .. })));
        if always {
            let error = copied.unwrap_err();
            assert!(matches!(*error.cause, Cause::Mismatch(_)) && !error.is_retryable(), "{error}");
            assert!(!site.has_manifest(REPOSITORY, &image));
            assert_eq!(site.tag(REPOSITORY, "t"), None);
            assert!(!site.store.has_blob_anywhere(&digest).unwrap());
        } else {
            copied.unwrap();
            site.assert_holds(REPOSITORY, &content).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_with_wrong_bytes_starts_once_more() {
    let (content, image, layer) = one_layer(300_000);
    let upstream = Upstream::with_fault(content.clone(), |request, blob, number| {
        (blob.len() == 300_000).then(|| match number {
            0 => Reply::status(200).body(bytes(5, 300_000)).cut(100_000),
            _ => Reply::blob(request, blob),
        })
    })
    .await;
    let site = Site::new();
    site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap();
    assert_eq!(upstream.asked(&Digest::sha256(&layer)), [0, 100_000, 0]);
    site.assert_holds(REPOSITORY, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_lengths_than_the_descriptors_are_refused() {
    for size in [299_999, 300_001] {
        let (content, image, _) = one_layer(300_000);
        let upstream = Upstream::with_fault(content, move |_, blob, _| {
            (blob.len() == 300_000).then(|| Reply::status(200).body(bytes(77, size)))
        })
        .await;
        let site = Site::new();
        let error = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap_err();
        assert!(matches!(&*error.cause, Cause::Source(e) if e.kind == SourceErrorKind::Corrupt), "{error}");
    }
    // More than the descriptor says, and no length announced.
    let (content, image, _) = one_layer(300_000);
    let upstream = Upstream::with_fault(content, move |_, blob, _| {
        (blob.len() == 300_000).then(|| Reply::status(200).body(bytes(77, 400_000)).without_length())
    })
    .await;
    let site = Site::new();
    let error = site.engine.copy(&upstream.request(REPOSITORY, image)).await.unwrap_err();
    assert!(matches!(&*error.cause, Cause::Source(e) if e.kind == SourceErrorKind::Corrupt), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_connections_break_every_byte_comes_once() {
    for seed in 1..=5_u64 {
        let mut content = Content::default();
        let layers: Vec<_> = (0..8).map(|n| bytes(seed * 100 + n, 30_000 + 40_000 * n as usize)).collect();
        let image = content.image(seed, &layers);
        let sent = Arc::new(AtomicUsize::new(0));
        let (total, dice) = (sent.clone(), AtomicUsize::new(seed as usize));
        let upstream = Upstream::with_fault(content.clone(), move |request, blob, _| {
            let roll = dice.fetch_add(0x9E37_79B9, Ordering::SeqCst).wrapping_mul(0x2545_F491) >> 7;
            let rest = blob.len() - request.range().unwrap_or(0);
            // Two of three connections break, somewhere; some of them before the first byte.
            let length = if roll % 3 == 0 { rest } else { (roll / 3) % rest };
            total.fetch_add(length, Ordering::SeqCst);
            Some(Reply::blob(request, blob).cut(length))
        })
        .await;
        let mut site = Site::new();
        let mut copied = false;
        for _ in 0..100 {
            match site.engine.copy(&upstream.request(REPOSITORY, image)).await {
                Ok(_) => {
                    copied = true;
                    break;
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            site = site.restart().await;
        }
        assert!(copied);
        site.assert_holds(REPOSITORY, &content).await;
        let unique: usize = content.blobs.values().map(Vec::len).sum();
        assert_eq!(sent.load(Ordering::SeqCst), unique, "seed {seed}");
    }
}
