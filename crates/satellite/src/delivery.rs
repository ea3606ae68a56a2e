//! Further destinations: what is whole in the local registry is brought to them from there.
//!
//! After each turn the reconcile says what groups want and what of it is here ([`Offer`]). Each further destination (an
//! image folder, the nodes of a cluster) is followed by a task of its own, [`follow`], which works as the reconcile does: look,
//! plan, make, look again, remove; the plan is the same function. What fails is tried again, later each time. So a slow
//! destination holds up neither the reconcile nor another one, and none is ever asked for what is not whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oci::{RepositoryName, Tag};
use tokio::sync::watch;
use transfer::Progress;

use crate::config::{Effective, LiveConfig};
use crate::destination::{Destination, Look, Pull, Takes};
use crate::events::{Event, Events};
use crate::names::Naming;
use crate::plan::{self, Artifact, Entry, Input, Make, Ours, Ownership, Plan, Present, Removal};
use crate::reconcile::failures::{Failing, Failures};
use crate::sealed::Vault;
use crate::serve::namespaces;
use crate::status::{DeliveredImage, DeliveryStatus};

mod folder;
pub(crate) mod folders;
mod record;

/// How often a destination is looked at although nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// The same where it could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The most images that the status lists for one destination.
const MOST_SHOWN: usize = 5_000;

/// What groups want, and whether it is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// All of the desired state is known; otherwise nothing is removed anywhere.
    pub complete: bool,
    /// Repositories in which nothing is removed.
    pub protected: BTreeSet<RepositoryName>,
    /// What is wanted.
    pub wanted: Vec<Offered>,
}

/// One artifact that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What.
    pub artifact: Artifact,
    /// The registry that it comes from.
    pub registry: String,
    /// Tags that shall point at it; none where it is wanted by its digest only.
    pub tags: BTreeSet<Tag>,
    /// It is whole in the local registry, and all of the tags point at it there.
    pub here: bool,
}

impl Offer {
    /// What a plan wants, with what there is.
    pub(crate) fn new(
        plan: &Plan,
        present: &Present,
        complete: bool,
        protected: &BTreeSet<RepositoryName>,
    ) -> Self {
        let offered = plan.wanted.iter().map(|(artifact, want)| {
            let held = present.repositories.get(&artifact.repository);
            let here = held.is_some_and(|held| {
                held.manifests.get(&artifact.digest).is_some_and(|node| node.whole)
                    && want.tags.iter().all(|tag| held.tags.get(tag) == Some(&artifact.digest))
            });
            Offered {
                artifact: artifact.clone(),
                registry: want.registries.first().cloned().unwrap_or_default(),
                tags: want.tags.clone(),
                here,
            }
        });
        Self { complete, protected: protected.clone(), wanted: offered.collect() }
    }
}

/// Where the reconcile puts its offers. Clones share it.
#[derive(Debug, Clone)]
pub struct Offers(watch::Sender<Option<Arc<Offer>>>);

impl Default for Offers {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Offers {
    /// Tells the followers, where it differs from the last one.
    pub(crate) fn offer(&self, offer: Offer) {
        self.0.send_if_modified(|last| {
            let new = last.as_deref() != Some(&offer);
            if new {
                *last = Some(Arc::new(offer));
            }
            new
        });
    }

    /// The last offer, from now on; `None` before the first turn of the reconcile, when nothing may be concluded.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Offer>>> {
        self.0.subscribe()
    }
}

/// What a follower needs besides its destination.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What is offered.
    pub offers: Offers,
    /// The configuration, of which the places of upstream hosts are read.
    pub config: LiveConfig,
    /// The sealed state, of which the central registry's names are read.
    pub vault: Vault,
    /// Log and status.
    pub events: Events,
}

impl Surroundings {
    pub(crate) fn naming(&self, effective: &Effective) -> Naming {
        let state = self.vault.state();
        let central = state.registration.as_ref().map(|known| namespaces::of(known, effective));
        Naming::new(&central.unwrap_or_default(), &effective.mirror_paths)
    }
}

/// Keeps a destination as the groups want it, for as long as it is polled. It takes what is whole in the local registry
/// ([`Takes::Whole`]).
pub async fn follow(destination: Box<dyn Destination>, around: Surroundings) {
    debug_assert_eq!(destination.takes(), Takes::Whole, "the reconcile works on the others");
    let mut offers = around.offers.subscribe();
    let mut configs = around.config.subscribe();
    let mut states = around.vault.subscribe();
    let mut follower = Follower::new(destination, around.events.clone());
    loop {
        let offer = offers.borrow_and_update().clone();
        let effective = configs.borrow_and_update().clone();
        states.mark_unchanged();
        let pause = match &offer {
            Some(offer) => {
                let naming = around.naming(&effective);
                let newer = || offers.has_changed().unwrap_or(true);
                follower.round(offer, &naming, &effective, newer).await
            }
            None => LOOK,
        };
        let gone = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            changed = offers.changed() => changed.is_err(),
            changed = configs.changed() => changed.is_err(),
            changed = states.changed() => changed.is_err(),
        };
        if gone {
            return;
        }
    }
}

/// One destination and what failed there.
struct Follower {
    destination: Box<dyn Destination>,
    name: String,
    failures: Failures,
    events: Events,
}

impl Follower {
    fn new(destination: Box<dyn Destination>, events: Events) -> Self {
        Self { name: destination.name(), failures: Failures::new(events.clone()), destination, events }
    }

    /// One look at everything. Returns the time until the next one, unless something changes; at once where `newer` says
    /// that what is wanted has changed meanwhile.
    async fn round(
        &mut self,
        offer: &Offer,
        naming: &Naming,
        effective: &Effective,
        newer: impl Fn() -> bool,
    ) -> Duration {
        match self.make_so(offer, naming, effective, newer).await {
            Ok(true) => self.failures.next_try().unwrap_or(LOOK).min(LOOK),
            Ok(false) => Duration::ZERO,
            Err(problem) => {
                tracing::warn!(destination = self.name, problem, "destination cannot be used");
                self.show(|status| {
                    status.state = "waiting".to_owned();
                    status.problem = Some(problem);
                });
                LOOK_AGAIN
            }
        }
    }

    /// Whether it went to its end.
    async fn make_so(
        &mut self,
        offer: &Offer,
        naming: &Naming,
        effective: &Effective,
        newer: impl Fn() -> bool,
    ) -> Result<bool, String> {
        let (entries, absent) = self.entries(offer);
        let asked = plan::asked(&entries, &BTreeMap::new());
        let ours = Ours::default();
        let look = Look {
            asked: &asked,
            ours: &ours,
            platforms: &effective.platforms,
            recheck: effective.referrer_interval,
            naming,
        };
        let mut present = self.destination.observe(look).await.map_err(|error| error.to_string())?;
        let mut plan = self.plan(offer, &entries, &absent, &present);
        let mut touched = false;
        if !plan.make.is_empty() {
            self.show(|status| status.state = "delivering".to_owned());
        }
        for make in &plan.make {
            if newer() {
                return Ok(false);
            }
            touched = true;
            self.pull(make, naming, effective).await;
        }
        if touched {
            present = self.destination.observe(look).await.map_err(|error| error.to_string())?;
            plan = self.plan(offer, &entries, &absent, &present);
        }
        for removal in plan.remove.clone() {
            self.remove(&removal, &mut present).await;
        }
        self.failures.keep_only(|failing| match failing {
            Failing::Get(artifact) => plan.wanted.contains_key(artifact),
            Failing::Remove(removal) => plan.remove.contains(removal),
            Failing::Resolve(_) => false,
        });
        self.tell(&entries, &present);
        Ok(true)
    }

    /// What is offered, as a plan reads it, and what of it is not here yet: that is wanted all the same, so that nothing
    /// which stands in its place is removed.
    fn entries(&self, offer: &Offer) -> (Vec<Entry>, BTreeSet<Artifact>) {
        let taken = offer.wanted.iter();
        let taken = taken.filter(|offered| !offered.here || self.destination.accepts(&offered.artifact));
        let entry = |offered: &Offered| Entry {
            group: String::new(),
            registry: offered.registry.clone(),
            repository: offered.artifact.repository.clone(),
            tags: offered.tags.clone(),
            digest: Some(offered.artifact.digest),
            deleted: false,
            platforms: Vec::new(),
            referrers: None,
        };
        let absent = offer.wanted.iter().filter(|offered| !offered.here);
        (taken.map(entry).collect(), absent.map(|offered| offered.artifact.clone()).collect())
    }

    fn plan(&self, offer: &Offer, entries: &[Entry], absent: &BTreeSet<Artifact>, present: &Present) -> Plan {
        let mut waiting = self.failures.waiting_artifacts();
        waiting.extend(absent.iter().cloned());
        plan::plan(&Input {
            entries,
            complete: offer.complete,
            resolved: &BTreeMap::new(),
            present,
            arriving: &BTreeMap::new(),
            busy: &BTreeSet::new(),
            protected: &offer.protected,
            ownership: Ownership::Everything,
            waiting: &waiting,
            refresh: &BTreeSet::new(),
        })
    }

    async fn pull(&mut self, make: &Make, naming: &Naming, effective: &Effective) {
        let reference = self.reference(&make.artifact, make.tags.first());
        let pull = Pull {
            artifact: make.artifact.clone(),
            tags: make.tags.clone(),
            part: make.fetch,
            platforms: make.platforms.within(&effective.platforms),
            names: naming.of(&make.artifact.repository),
            source: None,
            progress: Arc::<Progress>::default(),
        };
        let failing = Failing::Get(make.artifact.clone());
        match self.destination.pull(pull).await {
            Ok(_) => {
                self.failures.clear(&failing);
                self.events.emit(Event::Delivered { destination: self.name.clone(), reference });
            }
            Err(error) => {
                self.failures.fail(failing, reference, error.reason, error.temporary, error.retry_after)
            }
        }
    }

    async fn remove(&mut self, removal: &Removal, present: &mut Present) {
        let failing = Failing::Remove(removal.clone());
        if self.failures.is_waiting(&failing) {
            return;
        }
        match self.destination.remove(removal).await {
            Ok(removed) => {
                self.failures.clear(&failing);
                if let Some(held) = present.repositories.get_mut(removal.repository()) {
                    match removal {
                        Removal::Tag { tag, .. } => drop(held.tags.remove(tag)),
                        Removal::Manifest(artifact) => drop(held.manifests.remove(&artifact.digest)),
                    }
                }
                if removed {
                    let reference = removal.to_string();
                    self.events.emit(Event::Withdrawn { destination: self.name.clone(), reference });
                }
            }
            Err(error) => {
                let reference = format!("{}: {removal}", self.name);
                self.failures.fail(failing, reference, error.to_string(), !error.unsupported, None);
            }
        }
    }

    fn reference(&self, artifact: &Artifact, tag: Option<&Tag>) -> String {
        match tag {
            Some(tag) => format!("{}: {}:{tag}", self.name, artifact.repository),
            None => format!("{}: {}@{}", self.name, artifact.repository, artifact.digest),
        }
    }

    fn tell(&self, entries: &[Entry], present: &Present) {
        let mut images = Vec::new();
        let mut missing = 0;
        for entry in entries {
            let held = present.repositories.get(&entry.repository);
            let there = |digest: &oci::Digest| {
                held.and_then(|held| held.manifests.get(digest)).is_some_and(|node| node.whole)
            };
            let Some(digest) = entry.digest.filter(there) else {
                missing += 1;
                continue;
            };
            let tags =
                entry.tags.iter().filter(|tag| held.is_some_and(|held| held.tags.get(tag) == Some(&digest)));
            images.push(DeliveredImage {
                repository: entry.repository.to_string(),
                tags: tags.map(ToString::to_string).collect(),
                digest: digest.to_string(),
            });
        }
        let delivered = images.len() as u64;
        images.truncate(MOST_SHOWN);
        let failed = self.failures.list();
        self.show(|status| {
            *status = DeliveryStatus {
                state: if missing == 0 && failed.is_empty() { "done" } else { "waiting" }.to_owned(),
                delivered,
                missing,
                images,
                failed,
                problem: None,
                looked_at: Some(Timestamp::now()),
            };
        });
    }

    fn show(&self, change: impl FnOnce(&mut DeliveryStatus)) {
        self.events.status().update(|status| change(status.deliveries.entry(self.name.clone()).or_default()));
    }
}

impl Drop for Follower {
    /// What nobody follows any more is no part of the status.
    fn drop(&mut self) {
        self.events.status().update(|status| {
            status.deliveries.remove(&self.name);
        });
    }
}

#[cfg(test)]
mod tests;
