//! What every test begins with: a Satellite that holds images of docker.io and quay.io, a cloud that is gone, and a
//! stand-in for the two registries that only a proxy leads to.

use std::process::Command;
use std::time::Duration;

use oci::Digest;
use testbed::image::{self, Image};
use testbed::machine::Machine;
use testbed::satellite::{Satellite, Site};
use testbed::upstream::Upstream;
use testbed::world::World;
use testbed::{admin, binaries, command};

/// An image of a registry of the web: how it is called there, and where the Satellite keeps it.
pub(crate) struct Held {
    pub(crate) host: &'static str,
    pub(crate) repository: &'static str,
    pub(crate) kept: &'static str,
    pub(crate) image: Image,
}

impl Held {
    pub(crate) fn digest(&self) -> Digest {
        self.image.root.digest
    }

    /// Its names, by tag and by digest.
    pub(crate) fn references(&self) -> [String; 2] {
        let name = format!("{}/{}", self.host, self.repository);
        [format!("{name}:1"), format!("{name}@{}", self.digest())]
    }
}

pub(crate) struct Scene {
    pub(crate) machine: Machine,
    pub(crate) upstream: Upstream,
    pub(crate) site: Site,
    pub(crate) satellite: Option<Satellite>,
    pub(crate) held: Vec<Held>,
    pub(crate) world: World,
}

impl Scene {
    /// Two images, one of each registry, held by a running Satellite that has these further variables.
    pub(crate) async fn new(machine: Machine, environment: &[(&str, &str)]) -> Self {
        let mut scene = Self::with_a_cloud(machine, environment).await;
        scene.world.kill_ground_control().unwrap();
        scene
    }

    /// The same, and the cloud is there.
    pub(crate) async fn with_a_cloud(machine: Machine, environment: &[(&str, &str)]) -> Self {
        let images = [
            (1, "docker.io", "library/app", "library/app"),
            (2, "quay.io", "acme/tool", "quay.io/acme/tool"),
        ];
        Self::keeping(machine, environment, &images).await
    }

    /// The same with other images: a seed for each, its registry, its name there, and where the Satellite keeps it.
    pub(crate) async fn keeping(
        machine: Machine,
        environment: &[(&str, &str)],
        images: &[(u64, &'static str, &'static str, &'static str)],
    ) -> Self {
        let world = World::start().await.unwrap();
        let upstream = Upstream::start().await.unwrap();
        let mut held = Vec::new();
        for (seed, host, repository, kept) in images.iter().copied() {
            let folder = world.dir().join(format!("image-{seed}"));
            let image = image::random(&folder, seed, &[40_000, 3_000]).unwrap();
            world.registry().push(kept, "1", &image).await.unwrap();
            upstream.push(repository, "1", &image).await.unwrap();
            held.push(Held { host, repository, kept, image });
        }
        let wanted: Vec<_> =
            held.iter().map(|held| admin::Wanted::new(held.kept, "1", held.digest())).collect();
        world.admin.sync_group("edge", &wanted).await.unwrap();
        let mut all = vec![("LOG_LEVEL", "debug")];
        all.extend(environment);
        let site = world.site_with("edge-01", &["edge"], None, &all).await.unwrap();
        let satellite = Some(site.start().await.unwrap());
        for held in &held {
            site.wait_for_tag(held.kept, "1", held.digest(), Duration::from_secs(60)).await.unwrap();
        }
        Self { machine, upstream, site, satellite, held, world }
    }

    /// `satellite mirrors` with these words; gives what it printed where it says that all is well.
    pub(crate) async fn mirrors(&self, words: &[&str]) -> testbed::Result<String> {
        let mut satellite = Command::new(binaries::find("satellite", None).unwrap());
        satellite.arg("mirrors").args(words);
        command::run(satellite).await
    }

    /// How often the Satellite's log says that something of a repository was pulled: Docker asks for no manifest that it
    /// has by digest.
    pub(crate) fn pulls(&self, held: &Held) -> usize {
        let log = std::fs::read_to_string(self.site.log()).unwrap();
        let name = format!(" pulled repository={} ", held.kept);
        log.lines().filter(|line| line.contains(&name)).count()
    }

    /// `kill -9` of the Satellite.
    pub(crate) fn kill_satellite(&mut self) {
        self.satellite.take().unwrap().kill().unwrap();
    }
}
