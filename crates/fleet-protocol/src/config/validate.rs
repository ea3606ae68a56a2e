//! What makes a config document one that no satellite could work with.

use super::{AppConfig, ConfigDocument, RANCHER_IMAGE_DIRS, RegistryConfig};
use crate::schedule::{Schedule, parse_go_duration};

/// Levels that a log has.
const LOG_LEVELS: [&str; 7] = ["trace", "debug", "info", "warn", "warning", "error", "fatal"];

/// Everything that is wrong with a document, each as a sentence that names the key. Empty where it is valid.
///
/// A secret in a document is wrong too: whoever may read the central registry's state project would see it.
pub fn validate(document: &ConfigDocument) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(state) = &document.state_config
        && state.pointer("/auth/password").and_then(|v| v.as_str()).is_some_and(|p| !p.is_empty())
    {
        wrong.push("state_config.auth.password: a config document holds no secret".to_owned());
    }
    if let Some(app) = &document.app_config {
        validate_app(app, &mut wrong);
    }
    if let Some(registry) = &document.zot_config {
        validate_registry(registry, &mut wrong);
    }
    wrong
}

/// Keys of `registry_fallback` that no document may hold.
const LOCAL_ONLY: [&str; 2] = ["restart_command", "host_root"];

fn validate_app(app: &AppConfig, wrong: &mut Vec<String>) {
    for (key, value) in [
        ("state_replication_interval", &app.state_replication_interval),
        ("register_satellite_interval", &app.register_satellite_interval),
        ("heartbeat_interval", &app.heartbeat_interval),
        ("referrers_interval", &app.referrers_interval),
    ] {
        if let Some(text) = value.as_deref().filter(|t| !t.is_empty())
            && let Err(error) = text.parse::<Schedule>()
        {
            wrong.push(format!("app_config.{key}: {error}"));
        }
    }
    level("app_config.log_level", app.log_level.as_deref(), wrong);
    for (key, value) in [
        ("ground_control_url", &app.ground_control_url),
        ("harbor_registry_url", &app.harbor_registry_url),
        ("local_registry.url", &app.local_registry.as_ref().and_then(|r| r.url.clone())),
    ] {
        if let Some(text) = value.as_deref().filter(|t| !t.is_empty())
            && !is_http_url(text)
        {
            wrong.push(format!("app_config.{key}: `{text}` is no http:// or https:// URL"));
        }
    }
    // Else whoever may write a document would run commands as root on every machine that reads it.
    for key in LOCAL_ONLY {
        if app.registry_fallback.as_ref().is_some_and(|fallback| fallback.unknown.contains_key(key)) {
            wrong.push(format!("app_config.registry_fallback.{key}: only the site itself may set it"));
        }
    }
    if let Some(delivery) = &app.direct_delivery {
        // Else it would write files wherever it says.
        let said = |text: &Option<String>| {
            text.clone().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        if let Some(dir) = said(&delivery.image_dir)
            && !RANCHER_IMAGE_DIRS.contains(&dir.trim_end_matches('/'))
        {
            wrong.push(format!(
                "app_config.direct_delivery.image_dir: `{dir}`: only the site itself may name a folder that is not {}",
                RANCHER_IMAGE_DIRS.join(" or ")
            ));
        }
        if let Some(platforms) =
            said(&delivery.platforms).filter(|text| !["all", "own"].contains(&text.as_str()))
        {
            wrong.push(format!("app_config.direct_delivery.platforms: `{platforms}` must be all or own"));
        }
    }
    if app.local_registry.as_ref().and_then(|r| r.password.as_deref()).is_some_and(|p| !p.is_empty()) {
        wrong.push("app_config.local_registry.password: a config document holds no secret; set REGISTRY_PASSWORD at the site".to_owned());
    }
}

fn validate_registry(registry: &RegistryConfig, wrong: &mut Vec<String>) {
    if let Some(storage) = &registry.storage {
        for (key, value) in [("gcDelay", &storage.gc_delay), ("gcInterval", &storage.gc_interval)] {
            if let Some(text) = value.as_deref().filter(|t| !t.is_empty())
                && let Err(error) = parse_go_duration(text)
            {
                wrong.push(format!("zot_config.storage.{key}: {error}"));
            }
        }
    }
    if let Some(http) = &registry.http {
        if let Some(address) = http.address.as_deref().filter(|a| !a.is_empty())
            && address != "localhost"
            && address.parse::<std::net::IpAddr>().is_err()
        {
            wrong.push(format!("zot_config.http.address: `{address}` is no IP address"));
        }
        if http.port.as_ref().is_some_and(|port| port.number().is_none()) {
            wrong.push("zot_config.http.port: no port number from 0 to 65535".to_owned());
        }
    }
    level("zot_config.log.level", registry.log.as_ref().and_then(|log| log.level.as_deref()), wrong);
}

fn level(key: &str, value: Option<&str>, wrong: &mut Vec<String>) {
    if let Some(text) = value.filter(|t| !t.is_empty())
        && !LOG_LEVELS.contains(&text.to_ascii_lowercase().as_str())
    {
        wrong.push(format!("{key}: `{text}` is no level; use one of {}", LOG_LEVELS.join(", ")));
    }
}

fn is_http_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::default_document;

    #[test]
    fn the_default_is_valid_and_wholly_known() {
        let document: ConfigDocument = serde_json::from_value(default_document()).unwrap();
        assert_eq!(validate(&document), Vec::<String>::new());
        let app = document.app_config.as_ref().unwrap();
        let registry = document.zot_config.as_ref().unwrap();
        assert!(document.unknown.is_empty() && app.unknown.is_empty() && registry.unknown.is_empty());
        assert_eq!(serde_json::to_value(&document).unwrap(), default_document());
    }

    #[test]
    fn each_wrong_value_is_named() {
        for (document, key) in [
            (json!({"app_config": {"heartbeat_interval": "often"}}), "heartbeat_interval"),
            (json!({"app_config": {"log_level": "loud"}}), "log_level"),
            (json!({"app_config": {"harbor_registry_url": "ftp://h"}}), "harbor_registry_url"),
            (json!({"app_config": {"local_registry": {"password": "x"}}}), "password"),
            (json!({"app_config": {"registry_fallback": {"restart_command": "x"}}}), "restart_command"),
            (json!({"app_config": {"registry_fallback": {"host_root": "/h"}}}), "host_root"),
            (json!({"app_config": {"direct_delivery": {"image_dir": "/etc/cron.d"}}}), "image_dir"),
            (json!({"app_config": {"direct_delivery": {"platforms": "arm"}}}), "platforms"),
            (json!({"state_config": {"auth": {"password": "x"}}}), "password"),
            (json!({"zot_config": {"http": {"port": "x"}}}), "port"),
            (json!({"zot_config": {"http": {"address": "host"}}}), "address"),
            (json!({"zot_config": {"storage": {"gcDelay": "x"}}}), "gcDelay"),
        ] {
            let document: ConfigDocument = serde_json::from_value(document).unwrap();
            let wrong = validate(&document);
            assert!(wrong.len() == 1 && wrong[0].contains(key), "{wrong:?}");
        }
    }

    #[test]
    fn the_seed_document_is_read() {
        let document: ConfigDocument = serde_json::from_value(json!({
            "app_config": {"log_level": "info", "state_replication_interval": "@every 00h00m10s",
                "heartbeat_interval": "@every 00h00m30s", "local_registry": {"url": "http://127.0.0.1:8585"}},
            "zot_config": {"storage": {"rootDirectory": "./zot"}, "http": {"address": "0.0.0.0", "port": "8585"}}
        }))
        .unwrap();
        assert!(validate(&document).is_empty());
        assert_eq!(document.zot_config.unwrap().http.unwrap().port.unwrap().number(), Some(8585));
    }
}
