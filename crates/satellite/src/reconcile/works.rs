//! What a reconcile works with: the upstream, the destination, the engine between them, and the downloads under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fleet_protocol::registration::StateConfig;
use oci::{Digest, RepositoryName};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinSet};
use transfer::{Observer as _, Outcome, Progress, RegistrySource};
use url::Url;

use crate::config::{ByoRegistry, Effective, TlsTrust};
use crate::desired::Upstream;
use crate::destination::{self, Destination, Pull, PullError};
use crate::identity::EdgeIdentity;
use crate::plan::{self, Artifact, Fetch, Make, Present, Want};
use crate::transfers::Transfers;

/// Artifacts on their way at once. Their blobs share the engine's own bound.
const ARTIFACTS: usize = 3;

/// Manifests that were stored for artifacts that are not whole yet, by repository of the destination.
type Arriving = BTreeMap<RepositoryName, BTreeSet<Digest>>;

/// What works are made for; where it changes, they are made anew.
#[derive(Clone)]
struct Basis {
    auth_url: String,
    username: String,
    password: SecretString,
    state: String,
    byo_wanted: bool,
    byo_registry: Option<ByoRegistry>,
    tls: TlsTrust,
    use_unsecure: bool,
    harbor_registry_url: Option<Url>,
    ground_control_url: Option<Url>,
}

impl Basis {
    fn new(registration: &StateConfig, config: &Effective) -> Self {
        Self {
            auth_url: registration.auth.url.clone(),
            username: registration.auth.username.clone(),
            password: registration.auth.password.clone(),
            state: registration.state.clone(),
            byo_wanted: config.byo_wanted,
            byo_registry: config.byo_registry.clone(),
            tls: config.tls.clone(),
            use_unsecure: config.use_unsecure,
            harbor_registry_url: config.harbor_registry_url.clone(),
            // To this address the SVID is shown.
            ground_control_url: config.ground_control_url.clone().filter(|_| config.identity.is_spiffe()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.auth_url == other.auth_url
            && self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
            && self.state == other.state
            && self.byo_wanted == other.byo_wanted
            && self.byo_registry == other.byo_registry
            && self.tls == other.tls
            && self.use_unsecure == other.use_unsecure
            && self.harbor_registry_url == other.harbor_registry_url
            && self.ground_control_url == other.ground_control_url
    }
}

/// A download that has ended.
pub(super) struct Ended {
    pub(super) artifact: Artifact,
    /// What stood for its referrers when it began.
    pub(super) referrers: BTreeSet<Digest>,
    pub(super) outcome: Result<Outcome, PullError>,
}

/// The upstream, the destination, and the downloads between them. Dropping it stops them where they stand.
pub(super) struct Works {
    basis: Basis,
    /// The destination's address, by which the record of what is ours knows it.
    pub(super) name: String,
    pub(super) upstream: Arc<Upstream>,
    pub(super) place: Box<dyn Destination>,
    arriving: Arc<Mutex<Arriving>>,
    permits: Arc<Semaphore>,
    tasks: JoinSet<Result<Outcome, PullError>>,
    running: BTreeMap<Artifact, AbortHandle>,
    artifacts: HashMap<Id, (Artifact, BTreeSet<Digest>)>,
    transfers: Transfers,
}

impl std::fmt::Debug for Works {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Works")
            .field("place", &self.place)
            .field("running", &self.running.len())
            .finish()
    }
}

impl Works {
    /// Makes `works` fit the registration and the configuration; where they do already, nothing happens.
    pub(super) fn prepare(
        works: &mut Option<Self>,
        registration: &StateConfig,
        config: &Effective,
        identity: &EdgeIdentity,
        store: &blob_store::Store,
        transfers: &Transfers,
    ) -> Result<(), String> {
        let basis = Basis::new(registration, config);
        if works.as_ref().is_some_and(|works| works.basis.is(&basis)) {
            return Ok(());
        }
        *works = None;
        let upstream = Upstream::new(registration, config, identity)
            .map_err(|error| format!("the central registry cannot be used: {error}"))?;
        let arriving = Arc::<Mutex<Arriving>>::default();
        let (heard, watched) = (arriving.clone(), transfers.clone());
        let observer = move |event: &transfer::Event| {
            watched.observe(event);
            if let transfer::Event::ManifestStored { repository, digest } = event {
                let mut arriving = heard.lock().unwrap_or_else(PoisonError::into_inner);
                arriving.entry(repository.clone()).or_default().insert(*digest);
            }
        };
        let place = destination::open(config, store, Arc::new(observer))
            .map_err(|error| format!("the destination cannot be used: {error}"))?;
        *works = Some(Self {
            basis,
            name: place.name(),
            upstream: Arc::new(upstream),
            place,
            arriving,
            permits: Arc::new(Semaphore::new(ARTIFACTS)),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            artifacts: HashMap::new(),
            transfers: transfers.clone(),
        });
        Ok(())
    }

    /// What has arrived of artifacts that are not whole yet. What belongs to a whole one is forgotten here.
    pub(super) fn arriving(&self, wanted: &BTreeSet<Artifact>, present: &Present) -> Arriving {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.retain(|repository, digests| {
            let Some(held) = present.repositories.get(repository) else { return true };
            let is_whole = |digest: &Digest| held.manifests.get(digest).is_some_and(|node| node.whole);
            let here: Vec<&Artifact> =
                wanted.iter().filter(|artifact| artifact.repository == *repository).collect();
            if here.iter().all(|artifact| is_whole(&artifact.digest)) {
                return false;
            }
            let whole = here.into_iter().map(|artifact| artifact.digest).filter(is_whole).collect();
            let settled = plan::closure(held, whole);
            digests.retain(|digest| !settled.contains(digest));
            !digests.is_empty()
        });
        arriving.clone()
    }

    /// Repositories with downloads under way.
    pub(super) fn repositories(&self) -> BTreeSet<RepositoryName> {
        self.running.keys().map(|artifact| artifact.repository.clone()).collect()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Downloads under way.
    pub(super) fn busy(&self) -> usize {
        self.running.len()
    }

    /// Stops downloads that nobody wants any more.
    pub(super) fn keep_only(&mut self, wanted: &BTreeMap<Artifact, Want>) {
        self.running.retain(|artifact, task| {
            let keep = wanted.contains_key(artifact);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// Starts a download without tags, unless it is under way.
    pub(super) fn start(
        &mut self,
        upstream: &Upstream,
        make: &Make,
        attempts: u32,
        config: &Effective,
    ) -> Result<(), String> {
        if self.running.contains_key(&make.artifact) {
            return Ok(());
        }
        let mut pull = self.request(upstream, make, attempts, config)?;
        pull.tags.clear();
        let progress = pull.progress.clone();
        let pulling = self.place.pull(pull);
        let permits = self.permits.clone();
        let only_referrers = make.fetch == Fetch::Referrers;
        let (transfers, artifact) = (self.transfers.clone(), make.artifact.clone());
        let reference = super::show::reference(make);
        let task = self.tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let _shown = (!only_referrers).then(|| transfers.begin(artifact, reference, progress));
            pulling.await
        });
        self.artifacts.insert(task.id(), (make.artifact.clone(), make.referrers.clone()));
        self.running.insert(make.artifact.clone(), task);
        Ok(())
    }

    /// The next download that has ended; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        loop {
            let (id, outcome) = match self.tasks.join_next_with_id().await? {
                Ok((id, outcome)) => (id, outcome),
                Err(error) => {
                    let reason =
                        "the download ended abnormally; this is a fault of the satellite, see its log";
                    (error.id(), Err(PullError::new(reason, error.is_cancelled())))
                }
            };
            let Some((artifact, referrers)) = self.artifacts.remove(&id) else { continue };
            // One that was stopped and started again has another task by now.
            if self.running.get(&artifact).is_some_and(|task| task.id() == id) {
                self.running.remove(&artifact);
                return Some(Ended { artifact, referrers, outcome });
            }
        }
    }

    /// Points the tags at an artifact that is whole; the engine's admission has its say.
    pub(super) async fn set_tags(
        &self,
        upstream: &Upstream,
        make: &Make,
        config: &Effective,
    ) -> Result<Outcome, PullError> {
        let pull = self.request(upstream, make, 0, config).map_err(|reason| PullError::new(reason, false))?;
        self.place.pull(Pull { part: Fetch::Nothing, ..pull }).await
    }

    /// Where groups name several registries for the same digest, each try goes to the next one.
    fn request(
        &self,
        upstream: &Upstream,
        make: &Make,
        attempts: u32,
        config: &Effective,
    ) -> Result<Pull, String> {
        let turn = attempts as usize % make.registries.len().max(1);
        let registry = make.registries.get(turn).ok_or("no registry is named for it")?;
        let client = upstream
            .endpoint(registry)
            .and_then(|endpoint| upstream.client(&endpoint))
            .map_err(|error| error.to_string())?;
        let source = RegistrySource::new(&client, make.artifact.repository.clone());
        Ok(Pull {
            artifact: make.artifact.clone(),
            tags: make.tags.clone(),
            part: make.fetch,
            platforms: make.platforms.within(&config.platforms),
            names: Vec::new(),
            source: Some(Arc::new(source)),
            progress: Arc::<Progress>::default(),
        })
    }
}
