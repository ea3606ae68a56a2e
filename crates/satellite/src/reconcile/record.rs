//! The record of what this satellite brought into a registry of the site's own.
//!
//! Only what stands here is ever removed from there. It is on the disk before anything is pushed, so that a power cut
//! leaves nothing behind that nobody would remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

use crate::plan::{Artifact, Fetch, Make, Node, Ours, Removal};

/// Name of the file.
pub(super) const RECORD_FILE: &str = "replicated.json";
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// By the registry's address, with its prefix.
    registries: BTreeMap<String, Ours>,
}

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    file: PathBuf,
    content: Content,
    nothing: Ours,
}

impl Record {
    /// Opens it. Without a readable record nothing is removed, which is the safe side; it is said in the log.
    pub(super) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(RECORD_FILE);
        let content = match std::fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice::<Content>(&bytes) {
                Ok(content) if content.version == VERSION => content,
                _ => {
                    tracing::warn!(
                        file = %file.display(),
                        "the record of what was brought into the site's registry cannot be read; what it named stays there"
                    );
                    Content::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the record cannot be read; what it names stays there");
                Content::default()
            }
        };
        Self { file, content, nothing: Ours::default() }
    }

    /// What is ours in a registry.
    pub(super) fn of(&self, registry: &str) -> &Ours {
        self.content.registries.get(registry).unwrap_or(&self.nothing)
    }

    pub(super) fn is_ours(&self, registry: &str, artifact: &Artifact) -> bool {
        self.of(registry)
            .repositories
            .get(&artifact.repository)
            .is_some_and(|ours| ours.manifests.contains_key(&artifact.digest))
    }

    /// Notes what is about to be brought there.
    pub(super) fn intend<'a>(
        &mut self,
        registry: &str,
        makes: impl Iterator<Item = &'a Make>,
    ) -> io::Result<()> {
        let mut changed = false;
        for make in makes {
            let ours = self.content.registries.entry(registry.to_owned()).or_default();
            let ours = ours.repositories.entry(make.artifact.repository.clone()).or_default();
            // What is whole there without our having brought it is somebody else's.
            if make.fetch == Fetch::Graph && !ours.manifests.contains_key(&make.artifact.digest) {
                ours.manifests.insert(make.artifact.digest, Node::default());
                changed = true;
            }
            for tag in &make.tags {
                changed |= ours.tags.entry(tag.clone()).or_default().insert(make.artifact.digest);
            }
        }
        if changed { self.store() } else { Ok(()) }
    }

    /// Notes what a graph of ours consists of.
    pub(super) fn learn(
        &mut self,
        registry: &str,
        artifact: &Artifact,
        manifests: BTreeMap<Digest, Node>,
        tags: BTreeMap<Tag, Digest>,
    ) -> io::Result<()> {
        let ours = self.content.registries.entry(registry.to_owned()).or_default();
        let ours = ours.repositories.entry(artifact.repository.clone()).or_default();
        let before = ours.clone();
        ours.manifests.extend(manifests);
        for (tag, digest) in tags {
            ours.tags.entry(tag).or_default().insert(digest);
        }
        if *ours == before { Ok(()) } else { self.store() }
    }

    /// Forgets what was removed.
    pub(super) fn forget(&mut self, registry: &str, removal: &Removal) -> io::Result<()> {
        let Some(ours) = self.content.registries.get_mut(registry) else { return Ok(()) };
        let Some(repository) = ours.repositories.get_mut(removal.repository()) else { return Ok(()) };
        match removal {
            Removal::Tag { tag, .. } => drop(repository.tags.remove(tag)),
            Removal::Manifest(artifact) => drop(repository.manifests.remove(&artifact.digest)),
        }
        if repository.tags.is_empty() && repository.manifests.is_empty() {
            ours.repositories.remove(removal.repository());
        }
        self.store()
    }

    fn store(&mut self) -> io::Result<()> {
        self.content.version = VERSION;
        let bytes = serde_json::to_vec(&self.content)?;
        blob_store::durable::write_file(&self.file, &bytes, blob_store::durable::PRIVATE_FILE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::Platforms;

    #[test]
    fn it_survives_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let artifact =
            Artifact { repository: "library/nginx".parse().unwrap(), digest: Digest::sha256(b"x") };
        let tag: Tag = "latest".parse().unwrap();
        let make = Make {
            artifact: artifact.clone(),
            registries: Vec::new(),
            fetch: Fetch::Graph,
            tags: vec![tag.clone()],
            platforms: Platforms::default(),
            referrers: BTreeSet::new(),
        };
        let mut record = Record::open(dir.path());
        record.intend("http://r", [&make].into_iter()).unwrap();
        let mut record = Record::open(dir.path());
        assert!(record.is_ours("http://r", &artifact));
        assert!(!record.is_ours("http://other", &artifact));
        let repository = artifact.repository.clone();
        record.forget("http://r", &Removal::Tag { repository, tag, digest: artifact.digest }).unwrap();
        record.forget("http://r", &Removal::Manifest(artifact)).unwrap();
        assert_eq!(*Record::open(dir.path()).of("http://r"), Ours::default());
    }

    #[test]
    fn what_was_whole_before_us_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let artifact =
            Artifact { repository: "library/nginx".parse().unwrap(), digest: Digest::sha256(b"x") };
        let make = Make {
            artifact: artifact.clone(),
            registries: Vec::new(),
            fetch: Fetch::Referrers,
            tags: vec![],
            platforms: Platforms::default(),
            referrers: BTreeSet::new(),
        };
        let mut record = Record::open(dir.path());
        record.intend("http://r", [&make].into_iter()).unwrap();
        assert!(!record.is_ours("http://r", &artifact));
    }
}
