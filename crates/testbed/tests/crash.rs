//! `kill -9` at random points: what the satellite serves is whole or not there, and no byte that had reached a file is
//! asked for again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testbed::admin::Wanted;
use testbed::image::{self, Image};
use testbed::process::wait_for;
use testbed::proxy::Proxy;
use testbed::satellite::Site;
use testbed::world::World;

const REPLICATIONS: u64 = 100;
const LANES: u64 = 2;
const REPOSITORY: &str = "crash/image";
const TAG: &str = "1";
const LAYERS: [usize; 3] = [260_000, 90_000, 400_000];
/// Slow enough that a kill meets every place of a blob.
const BYTES_PER_SECOND: u64 = 1_500_000;
const LIMIT: Duration = Duration::from_secs(60);

/// When the satellite is killed.
#[derive(Debug, Clone, Copy)]
enum At {
    /// This long after its start.
    Time(Duration),
    /// When so many bytes of blobs have left the proxy.
    Bytes(u64),
}

/// What one replication showed.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Bytes that lay in files of incomplete downloads at the kill.
    partial: u64,
    /// Blobs that were complete at the kill.
    complete: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills() {
    let seed =
        std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CRASH_SEED={seed}");
    let world = World::start().await.unwrap();
    let image = image::random(&world.dir().join("image"), seed, &LAYERS).unwrap();
    world.registry().push(REPOSITORY, TAG, &image).await.unwrap();
    world.admin.sync_group("edge", &[Wanted::new(REPOSITORY, TAG, image.root.digest)]).await.unwrap();
    let world = Arc::new(world);
    let image = Arc::new(image);

    // How long it takes without a kill, on this machine, today.
    let proxy = limited(&world).await;
    let site = world.site("whole", &["edge"], Some(&proxy)).await.unwrap();
    let start = Instant::now();
    let satellite = site.start().await.unwrap();
    site.wait_for_tag(REPOSITORY, TAG, image.root.digest, LIMIT).await.unwrap();
    let whole = start.elapsed();
    drop(satellite);
    println!("without a kill: {whole:?}");

    let lanes = (0..LANES).map(|lane| {
        let (world, image) = (Arc::clone(&world), Arc::clone(&image));
        async move {
            let proxy = limited(&world).await;
            let mut all = Vec::new();
            for number in (lane..REPLICATIONS).step_by(LANES as usize) {
                all.push(replication(&world, &image, &proxy, seed, number, whole).await);
            }
            all
        }
    });
    let all: Vec<Seen> = futures_util::future::join_all(lanes).await.into_iter().flatten().collect();
    assert_eq!(all.len() as u64, REPLICATIONS);
    let torn = all.iter().filter(|seen| seen.partial > 0).count();
    let finished = all.iter().filter(|seen| seen.complete > 0).count();
    println!("{torn} kills tore a download, {finished} found complete blobs");
    assert!(torn >= 20, "only {torn} kills met a download: the test has lost its subject");
}

async fn limited(world: &World) -> Proxy {
    let proxy = world.proxy().await.unwrap();
    proxy.limit(Some(BYTES_PER_SECOND));
    proxy
}

async fn replication(
    world: &World,
    image: &Image,
    proxy: &Proxy,
    seed: u64,
    number: u64,
    whole: Duration,
) -> Seen {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
    let total: usize = LAYERS.iter().sum();
    let at = if random.random_bool(0.4) {
        At::Time(whole.mul_f64(random.random_range(0.0..1.1)))
    } else {
        At::Bytes(random.random_range(0..total as u64))
    };
    let what = format!("CRASH_SEED={seed}, replication {number}, killed at {at:?}");
    let site = world.site(&format!("edge-{number}"), &["edge"], Some(proxy)).await.unwrap();
    proxy.forget();

    let satellite = site.spawn().unwrap();
    match at {
        // This pause is the experiment, not a way to wait for something.
        At::Time(time) => tokio::time::sleep(time).await,
        At::Bytes(bytes) => wait_for("bytes to leave the proxy", LIMIT, async || {
            let sent: u64 = proxy.exchanges().iter().filter(|e| e.blob().is_some()).map(|e| e.sent).sum();
            (sent > bytes).then_some(())
        })
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}; log:\n{}", log(&site))),
    }
    satellite.kill().unwrap();

    let partials: BTreeMap<String, u64> = site.partials().into_iter().collect();
    let complete = site.blobs();
    proxy.forget();
    let satellite = site.start().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let registry = site.registry();
    wait_for("the image after the kill", LIMIT, async || {
        // Either nothing, or all of it, at every moment.
        let verified = registry.verify(REPOSITORY, TAG).await;
        verified.unwrap_or_else(|error| panic!("{what}: {error}"))
    })
    .await
    .unwrap_or_else(|error| panic!("{what}: {error}; log:\n{}", log(&site)));
    let served = registry.digest(REPOSITORY, TAG).await.unwrap();
    assert_eq!(served, Some(image.root.digest), "{what}");

    for read in proxy.blob_reads() {
        let digest = read.blob().unwrap_or_default();
        assert!(
            !complete.iter().any(|blob| blob == digest),
            "{what}: {digest} was complete and is read again"
        );
        let held = partials.get(digest).copied().unwrap_or(0);
        assert!(
            read.offset() >= held,
            "{what}: {held} bytes of {digest} were in its file, and it is read from {} on; log:\n{}",
            read.offset(),
            log(&site)
        );
    }
    satellite.kill().unwrap();
    Seen { partial: partials.values().sum(), complete: complete.len() }
}

fn log(site: &Site) -> String {
    testbed::files::tail(&site.log(), 60)
}
