//! What is special about Docker Engine: a reload takes no mirror away, a restart ends containers and is nobody's but a
//! person's, and the engine can be asked what it has seen.

use std::io;
use std::time::{Duration, Instant};

use super::{LOOK, Machine, Wanted};
use crate::detect::Detected;
use crate::docker;
use crate::plan::Plan;
use crate::reconcile::Shell;
use crate::reload::{Due, Means, services};
use crate::runtime::Runtime;
use crate::service::{Carried, Services};

/// The longest that an engine may take to read its file after it was told to.
const LIMIT: Duration = Duration::from_secs(10);

/// What became of the way out.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The file, where it was edited since we wrote it.
    pub(super) edited: Option<String>,
    /// Why the engine goes on with the mirrors that it had.
    pub(super) why: Option<String>,
}

/// Whether an engine uses the mirrors that its file and its flags name; none where it cannot be asked.
pub(super) fn has_seen(machine: &Machine<'_>, found: &Detected) -> Option<bool> {
    let now = now(machine, found)?;
    let text = machine.host.read(&found.config).ok()?.unwrap_or_default();
    let mut named = docker::mirrors(&text).ok()?;
    named.extend(found.mirror_flags.iter().cloned());
    Some(docker::same_mirrors(&now, &named))
}

/// The same, asked until it does or it would have.
pub(super) fn will_have_seen(machine: &Machine<'_>, found: &Detected) -> Option<bool> {
    let end = Instant::now() + LIMIT.min(machine.patience);
    loop {
        let seen = has_seen(machine, found)?;
        if seen || Instant::now() >= end {
            return Some(seen);
        }
        std::thread::sleep(LOOK);
    }
}

fn now(machine: &Machine<'_>, found: &Detected) -> Option<Vec<String>> {
    let socket = machine.host.resolved(found.socket.as_deref()?).ok()?;
    machine.engine.mirrors(&socket)
}

/// Takes our mirrors from an engine that runs, before the key goes from its file.
pub(super) fn leave(
    machine: &Machine<'_>,
    wanted: &Wanted,
    detected: &[Detected],
    plan: &Plan,
    shell: &mut Shell<'_>,
) -> io::Result<Left> {
    let mut left = Left::default();
    let Some(leaving) = shell.leaving(plan)? else { return Ok(left) };
    left.edited = leaving.edited.then(|| leaving.path.clone());
    let found = detected.iter().find(|found| found.runtime == Runtime::Docker);
    let Some((found, process)) = found.and_then(|found| Some((found, found.process.as_ref()?))) else {
        return Ok(left);
    };
    if wanted.up_to < Means::Reload {
        return Ok(left);
    }
    // What cannot be seen is not waited for: a file that is back too early would be read without the key.
    let Some(now) = now(machine, found) else {
        left.why = Some("it cannot be asked what it has seen".to_owned());
        return Ok(left);
    };
    if docker::same_mirrors(&now, &found.mirror_flags) {
        return Ok(left);
    }
    shell.empty(&leaving)?;
    let due = Due { runtime: Runtime::Docker, means: Means::Reload, services: services(Runtime::Docker) };
    let services_ = Services { host: machine.host, commands: machine.restarts, manager: &machine.manager };
    left.why = match services_.carry_out(&due, Some(process)) {
        Carried::Done(_) if will_have_seen(machine, found) == Some(true) => None,
        Carried::Done(how) => Some(format!("{how} was done, and it goes on with other mirrors")),
        Carried::NotRunning => None,
        Carried::Failed(why) | Carried::Needed(why) => Some(why),
    };
    Ok(left)
}
