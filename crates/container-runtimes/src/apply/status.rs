//! What is configured on a machine, by our own record and by its files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{ApplyError, Machine, docker};
use crate::detect::detect;
use crate::reconcile::Shell;
use crate::reload::Means;
use crate::runtime::Runtime;
use crate::state::{Owner, digest};

/// What is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Who decided it; nobody where nothing of ours is there.
    pub owner: Option<Owner>,
    /// The runtimes that are installed, and those that have something of ours.
    pub runtimes: BTreeMap<Runtime, RuntimeStatus>,
}

/// One runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuntimeStatus {
    /// Whether it is installed.
    pub installed: bool,
    /// Its version, where it tells one.
    pub version: Option<String>,
    /// Whether it runs; unknown where the machine's processes cannot be seen.
    pub running: Option<bool>,
    /// Registries that have a mirror of ours.
    pub registries: BTreeSet<String>,
    /// These mirrors.
    pub mirrors: BTreeSet<String>,
    /// Files of ours, or with something of ours in them.
    pub files: BTreeMap<String, Condition>,
    /// What it needs to see them.
    pub needs: Option<Means>,
    /// Why they were taken back, if they were.
    pub failed: Option<String>,
}

/// How a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// As we wrote it.
    Written,
    /// As it was before us: a run ended between its record and the file.
    Before,
    /// Edited since; what of ours is left in it is not known without a look.
    Edited,
    /// Gone.
    Missing,
    /// It cannot be read.
    Unreadable,
}

impl Status {
    /// Whether nothing waits for a person.
    pub fn is_well(&self) -> bool {
        self.runtimes.values().all(|runtime| {
            runtime.needs.is_none()
                && runtime.failed.is_none()
                && runtime.files.values().all(|file| *file == Condition::Written)
        })
    }
}

/// Looks at a machine. Writes nothing.
///
/// # Errors
/// Where our record cannot be read.
pub fn status(machine: &Machine<'_>) -> Result<Status, ApplyError> {
    let shell = Shell::open(machine.host, machine.folder, machine.commands).map_err(ApplyError::State)?;
    let state = shell.state();
    let mut status = Status { owner: state.owner, ..Status::default() };
    for found in detect(machine.host, machine.commands) {
        let needs = state.pending.get(&found.runtime).filter(|pending| {
            found.process.as_ref().is_some_and(|process| process.instance == pending.instance)
        });
        let engine_has =
            || found.runtime == Runtime::Docker && docker::has_seen(machine, &found) == Some(true);
        let needs = needs.filter(|_| !engine_has());
        let seen = found.process.as_ref().is_none_or(|process| process.pid.is_some());
        let runtime = RuntimeStatus {
            installed: true,
            version: found.version.map(|version| version.to_string()),
            running: seen.then_some(found.process.is_some()),
            needs: needs.map(|pending| pending.means),
            ..RuntimeStatus::default()
        };
        status.runtimes.insert(found.runtime, runtime);
    }
    for (path, record) in &state.files {
        let condition = match machine.host.read(path) {
            Ok(Some(text)) if digest(&text) == record.written => Condition::Written,
            Ok(Some(text)) if Some(digest(&text)) == record.before => Condition::Before,
            Ok(Some(_)) => Condition::Edited,
            Ok(None) => Condition::Missing,
            Err(_) => Condition::Unreadable,
        };
        for runtime in &record.runtimes {
            let runtime = status.runtimes.entry(*runtime).or_default();
            runtime.files.insert(path.clone(), condition);
            runtime.registries.extend(record.edit.registries().into_iter().map(str::to_owned));
            runtime.mirrors.extend(record.edit.mirrors().into_iter().map(str::to_owned));
        }
    }
    for (runtime, failed) in &state.failed {
        status.runtimes.entry(*runtime).or_default().failed = Some(failed.why.clone());
    }
    Ok(status)
}
