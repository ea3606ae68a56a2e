//! Manifests that are asked for often, in bounded memory.
//!
//! A reader takes the generation before it asks the index and may put its answer in only if no commit has changed
//! anything since: so an old answer never outlives the commit that made it old.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use oci::Digest;

use crate::key;
use crate::record::Record;
use crate::types::StoredManifest;

/// Larger manifests are read from their file each time.
const MAX_ENTRY: usize = 256 << 10;
const MAX_TAGS: NonZeroUsize = NonZeroUsize::new(2048).unwrap();

#[derive(Debug)]
pub(crate) struct Cache {
    state: Mutex<State>,
    limit: usize,
}

#[derive(Debug)]
struct State {
    generation: u64,
    tags: LruCache<Vec<u8>, Digest>,
    manifests: LruCache<Vec<u8>, StoredManifest>,
    weight: usize,
}

fn weight(key: &[u8], manifest: &StoredManifest) -> usize {
    // The last is what the maps and the allocator take for an entry, roughly.
    key.len() + manifest.bytes.len() + manifest.media_type.len() + 256
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                generation: 0,
                tags: LruCache::sparse(MAX_TAGS),
                manifests: LruCache::unbounded(),
                weight: 0,
            }),
            limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.state().tags.get(key::tag(repository, tag).as_slice()).copied()
    }

    pub(crate) fn manifest(&self, repository: &str, digest: &Digest) -> Option<StoredManifest> {
        self.state().manifests.get(key::in_repository(repository, digest).as_slice()).cloned()
    }

    pub(crate) fn insert_tag(&self, generation: u64, repository: &str, tag: &str, digest: Digest) {
        let mut state = self.state();
        if state.generation == generation {
            state.tags.put(key::tag(repository, tag), digest);
        }
    }

    pub(crate) fn insert_manifest(&self, generation: u64, repository: &str, manifest: &StoredManifest) {
        let key = key::in_repository(repository, &manifest.digest);
        let added = weight(&key, manifest);
        if manifest.bytes.len() > MAX_ENTRY || added > self.limit {
            return;
        }
        let mut state = self.state();
        if state.generation != generation || state.manifests.contains(&key) {
            return;
        }
        state.manifests.put(key, manifest.clone());
        state.weight += added;
        while state.weight > self.limit {
            let Some((key, old)) = state.manifests.pop_lru() else { break };
            state.weight -= weight(&key, &old);
        }
    }

    /// Drops what the records of a commit have made old.
    pub(crate) fn invalidate(&self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        state.generation += 1;
        for record in records {
            match record {
                Record::SetTag { repository, tag, .. } | Record::DeleteTag { repository, tag } => {
                    state.tags.pop(key::tag(repository, tag).as_slice());
                }
                Record::PutManifest { repository, digest, .. } => state.drop_manifest(repository, digest),
                Record::DeleteManifest { repository, digest } => {
                    state.drop_manifest(repository, digest);
                    state.tags.clear();
                }
                Record::Lost { .. } | Record::Forget { .. } => {
                    state.manifests.clear();
                    state.weight = 0;
                }
                Record::Content { .. } | Record::Link { .. } | Record::Unlink { .. } => {}
            }
        }
    }
}

impl State {
    fn drop_manifest(&mut self, repository: &str, digest: &Digest) {
        let key = key::in_repository(repository, digest);
        if let Some(old) = self.manifests.pop(key.as_slice()) {
            self.weight -= weight(&key, &old);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn manifest(n: u8, size: usize) -> StoredManifest {
        StoredManifest {
            digest: Digest::sha256(&[n]),
            media_type: "application/json".into(),
            bytes: Bytes::from(vec![n; size]),
        }
    }

    #[test]
    fn memory_is_bounded_and_the_least_used_goes_first() {
        let cache = Cache::new(10_000);
        for n in 0..8 {
            cache.insert_manifest(0, "r", &manifest(n, 2000));
            assert!(cache.manifest("r", &Digest::sha256(&[0])).is_some() || n == 0);
        }
        assert!(cache.manifest("r", &Digest::sha256(&[1])).is_none());
        assert!(cache.state().weight <= 10_000);
        cache.insert_manifest(0, "r", &manifest(9, MAX_ENTRY + 1));
        assert!(cache.manifest("r", &Digest::sha256(&[9])).is_none());
    }

    #[test]
    fn an_answer_older_than_a_commit_is_not_kept() {
        let cache = Cache::new(10_000);
        let (old, new) = (Digest::sha256(b"old"), Digest::sha256(b"new"));
        let generation = cache.generation();
        cache.invalidate(&[Record::SetTag { repository: "r".into(), tag: "t".into(), digest: new }]);
        cache.insert_tag(generation, "r", "t", old);
        assert_eq!(cache.tag("r", "t"), None);
        cache.insert_tag(cache.generation(), "r", "t", new);
        assert_eq!(cache.tag("r", "t"), Some(new));
    }
}
