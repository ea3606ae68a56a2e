//! One look at one repository: what its selectors stand for at this moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use oci::{Digest, Reference, RepositoryName, Tag};

use super::facts::{Child, Facts};
use super::index::{ArtifactIndex, Listed};
use crate::domain::resolution::{Finding, Resolved, Selector, referrers_digest};
use crate::domain::rule::{Candidate, Rule};
use crate::publish::{RegistryError, chain};

/// How many requests one look has under way.
const CONCURRENCY: usize = 4;
/// The most manifests of one artifact (children, referrers, theirs) of which referrers are looked for.
const MAX_SUBJECTS: usize = 1000;
/// The most images that are opened to find out how old they are, for one rule.
const MAX_DATED: usize = 1000;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What was found for each selector, in the order given.
    pub findings: Vec<(Selector, Finding)>,
    /// Why the registry did not answer all of it.
    pub failure: Option<String>,
}

/// Why a selector stands for nothing.
#[derive(Debug, Clone)]
enum Miss {
    /// The registry answered, and there is nothing.
    Nothing(String),
    /// It did not answer.
    Failed(String),
}

impl From<RegistryError> for Miss {
    fn from(error: RegistryError) -> Self {
        Self::Failed(chain(&error))
    }
}

/// Looks `selectors` up in a repository. `facts` remembers from look to look what cannot change.
pub(super) async fn look(
    index: &dyn ArtifactIndex,
    facts: &Facts,
    repository: &RepositoryName,
    selectors: &[Selector],
) -> Looked {
    let look = Look { index, facts, repository };
    let mut failure = None;
    let tags = if selectors.iter().any(|selector| matches!(selector, Selector::Rule { .. })) {
        index.tags(repository).await.map_err(Miss::from)
    } else {
        Ok(Vec::new())
    };
    let found: Vec<(Selector, Result<Vec<Resolved>, Miss>)> = futures_util::stream::iter(selectors.to_vec())
        .map(|selector| async {
            let found = look.select(&selector, &tags).await;
            (selector, found)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let digests: BTreeSet<Digest> = found
        .iter()
        .filter_map(|(_, found)| found.as_ref().ok())
        .flatten()
        .map(|found| found.digest)
        .collect();
    let mut referrers: BTreeMap<Digest, Digest> = BTreeMap::new();
    for digest in digests {
        match look.referrers(digest).await {
            Ok(found) => {
                referrers.insert(digest, found);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let mut findings = Vec::with_capacity(found.len());
    for (selector, found) in found {
        let finding = match found {
            Ok(mut resolved) => {
                for resolved in &mut resolved {
                    resolved.referrers = referrers.get(&resolved.digest).copied();
                }
                Finding::Found(resolved)
            }
            Err(Miss::Nothing(reason)) => Finding::Nothing(reason),
            Err(Miss::Failed(reason)) => {
                failure.get_or_insert_with(|| reason.clone());
                Finding::Nothing(reason)
            }
        };
        findings.push((selector, finding));
    }
    Looked { findings, failure }
}

/// [`Sweep`](super::Sweep)'s look, once and without a memory.
pub async fn look_at(
    index: &dyn ArtifactIndex,
    repository: &RepositoryName,
    selectors: &[Selector],
) -> Looked {
    look(index, &Facts::default(), repository, selectors).await
}

struct Look<'a> {
    index: &'a dyn ArtifactIndex,
    facts: &'a Facts,
    repository: &'a RepositoryName,
}

impl Look<'_> {
    async fn select(
        &self,
        selector: &Selector,
        tags: &Result<Vec<Listed>, Miss>,
    ) -> Result<Vec<Resolved>, Miss> {
        let repository = self.repository;
        match selector {
            Selector::Digest(digest) => {
                let reference = Reference::Digest(*digest);
                match self.index.resolve(repository, &reference).await? {
                    Some(_) => Ok(vec![Resolved { tag: None, digest: *digest, referrers: None }]),
                    None => Err(Miss::Nothing(format!("{repository} has no manifest {digest}"))),
                }
            }
            Selector::Tag(tag) => match self.resolve(tag).await? {
                Some(digest) => Ok(vec![Resolved { tag: Some(tag.clone()), digest, referrers: None }]),
                None => Err(Miss::Nothing(format!("{repository} has no tag {tag}"))),
            },
            Selector::Rule { pattern, keep } => {
                let tags = tags.as_ref().map_err(Clone::clone)?;
                let rule = Rule::parse(pattern, Some(*keep)).map_err(Miss::Nothing)?;
                let chosen = self.choose(&rule, tags).await?;
                if chosen.is_empty() {
                    let all = tags.len();
                    return Err(Miss::Nothing(format!(
                        "none of the {all} tags of {repository} matches {pattern}"
                    )));
                }
                Ok(chosen)
            }
        }
    }

    async fn resolve(&self, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        self.index.resolve(self.repository, &Reference::Tag(tag.clone())).await
    }

    /// What a rule chooses. A listed tag that points at nothing (some registries list such) is no choice.
    async fn choose(&self, rule: &Rule, tags: &[Listed]) -> Result<Vec<Resolved>, Miss> {
        let mut digests: HashMap<Tag, Digest> =
            tags.iter().filter_map(|listed| Some((listed.tag.clone(), listed.digest?))).collect();
        let mut gone: BTreeSet<Tag> = BTreeSet::new();
        loop {
            let candidates = self.candidates(rule, tags, &mut digests, &mut gone).await?;
            let chosen = rule.choose(candidates);
            let unknown: Vec<Tag> =
                chosen.iter().filter(|tag| !digests.contains_key(*tag)).cloned().collect();
            let before = gone.len();
            for (tag, digest) in self.resolve_all(unknown).await? {
                match digest {
                    Some(digest) => drop(digests.insert(tag, digest)),
                    None => drop(gone.insert(tag)),
                }
            }
            if gone.len() == before {
                let resolved = |tag: Tag| {
                    let digest = digests.get(&tag).copied()?;
                    Some(Resolved { tag: Some(tag), digest, referrers: None })
                };
                return Ok(chosen.into_iter().filter_map(resolved).collect());
            }
        }
    }

    async fn resolve_all(&self, tags: Vec<Tag>) -> Result<Vec<(Tag, Option<Digest>)>, RegistryError> {
        futures_util::stream::iter(tags)
            .map(|tag| async move {
                let digest = self.resolve(&tag).await?;
                Ok((tag, digest))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// The tags with their times as far as the choice depends on these.
    async fn candidates(
        &self,
        rule: &Rule,
        tags: &[Listed],
        digests: &mut HashMap<Tag, Digest>,
        gone: &mut BTreeSet<Tag>,
    ) -> Result<Vec<Candidate>, Miss> {
        let here = |gone: &BTreeSet<Tag>| -> Vec<Listed> {
            tags.iter().filter(|listed| !gone.contains(&listed.tag)).cloned().collect()
        };
        let listed = here(gone);
        let undated: BTreeSet<&Tag> =
            rule.undated(listed.iter().map(|listed| &listed.tag)).into_iter().collect();
        let undated: Vec<Tag> = listed
            .iter()
            .filter(|listed| listed.pushed.is_none() && listed.created.is_none())
            .filter(|listed| undated.contains(&listed.tag))
            .map(|listed| listed.tag.clone())
            .collect();
        if undated.len() > MAX_DATED {
            return Err(Miss::Nothing(format!(
                "the rule matches {} tags of {} that name no version, and only their images tell their age: narrow it \
                 to at most {MAX_DATED}",
                undated.len(),
                self.repository
            )));
        }
        let unknown = undated.iter().filter(|tag| !digests.contains_key(*tag)).cloned().collect();
        for (tag, digest) in self.resolve_all(unknown).await? {
            match digest {
                Some(digest) => drop(digests.insert(tag, digest)),
                None => drop(gone.insert(tag)),
            }
        }
        let dated: Vec<(Tag, Digest)> =
            undated.into_iter().filter_map(|tag| digests.get(&tag).map(|digest| (tag, *digest))).collect();
        let created: HashMap<Tag, Option<Timestamp>> = futures_util::stream::iter(dated)
            .map(|(tag, digest)| async move {
                let created = self.facts.created(self.index, self.repository, &digest).await?;
                Ok::<_, RegistryError>((tag, created))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let candidate = |listed: Listed| Candidate {
            created: listed.created.or_else(|| created.get(&listed.tag).copied().flatten()),
            pushed: listed.pushed,
            tag: listed.tag,
        };
        Ok(here(gone).into_iter().map(candidate).collect())
    }

    /// The digest that stands for what refers to a manifest, to those that it names, and to all of these in turn: just what
    /// a satellite brings along with it.
    async fn referrers(&self, root: Digest) -> Result<Digest, String> {
        let mut seen: BTreeSet<Digest> = [root].into();
        let mut all: BTreeSet<Digest> = BTreeSet::new();
        let mut level = vec![Child { digest: root, may_have_children: true }];
        while !level.is_empty() {
            let found: Vec<(Vec<Child>, Vec<Child>)> = futures_util::stream::iter(level)
                .map(|subject| async move {
                    let referrers = self.index.referrers(self.repository, &subject.digest).await?;
                    let children = match subject.may_have_children {
                        true => {
                            self.facts.children(self.index, self.repository, &subject.digest).await?.to_vec()
                        }
                        false => Vec::new(),
                    };
                    Ok::<_, RegistryError>((referrers.iter().map(Child::of).collect(), children))
                })
                .buffer_unordered(CONCURRENCY)
                .try_collect()
                .await
                .map_err(|error| chain(&error))?;
            level = Vec::new();
            for (referrers, children) in found {
                all.extend(referrers.iter().map(|referrer| referrer.digest));
                level.extend(referrers.into_iter().chain(children).filter(|child| seen.insert(child.digest)));
            }
            if seen.len() > MAX_SUBJECTS {
                return Err(format!(
                    "{}@{root} and what refers to it are more than {MAX_SUBJECTS} manifests",
                    self.repository
                ));
            }
        }
        Ok(referrers_digest(all))
    }
}
