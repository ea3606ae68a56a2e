use std::collections::BTreeMap;
use std::sync::Mutex;

use oci::Digest;

use super::*;
use crate::config::Layer;
use crate::config::testing::site;
use crate::destination::{Answer, PlaceError, PullError, Pulling};
use crate::plan::Node;
use crate::status::StatusBoard;

/// A destination in memory, as the nodes of a cluster are one.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    tags: BTreeMap<(RepositoryName, Tag), Digest>,
    pulls: usize,
    refuses: bool,
    charts: BTreeSet<Artifact>,
}

impl Memory {
    fn tags(&self) -> Vec<(String, Digest)> {
        let inner = self.0.lock().unwrap();
        inner
            .tags
            .iter()
            .map(|((repository, tag), digest)| (format!("{repository}:{tag}"), *digest))
            .collect()
    }
}

impl Destination for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn takes(&self) -> Takes {
        Takes::Whole
    }

    fn accepts(&self, artifact: &Artifact) -> bool {
        !self.0.lock().unwrap().charts.contains(artifact)
    }

    fn observe<'a>(&'a mut self, _look: Look<'a>) -> Answer<'a, Present> {
        let mut present = Present::default();
        for ((repository, tag), digest) in &self.0.lock().unwrap().tags {
            let held = present.repositories.entry(repository.clone()).or_default();
            held.tags.insert(tag.clone(), *digest);
            held.manifests.insert(*digest, Node { whole: true, ..Node::default() });
        }
        Box::pin(std::future::ready(Ok(present)))
    }

    fn pull(&self, pull: Pull) -> Pulling {
        let mut inner = self.0.lock().unwrap();
        inner.pulls += 1;
        let refused = inner.refuses;
        if !refused {
            for tag in pull.tags {
                inner.tags.insert((pull.artifact.repository.clone(), tag), pull.artifact.digest);
            }
        }
        let answer = if refused { Err(PullError::new("disk full", true)) } else { Ok(Default::default()) };
        Box::pin(std::future::ready(answer))
    }

    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool> {
        let removed = match removal {
            Removal::Tag { repository, tag, .. } => {
                self.0.lock().unwrap().tags.remove(&(repository.clone(), tag.clone())).is_some()
            }
            Removal::Manifest(_) => false,
        };
        Box::pin(std::future::ready(Ok::<_, PlaceError>(removed)))
    }
}

fn offered(repository: &str, tag: &str, seed: &str, here: bool) -> Offered {
    Offered {
        artifact: Artifact {
            repository: repository.parse().unwrap(),
            digest: Digest::sha256(seed.as_bytes()),
        },
        registry: "https://h".to_owned(),
        tags: BTreeSet::from([tag.parse().unwrap()]),
        here,
    }
}

fn offer(wanted: &[Offered]) -> Offer {
    Offer { complete: true, protected: BTreeSet::new(), wanted: wanted.to_vec() }
}

struct World {
    memory: Memory,
    follower: Follower,
    effective: Effective,
    board: StatusBoard,
}

impl World {
    fn new() -> Self {
        let (memory, board) = (Memory::default(), StatusBoard::default());
        let follower = Follower::new(Box::new(memory.clone()), Events::new(board.clone()));
        let effective = Effective::of(&site(std::path::Path::new("/c")), &Layer::default());
        Self { memory, follower, effective, board }
    }

    async fn round(&mut self, offer: &Offer) -> Duration {
        self.follower.round(offer, &Naming::default(), &self.effective, || false).await
    }

    fn status(&self) -> DeliveryStatus {
        self.board.read(|status| status.deliveries["memory"].clone())
    }
}

#[tokio::test]
async fn what_is_here_is_delivered_once_and_goes_with_its_artifact() {
    let mut world = World::new();
    let (one, two) = (offered("a/b", "1", "one", true), offered("a/b", "2", "two", true));
    world.round(&offer(&[one.clone(), two.clone()])).await;
    world.round(&offer(&[one.clone(), two.clone()])).await;
    assert_eq!(world.memory.0.lock().unwrap().pulls, 2);
    assert_eq!((world.status().delivered, world.status().state.as_str()), (2, "done"));
    // Not all of the desired state is known.
    world.round(&Offer { complete: false, ..offer(std::slice::from_ref(&two)) }).await;
    assert_eq!(world.memory.tags().len(), 2);
    world.round(&offer(std::slice::from_ref(&two))).await;
    assert_eq!(world.memory.tags(), [("a/b:2".to_owned(), two.artifact.digest)]);
    drop(world.follower);
    assert!(world.board.read(|status| status.deliveries.is_empty()));
}

#[tokio::test]
async fn the_old_one_stays_until_the_new_one_is_here() {
    let mut world = World::new();
    let old = offered("a/b", "1", "old", true);
    world.round(&offer(std::slice::from_ref(&old))).await;
    let coming = offered("a/b", "1", "new", false);
    world.round(&offer(std::slice::from_ref(&coming))).await;
    assert_eq!(world.memory.tags(), [("a/b:1".to_owned(), old.artifact.digest)]);
    assert_eq!(world.status().missing, 1);
    let come = Offered { here: true, ..coming };
    world.round(&offer(std::slice::from_ref(&come))).await;
    assert_eq!(world.memory.tags(), [("a/b:1".to_owned(), come.artifact.digest)]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_later_until_it_is_done() {
    let mut world = World::new();
    let one = offered("a/b", "1", "one", true);
    world.memory.0.lock().unwrap().refuses = true;
    let wait = world.round(&offer(std::slice::from_ref(&one))).await;
    assert!(wait > Duration::from_secs(1) && wait < LOOK, "{wait:?}");
    let failed = world.status().failed;
    assert_eq!((failed[0].reason.as_str(), failed[0].attempts), ("disk full", 1));
    // Its time has not come.
    world.round(&offer(std::slice::from_ref(&one))).await;
    assert_eq!(world.memory.0.lock().unwrap().pulls, 1);
    world.memory.0.lock().unwrap().refuses = false;
    tokio::time::advance(wait).await;
    world.round(&offer(std::slice::from_ref(&one))).await;
    assert_eq!((world.memory.tags().len(), world.status().state.as_str()), (1, "done"));
    assert!(world.status().failed.is_empty());
}

#[tokio::test]
async fn what_it_has_no_use_for_is_left_out() {
    let mut world = World::new();
    let chart = offered("charts/web", "1", "chart", true);
    world.memory.0.lock().unwrap().charts.insert(chart.artifact.clone());
    world.round(&offer(&[chart])).await;
    assert_eq!((world.memory.tags().len(), world.status().state.as_str()), (0, "done"));
}

#[tokio::test]
async fn a_newer_offer_comes_before_the_rest_of_the_older() {
    let mut world = World::new();
    let wanted = offer(&[offered("a/b", "1", "one", true)]);
    let pause = world.follower.round(&wanted, &Naming::default(), &world.effective, || true).await;
    assert_eq!((pause, world.memory.tags().len()), (Duration::ZERO, 0));
}

#[test]
fn the_same_offer_wakes_nobody() {
    let offers = Offers::default();
    let mut seen = offers.subscribe();
    offers.offer(offer(&[offered("a/b", "1", "one", true)]));
    assert!(seen.has_changed().unwrap());
    seen.mark_unchanged();
    offers.offer(offer(&[offered("a/b", "1", "one", true)]));
    assert!(!seen.has_changed().unwrap());
}
