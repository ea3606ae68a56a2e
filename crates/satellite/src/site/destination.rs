//! The nodes of a cluster as a destination: what is offered to them, their agents have their runtimes pull.
//!
//! *When* is as soon as it is whole in the local registry, *where* is there, *how* is the agents' ([`crate::node_agent`]):
//! a pull here is the offer, and ends with it. How far each node is, the nodes tell by themselves; a node that is away
//! holds up nothing.

use std::collections::BTreeMap;

use blob_store::Store;
use oci::{Reference, RepositoryName};
use transfer::Outcome;

use super::Site;
use super::plan::{Key, Named};
use crate::archive;
use crate::destination::{Answer, Destination, Look, Pull, PullError, Pulling, Takes};
use crate::names::{ImageName, Origin};
use crate::plan::{Artifact, Held, Present, Removal};

/// The nodes of a site.
#[derive(Debug)]
pub(super) struct Nodes {
    site: Site,
    store: Option<Store>,
}

impl Nodes {
    /// The nodes that ask for this site's plan. What is in the store is known for an image or something else; without
    /// one (a registry of the site's own) everything is offered.
    #[must_use]
    pub(super) fn new(site: Site, store: Option<Store>) -> Self {
        Self { site, store }
    }
}

/// Whether containers can be made of what is whole here, as far as that can be told.
pub(super) fn is_image(store: Option<&Store>, artifact: &Artifact) -> bool {
    store.is_none_or(|store| archive::is_image(store, &artifact.repository, &artifact.digest).unwrap_or(true))
}

/// How runtimes pull something: by its upstream's name, else by the central registry's; and what else it is called.
#[must_use]
pub(super) fn named(names: &[ImageName], reference: &Reference, digest: &str) -> Option<Named> {
    let upstream = names.iter().position(|name| name.origin == Origin::Upstream).unwrap_or_default();
    let whole = |name: &ImageName| match reference {
        Reference::Tag(tag) => name.tagged(tag),
        Reference::Digest(digest) => name.digested(digest),
    };
    let name = whole(names.get(upstream)?);
    let also = names.iter().map(whole).filter(|other| *other != name).collect();
    Some(Named { name, also, digest: digest.to_owned() })
}

impl Destination for Nodes {
    fn name(&self) -> String {
        "nodes".to_owned()
    }

    fn takes(&self) -> Takes {
        Takes::Whole
    }

    fn accepts(&self, artifact: &Artifact) -> bool {
        is_image(self.store.as_ref(), artifact)
    }

    fn observe<'a>(&'a mut self, look: Look<'a>) -> Answer<'a, Present> {
        let mut repositories: BTreeMap<RepositoryName, Held> = BTreeMap::new();
        for ((repository, reference), offered) in self.site.plan().offered() {
            let Ok(digest) = offered.digest.parse() else { continue };
            // Where the configuration gave a repository other names since, it is to be offered again.
            let names = look.naming.of(&repository);
            let is_right = named(&names, &reference, &offered.digest).is_some_and(|named| named == offered);
            let held = repositories.entry(repository).or_default();
            held.manifests.entry(digest).or_default().whole |= is_right;
            if let Reference::Tag(tag) = reference
                && is_right
            {
                held.tags.insert(tag, digest);
            }
        }
        Box::pin(std::future::ready(Ok(Present { repositories })))
    }

    fn pull(&self, pull: Pull) -> Pulling {
        let Pull { artifact: Artifact { repository, digest }, tags, names, .. } = pull;
        let mut references: Vec<Reference> = tags.into_iter().map(Reference::Tag).collect();
        if references.is_empty() {
            references.push(Reference::Digest(digest));
        }
        let offers: Option<Vec<(Key, Named)>> = references
            .into_iter()
            .map(|reference| {
                let named = named(&names, &reference, &digest.to_string())?;
                Some(((repository.clone(), reference), named))
            })
            .collect();
        let offered = match offers {
            Some(offers) => {
                self.site.plan().offer(offers);
                Ok(Outcome { digest: Some(digest), ..Outcome::default() })
            }
            None => Err(PullError::new("no runtime has a name for its repository: see --mirror-path", false)),
        };
        Box::pin(std::future::ready(offered))
    }

    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool> {
        let plan = self.site.plan();
        let gone = match removal {
            Removal::Tag { repository, tag, digest } => {
                let key = (repository.clone(), Reference::Tag(tag.clone()));
                plan.withdraw(|of, offered| *of == key && offered.digest == digest.to_string())
            }
            Removal::Manifest(artifact) => plan.withdraw(|(repository, _), offered| {
                *repository == artifact.repository && offered.digest == artifact.digest.to_string()
            }),
        };
        Box::pin(std::future::ready(Ok(gone)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use oci::{Digest, PlatformFilter, Tag};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::names::Naming;
    use crate::plan::{Asked, Fetch, Ours};
    use crate::site::wire::SitePlan;

    struct World {
        nodes: Nodes,
        naming: Naming,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), blob_store::Options::default()).unwrap();
            let site = Site::new(folder.path().join("token"), CancellationToken::new());
            let naming = Naming::new(&["h.example".to_owned()], &BTreeMap::new());
            Self { nodes: Nodes::new(site, Some(store)), naming, _folder: folder }
        }

        fn pull(&self, repository: &str, digest: Digest, tags: &[&str]) -> Result<Outcome, PullError> {
            let repository: RepositoryName = repository.parse().unwrap();
            let pull = Pull {
                names: self.naming.of(&repository),
                artifact: Artifact { repository, digest },
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                part: Fetch::Graph,
                platforms: PlatformFilter::all(),
                source: None,
                progress: Arc::default(),
            };
            self.nodes.pull(pull).now_or_never().unwrap()
        }

        fn present(&mut self) -> Present {
            let (asked, ours, platforms) = (Asked::default(), Ours::default(), PlatformFilter::all());
            let look = Look {
                asked: &asked,
                ours: &ours,
                platforms: &platforms,
                recheck: Duration::ZERO,
                naming: &self.naming,
            };
            self.nodes.observe(look).now_or_never().unwrap().unwrap()
        }

        fn sent(&self) -> Vec<(String, Vec<String>)> {
            let body = self.nodes.site.plan().subscribe().borrow().body.clone();
            let sent: SitePlan = serde_json::from_slice(&body).unwrap();
            sent.images.into_iter().map(|image| (image.name, image.also)).collect()
        }
    }

    #[test]
    fn what_is_pulled_is_offered_under_the_upstreams_name_until_it_is_removed() {
        let mut world = World::new();
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        world.pull("library/app", one, &["1", "live"]).unwrap();
        world.pull("quay.io/acme/tool", two, &[]).unwrap();
        let names: BTreeSet<String> = world.sent().into_iter().map(|(name, _)| name).collect();
        let by_digest = format!("quay.io/acme/tool@{two}");
        let expected = ["docker.io/library/app:1", "docker.io/library/app:live", by_digest.as_str()];
        assert_eq!(names, expected.map(str::to_owned).into());
        assert_eq!(world.sent()[0].1, ["h.example/library/app:1"]);

        let present = world.present();
        let held = &present.repositories[&"library/app".parse().unwrap()];
        assert!(held.manifests[&one].whole && held.tags[&"live".parse::<Tag>().unwrap()] == one);

        // A tag that moved meanwhile stays.
        let removal = |digest| Removal::Tag {
            repository: "library/app".parse().unwrap(),
            tag: "live".parse().unwrap(),
            digest,
        };
        assert!(!world.nodes.remove(&removal(two)).now_or_never().unwrap().unwrap());
        assert!(world.nodes.remove(&removal(one)).now_or_never().unwrap().unwrap());
        let repository = "quay.io/acme/tool".parse().unwrap();
        let manifest = Removal::Manifest(Artifact { repository, digest: two });
        assert!(world.nodes.remove(&manifest).now_or_never().unwrap().unwrap());
        assert_eq!(world.sent().len(), 1);
    }

    #[test]
    fn other_names_are_offered_again() {
        let mut world = World::new();
        let one = Digest::sha256(b"1");
        world.pull("library/app", one, &["1"]).unwrap();
        world.naming = Naming::new(&["other.example".to_owned()], &BTreeMap::new());
        let present = world.present();
        let held = &present.repositories[&"library/app".parse().unwrap()];
        assert!(!held.manifests[&one].whole && held.tags.is_empty());
        world.pull("library/app", one, &["1"]).unwrap();
        assert_eq!(world.sent()[0].1, ["other.example/library/app:1"]);
        world.naming = Naming::default();
        let refused = world.pull("busybox", one, &["1"]).unwrap_err();
        assert!(!refused.temporary && refused.reason.contains("--mirror-path"));
    }
}
