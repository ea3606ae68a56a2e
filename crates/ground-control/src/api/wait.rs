//! Heartbeats that wait for news: `Prefer: wait=N` (RFC 7240 section 4.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_protocol::Desired;
use fleet_protocol::heartbeat::MAX_WAIT_SECONDS;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::state::AppState;
use crate::desired::{Hub, Woken};
use crate::domain::SatelliteId;
use crate::domain::identity::NameRecord;
use crate::store::SharedStore;

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The header that tells that an answer comes from somebody who can wait.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// For how long a satellite wants to wait, as far as it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preference(u32);

impl Preference {
    pub(super) fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// The value of [`PREFERENCE_APPLIED`].
    pub(super) fn applied(self) -> HeaderValue {
        HeaderValue::try_from(format!("wait={}", self.0)).unwrap_or(HeaderValue::from_static("wait"))
    }
}

/// The first `wait` among the preferences, cut to what is granted. What is no number is no preference (RFC 7240 section 2).
pub(super) fn preferred(headers: &HeaderMap) -> Option<Preference> {
    let lines = headers.get_all(PREFER).into_iter().filter_map(|line| line.to_str().ok());
    for preference in lines.flat_map(|line| line.split(',')) {
        // Parameters may follow.
        let Some((name, value)) = preference.split(';').next().and_then(|part| part.split_once('=')) else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
            return Some(Preference(seconds.min(MAX_WAIT_SECONDS)));
        }
    }
    None
}

/// A satellite that waits, with what it takes to wait and no more: ten thousand do.
pub(super) struct Waiter {
    store: SharedStore,
    desired: Hub,
    draining: CancellationToken,
    satellite: SatelliteId,
    name: Box<str>,
    /// The generation that it knows.
    known: u64,
    until: Instant,
}

impl Waiter {
    pub(super) fn new(
        state: &AppState,
        satellite: SatelliteId,
        name: Box<str>,
        known: u64,
        until: Instant,
    ) -> Self {
        let (store, desired) = (Arc::clone(&state.store), state.desired.clone());
        Self { store, desired, draining: state.draining.clone(), satellite, name, known, until }
    }

    /// What the satellite shall have, to be told to it now.
    pub(super) fn tell(&self) -> Option<Desired> {
        self.desired.tell(&self.name)
    }

    /// Waits until the satellite shall have something newer than it knows, until it asks anew, until this server ends, or until
    /// the end of the wait.
    ///
    /// # Errors
    /// 403 or 401 as soon as the satellite is shut out.
    pub(super) async fn for_news(&self) -> Result<(), ApiError> {
        loop {
            // Before it is looked: what changes in between wakes.
            let mut poll = self.desired.wait(&self.name);
            let due = self.desired.due(&self.name, self.known);
            let until = due.map_or(self.until, |due| due.min(self.until));
            if until <= Instant::now() {
                return Ok(());
            }
            let woken = tokio::select! {
                woken = poll.woken() => woken,
                () = self.draining.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(until.into()) => return Ok(()),
            };
            match woken {
                Woken::Changed => {}
                Woken::Replaced => return Ok(()),
                // Rare, and much larger than waiting.
                Woken::ShutOut => Box::pin(self.still_admitted()).await?,
            }
        }
    }

    async fn still_admitted(&self) -> Result<(), ApiError> {
        match self.store.name_record(&self.name).await? {
            NameRecord::Known(record) if record.satellite == self.satellite => {
                if record.state.admits() {
                    Ok(())
                } else {
                    Err(ApiError::forbidden("the satellite is not admitted"))
                }
            }
            _ => Err(ApiError::unauthorized()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(lines: &[&'static str]) -> Option<u32> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_static(line));
        }
        preferred(&headers).map(|preference| preference.0)
    }

    #[test]
    fn preferences_are_read() {
        assert_eq!(wait(&["wait=30"]), Some(30));
        assert_eq!(wait(&["respond-async, WAIT = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=100"]), Some(MAX_WAIT_SECONDS));
        assert_eq!(wait(&["wait=0"]), Some(0));
        for nothing in ["", "wait", "wait=", "wait=-1", "wait=soon", "waiting=3", "x=\"wait=3\""] {
            assert_eq!(wait(&[nothing]), None, "{nothing}");
        }
        assert_eq!(wait(&[]), None);
        assert_eq!(Preference(30).applied(), "wait=30");
    }
}
