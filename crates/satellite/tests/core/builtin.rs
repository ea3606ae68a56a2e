//! The authority that is built into Ground Control: attestation, renewal, lost answers, refusals, other hardware.

use std::path::{Path, PathBuf};

use blob_store::durable;
use jiff::SignedDuration;
use satellite::config::{IdentitySettings, IdentitySource, Layer};
use satellite::status::{RegistrationState, Status};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;

use crate::cloud::{Cloud, EDGE};
use crate::fleet::{Edge, Registry, entry, machine};

/// A site: the files that an operator put there, and where Ground Control is.
struct Site {
    cloud: Cloud,
    registry: Registry,
    files: TempDir,
}

impl Site {
    /// With one image wanted, and a fresh join token in its file.
    async fn new() -> Self {
        let mut registry = Registry::start().await;
        let cloud = Cloud::start(&registry.store).await;
        registry.url.clone_from(&cloud.url);
        let image = registry.image("library/app", Some("1"), "app").await;
        registry.publish_group("g1", json!([entry("library/app", &["1"], &image)])).await;
        registry.publish_satellite(&["g1"], None).await;
        let site = Self { cloud, registry, files: tempfile::tempdir().unwrap() };
        durable::write_file(&site.file("bundle.pem"), site.cloud.bundle_pem.as_bytes(), 0o600).unwrap();
        site.give(&site.cloud.join_token());
        site
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a join token as an operator does.
    fn give(&self, token: &str) {
        durable::write_file(&self.file("token"), format!("{token}\n").as_bytes(), 0o600).unwrap();
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

    fn identity(&self) -> IdentitySettings {
        let source = IdentitySource::Builtin {
            join_token_file: Some(self.file("token")),
            trust_bundle_file: Some(self.file("bundle.pem")),
        };
        IdentitySettings { source, ..IdentitySettings::default() }
    }

    fn open(&self, dir: TempDir) -> Edge {
        Edge::open_as(dir, self.layer(), self.identity(), machine("a-machine"))
    }

    fn start(&self) -> Edge {
        self.open(tempfile::tempdir().unwrap()).start()
    }
}

fn registered(status: &Status) -> bool {
    status.registration.state == RegistrationState::Registered
}

/// Whether any file below `dir` holds one of these.
fn holds(dir: &Path, secrets: &[&str]) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| {
        if entry.file_type().unwrap().is_dir() {
            return holds(&entry.path(), secrets);
        }
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        secrets.iter().any(|secret| text.contains(secret))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_brings_an_svid_and_with_it_everything_else() {
    let site = Site::new().await;
    let mut edge = site.start();
    let status = edge.until("registration", registered).await;
    assert_eq!(status.name.as_deref(), Some("edge-01"));
    assert_eq!(status.identity.spiffe_id.as_deref(), Some(EDGE));
    assert_eq!((status.identity.source.as_str(), status.identity.authorities), ("builtin", 1));
    assert!(status.identity.expires_at.is_some() && status.identity.problem.is_none());
    edge.until("the image", |status| status.images.len() == 1).await;
    edge.until("a heartbeat", |_| site.cloud.read(|book| !book.heartbeats.is_empty())).await;
    assert!(site.cloud.read(|book| book.pulls > 0), "the registry at its address was asked over mTLS, too");
    assert!(site.registry.tag_of("library/app", "1").is_some());

    let state = edge.vault.state();
    let key = state.identity.as_ref().unwrap().key.expose_secret().to_owned();
    let middle = key.lines().nth(1).unwrap();
    let token = std::fs::read_to_string(site.file("token")).unwrap();
    assert!(!holds(edge.dir.path(), &[middle, token.trim(), "robot-secret"]));
    assert!(!format!("{state:?}").contains(middle));

    // After a restart nothing is asked for again: the spent token stays in its file.
    let dir = edge.stop().await;
    let before = site.cloud.read(|book| (book.attests.len(), book.registrations, book.heartbeats.len()));
    let edge = site.open(dir).start();
    edge.until("a heartbeat", |_| site.cloud.read(|book| book.heartbeats.len() > before.2)).await;
    assert_eq!(site.cloud.read(|book| (book.attests.len(), book.registrations)), (before.0, before.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_attest_is_asked_for_again_with_the_same_key() {
    let site = Site::new().await;
    site.cloud.change(|book| book.lose_attests = 2);
    let mut edge = site.start();
    edge.until("the first try", |_| site.cloud.read(|book| !book.attests.is_empty())).await;
    // The power goes before the answer is there; the key is on the disk.
    let dir = edge.stop().await;
    let edge = site.open(dir).start();
    edge.until("registration", registered).await;
    let keys = site.cloud.read(|book| book.attests.clone());
    assert!(keys.len() >= 3 && keys.iter().all(|key| *key == keys[0]), "{} tries", keys.len());
    assert!(edge.vault.state().joining.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_renews_in_time_and_a_lost_answer_costs_nothing() {
    let site = Site::new().await;
    site.cloud.change(|book| {
        book.life = SignedDuration::from_secs(12);
        book.lose_renewals = 2;
    });
    let mut edge = site.start();
    edge.until("registration", registered).await;
    edge.until("a try to renew", |_| site.cloud.read(|book| !book.renewals.is_empty())).await;
    let dir = edge.stop().await;
    site.cloud.change(|book| book.life = SignedDuration::from_mins(20));
    let edge = site.open(dir).start();
    edge.until("heartbeats with two SVIDs", |_| site.cloud.read(|book| book.serials.len() >= 2)).await;
    let keys = site.cloud.read(|book| book.renewals.clone());
    assert!(keys.len() >= 3 && keys.iter().all(|key| *key == keys[0]), "{} tries", keys.len());
    let state = edge.vault.state();
    assert!(state.renewing.is_none());
    assert_eq!(site.cloud.read(|book| (book.attests.len(), book.registrations)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_that_expired_while_the_site_was_cut_off_is_renewed() {
    let site = Site::new().await;
    site.cloud.change(|book| book.life = SignedDuration::from_secs(6));
    let edge = site.start();
    edge.until("the image", |status| status.images.len() == 1).await;
    site.cloud.change(|book| book.down = true);
    let status = edge
        .until("the expiry", |status| {
            status.identity.problem.as_ref().is_some_and(|problem| problem.contains("expired"))
        })
        .await;
    assert_eq!(status.images.len(), 1, "what is held is served");
    site.cloud.change(|book| {
        book.down = false;
        book.life = SignedDuration::from_mins(20);
    });
    let heartbeats = site.cloud.read(|book| book.heartbeats.len());
    let status = edge.until("a heartbeat", |status| {
        site.cloud.read(|book| book.heartbeats.len() > heartbeats) && status.identity.problem.is_none()
    });
    assert_eq!(status.await.identity.spiffe_id.as_deref(), Some(EDGE));
    assert_eq!(site.cloud.read(|book| book.attests.len()), 1, "no token was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_join_token_is_said_clearly_and_a_new_one_is_taken_without_a_restart() {
    let site = Site::new().await;
    let used = std::fs::read_to_string(site.file("token")).unwrap().trim().to_owned();
    site.cloud.change(|book| drop(book.tokens.insert(used.clone(), Some(b"somebody else's".to_vec()))));
    let edge = site.start();
    let status = edge.until("the refusal", |status| status.identity.problem.is_some()).await;
    let problem = status.identity.problem.unwrap();
    assert!(problem.contains("the token was used") && problem.contains("make a new one"), "{problem}");
    assert!(!problem.contains(&used), "a token is a secret");
    site.give(&site.cloud.join_token());
    edge.until("the image", |status| registered(status) && status.images.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_grace_it_asks_for_a_join_token_and_comes_back_with_one() {
    let site = Site::new().await;
    site.cloud.change(|book| {
        book.life = SignedDuration::from_secs(2);
        book.grace = SignedDuration::from_hours(-1);
    });
    let edge = site.start();
    let status = edge
        .until("the refusal", |status| {
            status.identity.problem.as_ref().is_some_and(|problem| problem.contains("beyond the grace"))
        })
        .await;
    assert!(status.identity.problem.unwrap().contains("new join token"));
    assert!(edge.vault.state().identity.is_some(), "a refusal throws nothing away");
    site.cloud.change(|book| {
        book.life = SignedDuration::from_mins(20);
        book.grace = SignedDuration::from_hours(1);
    });
    site.give(&site.cloud.join_token());
    edge.until("the image", |status| {
        status.identity.problem.is_none() && registered(status) && status.images.len() == 1
    })
    .await;
    assert!(edge.vault.state().joining.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_it_serves_on_and_a_new_join_token_after_enable_brings_it_back() {
    let site = Site::new().await;
    let edge = site.start();
    edge.until("the image", |status| status.images.len() == 1).await;
    site.cloud.change(|book| book.revoked = true);
    let status =
        edge.until("the refusal", |status| status.registration.state == RegistrationState::Refused).await;
    assert!(status.registration.message.unwrap().contains("revoked"));
    assert_eq!(status.images.len(), 1);
    // Enabled: the old key and the old credentials are void, there is a fresh join token.
    let registrations = site.cloud.read(|book| book.registrations);
    site.cloud.change(|book| book.secrets.clear());
    site.give(&site.cloud.join_token());
    edge.until("registration", registered).await;
    assert_eq!(site.cloud.read(|book| book.registrations), registrations + 1);
    let image = site.registry.image("library/app", Some("2"), "app two").await;
    site.registry.publish_group("g1", json!([entry("library/app", &["2"], &image)])).await;
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_other_hardware_it_asks_for_a_join_token_and_takes_one_without_a_restart() {
    let site = Site::new().await;
    let mut edge = site.start();
    edge.until("the image", |status| status.images.len() == 1).await;
    let dir = edge.stop().await;
    // The disk in another machine; the spent token is still in its file.
    let edge = Edge::open_as(dir, site.layer(), site.identity(), machine("another-machine"));
    assert!(edge.vault.state().identity.is_none() && edge.vault.state().registration.is_none());
    let edge = edge.start();
    let status = edge.until("the refusal", |status| status.identity.problem.is_some()).await;
    assert!(status.identity.problem.unwrap().contains("the token was used"));
    assert!(edge.tag_of("library/app", "1").is_some(), "what is held is served");
    site.give(&site.cloud.join_token());
    edge.until("the image", |status| registered(status) && status.images.len() == 1).await;
    assert_eq!(site.cloud.read(|book| book.registrations), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ground_control_that_the_bundle_does_not_vouch_for_hears_no_token() {
    let site = Site::new().await;
    let other = Cloud::start(&site.registry.store).await;
    durable::write_file(&site.file("bundle.pem"), other.bundle_pem.as_bytes(), 0o600).unwrap();
    let edge = site.start();
    let status = edge.until("the trouble", |status| status.identity.problem.is_some()).await;
    assert!(status.identity.problem.unwrap().contains("cannot be reached"));
    assert!(site.cloud.read(|book| book.attests.is_empty()));
    // The right one is taken without a restart, too.
    durable::write_file(&site.file("bundle.pem"), site.cloud.bundle_pem.as_bytes(), 0o600).unwrap();
    edge.until("registration", registered).await;
}
