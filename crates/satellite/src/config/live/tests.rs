use serde_json::json;

use super::*;
use crate::config::LogLevel;
use crate::config::testing::{site, site_with};
use crate::device::DeviceFacts;

fn facts() -> DeviceFacts {
    DeviceFacts { machine_id: Some("id".into()), ..DeviceFacts::default() }
}

/// A start: what is known before the sealed state is open, and the configuration after it.
fn start(site: Site) -> (Effective, LiveConfig, Option<Refusal>) {
    let boot = at_boot(&site);
    let (vault, _) = Vault::open(&site.config_dir, facts()).unwrap();
    let (config, refusal) = LiveConfig::open(Arc::new(site), boot.clone(), vault);
    (boot, config, refusal)
}

fn document(value: serde_json::Value) -> ConfigDocument {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_remote_config_is_in_force_at_once_and_after_a_restart_without_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::sha256(b"document");
    let (_, config, _) = start(site(folder.path()));
    let mut changes = config.subscribe();
    let wanted = document(json!({"app_config": {"log_level": "debug", "heartbeat_interval": "@every 1m"}}));
    let change = config.adopt(digest, &wanted).await.unwrap();
    assert_eq!(change.live, ["log_level", "heartbeat_interval"]);
    assert!(changes.has_changed().unwrap());
    assert_eq!(changes.borrow_and_update().log_level, LogLevel::Debug);

    let (_, again, refusal) = start(site(folder.path()));
    assert_eq!(refusal, None);
    assert_eq!(again.current(), config.current());
    assert_eq!(again.kept_digest(), Some(digest));
}

#[tokio::test]
async fn a_refused_document_leaves_the_last_good_one_in_force_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_, config, _) = start(site(folder.path()));
    let good = Digest::sha256(b"good");
    config.adopt(good, &document(json!({"app_config": {"log_level": "debug"}}))).await.unwrap();
    for bad in [
        json!({"app_config": {"log_level": "loud"}}),
        json!({"app_config": {"log_level": "warn", "audit": {"enabled": true}}}),
        json!({"app_config": {"log_level": "warn", "tls": {"ca_file": "/nowhere/ca.pem"}}}),
    ] {
        let refused = config.adopt(Digest::sha256(b"bad"), &document(bad)).await.unwrap_err();
        assert!(matches!(refused, AdoptError::Refused(_)), "{refused}");
        assert_eq!(config.current().log_level, LogLevel::Debug);
    }
    let (_, again, _) = start(site(folder.path()));
    assert_eq!((again.current().log_level, again.kept_digest()), (LogLevel::Debug, Some(good)));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (_, config, _) = start(site(folder.path()));
    std::fs::create_dir(folder.path().join(crate::sealed::SEALED_FILE)).unwrap();
    let wanted = document(json!({"app_config": {"log_level": "debug"}}));
    let refused = config.adopt(Digest::sha256(b"x"), &wanted).await.unwrap_err();
    assert!(matches!(refused, AdoptError::NotKept(_)), "{refused}");
    assert_eq!(config.current().log_level, LogLevel::Info);
}

#[tokio::test]
async fn what_needs_a_restart_is_known_at_the_next_one_before_the_seal_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (_, config, _) = start(site(folder.path()));
    let wanted = document(json!({
        "app_config": {"bring_own_registry": true, "local_registry": {"url": "https://byo.example.com"}},
        "zot_config": {"http": {"port": "5000"}, "storage": {"gcDelay": "1h"}}
    }));
    let change = config.adopt(Digest::sha256(b"x"), &wanted).await.unwrap();
    assert_eq!(change.restart, ["zot_config.http", "bring_own_registry", "zot_config.storage.gcDelay"]);
    assert_eq!(config.current().listen.address.port(), 8585);

    let (boot, again, _) = start(site(folder.path()));
    assert_eq!(boot.listen.address.to_string(), "127.0.0.1:5000");
    assert_eq!(boot.gc_grace, Duration::from_secs(3600));
    assert!(boot.byo_wanted);
    assert_eq!(again.current().byo_registry.as_ref().unwrap().url.as_str(), "https://byo.example.com/");
    let same = again.adopt(Digest::sha256(b"x"), &wanted).await.unwrap();
    assert!(same.live.is_empty() && same.restart.is_empty(), "{same:?}");
}

#[tokio::test]
async fn the_site_keeps_its_word_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let layer = Layer {
        log_level: Some(LogLevel::Warn),
        listen: Some("0.0.0.0:5001".parse().unwrap()),
        ..Layer::default()
    };
    let (_, config, _) = start(site_with(folder.path(), layer.clone()));
    let wanted =
        document(json!({"app_config": {"log_level": "debug"}, "zot_config": {"http": {"port": "5000"}}}));
    config.adopt(Digest::sha256(b"x"), &wanted).await.unwrap();
    let (boot, again, _) = start(site_with(folder.path(), layer));
    for effective in [&boot, &*config.current(), &*again.current()] {
        assert_eq!((effective.log_level, effective.listen.address.port()), (LogLevel::Warn, 5001));
    }
    // And what it said is not remembered when it says it no more.
    assert_eq!(at_boot(&site(folder.path())).listen.address.port(), 5000);
}

#[test]
fn a_forged_or_damaged_boot_file_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for content in ["{\"listen\":\"0.0.0.0:80\"}", "{", "{\"listen\":7}", "", "{\"gc_grace_seconds\":0}"] {
        durable::write_file(&folder.path().join(BOOT_FILE), content.as_bytes(), 0o600).unwrap();
        assert_eq!(at_boot(&site(folder.path())), Effective::of(&site(folder.path()), &Layer::default()));
    }
}

#[tokio::test]
async fn a_kept_document_that_is_refused_by_now_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = Vault::open(folder.path(), facts()).unwrap();
    let kept = document(json!({"app_config": {"log_level": "debug", "audit": {"enabled": true}}}));
    vault
        .update(move |state| state.remote_config = Some(KeptConfig { digest: None, document: kept }))
        .await
        .unwrap();
    let (_, config, refusal) = start(site(folder.path()));
    assert!(refusal.unwrap().to_string().contains("audit"));
    assert_eq!(config.current().log_level, LogLevel::Info);
}
