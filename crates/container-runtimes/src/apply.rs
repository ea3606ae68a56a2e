//! One run: from what is wanted to what is in force.
//!
//! Files first ([`crate::reconcile`]), then the reload or restart that is due. A runtime whose CRI answered before a
//! restart has to answer after it: where it does not, what was there before comes back, and the runtime is restarted with
//! that. What was taken back so is not tried again by itself while nothing has changed.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::command::Commands;
use crate::containerd::config::Legacy;
use crate::cri::Cri;
use crate::detect::{Detected, Running, detect, instance};
use crate::docker::engine::Engine;
use crate::host::Host;
use crate::plan::{Endpoint, Plan, plan};
use crate::reconcile::{Change, Difference, Outcome, Shell, group_of};
use crate::reload::{Due, Means, services};
use crate::runtime::{MirrorRequest, Runtime};
use crate::service::{Carried, Manager, Services};
use crate::state::{Owner, StateFolder};

mod docker;
mod status;

pub use status::{Condition, RuntimeStatus, Status, status};

/// How often a CRI that is waited for is asked.
const LOOK: Duration = Duration::from_millis(250);

/// The machine, and what reaches it.
pub struct Machine<'a> {
    /// Its files.
    pub host: &'a Host,
    /// Our state.
    pub folder: &'a StateFolder,
    /// Its programs, for questions.
    pub commands: &'a dyn Commands,
    /// The same for restarts, which may take long.
    pub restarts: &'a dyn Commands,
    /// Its runtimes' CRI.
    pub cri: &'a dyn Cri,
    /// Its Docker Engine.
    pub engine: &'a dyn Engine,
    /// What restarts its services.
    pub manager: Manager,
    /// How long a CRI may take to come back.
    pub patience: Duration,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("host", self.host)
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}

/// What is wanted of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The registries, by runtime; with none of them everything of ours goes.
    pub requests: Vec<MirrorRequest>,
    /// The mirror. Needed where there are requests.
    pub endpoint: Option<Endpoint>,
    /// What to do with settings that exclude ours.
    pub legacy: Legacy,
    /// Whose word it is.
    pub owner: Owner,
    /// The most that is done to runtimes where it is due; what goes beyond is told.
    pub up_to: Means,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Files of the machine or of our state.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The state cannot be used.
    #[error("the record of what was written cannot be used: {}", in_words(.0))]
    State(#[source] io::Error),
    /// Another program is at it.
    #[error(
        "another program changes the container runtimes' files at this moment, a satellite that runs or another `satellite mirrors`; nothing was changed, try again in a moment"
    )]
    Busy,
    /// A person has decided otherwise.
    #[error(
        "mirrors were configured by hand on this machine; they stay until `satellite mirrors remove` is run there"
    )]
    ByHand,
    /// Another program keeps them.
    #[error(
        "{0} keeps the mirrors of this machine; two would undo each other's, so take them from one of the two"
    )]
    Kept(&'static str),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; changing these files needs root"),
        _ => error.to_string(),
    }
}

/// Where a runtime stands after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has seen its mirrors.
    InForce,
    /// It has seen that they are gone.
    Removed,
    /// Its files are written; it has to be reloaded or restarted to see them.
    RestartNeeded,
    /// It was left alone.
    Refused,
    /// Its files were written, and then what was there before came back.
    RolledBack,
}

/// A runtime after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeReport {
    /// Where it stands.
    pub state: Standing,
    /// Why, or what was done.
    pub message: Option<String>,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By runtime: those asked for, and those that had something of ours.
    pub runtimes: BTreeMap<Runtime, RuntimeReport>,
    /// By path on the machine.
    pub files: BTreeMap<String, Change>,
    /// What could not be checked by a runtime's own parser, and why.
    pub unchecked: Vec<String>,
}

/// What a run would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// By path on the machine.
    pub files: BTreeMap<String, Difference>,
    /// Runtimes that would be left alone, and why.
    pub refused: Vec<(Runtime, String)>,
}

impl Report {
    /// Whether everything is as it was asked for.
    pub fn is_done(&self) -> bool {
        self.runtimes.values().all(|runtime| matches!(runtime.state, Standing::InForce | Standing::Removed))
    }

    fn say(&mut self, runtime: Runtime, state: Standing, message: impl Into<Option<String>>) {
        self.runtimes.insert(runtime, RuntimeReport { state, message: message.into() });
    }
}

/// Makes the machine what is wanted.
///
/// # Errors
/// Where nothing could be looked at or written at all. What fails for one runtime is in the report, and others go on.
pub fn apply(machine: &Machine<'_>, wanted: &Wanted) -> Result<Report, ApplyError> {
    let _alone = machine.folder.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ApplyError::Busy,
        _ => ApplyError::State(error),
    })?;
    let mut shell = Shell::open(machine.host, machine.folder, machine.commands).map_err(ApplyError::State)?;
    if wanted.owner != Owner::Hand
        && let Some(other) = shell.state().owner.filter(|owner| *owner != wanted.owner)
    {
        return Err(match other {
            Owner::Hand => ApplyError::ByHand,
            Owner::Satellite => ApplyError::Kept("the satellite on this machine"),
            Owner::NodeAgent => ApplyError::Kept("the node agent on this machine"),
        });
    }
    let detected = detect(machine.host, machine.commands);
    let mut plan = make_plan(&detected, wanted, &shell)?;
    if wanted.owner != Owner::Hand {
        leave_out_what_failed(&mut plan, &shell)?;
    }
    let had = owners(&shell);
    let left = docker::leave(machine, wanted, &detected, &plan, &mut shell)?;
    let mut outcome = shell.apply(&plan)?;
    // Our own step in between does not hide what a person has done.
    if let Some(change) = left.edited.as_ref().and_then(|path| outcome.files.get_mut(path))
        && *change == Change::Restored
    {
        *change = Change::Stripped;
    }
    let mut report = Report { unchecked: outcome.unchecked.clone(), ..Report::default() };
    judge(&mut report, &plan, &outcome, &had, &shell);
    report.files = outcome.files;
    for runtime in Runtime::ALL {
        let asked = plan.files.values().any(|file| file.runtimes.contains(&runtime));
        if !asked && !plan.refused.iter().any(|(refused, _)| *refused == runtime) {
            shell.forgive(runtime)?;
        }
    }
    settle(machine, wanted, &detected, &plan, &left, &mut shell, &mut report)?;
    shell.own(wanted.owner)?;
    Ok(report)
}

/// What [`apply`] would change in files. Writes nothing, and needs no right to.
///
/// # Errors
/// Where nothing could be looked at.
pub fn difference(machine: &Machine<'_>, wanted: &Wanted) -> Result<Differences, ApplyError> {
    let shell = Shell::open(machine.host, machine.folder, machine.commands).map_err(ApplyError::State)?;
    let detected = detect(machine.host, machine.commands);
    let plan = make_plan(&detected, wanted, &shell)?;
    Ok(Differences { files: shell.preview(&plan)?, refused: plan.refused })
}

fn make_plan(detected: &[Detected], wanted: &Wanted, shell: &Shell<'_>) -> io::Result<Plan> {
    match &wanted.endpoint {
        Some(endpoint) => plan(&wanted.requests, detected, endpoint, wanted.legacy, shell),
        None => Ok(Plan::nothing(detected)),
    }
}

fn leave_out_what_failed(plan: &mut Plan, shell: &Shell<'_>) -> io::Result<()> {
    let failed: Vec<Runtime> = shell.state().failed.keys().copied().collect();
    for runtime in failed {
        if let Some(why) = shell.failed_before(plan, runtime)? {
            plan.files.retain(|_, file| file.group != group_of(runtime));
            plan.refused.push((runtime, format!("{why}; `satellite mirrors apply` tries it again")));
        }
    }
    Ok(())
}

/// The runtimes that have something of ours.
fn owners(shell: &Shell<'_>) -> Vec<Runtime> {
    let mut all: Vec<Runtime> =
        shell.state().files.values().flat_map(|record| record.runtimes.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Where each runtime stands as far as its files go.
fn judge(report: &mut Report, plan: &Plan, outcome: &Outcome, had: &[Runtime], shell: &Shell<'_>) {
    for runtime in had {
        report.say(*runtime, Standing::Removed, None);
    }
    for runtime in owners(shell) {
        report.say(runtime, Standing::InForce, None);
    }
    for file in plan.files.values() {
        for runtime in &file.runtimes {
            // Nothing of ours was needed: the operator has the mirror there already.
            report
                .runtimes
                .entry(*runtime)
                .or_insert(RuntimeReport { state: Standing::InForce, message: None });
        }
    }
    for (path, change) in &outcome.files {
        let (state, why) = match change {
            Change::Refused(why) => (Standing::Refused, why),
            Change::RolledBack(why) => (Standing::RolledBack, why),
            _ => continue,
        };
        let planned = plan.files.get(path).map(|file| &file.runtimes);
        let ours = shell.state().files.get(path).map(|record| &record.runtimes);
        for runtime in planned.or(ours).into_iter().flatten() {
            let first = report.runtimes.get(runtime).is_none_or(|there| there.message.is_none());
            if first {
                let named = why.contains(path.as_str());
                report.say(*runtime, state, if named { why.clone() } else { format!("{path}: {why}") });
            }
        }
    }
    for (runtime, why) in &plan.refused {
        report.say(*runtime, Standing::Refused, why.clone());
    }
}

/// Reloads and restarts what has not seen its files.
fn settle(
    machine: &Machine<'_>,
    wanted: &Wanted,
    detected: &[Detected],
    plan: &Plan,
    left: &docker::Left,
    shell: &mut Shell<'_>,
    report: &mut Report,
) -> io::Result<()> {
    let services_ = Services { host: machine.host, commands: machine.restarts, manager: &machine.manager };
    for (runtime, pending) in shell.state().pending.clone() {
        let found = detected.iter().find(|found| found.runtime == runtime);
        let process = found.and_then(|found| found.process.as_ref());
        let Some(process) = process.filter(|process| process.instance == pending.instance) else {
            shell.settled(runtime)?;
            continue;
        };
        let engine = found.filter(|_| runtime == Runtime::Docker);
        if engine.is_some_and(|found| docker::has_seen(machine, found) == Some(true)) {
            shell.settled(runtime)?;
            continue;
        }
        if engine.is_some() && pending.means == Means::Restart {
            let why = left.why.as_deref().unwrap_or("a reload leaves it the mirrors that it has");
            let words = format!("{why}; a restart ends the containers that run, so it is left to you");
            needed(report, runtime, pending.means, &words);
            continue;
        }
        if pending.means > wanted.up_to {
            needed(report, runtime, pending.means, "it is left to a person");
            continue;
        }
        let due = Due { runtime, means: pending.means, services: services(runtime) };
        let socket = found.and_then(|found| found.socket.as_deref());
        let socket = socket.filter(|_| pending.means == Means::Restart);
        let answers = || {
            socket
                .and_then(|socket| machine.host.resolved(socket).ok())
                .is_some_and(|socket| machine.cri.answers(&socket))
        };
        let answered = answers();
        let back = |process: &Running| {
            let end = Instant::now() + machine.patience;
            loop {
                let another = process.pid.is_none_or(|pid| instance(machine.host, pid) != process.instance);
                if another && answers() {
                    return Ok(());
                }
                if Instant::now() >= end {
                    return Err(another);
                }
                std::thread::sleep(LOOK);
            }
        };
        let trouble = match services_.carry_out(&due, Some(process)) {
            Carried::NotRunning => None,
            Carried::Needed(why) => {
                needed(report, runtime, pending.means, &why);
                continue;
            }
            Carried::Failed(why) if !answered => {
                needed(report, runtime, pending.means, &why);
                continue;
            }
            Carried::Failed(why) => Some(why),
            Carried::Done(how)
                if engine.is_some_and(|found| docker::will_have_seen(machine, found) == Some(false)) =>
            {
                let why = format!("{how} was done, and it goes on with other mirrors; look at its log");
                needed(report, runtime, pending.means, &why);
                continue;
            }
            Carried::Done(how) if !answered => {
                done(report, runtime, how);
                None
            }
            Carried::Done(how) => match back(process) {
                Ok(()) => {
                    done(report, runtime, how);
                    None
                }
                Err(true) => Some(format!(
                    "{how}: its CRI answered before, and not within {} s after",
                    machine.patience.as_secs()
                )),
                Err(false) => {
                    needed(
                        report,
                        runtime,
                        pending.means,
                        &format!("{how} did not end the process that runs"),
                    );
                    continue;
                }
            },
        };
        if let Some(why) = trouble {
            let outcome = shell.withdraw(runtime, plan, &why)?;
            report.files.extend(outcome.files.into_iter().map(|(path, change)| {
                let change =
                    if change == Change::Unchanged { change } else { Change::RolledBack(why.clone()) };
                (path, change)
            }));
            let again = match services_.carry_out(&due, Some(process)) {
                Carried::Done(_) if back(process).is_ok() => "it answers again",
                _ => "it does not answer again even so; look at its log",
            };
            report.say(
                runtime,
                Standing::RolledBack,
                format!("{why}; what was there before us is back, and {again}"),
            );
        } else {
            shell.forgive(runtime)?;
        }
        shell.settled(runtime)?;
    }
    Ok(())
}

fn needed(report: &mut Report, runtime: Runtime, means: Means, why: &str) {
    let what = if means == Means::Reload { "reload" } else { "restart" };
    report.say(runtime, Standing::RestartNeeded, format!("{what} needed: {why}"));
}

fn done(report: &mut Report, runtime: Runtime, how: String) {
    if let Some(there) = report.runtimes.get_mut(&runtime)
        && there.message.is_none()
    {
        there.message = Some(how);
    }
}

#[cfg(test)]
mod tests;
