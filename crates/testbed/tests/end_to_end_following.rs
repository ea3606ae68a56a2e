//! By what a site follows its groups, with the built programs: Ground Control's answers, and the registry where there are none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::time::{Duration, Instant};

use testbed::admin::Wanted;
use testbed::clock::Clock;
use testbed::ground_control;
use testbed::image::{self, Image};
use testbed::link::Link;
use testbed::process::wait_for;
use testbed::proxy::Proxy;
use testbed::satellite::Site;
use testbed::world::World;

const LIMIT: Duration = Duration::from_secs(90);
/// How soon a change is at a site whose request waits for it: told, fetched, served.
const WAKE: Duration = Duration::from_secs(2);

async fn push(world: &World, seed: u64) -> Image {
    let image = image::random(&world.dir().join(format!("image-{seed}")), seed, &[5_000]).unwrap();
    world.registry().push("shop/app", "live", &image).await.unwrap();
    image
}

async fn wants(world: &World, image: &Image) {
    world.admin.sync_group("one", &[Wanted::new("shop/app", "live", image.root.digest)]).await.unwrap();
}

async fn follows(site: &Site, by: &str) {
    wait_for(&format!("a satellite that follows by {by}"), LIMIT, async || {
        let status = site.status().await.ok()?;
        (status["satellite"]["follow"]["by"] == by).then_some(())
    })
    .await
    .unwrap();
}

async fn arrives(site: &Site, image: &Image) {
    site.wait_for_tag("shop/app", "live", image.root.digest, LIMIT).await.unwrap();
}

/// A site whose way to Ground Control is a wire, and whose way to the registry is a proxy.
async fn site(world: &World, environment: &[(&str, &str)]) -> (Site, Link, Proxy) {
    let proxy = world.proxy().await.unwrap();
    let server = world.place.url();
    let link = Link::start(server.split_once("://").unwrap().1).await.unwrap();
    let mut site = world.site_with("edge-01", &["one"], Some(&proxy), environment).await.unwrap();
    site.set_ground_control_url(format!("http://{}", link.address()));
    (site, link, proxy)
}

#[tokio::test]
async fn a_change_reaches_a_waiting_site_at_once_and_an_idle_one_asks_for_nothing() {
    let world = World::start().await.unwrap();
    let old = push(&world, 1).await;
    wants(&world, &old).await;
    let (site, link, proxy) = site(&world, &[("HEARTBEAT_INTERVAL", "@every 30s")]).await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, &old).await;
    follows(&site, "waiting").await;

    // Ten turns of the replication, one each second.
    let runs = async || {
        site.status().await.unwrap()["satellite"]["schedulers"]["replication"]["runs"].as_u64().unwrap()
    };
    let settled = runs().await + 2;
    wait_for("two more turns", LIMIT, async || (runs().await >= settled).then_some(())).await.unwrap();
    proxy.forget();
    let before = runs().await;
    wait_for("ten more turns", LIMIT, async || (runs().await >= before + 10).then_some(())).await.unwrap();
    let asked = proxy.exchanges();
    assert!(asked.is_empty(), "an idle satellite asks the registry for nothing: {asked:?}");

    // A new version is in the registry, and is asked for when the group says so. On a machine that does other things at
    // the same time one of a few is quick; by the interval of half a minute none would be.
    let connections = link.connections();
    let mut new = push(&world, 2).await;
    let mut took = Vec::new();
    for seed in 3..6 {
        let began = Instant::now();
        wants(&world, &new).await;
        arrives(&site, &new).await;
        took.push(began.elapsed());
        if seed < 5 {
            new = push(&world, seed).await;
        }
    }
    assert!(took.iter().any(|took| *took <= WAKE), "{took:?}");
    assert!(took.iter().all(|took| *took <= 5 * WAKE), "{took:?}");
    let asked = proxy.exchanges();
    let by_tag = asked.iter().any(|exchange| exchange.path.ends_with("/manifests/latest"));
    assert!(!by_tag, "documents are fetched by digest: {asked:?}");
    assert!(link.connections() <= connections + 6, "few requests are given up");

    // The cloud knows it.
    wait_for("the new digest in the heartbeat", LIMIT, async || {
        let status = world.admin.status("edge-01").await.ok()??;
        status.to_string().contains(&new.root.digest.to_string()).then_some(())
    })
    .await
    .unwrap();
}

/// Twelve turns of the replication, between which the clock moves by five minutes; referrers would be looked for in each, if the
/// group's document did not say what stands for them.
#[tokio::test]
async fn an_idle_hour_asks_the_registry_for_nothing() {
    let clock = Clock::new().unwrap();
    let options = ground_control::Options { clock: Some(clock.clone()), ..Default::default() };
    let world = World::start_with(options).await.unwrap();
    let image = push(&world, 1).await;
    wants(&world, &image).await;
    let environment = [("HEARTBEAT_INTERVAL", "@every 30s"), ("REFERRERS_INTERVAL", "1s")];
    let (site, _link, proxy) = site(&world, &environment).await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, &image).await;
    follows(&site, "waiting").await;

    let runs = async || site.status().await.ok()?["satellite"]["schedulers"]["replication"]["runs"].as_u64();
    let turns = async |more: u64| {
        let before = wait_for("the turns so far", LIMIT, runs).await.unwrap();
        wait_for("more turns", LIMIT, async || (runs().await? >= before + more).then_some(())).await.unwrap();
    };
    turns(3).await;
    proxy.forget();
    for _ in 0..12 {
        clock.advance(Duration::from_secs(300)).unwrap();
        turns(1).await;
    }
    let asked = proxy.exchanges();
    assert!(asked.is_empty(), "an idle satellite asks the registry for nothing: {asked:?}");
}

#[tokio::test]
async fn three_failed_heartbeats_lead_to_the_registry_and_an_answer_leads_back() {
    let world = World::start().await.unwrap();
    let old = push(&world, 1).await;
    wants(&world, &old).await;
    let (site, link, proxy) = site(&world, &[("HEARTBEAT_INTERVAL", "@every 2s")]).await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, &old).await;
    follows(&site, "waiting").await;

    link.unreachable();
    follows(&site, "registry").await;
    let new = push(&world, 2).await;
    wants(&world, &new).await;
    arrives(&site, &new).await;
    assert!(proxy.exchanges().iter().any(|exchange| exchange.path.ends_with("/manifests/latest")));

    link.heal();
    follows(&site, "waiting").await;
    let last = push(&world, 3).await;
    wants(&world, &last).await;
    arrives(&site, &last).await;
}
