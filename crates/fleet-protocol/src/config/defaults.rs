//! The document that says everything, with the values that hold where nothing is said.

use serde_json::{Value, json};

/// The default config document, which the first start of Ground Control publishes as `default`.
pub fn default_document() -> Value {
    json!({
        "state_config": {"auth": {"url": "", "username": "", "password": ""}, "state": ""},
        "app_config": {
            "ground_control_url": "",
            "log_level": "info",
            "use_unsecure": false,
            "state_replication_interval": "@every 00h00m10s",
            "register_satellite_interval": "@every 00h00m30s",
            "heartbeat_interval": "@every 00h00m30s",
            "metrics": {"collect_cpu": true, "collect_memory": true, "collect_storage": true},
            "bring_own_registry": false,
            "local_registry": {"url": "http://127.0.0.1:8585", "username": "", "password": ""},
            "tls": {"cert_file": "", "key_file": "", "ca_file": "", "skip_verify": false},
            "spiffe": {
                "enabled": false,
                "endpoint_socket": "unix:///run/spire/sockets/agent.sock",
                "expected_server_id": "",
            },
            "encrypt_config": true,
            "registry_fallback": {"enabled": false, "registries": ["docker.io"], "runtimes": []},
            "harbor_registry_url": "",
            "direct_delivery": {"enabled": false, "image_dir": ""},
            "audit": {
                "enabled": false,
                "syslog": {
                    "enabled": true, "target": "file", "tag": "harbor-audit", "socket_path": "/dev/log",
                    "network": "udp", "address": "",
                    "file": {
                        "path": "./audit.log", "max_size_mb": 100, "max_backups": 7, "max_age_days": 30,
                        "compress": true,
                    },
                },
                "otel": {"enabled": false, "endpoint": ""},
            },
        },
        "zot_config": {
            "distSpecVersion": "1.1.0",
            "storage": {"rootDirectory": "./zot"},
            "http": {"address": "127.0.0.1", "port": "8585"},
            "log": {"level": "info"},
        },
    })
}
