//! What containerd imports from the image folder, whatever its version.

use std::collections::BTreeSet;
use std::time::Duration;

use testbed::containerd::{Containerd, Options};
use testbed::{admin, image};

use crate::scene::{REPOSITORY, Scene, TAG, imported, inode, tars};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn whole(options: &Options) {
    let scene = Scene::start(&[]).await;
    let archive = scene.delivered(1).await.remove(0);
    // What was fetched was fetched once; the archive came from the store.
    let reads = || {
        let reads = scene.proxy.blob_reads();
        // The documents that say what is wanted are read, too.
        let ours = reads.iter().filter(|read| read.path.contains(REPOSITORY));
        ours.filter_map(|read| read.blob().map(str::to_owned)).collect::<Vec<_>>()
    };
    let before = reads();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), before.len(), "no blob twice");

    let containerd = Containerd::start_with(options.clone()).await.unwrap();
    containerd.ctr(&["images", "import", archive.to_str().unwrap()]).await.unwrap();
    let root = scene.image.root.digest.to_string();
    for name in [format!("docker.io/{REPOSITORY}:{TAG}"), format!("{}/{REPOSITORY}:{TAG}", scene.central)] {
        assert_eq!(imported(&containerd, &name).await, root, "{name}");
        let printed = containerd.run(&name, &["echo", "from the folder"]).await.unwrap();
        assert_eq!(printed, "from the folder\n");
    }
    // k3s takes all platforms.
    containerd.ctr(&["images", "import", "--all-platforms", archive.to_str().unwrap()]).await.unwrap();

    // No group wants it any more: the archive goes, and what was imported stays.
    scene.world.admin.sync_group("edge", &[]).await.unwrap();
    scene.delivered(0).await;
    assert_eq!(imported(&containerd, &format!("docker.io/{REPOSITORY}:{TAG}")).await, root);
    assert_eq!(reads(), before, "nothing was fetched again");
    // Somebody else's file was there all the time.
    assert_eq!(std::fs::read(scene.images().join("airgap.txt")).unwrap(), b"theirs");
}

pub(crate) async fn moved(options: &Options) {
    let scene = Scene::start(&[]).await;
    let archive = scene.delivered(1).await.remove(0);
    let before = inode(&archive);
    let other = image::random(&scene.world.dir().join("other"), 7, &[200_000]).unwrap();
    scene.world.registry().push(REPOSITORY, TAG, &other).await.unwrap();
    scene
        .world
        .admin
        .sync_group("edge", &[admin::Wanted::new(REPOSITORY, TAG, other.root.digest)])
        .await
        .unwrap();
    testbed::process::wait_for("the other archive", LIMIT, async || {
        (inode(&archive) != before).then_some(())
    })
    .await
    .unwrap();
    let containerd = Containerd::start_with(options.clone()).await.unwrap();
    containerd.ctr(&["images", "import", archive.to_str().unwrap()]).await.unwrap();
    let name = format!("docker.io/{REPOSITORY}:{TAG}");
    assert_eq!(imported(&containerd, &name).await, other.root.digest.to_string());
    assert_eq!(tars(&scene.images()).len(), 1);
}

pub(crate) async fn sparse(options: &Options) {
    let scene = Scene::start(&[("PLATFORMS", image::platform())]).await;
    let archive = scene.delivered(1).await.remove(0);
    let containerd = Containerd::start_with(options.clone()).await.unwrap();
    let name = format!("docker.io/{REPOSITORY}:{TAG}");
    containerd
        .ctr(&["images", "import", "--platform", image::platform(), archive.to_str().unwrap()])
        .await
        .unwrap();
    assert_eq!(imported(&containerd, &name).await, scene.image.root.digest.to_string());
    containerd.remove(&name).await.unwrap();
    containerd.ctr(&["images", "import", archive.to_str().unwrap()]).await.unwrap();
    assert_eq!(imported(&containerd, &name).await, scene.image.root.digest.to_string());
    assert_eq!(containerd.run(&name, &["echo", "sparse"]).await.unwrap(), "sparse\n");
}

pub(crate) async fn own(options: &Options) {
    let scene = Scene::start(&[("PLATFORMS", image::platform()), ("IMAGE_PLATFORMS", "own")]).await;
    let archive = scene.delivered(1).await.remove(0);
    let containerd = Containerd::start_with(options.clone()).await.unwrap();
    containerd.ctr(&["images", "import", "--all-platforms", archive.to_str().unwrap()]).await.unwrap();
    let name = format!("docker.io/{REPOSITORY}:{TAG}");
    assert_eq!(imported(&containerd, &name).await, scene.own_manifest().to_string());
    assert_eq!(containerd.run(&name, &["echo", "own"]).await.unwrap(), "own\n");
}
