//! Removes what revoked and deleted satellites were registered as, where it was made.
//!
//! They are refused by the database from the moment of the change; this only cleans up, and so it may wait, fail and try
//! again for as long as it takes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Lifecycle, Registrar};
use crate::domain::identity::{NameRecord, Withdrawal};
use crate::domain::{StoreError, satellite::SatelliteState};
use crate::metrics::{Job, Metrics};

/// How often is looked without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long whoever makes identities may take over one.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long the others leave alone what one has taken: a little longer than one takes, so that what a replica took that
/// died is soon another one's.
const HOLD: SignedDuration = SignedDuration::from_secs(45);
/// How many are taken at once: they are done one after the other, and the hold is that of one.
const BATCH: u32 = 1;
/// The longest wait between two tries.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);

/// What one look came to.
struct Looked {
    /// There may be more that is due.
    more: bool,
    /// Something was not withdrawn, and is tried again.
    failed: bool,
}

impl Lifecycle {
    /// Withdraws whatever is due, until `stop`.
    pub(crate) async fn withdraw(self, metrics: Metrics, stop: CancellationToken) {
        let Some(registrar) = self.registrar() else { return };
        loop {
            let run = metrics.job(Job::Withdrawal);
            let more = match self.withdraw_due(registrar.as_ref()).await {
                Ok(Looked { more, failed }) => {
                    run.ended(!failed);
                    more
                }
                Err(error) => {
                    run.ended(false);
                    tracing::warn!(%error, "withdrawals not looked up, tried again later");
                    false
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = std::future::ready(()), if more => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn withdraw_due(&self, registrar: &dyn Registrar) -> Result<Looked, StoreError> {
        let due = self.store.due_withdrawals(Timestamp::now(), HOLD, BATCH).await?;
        let more = due.len() == usize::try_from(BATCH).unwrap_or(usize::MAX);
        let mut failed = false;
        for withdrawal in due {
            failed |= !self.withdraw_one(registrar, &withdrawal).await?;
        }
        Ok(Looked { more, failed })
    }

    /// Whether it is done with: gone, or not to go any more.
    async fn withdraw_one(
        &self,
        registrar: &dyn Registrar,
        withdrawal: &Withdrawal,
    ) -> Result<bool, StoreError> {
        let registration = &withdrawal.registration;
        let (satellite, name) = (&registration.satellite, registration.name.as_str());
        let _guard = self.names.lock(name).await;
        match self.store.name_record(name).await? {
            // The name came back with a registration of its own, which has taken the place of this one. Without one, the
            // earlier device would be taken for the new satellite.
            NameRecord::Known(known) if known.satellite != *satellite => {
                if self.store.registration(name).await?.is_some() {
                    return self.store.withdrawn(satellite).await.map(|()| true);
                }
            }
            // It was let in again while this waited.
            NameRecord::Known(known) if known.state != SatelliteState::Revoked => return Ok(true),
            NameRecord::Known(_) | NameRecord::Deleted | NameRecord::Unknown => {}
        }
        let outcome = match tokio::time::timeout(PATIENCE, registrar.withdraw(withdrawal)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        match outcome {
            Ok(()) => {
                tracing::info!(satellite = name, "registration withdrawn");
                self.store.withdrawn(satellite).await.map(|()| true)
            }
            Err(error) => {
                tracing::warn!(satellite = name, %error, attempts = withdrawal.attempts, "registration not withdrawn, tried again later");
                let wait = pause(withdrawal.attempts, rand::random_range(0.0..1.0));
                let due = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
                self.store.withdrawal_failed(satellite, &error, due).await.map(|()| false)
            }
        }
    }
}

/// Doubling from two seconds on, up to [`LONGEST_WAIT`], of which a random half is taken off at most.
fn pause(attempts: u32, jitter: f64) -> SignedDuration {
    let seconds = 2_i64.checked_shl(attempts.min(20)).unwrap_or(i64::MAX).min(LONGEST_WAIT.as_secs());
    SignedDuration::from_secs(seconds).mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_and_are_bounded(attempts in 0_u32..2000, jitter in 0.0_f64..1.0) {
            let wait = pause(attempts, jitter);
            prop_assert!(wait >= SignedDuration::from_secs(1) && wait <= LONGEST_WAIT);
            prop_assert!(pause(attempts + 1, jitter) >= wait);
        }
    }
}
