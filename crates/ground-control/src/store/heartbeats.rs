//! Heartbeats in batches: what is known of those who send them is read at once, and what they say is written at once.
//!
//! A durable commit costs a sync of the disk; a fleet that reports every few seconds would spend all its time there one
//! report after the other. Two tasks share the work. One takes what has come in, looks up its senders with one query, and
//! answers those whose report says only that they are still there: such a report may be acknowledged up to a second before
//! it is committed. The other one writes, at once where somebody waits for the commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::SharedStore;
use crate::desired::Hub;
use crate::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord, Listed, Nodes, Report, Sender};
use crate::domain::identity::{Admission, NameRecord, Shown, admit};
use crate::domain::satellite::Robot;
use crate::domain::{SatelliteId, StoreError, StoreResult};
use crate::metrics::{Lost, Metrics};

/// How many reports one transaction takes at most.
const BATCH: usize = 512;
/// How many reports may wait; the next ones are told that the database is busy.
const QUEUE: usize = 4096;
/// How long a report that was acknowledged waits for others to be committed with.
const LINGER: Duration = Duration::from_millis(500);
/// How often a batch is tried where others hold the database.
const TRIES: u32 = 3;

/// With what a report's sender showed who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// An SVID: its region, and its epoch where our own authority issued it.
    Svid {
        /// The region in its SPIFFE ID.
        region: String,
        /// The epoch in its serial number.
        epoch: Option<i64>,
    },
    /// The secret of this satellite's robot.
    Robot(SatelliteId),
}

/// A report as it came in.
#[derive(Debug)]
pub struct Incoming {
    /// The satellite's name, by its credential and never by the name inside.
    pub name: String,
    /// What it showed.
    pub credential: Credential,
    /// When it came.
    pub received_at: Timestamp,
    /// The report.
    pub report: Report,
}

/// What became of a report.
#[derive(Debug)]
pub enum Fold {
    /// It counts.
    Taken(Box<Taken>),
    /// What was shown opens nothing; who asks again, more slowly, learns why.
    NotAdmitted,
}

/// What a report that counts brought to light.
#[derive(Debug)]
pub struct Taken {
    /// The satellite.
    pub satellite: SatelliteId,
    /// Whether it is the first that was heard of the satellite since it was `pending`.
    pub first: bool,
    /// Its robot.
    pub robot: Robot,
    /// Whether the use of its SVID is to be noted.
    pub awaits_use: bool,
    /// The digest of the list of images that is kept, for who sent one.
    pub inventory: Option<String>,
    /// The digest by which the list of nodes is known that is kept, for who sent one.
    pub nodes: Option<String>,
    /// Whether the list of images or that of nodes is another one than that, and was not sent.
    pub list_missing: bool,
}

type Answer = oneshot::Sender<Result<Fold, Arc<StoreError>>>;

#[expect(clippy::large_enum_variant, reason = "all but a few are reports: a box for each would cost more")]
enum Waiting {
    Report(Incoming, Answer),
    Flush(oneshot::Sender<()>),
}

#[expect(clippy::large_enum_variant, reason = "all but a few are reports: a box for each would cost more")]
enum Entry {
    Report(HeartbeatRecord, Option<(Answer, Box<Taken>)>),
    Flush(oneshot::Sender<()>),
}

/// Records heartbeats; cheap to clone. Its tasks end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct HeartbeatRecorder {
    queue: mpsc::Sender<Waiting>,
    metrics: Metrics,
}

impl HeartbeatRecorder {
    /// Starts the tasks that read from and write to `store`. Must be called within a Tokio runtime.
    ///
    /// `hub`: is shown with each batch how far publications are.
    pub fn start(store: SharedStore, hub: Hub, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (writer, entries) = mpsc::channel(QUEUE);
        tokio::spawn(fold(Arc::clone(&store), hub, waiting, writer));
        tokio::spawn(write(store, entries, metrics.clone()));
        Self { queue, metrics }
    }

    /// Takes one report. What it says is durable when this returns, unless it says only that the satellite is still there: that
    /// is within a second.
    ///
    /// `Busy` where too many wait already.
    pub async fn record(&self, incoming: Incoming) -> StoreResult<Fold> {
        const OPERATION: &str = "record a heartbeat";
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Waiting::Report(incoming, answer)).map_err(|_| {
            self.metrics.heartbeats_lost(1, Lost::QueueFull);
            StoreError::Busy { operation: OPERATION, source: "the queue is full".into() }
        })?;
        match outcome.await {
            Ok(Ok(fold)) => Ok(fold),
            Ok(Err(error)) if matches!(*error, StoreError::Busy { .. }) => {
                Err(StoreError::Busy { operation: OPERATION, source: Box::new(error) })
            }
            Ok(Err(error)) => Err(StoreError::Backend { operation: OPERATION, source: Box::new(error) }),
            Err(_) => Err(StoreError::Busy { operation: OPERATION, source: "the program is ending".into() }),
        }
    }

    /// Returns when all that was acknowledged is durable, or could not be made so.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Waiting::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

/// Looks up who reports, answers what can be answered at once, and hands everything on to be written.
async fn fold(
    store: SharedStore,
    hub: Hub,
    mut waiting: mpsc::Receiver<Waiting>,
    writer: mpsc::Sender<Entry>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut names: Vec<String> = batch
            .iter()
            .filter_map(|waiting| match waiting {
                Waiting::Report(incoming, _) => Some(incoming.name.clone()),
                Waiting::Flush(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let senders = store.senders(&names).await.map_err(Arc::new);
        if let Ok(position) = store.position().await {
            hub.seen(position);
        }
        for waiting in batch.drain(..) {
            let entry = match (waiting, &senders) {
                (Waiting::Flush(done), _) => Some(Entry::Flush(done)),
                (Waiting::Report(_, answer), Err(error)) => {
                    let _ = answer.send(Err(Arc::clone(error)));
                    None
                }
                (Waiting::Report(incoming, answer), Ok(senders)) => entry(incoming, answer, senders),
            };
            if let Some(entry) = entry
                && writer.send(entry).await.is_err()
            {
                return;
            }
        }
    }
}

/// What is to be written of a report, after its sender was answered where that need not wait.
fn entry(incoming: Incoming, answer: Answer, senders: &HashMap<String, Sender>) -> Option<Entry> {
    let Some(sender) = senders.get(&incoming.name).filter(|sender| admits(sender, &incoming.credential))
    else {
        let _ = answer.send(Ok(Fold::NotAdmitted));
        return None;
    };
    let record = HeartbeatRecord {
        satellite: sender.identity.satellite.clone(),
        received_at: incoming.received_at,
        report: incoming.report,
    };
    let kept = sender.kept.as_ref().map_or("", |kept| kept.inventory.as_str());
    let listed = record.listed(kept);
    let inventory = (!record.report.inventory_digest.is_empty()).then(|| match listed {
        Listed::Missing => kept.to_owned(),
        Listed::Here | Listed::AsBefore => record.report.inventory_digest.clone(),
    });
    let kept_nodes = sender.kept.as_ref().map_or("", |kept| kept.nodes.as_str());
    let nodes = (!record.report.nodes_digest.is_empty()).then(|| record.nodes(kept_nodes).0);
    let nodes_missing = record.report.nodes_listed(kept_nodes) == Nodes::Missing;
    let taken = Box::new(Taken {
        satellite: record.satellite.clone(),
        first: false,
        robot: sender.robot.clone(),
        awaits_use: sender.identity.awaits_use,
        inventory,
        nodes,
        list_missing: listed == Listed::Missing || nodes_missing,
    });
    if sender.hears_news(&record) {
        return Some(Entry::Report(record, Some((answer, taken))));
    }
    let _ = answer.send(Ok(Fold::Taken(taken)));
    Some(Entry::Report(record, None))
}

fn admits(sender: &Sender, credential: &Credential) -> bool {
    match credential {
        Credential::Svid { region, epoch } => {
            let known = NameRecord::Known(sender.identity.clone());
            admit(&known, &Shown { region, epoch: *epoch }) == Admission::Admitted
        }
        Credential::Robot(satellite) => {
            sender.identity.satellite == *satellite && sender.identity.state.admits()
        }
    }
}

/// Writes what comes in: at once where somebody waits for it, else when there is enough or it has lain for long enough.
async fn write(store: SharedStore, mut entries: mpsc::Receiver<Entry>, metrics: Metrics) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let deadline = tokio::time::Instant::now() + LINGER;
        while batch.len() < BATCH && batch.iter().all(|entry| matches!(entry, Entry::Report(_, None))) {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, entries.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let (mut records, mut answers, mut flushed) =
            (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Report(record, answer) => {
                    records.push(record);
                    answers.push(answer);
                }
                Entry::Flush(done) => flushed.push(done),
            }
        }
        commit(&store, &records, answers, &metrics).await;
        for done in flushed {
            let _ = done.send(());
        }
    }
}

async fn commit(
    store: &SharedStore,
    records: &[HeartbeatRecord],
    answers: Vec<Option<(Answer, Box<Taken>)>>,
    metrics: &Metrics,
) {
    if records.is_empty() {
        return;
    }
    let start = Instant::now();
    let mut written = store.record_heartbeats(records).await;
    for _ in 1..TRIES {
        if !matches!(written, Err(StoreError::Busy { .. })) {
            break;
        }
        written = store.record_heartbeats(records).await;
    }
    match written {
        Ok(outcomes) => {
            metrics.heartbeats_committed(records.len(), start.elapsed());
            tracing::debug!(heartbeats = records.len(), "heartbeats committed");
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let Some((answer, taken)) = answer else { continue };
                let _ = answer.send(Ok(match outcome {
                    HeartbeatOutcome::Recorded { first, .. } => {
                        Fold::Taken(Box::new(Taken { first, ..*taken }))
                    }
                    HeartbeatOutcome::Refused | HeartbeatOutcome::Gone => Fold::NotAdmitted,
                }));
            }
        }
        Err(error) => {
            metrics.heartbeats_lost(records.len(), Lost::Database);
            tracing::warn!(%error, heartbeats = records.len(), "heartbeats not committed");
            let error = Arc::new(error);
            for (answer, _) in answers.into_iter().flatten() {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
        }
    }
}
