//! One round: what was begun is settled, what is not ours is forgotten, labels are put back, what left goes, what is
//! missing is pulled, one after the other. Interrupted anywhere, the next round goes on.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Removes one record, if it is still that one. False where the runtime cannot: it stays ours for as long as it is
    /// there.
    fn remove(&self, record: &Record) -> impl Future<Output = Result<bool, CallError>>;
    /// The names that are wanted and ours, or will be once they are pulled, for a runtime that keeps its pins in a list of
    /// names; of those in `stay` what is in that list stays there. The error is what a person has to know.
    fn hold(&self, names: &[String], stay: &BTreeSet<String>) -> impl Future<Output = Result<(), String>>;
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
    complaint: Option<String>,
    missing: BTreeSet<String>,
}

/// Whether it was done. What the runtime refuses harms only itself: the next round tries again. A record that went
/// meanwhile is no concern of ours any more.
fn refused(done: Result<bool, CallError>, what: &str, name: &str) -> Result<bool, RoundError> {
    match done {
        Ok(done) => Ok(done),
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
        Ok(Self { node, file, ledger, failures: BTreeMap::new(), complaint: None, missing: BTreeSet::new() })
    }

    /// The runtime.
    pub fn node(&self) -> &N {
        &self.node
    }

    /// What is not as it shall be although the round was carried out.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
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
        // What is not there yet will be ours; it is listed before, so that the runtime is told once and not for each.
        pins.retain(|name| self.ledger.records.contains_key(name) || seen.target(name).is_none());
        // Until the site has told everything, what it does not name may only be late.
        let stay = match wanted.whole {
            true => BTreeSet::new(),
            false => self.ledger.records.keys().cloned().collect(),
        };
        let complaint = self.node.hold(&pins, &stay).await.err();
        if complaint.is_some() && complaint != self.complaint {
            tracing::warn!(problem = complaint, "pins not as they shall be");
        }
        self.complaint = complaint;
        for labels in &decision.label {
            let set = self.node.label(labels).await.map(|()| true);
            refused(set, "labels not put back", &labels.name)?;
        }
        let mut ledger = self.ledger.clone();
        for record in &decision.remove {
            if refused(self.node.remove(record).await, "record not removed", &record.name)? {
                ledger.records.remove(&record.name);
            }
        }
        if ledger != self.ledger {
            self.keep(ledger)?;
            seen = self.node.look().await?;
        }
        self.failures.retain(|name, failure| {
            wanted.names.get(name).is_some_and(|want| want.digest.as_ref() == Some(&failure.digest))
        });
        self.missing = decision.pull.iter().cloned().collect();
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

    /// When the next of those that failed is due. What is there by now, or not to be had from the site, is none of them.
    pub fn due(&self) -> Option<Instant> {
        let missing = self.failures.iter().filter(|(name, _)| self.missing.contains(*name));
        missing.map(|(_, failure)| failure.next).min()
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
            // An index and the manifest in it may both be digests of the name.
            Ok(()) if after.points_at(name, &digest) => None,
            Ok(()) => match after.target(name) {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::node_agent::decide::Name;

    const NAME: &str = "d.io/l/a:1";

    /// A runtime as CRI-O is: it tells every digest of a name, and cannot remove.
    #[derive(Default)]
    struct Lists {
        digests: RefCell<Vec<String>>,
        held: RefCell<Vec<(Vec<String>, usize)>>,
        refuses: RefCell<Option<String>>,
    }

    impl Node for &Lists {
        async fn look(&self) -> Result<Seen, CallError> {
            let digests = self.digests.borrow();
            let record = |digest: &String| Record {
                name: NAME.to_owned(),
                target: digest.clone(),
                ..Record::default()
            };
            let images = digests.iter().map(|_| (NAME.to_owned(), "id".to_owned()));
            Ok(Seen { images: images.collect(), records: digests.iter().map(record).collect() })
        }

        async fn pull(&self, _name: &str) -> Result<(), CallError> {
            *self.digests.borrow_mut() = ["sha256:0manifest", "sha256:1index"].map(str::to_owned).to_vec();
            Ok(())
        }

        async fn label(&self, _labels: &Labels) -> Result<(), CallError> {
            Ok(())
        }

        async fn remove(&self, _record: &Record) -> Result<bool, CallError> {
            Ok(false)
        }

        async fn hold(&self, names: &[String], stay: &BTreeSet<String>) -> Result<(), String> {
            self.held.borrow_mut().push((names.to_vec(), stay.len()));
            self.refuses.borrow().clone().map_or(Ok(()), Err)
        }
    }

    fn wanted(names: &[&str], whole: bool) -> Wanted {
        let name = Name { digest: Some("sha256:1index".to_owned()), local: true };
        Wanted { names: names.iter().map(|one| ((*one).to_owned(), name.clone())).collect(), whole }
    }

    fn agent<'a>(node: &'a Lists, folder: &tempfile::TempDir) -> Agent<&'a Lists> {
        Agent::new(node, LedgerFile::new(folder.path())).unwrap()
    }

    #[test]
    fn an_index_is_there_beside_its_manifest() {
        let (node, folder) = (Lists::default(), tempfile::tempdir().unwrap());
        let mut agent = agent(&node, &folder);
        let plan = wanted(&[NAME], true);
        let (_, missing) = agent.tidy(&plan).now_or_never().unwrap().unwrap();
        assert_eq!(missing, [NAME]);
        agent.pull(NAME, &plan).now_or_never().unwrap().unwrap();
        assert_eq!(agent.due(), None, "nothing failed");
        let (seen, missing) = agent.tidy(&plan).now_or_never().unwrap().unwrap();
        assert!(missing.is_empty());
        assert_eq!(agent.presence(&plan, &seen, None)[0].state, ImageState::Present);
    }

    #[test]
    fn a_pull_that_failed_is_due_while_it_is_missing() {
        let (node, folder) = (Lists::default(), tempfile::tempdir().unwrap());
        let mut agent = agent(&node, &folder);
        let mut plan = wanted(&[NAME], true);
        plan.names.get_mut(NAME).unwrap().digest = Some("sha256:2other".to_owned());
        agent.tidy(&plan).now_or_never().unwrap().unwrap();
        agent.pull(NAME, &plan).now_or_never().unwrap().unwrap();
        assert!(agent.due().is_some(), "it is another one");
        // Somebody else brings it.
        node.digests.borrow_mut().push("sha256:2other".to_owned());
        agent.tidy(&plan).now_or_never().unwrap().unwrap();
        assert_eq!(agent.due(), None);
        node.digests.borrow_mut().pop();
        agent.tidy(&plan).now_or_never().unwrap().unwrap();
        assert!(agent.due().is_some());
        // The site is away.
        agent.tidy(&crate::node_agent::plan::old(plan)).now_or_never().unwrap().unwrap();
        assert_eq!(agent.due(), None);
    }

    #[test]
    fn pins_are_listed_ahead_and_a_list_that_is_refused_stops_no_pull() {
        let (node, folder) = (Lists::default(), tempfile::tempdir().unwrap());
        let mut agent = agent(&node, &folder);
        *node.refuses.borrow_mut() = Some("in the way".to_owned());
        let plan = wanted(&[NAME], true);
        let (_, missing) = agent.tidy(&plan).now_or_never().unwrap().unwrap();
        assert_eq!((missing.len(), agent.complaint()), (1, Some("in the way")));
        agent.pull(NAME, &plan).now_or_never().unwrap().unwrap();
        *node.refuses.borrow_mut() = None;
        let mut tidy = |plan: &Wanted| {
            agent.tidy(plan).now_or_never().unwrap().unwrap();
            assert_eq!(agent.complaint(), None);
            node.held.borrow().last().cloned().unwrap()
        };
        let held = (vec![NAME.to_owned()], 0);
        assert_eq!(node.held.borrow()[0], held);
        assert_eq!(tidy(&plan), held);
        // While the site has not told everything, what is ours may stay in the list.
        assert_eq!(tidy(&wanted(&[], false)), (vec![], 1));
        // What left and is there yet stays ours, and is pinned where it comes back.
        assert_eq!(tidy(&wanted(&[], true)), (vec![], 0));
        assert_eq!(tidy(&plan), held);
    }

    #[test]
    fn what_was_there_before_is_not_pinned() {
        let (node, folder) = (Lists::default(), tempfile::tempdir().unwrap());
        *node.digests.borrow_mut() = vec!["sha256:1index".to_owned()];
        agent(&node, &folder).tidy(&wanted(&[NAME], true)).now_or_never().unwrap().unwrap();
        assert_eq!(*node.held.borrow(), [(vec![], 0)]);
    }
}
