//! Follows the trail by a cursor and sends it on: at least once, in order, holding up nobody.
//!
//! The cursor in the database stands at the last row that cannot be lost any more. A row that was handed to a connection is
//! in doubt for a while ([`Sink::in_doubt`]): what the other side had not read when the connection broke is gone. So the
//! cursor follows behind, and whoever begins (after a reconnect, a restart, on another replica) begins at the cursor. The
//! numbers of rows have no gaps: a row that is missing was removed for its age before it was sent, and is lost.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sink::{Connection, Sink, SinkError, SinkStatus, Statuses};
use crate::domain::StoreResult;
use crate::domain::audit::{AuditFilter, AuditFrom, SinkCursor};
use crate::metrics::Metrics;
use crate::store::SharedStore;

/// How often is looked for new rows.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rows sent at once.
const BATCH: u32 = 256;
/// For how long a lease holds.
const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// How often the cursor is noted and the lease kept.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Between two tries to connect: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// A connection that held for so long was a good one.
const GOOD: Duration = Duration::from_secs(3);

/// How a follower behaves.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Rows that may wait; older ones are given up.
    pub backlog: u64,
}

/// Sends the trail to one sink.
#[derive(Debug)]
pub struct Follower {
    store: SharedStore,
    sink: Box<dyn Sink>,
    /// The name of its cursor.
    cursor: String,
    /// The name of this process, as the holder of the lease.
    holder: String,
    policy: Policy,
    metrics: Metrics,
    statuses: Statuses,
}

/// Where a follower stands.
#[derive(Debug)]
struct Progress {
    /// The last row that was handed over.
    sent: u64,
    /// The last row that was handed over to any connection, or given up.
    furthest: u64,
    /// What was handed over and is in doubt: up to which row, and since when.
    doubtful: VecDeque<(u64, Instant)>,
    /// What is noted in the database.
    noted: SinkCursor,
    /// Rows given up, in all.
    lost: u64,
}

impl Progress {
    fn new(noted: SinkCursor) -> Self {
        let (sent, lost) = (noted.sequence, noted.lost);
        Self { sent, furthest: sent, doubtful: VecDeque::new(), noted, lost }
    }

    /// A connection broke: what was in doubt then goes again.
    fn rewind(&mut self, in_doubt: Duration, now: Instant) {
        self.sent = self.certain(in_doubt, now).sequence;
        self.doubtful.clear();
    }

    /// Rows up to `to` are not there any more, or too many.
    fn gave_up(&mut self, to: u64) {
        self.lost += to.saturating_sub(self.furthest.max(self.sent));
        self.sent = self.sent.max(to);
        self.furthest = self.furthest.max(self.sent);
    }

    /// Rows up to `to` were handed over.
    fn handed_over(&mut self, to: u64, now: Instant) {
        self.sent = to;
        self.furthest = self.furthest.max(to);
        self.doubtful.push_back((to, now));
    }

    /// The cursor as it stands now: behind what is in doubt.
    fn certain(&mut self, in_doubt: Duration, now: Instant) -> SinkCursor {
        let mut sequence = self.noted.sequence;
        while let Some((to, _)) =
            self.doubtful.front().filter(|(_, since)| now.duration_since(*since) >= in_doubt).copied()
        {
            sequence = sequence.max(to);
            self.doubtful.pop_front();
        }
        // What was given up is in no doubt.
        if self.doubtful.is_empty() {
            sequence = sequence.max(self.sent);
        }
        SinkCursor { sequence, lost: self.lost }
    }
}

/// Why a follower left its connection.
enum Ended {
    /// The server ends.
    Stop,
    /// Another replica has the sink now, or the database does not say.
    Lease,
    /// The connection broke.
    Broken(SinkError),
}

impl Follower {
    /// Sends what is in `store` to `sink`. `replica`: the lasting name of this replica's own files; `process`: the name of
    /// this process, which no other has.
    pub fn new(
        store: SharedStore,
        sink: Box<dyn Sink>,
        (replica, process): (&str, &str),
        policy: Policy,
        metrics: Metrics,
        statuses: Statuses,
    ) -> Self {
        let cursor =
            if sink.is_local() { format!("{}@{replica}", sink.name()) } else { sink.name().to_owned() };
        let name = sink.name();
        statuses.set(SinkStatus { sink: name, ok: true, lag: 0, lost: 0 });
        Self { store, sink, cursor, holder: process.to_owned(), policy, metrics, statuses }
    }

    /// Follows until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = RETRY.0;
        // Told once for each outage.
        let mut failing = false;
        'lease: loop {
            let Some(mut progress) = self.lease(&stop).await else { return };
            loop {
                let began = Instant::now();
                let connected = tokio::select! {
                    connected = self.sink.connect() => connected,
                    () = stop.cancelled() => return self.release(&mut progress).await,
                };
                let ended = match connected {
                    Ok(mut connection) => {
                        self.follow(connection.as_mut(), &mut progress, &mut failing, &stop).await
                    }
                    Err(error) => Ended::Broken(error),
                };
                match ended {
                    Ended::Stop => return self.release(&mut progress).await,
                    Ended::Lease => continue 'lease,
                    Ended::Broken(error) => {
                        progress.rewind(self.sink.in_doubt(), Instant::now());
                        if !std::mem::replace(&mut failing, true) {
                            let sink = self.sink.name();
                            tracing::warn!(sink, %error, "audit not sent on, tried again");
                        }
                    }
                }
                if began.elapsed() >= GOOD {
                    retry = RETRY.0;
                }
                let wait = retry.mul_f64(0.75 + rand::random::<f64>() / 2.0);
                retry = (retry * 2).min(RETRY.1);
                if !self.wait(wait, &mut progress, &stop).await {
                    if stop.is_cancelled() {
                        return self.release(&mut progress).await;
                    }
                    continue 'lease;
                }
            }
        }
    }

    /// Waits until this process holds the sink; `None` at the end.
    async fn lease(&self, stop: &CancellationToken) -> Option<Progress> {
        loop {
            let now = Timestamp::now();
            match self.store.claim_sink(&self.cursor, &self.holder, now, now + LEASE).await {
                Ok(Some(cursor)) => return Some(Progress::new(cursor)),
                // Another replica sends: what it does is its to tell.
                Ok(None) => self.tell(true, 0, 0),
                Err(error) => tracing::warn!(sink = self.sink.name(), %error, "audit sink not claimed"),
            }
            tokio::select! {
                () = tokio::time::sleep(NOTE_EVERY) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Keeps the lease while the sink is away; `false` where it is lost, or at the end.
    async fn wait(&self, wait: Duration, progress: &mut Progress, stop: &CancellationToken) -> bool {
        let until = Instant::now() + wait;
        loop {
            // What is lost is lost while nobody takes it, too.
            if let Err(error) = self.bound(progress).await {
                tracing::debug!(%error, "audit not looked at");
            } else if let Ok(end) = self.store.audit_end().await {
                self.tell(false, end.saturating_sub(progress.sent), progress.lost);
            }
            if !matches!(self.note(progress).await, Ok(true)) {
                return false;
            }
            let next = until.min(Instant::now() + NOTE_EVERY);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = stop.cancelled() => return false,
            }
            if Instant::now() >= until {
                return true;
            }
        }
    }

    /// Sends until something ends it.
    async fn follow(
        &self,
        connection: &mut dyn Connection,
        progress: &mut Progress,
        failing: &mut bool,
        stop: &CancellationToken,
    ) -> Ended {
        let mut noted = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stop,
                error = connection.broken() => return Ended::Broken(error),
                _ = ticks.tick() => {}
            }
            loop {
                let rows = match self.next(progress).await {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::debug!(%error, "audit not read, tried again");
                        break;
                    }
                };
                let Some(last) = rows.last().map(|row| row.sequence) else { break };
                if let Err(error) = connection.send(&rows).await {
                    return Ended::Broken(error);
                }
                progress.handed_over(last, Instant::now());
                if rows.len() < BATCH as usize || noted.elapsed() >= NOTE_EVERY {
                    break;
                }
            }
            if let Ok(end) = self.store.audit_end().await {
                self.tell(true, end.saturating_sub(progress.sent), progress.lost);
            }
            if noted.elapsed() >= NOTE_EVERY {
                match self.note(progress).await {
                    Ok(true) => noted = Instant::now(),
                    Ok(false) => return Ended::Lease,
                    // The lease goes on for a while; without a database there are no new rows either.
                    Err(error) => {
                        tracing::debug!(%error, "audit cursor not noted");
                        if noted.elapsed() >= LEASE.unsigned_abs() {
                            return Ended::Lease;
                        }
                    }
                }
                if std::mem::take(failing) {
                    tracing::info!(sink = self.sink.name(), "audit sent on again");
                }
            }
        }
    }

    /// The rows to be sent next.
    async fn next(&self, progress: &mut Progress) -> StoreResult<Vec<crate::domain::audit::Entry>> {
        self.bound(progress).await?;
        let from = AuditFrom::After(progress.sent);
        let rows = self.store.audit_entries(&AuditFilter::default(), from, BATCH).await?;
        if let Some(first) = rows.first()
            && first.sequence > progress.sent + 1
        {
            progress.gave_up(first.sequence - 1);
        }
        Ok(rows)
    }

    /// Gives up what waits beyond the bound.
    async fn bound(&self, progress: &mut Progress) -> StoreResult<()> {
        let end = self.store.audit_end().await?;
        let oldest = end.saturating_sub(self.policy.backlog);
        if oldest > progress.sent {
            let before = progress.lost;
            progress.gave_up(oldest);
            if progress.lost > before {
                let rows = progress.lost - before;
                tracing::warn!(sink = self.sink.name(), rows, "audit rows lost for a sink, too many waited");
            }
        }
        Ok(())
    }

    /// Notes the cursor and keeps the lease; `false` where another one has it.
    async fn note(&self, progress: &mut Progress) -> StoreResult<bool> {
        let cursor = progress.certain(self.sink.in_doubt(), Instant::now());
        let held = self.store.move_sink(&self.cursor, &self.holder, cursor, Timestamp::now() + LEASE).await?;
        if held {
            progress.noted = cursor;
        }
        Ok(held)
    }

    /// Lets others have the sink at once.
    async fn release(&self, progress: &mut Progress) {
        let cursor = progress.certain(self.sink.in_doubt(), Instant::now());
        let now = Timestamp::now();
        if let Err(error) = self.store.move_sink(&self.cursor, &self.holder, cursor, now).await {
            tracing::warn!(sink = self.sink.name(), %error, "audit cursor not noted, some rows are sent again");
        }
    }

    fn tell(&self, ok: bool, lag: u64, lost: u64) {
        let status = SinkStatus { sink: self.sink.name(), ok, lag, lost };
        self.metrics.set_audit_sink(&status);
        self.statuses.set(status);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOUBT: Duration = Duration::from_secs(60);

    fn cursor(sequence: u64) -> SinkCursor {
        SinkCursor { sequence, lost: 0 }
    }

    #[test]
    fn the_cursor_follows_behind_what_is_in_doubt() {
        let (mut progress, start) = (Progress::new(cursor(10)), Instant::now());
        progress.handed_over(15, start);
        progress.handed_over(20, start + DOUBT / 2);
        assert_eq!(progress.certain(DOUBT, start + DOUBT / 2), cursor(10));
        progress.noted = progress.certain(DOUBT, start + DOUBT);
        assert_eq!(progress.noted, cursor(15));
        progress.rewind(DOUBT, start + DOUBT);
        assert_eq!(progress.sent, 15, "what is in doubt goes again, and nothing before");
        progress.handed_over(20, start + DOUBT);
        assert_eq!(progress.certain(DOUBT, start + DOUBT * 2), cursor(20));
    }

    #[test]
    fn what_was_sent_once_is_not_lost_when_it_is_gone() {
        let (mut progress, now) = (Progress::new(cursor(0)), Instant::now());
        progress.handed_over(10, now);
        progress.rewind(DOUBT, now);
        progress.gave_up(15);
        assert_eq!((progress.lost, progress.sent), (5, 15));
        progress.gave_up(15);
        assert_eq!(progress.lost, 5);
        assert_eq!(progress.certain(DOUBT, now), SinkCursor { sequence: 15, lost: 5 });
    }

    proptest! {
        /// Whatever happens, each row is sent, or lost and counted; the cursor never goes back and never passes what is in
        /// doubt.
        #[test]
        fn nothing_is_forgotten(steps in prop::collection::vec((0u8..4, 1u64..5), 1..60)) {
            let start = Instant::now();
            let (mut progress, mut seconds) = (Progress::new(cursor(0)), 0u64);
            let (mut arrived, mut given_up) = (std::collections::BTreeSet::new(), 0);
            let mut pending: Vec<(u64, u64)> = Vec::new();
            for (step, n) in steps {
                let now = start + Duration::from_secs(seconds);
                match step {
                    0 => {
                        let to = progress.sent + n;
                        pending.extend((progress.sent + 1..=to).map(|row| (row, seconds)));
                        progress.handed_over(to, now);
                    }
                    1 => seconds += n * 20,
                    2 => {
                        let before = progress.noted.sequence;
                        progress.noted = progress.certain(DOUBT, now);
                        prop_assert!(progress.noted.sequence >= before);
                    }
                    _ => {
                        // What was sent within the last minute never arrived.
                        arrived.extend(pending.drain(..).filter(|(_, at)| seconds - at >= 60).map(|(row, _)| row));
                        progress.rewind(DOUBT, now);
                        if n == 4 {
                            given_up = given_up.max(progress.sent + n);
                            progress.gave_up(progress.sent + n);
                        }
                    }
                }
            }
            for row in 1..=progress.noted.sequence {
                let on_its_way = pending.iter().any(|(sent, _)| *sent == row);
                prop_assert!(arrived.contains(&row) || on_its_way || row <= given_up, "row {}", row);
            }
        }
    }
}
