//! One round: what was begun is settled, what is not ours is forgotten, labels are put back, what left goes, what is
//! missing is pulled, one after the other. Interrupted anywhere, the next round goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use container_runtimes::CallError;

use super::decide::{self, Labels, Record, Seen, Wanted};
use super::ledger::{Ledger, LedgerFile};
use crate::site::wire::{ImageState, NodeImage};

/// The first wait after a pull that failed, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What a round asks of a runtime.
pub trait Node {
    /// All records and images.
    fn look(&self) -> impl Future<Output = Result<Seen, CallError>>;
    /// Pulls a name by CRI.
    fn pull(&self, name: &str) -> impl Future<Output = Result<(), CallError>>;
    /// Sets our labels on a record, and no other.
    fn label(&self, labels: &Labels) -> impl Future<Output = Result<(), CallError>>;
    /// Removes one record, if it is still that one.
    fn remove(&self, record: &Record) -> impl Future<Output = Result<(), CallError>>;
    /// The names that are ours and wanted, for a runtime that keeps its pins in a list of names.
    fn hold(&self, names: &[String]) -> impl Future<Output = Result<(), String>>;
}

/// Why a round could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The runtime does not answer.
    #[error(transparent)]
    Runtime(#[from] CallError),
    /// Without the list on disk nothing is pulled or removed.
    #[error("the list of own images cannot be written: {0}; --state-dir names its folder")]
    Ledger(#[source] std::io::Error),
    /// The runtime's list of pins cannot be written.
    #[error("the runtime's list of pinned images is not as it shall be: {0}")]
    Pins(String),
}

/// A pull that failed.
#[derive(Debug, Clone)]
struct Failure {
    digest: String,
    reason: String,
    times: u32,
    next: Instant,
}

/// What an agent remembers between rounds.
#[derive(Debug)]
pub struct Agent<N> {
    node: N,
    file: LedgerFile,
    ledger: Ledger,
    failures: BTreeMap<String, Failure>,
}

/// Whether it was done. What the runtime refuses harms only itself: the next round tries again. A record that went
/// meanwhile is no concern of ours any more.
fn refused(done: Result<(), CallError>, what: &str, name: &str) -> Result<bool, RoundError> {
    match done {
        Ok(()) => Ok(true),
        Err(error @ CallError::Unreachable { .. }) => Err(error.into()),
        Err(error) => {
            if !error.is_not_found() {
                tracing::warn!(name, %error, "{what}");
            }
            Ok(false)
        }
    }
}

impl<N: Node> Agent<N> {
    /// An agent with what the last one left on disk.
    ///
    /// # Errors
    /// Where the disk does not let it be read.
    pub fn new(node: N, file: LedgerFile) -> std::io::Result<Self> {
        let ledger = file.load()?;
        Ok(Self { node, file, ledger, failures: BTreeMap::new() })
    }

    /// The runtime.
    pub fn node(&self) -> &N {
        &self.node
    }

    fn keep(&mut self, ledger: Ledger) -> Result<(), RoundError> {
        if ledger != self.ledger {
            self.file.store(&ledger).map_err(RoundError::Ledger)?;
            self.ledger = ledger;
        }
        Ok(())
    }

    /// Everything but pulls. Gives what there is afterwards, and what is to be pulled.
    ///
    /// # Errors
    /// [`RoundError`]; the next round makes up for it.
    pub async fn tidy(&mut self, wanted: &Wanted) -> Result<(Seen, Vec<String>), RoundError> {
        let mut seen = self.node.look().await?;
        let mut ledger = self.ledger.clone();
        if let Some(begun) = ledger.begun.take() {
            ledger.records.extend(decide::settle(&begun, &seen));
        }
        let decision = decide::decide(wanted, &ledger, &seen);
        ledger.records = decision.ours;
        self.keep(ledger)?;
        let mut pins: Vec<String> = wanted.names.keys().cloned().collect();
        pins.retain(|name| self.ledger.records.contains_key(name));
        let held = self.node.hold(&pins).await.map_err(RoundError::Pins);
        for labels in &decision.label {
            refused(self.node.label(labels).await, "labels not put back", &labels.name)?;
        }
        if !decision.remove.is_empty() {
            let mut ledger = self.ledger.clone();
            for record in &decision.remove {
                if refused(self.node.remove(record).await, "record not removed", &record.name)? {
                    ledger.records.remove(&record.name);
                }
            }
            self.keep(ledger)?;
            seen = self.node.look().await?;
        }
        held?;
        self.failures.retain(|name, failure| {
            wanted.names.get(name).is_some_and(|want| want.digest.as_ref() == Some(&failure.digest))
        });
        Ok((seen, decision.pull))
    }

    /// The next name to pull, of those that are missing: none that failed and has to wait.
    pub fn next(&self, missing: &[String], now: Instant) -> Option<String> {
        missing
            .iter()
            .filter(|name| self.failures.get(*name).is_none_or(|failure| failure.next <= now))
            // Those that never failed first: one that never works keeps nobody waiting.
            .min_by_key(|name| self.failures.get(*name).map_or(0, |failure| failure.times))
            .cloned()
    }

    /// When the next of those that failed is due.
    pub fn due(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.next).min()
    }

    /// Pulls one name. That the runtime refuses it is remembered, and no error.
    ///
    /// # Errors
    /// [`RoundError`] where the list on disk cannot be written, or the runtime does not answer.
    pub async fn pull(&mut self, name: &str, wanted: &Wanted) -> Result<(), RoundError> {
        let Some(digest) = wanted.names.get(name).and_then(|want| want.digest.clone()) else {
            return Ok(());
        };
        let before = self.node.look().await?;
        let begun = decide::begin(name, &digest, &before);
        let mut ledger = self.ledger.clone();
        ledger.begun = Some(begun.clone());
        self.keep(ledger)?;
        tracing::info!(name, %digest, "pulling");
        let pulled = self.node.pull(name).await;
        let after = self.node.look().await?;
        let mut ledger = self.ledger.clone();
        ledger.begun = None;
        ledger.records.extend(decide::settle(&begun, &after));
        self.keep(ledger)?;
        let reason = match pulled {
            Err(error @ CallError::Unreachable { .. }) => return Err(error.into()),
            Err(error) => Some(error.to_string()),
            Ok(()) => match after.target(name) {
                Some(target) if target == digest => None,
                Some(target) => Some(format!(
                    "the runtime got {target}, not {digest}: it did not ask the satellite, or the tag moved meanwhile"
                )),
                None => Some("the runtime pulled it and does not list it".to_owned()),
            },
        };
        match reason {
            None => {
                self.failures.remove(name);
                tracing::info!(name, %digest, "pulled");
            }
            Some(reason) => {
                tracing::warn!(name, reason, "not pulled");
                let times = self.failures.get(name).map_or(0, |failure| failure.times).saturating_add(1);
                let wait = FIRST_WAIT.saturating_mul(1 << times.saturating_sub(1).min(6)).min(LONGEST_WAIT);
                let next = Instant::now() + wait;
                let failure = Failure { digest, reason, times, next };
                self.failures.insert(name.to_owned(), failure);
            }
        }
        Ok(())
    }

    /// How it stands with each name that is wanted.
    pub fn presence(&self, wanted: &Wanted, seen: &Seen, pulling: Option<&str>) -> Vec<NodeImage> {
        let image = |(name, want): (&String, &decide::Name)| {
            let digest = want.digest.as_deref().unwrap_or_default();
            let failure = self.failures.get(name).filter(|failure| failure.digest == digest);
            let (state, reason) = match failure {
                _ if seen.has(name, digest) => (ImageState::Present, None),
                _ if pulling == Some(name.as_str()) => (ImageState::Pulling, None),
                Some(failure) => (ImageState::Failed, Some(failure.reason.clone())),
                None => (ImageState::Waiting, None),
            };
            NodeImage { name: name.clone(), digest: digest.to_owned(), state, reason }
        };
        wanted.names.iter().map(image).collect()
    }
}
