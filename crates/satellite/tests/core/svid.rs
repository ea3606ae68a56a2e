//! An SVID of the Workload API: registration, rotation, whom it is shown to, fresh credentials, revocation.

use std::time::Duration;

use identity::{Identity, IdentityKeeper, Svid, TrustBundle};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use satellite::config::{ExpectedServer, IdentitySettings, IdentitySource, Layer};
use satellite::status::{RegistrationState, Status};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;
use testbed::authority::{Authority, IssuedSvid};
use testbed::workload_api::WorkloadApi;

use crate::cloud::{Cloud, TRUST_DOMAIN};
use crate::fleet::{Edge, Registry, entry, machine};

const EDGE_PATH: &str = "/satellite/region/default/edge-01";

struct Site {
    cloud: Cloud,
    registry: Registry,
    authority: Authority,
    agent: WorkloadApi,
    identity: Identity,
    _keeper: IdentityKeeper,
    _files: TempDir,
}

fn svid(issued: &IssuedSvid) -> Svid {
    let key = PrivateKeyDer::Pkcs8(issued.key.clone().into());
    Svid::from_der(vec![CertificateDer::from(issued.certificate.clone())], key).unwrap()
}

impl Site {
    /// Ground Control shows `server` of the trust domain; the agent hands out the satellite's SVID.
    async fn with_server(server: &str) -> Self {
        let authority = Authority::new(TRUST_DOMAIN).unwrap();
        let certificates = authority.certificates().iter().cloned().map(CertificateDer::from).collect();
        let bundle = TrustBundle::from_der(TRUST_DOMAIN.parse().unwrap(), certificates).unwrap();
        let (keeper, identity) = identity::identity();
        keeper.set(svid(&authority.issue(server).unwrap()), bundle);
        let mut registry = Registry::start().await;
        let cloud = Cloud::with(&registry.store, identity.clone(), None).await;
        registry.url.clone_from(&cloud.url);
        let image = registry.image("library/app", Some("1"), "app").await;
        registry.publish_group("g1", json!([entry("library/app", &["1"], &image)])).await;
        registry.publish("satellite/config-state/default/state", &json!({"app_config": {}})).await;
        registry.publish_satellite(&["g1"], Some("default")).await;
        let files = tempfile::tempdir().unwrap();
        let agent =
            WorkloadApi::serving(&files.path().join("agent.sock"), &authority, EDGE_PATH).await.unwrap();
        Self { cloud, registry, authority, agent, identity, _keeper: keeper, _files: files }
    }

    async fn new() -> Self {
        Self::with_server("/gc/main").await
    }

    fn settings(&self, expected_server: ExpectedServer) -> IdentitySettings {
        let source = IdentitySource::WorkloadApi { endpoint: self.agent.endpoint() };
        IdentitySettings { source, expected_server }
    }

    fn layer(&self) -> Layer {
        Layer {
            ground_control_url: Some(self.cloud.url.parse().unwrap()),
            register_satellite_interval: Some("@every 1s".parse().unwrap()),
            heartbeat_interval: Some("@every 1s".parse().unwrap()),
            state_replication_interval: Some("@every 1s".parse().unwrap()),
            ..Layer::default()
        }
    }

    fn open(&self, dir: TempDir, machine_id: &str) -> Edge {
        let settings = self.settings(ExpectedServer::GroundControl);
        Edge::open_as(dir, self.layer(), settings, machine(machine_id))
    }

    fn start(&self) -> Edge {
        self.open(tempfile::tempdir().unwrap(), "a-machine").start()
    }

    async fn publish(&self, tag: &str) {
        let image = self.registry.image("library/app", Some(tag), tag).await;
        self.registry.publish_group("g1", json!([entry("library/app", &[tag], &image)])).await;
    }
}

fn with_image(status: &Status) -> bool {
    status.registration.state == RegistrationState::Registered && status.images.len() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_it_registers_replicates_and_follows_each_rotation() {
    let site = Site::new().await;
    let edge = site.start();
    let status = edge.until("the image", with_image).await;
    assert_eq!(status.identity.source, "workload_api");
    assert_eq!(status.identity.problem, None);
    edge.until("a heartbeat", |_| site.cloud.read(|book| !book.heartbeats.is_empty())).await;

    site.agent.issue(&site.authority, EDGE_PATH).unwrap();
    edge.until("a heartbeat with the next SVID", |_| site.cloud.read(|book| book.serials.len() == 2)).await;
    site.publish("2").await;
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;
    assert_eq!(site.cloud.read(|book| book.registrations), 1, "a rotation is no registration");

    site.agent.withdraw();
    let status = edge.until("the withdrawal", |status| status.identity.problem.is_some()).await;
    assert!(status.identity.problem.unwrap().contains("withdrawn"));
    let failed = edge
        .until("a heartbeat that fails", |status| {
            status.schedulers.get("heartbeat").is_some_and(|entry| entry.last_error.is_some())
        })
        .await;
    assert!(failed.schedulers["heartbeat"].last_error.as_ref().unwrap().contains("no SVID"));
    site.agent.issue(&site.authority, EDGE_PATH).unwrap();
    edge.until("it is back", |status| {
        status.identity.problem.is_none()
            && status.schedulers.get("heartbeat").is_some_and(|entry| entry.last_error.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_is_waited_for_and_registration_follows_at_once() {
    let mut site = Site::new().await;
    site.agent.pause();
    let edge = site.start();
    let status = edge.until("the word", |status| status.identity.problem.is_some()).await;
    assert!(status.identity.problem.unwrap().contains("no SVID yet"));
    site.agent.resume().unwrap();
    edge.until("the image", with_image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_expected_server_is_told_anything() {
    let site = Site::with_server("/somebody/else").await;
    let edge = site.start();
    let status = edge
        .until("the failure", |status| {
            status.schedulers.get("registration").is_some_and(|entry| entry.last_error.is_some())
        })
        .await;
    let error = status.schedulers["registration"].last_error.clone().unwrap();
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(site.cloud.read(|book| book.registrations), 0);

    for expected in [
        ExpectedServer::Any,
        ExpectedServer::Exactly(format!("spiffe://{TRUST_DOMAIN}/somebody/else").parse().unwrap()),
    ] {
        let edge = Edge::open_as(
            tempfile::tempdir().unwrap(),
            site.layer(),
            site.settings(expected),
            machine("a-machine"),
        );
        edge.start().until("the image", with_image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_elsewhere_is_never_trusted_by_its_spiffe_id() {
    let site = Site::new().await;
    // The very same SVID, on another port.
    let elsewhere = Cloud::with(&site.registry.store, site.identity.clone(), None).await;
    site.cloud.change(|book| book.registry_url.clone_from(&elsewhere.url));
    let edge = site.start();
    let status = edge.until("the failure", |status| status.desired.error.is_some()).await;
    let error = status.desired.error.unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(status.registration.state, RegistrationState::Registered);
    assert_eq!(elsewhere.read(|book| book.pulls), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_other_hardware_it_registers_again_by_itself() {
    let site = Site::new().await;
    let mut edge = site.start();
    edge.until("the image", with_image).await;
    let dir = edge.stop().await;
    let edge = site.open(dir, "another-machine");
    assert!(edge.vault.state().registration.is_none());
    edge.start().until("the image", with_image).await;
    assert_eq!(site.cloud.read(|book| book.registrations), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_credentials_take_the_place_of_the_old_once_they_work() {
    let site = Site::new().await;
    let edge = site.start();
    edge.until("the image", with_image).await;
    let held = || edge.vault.state().registration.as_ref().unwrap().auth.password.expose_secret().to_owned();
    let first = held();
    site.cloud.change(|book| {
        r#"{"events":["refresh_credentials"]}"#.clone_into(&mut book.heartbeat_answer);
        book.hand_out_bad_secrets = true;
    });
    let status = edge
        .until("a try", |status| {
            status
                .schedulers
                .get("heartbeat")
                .and_then(|entry| entry.last_error.as_ref())
                .is_some_and(|error| error.contains("old ones stay"))
        })
        .await;
    assert_eq!(status.registration.state, RegistrationState::Registered);
    assert_eq!(held(), first);
    site.publish("2").await;
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;

    site.cloud.change(|book| book.hand_out_bad_secrets = false);
    edge.until("the fresh ones", |_| held() != first).await;
    site.cloud.change(|book| {
        book.heartbeat_answer.clear();
        assert!(book.secrets.remove(&first));
    });
    site.publish("3").await;
    edge.until("the version after it", |_| edge.tag_of("library/app", "3").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_registry_keeps_refusing_fresh_credentials_are_asked_for() {
    let site = Site::new().await;
    let edge = site.start();
    edge.until("the image", with_image).await;
    assert_eq!(site.cloud.read(|book| book.refreshes), 0);
    site.publish("2").await;
    site.cloud.change(|book| book.secrets.clear());
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;
    assert_eq!(site.cloud.read(|book| (book.refreshes, book.registrations)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_it_serves_what_it_holds_and_comes_back_by_itself() {
    let site = Site::new().await;
    let edge = site.start();
    edge.until("the image", with_image).await;
    site.cloud.change(|book| book.revoked = true);
    let refused = |status: &Status| status.registration.state == RegistrationState::Refused;
    let status = edge.until("the refusal", refused).await;
    assert!(status.registration.message.unwrap().contains("revoked"));
    edge.until("the pause", |status| status.activity.contains("nothing new is fetched")).await;
    let pulls = site.cloud.read(|book| book.pulls);
    site.publish("2").await;
    let heartbeats =
        edge.board.read(|status| status.schedulers.get("heartbeat").map_or(0, |entry| entry.runs));
    edge.until("more heartbeats", |status| {
        status.schedulers.get("heartbeat").is_some_and(|entry| entry.runs >= heartbeats + 2)
    })
    .await;
    assert_eq!(site.cloud.read(|book| book.pulls), pulls, "nothing is asked of the registry");
    assert!(edge.tag_of("library/app", "1").is_some() && edge.tag_of("library/app", "2").is_none());
    assert!(edge.vault.state().registration.is_some());

    // Enabled: fresh credentials, the old ones void.
    site.cloud.change(|book| {
        book.revoked = false;
        book.secrets.clear();
    });
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;
    assert_eq!(site.cloud.read(|book| book.registrations), 2);
    edge.until("all in order", |status| status.config.refused.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_unknown_is_told_and_tried_again_slowly() {
    let site = Site::new().await;
    site.cloud.change(|book| book.unknown = true);
    let edge = site.start();
    let refused = |status: &Status| status.registration.state == RegistrationState::Refused;
    let status = edge.until("the refusal", refused).await;
    assert!(status.registration.message.unwrap().contains("unknown"));
    let status = edge
        .until("the next try", |status| {
            status.schedulers.get("registration").is_some_and(|entry| entry.next_run.is_some())
        })
        .await;
    let next = status.schedulers["registration"].next_run.unwrap();
    assert!(next.duration_since(jiff::Timestamp::now()).unsigned_abs() > Duration::from_secs(5));
    site.cloud.change(|book| book.unknown = false);
    edge.until("the image", with_image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_at_the_registry_that_is_not_there_yet_is_waited_for() {
    let site = Site::new().await;
    site.cloud.change(|book| book.not_yet = 2);
    let edge = site.start();
    edge.until("the image", |status| {
        assert_ne!(status.registration.state, RegistrationState::Refused);
        with_image(status)
    })
    .await;
    assert_eq!(site.cloud.read(|book| (book.not_yet, book.registrations)), (0, 1));
}
