//! What is done again and again beside serving.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::api::AppState;
use crate::domain::StoreResult;
use crate::domain::audit::{Action, Event};
use crate::domain::change::Change;
use crate::domain::document::DocumentKind;
use crate::metrics::{Job, Metrics};
use crate::store::SharedStore;

/// How often what nothing names is collected from the registry's store.
const COLLECT_EVERY: Duration = Duration::from_secs(15 * 60);
/// How often ended sessions and old failures are removed.
const PURGE_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often is looked for members of groups to look at, without being told.
const LOOK_AT_MEMBERS_EVERY: Duration = Duration::from_secs(30);
/// The pause between some members of a group and the next.
const BETWEEN_MEMBERS: Duration = Duration::from_millis(20);
/// Rows of the audit that are removed at once.
const PIECE: u32 = 2000;
/// How often freed memory is given back.
const RETURN_MEMORY_EVERY: Duration = Duration::from_secs(60);
/// How often is looked for satellites that have fallen silent.
const LOOK_FOR_SILENCE_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn collect_garbage(
    blobs: blob_store::Store,
    store: SharedStore,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(COLLECT_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let run = metrics.job(Job::Garbage);
        let outcome = blobs.collect_garbage().instrument(Job::Garbage.span()).await;
        run.ended(outcome.is_ok());
        match outcome {
            Ok(report) => {
                tracing::info!(?report, "garbage collected");
                note_collected(&store, &report).await;
            }
            Err(error) => tracing::warn!(%error, "garbage not collected, tried again later"),
        }
    }
}

/// What is gone for good is in the audit, too; a collection that found nothing is not.
async fn note_collected(store: &SharedStore, report: &blob_store::GarbageReport) {
    if report.blobs == 0 {
        return;
    }
    let event = Event::new(Action::GarbageCollected, "registry", "builtin")
        .with("blobs", report.blobs)
        .with("bytes", report.bytes);
    if let Err(error) = store.record_event(&event).await {
        tracing::warn!(%error, "what was collected is not in the audit");
    }
}

/// Looks again at the members of groups whose lists were published, some at a time and never all day: whoever reports meanwhile
/// does not wait for it.
pub(super) async fn follow_rollouts(state: AppState, stop: CancellationToken) {
    let mut changes = state.store.changes();
    loop {
        let run = state.metrics.job(Job::Rollouts);
        let outcome = loop {
            match state.store.look_at_members().await {
                Ok(true) if !stop.is_cancelled() => tokio::time::sleep(BETWEEN_MEMBERS).await,
                outcome => break outcome,
            }
        };
        run.ended(outcome.is_ok());
        if let Err(error) = outcome {
            tracing::warn!(%error, "members of groups not looked at, tried again");
        }
        let again = tokio::time::sleep(LOOK_AT_MEMBERS_EVERY);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut again => break,
                change = changes.recv() => match change {
                    Ok(Change::Published(document)) if document.kind != DocumentKind::Group => {}
                    Ok(Change::Published(_) | Change::Lost) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Has the publisher look whenever people changed something, here or at another replica.
pub(super) async fn wake_publisher(state: AppState, stop: CancellationToken) {
    let mut changes = state.store.changes();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::Fleet | Change::Lost) | Err(RecvError::Lagged(_)) => state.publisher.wake(),
            Ok(_) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

pub(super) async fn purge(state: AppState, (rows, age): (u64, SignedDuration), stop: CancellationToken) {
    let mut ticks = tokio::time::interval(PURGE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let policy = state.people.lockout();
        let run = state.metrics.job(Job::Purge);
        let now = Timestamp::now();
        let ended = async {
            state.store.purge_expired(policy, now).await?;
            state.store.purge_logins(now).await?;
            state.store.purge_keys(now).await
        };
        let outcome = ended.instrument(Job::Purge.span()).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "ended sessions not removed, tried again later");
        }
        let pruned = prune(&state.store, rows, age).await;
        if let Err(error) = &pruned {
            tracing::warn!(%error, "old rows of the audit not removed, tried again later");
        }
        run.ended(outcome.is_ok() && pruned.is_ok());
    }
}

/// Removes rows of the audit that are too many or too old, a piece at a time: others write in between.
async fn prune(store: &SharedStore, rows: u64, age: SignedDuration) -> StoreResult<()> {
    let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
    let mut removed = 0;
    loop {
        match store.prune_audit(rows, before, PIECE).await? {
            0 => break,
            piece => removed += piece,
        }
    }
    if removed > 0 {
        tracing::info!(rows = removed, "old rows of the audit removed");
    }
    Ok(())
}

/// Gives memory back that a fleet which came all at once, or passwords, left behind.
pub(super) async fn return_memory(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETURN_MEMORY_EVERY) => {}
        }
        // It holds up whoever wants memory of the same heap, for some milliseconds where there is much to give.
        let _ = tokio::task::spawn_blocking(process_memory::return_freed).await;
    }
}

/// Makes satellites stale that have been silent for too long: for `threshold`, or three of their own intervals.
pub(super) async fn mark_stale(
    store: SharedStore,
    threshold: Option<SignedDuration>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK_FOR_SILENCE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let run = metrics.job(Job::Stale);
        let outcome = store.mark_stale(Timestamp::now(), threshold).instrument(Job::Stale.span()).await;
        run.ended(outcome.is_ok());
        match outcome {
            Ok(names) => names.iter().for_each(|name| tracing::info!(satellite = %name, "satellite stale")),
            Err(error) => tracing::warn!(%error, "silent satellites not looked for, tried again later"),
        }
    }
}
