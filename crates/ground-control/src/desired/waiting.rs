//! Who waits for a change.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::Hub;

/// Why a poll does not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// What the satellite shall have may be another now.
    Changed,
    /// The satellite may be shut out: it is to be looked up again.
    ShutOut,
    /// The satellite has asked anew.
    Replaced,
}

/// A satellite that waits, until this is dropped.
#[derive(Debug)]
pub struct Poll {
    hub: Hub,
    name: Box<str>,
    id: u64,
    woken: oneshot::Receiver<Woken>,
}

impl Poll {
    pub(super) fn new(hub: Hub, name: &str, id: u64, woken: oneshot::Receiver<Woken>) -> Self {
        Self { hub, name: name.into(), id, woken }
    }

    /// Waits until there is a reason to look. A poll wakes once.
    pub async fn woken(&mut self) -> Woken {
        (&mut self.woken).await.unwrap_or(Woken::Replaced)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.hub.end(&self.name, self.id);
    }
}

/// The polls, by satellite.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    polls: HashMap<Box<str>, (u64, oneshot::Sender<Woken>)>,
    last: u64,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.polls.len()
    }

    /// Begins a poll; one of the same satellite ends.
    pub(super) fn add(&mut self, name: &str) -> (u64, oneshot::Receiver<Woken>) {
        let (wake, woken) = oneshot::channel();
        self.last += 1;
        if let Some((_, before)) = self.polls.insert(name.into(), (self.last, wake)) {
            let _ = before.send(Woken::Replaced);
        }
        (self.last, woken)
    }

    /// Ends a poll, unless another one has taken its place.
    pub(super) fn remove(&mut self, name: &str, id: u64) {
        if self.polls.get(name).is_some_and(|(present, _)| *present == id) {
            self.polls.remove(name);
        }
    }

    pub(super) fn wake(&mut self, name: &str, why: Woken) {
        if let Some((_, wake)) = self.polls.remove(name) {
            let _ = wake.send(why);
        }
    }

    pub(super) fn wake_where(&mut self, why: Woken, mut concerned: impl FnMut(&str) -> bool) {
        for (_, (_, wake)) in self.polls.extract_if(|name, _| concerned(name)) {
            let _ = wake.send(why);
        }
    }

    pub(super) fn wake_all(&mut self, why: Woken) {
        for (_, (_, wake)) in self.polls.drain() {
            let _ = wake.send(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_satellite_waits_once() {
        let mut waiting = Waiting::default();
        let (first, mut woken) = waiting.add("edge-01");
        let (_, mut second) = waiting.add("edge-01");
        assert_eq!(woken.try_recv(), Ok(Woken::Replaced));
        // The first one that ends leaves the second one be.
        waiting.remove("edge-01", first);
        waiting.add("edge-02");
        assert_eq!(waiting.len(), 2);
        waiting.wake_where(Woken::Changed, |name| name == "edge-01");
        assert_eq!((second.try_recv(), waiting.len()), (Ok(Woken::Changed), 1));
    }
}
