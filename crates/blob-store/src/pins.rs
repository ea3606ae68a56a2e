//! Contents that may not be collected now, because somebody is about to name them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Digest;

#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    /// Chosen by a collection that is not committed yet: such content counts as gone.
    doomed: HashSet<Digest>,
}

impl Pins {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a collection is taking the content right now.
    pub(crate) fn is_doomed(&self, digest: &Digest) -> bool {
        self.state().doomed.contains(digest)
    }

    /// Dooms the content unless it is held.
    pub(crate) fn doom(&self, digest: &Digest) -> bool {
        let mut state = self.state();
        !state.held.contains_key(digest) && state.doomed.insert(*digest)
    }

    /// The collection is over, committed or not.
    pub(crate) fn reprieve(&self, digests: &[Digest]) {
        let mut state = self.state();
        for digest in digests {
            state.doomed.remove(digest);
        }
    }
}

/// Keeps contents from being collected while it lives.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    digests: Vec<Digest>,
}

impl Pin {
    pub(crate) fn new(pins: Arc<Pins>, digests: Vec<Digest>) -> Self {
        {
            let mut state = pins.state();
            for digest in &digests {
                *state.held.entry(*digest).or_default() += 1;
            }
        }
        Self { pins, digests }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state();
        for digest in &self.digests {
            if let Some(count) = state.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(digest);
                }
            }
        }
    }
}
