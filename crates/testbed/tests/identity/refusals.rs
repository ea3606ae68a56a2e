//! Who is not let in.

use std::time::{Duration, SystemTime};

use serde_json::json;
use testbed::authority::Authority;
use testbed::ground_control;
use testbed::process::wait_for;
use testbed::workload_api::WorkloadApi;
use testbed::world::World;

use crate::support::{DOMAIN, Hand, LIMIT, asks, builtin, builtin_by_clock, svid_client};

#[tokio::test]
async fn a_join_token_is_good_for_one_key() {
    let world = builtin().await;
    let registered = world.admin.register("edge-01", "default", &[]).await.unwrap();
    let url = world.place.spiffe_url();
    let mut first = Hand::new(url.clone(), &registered);
    assert_eq!(first.attest(&registered.join_token).await, 200);
    assert_eq!(first.attest(&registered.join_token).await, 200, "the answer may have been lost");
    let mut second = Hand::new(url.clone(), &registered);
    assert_eq!(second.attest(&registered.join_token).await, 401, "replayed by another device");
    let ztr = format!("{url}/satellites/spiffe-ztr");
    assert_eq!(asks(&first.client(), &ztr).await, Some(200));
    assert_eq!(first.attest(&registered.join_token).await, 401, "used: it was not lost");
    assert_eq!(second.attest("no-such-token").await, 400);

    // A new registration ends the tokens from before.
    let again = world.admin.register("edge-02", "default", &[]).await.unwrap();
    let newer = world.admin.register("edge-02", "default", &[]).await.unwrap();
    let mut third = Hand::new(url, &again);
    assert!(matches!(third.attest(&again.join_token).await, 400 | 401));
    assert_eq!(third.attest(&newer.join_token).await, 200);
}

#[tokio::test]
async fn a_join_token_ends_with_its_time() {
    let (world, clock) = builtin_by_clock().await;
    let body = json!({"satellite_name": "edge-01", "ttl_seconds": 60});
    let registered = world.admin.register_with(&body).await.unwrap();
    clock.advance(Duration::from_secs(62)).unwrap();
    let mut late = Hand::new(world.place.spiffe_url(), &registered);
    assert_eq!(late.attest(&registered.join_token).await, 401);
    // One that was claimed in time is answered again to whom it was bound, also after its end: the answer may have been lost.
    let registered = world.admin.register_with(&body).await.unwrap();
    let mut in_time = Hand::new(world.place.spiffe_url(), &registered);
    assert_eq!(in_time.attest(&registered.join_token).await, 200);
    clock.advance(Duration::from_secs(62)).unwrap();
    assert_eq!(in_time.attest(&registered.join_token).await, 200);
}

#[tokio::test]
async fn revoked_is_403_and_deleted_401_from_the_next_request_on() {
    let world = builtin().await;
    let url = world.place.spiffe_url();
    let ztr = format!("{url}/satellites/spiffe-ztr");
    for name in ["edge-01", "edge-02"] {
        let registered = world.admin.register(name, "default", &[]).await.unwrap();
        let mut hand = Hand::new(url.clone(), &registered);
        assert_eq!(hand.attest(&registered.join_token).await, 200);
        let client = hand.client();
        assert_eq!(asks(&client, &ztr).await, Some(200));
        if name == "edge-01" {
            world.admin.revoke(name).await.unwrap();
            assert_eq!(asks(&client, &ztr).await, Some(403));
        } else {
            world.admin.delete_satellite(name).await.unwrap();
            assert_eq!(asks(&client, &ztr).await, Some(401));
            assert_eq!(asks(&hand.client(), &ztr).await, Some(401), "on a new connection");
        }
    }
}

#[tokio::test]
async fn another_authority_of_the_same_name_is_refused_at_the_handshake() {
    let world = builtin().await;
    let registered = world.admin.register("edge-01", "default", &[]).await.unwrap();
    let foreign = Authority::new(DOMAIN).unwrap();
    let svid = foreign.issue("/satellite/region/default/edge-01").unwrap();
    let client = svid_client(&svid.certificate_pem(), &svid.key_pem(), &registered.trust_bundle);
    // Not even what asks for no certificate: a false one is no absent one.
    assert_eq!(asks(&client, &format!("{}/ping", world.place.spiffe_url())).await, None);
}

/// A Ground Control whose identity comes from a Workload API, and the authority behind that.
struct Foreign {
    world: World,
    authority: Authority,
    _api: WorkloadApi,
    dir: tempfile::TempDir,
}

impl Foreign {
    async fn start(auto_register: &str) -> Self {
        let dir = testbed::files::scratch("sidecar").unwrap();
        let authority = Authority::new(DOMAIN).unwrap();
        let api = WorkloadApi::serving(&dir.path().join("gc.sock"), &authority, "/gc/main").await.unwrap();
        let environment = [
            ("SPIFFE_PROVIDER", "sidecar".to_owned()),
            ("SPIFFE_ENDPOINT_SOCKET", api.endpoint()),
            ("AUTO_REGISTER", auto_register.to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
        Self { world: World::start_with(options).await.unwrap(), authority, _api: api, dir }
    }

    fn client(&self, path: &str, change: impl FnOnce(&mut testbed::authority::Wish)) -> reqwest::Client {
        let mut wish = self.authority.wish(path);
        change(&mut wish);
        let svid = self.authority.issue_as(&wish).unwrap();
        svid_client(&svid.certificate_pem(), &svid.key_pem(), &self.authority.bundle_pem())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.world.place.spiffe_url())
    }
}

#[tokio::test]
async fn a_name_in_another_region_is_another_identity() {
    let cloud = Foreign::start("allow").await;
    let ztr = cloud.url("/satellites/spiffe-ztr");
    let east = cloud.client("/satellite/region/us-east/edge-01", |_| ());
    assert_eq!(asks(&east, &ztr).await, Some(200), "registers itself");
    let west = cloud.client("/satellite/region/us-west/edge-01", |_| ());
    assert_eq!(asks(&west, &ztr).await, Some(403));
    assert_eq!(asks(&east, &ztr).await, Some(200), "and changes nothing for the first");
    // What is no satellite's identity is nobody here.
    for path in ["/gc/main", "/agent/edge-01", "/satellite/region/us-east", "/something/else"] {
        let status = asks(&cloud.client(path, |_| ()), &ztr).await;
        assert!(matches!(status, Some(401 | 403)), "{path}: {status:?}");
    }
}

#[tokio::test]
async fn unknown_identities_come_in_as_the_policy_says() {
    for (policy, first, state) in [("approve", 403, "awaiting_approval"), ("deny", 403, "")] {
        let cloud = Foreign::start(policy).await;
        let ztr = cloud.url("/satellites/spiffe-ztr");
        let client = cloud.client("/satellite/region/default/edge-01", |_| ());
        assert_eq!(asks(&client, &ztr).await, Some(first), "{policy}");
        match cloud.world.admin.satellite("edge-01").await {
            Ok(satellite) => assert_eq!(satellite["state"], state, "{policy}"),
            Err(error) => assert!(state.is_empty(), "{policy}: {error}"),
        }
        if policy == "approve" {
            let path = "/api/satellites/edge-01/approve";
            cloud.world.admin.call(reqwest::Method::POST, path, None).await.unwrap();
            assert_eq!(asks(&client, &ztr).await, Some(200));
        }
        // A deleted name does not come back by itself.
        if policy == "approve" {
            cloud.world.admin.delete_satellite("edge-01").await.unwrap();
            assert_eq!(asks(&client, &ztr).await, Some(401));
        }
    }
}

#[tokio::test]
async fn expired_is_refused_at_connect_and_401_during_a_connection() {
    let cloud = Foreign::start("allow").await;
    let (ping, ztr) = (cloud.url("/ping"), cloud.url("/satellites/spiffe-ztr"));
    let now = SystemTime::now();
    let path = "/satellite/region/default/edge-01";
    let expired = cloud.client(path, |wish| {
        wish.not_before = now - Duration::from_secs(600);
        wish.not_after = now - Duration::from_secs(60);
    });
    assert_eq!(asks(&expired, &ping).await, None);
    let early = cloud.client(path, |wish| wish.not_before = now + Duration::from_secs(600));
    assert_eq!(asks(&early, &ping).await, None);

    let short = cloud.client(path, |wish| wish.not_after = now + Duration::from_secs(6));
    assert_eq!(asks(&short, &ztr).await, Some(200));
    // The client keeps its one connection busy: a new one would be refused, and told apart.
    let ended = wait_for("the end of the SVID", LIMIT, async || {
        let status = asks(&short, &ztr).await;
        (status != Some(200)).then_some(status)
    })
    .await
    .unwrap();
    assert_eq!(ended, Some(401));
}

#[tokio::test]
async fn certificates_that_are_no_svids_are_refused_at_the_handshake() {
    let cloud = Foreign::start("allow").await;
    let ping = cloud.url("/ping");
    let path = "/satellite/region/default/edge-01";
    let good = cloud.client(path, |_| ());
    assert_eq!(asks(&good, &ping).await, Some(200));
    let two = cloud.client(path, |wish| wish.uris.push(format!("spiffe://{DOMAIN}/gc/main")));
    assert_eq!(asks(&two, &ping).await, None, "two URI names");
    let none = cloud.client(path, |wish| wish.uris.clear());
    assert_eq!(asks(&none, &ping).await, None, "no URI name");
    let authority = cloud.client(path, |wish| wish.is_authority = true);
    assert_eq!(asks(&authority, &ping).await, None, "an authority");
    let empty = cloud.client("", |_| ());
    assert_eq!(asks(&empty, &ping).await, None, "a trust domain's own");
    let foreign = cloud.client(path, |wish| wish.uris = vec![format!("spiffe://example.org{path}")]);
    assert_eq!(asks(&foreign, &ping).await, None, "another trust domain");
    assert!(cloud.dir.path().is_dir());
}
