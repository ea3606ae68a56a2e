//! Revisions: what each change did to a group's list.

use std::collections::{HashMap, VecDeque};

use fleet_protocol::api::{ArtifactChange, GroupDifference};
use jiff::Timestamp;

use crate::group::Artifact;

/// How many revisions of a group are kept; older ones go.
pub const HISTORY: i64 = 100;

/// One change of a group's list, without the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Counts the changes of the group, from 1; never used twice.
    pub number: u64,
    /// Who made the change; empty where a program made it that knew no revisions yet.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// The revision whose list this one took over.
    pub restored_from: Option<u64>,
    /// How many artifacts came.
    pub added: u64,
    /// How many went.
    pub removed: u64,
    /// How many are another digest, or have other tags, labels, platforms or another rule now.
    pub changed: u64,
    /// Whether those that stayed stand in another order.
    pub reordered: bool,
}

/// One change of a group's list, with what it did and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionDetail {
    /// Number, author, time.
    pub revision: Revision,
    /// The whole list after the change, in its order.
    pub artifacts: Vec<Artifact>,
    /// What the change did to the list before.
    pub difference: GroupDifference,
}

/// What leads from one list to the other.
///
/// What stands in both, equal, stayed. Of the rest of a repository, entries with the same tags or rule are one changed artifact,
/// then those with the same digest, then those that are left, in their order; what has no partner came or went.
pub fn difference(before: &[Artifact], after: &[Artifact]) -> GroupDifference {
    let mut pairing = Pairing {
        partner: vec![None; before.len()],
        rest: (0..after.len()).collect(),
        kept: vec![false; after.len()],
    };
    pairing.pair(before, after, true, |artifact| serde_json::to_string(artifact).unwrap_or_default());
    pairing.pair(before, after, false, |artifact| {
        format!("{} {:?} {:?}", artifact.repository, artifact.tags, artifact.pattern)
    });
    pairing.pair(before, after, false, |artifact| format!("{} {:?}", artifact.repository, artifact.digest));
    pairing.pair(before, after, false, |artifact| artifact.repository.to_string());

    let mut difference = GroupDifference::default();
    let mut last = None;
    for (artifact, partner) in before.iter().zip(&pairing.partner) {
        match partner.map(|n| (n, after.get(n))) {
            Some((n, _)) if pairing.kept.get(n) == Some(&true) => {
                difference.reordered |= last.is_some_and(|last| last > n);
                last = Some(n);
            }
            Some((_, Some(other))) => {
                difference.changed.push(ArtifactChange { from: artifact.clone(), to: other.clone() });
            }
            _ => difference.removed.push(artifact.clone()),
        }
    }
    difference.added = pairing.rest.iter().filter_map(|n| after.get(*n)).cloned().collect();
    difference
}

/// Which entry of the later list each one of the earlier became.
struct Pairing {
    partner: Vec<Option<usize>>,
    /// Entries of the later list that are no one's yet.
    rest: Vec<usize>,
    /// Entries of the later list that are what they were.
    kept: Vec<bool>,
}

impl Pairing {
    /// Pairs those that have no partner and the same key, first with first.
    fn pair(
        &mut self,
        before: &[Artifact],
        after: &[Artifact],
        equal: bool,
        key: impl Fn(&Artifact) -> String,
    ) {
        let mut waiting: HashMap<String, VecDeque<usize>> = HashMap::new();
        for n in &self.rest {
            if let Some(artifact) = after.get(*n) {
                waiting.entry(key(artifact)).or_default().push_back(*n);
            }
        }
        let mut taken = vec![false; after.len()];
        for (artifact, partner) in before.iter().zip(&mut self.partner).filter(|(_, p)| p.is_none()) {
            let Some(n) = waiting.get_mut(&key(artifact)).and_then(VecDeque::pop_front) else { continue };
            *partner = Some(n);
            if let (Some(taken), Some(kept)) = (taken.get_mut(n), self.kept.get_mut(n)) {
                (*taken, *kept) = (true, equal);
            }
        }
        self.rest.retain(|n| taken.get(*n) == Some(&false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    prop_compose! {
        /// Few values, so that lists have much in common, and entries twice.
        fn artifact()(
            repository in select(vec!["library/nginx", "shop/app", "a/b"]),
            tags in vec(select(vec!["1", "2", "latest"]), 0..2),
            digest in proptest::option::of(0_u8..3),
            deleted in proptest::bool::weighted(0.1),
            label in proptest::option::weighted(0.2, select(vec!["x", "y"])),
            rule in proptest::option::weighted(0.2, select(vec!["1.*", "2.*"])),
            keep in proptest::option::weighted(0.2, 1_u32..3),
            platform in proptest::option::weighted(0.2, select(vec!["linux/amd64", "linux/arm64"])),
        ) -> Artifact {
            serde_json::from_value(serde_json::json!({
                "repository": repository, "tag": tags, "deleted": deleted, "keep": keep,
                "match": rule.map(|text| serde_json::json!({"glob": text})),
                "platforms": platform.into_iter().collect::<Vec<_>>(),
                "digest": digest.map(|n| oci::Digest::sha256(&[n]).to_string()),
                "labels": label.into_iter().collect::<Vec<_>>(),
            })).unwrap()
        }
    }

    fn sorted(list: &[Artifact]) -> Vec<String> {
        let mut texts: Vec<String> = list.iter().map(|a| serde_json::to_string(a).unwrap()).collect();
        texts.sort();
        texts
    }

    /// The list that the difference makes of `before`, in any order.
    fn applied(before: &[Artifact], difference: &GroupDifference) -> Vec<Artifact> {
        let mut list = before.to_vec();
        for gone in difference.removed.iter().chain(difference.changed.iter().map(|change| &change.from)) {
            let place = list.iter().position(|artifact| artifact == gone).expect("what goes was there");
            list.remove(place);
        }
        list.extend(difference.added.iter().chain(difference.changed.iter().map(|c| &c.to)).cloned());
        list
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_list_to_the_other(
            before in vec(artifact(), 0..12), after in vec(artifact(), 0..12)
        ) {
            let difference = difference(&before, &after);
            prop_assert_eq!(sorted(&applied(&before, &difference)), sorted(&after));
            // It is empty exactly where there is none.
            prop_assert_eq!(difference == GroupDifference::default(), before == after);
            for change in &difference.changed {
                prop_assert!(change.from != change.to);
                prop_assert_eq!(&change.from.repository, &change.to.repository);
            }
            // What could be told as a change is not told as coming and going.
            for gone in &difference.removed {
                prop_assert!(difference.added.iter().all(|new| new.repository != gone.repository));
            }
        }

        #[test]
        fn the_way_back_is_as_long(before in vec(artifact(), 0..12), after in vec(artifact(), 0..12)) {
            let (there, back) = (difference(&before, &after), difference(&after, &before));
            prop_assert_eq!(sorted(&there.added), sorted(&back.removed));
            prop_assert_eq!(there.changed.len(), back.changed.len());
        }

        #[test]
        fn another_order_is_nothing_else(list in vec(artifact(), 0..12).prop_shuffle(), n in 0_usize..12) {
            let mut turned = list.clone();
            turned.rotate_left(n.min(list.len()));
            let difference = difference(&list, &turned);
            prop_assert!(difference.added.is_empty() && difference.removed.is_empty());
            prop_assert!(difference.changed.is_empty());
            prop_assert_eq!(difference.reordered, list != turned);
        }
    }

    #[test]
    fn a_new_version_is_a_change() {
        let of = |tag: &str, content: &[u8]| -> Artifact {
            serde_json::from_value(serde_json::json!({
                "repository": "library/nginx", "tag": tag, "digest": oci::Digest::sha256(content).to_string(),
            }))
            .unwrap()
        };
        let moved = difference(&[of("1", b"a"), of("2", b"b")], &[of("1", b"c"), of("2", b"b")]);
        assert_eq!(moved.changed, [ArtifactChange { from: of("1", b"a"), to: of("1", b"c") }]);
        let raised = difference(&[of("1", b"a")], &[of("2", b"b"), of("3", b"c")]);
        assert_eq!((raised.changed.len(), raised.added.len(), raised.removed.len()), (1, 1, 0));
    }
}
