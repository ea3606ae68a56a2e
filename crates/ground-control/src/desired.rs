//! What each satellite shall have, answered from memory, and who waits for it to change.
//!
//! The database numbers what is published, and whoever reads by number misses nothing ([`crate::store::Publications`]).
//! [`Hub`] holds what it has read so far. A notification of a change makes it read on at once; where one gets lost, the
//! position that each batch of heartbeats looks at shows that there is more, and so does a look every few seconds. The
//! same numbers tell who was shut out, so that nobody who was revoked goes on waiting.

mod documents;
mod waiting;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_protocol::desired::Desired;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::documents::Documents;
use self::waiting::Waiting;
use crate::domain::StoreResult;
use crate::domain::desired::{Position, Publication};
use crate::domain::document::DocumentKind;
use crate::store::SharedStore;

pub use waiting::{Poll, Woken};

/// How often it looks without being told.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it looks for documents of a program that knows no numbers.
const UNNUMBERED_EVERY: Duration = Duration::from_secs(600);
/// How many publications one query reads.
const PAGE: u32 = 500;

/// What is published, and who waits for more; cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: SharedStore,
    state: Mutex<State>,
    look: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before it was read for the first time.
    documents: Option<Documents>,
    waiting: Waiting,
}

/// What a look at the database found.
#[derive(Debug, Default)]
struct News {
    satellites: HashSet<String>,
    groups: HashSet<String>,
    configs: HashSet<String>,
    shut_out: Vec<String>,
}

impl News {
    fn note(&mut self, publication: &Publication) {
        let names = match publication.document.kind {
            DocumentKind::Satellite => &mut self.satellites,
            DocumentKind::Group => &mut self.groups,
            DocumentKind::Config => &mut self.configs,
        };
        names.insert(publication.document.name.clone());
    }
}

impl Hub {
    /// One that has read nothing yet; [`Hub::run`] reads.
    pub fn new(store: SharedStore) -> Self {
        Self(Arc::new(Shared { store, state: Mutex::default(), look: Notify::new() }))
    }

    /// What the satellite called `name` shall have, to be told to it now. `None` where nothing is known to be published for it.
    pub fn tell(&self, name: &str) -> Option<Desired> {
        self.state().documents.as_mut()?.tell(name, std::time::Instant::now())
    }

    /// When the satellite called `name`, which knows the generation `known`, is to be told of a newer one; `None` where there
    /// is none.
    pub(crate) fn due(&self, name: &str, known: u64) -> Option<std::time::Instant> {
        self.state().documents.as_ref()?.due(name, known, std::time::Instant::now())
    }

    /// Begins to wait for a change of what the satellite called `name` shall have. Whoever waits for it already is
    /// [`Woken::Replaced`]: a satellite waits once.
    pub fn wait(&self, name: &str) -> Poll {
        let (id, woken) = self.state().waiting.add(name);
        Poll::new(self.clone(), name, id, woken)
    }

    /// How many satellites wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Somebody saw how far publications are: where that is further than what is known here, it is read on.
    pub fn seen(&self, position: Position) {
        if self.state().documents.as_ref().is_some_and(|documents| documents.position != position) {
            self.0.look.notify_one();
        }
    }

    /// Reads on whenever there is more, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.0.store.changes();
        let mut told = true;
        let mut ask_at = Instant::now();
        loop {
            if let Err(error) = self.read_on().await {
                tracing::warn!(%error, "what is published was not read, tried again");
            }
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + UNNUMBERED_EVERY;
                self.ask_for_unnumbered().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv(), if told => told = !matches!(change, Err(RecvError::Closed)),
                () = self.0.look.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // One look is enough for all that was told meanwhile.
            changes = changes.resubscribe();
        }
    }

    async fn ask_for_unnumbered(&self) {
        match self.0.store.ask_for_unnumbered(Timestamp::now()).await {
            Ok(0) => {}
            Ok(asked) => tracing::info!(documents = asked, "asked for documents of an earlier version"),
            Err(error) => {
                tracing::warn!(%error, "documents of an earlier version not asked for, tried again")
            }
        }
    }

    /// Reads what was published since the last time and wakes whom it concerns.
    ///
    /// # Errors
    /// Where the database fails; what was read until then counts.
    pub async fn read_on(&self) -> StoreResult<()> {
        let position = self.0.store.position().await?;
        let known = self.state().documents.as_ref().map(|documents| documents.position);
        match known {
            Some(known) if known == position => Ok(()),
            Some(known) if known.epoch == position.epoch && known.number < position.number => {
                self.read_since(known.number, position).await
            }
            // The first time, or another database than before.
            _ => self.read_all(position).await,
        }
    }

    async fn read_all(&self, position: Position) -> StoreResult<()> {
        let mut documents = Documents::at(position);
        let mut after = 0;
        loop {
            let page = self.0.store.publications(after, position.number, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            page.into_iter().for_each(|publication| documents.apply(publication));
        }
        let mut state = self.state();
        state.documents = Some(documents);
        state.waiting.wake_all(Woken::ShutOut);
        Ok(())
    }

    async fn read_since(&self, mut after: u64, position: Position) -> StoreResult<()> {
        let mut news =
            News { shut_out: self.0.store.shut_out(after, position.number).await?, ..News::default() };
        let mut all = Vec::new();
        loop {
            let page = self.0.store.publications(after, position.number, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            page.iter().for_each(|publication| news.note(publication));
            all.extend(page);
        }
        let mut guard = self.state();
        let State { documents: Some(documents), waiting } = &mut *guard else { return Ok(()) };
        all.into_iter().for_each(|publication| documents.apply(publication));
        documents.position = position;
        for name in &news.shut_out {
            waiting.wake(name, Woken::ShutOut);
        }
        for name in &news.satellites {
            waiting.wake(name, Woken::Changed);
        }
        if !news.groups.is_empty() || !news.configs.is_empty() {
            waiting.wake_where(Woken::Changed, |name| documents.concerns(name, &news.groups, &news.configs));
        }
        Ok(())
    }

    fn end(&self, name: &str, id: u64) {
        self.state().waiting.remove(name, id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
