//! Health, version, ping.

use serde_json::{Value, json};

use super::world::{Answer, Outage, Route, Who, World};

/// Where the recorded Harbor said that it was.
pub(crate) const HOST: &str = "127.0.0.1:21800";

impl World {
    pub(crate) fn system(&mut self, route: &Route<'_>, what: &str) -> Option<Answer> {
        match what {
            "health" => Some(self.health()),
            "ping" => Some(
                Answer { text: "Pong".to_owned(), ..Answer::empty(200) }.header("Content-Type", "text/plain"),
            ),
            "systeminfo" => Some(Answer::json(200, &self.info(&route.who))),
            _ => None,
        }
    }

    fn health(&self) -> Answer {
        let refused = |port: u16| format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        let failing: Vec<(&str, String)> = match self.outage {
            _ if self.stale_health => Vec::new(),
            Some(Outage::Database) => vec![(
                "database",
                format!(
                    "failed to run SQL \"SELECT 1\": failed to connect to `user=postgres database=registry`: 127.0.0.1:21806 (127.0.0.1): dial error: {}",
                    refused(21806)
                ),
            )],
            Some(Outage::Registry) => vec![(
                "registry",
                format!("failed to check health: Get \"http://127.0.0.1:21802/\": {}", refused(21802)),
            )],
            Some(Outage::Redis(_)) => {
                let told = format!(
                    "received unexpected status code: 500 {{\"code\":10004,\"message\":\"check stats of server failed with error\",\"details\":\"{}\"}}",
                    refused(21805)
                );
                vec![("jobservice", told), ("redis", refused(21805))]
            }
            Some(Outage::Core) | None => Vec::new(),
        };
        let all = ["core", "database", "jobservice", "portal", "redis", "registry", "registryctl"];
        let components: Vec<Value> = all
            .iter()
            .map(|name| match failing.iter().find(|(failed, _)| failed == name) {
                Some((_, error)) => json!({ "name": name, "status": "unhealthy", "error": error }),
                None => json!({ "name": name, "status": "healthy" }),
            })
            .collect();
        let status = if failing.is_empty() { "healthy" } else { "unhealthy" };
        Answer::json(200, &json!({ "components": components, "status": status }))
    }

    fn info(&self, who: &Who) -> Value {
        let mut info = json!({
            "auth_mode": "db_auth", "banner_message": "", "oidc_provider_name": "",
            "primary_auth_mode": false, "self_registration": false,
        });
        if *who != Who::Nobody {
            let more = json!({
                "current_time": self.now.to_string(), "external_url": format!("http://{HOST}"),
                "harbor_version": "v2.15.2-080b0220", "has_ca_root": false, "notification_enable": true,
                "project_creation_restriction": "everyone", "read_only": false,
                "registry_storage_provider_name": "filesystem", "registry_url": HOST,
            });
            info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        info
    }
}
