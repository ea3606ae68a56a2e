//! Group commit of heartbeats: many reports, one transaction.
//!
//! A durable commit costs a sync of the disk; a fleet that reports every few seconds would spend all its time there
//! one report after the other. A single task takes what has come in while the last commit ran and writes it at once.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::SharedStore;
use crate::desired::Hub;
use crate::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord};
use crate::domain::{StoreError, StoreResult};
use crate::metrics::{Lost, Metrics};

/// How many reports one transaction takes at most.
const BATCH: usize = 256;
/// How many reports may wait; the next ones are told that the database is busy.
const QUEUE: usize = 4096;

type Waiting = (HeartbeatRecord, oneshot::Sender<Result<HeartbeatOutcome, Arc<StoreError>>>);

/// Records heartbeats; cheap to clone. Its task ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct HeartbeatRecorder {
    queue: mpsc::Sender<Waiting>,
    metrics: Metrics,
}

impl HeartbeatRecorder {
    /// Starts the task that writes to `store`. Must be called within a Tokio runtime.
    ///
    /// `hub`: is shown with each batch how far publications are.
    pub fn start(store: SharedStore, hub: Hub, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, hub, waiting, metrics.clone()));
        Self { queue, metrics }
    }

    /// Records one report; returns when it is durable.
    ///
    /// `Busy` where too many wait already.
    pub async fn record(&self, heartbeat: HeartbeatRecord) -> StoreResult<HeartbeatOutcome> {
        const OPERATION: &str = "record a heartbeat";
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send((heartbeat, answer)).map_err(|_| {
            self.metrics.heartbeats_lost(1, Lost::QueueFull);
            StoreError::Busy { operation: OPERATION, source: "the queue is full".into() }
        })?;
        match outcome.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) if matches!(*error, StoreError::Busy { .. }) => {
                Err(StoreError::Busy { operation: OPERATION, source: Box::new(error) })
            }
            Ok(Err(error)) => Err(StoreError::Backend { operation: OPERATION, source: Box::new(error) }),
            Err(_) => Err(StoreError::Busy { operation: OPERATION, source: "the program is ending".into() }),
        }
    }
}

async fn write(store: SharedStore, hub: Hub, mut waiting: mpsc::Receiver<Waiting>, metrics: Metrics) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (records, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let start = Instant::now();
        match store.record_heartbeats(&records).await {
            Ok(outcomes) => {
                metrics.heartbeats_committed(records.len(), start.elapsed());
                tracing::debug!(heartbeats = records.len(), "heartbeats committed");
                if let Ok(position) = store.position().await {
                    hub.seen(position);
                }
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                metrics.heartbeats_lost(records.len(), Lost::Database);
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}
