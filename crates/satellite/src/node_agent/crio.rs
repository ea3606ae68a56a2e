//! A node whose runtime is CRI-O: pulls by CRI, pins by a drop-in of its configuration, and removes nothing, because CRI
//! knows only whole images with every name they have: what is pinned no more is the kubelet's to collect.
//!
//! CRI-O takes another list of pins at a reload (from 1.30 on: before, only at its start). Whether it has done so is seen in
//! the images that it lists.
//!
//! It pins by the names that it has given to an image, which a digest is only after a pull by it: one that came by a tag is
//! listed with its digest, and is not pinned by that. A pull by digest then fetches nothing but the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use container_runtimes::command::HostCommands;
use container_runtimes::cri::CriImages;
use container_runtimes::host::Host;
use container_runtimes::service::{self, Carried, Manager};
use container_runtimes::{CallError, Runtime, crio};

use super::decide::{Labels, Record, Seen};
use super::ledger::Made;
use super::round::Node;
use crate::in_root::ENTER;

/// How long a reload may take until CRI-O lists the pins.
const GRACE: Duration = Duration::from_secs(5);
/// What did not help is tried again after this.
const AGAIN: Duration = Duration::from_secs(300);
/// The images listed this long after a reload are listed with its pins, if it did not take long.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a pull of what is there, by its digest, may take.
const NAMING: Duration = Duration::from_secs(30);

/// CRI-O on this node.
#[derive(Debug, Clone)]
pub struct Crio {
    cri: CriImages,
    limit: Duration,
    host: Host,
    commands: HostCommands,
    manager: Manager,
    pins: Arc<Mutex<Pins>>,
}

/// How it stands with the reload that another list of pins needs.
#[derive(Debug, Default)]
struct Pins {
    /// Names that CRI-O lists as not pinned.
    loose: BTreeSet<String>,
    /// Whether it has to read its files again: not known at first.
    due: Option<bool>,
    /// When that was tried last, and what came of it.
    tried: Option<(Instant, Result<String, String>)>,
    /// When digests were pulled that it has under other names.
    named: BTreeMap<String, Instant>,
}

impl Pins {
    /// Whether it is to be reloaded now, with our drop-in holding `names`; `changed`, where that was written just now.
    fn is_time(&mut self, names: &[String], changed: bool, now: Instant) -> bool {
        if changed {
            (self.due, self.tried) = (Some(true), None);
        }
        // An agent before this one may have ended between the two.
        let due = *self.due.get_or_insert(!names.is_empty()) || self.first_loose(names).is_some();
        due && self.tried.as_ref().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= AGAIN)
    }

    fn first_loose<'a>(&self, names: &'a [String]) -> Option<&'a String> {
        names.iter().find(|name| self.loose.contains(*name))
    }

    /// Of `names` the digests that it does not pin although it has read the list: it has these images under other names, or
    /// under none. None of them again before it is time.
    fn nameless(&mut self, names: &[String], now: Instant) -> Vec<String> {
        self.named.retain(|name, at| {
            names.contains(name) && now.saturating_duration_since(*at) < AGAIN && self.loose.contains(name)
        });
        let read = matches!(&self.tried, Some((at, Ok(_))) if now.saturating_duration_since(*at) >= SETTLED);
        let is_nameless = |name: &&String| {
            read && name.contains('@') && self.loose.contains(*name) && !self.named.contains_key(*name)
        };
        let nameless: Vec<String> = names.iter().filter(is_nameless).cloned().collect();
        self.named.extend(nameless.iter().map(|name| (name.clone(), now)));
        nameless
    }

    fn tried(&mut self, carried: Carried, now: Instant) {
        let outcome = match carried {
            Carried::Done(how) => Ok(how),
            Carried::NotRunning => Err("no service of this machine is seen to be CRI-O".to_owned()),
            Carried::Failed(why) | Carried::Needed(why) => Err(why),
        };
        self.due = Some(outcome.is_err());
        self.tried = Some((now, outcome));
    }

    /// What a person has to know.
    fn complaint(&self, names: &[String], now: Instant) -> Result<(), String> {
        let loose = self.first_loose(names);
        match &self.tried {
            Some((_, Err(why))) if self.due == Some(true) || loose.is_some() => Err(format!(
                "the list of pinned images is written, and CRI-O has to be reloaded to see it: {why}"
            )),
            Some((at, Ok(how))) if now.saturating_duration_since(*at) >= GRACE => match loose {
                Some(name) => Err(format!(
                    "CRI-O does not pin {name} although it was reloaded ({how}): see its log; one before 1.30 has to be restarted"
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Crio {
    /// At a socket, with its configuration below `host_root`. A pull may take as long as `limit`. The command is what
    /// reloads it where neither systemd nor OpenRC does.
    #[must_use]
    pub fn new(socket: &Path, limit: Duration, host_root: &Path, restart_command: Option<&str>) -> Self {
        let host = Host::new(host_root);
        Self {
            cri: CriImages::new(socket),
            limit,
            manager: Manager::find(&host, restart_command),
            commands: HostCommands::new(host_root).entered_by(ENTER),
            pins: Arc::default(),
            host,
        }
    }
}

impl Node for Crio {
    async fn look(&self) -> Result<Seen, CallError> {
        let mut seen = Seen { records: Vec::new(), images: BTreeMap::new() };
        let mut loose = BTreeSet::new();
        for image in self.cri.list().await? {
            if !image.pinned {
                loose.extend(image.tags.iter().chain(&image.digests).cloned());
            }
            let digests: Vec<(&str, &str)> =
                image.digests.iter().filter_map(|name| name.split_once('@')).collect();
            let record = |name: &str, target: &str| Record {
                name: name.to_owned(),
                target: target.to_owned(),
                made: Made::default(),
                pinned: image.pinned,
                mark: None,
            };
            for name in &image.tags {
                // An index and the manifest in it are digests of the same name.
                let of_it = digests.iter().filter(|(repository, _)| {
                    name.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':'))
                });
                seen.records.extend(of_it.map(|(_, digest)| record(name, digest)));
                seen.images.insert(name.clone(), image.id.clone());
            }
            for (name, (_, digest)) in image.digests.iter().filter(|name| name.contains('@')).zip(&digests) {
                seen.records.push(record(name, digest));
                seen.images.insert(name.clone(), image.id.clone());
            }
        }
        self.pins().loose = loose;
        Ok(seen)
    }

    async fn pull(&self, name: &str) -> Result<(), CallError> {
        self.cri.pull(name, self.limit).await.map(drop)
    }

    async fn label(&self, _labels: &Labels) -> Result<(), CallError> {
        Ok(())
    }

    async fn remove(&self, record: &Record) -> Result<bool, CallError> {
        tracing::debug!(name = %record.name, digest = %record.target, "image left to the kubelet's collection");
        Ok(false)
    }

    async fn hold(&self, names: &[String], stay: &BTreeSet<String>) -> Result<(), String> {
        self.name(names).await;
        let (node, names, stay) = (self.clone(), names.to_vec(), stay.clone());
        let held = tokio::task::spawn_blocking(move || node.pin(&names, &stay));
        held.await.map_err(|error| error.to_string())?
    }
}

impl Crio {
    /// Has CRI-O know the images that it does not pin by their digests.
    async fn name(&self, names: &[String]) {
        let nameless = self.pins().nameless(names, Instant::now());
        for name in nameless {
            match self.cri.pull(&name, self.limit.min(NAMING)).await {
                Ok(_) => {
                    tracing::info!(name, "pulled by digest to be pinned by it");
                    // Whether that helped is seen at the next look.
                    self.pins().loose.remove(&name);
                }
                Err(error) => {
                    tracing::debug!(name, %error, "not pulled by digest to be pinned by it");
                    return;
                }
            }
        }
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings our drop-in in step, and has CRI-O read it.
    fn pin(&self, names: &[String], stay: &BTreeSet<String>) -> Result<(), String> {
        let changed = crio::pin(&self.host, names, stay)
            .map_err(|error| format!("the list of pinned images is not as it shall be: {error}"))?;
        if changed {
            tracing::info!(names = names.len(), "pinned images written");
        }
        let mut pins = self.pins();
        if pins.is_time(names, changed, Instant::now()) {
            let carried = service::reload(&self.host, &self.commands, &self.manager, Runtime::Crio);
            pins.tried(carried, Instant::now());
            match &pins.tried {
                Some((_, Ok(how))) => tracing::info!(how, "cri-o reloaded for its pinned images"),
                Some((_, Err(why))) => tracing::debug!(why, "cri-o not reloaded for its pinned images"),
                None => {}
            }
        }
        pins.complaint(names, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn it_is_reloaded_when_there_is_need_and_not_again_and_again() {
        let (mut pins, start) = (Pins::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!pins.is_time(&[], false, start), "nothing of ours is there");
        let both = names(&["a", "b"]);
        assert!(pins.is_time(&both, true, start));
        pins.tried(Carried::Done("r".to_owned()), start);
        pins.loose = BTreeSet::from(["a".to_owned(), "another".to_owned()]);
        assert!(!pins.is_time(&both, false, after(1)));
        assert_eq!(pins.complaint(&both, after(1)), Ok(()), "it takes its time");
        assert!(pins.complaint(&both, after(5)).unwrap_err().contains("does not pin a"));
        assert!(!pins.is_time(&both, false, after(299)) && pins.is_time(&both, false, after(300)));
        pins.loose.clear();
        assert!(!pins.is_time(&both, false, after(900)));
        assert_eq!(pins.complaint(&both, after(900)), Ok(()));
        // What leaves the list is due, too, though nobody sees it in the images.
        assert!(pins.is_time(&[], true, after(901)));
        pins.tried(Carried::Needed("by hand".to_owned()), after(901));
        assert!(pins.complaint(&[], after(902)).unwrap_err().contains("by hand"));
        assert!(!pins.is_time(&[], false, after(902)) && pins.is_time(&[], false, after(1201)));
        pins.tried(Carried::Done("r".to_owned()), after(1201));
        assert_eq!(pins.complaint(&[], after(1300)), Ok(()));
    }

    #[test]
    fn an_agent_that_starts_does_not_know_what_is_in_force() {
        let (mut pins, start) = (Pins::default(), Instant::now());
        let one = names(&["a"]);
        assert!(pins.is_time(&one, false, start));
        pins.tried(Carried::Done("r".to_owned()), start);
        assert!(!pins.is_time(&one, false, start));
        // CRI-O began anew and read other files than ours.
        pins.loose = BTreeSet::from(["a".to_owned()]);
        assert!(pins.is_time(&one, false, start + AGAIN));
    }

    #[test]
    fn a_digest_that_is_listed_and_not_pinned_is_no_name_of_its_image() {
        let (mut pins, start) = (Pins::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let all = names(&["r/a:1", "r/a@sha256:1", "r/b@sha256:2"]);
        pins.loose = BTreeSet::from(["r/a:1", "r/a@sha256:1", "r/other@sha256:1"].map(str::to_owned));
        assert_eq!(pins.nameless(&all, start), names(&[]), "nobody knows which list is in force");
        pins.is_time(&all, true, start);
        pins.tried(Carried::Failed("r".to_owned()), start);
        assert_eq!(pins.nameless(&all, after(2)), names(&[]), "the old list is in force");
        pins.tried(Carried::Done("r".to_owned()), after(3));
        assert_eq!(pins.nameless(&all, after(3)), names(&[]), "it takes its time");
        assert_eq!(pins.nameless(&all, after(4)), names(&["r/a@sha256:1"]));
        assert_eq!(pins.nameless(&all, after(5)), names(&[]), "not again and again");
        assert_eq!(pins.nameless(&all, after(304)), names(&["r/a@sha256:1"]));
        // It was pinned meanwhile, and came again by its tag.
        pins.loose.clear();
        assert_eq!(pins.nameless(&all, after(305)), names(&[]));
        pins.loose.insert("r/a@sha256:1".to_owned());
        assert_eq!(pins.nameless(&all, after(306)), names(&["r/a@sha256:1"]));
    }
}
