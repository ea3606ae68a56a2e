//! The components themselves: each starts, does its one thing, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, RANGE};
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::docker_registry::DockerRegistry;
use testbed::podman::Podman;
use testbed::postgres::Postgres;
use testbed::proxy::Proxy;
use testbed::registry::Registry;
use testbed::{command, files, image, skopeo};

#[tokio::test]
async fn postgres_answers_and_ends() {
    let cluster = Postgres::start().await.unwrap();
    let url = cluster.create_database("one").await.unwrap();
    assert!(url.contains("/one"));
    assert_eq!(cluster.query("one", "SELECT 40 + 2").await.unwrap(), "42");
    let home = cluster.log().parent().unwrap().to_owned();
    drop(cluster);
    assert!(!home.try_exists().unwrap(), "{} is left", home.display());
}

#[tokio::test]
async fn engines_pull_and_run_the_image() {
    let dir = files::scratch("components").unwrap();
    let image = image::busybox(&dir.path().join("layout")).await.unwrap();
    let digest = image.root.digest.to_string();
    let registry = DockerRegistry::start().await.unwrap();
    let address = registry.address();
    let layout = format!("oci:{}", image.layout.dir().display());
    let target = format!("docker://{address}/library/busybox:1");
    skopeo::skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        "--quiet",
        &format!("{layout}:image"),
        &target,
    ])
    .await
    .unwrap();
    let verified = registry.registry().verify("library/busybox", "1").await.unwrap().unwrap();
    assert_eq!((verified.manifests, verified.blobs), (3, 6));

    let (by_tag, by_digest) =
        (format!("{address}/library/busybox:1"), format!("{address}/library/busybox@{digest}"));
    let docker = Docker::start().await.unwrap();
    for reference in [&by_tag, &by_digest] {
        docker.remove_all().await.unwrap();
        assert_eq!(docker.pull(reference).await.unwrap(), digest);
        assert_eq!(docker.run(reference, &["echo", "hello"]).await.unwrap(), "hello\n");
    }

    let podman = Podman::start().await.unwrap();
    podman.registry(&address, None).unwrap();
    for reference in [&by_tag, &by_digest] {
        podman.remove_all().await.unwrap();
        assert!(podman.pull(reference).await.unwrap().contains(&digest));
        assert_eq!(podman.run(reference, &["echo", "hello"]).await.unwrap(), "hello\n");
    }

    let containerd = Containerd::start().await.unwrap();
    containerd.mirror("registry.invalid:5000", &registry.url()).unwrap();
    for reference in ["registry.invalid:5000/library/busybox:1".to_owned(), by_digest.clone()] {
        if reference == by_digest {
            containerd.mirror(&address, &registry.url()).unwrap();
        }
        assert_eq!(containerd.pull(&reference).await.unwrap(), digest);
        assert_eq!(containerd.run(&reference, &["echo", "hello"]).await.unwrap(), "hello\n");
        containerd.remove(&reference).await.unwrap();
    }
}

#[tokio::test]
async fn proxy_counts_limits_and_cuts() {
    let dir = files::scratch("components").unwrap();
    let image = image::random(&dir.path().join("layout"), 1, &[300_000]).unwrap();
    let registry = DockerRegistry::start().await.unwrap();
    let proxy = Proxy::start(&registry.url()).await.unwrap();
    let client = Registry::anonymous(&proxy.url());
    client.push("a/b", "1", &image).await.unwrap();
    proxy.forget();

    let graph = image.layout.graph(&image.root).unwrap();
    let layer = graph.blobs.iter().max_by_key(|blob| blob.size).unwrap();
    let path = format!("/v2/a/b/blobs/{}", layer.digest);
    proxy.limit(Some(1_000_000));
    let start = std::time::Instant::now();
    assert_eq!(client.check_blob("a/b", &layer.digest).await.unwrap(), Some(layer.size));
    assert!(start.elapsed() > Duration::from_millis(250), "300 kB at 1 MB/s took {:?}", start.elapsed());
    proxy.limit(None);

    let mut headers = HeaderMap::new();
    headers.insert(RANGE, "bytes=100000-".parse().unwrap());
    let answer = client.send(Method::GET, &path, headers, bytes::Bytes::new()).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len() as u64, layer.size - 100_000);

    proxy.cut(&path, 5000, 1);
    client.check_blob("a/b", &layer.digest).await.unwrap_err();
    proxy.fail(&path, 503, 1);
    client.check_blob("a/b", &layer.digest).await.unwrap_err();

    let reads = proxy.blob_reads();
    let seen: Vec<(u64, u64)> = reads.iter().map(|read| (read.offset(), read.sent)).collect();
    assert_eq!(seen, [(0, layer.size), (100_000, layer.size - 100_000), (0, 5000)]);
    proxy.unreachable();
    client.ping().await.unwrap_err();
    proxy.heal();
    client.ping().await.unwrap();
}

#[tokio::test]
async fn same_seed_same_image() {
    let dir = files::scratch("components").unwrap();
    let one = image::random(&dir.path().join("1"), 7, &[1000, 2000]).unwrap();
    let two = image::random(&dir.path().join("2"), 7, &[1000, 2000]).unwrap();
    let other = image::random(&dir.path().join("3"), 8, &[1000, 2000]).unwrap();
    assert_eq!(one.root.digest, two.root.digest);
    assert_ne!(one.root.digest, other.root.digest);
}

#[test]
fn a_missing_program_names_its_package() {
    let error = command::need("no-such-program", "no-such-package").unwrap_err();
    assert!(error.is_missing() && error.to_string().contains("no-such-package"));
}
