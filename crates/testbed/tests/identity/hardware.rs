//! The sealed file on another machine.

use testbed::admin::Registered;
use testbed::authority::Authority;
use testbed::files;
use testbed::ground_control;
use testbed::hardware::Hardware;
use testbed::satellite::{Identity, Options, Site};
use testbed::workload_api::WorkloadApi;
use testbed::world::World;

use crate::support::{DOMAIN, arrives, builtin, publish, says};

/// The intervals of every satellite here.
fn intervals() -> Vec<(String, String)> {
    ["REGISTER_SATELLITE_INTERVAL", "STATE_REPLICATION_INTERVAL", "HEARTBEAT_INTERVAL"]
        .map(|name| (name.to_owned(), "@every 1s".to_owned()))
        .to_vec()
}

#[tokio::test]
async fn with_the_built_in_authority_it_serves_on_and_takes_a_new_join_token_without_a_restart() {
    let world = builtin().await;
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let registered = world.admin.register("edge-01", "default", &["one"]).await.unwrap();
    let options = Options {
        ground_control_url: world.place.spiffe_url(),
        identity: Some(Identity::JoinToken {
            token: registered.join_token.clone(),
            trust_bundle: registered.trust_bundle.clone(),
        }),
        hardware: Some(Hardware::new(&world.dir().join("machine-1"), "one").unwrap()),
        environment: intervals(),
        ..Options::default()
    };
    let mut site = Site::new(&world.dir().join("edge-01"), options).unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    satellite.stop().await.unwrap();

    // The same machine reads its file again, with nothing but the disk.
    let again = site.start().await.unwrap();
    says(&site, "its identity", |status| status["identity"]["spiffe_id"].is_string()).await;
    again.stop().await.unwrap();

    site.set_hardware(Hardware::new(&world.dir().join("machine-2"), "two").unwrap());
    let next = publish(&world, "one", "2", 2, &[50_000]).await;
    let satellite = site.start().await.unwrap();
    // The first answer has the image; who it is, it cannot know.
    assert_eq!(site.registry().digest("shop/app", "1").await.unwrap(), Some(image.root.digest));
    let status = says(&site, "the request for a join token", |status| {
        status["identity"]["problem"].as_str().is_some_and(|problem| problem.contains("token"))
    })
    .await;
    assert!(status["identity"]["spiffe_id"].is_null(), "{status:#}");
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None);
    let log = String::from_utf8(files::read(&site.log()).unwrap()).unwrap();
    assert!(log.contains("join token"), "{log}");

    let again: Registered = world.admin.register("edge-01", "default", &["one"]).await.unwrap();
    site.put_join_token(&again.join_token).unwrap();
    arrives(&site, "2", next.root.digest).await;
    assert!(!satellite.process().has_ended());
    satellite.stop().await.unwrap();
}

#[tokio::test]
async fn with_the_workload_api_it_registers_again_by_itself() {
    let dir = files::scratch("hardware").unwrap();
    let authority = Authority::new(DOMAIN).unwrap();
    let gc = WorkloadApi::serving(&dir.path().join("gc.sock"), &authority, "/gc/main").await.unwrap();
    let path = "/satellite/region/default/edge-01";
    let edge = WorkloadApi::serving(&dir.path().join("edge.sock"), &authority, path).await.unwrap();
    let environment = vec![
        ("SPIFFE_PROVIDER".to_owned(), "sidecar".to_owned()),
        ("SPIFFE_ENDPOINT_SOCKET".to_owned(), gc.endpoint()),
    ];
    let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
    let world = World::start_with(options).await.unwrap();
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let options = Options {
        ground_control_url: world.place.spiffe_url(),
        identity: Some(Identity::WorkloadApi { socket: edge.socket().to_owned() }),
        hardware: Some(Hardware::new(&dir.path().join("machine-1"), "one").unwrap()),
        environment: intervals(),
        ..Options::default()
    };
    let mut site = Site::new(&world.dir().join("edge-01"), options).unwrap();
    let satellite = site.start().await.unwrap();
    // Nobody registered it: it introduces itself, and an administrator gives it work.
    says(&site, "its registration", |status| status["registration"]["state"] == "registered").await;
    world.admin.add_to_group("edge-01", "one").await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    satellite.stop().await.unwrap();

    let registrations = || {
        let log = String::from_utf8(files::read(&world.place.log()).unwrap()).unwrap();
        log.matches("satellite registered by its svid").count()
    };
    let before = registrations();
    site.set_hardware(Hardware::new(&dir.path().join("machine-2"), "two").unwrap());
    let next = publish(&world, "one", "2", 2, &[50_000]).await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "2", next.root.digest).await;
    assert!(registrations() > before, "it did not register again");
    // The old file was set aside, not lost.
    let aside = files::walk(&site.config_dir());
    assert!(aside.len() >= 2, "{aside:?}");
}
