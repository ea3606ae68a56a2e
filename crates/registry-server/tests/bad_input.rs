//! What a hostile or unlucky client sends, byte by byte: the right status, nothing half-written, nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "common/registry.rs"]
mod common;

use common::{Registry, read_head, read_to_end};
use oci::{Digest, RepositoryName};
use tokio::io::AsyncWriteExt;

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Paths that no client library would send as they are.
#[tokio::test]
async fn raw_paths() {
    let registry = Registry::writable().await;
    for (path, status, code) in [
        ("/v2/../../etc/passwd/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a/../b/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a/./b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%2f..%2fb/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a%2F%2e%2e/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a/manifests/..%2f..%2fx", 400, "NAME_INVALID"),
        ("/v2/a/manifests/..", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/blobs/..", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:../../../../etc/passwd", 400, "NAME_INVALID"),
        ("/v2//manifests/latest", 400, "NAME_INVALID"),
        ("/v2//", 400, "NAME_INVALID"),
        ("/v2/a//manifests/latest", 400, "NAME_INVALID"),
        ("/v2/%00/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a/manifests/%ff%fe", 400, "NAME_INVALID"),
        ("/v2/a/manifests/latest?ns=%ff", 400, "UNSUPPORTED"),
    ] {
        let answer = registry.raw(&get(path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{path}: {answer}");
    }
}

/// What is no HTTP ends without harm, and the listener goes on.
#[tokio::test]
async fn no_http() {
    let registry = Registry::writable().await;
    let long_header = format!("GET /v2/ HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"HELO example\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        long_header.as_bytes(),
    ] {
        let mut stream = registry.connect().await;
        // The listener may have closed already; what matters is that it answers the next one.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Two lengths in one request are how a second one is smuggled past a proxy: nothing after the first is read.
    let both = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = registry.raw(both).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(registry.raw(&get("/v2/")).await.starts_with("HTTP/1.1 200 "));
}

/// A `ClientHello` to a plain port is answered at once in plain text.
#[tokio::test]
async fn tls_on_a_plain_port() {
    let registry = Registry::writable().await;
    let answer = registry.raw(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196]).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("http://"), "{answer}");
}

/// What an upload has, asked until it is `expected`: the end of a broken connection is noticed by the server when its
/// task gets to it, which nothing outside can await.
async fn offset_becomes(registry: &Registry, location: &str, expected: &str) {
    let mut last = String::new();
    for _ in 0..2000 {
        last = registry.raw(&get(location)).await;
        if last.to_ascii_lowercase().contains(&format!("range: {expected}\r\n")) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("expected {expected}, got {last}");
}

/// A client that goes away in the middle of a body leaves nothing visible and a session that goes on from what came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies() {
    let registry = Registry::writable().await;
    for (method, with_digest) in [("PATCH", false), ("PUT", true)] {
        let salt = method.len().to_le_bytes()[0];
        let content: Vec<u8> =
            (0..200_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1] ^ salt).collect();
        let digest = Digest::sha256(&content);
        let query = if with_digest { format!("?digest={digest}") } else { String::new() };
        let repository: RepositoryName = format!("half/{}", method.to_lowercase()).parse().unwrap();
        let location = registry.begin(repository.as_str()).await;
        let mut stream = registry.connect().await;
        let head = format!(
            "{method} {location}{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&content[..90_000]).await.unwrap();
        drop(stream);
        offset_becomes(&registry, &location, "0-89999").await;
        assert!(registry.store.blob(&repository, &digest).unwrap().is_none());
        assert!(!registry.store.has_blob_anywhere(&digest).unwrap());

        // The rest, from where it broke off.
        let mut rest = format!(
            "PUT {location}?digest={digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Range: 90000-199999\r\nContent-Length: {}\r\n\r\n",
            content.len() - 90_000
        )
        .into_bytes();
        rest.extend_from_slice(&content[90_000..]);
        let answer = registry.raw(&rest).await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{method}: {answer}");
        assert_eq!(registry.store.blob(&repository, &digest).unwrap().unwrap().size(), 200_000);
    }
}

/// A broken transfer coding keeps what came before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_chunks() {
    let registry = Registry::writable().await;
    let location = registry.begin("broken").await;
    let request = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnot a length\r\n"
    );
    let answer = registry.raw(request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    offset_becomes(&registry, &location, "0-4").await;
}

/// A manifest that breaks off is not there, nor is its tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_manifest() {
    let registry = Registry::writable().await;
    let manifest =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let head = format!(
        "PUT /v2/half/manifests/latest HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        oci::media_type::OCI_INDEX,
        manifest.len() + 1
    );
    let mut stream = registry.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // All of a valid document, but not all that was announced.
    stream.write_all(manifest).await.unwrap();
    drop(stream);
    let answer = registry.raw(&get("/v2/half/manifests/latest")).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

/// One session, two writers: the second is told to wait, and the first is not disturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers() {
    let registry = Registry::writable().await;
    let location = registry.begin("busy").await;
    let mut first = registry.connect().await;
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    first.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body once the writer is open.
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 100 "));
    let second = registry
        .raw(
            format!(
                "PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nxyz"
            )
            .as_bytes(),
        )
        .await;
    assert!(second.starts_with("HTTP/1.1 409 "), "{second}");
    first.write_all(b"0123456789").await.unwrap();
    let answer = read_head(&mut first).await;
    assert!(
        answer.starts_with("HTTP/1.1 202 ") && answer.to_ascii_lowercase().contains("range: 0-9\r\n"),
        "{answer}"
    );
}

/// `Expect: 100-continue` is not answered with 100 where the request is refused from its head.
#[tokio::test]
async fn refused_before_the_body() {
    let registry = Registry::writable().await;
    let answer = registry
        .raw(
            b"PUT /v2/a/manifests/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
