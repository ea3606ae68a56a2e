//! The second half of a turn: what nobody wants any more goes.

use std::collections::{BTreeMap, BTreeSet};

use oci::Digest;

use super::failures::Failing;
use super::works::Works;
use super::{Reconciler, Turn};
use crate::config::Shared;
use crate::desired::Desired;
use crate::events::Event;
use crate::plan::{Artifact, OpenTag, Plan, Present, Removal};

impl Reconciler {
    /// Removes what nobody wants any more.
    pub(super) async fn remove(
        &mut self,
        desired: &Desired,
        resolved: &BTreeMap<OpenTag, Digest>,
        config: &Shared,
        present: &mut Present,
        plan: &mut Plan,
        turn: &mut Turn,
    ) {
        if plan.remove.is_empty() {
            return;
        }
        let Some(mut works) = self.works.take() else { return };
        self.remove_with(&mut works, desired, resolved, config, present, plan, turn).await;
        self.works = Some(works);
    }

    #[expect(clippy::too_many_arguments, reason = "the values of one turn, which the caller goes on with")]
    async fn remove_with(
        &mut self,
        works: &mut Works,
        desired: &Desired,
        resolved: &BTreeMap<OpenTag, Digest>,
        config: &Shared,
        present: &mut Present,
        plan: &mut Plan,
        turn: &mut Turn,
    ) {
        let local = works.place.holds_only_ours();
        if !local {
            // Other people's tags have to be known before anything is removed.
            let repositories: BTreeSet<_> =
                plan.remove.iter().map(|removal| removal.repository().clone()).collect();
            for repository in &repositories {
                let Some(held) = present.repositories.get_mut(repository) else { continue };
                if let Err(error) = works.place.observe_all_tags(repository, held).await {
                    let whole_repository =
                        plan.remove.iter().filter(|removal| removal.repository() == repository);
                    for removal in whole_repository {
                        let failing = Failing::Remove(removal.clone());
                        self.failures.fail(failing, removal.to_string(), error.to_string(), true, None);
                    }
                    return;
                }
            }
            *plan = self.plan_for(works, desired, resolved, present, config);
        }
        let mut tags_that_stay = Vec::new();
        for removal in plan.remove.clone() {
            let failing = Failing::Remove(removal.clone());
            if self.failures.is_waiting(&failing) {
                continue;
            }
            match works.place.remove(&removal).await {
                Ok(removed) => self.removed(works, &removal, removed, present, turn),
                Err(error) if error.unsupported && matches!(removal, Removal::Tag { .. }) => {
                    tags_that_stay.push((removal, error));
                }
                Err(error) => {
                    self.failures.fail(
                        failing,
                        removal.to_string(),
                        error.to_string(),
                        !error.unsupported,
                        None,
                    );
                }
            }
        }
        if tags_that_stay.is_empty() {
            return;
        }
        // A registry that removes no tags by themselves removes them with their manifest, where that may go, too.
        let mut without = present.clone();
        for (removal, _) in &tags_that_stay {
            if let Removal::Tag { repository, tag, .. } = removal
                && let Some(held) = without.repositories.get_mut(repository)
            {
                held.tags.remove(tag);
            }
        }
        let further = self.plan_for(works, desired, resolved, &without, config).remove;
        for (removal, error) in tags_that_stay {
            let Removal::Tag { repository, digest, .. } = &removal else { continue };
            let manifest = Removal::Manifest(Artifact { repository: repository.clone(), digest: *digest });
            let failing = Failing::Remove(removal.clone());
            if !further.contains(&manifest) {
                self.failures.fail(failing, removal.to_string(), error.to_string(), false, None);
                continue;
            }
            match works.place.remove(&manifest).await {
                Ok(removed) => {
                    self.removed(works, &manifest, removed, present, turn);
                    self.removed(works, &removal, removed, present, turn);
                }
                Err(error) => {
                    self.failures.fail(
                        failing,
                        removal.to_string(),
                        error.to_string(),
                        !error.unsupported,
                        None,
                    );
                }
            }
        }
    }

    fn removed(
        &mut self,
        works: &Works,
        removal: &Removal,
        removed: bool,
        present: &mut Present,
        turn: &mut Turn,
    ) {
        self.failures.clear(&Failing::Remove(removal.clone()));
        if let Some(held) = present.repositories.get_mut(removal.repository()) {
            match removal {
                Removal::Tag { tag, .. } => drop(held.tags.remove(tag)),
                Removal::Manifest(artifact) => drop(held.manifests.remove(&artifact.digest)),
            }
        }
        if !works.place.holds_only_ours()
            && let Err(error) = self.record.forget(&works.name, removal)
        {
            tracing::warn!(%error, "the record of what is in the site's registry cannot be kept");
        }
        if removed {
            turn.removed += 1;
            let what = match removal {
                Removal::Tag { tag, .. } => format!(":{tag}"),
                Removal::Manifest(artifact) => format!("@{}", artifact.digest),
            };
            self.parts.events.emit(Event::Removed { repository: removal.repository().clone(), what });
        }
    }
}
