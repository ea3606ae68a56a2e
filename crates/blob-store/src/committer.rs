//! Group commit: one thread takes all writes that wait, decides each against the index, appends them to the journal as
//! one batch with one sync, brings the index up to date and only then answers.
//!
//! Every change of `blobs/` is made by this thread too, so publishing, collecting and quarantining never race.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::ballast;
use crate::durable;
use crate::error::{StoreError, at};
use crate::index::Position;
use crate::journal::{Draft, Journal};
use crate::record::Batch;
use crate::recover;
use crate::shared::{Shared, now};

mod transaction;

pub(crate) use transaction::Transaction;

/// Writes that wait at most; more callers wait for their turn.
const QUEUE: usize = 1024;
/// Writes in one batch at most.
const BATCH: usize = 256;
/// The index is synced at least after so many records, so that opening after a kill has no more to replay.
const MAX_REPLAY: u64 = 1024;
const MAX_REPLAY_BYTES: u64 = 4 << 20;
const MAX_UNSYNCED: Duration = Duration::from_secs(5);

trait Job: Send {
    fn run(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Write<T, F> {
    decide: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    _permit: OwnedSemaphorePermit,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_, '_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        let Some(decide) = self.decide.take() else { return Ok(()) };
        let before = transaction.records.len();
        match decide(transaction) {
            Err(e) if transaction.records.len() != before => Err(e),
            result => {
                self.result = Some(result);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            (Some(Err(e)), _) | (_, Err(e)) => Err(e),
            (Some(result), Ok(())) => result,
            (None, Ok(())) => Err(StoreError::Stopped),
        };
        // Whoever asked may have gone; the write stands all the same.
        drop(self.reply.send(result));
    }
}

enum Message {
    Write(Box<dyn Job>),
    Snapshot { draft: Result<Draft, StoreError>, offset: u64 },
    Sync(oneshot::Sender<Result<(), StoreError>>),
    Stop,
}

/// The handle of the committer's thread. Dropped, it waits until everything is written.
pub(crate) struct Committer {
    sender: Mutex<mpsc::Sender<Message>>,
    permits: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committer")
    }
}

impl Committer {
    pub(crate) fn start(shared: Arc<Shared>, journal: Journal, replayed: u64) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let root = shared.layout.root.clone();
        let position = shared.index.position()?;
        let own = sender.clone();
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || {
                Loop {
                    shared,
                    journal,
                    position,
                    unsynced: replayed,
                    unsynced_bytes: 0,
                    unsynced_since: (replayed > 0).then(Instant::now),
                    compaction: None,
                    sender: own,
                }
                .run(&receiver);
            })
            .map_err(at("start the committer of", &root))?;
        Ok(Self {
            sender: Mutex::new(sender),
            permits: Arc::new(Semaphore::new(QUEUE)),
            thread: Some(thread),
        })
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.send(message).map_err(|_| StoreError::Stopped)
    }

    /// Queues a write and waits until it is on the disk.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Transaction<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Write(Box::new(Write {
            decide: Some(decide),
            result: None,
            reply,
            _permit: permit,
        })))?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Queues a write that nobody waits for, if there is room: what is not queued will be found again.
    pub(crate) fn submit(
        &self,
        decide: impl FnOnce(&mut Transaction<'_, '_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
        let (reply, _) = oneshot::channel();
        let write = Write { decide: Some(decide), result: None, reply, _permit: permit };
        if self.send(Message::Write(Box::new(write))).is_err() {
            tracing::debug!("store is shutting down, finding dropped");
        }
    }

    /// Syncs the index, so that the next open has nothing to replay.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Sync(reply))?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.send(Message::Stop));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer ended by a panic");
        }
    }
}

struct Loop {
    shared: Arc<Shared>,
    journal: Journal,
    position: Position,
    /// Records that the index has and its file may not have.
    unsynced: u64,
    unsynced_bytes: u64,
    unsynced_since: Option<Instant>,
    compaction: Option<JoinHandle<()>>,
    sender: mpsc::Sender<Message>,
}

impl Loop {
    fn run(mut self, receiver: &mpsc::Receiver<Message>) {
        let mut stopping = false;
        while !stopping {
            let first = match self.unsynced_since {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => receiver.recv_timeout(MAX_UNSYNCED.saturating_sub(since.elapsed())),
            };
            let mut next = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => {
                    self.sync_or_log();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut jobs = Vec::new();
            while let Some(message) = next.take() {
                match message {
                    Message::Write(job) => jobs.push(job),
                    other => {
                        self.commit(std::mem::take(&mut jobs));
                        stopping |= self.control(other);
                    }
                }
                if jobs.len() < BATCH {
                    next = receiver.try_recv().ok();
                }
            }
            self.commit(jobs);
            self.compact_if_due();
        }
        if let Some(thread) = self.compaction.take() {
            drop(thread.join());
            if let Ok(Message::Snapshot { draft: Ok(draft), .. }) = receiver.try_recv() {
                draft.discard();
            }
        }
        self.sync_or_log();
    }

    fn control(&mut self, message: Message) -> bool {
        match message {
            Message::Write(_) => {}
            Message::Snapshot { draft, offset } => {
                self.compaction = None;
                if let Err(e) = draft.and_then(|draft| self.install(draft, offset)) {
                    tracing::warn!(error = %e, "journal not compacted, it is tried again later");
                }
            }
            Message::Sync(reply) => drop(reply.send(self.sync())),
            Message::Stop => return true,
        }
        false
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        if let Err(e) = self.put_journal_back() {
            tracing::error!(error = %e, "the journal was removed and cannot be written again");
        }
        let mut result = self.try_commit(&mut jobs);
        if matches!(result, Attempt::NotBegun(_)) && self.repair_index().is_ok() {
            result = self.try_commit(&mut jobs);
        }
        let error = match result {
            Attempt::Done => None,
            Attempt::Failed(e) | Attempt::NotBegun(e) => Some(e),
        };
        if error.as_ref().is_some_and(StoreError::is_no_space) {
            // Too late for these, in time for what makes space.
            ballast::release(&self.shared.layout.ballast());
        }
        for job in jobs {
            job.answer(error.as_ref().map_or(Ok(()), |e| Err(e.duplicate())));
        }
    }

    fn try_commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Attempt {
        let shared = Arc::clone(&self.shared);
        let sync_index = self.unsynced >= MAX_REPLAY
            || self.unsynced_bytes >= MAX_REPLAY_BYTES
            || self.unsynced_since.is_some_and(|since| since.elapsed() >= MAX_UNSYNCED);
        let (mut begun, mut appended) = (false, false);
        let (mut records, mut trash, mut after) = (Vec::new(), BTreeMap::new(), Vec::new());
        let before = self.journal.end();
        let result = shared.index.write(sync_index, |tables| {
            begun = true;
            let mut transaction = Transaction {
                tables,
                shared: &shared,
                at: now(),
                records: Vec::new(),
                directories: BTreeSet::new(),
                trash: BTreeMap::new(),
                after: Vec::new(),
            };
            let decided = jobs.iter_mut().try_for_each(|job| job.run(&mut transaction));
            let Transaction { at: time, directories, .. } = transaction;
            (records, trash, after) = (transaction.records, transaction.trash, transaction.after);
            decided?;
            if !records.is_empty() {
                for directory in &directories {
                    durable::sync_dir(directory).map_err(at("sync", directory))?;
                }
                let batch = Batch { at: time, records: std::mem::take(&mut records) };
                let appending = self.journal.append(&batch);
                records = batch.records;
                appending?;
                appended = true;
            }
            let position = Position { offset: self.journal.end(), ..self.position };
            tables.finish(position)
        });
        let result = match result {
            Err(e) if appended => {
                // The journal has it, so it is done; the index catches up from there.
                tracing::warn!(error = %e, "index failed after a commit, opening it again");
                self.repair_index()
            }
            other => other,
        };
        if result.is_ok() && appended {
            self.position.offset = self.journal.end();
            if sync_index {
                self.synced();
            } else {
                self.unsynced += records.len() as u64;
                self.unsynced_bytes += self.journal.end() - before;
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            shared.cache.invalidate(&records);
            for (digest, to) in &trash {
                // Lost content has no file.
                drop(fs::rename(shared.layout.blob(digest), to));
            }
        }
        for hook in after {
            hook(result.is_ok());
        }
        match result {
            Ok(()) => Attempt::Done,
            Err(e) if begun => Attempt::Failed(e),
            Err(e) => Attempt::NotBegun(e),
        }
    }

    /// Writes the journal again where somebody has removed it under the running store: else what is acknowledged from
    /// here on would be gone with the process.
    fn put_journal_back(&mut self) -> Result<(), StoreError> {
        if self.journal.is_in_place() {
            return Ok(());
        }
        tracing::error!(path = %self.journal.path().display(), "the journal was removed, writing it again");
        self.shared.layout.make_directories()?;
        self.journal = recover::rewrite(&self.shared.layout, &self.shared.index)?;
        self.position = Position { journal: self.journal.header().id, offset: self.journal.end() };
        Ok(())
    }

    /// Opens the index again after an I/O error and replays what it has lost.
    fn repair_index(&mut self) -> Result<(), StoreError> {
        let mut repaired = self.reopen_index();
        if repaired.is_err() && ballast::release(&self.shared.layout.ballast()) {
            repaired = self.reopen_index();
        }
        if let Err(e) = &repaired {
            tracing::error!(error = %e, "the index cannot be opened again");
        }
        repaired
    }

    fn reopen_index(&mut self) -> Result<(), StoreError> {
        self.shared.index.reopen()?;
        let from = self.shared.index.position()?;
        recover::replay(&self.shared.index, &mut self.journal, from.offset)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        let position = self.position;
        if let Err(e) = self.shared.index.write(true, |tables| tables.finish(position)) {
            self.repair_index()?;
            tracing::warn!(error = %e, "index could not be synced, the journal has everything");
            return Err(e);
        }
        self.synced();
        Ok(())
    }

    fn sync_or_log(&mut self) {
        if let Err(e) = self.sync() {
            tracing::warn!(error = %e, "index not synced");
            // Not at once again: the next write or the next interval tries.
            self.unsynced_since = Some(Instant::now());
        }
    }

    fn synced(&mut self) {
        (self.unsynced, self.unsynced_bytes, self.unsynced_since) = (0, 0, None);
    }

    /// Begins a snapshot beside the service when the journal says much more than what is live.
    fn compact_if_due(&mut self) {
        let allowed = self.shared.options.journal_slack + 2 * self.journal.header().snapshot_end;
        if self.compaction.is_some() || self.journal.end() <= allowed {
            return;
        }
        // The index on the disk must not be older than the snapshot: it continues from there.
        self.unsynced_since.get_or_insert_with(Instant::now);
        if let Err(e) = self.sync() {
            tracing::warn!(error = %e, "journal not compacted, the index cannot be synced");
            return;
        }
        let offset = self.position.offset;
        let started = self.shared.index.snapshot().and_then(|state| {
            let path = self.shared.layout.journal();
            let sender = self.sender.clone();
            let work = move || {
                let draft = Draft::begin(&path).and_then(|mut draft| {
                    match recover::write_snapshot(&state, &mut draft).and_then(|()| draft.sync()) {
                        Ok(()) => Ok(draft),
                        Err(e) => {
                            draft.discard();
                            Err(e)
                        }
                    }
                });
                drop(sender.send(Message::Snapshot { draft, offset }));
            };
            let name = std::thread::Builder::new().name("store-compact".into());
            name.spawn(work).map_err(at("start the compaction of", &self.shared.layout.root))
        });
        match started {
            Ok(thread) => self.compaction = Some(thread),
            Err(e) => tracing::warn!(error = %e, "journal not compacted"),
        }
    }

    fn install(&mut self, draft: Draft, offset: u64) -> Result<(), StoreError> {
        let (old, new) = (self.journal.end(), self.journal.succeed(draft, offset)?);
        self.journal = new;
        self.position = Position { journal: self.journal.header().id, offset: self.journal.end() };
        tracing::info!(from = old, to = self.journal.end(), "journal compacted");
        self.unsynced_since.get_or_insert_with(Instant::now);
        // A crash before this is understood: the new journal names the offset at which the old index continues.
        self.sync()
    }
}

enum Attempt {
    Done,
    /// Nothing was decided yet, so it can be tried again.
    NotBegun(StoreError),
    Failed(StoreError),
}

#[cfg(test)]
mod tests;
