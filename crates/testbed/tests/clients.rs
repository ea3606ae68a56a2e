//! Real clients: skopeo pushes, the Satellite replicates, and with the cloud gone Docker, Podman and containerd pull from
//! the Satellite and run what they pulled.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::time::Duration;

use oci::{Manifest, media_type};
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::image::{self, Image};
use testbed::podman::Podman;
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{admin, skopeo};

const REPOSITORY: &str = "library/busybox";
const TAG: &str = "1.35";

/// A satellite that holds the pushed image, and a cloud that is gone.
struct Offline {
    world: World,
    site: Site,
    _satellite: Satellite,
    image: Image,
    central: String,
}

async fn offline() -> Offline {
    let mut world = World::start().await.unwrap();
    let image = image::busybox(&world.dir().join("image")).await.unwrap();
    let central = world.place.url().trim_start_matches("http://").to_owned();
    let credentials = world.ground_control.as_ref().unwrap().credentials();
    let source = image.layout.dir().display().to_string();
    let target = format!("{REPOSITORY}:{TAG}");
    skopeo::push(format!("{source}:image").as_ref(), &central, &target, &credentials).await.unwrap();
    world.registry().push_graph(REPOSITORY, None, &image.layout, &image.referrers[0]).await.unwrap();
    assert_eq!(world.registry().digest(REPOSITORY, TAG).await.unwrap(), Some(image.root.digest));

    world.admin.sync_group("edge", &[admin::Wanted::new(REPOSITORY, TAG, image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["edge"], None).await.unwrap();
    let satellite = site.start().await.unwrap();
    site.wait_for_tag(REPOSITORY, TAG, image.root.digest, Duration::from_secs(60)).await.unwrap();
    let registry = site.registry();
    testbed::process::wait_for("the referrer on the satellite", Duration::from_secs(30), async || {
        (!registry.referrers(REPOSITORY, &image.root.digest).await.ok()?.is_empty()).then_some(())
    })
    .await
    .unwrap();
    world.kill_ground_control().unwrap();
    world.registry().ping().await.unwrap_err();
    Offline { world, site, _satellite: satellite, image, central }
}

impl Offline {
    /// The image's name on the satellite, by tag and by digest.
    fn references(&self, host: &str) -> [String; 2] {
        [format!("{host}/{REPOSITORY}:{TAG}"), format!("{host}/{REPOSITORY}@{}", self.image.root.digest)]
    }

    fn digest(&self) -> String {
        self.image.root.digest.to_string()
    }
}

#[tokio::test]
async fn the_image_is_whole_on_the_satellite() {
    let offline = offline().await;
    let registry = offline.site.registry();
    let served = registry.manifest(REPOSITORY, TAG).await.unwrap().unwrap();
    assert_eq!(served.digest, offline.image.root.digest);
    assert_eq!(served.bytes, offline.image.layout.read(&offline.image.root.digest).unwrap());
    let index = Manifest::parse(Some(media_type::OCI_INDEX), &served.bytes).unwrap();
    let platforms: Vec<String> = index
        .manifests
        .iter()
        .map(|child| child.platform.as_ref().map(ToString::to_string).unwrap_or_default())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let verified = registry.verify(REPOSITORY, TAG).await.unwrap().unwrap();
    assert_eq!((verified.manifests, verified.blobs), (3, 6));

    let referrers = registry.referrers(REPOSITORY, &offline.image.root.digest).await.unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0].digest, offline.image.referrers[0].digest);
    assert_eq!(referrers[0].artifact_type.as_deref(), Some(image::SIGNATURE_TYPE));
    let signature = registry.verify(REPOSITORY, &referrers[0].digest.to_string()).await.unwrap();
    assert!(signature.is_some());

    // skopeo reads every platform of it back, with its own eyes.
    let copy = offline.world.dir().join("copy");
    let source = format!("docker://{}/{REPOSITORY}:{TAG}", offline.site.address());
    let target = format!("oci:{}:copy", copy.display());
    skopeo::skopeo(&["copy", "--all", "--src-tls-verify=false", "--quiet", &source, &target]).await.unwrap();
    let copied = testbed::layout::Layout::open(&copy).unwrap().roots().unwrap();
    assert_eq!(copied[0].digest, offline.image.root.digest);
}

#[tokio::test]
async fn docker_pulls_and_runs() {
    let offline = offline().await;
    let docker = Docker::start().await.unwrap();
    for reference in offline.references(&offline.site.address()) {
        docker.remove_all().await.unwrap();
        assert_eq!(docker.pull(&reference).await.unwrap(), offline.digest());
        assert_eq!(docker.run(&reference, &["echo", "from the edge"]).await.unwrap(), "from the edge\n");
    }
}

#[tokio::test]
async fn podman_pulls_and_runs() {
    let offline = offline().await;
    let podman = Podman::start().await.unwrap();
    let satellite = offline.site.address();
    podman.registry(&satellite, None).unwrap();
    // Under the central registry's name too, with the satellite as its mirror: as on a node.
    podman.registry(&offline.central, Some(&satellite)).unwrap();
    for host in [&satellite, &offline.central] {
        for reference in offline.references(host) {
            podman.remove_all().await.unwrap();
            let digests = podman.pull(&reference).await.unwrap();
            assert!(digests.contains(&offline.digest()), "{reference}: {digests}");
            assert_eq!(podman.run(&reference, &["echo", "from the edge"]).await.unwrap(), "from the edge\n");
        }
    }
}

#[tokio::test]
async fn containerd_pulls_and_runs() {
    let offline = offline().await;
    let containerd = Containerd::start().await.unwrap();
    let satellite = offline.site.address();
    containerd.mirror(&satellite, &offline.site.url()).unwrap();
    containerd.mirror(&offline.central, &offline.site.url()).unwrap();
    for host in [&satellite, &offline.central] {
        for reference in offline.references(host) {
            assert_eq!(containerd.pull(&reference).await.unwrap(), offline.digest());
            assert_eq!(
                containerd.run(&reference, &["echo", "from the edge"]).await.unwrap(),
                "from the edge\n"
            );
            containerd.remove(&reference).await.unwrap();
        }
    }
}
