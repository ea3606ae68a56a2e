//! What manifests say, as far as a reconcile needs it.

use std::collections::{BTreeSet, HashMap};

use oci::{Digest, Manifest};

use crate::plan::{Artifact, Held, Present};

/// What a manifest says. It never changes for a digest.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) children: Vec<Digest>,
    pub(super) subject: Option<Digest>,
    /// Bytes of the manifest and of its blobs.
    size: u64,
}

impl Facts {
    pub(super) fn read(media_type: &str, bytes: &[u8]) -> Self {
        let media_type = Some(media_type).filter(|media_type| !media_type.is_empty());
        let own = bytes.len() as u64;
        match Manifest::parse(media_type, bytes) {
            Ok(manifest) => Self {
                children: manifest.manifests.iter().map(|child| child.digest).collect(),
                subject: manifest.subject.as_ref().map(|subject| subject.digest),
                size: manifest.blobs().map(|blob| blob.size).fold(own, u64::saturating_add),
            },
            Err(_) => Self { size: own, ..Self::default() },
        }
    }
}

/// The facts of everything that is there, each read once.
pub(super) type KnownFacts = HashMap<Digest, Facts>;

/// Forgets what is there no more.
pub(super) fn keep_only(facts: &mut KnownFacts, present: &Present) {
    let known: BTreeSet<&Digest> =
        present.repositories.values().flat_map(|held| held.manifests.keys()).collect();
    facts.retain(|digest, _| known.contains(digest));
}

/// Bytes of an artifact: its manifests and blobs, as far as they are there.
pub(super) fn size(facts: &KnownFacts, artifact: &Artifact, held: &Held) -> u64 {
    let mut seen = BTreeSet::new();
    let mut queue = vec![artifact.digest];
    let mut size = 0_u64;
    while let Some(digest) = queue.pop() {
        if !seen.insert(digest) || !held.manifests.contains_key(&digest) {
            continue;
        }
        if let Some(facts) = facts.get(&digest) {
            size = size.saturating_add(facts.size);
            queue.extend(facts.children.iter().copied());
        }
    }
    size
}
