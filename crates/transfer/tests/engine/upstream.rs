//! An upstream registry over made content, which a test can make misbehave; and engines beside it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blob_store::Store;
use oci::{Digest, RepositoryName, media_type};
use registry_client::{Client, ClientOptions, RetryPolicy};
use serde_json::json;
use transfer::{CopyRequest, Engine, EngineOptions, Event, LocalDestination, RegistrySource};

use crate::content::Content;
use crate::hostile::{Hostile, Reply, Request};

/// What a test does to an answer: `None` leaves it as it is. The number counts the requests for this blob.
type Fault = Box<dyn Fn(&Request, &[u8], usize) -> Option<Reply> + Send + Sync>;

pub(crate) struct Upstream {
    pub(crate) server: Hostile,
    content: Arc<Mutex<Content>>,
}

impl Upstream {
    pub(crate) async fn new(content: Content) -> Self {
        Self::with_fault(content, |_, _, _| None).await
    }

    /// `fault` is asked before each blob is served.
    pub(crate) async fn with_fault(
        content: Content,
        fault: impl Fn(&Request, &[u8], usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let content = Arc::new(Mutex::new(content));
        let held = content.clone();
        let fault: Fault = Box::new(fault);
        let counts = Mutex::new(std::collections::HashMap::<Digest, usize>::new());
        let server = Hostile::start(move |request, _| {
            let content = held.lock().unwrap();
            let Some((_, kind, name)) = split(request.path()) else { return Reply::json(200, "{}") };
            match kind {
                "manifests" => {
                    let digest = content.tags.get(name).copied().or_else(|| name.parse().ok());
                    match digest.and_then(|d| content.manifests.get(&d).map(|m| (d, m))) {
                        Some((digest, (media_type, bytes))) => Reply::status(200)
                            .header("Content-Type", media_type)
                            .header("Docker-Content-Digest", &digest.to_string())
                            .body(bytes),
                        None => Reply::json(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
                    }
                }
                "referrers" => {
                    let listed = name.parse().ok().and_then(|d| content.referrers.get(&d).cloned());
                    let index = json!({"schemaVersion": 2, "manifests": listed.unwrap_or_default()});
                    Reply::status(200).header("Content-Type", media_type::OCI_INDEX).body(index.to_string())
                }
                _ => {
                    let Some(blob) = name.parse().ok().and_then(|d: Digest| content.blobs.get(&d)) else {
                        return Reply::json(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#);
                    };
                    let number = {
                        let mut counts = counts.lock().unwrap();
                        let count = counts.entry(name.parse().unwrap()).or_insert(0);
                        *count += 1;
                        *count - 1
                    };
                    fault(request, blob, number).unwrap_or_else(|| Reply::blob(request, blob))
                }
            }
        })
        .await;
        Self { server, content }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.content.lock().unwrap());
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.server.url())
    }

    pub(crate) fn request(&self, repository: &str, digest: Digest) -> CopyRequest {
        let repository: RepositoryName = repository.parse().unwrap();
        let source = RegistrySource::new(&self.client(), repository.clone());
        CopyRequest { referrers: false, ..CopyRequest::new(Arc::new(source), repository, digest) }
    }

    /// Requests for this blob or manifest, as the offsets asked for.
    pub(crate) fn asked(&self, digest: &Digest) -> Vec<usize> {
        let wanted = digest.to_string();
        let requests = self.server.requests();
        requests.iter().filter(|r| r.path().ends_with(&wanted)).map(|r| r.range().unwrap_or(0)).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

pub(crate) fn client(url: &str) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = ClientOptions {
        retry: RetryPolicy { attempts: 3, ..quick() },
        stall_timeout: Duration::from_millis(500),
        ..ClientOptions::default()
    };
    Client::new(url.parse().unwrap(), options).unwrap()
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: 6,
        base: Duration::from_millis(2),
        max: Duration::from_millis(10),
        max_retry_after: Duration::from_secs(1),
    }
}

/// `/v2/<repository>/<kind>/<name>` in its parts.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let path = path.strip_prefix("/v2/")?;
    let (rest, name) = path.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    Some((repository, kind, name))
}

/// A satellite's side: a store in a directory of its own, an engine, and what it told.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), |options| options)
    }

    pub(crate) fn with(change: impl FnOnce(EngineOptions) -> EngineOptions) -> Self {
        Self::open(tempfile::tempdir().unwrap(), change)
    }

    pub(crate) fn open(
        directory: tempfile::TempDir,
        change: impl FnOnce(EngineOptions) -> EngineOptions,
    ) -> Self {
        let store = Store::open(directory.path(), blob_store::Options::default()).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = events.clone();
        let options = change(EngineOptions {
            retry: quick(),
            observer: Arc::new(move |event: &Event| heard.lock().unwrap().push(event.clone())),
            ..EngineOptions::default()
        });
        let engine = Engine::new(Arc::new(LocalDestination::new(store.clone())), options);
        Self { directory, store, engine, events }
    }

    /// Ends the engine and the store, as the end of the process does, and starts both again.
    pub(crate) async fn restart(self) -> Self {
        let Self { directory, store, engine, .. } = self;
        engine.shutdown();
        drop(engine);
        drop(store);
        // The last task that held the store lets go of its lock.
        for _ in 0..500 {
            match Store::open(directory.path(), blob_store::Options::default()) {
                Ok(probe) => {
                    drop(probe);
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        Self::open(directory, |options| options)
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.store.resolve_tag(&repository.parse().unwrap(), &tag.parse().unwrap()).unwrap()
    }

    /// Whether everything of this content is here, byte for byte.
    pub(crate) async fn assert_holds(&self, repository: &str, content: &Content) {
        let repository: RepositoryName = repository.parse().unwrap();
        for (digest, (media_type, bytes)) in &content.manifests {
            let held = self.store.manifest(&repository, &(*digest).into()).unwrap();
            let held = held.unwrap_or_else(|| panic!("manifest {digest} is missing"));
            assert_eq!((&held.media_type, held.bytes.as_ref()), (media_type, bytes.as_slice()));
        }
        for (digest, bytes) in &content.blobs {
            let held = self.store.blob(&repository, digest).unwrap();
            let held = held.unwrap_or_else(|| panic!("blob {digest} is missing"));
            assert_eq!(held.read_all(1 << 30).await.unwrap(), bytes.as_slice());
        }
    }

    pub(crate) fn has_manifest(&self, repository: &str, digest: &Digest) -> bool {
        self.store.manifest(&repository.parse().unwrap(), &(*digest).into()).unwrap().is_some()
    }
}
