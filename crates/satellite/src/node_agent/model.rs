//! A containerd with its CRI plugin in memory, as far as names, labels and pulls go, and the people and kubelets that use
//! it beside the agent. It knows of each record who made it, and panics where the agent lays hands on another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use container_runtimes::CallError;

use super::decide::{Labels, Record, Seen};
use super::ledger::Made;
use super::round::Node;

/// Who made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Agent,
    Other,
    /// Another, while a pull of ours was broken off and not yet told apart: nobody can tell.
    Nobody,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) maker: Maker,
    /// Whether its content is whole, so that CRI lists it.
    pub(super) whole: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<String, Entry>,
    /// What pulls find: name and digest.
    pub(super) registry: BTreeMap<String, String>,
    clock: i64,
    /// After so many of a pull's steps the agent is killed.
    pub(super) kill_after: Option<u32>,
    /// Labels set and records removed by the agent.
    pub(super) acts: u32,
    /// A pull of the agent was broken off.
    pub(super) broken_off: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model(Mutex<State>);

/// The identifier of what a digest stands for. The digests `…0` and `…1` are an index and another one with the same
/// manifest for this platform.
pub(super) fn id_of(digest: &str) -> String {
    let number: u32 = digest.trim_start_matches("sha256:").trim_start_matches('0').parse().unwrap_or(0);
    format!("sha256:{:064}", 1000 + number / 2)
}

impl State {
    fn put(&mut self, name: &str, target: &str, maker: Maker, whole: bool) {
        self.clock += 1;
        let made = Made(self.clock, 0);
        match self.entries.get_mut(name) {
            // An update: labels are replaced, the moment stays.
            Some(entry) => {
                entry.record.target = target.to_owned();
                entry.record.pinned = false;
                entry.record.mark = None;
                entry.whole = whole;
                if maker == Maker::Nobody && entry.maker == Maker::Agent {
                    entry.maker = maker;
                }
            }
            None => {
                let record = Record {
                    name: name.to_owned(),
                    target: target.to_owned(),
                    made,
                    pinned: false,
                    mark: None,
                };
                self.entries.insert(name.to_owned(), Entry { record, maker, whole });
            }
        }
    }

    /// What a pull by CRI does, up to a step; whether it came to its end.
    pub(super) fn pull(&mut self, name: &str, maker: Maker, kill_after: Option<u32>) -> Option<bool> {
        let digest = self.registry.get(name)?.clone();
        let reaches = |step: u32| kill_after.is_none_or(|last| step <= last);
        let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
        let steps = [name.to_owned(), id_of(&digest), format!("{repository}@{digest}")];
        for (step, record) in (1..).zip(&steps) {
            if !reaches(step) {
                return Some(false);
            }
            self.put(record, &digest, maker, false);
        }
        for entry in self.entries.values_mut().filter(|entry| entry.record.target == digest) {
            entry.whole = true;
        }
        Some(reaches(4))
    }

    /// What CRI's RemoveImage does: every name of the image goes.
    pub(super) fn remove_image(&mut self, name: &str) {
        let Some(entry) = self.entries.get(name) else { return };
        let id = id_of(&entry.record.target);
        self.entries.retain(|_, entry| id_of(&entry.record.target) != id);
    }

    /// `ctr images tag`: a copy with its labels.
    pub(super) fn tag(&mut self, from: &str, to: &str) {
        let Some(entry) = self.entries.get(from).cloned() else { return };
        if self.entries.contains_key(to) {
            return;
        }
        self.clock += 1;
        let record = Record { name: to.to_owned(), made: Made(self.clock, 0), ..entry.record };
        self.entries.insert(to.to_owned(), Entry { record, maker: Maker::Other, whole: entry.whole });
    }
}

impl Model {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Node for &Model {
    async fn look(&self) -> Result<Seen, CallError> {
        let state = self.state();
        let whole = state.entries.values().filter(|entry| entry.whole && entry.record.name.contains('/'));
        Ok(Seen {
            images: whole.map(|entry| (entry.record.name.clone(), id_of(&entry.record.target))).collect(),
            records: state.entries.values().map(|entry| entry.record.clone()).collect(),
        })
    }

    async fn pull(&self, name: &str) -> Result<(), CallError> {
        let came_to_its_end = {
            let mut state = self.state();
            let kill_after = state.kill_after;
            let end = state.pull(name, Maker::Agent, kill_after);
            state.broken_off |= end == Some(false);
            end
        };
        match came_to_its_end {
            Some(true) => Ok(()),
            // Nobody is there any more to hear of it.
            Some(false) => std::future::pending().await,
            None => {
                Err(CallError::Unreachable { socket: "registry".to_owned(), why: "no such image".to_owned() })
            }
        }
    }

    async fn label(&self, labels: &Labels) -> Result<(), CallError> {
        let mut state = self.state();
        state.acts += 1;
        let entry = state.entries.get_mut(&labels.name).unwrap();
        assert_ne!(entry.maker, Maker::Other, "labelled {}", labels.name);
        entry.record.pinned = labels.pinned;
        entry.record.mark = Some(labels.mark.clone());
        Ok(())
    }

    async fn remove(&self, record: &Record) -> Result<bool, CallError> {
        let mut state = self.state();
        state.acts += 1;
        let entry = state.entries.remove(&record.name).unwrap();
        assert_eq!(&entry.record, record);
        assert_ne!(entry.maker, Maker::Other, "removed {}", record.name);
        Ok(true)
    }

    async fn hold(&self, _names: &[String], _stay: &BTreeSet<String>) -> Result<(), String> {
        Ok(())
    }
}
