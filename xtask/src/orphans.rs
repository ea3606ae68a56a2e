//! Nothing outlives a task: the process adopts whatever its children leave behind, and ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

/// Has the system hand orphans of our children to us instead of to init.
pub(crate) fn adopt() {
    // Where this is refused, orphans go to init, and handles still end what they started.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Waits for the signal that ends a task; gives the exit code that shells expect for it.
pub(crate) async fn interrupted() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut stream) => {
            stream.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => 130,
        () = wait(SignalKind::terminate()) => 143,
        () = wait(SignalKind::hangup()) => 129,
    }
}

/// Ends every process below this one: asks, waits a moment, kills.
pub(crate) fn end() {
    for (signal, patience) in [(Signal::TERM, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))]
    {
        let deadline = Instant::now() + patience;
        let mut told = std::collections::BTreeSet::new();
        loop {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            let left = descendants();
            if left.is_empty() {
                return;
            }
            for pid in left.into_iter().filter(|pid| told.insert(*pid)) {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Living processes below this one.
fn descendants() -> Vec<i32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything: state and parent follow its end.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if let (Some(state), Some(Ok(parent))) = (state, parent.map(str::parse::<i32>))
            && state != "Z"
        {
            parents.insert(pid, parent);
        }
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let below = |pid: i32| {
        let mut current = pid;
        // A chain of parents is short; the bound is for a table that changed while it was read.
        for _ in 0..64 {
            match parents.get(&current) {
                Some(parent) if *parent == own => return true,
                Some(parent) => current = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| below(*pid)).collect()
}
