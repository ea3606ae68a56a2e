use fleet_protocol::config::default_document;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::testing::site_with;
use crate::config::{Layer, LogLevel};

fn site(layer: Layer) -> Site {
    site_with(Path::new("/config"), layer)
}

fn document(value: Value) -> ConfigDocument {
    serde_json::from_value(value).unwrap()
}

fn apply_to(site: &Site, value: Value) -> Result<Change, Refusal> {
    let current = Effective::of(site, &Layer::default());
    RemoteConfig::apply(site, &current, &document(value))
}

fn apply(value: Value) -> Result<Change, Refusal> {
    apply_to(&site(Layer::default()), value)
}

#[test]
fn the_default_document_changes_nothing_and_warns_of_nothing() {
    let change = apply(default_document()).unwrap();
    assert_eq!(change.effective, Effective::of(&site(Layer::default()), &Layer::default()));
    assert!(change.live.is_empty() && change.restart.is_empty() && change.warnings.is_empty(), "{change:?}");
}

#[test]
fn an_empty_document_changes_nothing() {
    for empty in [json!({}), json!({"app_config": {}}), json!({"app_config": null, "zot_config": null})] {
        let change = apply(empty).unwrap();
        assert!(change.live.is_empty() && change.restart.is_empty());
    }
}

#[test]
fn what_changes_at_once() {
    for (value, key) in [
        (json!({"app_config": {"ground_control_url": "https://gc.example.com"}}), "ground_control_url"),
        (json!({"app_config": {"log_level": "DEBUG"}}), "log_level"),
        (json!({"zot_config": {"log": {"level": "debug"}}}), "log_level"),
        (json!({"app_config": {"use_unsecure": true}}), "use_unsecure"),
        (json!({"app_config": {"state_replication_interval": "*/5 * * * *"}}), "state_replication_interval"),
        (json!({"app_config": {"register_satellite_interval": "@every 1m"}}), "register_satellite_interval"),
        (json!({"app_config": {"heartbeat_interval": "@every 1m"}}), "heartbeat_interval"),
        (json!({"app_config": {"referrers_interval": "@every 1h"}}), "referrers_interval"),
        (json!({"app_config": {"metrics": {"collect_cpu": false}}}), "metrics"),
        (json!({"app_config": {"tls": {"skip_verify": true}}}), "tls"),
        (json!({"app_config": {"harbor_registry_url": "https://h.example.com"}}), "harbor_registry_url"),
        (json!({"app_config": {"registry_fallback": {"enabled": true}}}), "registry_fallback"),
        (json!({"app_config": {"registry_fallback": {"paths": {"quay.io": "q"}}}}), "registry_fallback"),
        (json!({"app_config": {"direct_delivery": {"enabled": true}}}), "direct_delivery"),
        (json!({"zot_config": {"storage": {"gc": false}}}), "zot_config.storage.gc"),
        (json!({"zot_config": {"storage": {"gcInterval": "1h"}}}), "zot_config.storage.gcInterval"),
    ] {
        let change = apply(value).unwrap();
        assert_eq!(change.live, [key]);
        assert!(change.restart.is_empty());
        assert_eq!(change.effective, change.next_start);
        assert_ne!(change.effective, Effective::of(&site(Layer::default()), &Layer::default()));
    }
}

#[test]
fn what_waits_for_a_restart_is_left_as_it_is_and_reported() {
    for (value, key) in [
        (json!({"zot_config": {"http": {"port": "5000"}}}), "zot_config.http"),
        (json!({"zot_config": {"storage": {"gcDelay": "1h"}}}), "zot_config.storage.gcDelay"),
        (
            json!({"app_config": {"bring_own_registry": true, "local_registry": {"url": "https://byo.example.com"}}}),
            "bring_own_registry",
        ),
    ] {
        let change = apply(value).unwrap();
        assert_eq!(change.restart, [key]);
        assert!(change.live.is_empty());
        assert_eq!(change.effective, Effective::of(&site(Layer::default()), &Layer::default()));
        assert_ne!(change.next_start, change.effective);
    }
}

#[test]
fn one_bad_value_refuses_the_whole_document_with_every_reason() {
    let refusal = apply(json!({
        "app_config": {"log_level": "debug", "heartbeat_interval": "often", "audit": {"enabled": true}},
        "zot_config": {"http": {"port": "x"}}
    }))
    .unwrap_err();
    for key in ["heartbeat_interval", "app_config.audit.enabled: not supported yet", "zot_config.http.port"] {
        assert!(refusal.reasons.iter().any(|reason| reason.contains(key)), "{key}: {refusal}");
    }
    assert_eq!(refusal.reasons.len(), 3, "{refusal}");
}

#[test]
fn what_is_refused() {
    for (value, key) in [
        (json!({"app_config": {"audit": {"enabled": true}}}), "app_config.audit.enabled"),
        (
            json!({"app_config": {"registry_fallback": {"enabled": true, "runtimes": ["rkt"]}}}),
            "app_config.registry_fallback.runtimes",
        ),
        (
            json!({"app_config": {"registry_fallback": {"paths": {"quay.io": "UP"}}}}),
            "app_config.registry_fallback.paths",
        ),
        (
            json!({"app_config": {"registry_fallback": {"restart_command": "reboot"}}}),
            "app_config.registry_fallback.restart_command",
        ),
        (
            json!({"app_config": {"registry_fallback": {"host_root": "/"}}}),
            "app_config.registry_fallback.host_root",
        ),
        (
            json!({"app_config": {"direct_delivery": {"enabled": true, "image_dir": "/etc/cron.d"}}}),
            "app_config.direct_delivery.image_dir",
        ),
        (
            json!({"app_config": {"direct_delivery": {"enabled": true, "platforms": "arm64"}}}),
            "app_config.direct_delivery.platforms",
        ),
        (json!({"app_config": {"tls": {"cert_file": "/c.pem"}}}), "app_config.tls.cert_file"),
        (json!({"app_config": {"ground_control_url": "http://gc.example.com"}}), "USE_UNSECURE"),
        (
            json!({"app_config": {"ground_control_url": "https://u:p@gc.example.com"}}),
            "app_config.ground_control_url",
        ),
        (json!({"app_config": {"harbor_registry_url": "http://h.example.com"}}), "USE_UNSECURE"),
        (json!({"app_config": {"bring_own_registry": true}}), "REGISTRY_URL"),
        (json!({"app_config": {"local_registry": {"password": "p"}}}), "local_registry.password"),
        (json!({"app_config": {"referrers_interval": "* * * * *"}}), "referrers_interval"),
        (json!({"zot_config": {"http": {"auth": {"htpasswd": {"path": "/p"}}}}}), "zot_config.http.auth"),
        (json!({"zot_config": {"http": {"tls": {"cert": "/c", "key": "/k"}}}}), "zot_config.http.tls"),
        (json!({"zot_config": {"storage": {"gcDelay": "0"}}}), "gcDelay"),
    ] {
        let refusal = apply(value.clone()).unwrap_err();
        assert!(refusal.to_string().contains(key), "{value}: {refusal}");
    }
}

#[test]
fn keys_that_are_not_honoured_are_warned_of_by_name() {
    let change = apply(json!({
        "new": 1, "app_config": {"newer": 2, "encrypt_config": false},
        "zot_config": {"extensions": {}, "storage": {"dedupe": true, "rootDirectory": "/elsewhere"},
            "http": {"realm": "x"}, "log": {"output": "/x"}}
    }))
    .unwrap();
    for key in [
        "new:",
        "app_config.newer",
        "app_config.encrypt_config",
        "zot_config.extensions",
        "zot_config.storage.dedupe",
        "zot_config.storage.rootDirectory",
        "zot_config.http.realm",
        "zot_config.log.output",
    ] {
        assert!(
            change.warnings.iter().any(|warning| warning.starts_with(key)),
            "{key}: {:?}",
            change.warnings
        );
    }
    assert_eq!(change.warnings.len(), 8);
}

#[test]
fn a_remote_address_beyond_loopback_is_not_taken() {
    let change = apply(json!({"zot_config": {"http": {"address": "0.0.0.0", "port": "5000"}}})).unwrap();
    assert_eq!(change.next_start.listen.address.to_string(), "127.0.0.1:5000");
    assert!(change.warnings[0].contains("zot_config.http.address"));
    // Where the site named an address, that one stays.
    let site = site(Layer { listen: Some("192.0.2.1:5000".parse().unwrap()), ..Layer::default() });
    let change =
        apply_to(&site, json!({"zot_config": {"http": {"address": "127.0.0.1", "port": "1"}}})).unwrap();
    assert_eq!(change.next_start.listen.address.to_string(), "192.0.2.1:5000");
    assert!(change.restart.is_empty());
}

#[test]
fn a_later_document_that_says_less_goes_back_to_the_site_and_the_defaults() {
    let site = site(Layer { log_level: Some(LogLevel::Warn), ..Layer::default() });
    let first = apply_to(&site, json!({"app_config": {"heartbeat_interval": "@every 1m"}})).unwrap();
    let second = RemoteConfig::apply(&site, &first.effective, &document(json!({}))).unwrap();
    assert_eq!(second.effective, Effective::of(&site, &Layer::default()));
    assert_eq!(second.live, ["heartbeat_interval"]);
}

fn any_document() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!("@every 1m")),
        Just(json!("https://a.example.com")),
        Just(json!("http://a.example.com")),
        Just(json!("debug")),
        Just(json!("10m")),
        Just(json!("0.0.0.0")),
        Just(json!("5000")),
        Just(json!("nonsense")),
    ];
    let flag = prop_oneof![Just(Value::Null), Just(json!(true)), Just(json!(false))];
    (prop::collection::vec(text, 14), prop::collection::vec(flag, 12)).prop_map(|(t, f)| {
        json!({
            "app_config": {
                "ground_control_url": t[0], "log_level": t[1], "use_unsecure": f[0],
                "state_replication_interval": t[2], "register_satellite_interval": t[3], "heartbeat_interval": t[4],
                "referrers_interval": t[5], "metrics": {"collect_cpu": f[1], "collect_memory": f[2]},
                "bring_own_registry": f[3], "local_registry": {"url": t[6], "username": t[7]},
                "tls": {"ca_file": t[8], "skip_verify": f[4]}, "spiffe": {"enabled": f[5]}, "encrypt_config": f[6],
                "harbor_registry_url": t[9], "audit": {"enabled": f[7]}
            },
            "zot_config": {"storage": {"gc": f[8], "gcDelay": t[10], "gcInterval": t[11]},
                "http": {"address": t[12], "port": t[13]}}
        })
    })
}

proptest! {
    /// Whatever a document says, what the site said stays; a refusal has a reason; a taken document is one to work with.
    #[test]
    fn no_document_wipes_what_the_site_said(value in any_document()) {
        let layer = Layer {
            ground_control_url: Some("https://site.example.com".parse().unwrap()),
            log_level: Some(LogLevel::Warn),
            use_unsecure: Some(false),
            heartbeat_interval: Some("@every 77s".parse().unwrap()),
            tls_skip_verify: Some(false),
            listen: Some("192.0.2.1:5000".parse().unwrap()),
            gc_interval: Some(Duration::from_secs(77)),
            ..Layer::default()
        };
        let site = site(layer);
        match apply_to(&site, value) {
            Err(refusal) => prop_assert!(!refusal.reasons.is_empty()),
            Ok(change) => for after in [&change.effective, &change.next_start] {
                prop_assert_eq!(after.ground_control_url.as_ref().unwrap().as_str(), "https://site.example.com/");
                prop_assert_eq!(after.log_level, LogLevel::Warn);
                prop_assert!(!after.use_unsecure && !after.tls.skip_verify);
                prop_assert_eq!(after.heartbeat_interval.as_str(), "@every 77s");
                prop_assert_eq!(after.gc_interval, Duration::from_secs(77));
                prop_assert_eq!(after.listen.address.to_string(), "192.0.2.1:5000");
                prop_assert!(layer::problems(after).is_empty());
            }
        }
    }

    /// Taking a document twice changes nothing the second time, apart from what still waits for a restart.
    #[test]
    fn taking_a_document_again_changes_nothing(value in any_document()) {
        let site = site(Layer::default());
        if let Ok(first) = apply_to(&site, value.clone()) {
            let second = RemoteConfig::apply(&site, &first.effective, &document(value)).unwrap();
            prop_assert!(second.live.is_empty());
            prop_assert_eq!(second.effective, first.effective);
            prop_assert_eq!(second.next_start, first.next_start);
            prop_assert_eq!(second.restart, first.restart);
        }
    }

    /// A remote config alone never opens the local registry to the network.
    #[test]
    fn no_document_opens_the_registry(value in any_document()) {
        if let Ok(change) = apply(value) {
            prop_assert!(change.next_start.listen.address.ip().is_loopback());
        }
    }
}
