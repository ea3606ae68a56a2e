//! The plan of a site: which names stand for which digests, and whether the satellite has them.
//!
//! A name stands for what was offered under it last, until something else is offered: the new version is whole here
//! before a node hears of it. What is wanted and not offered yet is in the plan, too, so that no node takes it for gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use oci::{Reference, RepositoryName};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::wire::{LONGEST_NAME, MOST_IMAGES, PlannedImage, SitePlan};

/// What is offered: a tag of a repository, or a digest that is wanted without one.
pub type Key = (RepositoryName, Reference);

/// One image to be offered or wanted: the name that runtimes pull it by, and what else it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Whole, with a tag or a digest.
    pub name: String,
    /// The central registry's names.
    pub also: Vec<String>,
    /// What it stands for.
    pub digest: String,
}

/// The plan as it is sent.
#[derive(Debug, Clone)]
pub struct Published {
    /// JSON.
    pub body: Arc<[u8]>,
    /// Stands for the body.
    pub etag: HeaderValue,
}

#[derive(Debug, Default)]
struct Contents {
    offered: BTreeMap<Key, Named>,
    wanted: BTreeMap<String, Named>,
    whole: bool,
}

/// The plan of a site.
#[derive(Debug)]
pub struct Plan {
    contents: Mutex<Contents>,
    published: watch::Sender<Published>,
}

impl Default for Plan {
    fn default() -> Self {
        let published = publish(&Contents::default());
        Self { contents: Mutex::default(), published: watch::Sender::new(published) }
    }
}

impl Plan {
    /// What is wanted now, offered or not, and whether that is all that there is to want.
    pub fn want(&self, wanted: Vec<Named>, whole: bool) {
        self.change(|contents| {
            contents.wanted = wanted.into_iter().map(|named| (named.name.clone(), named)).collect();
            contents.whole = whole;
        });
    }

    /// Offers what is whole in the local registry.
    pub fn offer(&self, offers: impl IntoIterator<Item = (Key, Named)>) {
        self.change(|contents| contents.offered.extend(offers));
    }

    /// Offers no more what this is true of. Whether there was any.
    pub fn withdraw(&self, is_it: impl Fn(&Key, &Named) -> bool) -> bool {
        let mut found = false;
        self.change(|contents| {
            let before = contents.offered.len();
            contents.offered.retain(|key, named| !is_it(key, named));
            found = contents.offered.len() < before;
        });
        found
    }

    /// What is offered.
    #[must_use]
    pub fn offered(&self) -> BTreeMap<Key, Named> {
        self.contents().offered.clone()
    }

    /// Woken by each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.contents();
        change(&mut contents);
        let now = publish(&contents);
        self.published.send_if_modified(|published| {
            let changed = published.etag != now.etag;
            *published = now;
            changed
        });
    }
}

fn publish(contents: &Contents) -> Published {
    let image = |named: &Named, local| PlannedImage {
        name: named.name.clone(),
        also: named.also.clone(),
        digest: named.digest.clone(),
        local,
    };
    let offered = contents.offered.values().map(|named| image(named, true));
    let names: BTreeSet<&str> = contents.offered.values().map(|named| named.name.as_str()).collect();
    let waiting = contents
        .wanted
        .values()
        .filter(|named| !names.contains(named.name.as_str()))
        .map(|named| image(named, false));
    let mut images: Vec<PlannedImage> =
        offered.chain(waiting).filter(|image| image.name.len() <= LONGEST_NAME).collect();
    images.sort_by(|one, other| one.name.cmp(&other.name));
    let fits = images.len() <= MOST_IMAGES;
    if !fits {
        tracing::warn!(
            images = images.len(),
            most = MOST_IMAGES,
            "plan holds more images than nodes are told of"
        );
        images.truncate(MOST_IMAGES);
    }
    let plan = SitePlan { images, whole: contents.whole && fits };
    // Strings and booleans are always written.
    let body: Arc<[u8]> = serde_json::to_vec(&plan).unwrap_or_default().into();
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(&body)));
    let etag = HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\""));
    Published { body, etag }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, digest: &str) -> Named {
        Named { name: name.to_owned(), also: Vec::new(), digest: digest.to_owned() }
    }

    fn key(repository: &str) -> Key {
        (repository.parse().unwrap(), "1".parse().unwrap())
    }

    fn sent(plan: &Plan) -> (Vec<(String, String, bool)>, bool) {
        let body = plan.subscribe().borrow().body.clone();
        let sent: SitePlan = serde_json::from_slice(&body).unwrap();
        (sent.images.into_iter().map(|image| (image.name, image.digest, image.local)).collect(), sent.whole)
    }

    #[test]
    fn a_new_version_is_told_once_it_is_here() {
        let plan = Plan::default();
        assert_eq!(sent(&plan), (Vec::new(), false));
        plan.want(vec![named("a:1", "d1"), named("b:1", "d2")], true);
        let entry = |name: &str, digest: &str, local| (name.to_owned(), digest.to_owned(), local);
        assert_eq!(sent(&plan), (vec![entry("a:1", "d1", false), entry("b:1", "d2", false)], true));
        plan.offer([(key("a"), named("a:1", "d1"))]);
        plan.want(vec![named("a:1", "d3"), named("b:1", "d2")], true);
        assert_eq!(sent(&plan).0, [entry("a:1", "d1", true), entry("b:1", "d2", false)]);
        plan.offer([(key("a"), named("a:1", "d3"))]);
        // What was offered before under that name is not what goes.
        assert!(!plan.withdraw(|_, named| named.digest == "d1"));
        assert_eq!(sent(&plan).0, [entry("a:1", "d3", true), entry("b:1", "d2", false)]);
        plan.want(Vec::new(), true);
        assert!(plan.withdraw(|of, _| *of == key("a")));
        assert_eq!(sent(&plan), (Vec::new(), true));
    }

    #[test]
    fn who_waits_is_woken_by_changes_alone() {
        let plan = Plan::default();
        let mut waiting = plan.subscribe();
        plan.want(Vec::new(), false);
        assert!(!waiting.has_changed().unwrap());
        plan.want(Vec::new(), true);
        assert!(waiting.has_changed().unwrap());
        waiting.borrow_and_update();
        plan.withdraw(|_, _| true);
        assert!(!waiting.has_changed().unwrap());
    }

    #[test]
    fn a_plan_that_does_not_fit_takes_nothing_away() {
        let plan = Plan::default();
        plan.want((0..=MOST_IMAGES).map(|n| named(&format!("a:{n}"), "d")).collect(), true);
        let (images, whole) = sent(&plan);
        assert_eq!((images.len(), whole), (MOST_IMAGES, false));
    }
}
