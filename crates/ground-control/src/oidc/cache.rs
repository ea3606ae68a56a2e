//! What was fetched once and is good for a while, fetched again by one caller for all, at a bounded rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::provider::ProviderError;

/// For how long what cannot be fetched again is still used after its life.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// For how long a failure is everybody's: whoever waited meanwhile does not wait for another one.
const FAILURE: Duration = Duration::from_secs(3);
/// Fetches out of turn in a row, and how long it takes until there is one more.
const REFRESHES: u32 = 5;
const REFRESH_EVERY: Duration = Duration::from_secs(30);

/// A value of the provider.
#[derive(Debug)]
pub(super) struct Cached<T> {
    life: Duration,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: Option<(Instant, Arc<T>)>,
    failed: Option<(Instant, ProviderError)>,
    refreshes: u32,
    refreshes_at: Instant,
}

impl<T> Cached<T> {
    /// Nothing yet; what is fetched is good for `life`.
    pub(super) fn new(life: Duration) -> Self {
        let state = State { value: None, failed: None, refreshes: REFRESHES, refreshes_at: Instant::now() };
        Self { life, state: Mutex::new(state) }
    }

    /// The value, fetched if it is too old or not there: `fetch` does nothing before it is waited for.
    pub(super) async fn get(
        &self,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let mut state = self.state.lock().await;
        if let Some((at, value)) = &state.value
            && at.elapsed() < self.life
        {
            return Ok(Arc::clone(value));
        }
        state.fetch(fetch).await
    }

    /// A value that is newer than `seen`, fetched if there is none; `seen` itself where that was done too often.
    pub(super) async fn newer_than(
        &self,
        seen: &Arc<T>,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let mut state = self.state.lock().await;
        if let Some((_, value)) = &state.value
            && !Arc::ptr_eq(value, seen)
        {
            return Ok(Arc::clone(value));
        }
        if !state.may_refresh() {
            return Ok(Arc::clone(seen));
        }
        state.fetch(fetch).await
    }
}

impl<T> State<T> {
    fn may_refresh(&mut self) -> bool {
        let more = self.refreshes_at.elapsed().as_secs() / REFRESH_EVERY.as_secs();
        if more > 0 {
            self.refreshes =
                REFRESHES.min(self.refreshes.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)));
            self.refreshes_at = Instant::now();
        }
        let may = self.refreshes > 0;
        self.refreshes = self.refreshes.saturating_sub(1);
        may
    }

    async fn fetch(
        &mut self,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let recent = self.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE);
        let outcome = match recent {
            Some((_, error)) => Err(error.clone()),
            None => {
                let outcome = fetch.await;
                self.failed = outcome.as_ref().err().map(|error| (Instant::now(), error.clone()));
                outcome
            }
        };
        match (outcome, &self.value) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                self.value = Some((Instant::now(), Arc::clone(&value)));
                Ok(value)
            }
            (Err(error), Some((at, value))) if at.elapsed() < LONGEST => {
                tracing::warn!(%error, "identity provider does not answer, what it said before still counts");
                Ok(Arc::clone(value))
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn away() -> ProviderError {
        ProviderError::Away { url: "https://id.example.com".to_owned(), reason: "refused".to_owned() }
    }

    #[tokio::test]
    async fn a_value_is_fetched_once_in_its_life() {
        let (cached, fetched) = (Cached::new(Duration::from_secs(60)), AtomicU32::new(0));
        for _ in 0..3 {
            let value = cached.get(async { Ok(fetched.fetch_add(1, Ordering::Relaxed)) }).await.unwrap();
            assert_eq!(*value, 0);
        }
    }

    #[tokio::test]
    async fn an_old_value_counts_while_the_provider_is_away() {
        let cached = Cached::new(Duration::ZERO);
        assert!(cached.get(async { Err::<u32, _>(away()) }).await.is_err());
        assert!(cached.get(async { Ok(1) }).await.is_err(), "a failure is everybody's for a moment");
        cached.state.lock().await.failed = None;
        assert_eq!(*cached.get(async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(*cached.get(async { Err(away()) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_nobody_knows_is_looked_for_at_a_bounded_rate() {
        let (cached, fetched) = (Cached::new(Duration::from_secs(60)), AtomicU32::new(0));
        let fetch = async || Ok(fetched.fetch_add(1, Ordering::Relaxed));
        let mut seen = cached.get(fetch()).await.unwrap();
        let old = Arc::clone(&seen);
        for _ in 0..100 {
            seen = cached.newer_than(&seen, fetch()).await.unwrap();
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 1 + REFRESHES);
        // Whoever saw an older one is given the present one.
        assert!(Arc::ptr_eq(&cached.newer_than(&old, fetch()).await.unwrap(), &seen));
        assert_eq!(fetched.load(Ordering::Relaxed), 1 + REFRESHES);
    }
}
