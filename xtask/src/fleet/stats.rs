//! What the fleet saw: times of a window, and what went wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Kinds of failure that are told apart; more are counted together.
const KINDS: usize = 32;

/// What one time is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// From the request sent to the answer, of a heartbeat that waits for nothing.
    Acknowledged,
    /// By how much an answer came later than the end of the wait.
    Late,
    /// From the first byte of a connection to the end of the handshake.
    Connected,
}

/// Times of a window, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    acknowledged: Vec<f32>,
    late: Vec<f32>,
    connected: Vec<f32>,
    /// Heartbeats answered.
    pub(super) heartbeats: usize,
    /// What failed, by reason.
    pub(super) failures: BTreeMap<String, usize>,
}

impl Window {
    fn times(&mut self, of: Of) -> &mut Vec<f32> {
        match of {
            Of::Acknowledged => &mut self.acknowledged,
            Of::Late => &mut self.late,
            Of::Connected => &mut self.connected,
        }
    }

    /// How many there are of it.
    pub(super) fn count(&mut self, of: Of) -> usize {
        self.times(of).len()
    }

    /// The time in milliseconds below which this part of them lies; `None` where there is none.
    pub(super) fn quantile(&mut self, of: Of, part: f64) -> Option<f64> {
        quantile(self.times(of), part)
    }

    /// How much failed.
    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

/// Takes what satellites see; between two windows it is passed over.
#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<Option<Window>>);

impl Stats {
    /// Begins a window.
    pub(super) fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Window::default());
    }

    /// Ends it.
    pub(super) fn close(&self) -> Window {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    fn with(&self, note: impl FnOnce(&mut Window)) {
        if let Some(window) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            note(window);
        }
    }

    /// Notes a time.
    pub(super) fn took(&self, of: Of, time: Duration) {
        self.with(|window| window.times(of).push(time.as_secs_f32() * 1000.0));
    }

    /// Notes an answered heartbeat.
    pub(super) fn answered(&self) {
        self.with(|window| window.heartbeats += 1);
    }

    /// Notes a failure.
    pub(super) fn failed(&self, reason: &str) {
        self.with(|window| {
            let known = window.failures.len() < KINDS || window.failures.contains_key(reason);
            let kind = if known { reason } else { "others" };
            *window.failures.entry(kind.to_owned()).or_default() += 1;
        });
    }
}

/// The value below which this part of the values lies.
pub(super) fn quantile(values: &mut [f32], part: f64) -> Option<f64> {
    values.sort_by(f32::total_cmp);
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_came_while_it_was_open() {
        let stats = Stats::default();
        stats.took(Of::Late, Duration::from_millis(9));
        stats.open();
        for n in 1..=1000 {
            stats.took(Of::Late, Duration::from_millis(n));
        }
        for n in 0..100 {
            stats.failed(&format!("reason {n}"));
        }
        let mut window = stats.close();
        assert_eq!(window.count(Of::Late), 1000);
        assert_eq!(window.quantile(Of::Late, 0.99).map(f64::round), Some(990.0));
        assert_eq!(window.quantile(Of::Connected, 0.5), None);
        assert_eq!((window.failed(), window.failures.len()), (100, KINDS + 1));
        assert_eq!(stats.close().failed(), 0);
    }
}
