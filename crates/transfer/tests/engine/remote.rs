//! Another registry as the destination: Debian's `docker-registry`, which has no referrers API and no mount
//! without a source, and our own server.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::serve::ListenerExt;
use oci::{Digest, Reference, RepositoryName};
use registry_client::{Client, RetryPolicy};
use transfer::{Cause, CopyRequest, Engine, EngineOptions, Event, RegistrySource, RemoteDestination};

use crate::content::{Content, bytes};
use crate::hostile::Reply;
use crate::upstream::{Site, Upstream, client};

const REPOSITORY: &str = "library/app";

/// A running registry of some kind.
struct Registry {
    client: Client,
    _directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Debian's registry.
async fn docker_registry() -> Registry {
    let directory = tempfile::tempdir().unwrap();
    // The port is free when it is asked for; should another take it, the registry ends and the next is tried.
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            storage.display()
        );
        std::io::Write::write_all(&mut std::fs::File::create(&config).unwrap(), text.as_bytes()).unwrap();
        let started = Command::new("docker-registry")
            .args(["serve".as_ref(), config.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => panic!(
                "docker-registry does not start ({error}): install Debian's package docker-registry, \
                 as `cargo xtask test transfer` does"
            ),
        };
        let client = client(&format!("http://127.0.0.1:{port}"));
        for _ in 0..200 {
            if client.ping().await.is_ok() {
                return Registry { client, _directory: directory, child: Some(child) };
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    panic!("docker-registry does not come up");
}

/// Our own registry server on a store. Counts its connections.
async fn own_registry() -> Registry {
    own_registry_counting(Arc::default()).await
}

async fn own_registry_counting(connections: Arc<AtomicUsize>) -> Registry {
    let directory = tempfile::tempdir().unwrap();
    let store = blob_store::Store::open(directory.path(), blob_store::Options::default()).unwrap();
    let router = registry_server::router(
        store,
        Arc::new(registry_server::FullAccess),
        registry_server::Options::default(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let listener = listener.tap_io(move |_| {
        connections.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Registry { client: client(&url), _directory: directory, child: None }
}

async fn registries() -> Vec<Registry> {
    vec![own_registry().await, docker_registry().await]
}

type Events = Arc<Mutex<Vec<Event>>>;

fn engine(registry: &Registry) -> (Engine, Events) {
    let events = Events::default();
    let heard = events.clone();
    let retry = RetryPolicy { attempts: 4, base: Duration::from_millis(2), ..RetryPolicy::default() };
    let observer = Arc::new(move |event: &Event| heard.lock().unwrap().push(event.clone()));
    let options = EngineOptions { retry, observer, ..EngineOptions::default() };
    (Engine::new(Arc::new(RemoteDestination::new(registry.client.clone())), options), events)
}

async fn assert_holds(client: &Client, repository: &str, content: &Content) {
    let repository: RepositoryName = repository.parse().unwrap();
    for (digest, (_, bytes)) in &content.manifests {
        let held = client.manifest(&repository, &Reference::Digest(*digest)).await.unwrap();
        assert_eq!(held.bytes, bytes.as_slice());
    }
    for (digest, expected) in &content.blobs {
        let mut body = client.blob(&repository, digest, 0).await.unwrap();
        let mut held = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            held.extend_from_slice(&chunk);
        }
        assert_eq!(&held, expected);
    }
}

fn signed_index() -> (Content, Digest, Digest) {
    let mut content = Content::default();
    let shared = bytes(1, 700_000);
    let amd64 = content.image(1, &[shared.clone(), bytes(2, 5_000)]);
    let arm64 = content.image(2, &[shared, bytes(3, 6_000)]);
    let index = content.index(&[(amd64, Some("linux/amd64")), (arm64, Some("linux/arm64"))]);
    let signature = content.referrer(&index, b"signature");
    (content, index, signature)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_index_arrives_whole_and_once() {
    for registry in registries().await {
        let (content, index, signature) = signed_index();
        let upstream = Upstream::new(content.clone()).await;
        let (engine, _) = engine(&registry);
        let mut request = upstream.request(REPOSITORY, index);
        request.tags = vec!["1.0".parse().unwrap(), "latest".parse().unwrap()];
        request.referrers = true;
        let outcome = engine.copy(&request).await.unwrap();
        assert_eq!((outcome.bytes_fetched, outcome.tags_moved), (content.unique_bytes(), 2));
        assert_holds(&registry.client, REPOSITORY, &content).await;
        let repository: RepositoryName = REPOSITORY.parse().unwrap();
        let latest = registry.client.manifest(&repository, &"latest".parse().unwrap()).await.unwrap();
        assert_eq!(latest.digest, index);
        // By the API, or by the tag where there is none.
        let referrers = registry.client.referrers(&repository, &index, None).await.unwrap();
        assert_eq!(referrers.descriptors.iter().map(|d| d.digest).collect::<Vec<_>>(), [signature]);
        assert_eq!(
            referrers.descriptors[0].artifact_type.as_deref(),
            Some("application/vnd.example.signature")
        );

        let before = upstream.requests();
        request.referrers = false;
        let again = engine.copy(&request).await.unwrap();
        assert_eq!((upstream.requests(), again.changed()), (before, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_gets_its_blobs_by_mount() {
    for registry in registries().await {
        let (content, index, _) = signed_index();
        let upstream = Upstream::new(content.clone()).await;
        let (engine, events) = engine(&registry);
        engine.copy(&upstream.request(REPOSITORY, index)).await.unwrap();
        let blobs = || upstream.server.lines().iter().filter(|l| l.contains("/blobs/")).count();
        let before = blobs();
        engine.copy(&upstream.request("other/place", index)).await.unwrap();
        assert_eq!(blobs(), before, "no blob is asked for again");
        assert!(events.lock().unwrap().iter().any(|e| matches!(e, Event::BlobLinked { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_at_once_share_a_flight() {
    for registry in registries().await {
        let (content, index, _) = signed_index();
        let shared = Digest::sha256(&bytes(1, 700_000));
        let upstream = Upstream::new(content.clone()).await;
        let (engine, _) = engine(&registry);
        let (a, b) = (upstream.request("a", index), upstream.request("b", index));
        let (a, b) = tokio::join!(engine.copy(&a), engine.copy(&b));
        a.unwrap();
        b.unwrap();
        assert_eq!(upstream.asked(&shared), [0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_continued_within_one_push() {
    for registry in registries().await {
        let (content, index, _) = signed_index();
        let shared = Digest::sha256(&bytes(1, 700_000));
        let upstream = Upstream::with_fault(content.clone(), |request, blob, number| {
            (blob.len() == 700_000 && number < 2).then(|| Reply::blob(request, blob).cut(200_000))
        })
        .await;
        let (engine, _) = engine(&registry);
        engine.copy(&upstream.request(REPOSITORY, index)).await.unwrap();
        assert_eq!(upstream.asked(&shared), [0, 200_000, 400_000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_arrive() {
    for registry in registries().await {
        let (content, index, _) = signed_index();
        let shared = Digest::sha256(&bytes(1, 700_000));
        let upstream = Upstream::with_fault(content.clone(), |_, blob, _| {
            (blob.len() == 700_000).then(|| Reply::status(200).body(bytes(9, 700_000)))
        })
        .await;
        let (engine, _) = engine(&registry);
        let error = engine.copy(&upstream.request(REPOSITORY, index)).await.unwrap_err();
        assert!(matches!(*error.cause, Cause::Mismatch(_)), "{error}");
        let repository: RepositoryName = REPOSITORY.parse().unwrap();
        assert!(registry.client.has_blob(&repository, &shared).await.unwrap().is_none());
        assert!(registry.client.head_manifest(&repository, &index.into()).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_registry_to_registry_to_site_over_few_connections() {
    let connections = Arc::new(AtomicUsize::new(0));
    let registry = own_registry_counting(connections.clone()).await;
    let (mut content, index, _) = signed_index();
    let many: Vec<_> = (0..40).map(|n| bytes(1_000 + n, 3_000)).collect();
    let big = content.image(3, &many);
    let top = content.index(&[(index, None), (big, None)]);
    let upstream = Upstream::new(content.clone()).await;
    let (engine, _) = engine(&registry);
    let mut request = upstream.request(REPOSITORY, top);
    request.referrers = true;
    engine.copy(&request).await.unwrap();

    // A satellite that pulls from there: everything arrives, in connections that are used again.
    let before = connections.load(Ordering::SeqCst);
    let downstream = client(registry.client.endpoint().to_string().as_str());
    let repository: RepositoryName = REPOSITORY.parse().unwrap();
    let source = RegistrySource::new(&downstream, repository.clone());
    let site = Site::new();
    let outcome = site.engine.copy(&CopyRequest::new(Arc::new(source), repository, top)).await.unwrap();
    site.assert_holds(REPOSITORY, &content).await;
    assert_eq!(outcome.bytes_fetched, content.unique_bytes());
    assert!(outcome.requests > 45);
    let opened = connections.load(Ordering::SeqCst) - before;
    assert!(opened <= 10, "{opened} connections for {} requests", outcome.requests);
}
