//! What outlives a run: changes that a runtime has not seen yet, edits that it did not come up with, and who decides.

use std::io;

use super::{Outcome, Shell, Step, readers};
use crate::docker;
use crate::plan::{Group, Plan};
use crate::reload::{Due, Means, due};
use crate::runtime::Runtime;
use crate::state::{Failed, Owner, Pending, digest};

/// What is due for each runtime that reads these files.
pub(super) fn dues(plan: &Plan, group: Group, steps: &[Step], changed: &[String]) -> Vec<Due> {
    let reads = |runtime: &&Runtime| {
        group != Group::Containers
            || steps
                .iter()
                .any(|step| plan.files.get(&step.path).is_none_or(|file| file.runtimes.contains(runtime)))
    };
    let mut dues: Vec<Due> =
        readers(group).iter().filter(reads).map(|runtime| due(*runtime, changed)).collect();
    // An engine that reads the file again goes on with the mirrors of a key that is gone.
    let keyless =
        |text: &Option<String>| docker::with_empty_list(text.as_deref()).is_ok_and(|edit| edit.is_change());
    let is_docker = |path: &String| !path.contains(crate::plan::CERTIFICATE);
    if group == Group::Docker
        && steps
            .iter()
            .filter(|step| is_docker(&step.path) && changed.contains(&step.path))
            .any(|step| keyless(&step.target) && !keyless(&step.current))
    {
        dues.iter_mut().for_each(|due| due.means = Means::Restart);
    }
    dues
}

/// The files of a runtime.
pub(crate) fn group_of(runtime: Runtime) -> Group {
    match runtime {
        Runtime::Containerd => Group::Containerd,
        Runtime::Docker => Group::Docker,
        Runtime::Podman | Runtime::Crio => Group::Containers,
        Runtime::K3s => Group::K3s,
        Runtime::Rke2 => Group::Rke2,
    }
}

impl Shell<'_> {
    /// Keeps what runs will not have seen, before anything is written.
    pub(super) fn remember(&mut self, plan: &Plan, dues: &[Due]) -> io::Result<()> {
        let before = self.state.pending.clone();
        for due in dues.iter().filter(|due| due.means != Means::Nothing) {
            let Some(instance) = plan.running.get(&due.runtime) else {
                self.state.pending.remove(&due.runtime);
                continue;
            };
            let old = self.state.pending.get(&due.runtime).filter(|old| old.instance == *instance);
            let means = match old {
                // With the key in its file a reload suffices, whatever was due before.
                Some(old) if due.runtime != Runtime::Docker => old.means.max(due.means),
                _ => due.means,
            };
            self.state.pending.insert(due.runtime, Pending { means, instance: instance.clone() });
        }
        if self.state.pending == before { Ok(()) } else { self.folder.save(&self.state) }
    }

    /// Takes what is ours out of a group's files again, because a runtime did not come up with it.
    pub(crate) fn withdraw(&mut self, runtime: Runtime, plan: &Plan, why: &str) -> io::Result<Outcome> {
        let group = group_of(runtime);
        let failed = Failed { tried: self.tried(plan, group)?, why: why.to_owned() };
        let nothing = Plan { running: plan.running.clone(), ..Plan::default() };
        let mut outcome = Outcome::default();
        self.apply_group(&nothing, group, &mut outcome)?;
        self.state.failed.insert(runtime, failed);
        self.folder.save(&self.state)?;
        self.tidy()?;
        Ok(outcome)
    }

    /// Why what is planned for a runtime was taken back before, if just that was, on the same files.
    pub(crate) fn failed_before(&self, plan: &Plan, runtime: Runtime) -> io::Result<Option<String>> {
        let Some(failed) = self.state.failed.get(&runtime) else { return Ok(None) };
        let same = self.tried(plan, group_of(runtime))? == failed.tried;
        Ok(same.then(|| failed.why.clone()))
    }

    /// Digest of what is planned for a group, and on what.
    fn tried(&self, plan: &Plan, group: Group) -> io::Result<String> {
        let mut all = Vec::new();
        for (path, file) in plan.files.iter().filter(|(_, file)| file.group == group) {
            all.push((path, &file.edit, self.base(path)?));
        }
        serde_json::to_string(&all).map(|text| digest(&text)).map_err(io::Error::other)
    }

    /// A runtime has seen its files, or a run of it began since.
    pub(crate) fn settled(&mut self, runtime: Runtime) -> io::Result<()> {
        if self.state.pending.remove(&runtime).is_some() { self.folder.save(&self.state) } else { Ok(()) }
    }

    /// Says who decides from now on.
    pub(crate) fn own(&mut self, owner: Owner) -> io::Result<()> {
        let owner = (!self.state.files.is_empty()).then_some(owner);
        if self.state.owner == owner {
            return Ok(());
        }
        self.state.owner = owner;
        self.folder.save(&self.state)
    }

    /// A runtime is no longer as it was when an edit of its files failed.
    pub(crate) fn forgive(&mut self, runtime: Runtime) -> io::Result<()> {
        if self.state.failed.remove(&runtime).is_some() { self.folder.save(&self.state) } else { Ok(()) }
    }
}
