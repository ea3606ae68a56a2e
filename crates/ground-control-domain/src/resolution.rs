//! Resolutions: the digests that stand at this moment for what groups list.
//!
//! A group's list is what people said: tags, digests, rules. What satellites are given are digests. In between stands
//! what the registry answered last, kept for each repository and [`Selector`], whatever groups have it. A registry that
//! lost something, or does not answer, takes nothing away: the last resolution stays until a person changes the list.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fleet_protocol::Pattern;
use jiff::Timestamp;
use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::group::Artifact;

/// What of a repository is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// This manifest: only what refers to it is to be found out.
    Digest(Digest),
    /// What a tag points at.
    Tag(Tag),
    /// What a rule chooses.
    Rule {
        /// Which tags.
        pattern: Pattern,
        /// How many of them.
        keep: u32,
    },
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => write!(f, "digest:{digest}"),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
            Self::Rule { pattern, keep } => write!(f, "{}:{keep}:{}", pattern.kind(), pattern.text()),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no selector");
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        let rule = || -> Result<(u32, String), String> {
            let (keep, pattern) = rest.split_once(':').ok_or_else(bad)?;
            Ok((keep.parse().map_err(|_| bad())?, pattern.to_owned()))
        };
        Ok(match kind {
            "digest" => Self::Digest(rest.parse().map_err(|_| bad())?),
            "tag" => Self::Tag(rest.parse().map_err(|_| bad())?),
            "glob" => rule().map(|(keep, text)| Self::Rule { pattern: Pattern::Glob(text), keep })?,
            "semver" => rule().map(|(keep, text)| Self::Rule { pattern: Pattern::Semver(text), keep })?,
            _ => return Err(bad()),
        })
    }
}

/// One manifest that a selector stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The tag that points at it; none where it was selected by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Its digest.
    pub digest: Digest,
    /// Stands for all that refers to it; see [`referrers_digest`]. Absent where that could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Digest>,
}

/// That the last look found nothing, or did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Why.
    pub reason: String,
    /// Since when no look has found anything.
    pub since: Timestamp,
}

/// What is known of a selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What it stands for: what was found last.
    pub resolved: Vec<Resolved>,
    /// Since when it stands for that; none where it was never found.
    pub resolved_at: Option<Timestamp>,
    /// Why the looks since then found nothing.
    pub unresolved: Option<Unresolved>,
}

/// What one look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// These, at least one.
    Found(Vec<Resolved>),
    /// Nothing, for this reason: it is not there, or the registry did not answer.
    Nothing(String),
}

/// What is known of a group's selectors.
pub type Resolutions = BTreeMap<(RepositoryName, Selector), Resolution>;

impl Resolution {
    /// What is known after a look. Nothing found takes nothing away, and referrers that could not be listed are those
    /// found before.
    #[must_use]
    pub fn after(&self, finding: Finding, now: Timestamp) -> Self {
        match finding {
            Finding::Found(mut resolved) if !resolved.is_empty() => {
                for found in resolved.iter_mut().filter(|found| found.referrers.is_none()) {
                    let before = self.resolved.iter().find(|before| before.digest == found.digest);
                    found.referrers = before.and_then(|before| before.referrers);
                }
                let since = self.resolved_at.filter(|_| self.resolved == resolved);
                Self { resolved, resolved_at: Some(since.unwrap_or(now)), unresolved: None }
            }
            Finding::Found(_) => self.without("the registry answered with an empty list".to_owned(), now),
            Finding::Nothing(reason) => self.without(reason, now),
        }
    }

    fn without(&self, reason: String, now: Timestamp) -> Self {
        let since = self.unresolved.as_ref().map_or(now, |unresolved| unresolved.since);
        Self { unresolved: Some(Unresolved { reason, since }), ..self.clone() }
    }
}

/// What has to be looked up for an artifact. What must not be on a satellite is looked up for nobody.
pub fn selectors(artifact: &Artifact) -> Vec<Selector> {
    match (&artifact.pattern, &artifact.digest) {
        _ if artifact.deleted => Vec::new(),
        (Some(pattern), _) => {
            vec![Selector::Rule { pattern: pattern.clone(), keep: artifact.keep.unwrap_or(1) }]
        }
        (None, Some(digest)) => vec![Selector::Digest(*digest)],
        (None, None) => artifact.tags.iter().cloned().map(Selector::Tag).collect(),
    }
}

/// Whether something of the list was never looked for, so that a moment's patience may give its digest.
pub fn is_unseen(artifacts: &[Artifact], known: &Resolutions) -> bool {
    artifacts.iter().any(|artifact| {
        selectors(artifact)
            .into_iter()
            .any(|selector| !known.contains_key(&(artifact.repository.clone(), selector)))
    })
}

/// The list as satellites are given it: each tag and each rule as the digests that it stands for. A tag that was never
/// resolved stays a tag, which satellites resolve themselves; a rule that was never resolved is nothing yet.
pub fn apply(artifacts: &[Artifact], known: &Resolutions) -> Vec<Artifact> {
    let mut list = Vec::with_capacity(artifacts.len());
    for artifact in artifacts {
        let bare = Artifact { pattern: None, keep: None, referrers: None, ..artifact.clone() };
        let lookup = |selector| known.get(&(artifact.repository.clone(), selector));
        if artifact.deleted {
            list.push(bare);
        } else if let Some(digest) = artifact.digest {
            let found = lookup(Selector::Digest(digest)).and_then(|known| known.resolved.first());
            list.push(Artifact { referrers: found.and_then(|found| found.referrers), ..bare });
        } else if artifact.pattern.is_some() {
            let found = selectors(artifact).into_iter().filter_map(lookup).flat_map(|known| &known.resolved);
            list.extend(by_digest(&bare, found.map(|found| (found.tag.clone(), Some(found)))));
        } else {
            let tags = artifact.tags.iter().map(|tag| {
                let found = lookup(Selector::Tag(tag.clone())).and_then(|known| known.resolved.first());
                (Some(tag.clone()), found)
            });
            list.extend(by_digest(&bare, tags));
        }
    }
    list
}

/// One artifact for each digest, in the order in which they come; tags without one stay together.
fn by_digest<'a>(
    bare: &Artifact,
    found: impl Iterator<Item = (Option<Tag>, Option<&'a Resolved>)>,
) -> Vec<Artifact> {
    let mut list: Vec<Artifact> = Vec::new();
    for (tag, found) in found {
        let digest = found.map(|found| found.digest);
        match list.iter_mut().find(|artifact| artifact.digest == digest) {
            Some(artifact) => artifact.tags.extend(tag),
            None => list.push(Artifact {
                tags: tag.into_iter().collect(),
                digest,
                referrers: found.and_then(|found| found.referrers),
                ..bare.clone()
            }),
        }
    }
    list
}

/// The digest that stands for everything that refers to a manifest and to its children: SHA-256 over the digests of the
/// referrers, sorted, each once, a line each. Any referrer that comes or goes makes another one.
pub fn referrers_digest(referrers: impl IntoIterator<Item = Digest>) -> Digest {
    let mut lines: Vec<String> = referrers.into_iter().map(|digest| format!("{digest}\n")).collect();
    lines.sort();
    lines.dedup();
    Digest::sha256(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }
    fn digest(n: u8) -> Digest {
        Digest::sha256(&[n])
    }
    fn found(tag: &str, n: u8) -> Resolved {
        Resolved { tag: Some(tag.parse().unwrap()), digest: digest(n), referrers: Some(digest(100 + n)) }
    }
    fn list(value: serde_json::Value) -> Vec<Artifact> {
        serde_json::from_value(value).unwrap()
    }
    fn known(entries: &[(&str, &str, Vec<Resolved>)]) -> Resolutions {
        entries
            .iter()
            .map(|(repository, selector, resolved)| {
                let key = (repository.parse().unwrap(), selector.parse().unwrap());
                (key, Resolution::default().after(Finding::Found(resolved.clone()), at(1)))
            })
            .collect()
    }

    #[test]
    fn selectors_read_back() {
        for text in ["tag:latest", "glob:2:1.*:x", "semver:1:^1.2", &format!("digest:{}", digest(1))] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), *text);
        }
        for bad in ["", "latest", "tag:", "glob:1.*", "semver:x:^1", "digest:sha256:0", "regex:1:a"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_found_takes_the_place_of_tags_and_rules() {
        let given = list(json!([
            {"repository": "a/tags", "tag": ["1", "1.0", "new"], "labels": ["l"], "platforms": ["linux/amd64"]},
            {"repository": "a/rule", "match": {"semver": "^1"}, "keep": 2, "platforms": ["linux/arm64"]},
            {"repository": "a/rule", "match": {"glob": "*"}},
            {"repository": "a/fixed", "tag": "1", "digest": digest(9).to_string()},
            {"repository": "a/gone", "tag": "1", "deleted": true},
        ]));
        let fixed = Resolved { tag: None, ..found("1", 9) };
        let known = known(&[
            ("a/tags", "tag:1", vec![found("1", 1)]),
            ("a/tags", "tag:1.0", vec![found("1.0", 1)]),
            ("a/rule", "semver:2:^1", vec![found("1.2.0", 3), found("1.1.0", 2)]),
            ("a/fixed", &format!("digest:{}", digest(9)), vec![fixed]),
        ]);
        assert!(is_unseen(&given, &known));
        let told = serde_json::to_value(apply(&given, &known)).unwrap();
        let entry = |repository: &str, tags: &[&str], n: u8, more: serde_json::Value| {
            let mut value = json!({"repository": repository, "tag": tags, "labels": [], "type": "image",
                "digest": digest(n).to_string(), "referrers": digest(100 + n).to_string(), "deleted": false});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        let mut unresolved =
            entry("a/tags", &["new"], 0, json!({"labels": ["l"], "platforms": ["linux/amd64"]}));
        unresolved.as_object_mut().unwrap().retain(|key, _| key != "digest" && key != "referrers");
        assert_eq!(
            told,
            json!([
                entry("a/tags", &["1", "1.0"], 1, json!({"labels": ["l"], "platforms": ["linux/amd64"]})),
                unresolved,
                entry("a/rule", &["1.2.0"], 3, json!({"platforms": ["linux/arm64"]})),
                entry("a/rule", &["1.1.0"], 2, json!({"platforms": ["linux/arm64"]})),
                entry("a/fixed", &["1"], 9, json!({})),
                {"repository": "a/gone", "tag": ["1"], "labels": [], "type": "image", "deleted": true},
            ])
        );
    }

    #[test]
    fn what_is_lost_keeps_its_last_resolution() {
        let first = Resolution::default().after(Finding::Found(vec![found("1", 1)]), at(1));
        let lost = first.after(Finding::Nothing("not there".into()), at(2));
        let later =
            lost.after(Finding::Nothing("no answer".into()), at(3)).after(Finding::Found(vec![]), at(4));
        assert_eq!((&later.resolved, later.resolved_at), (&first.resolved, Some(at(1))));
        assert_eq!(later.unresolved.as_ref().unwrap().since, at(2));
        assert!(later.unresolved.as_ref().unwrap().reason.contains("empty list"));
        let back = later.after(Finding::Found(vec![Resolved { referrers: None, ..found("1", 1) }]), at(5));
        assert_eq!((back.unresolved, &back.resolved, back.resolved_at), (None, &first.resolved, Some(at(1))));
        let moved = first.after(Finding::Found(vec![Resolved { referrers: None, ..found("1", 2) }]), at(5));
        assert_eq!(moved.resolved[0].referrers, None, "those of another manifest say nothing");
    }

    proptest! {
        #[test]
        fn nothing_is_taken_away_by_a_look(
            looks in vec((select(vec![0_u8, 1, 2]), vec((select(vec!["1", "2"]), 0_u8..3), 0..3)), 1..12),
        ) {
            let mut state = Resolution::default();
            for (n, (kind, tags)) in looks.into_iter().enumerate() {
                let resolved: Vec<Resolved> = tags.into_iter().map(|(tag, n)| found(tag, n)).collect();
                let finding = match kind {
                    0 => Finding::Nothing("gone".into()),
                    _ => Finding::Found(resolved.clone()),
                };
                let next = state.after(finding.clone(), at(i64::try_from(n).unwrap()));
                match finding {
                    Finding::Found(resolved) if !resolved.is_empty() => {
                        prop_assert_eq!(&next.resolved, &resolved);
                        prop_assert!(next.unresolved.is_none());
                    }
                    _ => {
                        prop_assert_eq!(&next.resolved, &state.resolved);
                        prop_assert!(next.unresolved.is_some());
                    }
                }
                state = next;
            }
        }

        #[test]
        fn every_tag_is_given_once_and_no_rule(tags in vec(select(vec!["1", "2", "3", "4"]), 0..5), n in 0_u8..3, m in 0_u8..3) {
            let given = list(json!([{"repository": "a/b", "tag": tags}]));
            let known = known(&[("a/b", "tag:1", vec![found("1", n)]), ("a/b", "tag:2", vec![found("2", m)])]);
            let given_tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
            let applied = apply(&given, &known);
            let mut out: Vec<String> = applied.iter().flat_map(|a| &a.tags).map(ToString::to_string).collect();
            let mut sorted = given_tags.clone();
            sorted.sort();
            out.sort();
            prop_assert_eq!(out, sorted);
            prop_assert!(applied.iter().all(|a| a.pattern.is_none() && a.keep.is_none()));
            // Applied to itself it changes nothing but what is known of digests.
            let mut digests: Vec<_> = applied.iter().map(|a| a.digest).collect();
            digests.dedup();
            prop_assert_eq!(digests.len(), applied.len(), "one artifact for each digest");
        }

        #[test]
        fn referrers_are_a_set(digests in vec(any::<u8>(), 0..8), more in any::<u8>()) {
            let of = |list: &[u8]| referrers_digest(list.iter().map(|n| digest(*n)));
            let mut turned = digests.clone();
            turned.reverse();
            turned.extend(digests.first());
            prop_assert_eq!(of(&digests), of(&turned));
            let mut with = digests.clone();
            with.push(more);
            prop_assert_eq!(of(&with) == of(&digests), digests.contains(&more));
        }
    }
}
