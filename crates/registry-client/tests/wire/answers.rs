//! Answers that are late, broken, too long, too short or untrue.

use std::time::{Duration, Instant};

use crate::hostile::{End, Hostile, Reply};
use crate::setup::client;
use oci::{Digest, Reference, RepositoryName};
use registry_client::{BlobBody, Client, Error, ErrorKind, Fault};

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn repository() -> RepositoryName {
    "library/app".parse().unwrap()
}

fn latest() -> Reference {
    "latest".parse().unwrap()
}

async fn read(body: &mut BlobBody) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn blob(client: &Client, content: &[u8], offset: u64) -> Result<Vec<u8>, Error> {
    read(&mut client.blob(&repository(), &Digest::sha256(content), offset).await?).await
}

#[tokio::test]
async fn asks_for_every_kind_of_manifest() {
    let server = Hostile::start(|_, _| Reply::json(200, MANIFEST)).await;
    let fetched = client(&server.url()).manifest(&repository(), &latest()).await.unwrap();
    assert_eq!(
        (fetched.bytes.as_ref(), fetched.digest),
        (MANIFEST.as_bytes(), Digest::sha256(MANIFEST.as_bytes()))
    );
    let accept = server.requests()[0].header("accept").unwrap().to_owned();
    for media_type in oci::media_type::MANIFESTS {
        assert!(accept.contains(media_type), "{accept}");
    }
}

#[tokio::test]
async fn manifests_are_what_their_digest_says() {
    let told = Digest::sha256(b"something else").to_string();
    let server =
        Hostile::start(move |_, _| Reply::json(200, MANIFEST).header("Docker-Content-Digest", &told)).await;
    let client = client(&server.url());
    let right = Reference::Digest(Digest::sha256(MANIFEST.as_bytes()));
    client.manifest(&repository(), &right).await.unwrap();
    for reference in [latest(), Reference::Digest(Digest::sha256(b"x"))] {
        let error = client.manifest(&repository(), &reference).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Registry, false));
    }
}

#[tokio::test]
async fn endless_manifests_are_refused() {
    let huge = vec![b' '; 5 << 20];
    let server = Hostile::start(move |_, _| Reply::json(200, "").body(&huge)).await;
    let error = client(&server.url()).manifest(&repository(), &latest()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit } if *limit == 4 << 20), "{error}");
}

#[tokio::test]
async fn failures_that_pass_are_tried_again_and_others_are_not() {
    for (status, requests, retryable) in [
        (500, 4, true),
        (502, 4, true),
        (503, 4, true),
        (429, 4, true),
        (404, 1, false),
        (403, 1, false),
        (400, 1, false),
    ] {
        let server = Hostile::start(move |_, _| {
            Reply::status(status).header("Content-Type", "text/html").body("<h1>Bad &amp; ugly</h1><hr>nginx")
        })
        .await;
        let error = client(&server.url()).manifest(&repository(), &latest()).await.unwrap_err();
        assert_eq!(server.requests().len(), requests, "{status}");
        assert_eq!(error.is_retryable(), retryable, "{status}");
        assert!(!error.to_string().contains('<'), "{error}");
        assert!(error.to_string().contains("library/app:latest"), "{error}");
    }
    let server =
        Hostile::start(|_, n| if n < 2 { Reply::status(503) } else { Reply::json(200, MANIFEST) }).await;
    client(&server.url()).manifest(&repository(), &latest()).await.unwrap();
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_a_bound() {
    let server = Hostile::start(|_, n| match n {
        0 => Reply::status(429).header("Retry-After", "1"),
        _ => Reply::json(200, MANIFEST),
    })
    .await;
    let started = Instant::now();
    client(&server.url()).manifest(&repository(), &latest()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    let server = Hostile::start(|_, _| Reply::status(503).header("Retry-After", "3600")).await;
    let error = client(&server.url()).manifest(&repository(), &latest()).await.unwrap_err();
    assert_eq!((error.retry_after(), server.requests().len()), (Some(Duration::from_secs(3600)), 1));
}

#[tokio::test]
async fn nobody_there() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).ping().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)) && error.is_retryable(), "{error}");
    assert_eq!(error.fault(), Fault::Network);
}

#[tokio::test]
async fn blobs_from_the_start_and_from_the_middle() {
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let served = content.clone();
    let server = Hostile::start(move |request, _| Reply::blob(request, &served)).await;
    let client = client(&server.url());
    assert_eq!(blob(&client, &content, 0).await.unwrap(), content);
    assert_eq!(blob(&client, &content, 123_457).await.unwrap(), &content[123_457..]);
    assert_eq!(server.requests()[0].header("range"), None);
    let body = client.blob(&repository(), &Digest::sha256(&content), 5).await.unwrap();
    assert_eq!((body.offset(), body.total()), (5, Some(400_000)));
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    let content = b"0123456789";
    let server = Hostile::start(move |_, _| Reply::status(200).body(content)).await;
    let error = blob(&client(&server.url()), content, 4).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RangeIgnored { offset: 4 }), "{error}");

    for range in ["bytes 0-9/10", "bytes 5-9/10", "bytes 4-20/10", "nonsense"] {
        let server =
            Hostile::start(move |_, _| Reply::status(206).header("Content-Range", range).body(&content[4..]))
                .await;
        let error = blob(&client(&server.url()), content, 4).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RangeMismatch { .. }), "{range}: {error}");
    }
    let server =
        Hostile::start(move |_, _| Reply::status(206).header("Content-Range", "bytes 0-9/10").body(content))
            .await;
    let error = blob(&client(&server.url()), content, 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Malformed(_)), "{error}");
}

#[tokio::test]
async fn lies_about_lengths_are_noticed() {
    let content = b"0123456789";
    // Short: the connection closes before the announced end.
    let server = Hostile::start(move |_, _| Reply::status(200).body(content).cut(6)).await;
    let error = blob(&client(&server.url()), content, 0).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");

    // Another size than the descriptor says.
    let server = Hostile::start(move |_, _| Reply::status(200).body(content)).await;
    let mut body = client(&server.url()).blob(&repository(), &Digest::sha256(content), 0).await.unwrap();
    let error = body.expect_total(11).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Length { expected: 11, actual: 10 }), "{error}");

    // Longer than announced: what is beyond is never handed out.
    let server = Hostile::start(move |_, _| Reply::status(200).body(content).announce(4)).await;
    assert_eq!(blob(&client(&server.url()), content, 0).await.unwrap(), b"0123");
}

#[tokio::test]
async fn a_body_without_a_length_is_held_to_the_size() {
    for (total, expected, fails) in [(10, 10, false), (10, 8, true), (10, 12, true)] {
        let server = Hostile::start(move |_, _| {
            let body = format!("{total:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(total));
            Reply::status(200).header("Transfer-Encoding", "chunked").body(body).without_length()
        })
        .await;
        let mut body = client(&server.url()).blob(&repository(), &Digest::sha256(b""), 0).await.unwrap();
        assert_eq!(body.total(), None);
        body.expect_total(expected).unwrap();
        assert_eq!(read(&mut body).await.is_err(), fails, "{total} for {expected}");
    }
}

#[tokio::test]
async fn silence_is_an_error() {
    let content = b"0123456789";
    let server = Hostile::start(move |_, _| Reply::status(200).body(content).cut(5).end(End::Stall)).await;
    let started = Instant::now();
    let error = blob(&client(&server.url()), content, 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stalled(_)) && error.is_retryable(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_trickle_is_no_progress() {
    let server =
        Hostile::start(|_, _| Reply::status(200).body("x").announce(1 << 20).end(End::Trickle)).await;
    let error = blob(&client(&server.url()), b"", 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stalled(_)), "{error}");
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_no_stall() {
    let server = Hostile::start(|_, _| Reply::status(200).body("0123456789")).await;
    let mut body = client(&server.url()).blob(&repository(), &Digest::sha256(b""), 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(read(&mut body).await.unwrap(), b"0123456789");
}
