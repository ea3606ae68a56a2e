//! Refusals, folded: equal ones within a window are one row with a count, and what is too much is counted.
//!
//! The first of its kind is written at once. Those that follow within the window are written as one row at its end, so that
//! a fleet of revoked satellites, or somebody who guesses passwords, fills neither memory nor database.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::domain::audit::{Action, Actor, ActorKind, Authentication, Event, Refusal};
use crate::metrics::Metrics;
use crate::store::SharedStore;

/// For how long equal refusals fold into one row.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// How often rows are written.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Different refusals within a window; further ones are only counted.
const MOST: usize = 1024;

/// What makes two refusals equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: ActorKind,
    name: String,
    by: Authentication,
    source: Option<IpAddr>,
    action: Action,
    subject: String,
    details: String,
}

#[derive(Debug)]
struct Folded {
    refusal: Refusal,
    opened: Instant,
    /// Whether a row told of it within this window.
    told: bool,
}

/// The decision, apart from clock and database.
#[derive(Debug, Default)]
struct Window {
    folded: HashMap<Key, Folded>,
    dropped: u64,
}

impl Window {
    /// `false` where it is only counted.
    fn note(&mut self, actor: Actor, event: Event, now: Instant) -> bool {
        let key = Key {
            kind: actor.kind,
            name: actor.name.clone(),
            by: actor.authenticated_by,
            source: actor.source,
            action: event.action,
            subject: event.subject.clone(),
            details: event.details(),
        };
        if let Some(folded) = self.folded.get_mut(&key) {
            folded.refusal.count = folded.refusal.count.saturating_add(1);
            // The request by which the row is found in the log is the latest.
            folded.refusal.actor = actor;
            return true;
        }
        if self.folded.len() >= MOST {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        let refusal = Refusal { actor, event, count: 1 };
        self.folded.insert(key, Folded { refusal, opened: now, told: false });
        true
    }

    /// What is to be written now; all of it, where this is the end.
    fn due(&self, now: Instant, end: bool) -> Vec<(Option<Key>, Refusal)> {
        let over = |folded: &Folded| end || now.duration_since(folded.opened) >= WINDOW;
        let mut due: Vec<_> = self
            .folded
            .iter()
            .filter(|(_, folded)| folded.refusal.count > 0 && (!folded.told || over(folded)))
            .map(|(key, folded)| (Some(key.clone()), folded.refusal.clone()))
            .collect();
        if self.dropped > 0 {
            let event = Event::on(Action::AuditDropped, "audit/refusals").with("refusals", self.dropped);
            due.push((None, Refusal { actor: Actor::system(), event, count: self.dropped }));
        }
        due
    }

    /// These were written: what came meanwhile stays.
    fn written(&mut self, written: &[(Option<Key>, Refusal)], now: Instant) {
        for (key, refusal) in written {
            let Some(key) = key else {
                self.dropped = self.dropped.saturating_sub(refusal.count);
                continue;
            };
            if let Some(folded) = self.folded.get_mut(key) {
                folded.refusal.count = folded.refusal.count.saturating_sub(refusal.count);
                if std::mem::replace(&mut folded.told, true) {
                    folded.opened = now;
                }
            }
        }
        // Whoever has stopped makes room.
        self.folded
            .retain(|_, folded| folded.refusal.count > 0 || now.duration_since(folded.opened) < WINDOW);
    }
}

/// Takes refusals; cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    window: Arc<Mutex<Window>>,
    metrics: Metrics,
}

impl Refusals {
    /// With nothing in it.
    pub fn new(metrics: Metrics) -> Self {
        Self { window: Arc::default(), metrics }
    }

    /// Takes one. Never waits for anything.
    pub fn note(&self, actor: Actor, event: Event) {
        let noted = self.lock().note(actor, event, Instant::now());
        if !noted {
            self.metrics.refusal_dropped();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what there is to `store`, until `stop`, and then the rest.
    pub async fn run(self, store: SharedStore, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            self.write(&store, end).await;
            if end {
                return;
            }
        }
    }

    /// Writes what is due; what cannot be written is tried again.
    async fn write(&self, store: &SharedStore, end: bool) {
        let due = self.lock().due(Instant::now(), end);
        if due.is_empty() {
            return self.lock().written(&[], Instant::now());
        }
        let rows: Vec<Refusal> = due.iter().map(|(_, refusal)| refusal.clone()).collect();
        match store.record_refusals(&rows).await {
            Ok(()) => self.lock().written(&due, Instant::now()),
            Err(error) => tracing::warn!(%error, "refusals not recorded, tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(name: &str) -> Actor {
        Actor::new(ActorKind::Anonymous, name, Authentication::None)
    }

    fn login() -> Event {
        Event::on(Action::UserLoggedIn, "POST /login").with("status", 401)
    }

    fn counts(due: &[(Option<Key>, Refusal)]) -> Vec<u64> {
        due.iter().map(|(_, refusal)| refusal.count).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_at_the_windows_end() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.note(stranger("ann"), login(), start);
        let due = window.due(start, false);
        assert_eq!(counts(&due), [1]);
        window.written(&due, start);
        for _ in 0..1000 {
            window.note(stranger("ann"), login(), start + WINDOW / 2);
        }
        assert_eq!(counts(&window.due(start + WINDOW / 2, false)), [0; 0]);
        assert_eq!(counts(&window.due(start + WINDOW / 2, true)), [1000], "nothing is kept back at the end");
        let due = window.due(start + WINDOW, false);
        assert_eq!(counts(&due), [1000]);
        // One comes while they are written.
        window.note(stranger("ann"), login(), start + WINDOW);
        window.written(&due, start + WINDOW);
        assert_eq!(counts(&window.due(start + WINDOW, false)), [0; 0]);
        let due = window.due(start + WINDOW * 2, false);
        assert_eq!(counts(&due), [1]);
        window.written(&due, start + WINDOW * 2);
        window.written(&[], start + WINDOW * 3);
        assert!(window.folded.is_empty(), "who has stopped is forgotten");
    }

    #[test]
    fn too_many_different_ones_are_counted() {
        let (mut window, start) = (Window::default(), Instant::now());
        for n in 0..MOST + 7 {
            let kept = window.note(stranger(&format!("name-{n}")), login(), start);
            assert_eq!(kept, n < MOST);
        }
        let due = window.due(start, false);
        assert_eq!(due.len(), MOST + 1);
        let dropped = due.iter().find(|(key, _)| key.is_none()).unwrap();
        assert_eq!((dropped.1.event.action, dropped.1.count), (Action::AuditDropped, 7));
        window.written(&due, start);
        assert_eq!(window.dropped, 0);
        assert!(window.note(stranger("name-1"), login(), start), "those that are known still count");
        window.written(&[], start + WINDOW);
        assert_eq!(window.folded.len(), 1);
        assert!(window.note(stranger("another"), login(), start + WINDOW));
    }

    #[test]
    fn what_differs_does_not_fold() {
        let (mut window, now) = (Window::default(), Instant::now());
        let source = |last: u8| stranger("ann").with_request(IpAddr::from([192, 0, 2, last]), None);
        window.note(source(1), login(), now);
        window.note(source(2), login(), now);
        window.note(source(1), Event::on(Action::UserLoggedIn, "POST /login").with("status", 429), now);
        window.note(source(1).with_request(IpAddr::from([192, 0, 2, 1]), Some("another")), login(), now);
        let mut all = counts(&window.due(now, false));
        all.sort_unstable();
        assert_eq!(all, [1, 1, 2], "the request's name alone makes no difference");
    }
}
