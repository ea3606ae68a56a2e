//! The plan of a reconcile: from what is asked for and what is there to what has to be done.
//!
//! Pure: values in, values out. It is computed at least twice in a cycle. The first plan says what to *make*; when that
//! has been tried, the destination is looked at again, and the second plan says what to *remove*. So a removal is never
//! a consequence of something that was only intended: an old manifest can go because no tag points at it any more, and
//! not because a tag should have moved.
//!
//! The rules:
//! * What a group wants is fetched by digest; a tag moves to it when the whole graph is there.
//! * A want beats another group's `deleted`.
//! * Two digests for one tag: the tag stays as it is, both digests are kept, and the conflict is named.
//! * A tag that could not be resolved stays as it is.
//! * What is kept is closed: children of an index and the referrers of what is kept, to any depth.
//! * Nothing is removed unless all of the desired state is known, and only what [`Ownership`] says is ours.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, RepositoryName, Tag};

mod model;

pub use model::{
    Artifact, Asked, Conflict, Entry, Fetch, Held, Input, Make, Node, OpenTag, Ours, OursIn, Ownership, Plan,
    Platforms, Present, Removal, Want,
};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// The tags that have to be resolved before a plan can be made: those that an entry names without a digest, and no
/// other entry with one.
#[must_use]
pub fn open_tags(entries: &[Entry]) -> BTreeSet<OpenTag> {
    let with_digest: BTreeSet<(&RepositoryName, &Tag)> = entries
        .iter()
        .filter(|entry| !entry.deleted && entry.digest.is_some())
        .flat_map(|entry| entry.tags.iter().map(|tag| (&entry.repository, tag)))
        .collect();
    entries
        .iter()
        .filter(|entry| !entry.deleted && entry.digest.is_none())
        .flat_map(|entry| {
            entry
                .tags
                .iter()
                .filter(|tag| !with_digest.contains(&(&entry.repository, *tag)))
                .map(|tag| open_tag(entry, tag))
        })
        .collect()
}

fn open_tag(entry: &Entry, tag: &Tag) -> OpenTag {
    OpenTag { registry: entry.registry.clone(), repository: entry.repository.clone(), tag: tag.clone() }
}

/// What has to be known of the destination before a plan can be made.
#[must_use]
pub fn asked(entries: &[Entry], resolved: &BTreeMap<OpenTag, Digest>) -> Asked {
    let mut asked = Asked::default();
    for entry in entries.iter().filter(|entry| !entry.deleted) {
        let mut digests: Vec<Digest> = entry.digest.into_iter().collect();
        for tag in &entry.tags {
            let tags = asked.tags.entry(entry.repository.clone()).or_default();
            tags.entry(tag.clone()).or_default().add(&entry.platforms);
            if entry.digest.is_none() {
                digests.extend(resolved.get(&open_tag(entry, tag)));
            }
        }
        for digest in digests {
            let artifact = artifact(&entry.repository, digest);
            asked.artifacts.entry(artifact).or_default().add(&entry.platforms);
        }
    }
    asked
}

/// What groups say about one tag.
#[derive(Default)]
struct Claims {
    digests: BTreeMap<Digest, BTreeSet<String>>,
    registries: Vec<String>,
    groups: BTreeSet<String>,
    platforms: Platforms,
}

/// Computes what has to be done.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let claims = collect(input, &mut plan.wanted);
    let none = Held::default();
    let mut claimed: BTreeMap<&RepositoryName, BTreeSet<&Tag>> = BTreeMap::new();

    for ((repository, tag), claim) in &claims {
        claimed.entry(repository).or_default().insert(tag);
        let present = input.present.repositories.get(repository).unwrap_or(&none).tags.get(tag).copied();
        let mut digests = claim.digests.keys();
        match (digests.next(), digests.next()) {
            (Some(only), None) => {
                if let Some(want) = plan.wanted.get_mut(&artifact(repository, *only)) {
                    want.tags.insert((*tag).clone());
                }
            }
            (first, _) => {
                if first.is_some() {
                    plan.conflicts.push(Conflict {
                        repository: (*repository).clone(),
                        tag: (*tag).clone(),
                        kept: present,
                        claims: claim.digests.clone(),
                    });
                }
                // The tag stays, so what it points at is wanted as it is.
                if let Some(present) = present {
                    let want = plan.wanted.entry(artifact(repository, present)).or_default();
                    extend(&mut want.registries, &claim.registries);
                    want.groups.extend(claim.groups.iter().cloned());
                    want.platforms.merge(&claim.platforms);
                    want.tags.insert((*tag).clone());
                }
            }
        }
    }

    for (artifact, want) in &plan.wanted {
        let held = input.present.repositories.get(&artifact.repository).unwrap_or(&none);
        let whole = held.manifests.get(&artifact.digest).is_some_and(|node| node.whole);
        let tags: Vec<Tag> =
            want.tags.iter().filter(|tag| held.tags.get(*tag) != Some(&artifact.digest)).cloned().collect();
        let waiting = input.waiting.contains(artifact);
        let fetch = match (whole, input.refresh.contains(artifact)) {
            (false, _) => Fetch::Graph,
            (true, true) => Fetch::Referrers,
            (true, false) => Fetch::Nothing,
        };
        if waiting || (fetch == Fetch::Nothing && tags.is_empty()) {
            continue;
        }
        plan.make.push(Make {
            artifact: artifact.clone(),
            registries: want.registries.clone(),
            fetch,
            tags,
            platforms: want.platforms.clone(),
            referrers: want.referrers.clone(),
        });
    }
    // What costs nothing first: a tag that only has to move does not wait for somebody else's download.
    plan.make.sort_by_key(|make| make.fetch != Fetch::Nothing);

    let removals = removals(input, &plan.wanted, &claimed);
    if input.complete {
        plan.remove = removals;
    } else {
        plan.held_back = removals.len();
    }
    plan
}

fn artifact(repository: &RepositoryName, digest: Digest) -> Artifact {
    Artifact { repository: repository.clone(), digest }
}

fn extend(registries: &mut Vec<String>, more: &[String]) {
    for registry in more {
        if !registries.contains(registry) {
            registries.push(registry.clone());
        }
    }
}

type TagKey<'a> = (&'a RepositoryName, &'a Tag);

/// Who claims which digest for which tag; fills in every digest that is wanted at all.
fn collect<'a>(input: &Input<'a>, wanted: &mut BTreeMap<Artifact, Want>) -> BTreeMap<TagKey<'a>, Claims> {
    let mut want = |entry: &Entry, digest: Digest| {
        let want = wanted.entry(artifact(&entry.repository, digest)).or_default();
        extend(&mut want.registries, std::slice::from_ref(&entry.registry));
        want.groups.insert(entry.group.clone());
        want.platforms.add(&entry.platforms);
        want.referrers.extend(entry.referrers);
    };
    let open = open_tags(input.entries);
    let mut claims: BTreeMap<TagKey<'a>, Claims> = BTreeMap::new();
    for entry in input.entries.iter().filter(|entry| !entry.deleted) {
        if let Some(digest) = entry.digest {
            want(entry, digest);
        }
        for tag in &entry.tags {
            let claim = claims.entry((&entry.repository, tag)).or_default();
            extend(&mut claim.registries, std::slice::from_ref(&entry.registry));
            claim.groups.insert(entry.group.clone());
            claim.platforms.add(&entry.platforms);
            let digest = entry.digest.or_else(|| {
                let key = open_tag(entry, tag);
                // A tag that another entry pins means that entry's digest, whatever it is upstream.
                open.contains(&key).then(|| input.resolved.get(&key).copied()).flatten()
            });
            if let Some(digest) = digest {
                want(entry, digest);
                claim.digests.entry(digest).or_default().insert(entry.group.clone());
            }
        }
    }
    claims
}

fn removals(
    input: &Input<'_>,
    wanted: &BTreeMap<Artifact, Want>,
    claimed: &BTreeMap<&RepositoryName, BTreeSet<&Tag>>,
) -> Vec<Removal> {
    let nothing = BTreeSet::new();
    let mut wanted_in: BTreeMap<&RepositoryName, BTreeSet<Digest>> = BTreeMap::new();
    for artifact in wanted.keys() {
        wanted_in.entry(&artifact.repository).or_default().insert(artifact.digest);
    }
    let mut result = Vec::new();
    for (repository, held) in &input.present.repositories {
        if input.protected.contains(repository) {
            continue;
        }
        let claimed = claimed.get(repository).unwrap_or(&nothing);
        let own_tag = |tag: &Tag, digest: &Digest| match input.ownership {
            Ownership::Everything => true,
            Ownership::Recorded(ours) => {
                let tags = ours.repositories.get(repository).map(|ours| &ours.tags);
                tags.and_then(|tags| tags.get(tag)).is_some_and(|digests| digests.contains(digest))
            }
        };
        let own_manifest = |digest: &Digest| match input.ownership {
            Ownership::Everything => true,
            Ownership::Recorded(ours) => {
                ours.repositories.get(repository).is_some_and(|ours| ours.manifests.contains_key(digest))
            }
        };
        let (derived, plain): (Vec<_>, Vec<_>) =
            held.tags.iter().partition(|(tag, _)| referrers_of(tag).is_some());

        let mut roots = wanted_in.remove(repository).unwrap_or_default();
        let mut unwanted = Vec::new();
        for (tag, digest) in plain {
            if claimed.contains(tag) || !own_tag(tag, digest) {
                roots.insert(*digest);
            } else {
                unwanted.push((tag, digest));
            }
        }
        roots.extend(input.arriving.get(repository).into_iter().flatten());
        let mut keep = closure(held, roots);
        // A tag of the referrers tag schema lives as long as the manifest whose referrers it lists; what it keeps may
        // have referrers of its own.
        let mut undecided = derived;
        loop {
            let (alive, rest): (Vec<_>, Vec<_>) = undecided.into_iter().partition(|(tag, digest)| {
                let lives = referrers_of(tag).is_some_and(|subject| keep.contains(&subject));
                lives || claimed.contains(*tag) || !own_tag(tag, digest)
            });
            undecided = rest;
            if alive.is_empty() {
                break;
            }
            keep.extend(closure(held, alive.into_iter().map(|(_, digest)| *digest).collect()));
        }
        unwanted.extend(undecided);
        result.extend(unwanted.into_iter().map(|(tag, digest)| Removal::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: *digest,
        }));
        if input.busy.contains(repository) {
            continue;
        }
        let doomed: BTreeSet<Digest> = held
            .manifests
            .keys()
            .filter(|digest| !keep.contains(digest) && own_manifest(digest))
            .copied()
            .collect();
        result.extend(
            parents_first(held, doomed)
                .into_iter()
                .map(|digest| Removal::Manifest(artifact(repository, digest))),
        );
    }
    result
}

/// Everything that has to stay if `roots` stay: what they list, and what refers to any of it.
pub(crate) fn closure(held: &Held, roots: BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut referrers: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
    for (digest, node) in &held.manifests {
        if let Some(subject) = node.subject {
            referrers.entry(subject).or_default().push(*digest);
        }
    }
    let mut keep = BTreeSet::new();
    let mut queue: Vec<Digest> = roots.into_iter().collect();
    while let Some(digest) = queue.pop() {
        if !keep.insert(digest) {
            continue;
        }
        if let Some(node) = held.manifests.get(&digest) {
            queue.extend(node.children.iter().copied());
        }
        queue.extend(referrers.get(&digest).into_iter().flatten().copied());
    }
    keep
}

/// `doomed` so ordered that whatever names another goes before it.
fn parents_first(held: &Held, doomed: BTreeSet<Digest>) -> Vec<Digest> {
    let mut children_first = Vec::new();
    let mut seen = BTreeSet::new();
    for root in &doomed {
        // Depth first, without recursion: the depth is the sender's choice.
        let mut stack = vec![(*root, false)];
        while let Some((digest, done)) = stack.pop() {
            if done {
                children_first.push(digest);
                continue;
            }
            if !doomed.contains(&digest) || !seen.insert(digest) {
                continue;
            }
            stack.push((digest, true));
            if let Some(node) = held.manifests.get(&digest) {
                stack.extend(node.children.iter().chain(node.subject.iter()).map(|next| (*next, false)));
            }
        }
    }
    children_first.reverse();
    children_first
}

/// The manifest whose referrers a tag lists (OCI distribution-spec, "Referrers Tag Schema": `sha256-<hex>`; signing
/// tools add a suffix such as `.sig`).
fn referrers_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split_once('.').map_or(rest, |(hex, _)| hex);
    format!("{algorithm}:{hex}").parse().ok()
}
