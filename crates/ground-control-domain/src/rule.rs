//! Rules: which of a repository's tags a group follows.
//!
//! What is chosen follows from the tags and their times alone, so that every replica and every look chooses the same.

use std::cmp::Reverse;

use fleet_protocol::Pattern;
use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use oci::Tag;
use semver::{Version, VersionReq};

/// The longest text of a pattern.
pub const MAX_PATTERN: usize = 256;
/// The most tags that a rule may keep.
pub const MAX_KEPT: u32 = 100;

/// A rule that was read.
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: Compiled,
    keep: usize,
}

#[derive(Debug, Clone)]
enum Compiled {
    Glob(GlobMatcher),
    Semver(VersionReq),
}

/// A tag with what is known of its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The tag.
    pub tag: Tag,
    /// When it was pushed, where the registry tells that.
    pub pushed: Option<Timestamp>,
    /// When its image's config says that it was made.
    pub created: Option<Timestamp>,
}

impl Rule {
    /// Reads a rule; `keep` is one where it is absent. The message says what is wrong with it.
    pub fn parse(pattern: &Pattern, keep: Option<u32>) -> Result<Self, String> {
        let text = pattern.text();
        if text.trim().is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("a pattern has 1 to {MAX_PATTERN} characters"));
        }
        let keep = keep.unwrap_or(1);
        if !(1..=MAX_KEPT).contains(&keep) {
            return Err(format!("`keep` is a number from 1 to {MAX_KEPT}"));
        }
        let pattern = match pattern {
            Pattern::Glob(text) => {
                let glob = GlobBuilder::new(text).backslash_escape(false).build();
                Compiled::Glob(glob.map_err(|error| error.kind().to_string())?.compile_matcher())
            }
            Pattern::Semver(text) => Compiled::Semver(VersionReq::parse(text).map_err(|error| {
                format!("{error}; a requirement is written as Cargo's are: ^1.2, ~1.2.3, >=1.2, <2")
            })?),
        };
        Ok(Self { pattern, keep: usize::try_from(keep).unwrap_or(usize::MAX) })
    }

    /// Whether it may choose the tag.
    pub fn matches(&self, tag: &str) -> bool {
        match &self.pattern {
            Compiled::Glob(glob) => glob.is_match(tag),
            Compiled::Semver(requirement) => {
                version(tag).is_some_and(|version| requirement.matches(&version))
            }
        }
    }

    /// The tags on whose times the choice depends: those that are no versions, where there are more than are kept.
    /// Finding out a time may cost a look into each image.
    pub fn undated<'a>(&self, tags: impl IntoIterator<Item = &'a Tag>) -> Vec<&'a Tag> {
        let (versions, others): (Vec<&Tag>, Vec<&Tag>) = tags
            .into_iter()
            .filter(|tag| self.matches(tag.as_str()))
            .partition(|tag| version(tag.as_str()).is_some());
        let room = self.keep.saturating_sub(versions.len());
        if room == 0 || others.len() <= room { Vec::new() } else { others }
    }

    /// The newest of the tags (each given once) that it matches, at most as many as are kept: by version; what is no version comes after all
    /// that are, by the time of its push, or else by that of its image. What has neither time is oldest; of equals the
    /// one whose text sorts last is newest.
    ///
    /// They are given in an order that does not depend on times, which not every look finds out: versions, newest first,
    /// then the others by their text.
    pub fn choose(&self, candidates: impl IntoIterator<Item = Candidate>) -> Vec<Tag> {
        let mut matched: Vec<(Option<Version>, Option<Timestamp>, Tag)> = candidates
            .into_iter()
            .filter(|candidate| self.matches(candidate.tag.as_str()))
            .map(|candidate| {
                let time = candidate.pushed.or(candidate.created);
                (version(candidate.tag.as_str()), time, candidate.tag)
            })
            .collect();
        for (version, time, _) in &mut matched {
            // Of versions the time says nothing: a fix of an old line may be the latest push.
            if version.is_some() {
                *time = None;
            }
        }
        matched.sort_by(|a, b| b.cmp(a));
        matched.truncate(self.keep);
        matched.sort_by(|(a, _, a_tag), (b, _, b_tag)| (Reverse(a), a_tag).cmp(&(Reverse(b), b_tag)));
        matched.into_iter().map(|(_, _, tag)| tag).collect()
    }
}

/// The version that a tag names: three numbers (Semantic Versioning 2.0.0), behind a `v` or not.
fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn rule(pattern: Pattern, keep: u32) -> Rule {
        Rule::parse(&pattern, Some(keep)).unwrap()
    }
    fn semver(text: &str, keep: u32) -> Rule {
        rule(Pattern::Semver(text.into()), keep)
    }
    fn glob(text: &str, keep: u32) -> Rule {
        rule(Pattern::Glob(text.into()), keep)
    }
    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(seconds).unwrap())
    }
    fn candidate(tag: &str, pushed: Option<Timestamp>, created: Option<Timestamp>) -> Candidate {
        Candidate { tag: tag.parse().unwrap(), pushed, created }
    }
    fn chosen(rule: &Rule, tags: &[&str]) -> Vec<String> {
        rule.choose(tags.iter().map(|tag| candidate(tag, None, None))).iter().map(Tag::to_string).collect()
    }

    #[test]
    fn requirements_are_those_of_cargo() {
        let tags = ["1.1.9", "1.2.0", "v1.10.0", "1.9.3", "2.0.0", "1.11.0-rc.1", "latest", "1.2", "1"];
        assert_eq!(chosen(&semver("^1.2", 2), &tags), ["v1.10.0", "1.9.3"]);
        assert_eq!(chosen(&semver("1.2", 9), &tags), ["v1.10.0", "1.9.3", "1.2.0"]);
        assert_eq!(chosen(&semver("~1.1", 9), &tags), ["1.1.9"]);
        assert_eq!(chosen(&semver("*", 1), &tags), ["2.0.0"]);
        // A pre-release is named with its version, and no other one is meant by that.
        assert_eq!(chosen(&semver(">=1.11.0-rc.0, <2", 9), &tags), ["1.11.0-rc.1"]);
        assert_eq!(chosen(&semver(">=1.10.0-rc.0, <2", 9), &tags), ["v1.10.0"]);
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let tags = ["1.9.0", "1.10.0", "1.x", "2.0.0", "nightly-a", "nightly-b"];
        assert_eq!(chosen(&glob("1.*", 2), &tags), ["1.10.0", "1.9.0"]);
        assert_eq!(chosen(&glob("1.*", 9), &tags), ["1.10.0", "1.9.0", "1.x"]);
        assert_eq!(chosen(&glob("nightly-?", 1), &tags), ["nightly-b"]);
        assert_eq!(chosen(&glob("{1.9.0,2.0.[0-3]}", 9), &tags), ["2.0.0", "1.9.0"]);
        assert!(chosen(&glob("1", 9), &tags).is_empty());
    }

    #[test]
    fn without_versions_times_decide() {
        let newest = |candidates: &[Candidate]| glob("main-*", 1).choose(candidates.iter().cloned());
        let a = candidate("main-a", at(20), at(1));
        let b = candidate("main-b", at(10), at(30));
        let c = candidate("main-c", None, at(15));
        let d = candidate("main-d", None, None);
        assert_eq!(newest(&[a.clone(), b.clone(), c.clone(), d.clone()])[0].as_str(), "main-a");
        assert_eq!(newest(&[b.clone(), c.clone(), d.clone()])[0].as_str(), "main-c");
        assert_eq!(newest(&[d.clone(), b.clone()])[0].as_str(), "main-b");
        assert_eq!(newest(&[d])[0].as_str(), "main-d");
        // How the chosen stand to each other does not depend on what was found out about their times.
        let both = glob("main-*", 2);
        assert_eq!(both.choose([a.clone(), b.clone()]), both.choose([b.clone(), a.clone()]));
        assert_eq!(
            both.choose([a, b]),
            both.choose(["main-a", "main-b"].map(|tag| candidate(tag, None, None)))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let semver = |text: &str| Pattern::Semver(text.into());
        for (pattern, keep, words) in [
            (semver("latest"), None, "Cargo"),
            (semver(""), None, "characters"),
            (Pattern::Glob("[".into()), None, "unclosed"),
            (Pattern::Glob("{a".into()), None, "unclosed"),
            (Pattern::Glob("x".repeat(257)), None, "characters"),
            (semver("1"), Some(0), "keep"),
            (semver("1"), Some(101), "keep"),
        ] {
            let error = Rule::parse(&pattern, keep).unwrap_err();
            assert!(error.contains(words), "{pattern}: {error}");
        }
    }

    prop_compose! {
        fn any_candidate()(
            tag in select(vec!["1.0.0", "1.2.0", "v1.2.0", "1.10.0", "1.10.0-rc.1", "2.0.0", "1.x", "1.a", "1.b", "latest"]),
            pushed in proptest::option::of(0_i64..4), created in proptest::option::of(0_i64..4),
        ) -> Candidate {
            candidate(tag, pushed.and_then(at), created.and_then(at))
        }
    }

    /// Each tag once, in any order.
    fn listing() -> impl Strategy<Value = Vec<Candidate>> {
        vec(any_candidate(), 0..12).prop_map(|mut candidates| {
            let mut seen = HashSet::new();
            candidates.retain(|candidate| seen.insert(candidate.tag.clone()));
            candidates
        })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        (
            select(vec!["1.*", "*", "{1.a,1.b}"]),
            select(vec!["^1", "*", ">=1.10.0-rc.0"]),
            any::<bool>(),
            1_u32..5,
        )
            .prop_map(
                |(text, requirement, by_glob, keep)| {
                    if by_glob { glob(text, keep) } else { semver(requirement, keep) }
                },
            )
    }

    proptest! {
        #[test]
        fn the_newest_are_chosen(rule in any_rule(), candidates in listing()) {
            let chosen = rule.choose(candidates.clone());
            let matching = candidates.iter().filter(|c| rule.matches(c.tag.as_str())).count();
            prop_assert_eq!(chosen.len(), matching.min(rule.keep));
            prop_assert!(chosen.iter().all(|tag| rule.matches(tag.as_str())));
            // Nothing that was left out is newer than what was chosen.
            for left in candidates.iter().filter(|c| rule.matches(c.tag.as_str()) && !chosen.contains(&c.tag)) {
                for kept in candidates.iter().filter(|c| chosen.contains(&c.tag)) {
                    match (version(left.tag.as_str()), version(kept.tag.as_str())) {
                        (Some(left), Some(kept)) => prop_assert!(left <= kept),
                        (Some(_), None) => prop_assert!(false, "{} gave way to {}", left.tag, kept.tag),
                        (None, Some(_)) => {}
                        (None, None) => {
                            prop_assert!(left.pushed.or(left.created) <= kept.pushed.or(kept.created));
                        }
                    }
                }
            }
        }

        #[test]
        fn the_order_of_the_listing_does_not_matter(
            rule in any_rule(), candidates in listing(), n in 0_usize..12,
        ) {
            let mut turned = candidates.clone();
            turned.rotate_left(n.min(candidates.len()));
            prop_assert_eq!(rule.choose(candidates), rule.choose(turned));
        }

        #[test]
        fn times_are_asked_for_only_where_they_decide(rule in any_rule(), candidates in listing()) {
            let needed: Vec<Tag> = rule.undated(candidates.iter().map(|c| &c.tag)).into_iter().cloned().collect();
            let bare = candidates.iter().cloned().map(|candidate| {
                if needed.contains(&candidate.tag) { candidate } else { Candidate { pushed: None, created: None, ..candidate } }
            });
            prop_assert_eq!(rule.choose(bare), rule.choose(candidates.clone()));
        }
    }
}
