//! Whether Harbor is well, and what it is.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::send::{As, Call};

/// Parts of Harbor that neither robots nor pulls need: a Harbor without them serves a fleet. (Webhooks are late without the job
/// service, and a slow listing makes up for that.)
const NOT_NEEDED: [&str; 4] = ["portal", "jobservice", "registryctl", "trivy"];

/// What Harbor says of its parts. It is up to 10 s old, and is given as long as the core lives: a core that is down is an error
/// ([`crate::ErrorKind::Unavailable`]), a database that is down is seen here only after a while.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// All parts, those that are not needed included.
    #[serde(default)]
    pub components: Vec<Component>,
}

/// One part of Harbor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Component {
    /// `core`, `database`, `redis`, `registry`, …
    pub name: String,
    /// `healthy` or `unhealthy`.
    pub status: String,
    /// What is wrong.
    #[serde(default)]
    pub error: Option<String>,
}

impl Health {
    /// The parts that are needed and not well.
    pub fn failing(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|c| c.status != "healthy" && !NOT_NEEDED.contains(&c.name.as_str()))
    }

    /// Whether all parts that are needed are well.
    pub fn is_good(&self) -> bool {
        self.failing().next().is_none()
    }
}

/// What Harbor tells about itself: to anybody almost nothing, to a known account its version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SystemInfo {
    /// For example `v2.15.2-080b0220`; absent where Harbor did not know who asks.
    #[serde(default, rename = "harbor_version")]
    pub version: Option<String>,
    /// `host[:port]` that stands in image references.
    #[serde(default)]
    pub registry_url: Option<String>,
    /// Whether pushes are refused.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// Harbor's clock: what robots expire by.
    #[serde(default)]
    pub current_time: Option<Timestamp>,
}

impl SystemInfo {
    /// Whether Harbor knew who asked. It answers 200 also to a wrong password, and to the right one with its database down.
    pub fn is_authenticated(&self) -> bool {
        self.version.is_some()
    }
}

impl Client {
    /// `GET /health`, which needs no login.
    pub async fn health(&self) -> Result<Health, Error> {
        let call = Call::api("check the health", Method::GET, "/health")
            .who(As::Nobody)
            .within(self.inner.options.health_timeout);
        self.json(&call).await
    }

    /// `GET /systeminfo` with our own login. See [`SystemInfo::is_authenticated`].
    pub async fn system_info(&self) -> Result<SystemInfo, Error> {
        self.json(&Call::api("get the system information", Method::GET, "/systeminfo")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_parts_count() {
        let component = |name: &str, status: &str| Component {
            name: name.to_owned(),
            status: status.to_owned(),
            error: None,
        };
        let mut health =
            Health { components: vec![component("core", "healthy"), component("redis", "healthy")] };
        for name in NOT_NEEDED {
            health.components.push(component(name, "unhealthy"));
        }
        assert!(health.is_good());
        health.components.push(component("database", "unhealthy"));
        assert!(!health.is_good());
        assert_eq!(health.failing().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["database"]);
    }
}
