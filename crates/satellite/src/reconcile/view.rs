//! What is wanted beside what is there, and the plan that follows from both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use oci::Digest;
use tokio::time::Instant;
use transfer::{RegistrySource, Source as _};

use super::failures::Failing;
use super::works::Works;
use super::{Reconciler, show};
use crate::config::Shared;
use crate::desired::{Desired, Upstream};
use crate::destination::Look;
use crate::names::Naming;
use crate::plan::{self, Artifact, Input, OpenTag, Ownership, Plan, Present};

/// Tags resolved at once.
const RESOLVES: usize = 4;

/// What tags meant when they were asked for.
#[derive(Debug, Default)]
pub(super) struct Resolutions(BTreeMap<OpenTag, (Digest, Instant)>);

impl Resolutions {
    /// Every tag is asked for again.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Reconciler {
    /// Asks what the tags mean that the groups name without a digest; an answer younger than `fresh` still counts.
    pub(super) async fn resolve(
        &mut self,
        desired: &Desired,
        upstream: &Arc<Upstream>,
        fresh: Duration,
    ) -> BTreeMap<OpenTag, Digest> {
        let now = Instant::now();
        let mut wanted = plan::open_tags(&desired.entries);
        let known = &mut self.resolutions.0;
        known.retain(|open, (_, asked)| wanted.contains(open) && now.duration_since(*asked) < fresh);
        wanted.retain(|open| {
            !known.contains_key(open) && !self.failures.is_waiting(&Failing::Resolve(open.clone()))
        });
        let mut resolved: BTreeMap<OpenTag, Digest> =
            known.iter().map(|(open, (digest, _))| (open.clone(), *digest)).collect();
        let open: Vec<OpenTag> = wanted.into_iter().collect();
        let answers: Vec<_> = futures_util::stream::iter(open)
            .map(async |open| {
                let answer = async {
                    let client = upstream
                        .endpoint(&open.registry)
                        .and_then(|endpoint| upstream.client(&endpoint))
                        .map_err(|error| (error.to_string(), false, None))?;
                    RegistrySource::new(&client, open.repository.clone())
                        .resolve(&open.tag)
                        .await
                        .map_err(|error| (error.to_string(), error.is_retryable(), error.retry_after))
                };
                let answer = answer.await;
                (open, answer)
            })
            .buffer_unordered(RESOLVES)
            .collect()
            .await;
        for (open, answer) in answers {
            match answer {
                Ok(digest) => {
                    self.failures.clear(&Failing::Resolve(open.clone()));
                    self.resolutions.0.insert(open.clone(), (digest, now));
                    resolved.insert(open, digest);
                }
                Err((reason, temporary, retry_after)) => {
                    let reference =
                        format!("{}/{}:{}", show::host(&open.registry), open.repository, open.tag);
                    self.failures.fail(Failing::Resolve(open), reference, reason, temporary, retry_after);
                }
            }
        }
        resolved
    }

    pub(super) async fn look(
        &mut self,
        desired: &Desired,
        resolved: &BTreeMap<OpenTag, Digest>,
        config: &Shared,
    ) -> Result<Present, String> {
        let Some(works) = &mut self.works else { return Ok(Present::default()) };
        let asked = plan::asked(&desired.entries, resolved);
        let ours = self.record.of(&works.name);
        works
            .place
            .observe(Look {
                asked: &asked,
                ours,
                platforms: &config.platforms,
                recheck: config.referrer_interval,
                naming: &Naming::default(),
            })
            .await
            .map_err(|error| format!("the destination cannot be looked at: {error}"))
    }

    pub(super) fn plan(
        &mut self,
        desired: &Desired,
        resolved: &BTreeMap<OpenTag, Digest>,
        present: &Present,
        config: &Shared,
    ) -> Plan {
        // Taken out for the time being, so that its owner can be worked on beside it.
        let Some(works) = self.works.take() else { return Plan::default() };
        let plan = self.plan_for(&works, desired, resolved, present, config);
        self.works = Some(works);
        plan
    }

    pub(super) fn plan_for(
        &mut self,
        works: &Works,
        desired: &Desired,
        resolved: &BTreeMap<OpenTag, Digest>,
        present: &Present,
        config: &Shared,
    ) -> Plan {
        let ours = self.record.of(&works.name);
        let ownership =
            if works.place.holds_only_ours() { Ownership::Everything } else { Ownership::Recorded(ours) };
        let wanted = plan::asked(&desired.entries, resolved).artifacts.into_keys().collect();
        let (arriving, busy) = if works.place.holds_only_ours() {
            (works.arriving(&wanted, present), works.repositories())
        } else {
            // There the record tells what may be removed, and nothing unfinished stands in it.
            Default::default()
        };
        let waiting = self.failures.waiting_artifacts();
        let (waiting_none, none) = (BTreeSet::new(), BTreeSet::new());
        let input = |waiting, refresh| Input {
            entries: &desired.entries,
            complete: desired.complete,
            resolved,
            present,
            arriving: &arriving,
            busy: &busy,
            protected: &desired.protected,
            ownership,
            waiting,
            refresh,
        };
        // What is whole without its tags was interrupted, and its referrers may be missing: before the tags move.
        let first = plan::plan(&input(&waiting_none, &none));
        let unsettled: BTreeSet<Artifact> = first.make.into_iter().map(|make| make.artifact).collect();
        let referrers = |artifact: Artifact| {
            let known = first.wanted.get(&artifact).map(|want| want.referrers.clone());
            (artifact, known.unwrap_or_default())
        };
        let wanted = wanted.into_iter().map(referrers).collect();
        let refresh = self.look_again.due(wanted, &unsettled, config.referrer_interval);
        plan::plan(&input(&waiting, &refresh))
    }
}
