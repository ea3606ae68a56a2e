//! What is held is held until it expires, and no longer.

use std::time::Duration;

use jiff::Timestamp;

use crate::source::IdentityKeeper;

/// How long the clock is left unread: it may be set forward, and a sleep does not see that.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Withdraws what the keeper holds as soon as its SVID has expired; never ends.
pub(crate) async fn withdraw_expired(keeper: &IdentityKeeper) {
    let mut identity = keeper.identity();
    loop {
        let Some(current) = keeper.current() else {
            identity.changed().await;
            continue;
        };
        let leaf = current.svid.leaf();
        if leaf.is_expired(Timestamp::now()) {
            tracing::error!(id = %leaf.id, "svid expired without a successor, identity withdrawn");
            keeper.withdraw();
            continue;
        }
        tokio::select! {
            _ = identity.changed() => {}
            () = tokio::time::sleep(left(leaf.not_after, Timestamp::now()).min(LOOK_EVERY)) => {}
        }
    }
}

/// How long something is still good whose last good second this is.
pub(crate) fn left(not_after: Timestamp, now: Timestamp) -> Duration {
    let left = not_after.duration_since(now).saturating_add(jiff::SignedDuration::from_secs(1));
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}
