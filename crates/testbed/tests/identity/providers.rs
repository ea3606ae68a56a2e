//! Identities that come from elsewhere: withdrawn, reloaded, and agents that are away.

use std::path::Path;

use testbed::authority::{Authority, IssuedSvid};
use testbed::files;
use testbed::ground_control;
use testbed::process::wait_for;
use testbed::workload_api::WorkloadApi;
use testbed::world::World;

use crate::support::{DOMAIN, LIMIT, arrives, asks, publish, says, svid_client};

const EDGE: &str = "/satellite/region/default/edge-01";

async fn sidecar(dir: &Path, authority: &Authority) -> (World, WorkloadApi) {
    let api = WorkloadApi::serving(&dir.join("gc.sock"), authority, "/gc/main").await.unwrap();
    let environment = vec![
        ("SPIFFE_PROVIDER".to_owned(), "sidecar".to_owned()),
        ("SPIFFE_ENDPOINT_SOCKET".to_owned(), api.endpoint()),
    ];
    let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
    (World::start_with(options).await.unwrap(), api)
}

#[tokio::test]
async fn a_satellite_whose_identity_is_withdrawn_gets_nothing_until_it_is_back() {
    let dir = files::scratch("withdrawn").unwrap();
    let authority = Authority::new(DOMAIN).unwrap();
    let (world, _api) = sidecar(dir.path(), &authority).await;
    let edge = WorkloadApi::serving(&dir.path().join("edge.sock"), &authority, EDGE).await.unwrap();
    let site = world.site_with_workload_api("edge-01", edge.socket(), &[]).unwrap();
    let _satellite = site.start().await.unwrap();
    says(&site, "its registration", |status| status["registration"]["state"] == "registered").await;
    let first = publish(&world, "one", "1", 1, &[10_000]).await;
    world.admin.add_to_group("edge-01", "one").await.unwrap();
    arrives(&site, "1", first.root.digest).await;

    edge.withdraw();
    says(&site, "the withdrawal", |status| status["identity"]["problem"].is_string()).await;
    let second = publish(&world, "one", "2", 2, &[10_000]).await;
    let runs = |status: &serde_json::Value| status["schedulers"]["heartbeat"]["failures_in_a_row"].as_u64();
    says(&site, "heartbeats that fail", |status| runs(status) > Some(1)).await;
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None);
    arrives(&site, "1", first.root.digest).await;

    edge.issue(&authority, EDGE).unwrap();
    arrives(&site, "2", second.root.digest).await;
    assert_eq!(edge.unguarded(), 0, "every call carried the security header");
}

/// The agent away, back, away again: what is held is used meanwhile, and the stream is opened again.
#[tokio::test]
async fn an_agent_that_is_away_is_asked_again() {
    let dir = files::scratch("away").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    let (world, mut gc) = sidecar(dir.path(), &authority).await;
    let mut edge = WorkloadApi::serving(&dir.path().join("edge.sock"), &authority, EDGE).await.unwrap();
    let site = world.site_with_workload_api("edge-01", edge.socket(), &[]).unwrap();
    let _satellite = site.start().await.unwrap();
    says(&site, "its registration", |status| status["registration"]["state"] == "registered").await;
    edge.pause();
    gc.pause();
    let image = publish(&world, "one", "1", 1, &[10_000]).await;
    world.admin.add_to_group("edge-01", "one").await.unwrap();
    arrives(&site, "1", image.root.digest).await;

    // While they were away the authority changed for good.
    authority.rotate().unwrap();
    authority.forget_old();
    edge.issue(&authority, EDGE).unwrap();
    gc.issue(&authority, "/gc/main").unwrap();
    gc.resume().unwrap();
    edge.resume().unwrap();
    let next = publish(&world, "one", "2", 2, &[10_000]).await;
    arrives(&site, "2", next.root.digest).await;
}

fn put(dir: &Path, svid: &IssuedSvid, bundle: &str) {
    for (name, content) in
        [("bundle.pem", bundle.to_owned()), ("key.pem", svid.key_pem()), ("svid.pem", svid.certificate_pem())]
    {
        let fresh = dir.join("new");
        files::write_private(&fresh, content).unwrap();
        std::fs::rename(&fresh, dir.join(name)).unwrap();
    }
}

#[tokio::test]
async fn files_are_reloaded_and_a_bad_set_changes_nothing() {
    let dir = files::scratch("static").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    put(dir.path(), &authority.issue("/gc/main").unwrap(), &authority.bundle_pem());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let environment = vec![
        ("SPIFFE_PROVIDER".to_owned(), "static".to_owned()),
        ("SPIFFE_CERT_FILE".to_owned(), path("svid.pem")),
        ("SPIFFE_KEY_FILE".to_owned(), path("key.pem")),
        ("SPIFFE_BUNDLE_FILE".to_owned(), path("bundle.pem")),
    ];
    let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
    let world = World::start_with(options).await.unwrap();
    let ztr = format!("{}/satellites/spiffe-ztr", world.place.spiffe_url());
    let client = |authority: &Authority| {
        let svid = authority.issue(EDGE).unwrap();
        svid_client(&svid.certificate_pem(), &svid.key_pem(), &authority.bundle_pem())
    };
    assert_eq!(asks(&client(&authority), &ztr).await, Some(200));

    authority.rotate().unwrap();
    authority.forget_old();
    assert_eq!(asks(&client(&authority), &ztr).await, None, "Ground Control does not know it yet");
    put(dir.path(), &authority.issue("/gc/main").unwrap(), &authority.bundle_pem());
    wait_for("the new files in force", LIMIT, async || {
        (asks(&client(&authority), &ztr).await == Some(200)).then_some(())
    })
    .await
    .unwrap();

    // A key of another certificate: the last good set stays.
    let other = authority.issue("/gc/main").unwrap();
    files::write_private(&dir.path().join("key.pem"), other.key_pem()).unwrap();
    wait_for("the complaint", LIMIT, async || {
        let log = String::from_utf8(files::read(&world.place.log()).ok()?).ok()?;
        log.lines().any(|line| line.contains("WARN") && line.contains("key.pem")).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&world.place.log(), 20)));
    assert_eq!(asks(&client(&authority), &ztr).await, Some(200));
}
