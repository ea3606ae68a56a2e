//! Garbage collection: what nothing names goes after a grace.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use oci::{Algorithm, Digest};

use crate::ballast;
use crate::error::{StoreError, at};
use crate::index::read;
use crate::layout::list;
use crate::shared::now;
use crate::sink::hash_prefix;
use crate::store::{Store, blocking};
use crate::upload::newest_change;

/// Contents taken in one commit at most, so that writes do not wait for a long collection.
const STEP: usize = 256;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Upload sessions that were idle for too long.
    pub uploads: u64,
    /// Partial downloads that nobody asked for in a long time.
    pub partials: u64,
    /// Files that the index did not know, taken into account or removed.
    pub orphans: u64,
}

impl Store {
    /// Removes blobs that for the whole grace no manifest, link, upload or partial download has named; ends idle uploads
    /// and forgotten partials. Safe beside everything else; run it from time to time.
    ///
    /// The first run after an open compares the files with the index and takes what it does not know into account:
    /// such a file is verified and then has its grace like any other.
    pub async fn collect_garbage(&self) -> Result<GarbageReport, StoreError> {
        let mut report = GarbageReport::default();
        if !self.inner.accounted.load(Ordering::Relaxed) {
            report.orphans = self.account().await?;
            self.inner.accounted.store(true, Ordering::Relaxed);
        }
        report.uploads = self.expire_uploads().await?;
        report.partials = self.expire_partials().await?;
        self.expire_quarantine().await?;
        loop {
            let step = match self.collect_step().await {
                // The first failure has given the ballast back.
                Err(e) if e.is_no_space() => self.collect_step().await,
                step => step,
            };
            let (taken, bytes, trash) = step?;
            report.blobs += taken;
            report.bytes += bytes;
            blocking(move || {
                for path in trash {
                    // The name is gone from `blobs/` for good; a rest is removed at the next open.
                    drop(fs::remove_file(path));
                }
                Ok(())
            })
            .await?;
            if taken < STEP as u64 {
                break;
            }
        }
        if self.inner.shared.require_space(0).is_ok() {
            ballast::hold(&self.inner.shared.layout.ballast());
        }
        Ok(report)
    }

    /// Decides inside a commit, so that no manifest, link or publication can come in between.
    async fn collect_step(&self) -> Result<(u64, u64, Vec<PathBuf>), StoreError> {
        let grace = u64::try_from(self.inner.shared.options.grace.as_millis()).unwrap_or(u64::MAX);
        self.inner
            .committer
            .commit(move |t| {
                let mut doomed: Vec<Digest> = Vec::new();
                let pins = &t.shared.pins;
                read::each_unreferenced(&t.tables.unreferenced, t.at.saturating_sub(grace), |digest| {
                    if pins.doom(&digest) {
                        doomed.push(digest);
                    }
                    doomed.len() < STEP
                })?;
                let chosen = doomed.clone();
                let shared = std::sync::Arc::clone(t.shared);
                t.after(move |_| shared.pins.reprieve(&chosen));
                let (mut bytes, mut trash) = (0, Vec::new());
                for digest in &doomed {
                    bytes += read::content(&t.tables.contents, digest)?.map_or(0, |c| c.size);
                    let aside = t.shared.layout.temporary_file();
                    t.forget(digest, aside.clone())?;
                    trash.push(aside);
                }
                Ok((doomed.len() as u64, bytes, trash))
            })
            .await
    }

    /// Takes files into account that the index does not know: what a crash left between publishing a file and writing
    /// it down, or what a damaged journal has forgotten.
    async fn account(&self) -> Result<u64, StoreError> {
        let mut orphans = 0;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let directory = self.inner.shared.layout.blobs().join(algorithm.as_str());
            let shards = blocking(move || list(&directory)).await?;
            for shard in shards.iter().map(fs::DirEntry::path) {
                let store = self.clone();
                let unknown = blocking(move || store.unknown_files(&shard, algorithm)).await?;
                for digest in unknown {
                    orphans += 1;
                    self.adopt(digest).await?;
                }
            }
        }
        Ok(orphans)
    }

    fn unknown_files(
        &self,
        shard: &std::path::Path,
        algorithm: Algorithm,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut unknown = Vec::new();
        for entry in list(shard)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else {
                tracing::warn!(path = %entry.path().display(), "not a file of the store, left alone");
                continue;
            };
            if self.content(&digest)?.is_none_or(|c| c.lost) {
                unknown.push(digest);
            }
        }
        Ok(unknown)
    }

    async fn adopt(&self, digest: Digest) -> Result<(), StoreError> {
        let path = self.inner.shared.layout.blob(&digest);
        let found = blocking(move || {
            let file = match fs::File::open(&path) {
                // Collected or discarded since the directory was read.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(at("open", &path))?,
            };
            let size = file.metadata().map_err(at("look at", &path))?.len();
            let hasher = hash_prefix(&file, digest.algorithm(), size).map_err(at("read", &path))?;
            file.sync_all().map_err(at("sync", &path))?;
            Ok(Some((size, hasher.finish())))
        })
        .await?;
        let Some((size, actual)) = found else { return Ok(()) };
        if actual != digest {
            tracing::warn!(%digest, "a file that nothing knows has the wrong bytes, in quarantine");
        }
        self.inner
            .committer
            .commit(move |t| {
                if t.holds(&digest)? {
                    return Ok(());
                }
                let path = t.shared.layout.blob(&digest);
                if t.shared.file_length(&digest).is_none() {
                    return Ok(());
                }
                if actual == digest {
                    return t.publish(&path, &digest, size);
                }
                let aside = t.shared.quarantine_name(&digest);
                fs::rename(&path, &aside).map_err(at("set aside", &path))
            })
            .await
    }

    /// Files are in quarantine for whoever wants to know why; for as long as a partial download would stay.
    async fn expire_quarantine(&self) -> Result<(), StoreError> {
        let idle = u64::try_from(self.inner.shared.options.partial_idle.as_millis()).unwrap_or(u64::MAX);
        let (directory, before) = (self.inner.shared.layout.quarantine(), now().saturating_sub(idle));
        blocking(move || {
            for entry in list(&directory)? {
                let path = entry.path();
                if newest_change(&path) <= before {
                    fs::remove_file(&path).map_err(at("remove", &path))?;
                }
            }
            Ok(())
        })
        .await
    }
}
