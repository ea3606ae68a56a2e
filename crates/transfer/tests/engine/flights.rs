//! One flight per blob, over all copies, and what becomes of it when its passengers leave.

use std::sync::Arc;
use std::time::Duration;

use oci::Digest;
use transfer::{Cause, Event};

use crate::content::{Content, bytes};
use crate::hostile::{End, Reply};
use crate::upstream::{Site, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_ten_images_comes_once() {
    let mut content = Content::default();
    let shared = bytes(1, 2_000_000);
    let images: Vec<Digest> =
        (0..10).map(|n| content.image(n, &[shared.clone(), bytes(50 + n, 1_000)])).collect();
    let (upstream, site) = (Arc::new(Upstream::new(content.clone()).await), Site::new());
    let copies: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(n, image)| {
            let request = upstream.request(&format!("team{}/app{n}", n % 5), *image);
            let engine = site.engine.clone();
            tokio::spawn(async move { engine.copy(&request).await.unwrap() })
        })
        .collect();
    let mut fetched = 0;
    for copy in copies {
        fetched += copy.await.unwrap().bytes_fetched;
    }
    assert_eq!(upstream.asked(&Digest::sha256(&shared)), [0]);
    assert_eq!(fetched, content.unique_bytes());
}

/// Waits for an event.
async fn until(site: &Site, what: impl Fn(&Event) -> bool) {
    for _ in 0..1000 {
        if site.events().iter().any(&what) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {:?}", site.events());
}

/// A layer whose first answer stays silent after its first half.
async fn half_and_silence(layer_size: usize) -> (Arc<Upstream>, Content, Digest, [Digest; 2]) {
    let mut content = Content::default();
    let layer = bytes(1, layer_size);
    let a = content.image(1, std::slice::from_ref(&layer));
    let b = content.image(2, std::slice::from_ref(&layer));
    let upstream = Upstream::with_fault(content.clone(), move |request, blob, number| {
        (blob.len() == layer_size && number == 0)
            .then(|| Reply::blob(request, blob).cut(layer_size / 2).end(End::Stall))
    })
    .await;
    (Arc::new(upstream), content, Digest::sha256(&layer), [a, b])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_outlives_the_copy_that_began_it() {
    let (upstream, content, layer, [a, b]) = half_and_silence(10_000_000).await;
    let site = Site::new();
    let spawn = |repository: &str, image| {
        let (engine, request) = (site.engine.clone(), upstream.request(repository, image));
        tokio::spawn(async move { engine.copy(&request).await })
    };
    let first = spawn("a", a);
    until(&site, |e| matches!(e, Event::BlobProgress { digest, .. } if *digest == layer)).await;
    let second = spawn("b", b);
    // When its config is here, the second copy waits for the layer, too.
    let config = Digest::sha256(content.blobs.values().find(|b| b.ends_with(br#""seed":2}"#)).unwrap());
    until(&site, |e| matches!(e, Event::BlobDone { digest, .. } if *digest == config)).await;
    first.abort();
    let _ = first.await;
    let outcome = second.await.unwrap().unwrap();
    assert_eq!(upstream.asked(&layer), [0, 5_000_000]);
    assert!(outcome.bytes_fetched + outcome.bytes_shared >= 5_000_000);
    assert!(site.has_manifest("b", &b));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_without_passengers_ends_and_is_continued() {
    let (upstream, content, layer, [a, _]) = half_and_silence(10_000_000).await;
    let site = Site::new();
    let request = upstream.request("a", a);
    let engine = site.engine.clone();
    let copy = tokio::spawn(async move { engine.copy(&request).await });
    until(&site, |e| matches!(e, Event::BlobProgress { digest, .. } if *digest == layer)).await;
    copy.abort();
    let _ = copy.await;
    until(&site, |e| matches!(e, Event::BlobStopped { digest } if *digest == layer)).await;
    // The next copy begins a flight of its own, from where the bytes are.
    let outcome = site.engine.copy(&upstream.request("a", a)).await.unwrap();
    let asked = upstream.asked(&layer);
    assert_eq!(asked.len(), 2);
    assert!(asked[1] > 0, "what had arrived was kept: {asked:?}");
    assert!(outcome.bytes_fetched < content.unique_bytes());
    assert!(site.has_manifest("a", &a));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_stops_everything_and_keeps_what_is_here() {
    let (upstream, content, layer, [a, _]) = half_and_silence(10_000_000).await;
    let site = Site::new();
    let (engine, request) = (site.engine.clone(), upstream.request("a", a));
    let copy = tokio::spawn(async move { engine.copy(&request).await });
    until(&site, |e| matches!(e, Event::BlobProgress { digest, .. } if *digest == layer)).await;
    site.engine.shutdown();
    let error = copy.await.unwrap().unwrap_err();
    assert!(matches!(*error.cause, Cause::Stopped) && error.is_retryable(), "{error}");
    let site = site.restart().await;
    site.engine.copy(&upstream.request("a", a)).await.unwrap();
    let asked = upstream.asked(&layer);
    assert!(asked.len() == 2 && asked[1] > 0, "{asked:?}");
    let mut only_a = content;
    only_a.manifests.retain(|digest, _| *digest == a);
    only_a.blobs.retain(|digest, _| *digest == layer);
    site.assert_holds("a", &only_a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_come_in_parallel_up_to_the_limit() {
    let mut content = Content::default();
    let layers: Vec<_> = (0..6).map(|n| bytes(n, 20_000)).collect();
    let image = content.image(1, &layers);
    // Every layer is silent at first, so that all that may be on their way at once are.
    let upstream = Upstream::with_fault(content, |request, blob, number| {
        (blob.len() == 20_000 && number == 0).then(|| Reply::blob(request, blob).cut(5_000).end(End::Stall))
    })
    .await;
    let site = Site::with(|mut options| {
        options.parallel_blobs = 3;
        options
    });
    site.engine.copy(&upstream.request("a", image)).await.unwrap();
    let (mut now, mut most) = (0, 0);
    for event in site.events() {
        match event {
            Event::BlobStarted { .. } => now += 1,
            Event::BlobDone { .. } => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!(most, 3);
}
