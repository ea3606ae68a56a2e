//! What is done from time to time: garbage collection, reading everything again to find damage, and giving back memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob_store::{ScrubOptions, Store, durable};
use jiff::Timestamp;

use crate::config::LiveConfig;
use crate::control::server::Subject;

/// Slow enough to be felt by nobody: a card reads ten times that.
const SCRUB_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// When the last scrub ended, so that a machine that is switched off every night is scrubbed all the same.
const LAST_SCRUB_FILE: &str = "last-scrub";
/// How often memory that bursts left behind is given back.
const RETURN_MEMORY: Duration = Duration::from_secs(5);
/// A start has better things to do than an overdue scrub.
const AFTER_START: Duration = Duration::from_secs(15 * 60);

/// Collects garbage at the interval in force, for as long as it is polled.
pub(crate) async fn collect(store: Store, config: LiveConfig) {
    let mut changes = config.subscribe();
    loop {
        let (wanted, interval) = {
            let config = changes.borrow_and_update();
            (config.gc, config.gc_interval)
        };
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        if !wanted {
            continue;
        }
        match store.collect_garbage().await {
            Ok(report) if report.blobs > 0 => {
                tracing::info!(blobs = report.blobs, bytes = report.bytes, "garbage collected");
            }
            Ok(_) => tracing::debug!("no garbage found"),
            Err(error) => tracing::warn!(%error, "garbage collection failed"),
        }
    }
}

/// Gives memory that transfers and pulls have freed back to the system, for as long as it is polled.
pub(crate) async fn return_memory() {
    loop {
        tokio::time::sleep(RETURN_MEMORY).await;
        process_memory::return_freed();
    }
}

/// Scrubs the store from time to time, for as long as it is polled; damage wakes the replication, which fetches again.
pub(crate) async fn scrub(subject: Arc<Subject>) {
    let interval = subject.site.scrub_interval;
    let file = subject.site.config_dir.join(LAST_SCRUB_FILE);
    loop {
        tokio::time::sleep(until_next(last(&file), interval, Timestamp::now())).await;
        match subject.store.scrub(ScrubOptions { bytes_per_second: SCRUB_BYTES_PER_SECOND }).await {
            Ok(report) if report.damaged.is_empty() => {
                tracing::info!(contents = report.checked, bytes = report.bytes, "store scrubbed, all whole");
            }
            Ok(report) => {
                tracing::warn!(
                    contents = report.checked,
                    damaged = report.damaged.len(),
                    "store scrubbed, damaged content is fetched again"
                );
                subject.sync.notify_one();
            }
            Err(error) => tracing::warn!(%error, "scrub failed"),
        }
        let (path, now) = (file.clone(), Timestamp::now().to_string());
        let kept = tokio::task::spawn_blocking(move || {
            durable::write_file(&path, now.as_bytes(), durable::PRIVATE_FILE)
        });
        if let Ok(Err(error)) = kept.await {
            tracing::debug!(%error, "time of the scrub not kept");
            tokio::time::sleep(interval).await;
        }
    }
}

fn last(file: &Path) -> Option<Timestamp> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn until_next(last: Option<Timestamp>, interval: Duration, now: Timestamp) -> Duration {
    let since = last.and_then(|last| Duration::try_from(now.duration_since(last)).ok());
    match since {
        // The first scrub of a new store waits the whole interval; a time in the future is a clock that was set.
        None => interval,
        Some(since) => interval.saturating_sub(since).max(AFTER_START.min(interval)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_often_off_is_scrubbed_all_the_same() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let ago = |seconds: i64| Some(Timestamp::from_second(1_000_000_000 - seconds).unwrap());
        let day = Duration::from_secs(86_400);
        assert_eq!(until_next(None, day, now), day);
        assert_eq!(until_next(ago(3600), day, now), Duration::from_secs(82_800));
        assert_eq!(until_next(ago(200_000), day, now), AFTER_START);
        assert_eq!(until_next(ago(-500), day, now), day);
        assert_eq!(until_next(ago(100), Duration::from_secs(5), now), Duration::from_secs(5));
    }
}
