//! Everything that is published, as small as it can be: there may be a hundred thousand satellites.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_protocol::desired::{Desired, generation};
use oci::Digest;

use crate::domain::desired::{Named, Position, Publication};
use crate::domain::document::DocumentKind;

/// How long a satellite that was told something and does not know it waits until it is told again.
const AGAIN: Duration = Duration::from_secs(10);

/// Everything that is published up to a position.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub(super) position: Position,
    satellites: HashMap<Box<str>, SatelliteDocument>,
    groups: HashMap<Box<str>, Document>,
    configs: HashMap<Box<str>, Document>,
    /// What satellites' documents name; most of a fleet name the same.
    named: HashSet<Arc<Named>>,
    /// When [`Self::named`] is looked through for what nobody has any more.
    tidy_at: usize,
}

/// A document that was published at least once.
#[derive(Debug, Clone, Copy)]
struct Document {
    digest: Option<Digest>,
    number: u64,
}

#[derive(Debug)]
struct SatelliteDocument {
    digest: Digest,
    number: u64,
    named: Arc<Named>,
    /// The generation that the satellite was told last, and when.
    told: Option<(u64, Instant)>,
}

impl Documents {
    /// Nothing, at this position.
    pub(super) fn at(position: Position) -> Self {
        Self { position, ..Self::default() }
    }

    /// Takes a publication over.
    pub(super) fn apply(&mut self, publication: Publication) {
        let Publication { number, document, digest, named } = publication;
        let name = document.name.into_boxed_str();
        match (document.kind, digest, named) {
            (DocumentKind::Satellite, Some(digest), Some(named)) => {
                let named = self.shared(named);
                self.satellites.insert(name, SatelliteDocument { digest, number, named, told: None });
            }
            (DocumentKind::Satellite, _, _) => {
                self.satellites.remove(&name);
            }
            (DocumentKind::Group, digest, _) => {
                self.groups.insert(name, Document { digest, number });
            }
            (DocumentKind::Config, digest, _) => {
                self.configs.insert(name, Document { digest, number });
            }
        }
    }

    /// What the satellite called `name` shall have: its document, and what that names as far as it is published.
    pub(super) fn desired(&self, name: &str) -> Option<Desired> {
        let satellite = self.satellites.get(name)?;
        let mut number = satellite.number;
        let mut published = |document: Option<&Document>| {
            let document = document?;
            number = number.max(document.number);
            document.digest
        };
        let config = published(self.configs.get(satellite.named.config.as_str()));
        let groups = satellite.named.groups.iter();
        let groups = groups
            .filter_map(|group| Some((group.clone(), published(self.groups.get(group.as_str()))?)))
            .collect();
        Some(Desired {
            generation: generation(self.position.epoch, number),
            state: Some(satellite.digest),
            config,
            groups,
        })
    }

    /// [`Self::desired`], to be told to the satellite now.
    pub(super) fn tell(&mut self, name: &str, now: Instant) -> Option<Desired> {
        let desired = self.desired(name)?;
        if let Some(satellite) = self.satellites.get_mut(name) {
            satellite.told = Some((desired.generation, now));
        }
        Some(desired)
    }

    /// When the satellite called `name`, which knows the generation `known`, is to be told; `None` where there is nothing newer.
    /// At once, unless it was told a while ago and still does not know: its answer was lost, or it cannot take it, and then it
    /// must not ask without end.
    pub(super) fn due(&self, name: &str, known: u64, now: Instant) -> Option<Instant> {
        let generation = self.desired(name)?.generation;
        if generation <= known {
            return None;
        }
        match self.satellites.get(name)?.told {
            Some((told, at)) if told == generation => Some(at + AGAIN),
            _ => Some(now),
        }
    }

    /// Whether the document of the satellite called `name` names any of these.
    pub(super) fn concerns(&self, name: &str, groups: &HashSet<String>, configs: &HashSet<String>) -> bool {
        self.satellites.get(name).is_some_and(|satellite| {
            configs.contains(&satellite.named.config)
                || satellite.named.groups.iter().any(|group| groups.contains(group))
        })
    }

    fn shared(&mut self, named: Named) -> Arc<Named> {
        if let Some(known) = self.named.get(&named) {
            return Arc::clone(known);
        }
        if self.named.len() >= self.tidy_at {
            self.named.retain(|known| Arc::strong_count(known) > 1);
            self.tidy_at = self.named.len() * 2 + 64;
        }
        let named = Arc::new(named);
        self.named.insert(Arc::clone(&named));
        named
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::document::DocumentKey;

    fn named(groups: &[&str]) -> Option<Named> {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Some(Named { groups, config: "default".into() })
    }

    fn publication(number: u64, document: DocumentKey, named: Option<Named>) -> Publication {
        let digest = Some(Digest::sha256(format!("{number} {document}").as_bytes()));
        Publication { number, document, digest, named }
    }

    #[test]
    fn what_is_desired_follows_the_published_documents() {
        let mut documents = Documents::at(Position { epoch: 2, number: 0 });
        assert_eq!(documents.desired("edge-01"), None);
        documents.apply(publication(1, DocumentKey::config("default"), None));
        documents.apply(publication(2, DocumentKey::group("a"), None));
        documents.apply(publication(3, DocumentKey::satellite("edge-01"), named(&["a", "b"])));
        let desired = documents.desired("edge-01").unwrap();
        assert_eq!(desired.generation, generation(2, 3));
        assert_eq!(desired.groups.keys().collect::<Vec<_>>(), ["a"], "b is not published yet");
        assert!(desired.config.is_some());

        documents.apply(publication(4, DocumentKey::group("b"), None));
        documents.apply(publication(5, DocumentKey::group("other"), None));
        let later = documents.desired("edge-01").unwrap();
        assert_eq!((later.generation, later.groups.len()), (generation(2, 4), 2));
        let groups = |name: &str| HashSet::from([name.to_owned()]);
        assert!(documents.concerns("edge-01", &groups("b"), &HashSet::new()));
        assert!(!documents.concerns("edge-01", &groups("other"), &HashSet::new()));
        assert!(documents.concerns("edge-01", &HashSet::new(), &groups("default")));

        let mut gone = publication(6, DocumentKey::satellite("edge-01"), None);
        gone.digest = None;
        documents.apply(gone);
        assert_eq!(documents.desired("edge-01"), None);
    }

    #[test]
    fn who_was_told_and_does_not_know_is_not_told_at_once_again() {
        let (mut documents, now) = (Documents::default(), Instant::now());
        documents.apply(publication(7, DocumentKey::satellite("edge-01"), named(&[])));
        assert_eq!(documents.due("edge-01", 6, now), Some(now));
        assert_eq!(documents.due("edge-01", 7, now), None);
        assert_eq!(documents.due("edge-01", 8, now), None);
        assert_eq!(documents.tell("edge-01", now).unwrap().generation, 7);
        assert_eq!(documents.due("edge-01", 6, now), Some(now + AGAIN));
        documents.apply(publication(8, DocumentKey::satellite("edge-01"), named(&[])));
        assert_eq!(documents.due("edge-01", 6, now), Some(now));
    }

    #[test]
    fn what_nobody_names_any_more_is_forgotten() {
        let mut documents = Documents::default();
        for number in 0..10_000 {
            let group = format!("group-{number}");
            documents.apply(publication(number, DocumentKey::satellite("edge-01"), named(&[&group])));
        }
        assert!(documents.named.len() < 200, "{}", documents.named.len());
    }

    proptest! {
        #[test]
        fn a_generation_never_falls(steps in proptest::collection::vec((0_usize..4, 0_usize..3), 1..40)) {
            let mut documents = Documents::default();
            let mut last = 0;
            for (number, (what, which)) in (1..).zip(steps) {
                let group = ["a", "b", "c"][which];
                documents.apply(match what {
                    0 => publication(number, DocumentKey::config("default"), None),
                    1 => publication(number, DocumentKey::group(group), None),
                    2 => Publication {
                        digest: None,
                        ..publication(number, DocumentKey::group(group), None)
                    },
                    _ => publication(number, DocumentKey::satellite("edge-01"), named(&["a", "b", "c"][..which])),
                });
                if let Some(desired) = documents.desired("edge-01") {
                    prop_assert!(desired.generation >= last);
                    last = desired.generation;
                }
            }
        }
    }
}
