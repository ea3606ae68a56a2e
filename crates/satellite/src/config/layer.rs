//! One layer of settings: every value optional, because a layer says only what it was told.

use std::path::PathBuf;
use std::time::Duration;

use fleet_protocol::schedule::Schedule;
use secrecy::SecretString;
use std::net::SocketAddr;
use url::Url;

use super::{ByoRegistry, Effective, Listen, LogLevel, Metrics, Site, TlsTrust};

/// Settings that more than one source can give; `None` leaves the word to the layer below.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each field is the optional form of the field of the same name in `Effective`")]
pub struct Layer {
    pub ground_control_url: Option<Url>,
    pub log_level: Option<LogLevel>,
    pub use_unsecure: Option<bool>,
    pub state_replication_interval: Option<Schedule>,
    pub register_satellite_interval: Option<Schedule>,
    pub heartbeat_interval: Option<Schedule>,
    pub referrer_interval: Option<Duration>,
    pub collect_cpu: Option<bool>,
    pub collect_memory: Option<bool>,
    pub collect_storage: Option<bool>,
    pub byo_registry: Option<bool>,
    pub registry_url: Option<Url>,
    pub registry_username: Option<String>,
    pub registry_password: Option<SecretString>,
    pub tls_ca_file: Option<PathBuf>,
    pub tls_skip_verify: Option<bool>,
    pub harbor_registry_url: Option<Url>,
    pub listen: Option<SocketAddr>,
    pub gc: Option<bool>,
}

impl Layer {
    /// This layer, with what it leaves open taken from `lower`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            ground_control_url: self.ground_control_url.or(lower.ground_control_url),
            log_level: self.log_level.or(lower.log_level),
            use_unsecure: self.use_unsecure.or(lower.use_unsecure),
            state_replication_interval: self.state_replication_interval.or(lower.state_replication_interval),
            register_satellite_interval: self.register_satellite_interval.or(lower.register_satellite_interval),
            heartbeat_interval: self.heartbeat_interval.or(lower.heartbeat_interval),
            referrer_interval: self.referrer_interval.or(lower.referrer_interval),
            collect_cpu: self.collect_cpu.or(lower.collect_cpu),
            collect_memory: self.collect_memory.or(lower.collect_memory),
            collect_storage: self.collect_storage.or(lower.collect_storage),
            byo_registry: self.byo_registry.or(lower.byo_registry),
            registry_url: self.registry_url.or(lower.registry_url),
            registry_username: self.registry_username.or(lower.registry_username),
            registry_password: self.registry_password.or(lower.registry_password),
            tls_ca_file: self.tls_ca_file.or(lower.tls_ca_file),
            tls_skip_verify: self.tls_skip_verify.or(lower.tls_skip_verify),
            harbor_registry_url: self.harbor_registry_url.or(lower.harbor_registry_url),
            listen: self.listen.or(lower.listen),
            gc: self.gc.or(lower.gc),
        }
    }
}
