//! What a replication adapter tells: artifacts that were pushed, to be added to a group's list.

use jiff::Timestamp;

use crate::group::{Artifact, Group};
use crate::rule::Rule;

/// The author of revisions that an adapter makes.
pub const AUTHOR: &str = "replication";

/// The secret of a group's adapter, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationSecret {
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When something came with it last.
    pub used_at: Option<Timestamp>,
}

/// What became of what an adapter told.
#[derive(Debug, Clone, PartialEq)]
pub enum Replicated {
    /// No group has this secret.
    Unknown,
    /// The secret is that of this group, and another one was named: nothing was changed.
    OtherGroup(String),
    /// The group, with what was told merged into its list.
    Merged(Box<Group>),
}

/// Adds what was told to a list and takes nothing out of it.
///
/// Where a tag is told several times, the last word counts. A tag with a digest that the list has already is given the new digest. A tag that the list follows (it names it without
/// a digest, or has a rule that matches it) is found out from the registry, and a tag or digest that must not be on
/// satellites stays so: both are people's word.
pub fn merge(list: &[Artifact], told: &[Artifact]) -> Vec<Artifact> {
    let mut list = list.to_vec();
    // A digest by itself is added where no tag has it, so tags come first.
    let (tagged, by_digest): (Vec<_>, Vec<_>) =
        last_words(told).into_iter().partition(|artifact| !artifact.tags.is_empty());
    for artifact in tagged.iter().chain(&by_digest) {
        add(&mut list, artifact);
    }
    list
}

/// What was told without the tags of which something else was told after it.
fn last_words(told: &[Artifact]) -> Vec<Artifact> {
    let mut last: Vec<Artifact> = Vec::new();
    for artifact in told.iter().filter(|artifact| !artifact.deleted) {
        last.retain_mut(|earlier| {
            let had_tags = !earlier.tags.is_empty();
            if earlier.repository == artifact.repository {
                earlier.tags.retain(|tag| !artifact.tags.contains(tag));
            }
            !had_tags || !earlier.tags.is_empty()
        });
        last.push(artifact.clone());
    }
    last
}

fn add(list: &mut Vec<Artifact>, told: &Artifact) {
    let mut new = Artifact { pattern: None, keep: None, referrers: None, ..told.clone() };
    if told.tags.is_empty() {
        let here =
            |artifact: &Artifact| artifact.repository == told.repository && artifact.digest == told.digest;
        if !list.iter().any(here) {
            list.push(new);
        }
        return;
    }
    new.tags.retain(|tag| {
        let settled = |artifact: &Artifact| {
            if artifact.repository != told.repository {
                return false;
            }
            if let Some(pattern) = &artifact.pattern {
                return Rule::parse(pattern, artifact.keep).is_ok_and(|rule| rule.matches(tag.as_str()));
            }
            let same_digest = artifact.digest.is_some() && artifact.digest == told.digest;
            let named = artifact.tags.contains(tag);
            match artifact.deleted {
                true => named || (artifact.tags.is_empty() && same_digest),
                false => named && (artifact.digest.is_none() || same_digest),
            }
        };
        !list.iter().any(settled)
    });
    if new.tags.is_empty() {
        return;
    }
    let mut place = None;
    let mut kept = Vec::with_capacity(list.len() + 1);
    for mut artifact in list.drain(..) {
        if artifact.repository == told.repository && artifact.pattern.is_none() && !artifact.deleted {
            let before = artifact.tags.len();
            artifact.tags.retain(|tag| !new.tags.contains(tag));
            if artifact.tags.is_empty() && before > 0 {
                if place.is_none() {
                    place = Some(kept.len());
                    if new.platforms.is_empty() {
                        new.platforms = artifact.platforms;
                    }
                    if new.labels.is_empty() {
                        new.labels = artifact.labels;
                    }
                }
                continue;
            }
        }
        kept.push(artifact);
    }
    kept.insert(place.unwrap_or(kept.len()), new);
    *list = kept;
}

#[cfg(test)]
mod tests {
    use oci::Digest;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::{Value, json};

    use super::*;

    fn list(value: Value) -> Vec<Artifact> {
        serde_json::from_value(value).unwrap()
    }
    fn digest(n: u8) -> String {
        Digest::sha256(&[n]).to_string()
    }

    #[test]
    fn what_was_pushed_is_added_or_moved() {
        let before = list(json!([
            {"repository": "a/one", "tag": ["1", "1.0"], "digest": digest(1), "platforms": ["linux/amd64"]},
            {"repository": "a/two", "tag": "latest"},
            {"repository": "a/three", "match": {"semver": "^1"}},
            {"repository": "a/four", "tag": "old", "deleted": true},
            {"repository": "a/five", "tag": "1", "digest": digest(5), "platforms": ["linux/arm64"], "labels": ["x"]},
        ]));
        let after = merge(
            &before,
            &list(json!([
                {"repository": "a/one", "tag": ["1"], "digest": digest(2)},
                {"repository": "a/two", "tag": ["latest"], "digest": digest(2)},
                {"repository": "a/three", "tag": ["1.4.0"], "digest": digest(2)},
                {"repository": "a/three", "tag": ["2.0.0"], "digest": digest(2)},
                {"repository": "a/four", "tag": ["old"], "digest": digest(2)},
                {"repository": "a/five", "tag": ["1"], "digest": digest(6)},
                {"repository": "a/five", "tag": ["1"], "digest": digest(7), "deleted": true},
                {"repository": "a/six", "digest": digest(2)},
            ])),
        );
        assert_eq!(
            after,
            list(json!([
                {"repository": "a/one", "tag": ["1.0"], "digest": digest(1), "platforms": ["linux/amd64"]},
                {"repository": "a/two", "tag": "latest"},
                {"repository": "a/three", "match": {"semver": "^1"}},
                {"repository": "a/four", "tag": "old", "deleted": true},
                {"repository": "a/five", "tag": "1", "digest": digest(6), "platforms": ["linux/arm64"], "labels": ["x"]},
                {"repository": "a/one", "tag": ["1"], "digest": digest(2)},
                {"repository": "a/three", "tag": ["2.0.0"], "digest": digest(2)},
                {"repository": "a/six", "digest": digest(2)},
            ]))
        );
    }

    prop_compose! {
        fn artifact(rules: bool)(
            repository in select(vec!["a/b", "a/c"]),
            tags in vec(select(vec!["1.0.0", "1.1.0", "x"]), 0..3),
            n in option::of(0_u8..3),
            rule in option::weighted(0.2, select(vec!["1.*", "x"])),
            deleted in prop::bool::weighted(0.2),
        ) -> Artifact {
            let mut tags = tags;
            tags.sort_unstable();
            tags.dedup();
            let value = match rule.filter(|_| rules) {
                Some(rule) => json!({"repository": repository, "match": {"glob": rule}}),
                None => {
                    let n = if tags.is_empty() { Some(n.unwrap_or(0)) } else { n };
                    json!({"repository": repository, "tag": tags, "digest": n.map(digest), "deleted": deleted})
                }
            };
            serde_json::from_value(value).unwrap()
        }
    }

    proptest! {
        #[test]
        fn told_once_more_it_changes_nothing(
            before in vec(artifact(true), 0..6), told in vec(artifact(false), 0..3)
        ) {
            let after = merge(&before, &told);
            prop_assert_eq!(merge(&after, &told), after);
        }

        #[test]
        fn nothing_is_taken_out(before in vec(artifact(true), 0..6), told in vec(artifact(false), 0..3)) {
            let after = merge(&before, &told);
            let people = |list: &[Artifact]| -> Vec<Artifact> {
                list.iter().filter(|a| a.pattern.is_some() || a.deleted).cloned().collect()
            };
            prop_assert_eq!(people(&after), people(&before));
            for artifact in before.iter().filter(|a| !a.deleted) {
                for tag in &artifact.tags {
                    prop_assert!(after.iter().any(|a| a.repository == artifact.repository && a.tags.contains(tag)));
                }
                let touched = told.iter().any(|told| told.repository == artifact.repository);
                prop_assert!(touched || after.contains(artifact));
            }
            // Every tag that was told is there in some way.
            for told in &last_words(&told) {
                for tag in &told.tags {
                    let covers = |a: &Artifact| {
                        let rule = a.pattern.as_ref().map(|p| Rule::parse(p, a.keep).unwrap());
                        let gone = a.deleted && a.tags.is_empty() && a.digest == told.digest;
                        a.repository == told.repository
                            && (a.tags.contains(tag) || gone || rule.is_some_and(|rule| rule.matches(tag.as_str())))
                    };
                    prop_assert!(after.iter().any(covers));
                }
            }
        }
    }
}
