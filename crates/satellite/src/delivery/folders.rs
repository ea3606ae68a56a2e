//! Which image folders there are: the configuration decides, and what is installed. A folder that is one no more is left as
//! it was before us.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_store::durable;
use container_runtimes::host::Host;
use fleet_protocol::config::RANCHER_IMAGE_DIRS;
use oci::Platform;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::folder::ImageFolder;
use super::{Surroundings, follow};
use crate::archive::Choice;
use crate::config::{Effective, ImagePlatforms, Site};
use crate::status::DeliveryStatus;

/// Below the state directory: the folders that were written to.
const FILE: &str = "image-folders.json";
/// The most folders that one satellite ever wrote to.
const MOST: usize = 64;
/// How often it is looked whether k3s or RKE2 is installed by now, and whether a folder can be left.
const LOOK: Duration = Duration::from_secs(60);
/// What the status says where there is no folder to name.
const NOWHERE: &str = "image folder";

/// Keeps every image folder in step with the configuration, for as long as it is polled.
pub(crate) async fn keep(site: &Site, state_dir: &Path, store: blob_store::Store, around: Surroundings) {
    let host = Host::new(&site.runtimes.host_root);
    let mut configs = around.config.subscribe();
    let mut used = Used::open(state_dir);
    let mut followed = Followed::default();
    loop {
        let effective = configs.borrow_and_update().clone();
        let wanted = wanted(&host, &effective);
        followed.keep_only(&wanted).await;
        let left: Vec<PathBuf> =
            used.folders.iter().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let mut cleared = true;
        for name in left {
            cleared &= used.leave(&host, &name).await;
        }
        for (name, choice) in &wanted {
            if followed.tasks.contains_key(name) {
                continue;
            }
            match host.resolved(&name.to_string_lossy()) {
                Ok(path) => {
                    used.add(name);
                    let name_shown = name.display().to_string();
                    let folder = ImageFolder::new(name_shown, path, store.clone(), choice.clone());
                    followed.start(name.clone(), choice.clone(), folder, around.clone());
                }
                Err(error) => tracing::warn!(folder = %name.display(), %error, "image folder not found"),
            }
        }
        let nowhere = effective.image_folder.is_some() && wanted.is_empty();
        tell_nowhere(&around, nowhere);
        let done = effective.image_folder.is_none() && cleared;
        let pause =
            async { if done { std::future::pending().await } else { tokio::time::sleep(LOOK).await } };
        tokio::select! {
            () = pause => {}
            changed = configs.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn tell_nowhere(around: &Surroundings, nowhere: bool) {
    let board = around.events.status();
    if board.read(|status| status.deliveries.contains_key(NOWHERE)) == nowhere {
        return;
    }
    let problem = "direct delivery is on, and neither k3s nor RKE2 is installed here: name a folder with --image-dir \
                   (IMAGE_DIR)";
    board.update(|status| {
        if nowhere {
            tracing::warn!("{problem}");
            let delivery = DeliveryStatus {
                state: "waiting".to_owned(),
                problem: Some(problem.to_owned()),
                ..DeliveryStatus::default()
            };
            status.deliveries.insert(NOWHERE.to_owned(), delivery);
        } else {
            status.deliveries.remove(NOWHERE);
        }
    });
}

/// The folders that shall have archives, as the machine names them, each with what gets into them.
fn wanted(host: &Host, effective: &Effective) -> BTreeMap<PathBuf, Choice> {
    let Some(asked) = &effective.image_folder else { return BTreeMap::new() };
    let choice = match asked.platforms {
        ImagePlatforms::All => Choice::Here,
        ImagePlatforms::Own => Choice::One(own_platform()),
    };
    let folders = match &asked.dir {
        Some(dir) => vec![dir.clone()],
        None => RANCHER_IMAGE_DIRS.iter().filter(|dir| is_installed(host, dir)).map(PathBuf::from).collect(),
    };
    folders.into_iter().map(|dir| (dir, choice.clone())).collect()
}

/// k3s and RKE2 make the folder that their agent's lies in.
fn is_installed(host: &Host, image_dir: &str) -> bool {
    let own = Path::new(image_dir).ancestors().nth(2).map(|own| own.to_string_lossy().into_owned());
    own.and_then(|own| host.resolved(&own).ok()).is_some_and(|own| own.is_dir())
}

/// What this program runs on.
pub(crate) fn own_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        // The only one that is built for.
        "arm" => ("arm", Some("v7".to_owned())),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    };
    Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant, ..Platform::default() }
}

/// The tasks, by folder.
#[derive(Default)]
struct Followed {
    tasks: BTreeMap<PathBuf, (Choice, CancellationToken, JoinSet<()>)>,
}

impl Followed {
    fn start(&mut self, name: PathBuf, choice: Choice, folder: ImageFolder, around: Surroundings) {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let following = stop.clone().run_until_cancelled_owned(follow(Box::new(folder), around));
        task.spawn(async move { following.await.unwrap_or(()) });
        self.tasks.insert(name, (choice, stop, task));
    }

    /// Ends those that are wanted no more, or otherwise than they were begun.
    async fn keep_only(&mut self, wanted: &BTreeMap<PathBuf, Choice>) {
        let over: Vec<PathBuf> = self
            .tasks
            .iter()
            .filter(|(name, (choice, ..))| wanted.get(*name) != Some(choice))
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            if let Some((_, stop, mut task)) = self.tasks.remove(&name) {
                stop.cancel();
                while task.join_next().await.is_some() {}
            }
        }
    }
}

/// The folders that were written to and not left yet, on disk.
struct Used {
    file: PathBuf,
    folders: BTreeSet<PathBuf>,
}

impl Used {
    fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let read = std::fs::read(&file).ok();
        let folders: Vec<PathBuf> =
            read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, folders: folders.into_iter().take(MOST).collect() }
    }

    fn add(&mut self, name: &Path) {
        if self.folders.insert(name.to_owned()) {
            self.store();
        }
    }

    /// Takes our archives out of a folder. Whether that is done.
    async fn leave(&mut self, host: &Host, name: &Path) -> bool {
        let cleared = match host.resolved(&name.to_string_lossy()) {
            Ok(path) => tokio::task::spawn_blocking(move || ImageFolder::clear(&path))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(error) => Err(error),
        };
        match cleared {
            Ok(archives) => {
                tracing::info!(folder = %name.display(), archives, "image folder left, what was imported stays imported");
                self.folders.remove(name);
                self.store();
                true
            }
            Err(error) => {
                tracing::warn!(folder = %name.display(), %error, "archives not removed from the image folder, trying again");
                false
            }
        }
    }

    fn store(&self) {
        let written = serde_json::to_vec(&self.folders)
            .map_err(io::Error::other)
            .and_then(|bytes| durable::write_file(&self.file, &bytes, durable::PRIVATE_FILE));
        if let Err(error) = written {
            tracing::warn!(file = %self.file.display(), %error, "list of image folders not kept");
        }
    }
}
