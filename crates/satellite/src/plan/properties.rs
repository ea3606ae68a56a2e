//! The rules of a reconcile, held against random worlds: whatever is wanted, present and failing.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;

const DIGESTS: usize = 7;

fn digest(index: usize) -> Digest {
    Digest::sha256(&[u8::try_from(index).unwrap()])
}

fn tag(index: usize) -> Tag {
    ["1", "2", "latest"][index].parse().unwrap()
}

fn repository(index: usize) -> RepositoryName {
    ["library/app", "team/app"][index].parse().unwrap()
}

/// What each manifest is, the same in all repositories: it may list and refer to lower ones.
#[derive(Debug, Clone)]
struct Nature(Vec<(BTreeSet<usize>, Option<usize>)>);

impl Nature {
    fn node(&self, index: usize) -> Node {
        let (children, subject) = &self.0[index];
        Node {
            whole: false,
            children: children.iter().map(|child| digest(*child)).collect(),
            subject: subject.map(digest),
        }
    }

    /// Brings a manifest and all below it.
    fn bring(&self, held: &mut Held, index: usize) {
        held.manifests.entry(digest(index)).or_insert_with(|| self.node(index));
        for child in &self.0[index].0 {
            self.bring(held, *child);
        }
    }
}

fn index_of(wanted: Digest) -> usize {
    (0..DIGESTS).find(|index| digest(*index) == wanted).unwrap()
}

fn is_whole(held: &Held, digest: &Digest) -> bool {
    held.manifests.get(digest).is_some_and(|node| node.children.iter().all(|child| is_whole(held, child)))
}

fn look(present: &mut Present) {
    for held in present.repositories.values_mut() {
        let whole: Vec<(Digest, bool)> =
            held.manifests.keys().map(|digest| (*digest, is_whole(held, digest))).collect();
        for (digest, whole) in whole {
            held.manifests.get_mut(&digest).unwrap().whole = whole;
        }
    }
}

fn nature() -> impl Strategy<Value = Nature> {
    let node = |index: usize| {
        let below =
            if index == 0 { Just(BTreeSet::new()).boxed() } else { btree_set(0..index, 0..3).boxed() };
        let subject =
            if index == 0 { Just(None).boxed() } else { proptest::option::weighted(0.3, 0..index).boxed() };
        (below, subject)
    };
    (0..DIGESTS).map(node).collect::<Vec<_>>().prop_map(Nature)
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (
        0..3_usize,
        0..2_usize,
        btree_set(0..3_usize, 0..3),
        proptest::option::weighted(0.8, 0..DIGESTS),
        any::<bool>(),
        any::<bool>(),
    );
    vec(entry, 0..8).prop_map(|list| {
        list.into_iter()
            .map(|(group, at, tags, wanted, one, other)| Entry {
                group: format!("g{group}"),
                registry: "https://h".to_owned(),
                repository: repository(at),
                tags: tags.into_iter().map(tag).collect(),
                digest: wanted.map(digest),
                deleted: one && other,
                platforms: Vec::new(),
                referrers: None,
            })
            .collect()
    })
}

fn present(nature: Nature) -> impl Strategy<Value = Present> {
    let held = (btree_set(0..DIGESTS, 0..5), vec((0..3_usize, any::<prop::sample::Index>()), 0..4));
    vec(held, 2).prop_map(move |list| {
        let mut present = Present::default();
        for (at, (manifests, tags)) in list.into_iter().enumerate() {
            let mut held = Held::default();
            let manifests: Vec<usize> = manifests.into_iter().collect();
            for index in &manifests {
                held.manifests.insert(digest(*index), nature.node(*index));
            }
            for (name, which) in tags {
                if !manifests.is_empty() {
                    held.tags.insert(tag(name), digest(*which.get(&manifests)));
                }
            }
            present.repositories.insert(repository(at), held);
        }
        look(&mut present);
        present
    })
}

#[derive(Debug, Clone)]
struct World {
    nature: Nature,
    entries: Vec<Entry>,
    present: Present,
    resolved: BTreeMap<OpenTag, Digest>,
    complete: bool,
    ours: Option<Ours>,
}

fn world() -> impl Strategy<Value = World> {
    let ours = proptest::option::of((btree_set(0..DIGESTS, 0..5), btree_set((0..3_usize, 0..DIGESTS), 0..5)));
    (nature(), entries(), vec(proptest::option::of(0..DIGESTS), 6), any::<bool>(), ours)
        .prop_flat_map(|(nature, entries, meanings, complete, ours)| {
            (Just((nature.clone(), entries, meanings, complete, ours)), present(nature))
        })
        .prop_map(|((nature, entries, meanings, complete, ours), present)| {
            let resolved = open_tags(&entries)
                .into_iter()
                .zip(meanings)
                .filter_map(|(open, meaning)| Some((open, digest(meaning?))))
                .collect();
            let ours = ours.map(|(manifests, tags)| {
                let mut ours = OursIn::default();
                ours.manifests.extend(manifests.into_iter().map(|index| (digest(index), nature.node(index))));
                for (name, index) in tags {
                    ours.tags.entry(tag(name)).or_default().insert(digest(index));
                }
                Ours { repositories: (0..2).map(|at| (repository(at), ours.clone())).collect() }
            });
            World { nature, entries, present, resolved, complete, ours }
        })
}

impl World {
    fn plan(&self) -> Plan {
        let none = BTreeSet::new();
        plan(&Input {
            entries: &self.entries,
            complete: self.complete,
            resolved: &self.resolved,
            present: &self.present,
            arriving: &BTreeMap::new(),
            busy: &BTreeSet::new(),
            protected: &BTreeSet::new(),
            ownership: self.ours.as_ref().map_or(Ownership::Everything, Ownership::Recorded),
            waiting: &none,
            refresh: &none,
        })
    }

    /// Makes what the plan says, except what fails.
    fn make(&mut self, plan: &Plan, failing: &BTreeSet<usize>) {
        for make in &plan.make {
            let index = index_of(make.artifact.digest);
            if failing.contains(&index) {
                continue;
            }
            let held = self.present.repositories.entry(make.artifact.repository.clone()).or_default();
            match make.fetch {
                Fetch::Nothing => {
                    assert!(is_whole(held, &make.artifact.digest), "a tag moves to what is whole only")
                }
                Fetch::Graph | Fetch::Referrers => self.nature.bring(held, index),
            }
            for tag in &make.tags {
                held.tags.insert(tag.clone(), make.artifact.digest);
                if let Some(ours) = &mut self.ours {
                    let ours = ours.repositories.entry(make.artifact.repository.clone()).or_default();
                    ours.tags.entry(tag.clone()).or_default().insert(make.artifact.digest);
                }
            }
        }
        look(&mut self.present);
    }

    fn remove(&mut self, plan: &Plan) {
        for removal in &plan.remove {
            let held = self.present.repositories.get_mut(removal.repository()).unwrap();
            match removal {
                Removal::Tag { tag, digest, .. } => assert_eq!(held.tags.remove(tag), Some(*digest)),
                Removal::Manifest(artifact) => {
                    assert!(
                        held.tags.values().all(|digest| *digest != artifact.digest),
                        "a tag points at it"
                    );
                    assert!(held.manifests.remove(&artifact.digest).is_some());
                }
            }
        }
        look(&mut self.present);
    }

    fn turn(&mut self, failing: &BTreeSet<usize>) {
        let first = self.plan();
        self.make(&first, failing);
        let second = self.plan();
        self.remove(&second);
    }

    fn whole(&self, artifact: &Artifact) -> bool {
        self.present
            .repositories
            .get(&artifact.repository)
            .is_some_and(|held| is_whole(held, &artifact.digest))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_wanted_is_never_broken_whatever_fails(world in world(), failing in btree_set(0..DIGESTS, 0..4)) {
        let mut after = world.clone();
        after.turn(&failing);
        let wanted = world.plan().wanted;
        for artifact in wanted.keys() {
            prop_assert!(after.whole(artifact) || !world.whole(artifact), "{artifact:?} was whole and is wanted");
            let own_fault = failing.contains(&index_of(artifact.digest));
            prop_assert!(after.whole(artifact) || own_fault, "{artifact:?} suffers for another one");
        }
        for entry in world.entries.iter().filter(|entry| !entry.deleted) {
            let before = world.present.repositories.get(&entry.repository);
            let now = after.present.repositories.get(&entry.repository);
            for tag in &entry.tags {
                let (before, now) = (before.and_then(|h| h.tags.get(tag)), now.and_then(|h| h.tags.get(tag)));
                prop_assert!(before.is_none() || now.is_some(), "the tag {tag} is wanted and vanished");
                if let Some(now) = now.filter(|now| before != Some(*now)) {
                    let target = Artifact { repository: entry.repository.clone(), digest: *now };
                    prop_assert!(after.whole(&target), "the tag {tag} moved to what is not whole");
                }
            }
        }
    }

    #[test]
    fn without_failures_one_turn_arrives_and_the_next_has_nothing_to_do(world in world()) {
        let mut after = world.clone();
        after.turn(&BTreeSet::new());
        let rest = after.plan();
        prop_assert_eq!(&rest.make, &Vec::new());
        prop_assert_eq!(&rest.remove, &Vec::new());
        for (artifact, want) in &rest.wanted {
            prop_assert!(after.whole(artifact));
            for tag in &want.tags {
                prop_assert_eq!(after.present.repositories[&artifact.repository].tags.get(tag), Some(&artifact.digest));
            }
        }
    }

    #[test]
    fn the_store_ends_with_what_is_wanted_and_nothing_else(mut world in world()) {
        world.complete = true;
        world.ours = None;
        world.turn(&BTreeSet::new());
        let wanted = world.plan().wanted;
        for (repository, held) in &world.present.repositories {
            let roots: BTreeSet<Digest> =
                wanted.keys().filter(|a| a.repository == *repository).map(|a| a.digest).collect();
            for (tag, digest) in &held.tags {
                let claimed = world
                    .entries
                    .iter()
                    .any(|entry| !entry.deleted && entry.repository == *repository && entry.tags.contains(tag));
                prop_assert!(claimed, "{tag} at {digest} is nobody's");
            }
            let keep = closure(held, roots);
            prop_assert!(held.manifests.keys().all(|digest| keep.contains(digest)));
        }
    }

    #[test]
    fn nothing_goes_while_the_desired_state_is_incomplete(mut world in world(), failing in btree_set(0..DIGESTS, 0..4)) {
        world.complete = false;
        let before = world.clone();
        world.turn(&failing);
        for (repository, held) in &before.present.repositories {
            let now = &world.present.repositories[repository];
            prop_assert!(held.manifests.keys().all(|digest| now.manifests.contains_key(digest)));
            prop_assert!(held.tags.keys().all(|tag| now.tags.contains_key(tag)));
        }
    }

    #[test]
    fn what_is_not_ours_is_never_removed(mut world in world()) {
        let nobodys = || Ours { repositories: (0..2).map(|at| (repository(at), OursIn::default())).collect() };
        let ours = world.ours.get_or_insert_with(nobodys).clone();
        for removal in world.plan().remove {
            let ours = &ours.repositories[removal.repository()];
            match removal {
                Removal::Tag { tag, digest, .. } => prop_assert!(ours.tags[&tag].contains(&digest)),
                Removal::Manifest(artifact) => prop_assert!(ours.manifests.contains_key(&artifact.digest)),
            }
        }
    }
}
