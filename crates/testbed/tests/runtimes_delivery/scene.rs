//! A site that delivers into the image folder of a k3s that is installed below a folder of ours.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Digest;
use testbed::containerd::Containerd;
use testbed::image::{self, Image};
use testbed::proxy::Proxy;
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{admin, files};

pub(crate) const REPOSITORY: &str = "library/busybox";
pub(crate) const TAG: &str = "1.35";
/// The image folder, as the test finds it.
const IMAGES: &str = "machine/var/lib/rancher/k3s/agent/images";
const LIMIT: Duration = Duration::from_secs(60);

/// The satellite holds an image of two platforms.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    pub(crate) site: Site,
    satellite: Option<Satellite>,
    pub(crate) image: Image,
    /// The central registry's host, as the satellite knows it.
    pub(crate) central: String,
}

impl Scene {
    pub(crate) async fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_prepared(environment, async |_| {}).await
    }

    /// The same, after something was done about where the image folder will be.
    pub(crate) async fn start_prepared(
        environment: &[(&str, &str)],
        prepare: impl AsyncFnOnce(&Path),
    ) -> Self {
        let world = World::start().await.unwrap();
        prepare(&world.dir().join(IMAGES)).await;
        let proxy = world.proxy().await.unwrap();
        let image = image::busybox(&world.dir().join("image")).await.unwrap();
        world.registry().push(REPOSITORY, TAG, &image).await.unwrap();
        world
            .admin
            .sync_group("edge", &[admin::Wanted::new(REPOSITORY, TAG, image.root.digest)])
            .await
            .unwrap();
        let root = world.dir().join("machine");
        let images = world.dir().join(IMAGES);
        files::write(&images.join("airgap.txt"), "theirs").unwrap();
        let root = root.display().to_string();
        let all = [&[("DIRECT_DELIVERY", "true"), ("HOST_ROOT", &root)], environment].concat();
        let site = world.site_with("edge-01", &["edge"], Some(&proxy), &all).await.unwrap();
        let satellite = Some(site.start().await.unwrap());
        site.wait_for_tag(REPOSITORY, TAG, image.root.digest, LIMIT).await.unwrap();
        let central = proxy.address().to_owned();
        Self { world, proxy, site, satellite, image, central }
    }

    /// The folder.
    pub(crate) fn images(&self) -> PathBuf {
        self.world.dir().join(IMAGES)
    }

    /// Waits until there are so many archives, and the status says that all is done.
    pub(crate) async fn delivered(&self, count: usize) -> Vec<PathBuf> {
        testbed::process::wait_for(&format!("{count} archives"), 2 * LIMIT, async || {
            let status = self.site.status().await.ok()?;
            let deliveries = status["satellite"]["deliveries"].as_object()?;
            let delivery = deliveries.get("/var/lib/rancher/k3s/agent/images")?;
            let done = delivery["state"] == "done" && delivery["delivered"] == count;
            let found = tars(&self.images());
            (done && found.len() == count).then_some(found)
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&self.site.log(), 30)))
    }

    /// What was wanted with these besides.
    pub(crate) fn wanted(&self, more: &[(&str, &str, Digest)]) -> (usize, Vec<admin::Wanted>) {
        let mut all = vec![admin::Wanted::new(REPOSITORY, TAG, self.image.root.digest)];
        all.extend(more.iter().map(|(repository, tag, digest)| admin::Wanted::new(repository, tag, *digest)));
        (all.len(), all)
    }

    /// The satellite's process.
    pub(crate) fn process_id(&self) -> u32 {
        self.satellite.as_ref().unwrap().process().id()
    }

    pub(crate) fn kill(&mut self) {
        self.satellite.take().unwrap().kill().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.satellite = Some(self.site.start().await.unwrap());
    }

    /// The manifest for this machine.
    pub(crate) fn own_manifest(&self) -> Digest {
        let (_, index) = self.image.layout.manifest(&self.image.root).unwrap();
        let own = index.manifests.iter().find(|child| {
            child.platform.as_ref().is_some_and(|platform| platform.to_string() == image::platform())
        });
        own.unwrap().digest
    }

    /// Its config, which is the image's id.
    pub(crate) fn own_config(&self) -> Digest {
        let (_, index) = self.image.layout.manifest(&self.image.root).unwrap();
        let own = index.manifests.iter().find(|child| child.digest == self.own_manifest()).unwrap();
        self.image.layout.manifest(own).unwrap().1.config.unwrap().digest
    }
}

/// The digest that a name has in a containerd.
pub(crate) async fn imported(containerd: &Containerd, name: &str) -> String {
    let list = containerd.ctr(&["images", "list", &format!("name=={name}")]).await.unwrap();
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not there: {list}"));
    line.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned()
}

pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// What an importer would take.
pub(crate) fn tars(folder: &Path) -> Vec<PathBuf> {
    files_of(folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "tar")).collect()
}

pub(crate) fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}
