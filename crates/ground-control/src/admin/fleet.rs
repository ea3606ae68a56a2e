//! How the fleet is doing in a few numbers, asked of the database no more often than it matters.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::domain::StoreResult;
use crate::domain::rollout::Census;
use crate::domain::satellite::SatelliteState;
use crate::store::SharedStore;

/// For how long an answer is good: scrapes come every fifteen seconds or more, and may come from many.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many satellites are in which state and how many drift, and how much of what groups list is unresolved.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) satellites: Census,
    pub(crate) unresolved: u64,
}

/// Counts, and remembers.
#[derive(Debug)]
pub(super) struct Fleet {
    store: SharedStore,
    /// When was asked last, and what came of it; held while asking, so that one asks for all.
    last: Mutex<Option<(Instant, Option<Counts>)>>,
}

impl Fleet {
    pub(super) fn new(store: SharedStore) -> Self {
        Self { store, last: Mutex::new(None) }
    }

    /// `None` where the database did not answer; a failure is remembered like an answer.
    pub(super) async fn counts(&self) -> Option<Counts> {
        let mut last = self.last.lock().await;
        if let Some((at, counts)) = last.as_ref()
            && at.elapsed() < GOOD_FOR
        {
            return counts.clone();
        }
        let counts = match tokio::time::timeout(PATIENCE, self.count()).await {
            Ok(Ok(counts)) => Some(counts),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "fleet not counted");
                None
            }
            Err(_) => {
                tracing::warn!("fleet not counted in time");
                None
            }
        };
        *last = Some((Instant::now(), counts.clone()));
        counts
    }

    async fn count(&self) -> StoreResult<Counts> {
        let mut satellites = self.store.census().await?;
        for state in SatelliteState::ALL.into_iter().filter(|state| *state != SatelliteState::Deleted) {
            if satellites.states.iter().all(|(known, _)| *known != state) {
                satellites.states.push((state, 0));
            }
        }
        Ok(Counts { satellites, unresolved: self.store.unresolved().await? })
    }
}
