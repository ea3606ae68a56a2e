//! One turn of the replication: read what is wanted, plan, act.
//!
//! The order is the promise. What is wanted is made first, each artifact by itself; a tag moves when its artifact is
//! whole, so the old version is served until then. Only then is the destination looked at again and what nobody wants
//! removed. A turn ends after a while even if downloads are still under way: they go on, and the next turn reads the
//! desired state again, so that one slow artifact holds up no other one's next version.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::config::ConfigDocument;
use jiff::Timestamp;
use oci::Digest;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::{Effective, LiveConfig, Shared};
use crate::credentials::{Accepted, Refusals};
use crate::delivery::{Offer, Offers};
use crate::desired::{ConfigRead, Desired, Reader, Upstream};
use crate::destination::PullError;
use crate::events::{Event, Events, millis};
use crate::follow::{Follow, Position, Source};
use crate::identity::EdgeIdentity;
use crate::plan::{Artifact, Fetch, Make, Plan};
use crate::schedulers::Next;
use crate::sealed::Vault;
use crate::standing::Standing;
use crate::status::{LastSync, Status};

mod account;
pub(crate) mod failures;
mod look_again;
mod record;
mod removal;
mod show;
mod view;
mod works;

use account::Account;
use failures::{Failing, Failures};
use look_again::LookAgain;
use record::Record;
use view::Resolutions;
use works::{Ended, Works};

/// How long a turn waits for downloads before it looks at the desired state again.
const SLICE: Duration = Duration::from_secs(30);

/// Keeps the destination as the groups want it.
#[derive(Debug)]
pub(crate) struct Reconciler {
    parts: Parts,
    reader: Reader,
    account: Account,
    record: Record,
    works: Option<Works>,
    failures: Failures,
    look_again: LookAgain,
    resolutions: Resolutions,
    /// Digests of the documents that the last turn worked with: other ones mean another try for what failed.
    documents: Vec<Option<Digest>>,
    converged: bool,
    /// The status shows what is known from before this process began.
    shown: bool,
    failing_before: u64,
    /// The last turn changed what there is to tell.
    news: bool,
}

/// What a [`Reconciler`] works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: LiveConfig,
    pub(crate) vault: Vault,
    pub(crate) store: blob_store::Store,
    pub(crate) events: Events,
    pub(crate) identity: EdgeIdentity,
    /// How the satellite stands with Ground Control.
    pub(crate) standing: watch::Receiver<Standing>,
    /// Turns in a row in which the registry refused the credentials.
    pub(crate) refusals: Arc<Refusals>,
    /// The user name that the registry accepted last.
    pub(crate) accepted: Accepted,
    /// By what the desired state is followed.
    pub(crate) follow: Follow,
    /// Wakes the heartbeat, which tells what is new.
    pub(crate) wake_heartbeat: Arc<Notify>,
    /// Takes what the destination holds, for those that take it from there.
    pub(crate) offers: Offers,
}

/// What one turn did.
#[derive(Debug, Default)]
struct Turn {
    replicated: u64,
    removed: u64,
    bytes: u64,
    /// Something was tried at the destination, so that it has to be looked at again.
    touched: bool,
}

impl Reconciler {
    pub(crate) fn new(parts: Parts, reader: Reader, state_dir: &Path) -> Self {
        let in_force = parts.config.kept_digest();
        if let Some(digest) = in_force {
            parts.events.status().update(|status| status.config.digest = Some(digest.to_string()));
        }
        Self {
            reader,
            account: Account::default(),
            record: Record::open(state_dir),
            works: None,
            failures: Failures::new(parts.events.clone()),
            parts,
            look_again: LookAgain::open(state_dir),
            resolutions: Resolutions::default(),
            documents: Vec::new(),
            converged: false,
            shown: false,
            failing_before: 0,
            news: false,
        }
    }

    /// One turn.
    pub(crate) async fn run(&mut self) -> Next {
        let state = self.parts.vault.state();
        let Some(registration) = &state.registration else { return Next::Park };
        if !self.parts.standing.borrow().may_fetch() {
            // What is under way stops where it stands, and goes on from there one day.
            self.works = None;
            self.parts.events.status().transfers().clear();
            self.activity(
                "ground control refuses this satellite: serving what is held, nothing new is fetched",
            );
            return Next::Park;
        }
        let began = (Instant::now(), Timestamp::now());
        let config = self.parts.config.current();
        let transfers = self.parts.events.status().transfers();
        if let Err(error) = Works::prepare(
            &mut self.works,
            registration,
            &config,
            &self.parts.identity,
            &self.parts.store,
            transfers,
        ) {
            self.activity("waiting: the configuration cannot be worked with");
            return Next::failed(error, None);
        }
        let Some(works) = &self.works else { return Next::Park };
        if !works.is_busy() {
            // Downloads that were stopped do not tell that they ended.
            transfers.clear();
        }
        let upstream = works.upstream.clone();
        if !self.shown {
            self.shown = true;
            self.show_last_known(&upstream, &registration.state, &config).await;
        }
        let position = self.parts.follow.position();
        let mut desired = self.reader.read(&upstream, &registration.state, &position).await;
        refuse(&mut desired, &config);
        self.hear_of_account(&upstream, &desired, &position).await;
        show::desired(&self.parts.events, &desired);
        self.take_config(&desired).await;

        let documents =
            [desired.state_digest].into_iter().chain(desired.groups.iter().map(|group| group.digest));
        let documents: Vec<_> = documents.collect();
        if documents != self.documents {
            self.documents = documents;
            self.failures.try_all_now();
            self.resolutions.forget();
            self.news = true;
        }
        let mut turn = Turn::default();
        let outcome = self.work(&desired, &position, &upstream, &config, &mut turn).await;
        let failed = self.failures.count() + desired.bad_entries.len() as u64;
        let sync = LastSync {
            started_at: Some(began.1),
            duration_ms: millis(began.0.elapsed()),
            replicated: turn.replicated,
            removed: turn.removed,
            failed,
            bytes_fetched: turn.bytes,
        };
        let running = self.works.as_ref().is_some_and(Works::is_busy);
        let activity = match (&outcome, &desired.error) {
            (Err(_), _) => "waiting: the destination cannot be used".to_owned(),
            _ if running => {
                format!("replicating {}", show::artifacts(self.works.as_ref().map_or(0, Works::busy)))
            }
            (_, Some(_)) => "waiting: the desired state cannot be read, serving what is held".to_owned(),
            _ if failed > 0 => format!("idle, {} failed", show::artifacts(failed as usize)),
            _ => "idle".to_owned(),
        };
        self.parts.events.status().update(|status| {
            status.last_sync = Some(sync);
            status.activity = activity;
        });
        if std::mem::take(&mut self.news) {
            self.parts.wake_heartbeat.notify_one();
        }
        match (outcome, desired.error) {
            (Err(error), _) => Next::failed(error, None),
            _ if running => Next::AtOnce,
            (Ok(()), Some(error)) => Next::failed(error, desired.retry_after),
            (Ok(()), None) => Next::Again,
        }
    }

    /// Without a network the first read can take long to fail: what is held from before is shown meanwhile.
    async fn show_last_known(&mut self, upstream: &Upstream, state_url: &str, config: &Shared) {
        let mut known = self.reader.last_known(upstream, state_url);
        refuse(&mut known, config);
        if known.groups.is_empty() {
            return;
        }
        show::desired(&self.parts.events, &known);
        let nothing = BTreeMap::new();
        let Ok(present) = self.look(&known, &nothing, config).await else { return };
        let plan = self.plan(&known, &nothing, &present, config);
        if let Some(works) = &self.works {
            show::result(&self.parts.events, works, &known, &plan, &present, &self.failures, true);
        }
    }

    fn activity(&self, text: &str) {
        self.parts.events.status().update(|status| {
            if status.activity != text {
                text.clone_into(&mut status.activity);
            }
        });
    }

    /// Works with a new config document, or says why not.
    async fn take_config(&mut self, desired: &Desired) {
        match &desired.config {
            ConfigRead::None | ConfigRead::NotAsked => {}
            ConfigRead::Unchanged => {
                // That another one, or this one for a while, could not be read is over.
                let known = self.reader.evaluated_config().map(|digest| digest.to_string());
                let is_over = |status: &Status| {
                    status.config.refused.as_ref().is_some_and(|refused| refused.digest != known)
                };
                if self.parts.events.status().read(is_over) {
                    self.parts.events.status().update(|status| status.config.refused = None);
                }
            }
            ConfigRead::Unreadable(digest, reason) => {
                let known = self.parts.events.status().read(|status| {
                    status.config.refused.as_ref().is_some_and(|refused| refused.reason == *reason)
                });
                if !known {
                    self.parts.events.emit(Event::ConfigRefused { digest: *digest, reason: reason.clone() });
                    self.news = true;
                }
            }
            ConfigRead::New(digest, document) => {
                self.news = true;
                self.adopt(*digest, document).await;
            }
        }
    }

    async fn adopt(&mut self, digest: Digest, document: &ConfigDocument) {
        match self.parts.config.adopt(digest, document).await {
            Ok(change) => {
                self.reader.config_evaluated(digest);
                let names = |list: &[&'static str]| list.iter().map(|name| (*name).to_owned()).collect();
                self.parts.events.emit(Event::ConfigTaken {
                    digest,
                    live: names(&change.live),
                    restart: names(&change.restart),
                    warnings: change.warnings,
                });
            }
            Err(error) => {
                // A document that is good but could not be kept is tried again.
                if let crate::config::live::AdoptError::Refused(_) = &error {
                    self.reader.config_evaluated(digest);
                }
                self.parts
                    .events
                    .emit(Event::ConfigRefused { digest: Some(digest), reason: error.to_string() });
            }
        }
    }

    async fn work(
        &mut self,
        desired: &Desired,
        position: &Position,
        upstream: &Arc<Upstream>,
        config: &Shared,
        turn: &mut Turn,
    ) -> Result<(), String> {
        let reachable = !desired.unreachable;
        // Whoever tells what is desired finds the digests of tags itself, as a rule.
        let fresh = match position.source {
            Source::Registry => Duration::ZERO,
            Source::Kept | Source::Answers(_) => config.referrer_interval,
        };
        let resolved = if reachable { self.resolve(desired, upstream, fresh).await } else { BTreeMap::new() };
        let mut present = self.look(desired, &resolved, config).await?;
        let mut plan = self.plan(desired, &resolved, &present, config);

        self.make(&plan, upstream, config, reachable, turn).await?;
        if turn.touched {
            present = self.look(desired, &resolved, config).await?;
            plan = self.plan(desired, &resolved, &present, config);
        }
        self.remove(desired, &resolved, config, &mut present, &mut plan, turn).await;

        let busy = self.works.as_ref().is_some_and(Works::is_busy);
        self.failures.keep_only(|failing| match failing {
            Failing::Get(artifact) => plan.wanted.contains_key(artifact),
            Failing::Resolve(open) => desired
                .entries
                .iter()
                .any(|entry| entry.repository == open.repository && entry.tags.contains(&open.tag)),
            Failing::Remove(removal) => plan.remove.contains(removal),
        });
        self.look_again.keep_only(|artifact| plan.wanted.contains_key(artifact));
        self.look_again.keep();
        if let Some(works) = &self.works {
            show::result(&self.parts.events, works, desired, &plan, &present, &self.failures, reachable);
        }
        self.parts.offers.offer(Offer::new(&plan, &present, desired.complete, &desired.protected));
        let settled = desired.complete && plan.make.is_empty() && !busy && self.failures.count() == 0;
        if settled && (!self.converged || turn.replicated + turn.removed > 0) {
            self.parts.events.emit(Event::Converged { artifacts: plan.wanted.len() });
        }
        let told = (settled, turn.replicated + turn.removed, self.failures.count());
        self.news |= told != (self.converged, 0, self.failing_before);
        (self.converged, self.failing_before) = (settled, self.failures.count());
        Ok(())
    }

    /// Brings here what is missing and moves the tags. Returns when all is done, or after a [`SLICE`].
    async fn make(
        &mut self,
        plan: &Plan,
        upstream: &Arc<Upstream>,
        config: &Shared,
        reachable: bool,
        turn: &mut Turn,
    ) -> Result<(), String> {
        // Taken out for the time being, so that its owner can be worked on beside it.
        let Some(mut works) = self.works.take() else { return Ok(()) };
        let made = self.make_with(&mut works, plan, upstream, config, reachable, turn).await;
        self.works = Some(works);
        made
    }

    async fn make_with(
        &mut self,
        works: &mut Works,
        plan: &Plan,
        upstream: &Arc<Upstream>,
        config: &Shared,
        reachable: bool,
        turn: &mut Turn,
    ) -> Result<(), String> {
        works.keep_only(&plan.wanted);
        if !works.place.holds_only_ours() {
            let makes = plan.make.iter().filter(|make| reachable || make.fetch == Fetch::Nothing);
            self.record.intend(&works.name, makes).map_err(|error| {
                format!("the record of what is brought into the site's registry cannot be kept: {error}")
            })?;
        }
        let mut makes: BTreeMap<&Artifact, &Make> =
            plan.make.iter().map(|make| (&make.artifact, make)).collect();
        for make in &plan.make {
            match make.fetch {
                Fetch::Nothing => {
                    turn.touched = true;
                    if let Err(error) = works.set_tags(upstream, make, config).await {
                        self.failed(make, error);
                    }
                }
                Fetch::Graph | Fetch::Referrers if reachable => {
                    let attempts = self.failures.attempts(&make.artifact);
                    if let Err(error) = works.start(upstream, make, attempts, config) {
                        self.failed(make, PullError::new(error, false));
                    }
                }
                Fetch::Graph | Fetch::Referrers => {}
            }
        }
        if works.is_busy() {
            self.activity(&format!("replicating {}", show::artifacts(works.busy())));
        }
        let slice = config.state_replication_interval.interval().unwrap_or(SLICE).min(SLICE);
        let until = Instant::now() + slice;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, works.next()).await {
            turn.touched = true;
            if let Some(make) = makes.remove(&ended.artifact) {
                self.ended(works, make, ended, upstream, config, turn).await;
            }
        }
        Ok(())
    }

    /// A download has ended: the tags move, or the failure is noted.
    async fn ended(
        &mut self,
        works: &mut Works,
        make: &Make,
        ended: Ended,
        upstream: &Arc<Upstream>,
        config: &Shared,
        turn: &mut Turn,
    ) {
        let outcome = match ended.outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                if failure.denied {
                    self.account.doubt();
                }
                return self.failed(make, failure);
            }
        };
        turn.bytes += outcome.bytes_fetched;
        if !works.place.holds_only_ours()
            && let Err(error) = self.learn(works, &make.artifact).await
        {
            return self.failed(make, PullError::new(error, true));
        }
        if !make.tags.is_empty()
            && let Err(error) = works.set_tags(upstream, make, config).await
        {
            return self.failed(make, error);
        }
        self.failures.clear(&Failing::Get(make.artifact.clone()));
        self.look_again.looked_at(&make.artifact, ended.referrers, config.referrer_interval);
        if make.fetch == Fetch::Graph || outcome.changed() {
            turn.replicated += 1;
            self.parts.events.emit(Event::Replicated {
                repository: make.artifact.repository.clone(),
                digest: make.artifact.digest,
                bytes: outcome.bytes_fetched,
                took: outcome.duration,
            });
        }
    }

    /// Notes what a graph in the site's registry consists of, so that all of it can be removed one day.
    async fn learn(&mut self, works: &Works, artifact: &Artifact) -> Result<(), String> {
        if !self.record.is_ours(&works.name, artifact) {
            return Ok(());
        }
        let (manifests, tags) = works.place.graph(artifact).await.map_err(|error| error.to_string())?;
        self.record.learn(&works.name, artifact, manifests, tags).map_err(|error| {
            format!("the record of what is brought into the site's registry cannot be kept: {error}")
        })
    }

    fn failed(&mut self, make: &Make, failure: PullError) {
        let reference = show::reference(make);
        let PullError { reason, temporary, retry_after, .. } = failure;
        self.failures.fail(Failing::Get(make.artifact.clone()), reference, reason, temporary, retry_after);
    }
}

/// In the local registry there is what is not ours to write; a registry of the site's own has rules of its own.
fn refuse(desired: &mut Desired, config: &Effective) {
    if !config.byo_wanted {
        desired.refuse(&config.kept_namespaces);
    }
}
