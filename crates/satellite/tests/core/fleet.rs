//! A central registry with content, and a satellite that follows it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use blob_store::{Options, Store};
use bytes::Bytes;
use fleet_protocol::registration::{RegistryCredentials, StateConfig};
use fleet_protocol::state_image::StateImage;
use oci::{Descriptor, Digest, PlatformFilter, Reference, RepositoryName, Tag, media_type};
use registry_client::{Client, ClientOptions};
use registry_server::FullAccess;
use satellite::config::{Effective, IdentitySettings, Layer, LiveConfig, Runtimes, Site};
use satellite::delivery::Offers;
use satellite::device::DeviceFacts;
use satellite::events::Events;
use satellite::schedulers::{Core, Parts};
use satellite::sealed::Vault;
use satellite::status::{Status, StatusBoard};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Long enough for a machine that does other things at the same time.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const STATE_REPOSITORY: &str = "satellite/satellite-state/edge-01/state";

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// What goes wrong at the registry.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Everything is 503.
    pub(crate) down: bool,
    /// Requests whose path holds one of these are 404.
    pub(crate) missing: Vec<String>,
    /// Requests whose path holds one of these wait until it is removed.
    pub(crate) held: Vec<String>,
    /// `DELETE` of a tag is 405.
    pub(crate) keeps_tags: bool,
    /// Every request as `METHOD path`.
    pub(crate) log: Vec<String>,
}

/// A registry in this process.
pub(crate) struct Registry {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) released: Arc<Notify>,
    server: JoinHandle<()>,
    _dir: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Gate {
    faults: Arc<Mutex<Faults>>,
    released: Arc<Notify>,
}

async fn gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    loop {
        let released = gate.released.notified();
        {
            let mut faults = gate.faults.lock().unwrap();
            if faults.down {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            if faults.missing.iter().any(|part| path.contains(part)) {
                return StatusCode::NOT_FOUND.into_response();
            }
            let is_tag = path.contains("/manifests/") && !path.contains("sha256:");
            if faults.keeps_tags && request.method() == Method::DELETE && is_tag {
                return StatusCode::METHOD_NOT_ALLOWED.into_response();
            }
            if !faults.held.iter().any(|part| path.contains(part)) {
                faults.log.push(format!("{} {path}", request.method()));
                break;
            }
        }
        released.await;
    }
    next.run(request).await
}

/// An image that was pushed: its digest, and those of its layers.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) layers: Vec<Digest>,
    pub(crate) bytes: Bytes,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let faults = Arc::<Mutex<Faults>>::default();
        let released = Arc::new(Notify::new());
        let state = Gate { faults: faults.clone(), released: released.clone() };
        let router: Router =
            registry_server::router(store.clone(), Arc::new(FullAccess), registry_server::Options::default());
        let router = router.layer(middleware::from_fn_with_state(state, gate));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = Client::new(url.parse().unwrap(), ClientOptions::default()).unwrap();
        Self { url, store, client, faults, released, server, _dir: dir }
    }

    pub(crate) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
        self.released.notify_waiters();
    }

    /// Requests since the last time that this was asked.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.faults.lock().unwrap().log)
    }

    pub(crate) async fn push_blob(&self, repository: &RepositoryName, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::sha256(&bytes);
        let size = bytes.len() as u64;
        let content = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
        self.client.push_blob(repository, &digest, size, content).await.unwrap();
        Descriptor::new(media_type::OCI_LAYER, digest, size)
    }

    async fn put(
        &self,
        repository: &RepositoryName,
        tag: Option<&str>,
        kind: &str,
        document: &Value,
    ) -> Image {
        let bytes = Bytes::from(document.to_string());
        let digest = Digest::sha256(&bytes);
        let reference = tag.map_or(Reference::Digest(digest), |tag| Reference::Tag(tag.parse().unwrap()));
        self.client.put_manifest(repository, &reference, kind, bytes.clone()).await.unwrap();
        let layers = document["layers"].as_array().into_iter().flatten();
        let layers = layers.map(|layer| layer["digest"].as_str().unwrap().parse().unwrap()).collect();
        Image { digest, size: bytes.len() as u64, layers, bytes }
    }

    /// An image of two layers, the first of which all images share.
    pub(crate) async fn image(&self, name: &str, tag: Option<&str>, seed: &str) -> Image {
        let repository = repository(name);
        let mut config = self.push_blob(&repository, format!("{{\"seed\":{seed:?}}}").into_bytes()).await;
        config.media_type = media_type::OCI_CONFIG.to_owned();
        let shared = self.push_blob(&repository, vec![7; 4096]).await;
        let own = self.push_blob(&repository, seed.repeat(3000).into_bytes()).await;
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [shared, own],
        });
        self.put(&repository, tag, media_type::OCI_MANIFEST, &document).await
    }

    /// An index over these images.
    pub(crate) async fn index(&self, name: &str, tag: Option<&str>, children: &[(&Image, &str)]) -> Image {
        let manifests: Vec<Value> = children
            .iter()
            .map(|(image, architecture)| {
                json!({
                    "mediaType": media_type::OCI_MANIFEST, "digest": image.digest, "size": image.size,
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let document =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
        self.put(&repository(name), tag, media_type::OCI_INDEX, &document).await
    }

    /// Something that refers to an image, such as a signature.
    pub(crate) async fn referrer(&self, name: &str, subject: &Image, kind: &str, seed: &str) -> Image {
        let repository = repository(name);
        let mut config = self.push_blob(&repository, b"{}".to_vec()).await;
        config.media_type = media_type::OCI_EMPTY.to_owned();
        let layer = self.push_blob(&repository, seed.as_bytes().to_vec()).await;
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.test.signature",
            "config": config, "layers": [layer],
            "subject": {"mediaType": kind, "digest": subject.digest, "size": subject.size},
        });
        self.put(&repository, None, media_type::OCI_MANIFEST, &document).await
    }

    /// Publishes a state document.
    pub(crate) async fn publish(&self, name: &str, document: &Value) -> Digest {
        let repository = repository(name);
        let image = StateImage::encode(document).unwrap();
        self.push_blob(&repository, image.config).await;
        self.push_blob(&repository, image.layer).await;
        let reference = Reference::Tag(tag("latest"));
        self.client
            .put_manifest(&repository, &reference, image.media_type, image.manifest.into())
            .await
            .unwrap();
        image.digest
    }

    pub(crate) async fn publish_group(&self, group: &str, artifacts: Value) -> Digest {
        let document = json!({"group": group, "registry": self.url, "artifacts": artifacts});
        self.publish(&format!("satellite/group-state/{group}/state"), &document).await
    }

    pub(crate) async fn publish_satellite(&self, groups: &[&str], config: Option<&str>) -> Digest {
        let url = |kind: &str, name: &str| format!("{}/satellite/{kind}/{name}/state:latest", self.url);
        let states: Vec<String> = groups.iter().map(|group| url("group-state", group)).collect();
        let config = config.map(|name| url("config-state", name)).unwrap_or_default();
        self.publish(STATE_REPOSITORY, &json!({"states": states, "config": config})).await
    }

    pub(crate) fn state_url(&self) -> String {
        format!("{}/{STATE_REPOSITORY}:latest", self.url)
    }

    pub(crate) fn tag_of(&self, name: &str, name_of_tag: &str) -> Option<Digest> {
        self.store.resolve_tag(&repository(name), &tag(name_of_tag)).unwrap()
    }
}

/// An entry of a group's list.
pub(crate) fn entry(name: &str, tags: &[&str], image: &Image) -> Value {
    json!({"repository": name, "tag": tags, "type": "image", "labels": [], "digest": image.digest, "deleted": false})
}

/// A satellite's core, with its directories.
pub(crate) struct Edge {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) board: StatusBoard,
    pub(crate) vault: Vault,
    pub(crate) config: LiveConfig,
    pub(crate) replicate: Arc<Notify>,
    pub(crate) token: watch::Sender<Option<SecretString>>,
    core: Option<Core>,
}

impl Edge {
    /// A satellite that is registered at the registry.
    pub(crate) async fn registered(registry: &Registry) -> Self {
        Self::registered_with(registry, Layer::default()).await
    }

    pub(crate) async fn registered_with(registry: &Registry, layer: Layer) -> Self {
        let edge = Self::open(tempfile::tempdir().unwrap(), layer);
        edge.register(registry).await;
        edge.start()
    }

    pub(crate) async fn register(&self, registry: &Registry) {
        let auth = RegistryCredentials {
            url: registry.url.clone(),
            username: "robot$edge-01".to_owned(),
            password: SecretString::from("secret"),
        };
        let registration = StateConfig { auth, state: registry.state_url() };
        self.vault.update(move |state| state.registration = Some(registration)).await.unwrap();
    }

    /// Opens the directories of a satellite; the core does not run yet.
    pub(crate) fn open(dir: TempDir, layer: Layer) -> Self {
        Self::open_as(dir, layer, IdentitySettings::default(), machine("a-machine"))
    }

    /// The same with an identity, on a certain machine.
    pub(crate) fn open_as(
        dir: TempDir,
        layer: Layer,
        identity: IdentitySettings,
        facts: DeviceFacts,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let site = Arc::new(Site { identity, ..site(dir.path(), layer) });
        blob_store::durable::create_dir_all(&dir.path().join("state")).unwrap();
        let store = Store::open(&site.registry_data_dir, Options::default()).unwrap();
        let (vault, _) = Vault::open(dir.path(), facts).unwrap();
        let boot = Effective::of(&site, &Layer::default());
        let (config, refusal) = LiveConfig::open(site, boot, vault.clone());
        assert!(refusal.is_none());
        let token = watch::Sender::new(None);
        let (board, replicate) = Default::default();
        Self { dir, store, board, vault, config, replicate, token, core: None }
    }

    pub(crate) fn start(mut self) -> Self {
        self.core = Some(Core::start(Parts {
            config: self.config.clone(),
            token: self.token.subscribe(),
            replicate: self.replicate.clone(),
            vault: self.vault.clone(),
            store: self.store.clone(),
            state_dir: self.dir.path().join("state"),
            events: Events::new(self.board.clone()),
            offers: Offers::default(),
        }));
        self
    }

    /// Stops the core and starts another on the same directories, as after a restart.
    pub(crate) async fn restart(mut self, layer: Layer) -> Self {
        let dir = self.stop().await;
        Self::open(dir, layer).start()
    }

    /// Stops the core and lets go of everything but the directory.
    pub(crate) async fn stop(&mut self) -> TempDir {
        if let Some(core) = self.core.take() {
            core.shutdown(Duration::from_secs(10)).await;
        }
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let spare = tempfile::tempdir().unwrap();
        // The store's lock goes with its last handle.
        self.store = Store::open(spare.path(), Options::default()).unwrap();
        dir
    }

    /// Waits until the status is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        let mut changes = self.board.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                {
                    let status = changes.borrow_and_update();
                    if so(&status) {
                        return status.clone();
                    }
                }
                changes.changed().await.unwrap();
            }
        });
        match waited.await {
            Ok(status) => status,
            Err(_) => panic!("waited in vain for: {what}\n{:#?}", self.board.snapshot()),
        }
    }

    /// Runs one whole turn of the replication, begun after now, and waits for its end.
    pub(crate) async fn turn(&self) -> Status {
        // One that is under way may have read the desired state already; the next one has not begun.
        let runs =
            self.board.read(|status| status.schedulers.get("replication").map_or(0, |entry| entry.runs));
        self.replicate.notify_one();
        self.until("a turn", |status| {
            status
                .schedulers
                .get("replication")
                .is_some_and(|entry| (entry.runs > runs && !entry.running) || entry.runs > runs + 1)
        })
        .await
    }

    /// Waits until everything that is wanted from now on is here and nothing is under way.
    pub(crate) async fn converged(&self, images: usize) -> Status {
        self.turn().await;
        self.until(&format!("{images} images, all in order"), |status| {
            let settled = status.activity == "idle" && status.failed.is_empty() && status.desired.whole;
            status.images.len() == images && settled
        })
        .await
    }

    pub(crate) fn tag_of(&self, name: &str, name_of_tag: &str) -> Option<Digest> {
        self.store.resolve_tag(&repository(name), &tag(name_of_tag)).unwrap()
    }

    pub(crate) fn has(&self, name: &str, digest: &Digest) -> bool {
        self.store.manifest(&repository(name), &Reference::Digest(*digest)).unwrap().is_some()
    }

    pub(crate) async fn is_whole(&self, name: &str, digest: &Digest) -> bool {
        let wholeness = self.store.wholeness(&repository(name), digest).await.unwrap();
        wholeness.is_whole() && wholeness.absent_children.is_empty()
    }
}

/// A machine that only its id tells from another.
pub(crate) fn machine(id: &str) -> DeviceFacts {
    DeviceFacts { machine_id: Some(id.to_owned()), ..DeviceFacts::default() }
}

pub(crate) fn site(config_dir: &Path, layer: Layer) -> Site {
    let local: satellite::config::LocalNamespaces = "site-own".parse().unwrap();
    Site {
        token: None,
        identity: IdentitySettings::default(),
        config_dir: config_dir.to_owned(),
        registry_data_dir: config_dir.join("registry"),
        control_socket: config_dir.join("satellite.sock"),
        platforms: PlatformFilter::all(),
        json_logging: None,
        traces: None,
        runtimes: Runtimes::default(),
        shutdown_timeout: Duration::from_secs(1),
        scrub_interval: Duration::from_secs(3600),
        listen_unsecure: false,
        lan: None,
        local_namespaces: local.clone(),
        kept_namespaces: local,
        docker_mirror_listen: None,
        layer,
        warnings: Vec::new(),
    }
}
