//! A node whose runtime is CRI-O: pulls by CRI, pins by a drop-in of its configuration, and removes nothing, because CRI
//! knows only whole images with every name they have: what is pinned no more is the kubelet's to collect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_store::durable;
use container_runtimes::CallError;
use container_runtimes::cri::CriImages;
use container_runtimes::crio::{CRIO_CONF, CRIO_CONF_D, OWN_FILE, pinned_images};

use super::decide::{Labels, Record, Seen};
use super::ledger::Made;
use super::round::Node;

const LARGEST_FILE: u64 = 1024 * 1024;
/// CRI-O reads it whatever account it runs under.
const MODE: u32 = 0o644;

/// CRI-O on this node.
#[derive(Debug, Clone)]
pub struct Crio {
    cri: CriImages,
    limit: Duration,
    host_root: PathBuf,
}

impl Crio {
    /// At a socket, with its configuration below `host_root`. A pull may take as long as `limit`.
    #[must_use]
    pub fn new(socket: &Path, limit: Duration, host_root: &Path) -> Self {
        Self { cri: CriImages::new(socket), limit, host_root: host_root.to_owned() }
    }
}

impl Node for Crio {
    async fn look(&self) -> Result<Seen, CallError> {
        let mut seen = Seen { records: Vec::new(), images: BTreeMap::new() };
        for image in self.cri.list().await? {
            let digests: Vec<(&str, &str)> =
                image.digests.iter().filter_map(|name| name.split_once('@')).collect();
            let record = |name: &str, target: &str| Record {
                name: name.to_owned(),
                target: target.to_owned(),
                made: Made::default(),
                pinned: image.pinned,
                mark: None,
            };
            for name in &image.tags {
                // An index and the manifest in it are digests of the same name.
                let of_it = digests.iter().filter(|(repository, _)| {
                    name.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':'))
                });
                seen.records.extend(of_it.map(|(_, digest)| record(name, digest)));
                seen.images.insert(name.clone(), image.id.clone());
            }
            for (name, (_, digest)) in image.digests.iter().filter(|name| name.contains('@')).zip(&digests) {
                seen.records.push(record(name, digest));
                seen.images.insert(name.clone(), image.id.clone());
            }
        }
        Ok(seen)
    }

    async fn pull(&self, name: &str) -> Result<(), CallError> {
        self.cri.pull(name, self.limit).await.map(drop)
    }

    async fn label(&self, _labels: &Labels) -> Result<(), CallError> {
        Ok(())
    }

    async fn remove(&self, record: &Record) -> Result<(), CallError> {
        tracing::info!(name = %record.name, digest = %record.target, "image left to the kubelet's collection");
        Ok(())
    }

    async fn hold(&self, names: &[String]) -> Result<(), String> {
        let (root, names) = (self.host_root.clone(), names.to_vec());
        tokio::task::spawn_blocking(move || write(&root, &names)).await.map_err(|error| error.to_string())?
    }
}

/// Brings our drop-in in step; CRI-O reads it at its next start or reload.
fn write(root: &Path, names: &[String]) -> Result<(), String> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let folder = below(CRIO_CONF_D);
    let own = folder.join(OWN_FILE);
    let now = read(&own)?;
    if names.is_empty() && now.is_none() {
        return Ok(());
    }
    let main = read(&below(CRIO_CONF))?;
    let mut drop_ins = Vec::new();
    if let Ok(entries) = std::fs::read_dir(&folder) {
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(text) = read(&entry.path())? {
                drop_ins.push((name, text));
            }
        }
    }
    let wanted = pinned_images(main.as_deref(), &drop_ins, names).map_err(|refusal| refusal.to_string())?;
    let failed = |error: std::io::Error| format!("{}: {error}", own.display());
    match wanted {
        wanted if wanted == now => return Ok(()),
        Some(text) => {
            durable::create_dir_all(&folder).map_err(failed)?;
            durable::write_file(&own, text.as_bytes(), MODE).map_err(failed)?;
        }
        None => durable::remove_file(&own).map_err(failed)?,
    }
    tracing::info!(file = %own.display(), names = names.len(), "pinned images written, in force from cri-o's next reload on");
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST_FILE => {
            Err(format!("{}: larger than 1 MiB", path.display()))
        }
        Ok(metadata) if metadata.is_file() => std::fs::read_to_string(path).map(Some).map_err(failed),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_comes_and_goes_and_the_operators_files_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(CRIO_CONF_D.trim_start_matches('/'));
        write(root.path(), &[]).unwrap();
        assert!(!folder.try_exists().unwrap());
        durable::create_dir_all(&folder).unwrap();
        let theirs = "[crio.image]\npinned_images = [\"theirs\"]\n";
        durable::write_file(&folder.join("10.conf"), theirs.as_bytes(), MODE).unwrap();
        write(root.path(), &["ours".to_owned()]).unwrap();
        let text = read(&folder.join(OWN_FILE)).unwrap().unwrap();
        assert!(text.contains("\"ours\"") && text.contains("\"theirs\""), "{text}");
        write(root.path(), &[]).unwrap();
        assert_eq!(read(&folder.join(OWN_FILE)).unwrap(), None);
        assert_eq!(read(&folder.join("10.conf")).unwrap().as_deref(), Some(theirs));
    }
}
