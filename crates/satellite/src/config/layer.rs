//! One layer of settings: every value optional, because a layer says only what it was told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use container_runtimes::MirrorRequest;
use fleet_protocol::config::{
    AppConfig, ConfigDocument, RegistryConfig, RegistryFallback, RegistryHttp, Spiffe, Unknown,
};
use fleet_protocol::schedule::{Schedule, parse_go_duration};
use secrecy::SecretString;
use url::{Host, Url};

use super::flags::{http_url, registry_url};
use super::{
    ByoRegistry, Effective, ImagePlatforms, Listen, LogLevel, Metrics, MirrorPeer, Refusal, Site, TlsTrust,
    delivery, mirrors,
};

const DEFAULT_PORT: u16 = 8585;
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);
/// The directory that documents carry because every deployed Ground Control writes it; it is nobody's decision.
const FIELD_ROOT_DIRECTORY: &str = "./zot";

/// Settings that more than one source can give; `None` leaves the word to the layer below.
#[derive(Debug, Clone, Default)]
#[expect(
    missing_docs,
    reason = "each field is the optional form of the field of the same name in `Effective`"
)]
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
    pub gc_grace: Option<Duration>,
    pub gc_interval: Option<Duration>,
    pub mirrors: Option<Vec<MirrorRequest>>,
    pub mirror_paths: Option<BTreeMap<String, String>>,
    pub mirror_peers: Option<Vec<MirrorPeer>>,
    pub direct_delivery: Option<bool>,
    pub image_dir: Option<PathBuf>,
    pub image_platforms: Option<ImagePlatforms>,
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
            register_satellite_interval: self
                .register_satellite_interval
                .or(lower.register_satellite_interval),
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
            gc_grace: self.gc_grace.or(lower.gc_grace),
            gc_interval: self.gc_interval.or(lower.gc_interval),
            mirrors: self.mirrors.or(lower.mirrors),
            mirror_paths: self.mirror_paths.or(lower.mirror_paths),
            mirror_peers: self.mirror_peers.or(lower.mirror_peers),
            direct_delivery: self.direct_delivery.or(lower.direct_delivery),
            image_dir: self.image_dir.or(lower.image_dir),
            image_platforms: self.image_platforms.or(lower.image_platforms),
        }
    }
}

/// Puts `site` over `remote` over the defaults.
pub(super) fn merge(site: &Site, remote: &Layer) -> Effective {
    let all = site.layer.clone().over(remote.clone());
    let image_folder = delivery::merged(&all);
    let seconds = |seconds| Schedule::every(Duration::from_secs(seconds));
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let byo_registry = match (all.byo_registry, all.registry_url) {
        (Some(true), Some(url)) => Some(ByoRegistry {
            url,
            username: all.registry_username.unwrap_or_default(),
            password: all.registry_password.unwrap_or_default(),
        }),
        _ => None,
    };
    Effective {
        ground_control_url: all.ground_control_url,
        identity: site.identity.clone(),
        log_level: all.log_level.unwrap_or(LogLevel::Info),
        use_unsecure: all.use_unsecure.unwrap_or(false),
        state_replication_interval: all.state_replication_interval.unwrap_or_else(|| seconds(10)),
        register_satellite_interval: all.register_satellite_interval.unwrap_or_else(|| seconds(30)),
        heartbeat_interval: all.heartbeat_interval.unwrap_or_else(|| seconds(30)),
        referrer_interval: all.referrer_interval.unwrap_or_else(|| minutes(10)),
        metrics: Metrics {
            cpu: all.collect_cpu.unwrap_or(true),
            memory: all.collect_memory.unwrap_or(true),
            storage: all.collect_storage.unwrap_or(true),
        },
        byo_wanted: all.byo_registry.unwrap_or(false),
        byo_registry,
        tls: TlsTrust { ca_file: all.tls_ca_file, skip_verify: all.tls_skip_verify.unwrap_or(false) },
        harbor_registry_url: all.harbor_registry_url,
        listen: Listen { address: all.listen.unwrap_or(DEFAULT_LISTEN), unsecure: site.listen_unsecure },
        gc: all.gc.unwrap_or(true),
        gc_grace: all.gc_grace.unwrap_or_else(|| minutes(10)),
        gc_interval: all.gc_interval.unwrap_or_else(|| minutes(10)),
        platforms: site.platforms.clone(),
        kept_namespaces: site.kept_namespaces.clone(),
        mirrors: (!site.runtimes.leave_alone).then(|| all.mirrors.unwrap_or_default()),
        mirror_paths: all.mirror_paths.unwrap_or_default(),
        mirror_peers: all.mirror_peers,
        image_folder,
    }
}

/// Something that makes a configuration one that the satellite cannot work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable that is at fault or missing.
    pub variable: &'static str,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.variable, self.what)
    }
}

/// What is wrong with settings that are each valid by themselves.
pub(super) fn problems(effective: &Effective) -> Vec<Problem> {
    let mut found = Vec::new();
    if effective.byo_wanted && effective.byo_registry.is_none() {
        let what = "is unset, and BYO_REGISTRY needs it: give the URL of the site's registry".to_owned();
        found.push(Problem { variable: "REGISTRY_URL", what });
    }
    if effective.byo_wanted && effective.image_folder.is_some() {
        let what = "archives are made from the local store, and with BYO_REGISTRY there is none; turn one of them off";
        found.push(Problem { variable: "DIRECT_DELIVERY", what: what.to_owned() });
    }
    if let Some(url) = effective.ground_control_url.as_ref().filter(|url| url.scheme() == "http")
        && effective.identity.is_spiffe()
    {
        let what = format!("{url} is plain HTTP, and an X.509-SVID is shown over TLS only; use https");
        found.push(Problem { variable: "GROUND_CONTROL_URL", what });
    }
    if !effective.use_unsecure {
        let urls = [
            ("GROUND_CONTROL_URL", effective.ground_control_url.as_ref()),
            ("HARBOR_REGISTRY_URL", effective.harbor_registry_url.as_ref()),
            ("REGISTRY_URL", effective.byo_registry.as_ref().map(|registry| &registry.url)),
        ];
        for (variable, url) in urls {
            if let Some(url) = url.filter(|url| url.scheme() == "http" && !is_loopback(url)) {
                let what = format!(
                    "{url} is plain HTTP beyond loopback; use https, or allow it with --use-unsecure (USE_UNSECURE=true)"
                );
                found.push(Problem { variable, what });
            }
        }
    }
    if !effective.listen.unsecure && !effective.listen.address.ip().is_loopback() {
        let what = format!(
            "{} is beyond loopback, where the registry would be plain HTTP and open to everybody; give other machines \
             --lan-listen (LAN_LISTEN), or allow it with --registry-listen-unsecure (REGISTRY_LISTEN_UNSECURE=true)",
            effective.listen.address
        );
        found.push(Problem { variable: "REGISTRY_LISTEN", what });
    }
    found
}

/// Files that are named and cannot be read. Looks at the disk, unlike the rest of this module.
pub(super) fn unreadable_files(effective: &Effective) -> Vec<Problem> {
    let Some(path) = &effective.tls.ca_file else { return Vec::new() };
    match std::fs::File::open(path) {
        Ok(_) => Vec::new(),
        Err(error) => {
            vec![Problem {
                variable: "TLS_CA_FILE",
                what: format!("{} cannot be read: {error}", path.display()),
            }]
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whose document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The site's own `config.json`, which may hold a secret and name the data directory.
    ConfigFile,
    /// Ground Control's.
    Remote,
}

/// A document, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Read {
    pub(super) layer: Layer,
    /// `zot_config.storage.rootDirectory`, where it is a decision.
    pub(super) root_directory: Option<PathBuf>,
    /// What it says of the satellite's identity.
    pub(super) spiffe: Option<Spiffe>,
    /// `registry_fallback.host_root` and `.restart_command`, of the site's own file.
    pub(super) host_root: Option<PathBuf>,
    pub(super) restart_command: Option<String>,
    /// Keys that are not honoured and values that are not taken.
    pub(super) warnings: Vec<String>,
}

/// Reads a document into a layer, or says everything that is wrong with it.
pub(super) fn read(document: &ConfigDocument, origin: Origin) -> Result<Read, Refusal> {
    let mut reader = Reader { origin, read: Read::default(), reasons: Vec::new() };
    reader.validate(document);
    reader.unknown("", &document.unknown);
    if let Some(app) = &document.app_config {
        reader.app(app);
    }
    if let Some(registry) = &document.zot_config {
        reader.registry(registry);
    }
    if reader.reasons.is_empty() { Ok(reader.read) } else { Err(Refusal { reasons: reader.reasons }) }
}

struct Reader {
    origin: Origin,
    read: Read,
    reasons: Vec<String>,
}

impl Reader {
    /// The rules that publisher and reader share. A secret in a document is wrong there, and right in a site's file.
    fn validate(&mut self, document: &ConfigDocument) {
        let mut document = document.clone();
        if self.origin == Origin::ConfigFile
            && let Some(registry) = document.app_config.as_mut().and_then(|app| app.local_registry.as_mut())
        {
            registry.password = None;
        }
        if self.origin == Origin::ConfigFile
            && let Some(fallback) =
                document.app_config.as_mut().and_then(|app| app.registry_fallback.as_mut())
        {
            fallback.unknown.clear();
        }
        if self.origin == Origin::ConfigFile
            && let Some(asked) = document.app_config.as_mut().and_then(|app| app.direct_delivery.as_mut())
        {
            asked.image_dir = None;
        }
        self.reasons.extend(fleet_protocol::config::validate(&document));
    }

    fn app(&mut self, app: &AppConfig) {
        self.unknown("app_config.", &app.unknown);
        let audit = app.audit.as_ref().and_then(|audit| audit.get("enabled")).is_some_and(|on| on == true);
        for (key, on) in [
            ("audit.enabled", audit),
            ("tls.cert_file", app.tls.as_ref().is_some_and(|tls| said(&tls.cert_file).is_some())),
            ("tls.key_file", app.tls.as_ref().is_some_and(|tls| said(&tls.key_file).is_some())),
        ] {
            if on {
                self.reasons.push(format!("app_config.{key}: not supported yet"));
            }
        }
        if app.encrypt_config == Some(false) {
            self.warn(
                "app_config.encrypt_config: cannot be turned off, what holds a secret is always sealed",
            );
        }

        self.read.spiffe.clone_from(&app.spiffe);
        self.read.layer.ground_control_url =
            self.parse("app_config.ground_control_url", &app.ground_control_url, http_url);
        self.read.layer.harbor_registry_url =
            self.parse("app_config.harbor_registry_url", &app.harbor_registry_url, http_url);
        self.read.layer.log_level = self.parse("app_config.log_level", &app.log_level, LogLevel::from_str);
        self.read.layer.use_unsecure = app.use_unsecure;
        let schedule = |text: &str| text.parse::<Schedule>().map_err(|error| error.to_string());
        self.read.layer.state_replication_interval =
            self.parse("app_config.state_replication_interval", &app.state_replication_interval, schedule);
        self.read.layer.register_satellite_interval =
            self.parse("app_config.register_satellite_interval", &app.register_satellite_interval, schedule);
        self.read.layer.heartbeat_interval =
            self.parse("app_config.heartbeat_interval", &app.heartbeat_interval, schedule);
        self.read.layer.referrer_interval =
            self.parse("app_config.referrers_interval", &app.referrers_interval, |text| {
                schedule(text)?.interval().ok_or_else(|| "must be `@every <duration>`".to_owned())
            });
        if let Some(metrics) = &app.metrics {
            self.read.layer.collect_cpu = metrics.collect_cpu;
            self.read.layer.collect_memory = metrics.collect_memory;
            self.read.layer.collect_storage = metrics.collect_storage;
        }
        self.read.layer.byo_registry = app.bring_own_registry;
        if let Some(fallback) = &app.registry_fallback {
            self.fallback(fallback);
        }
        if let Some(asked) = &app.direct_delivery
            && let Err(why) = delivery::of_document(asked, &mut self.read.layer)
        {
            let reason = format!("app_config.direct_delivery.{why}");
            // The shared rules may have said so already.
            let key = reason.split(": ").next().unwrap_or_default().to_owned();
            if !self.reasons.iter().any(|known| known.starts_with(&key)) {
                self.reasons.push(reason);
            }
        }
        if let Some(registry) = &app.local_registry {
            self.read.layer.registry_url =
                self.parse("app_config.local_registry.url", &registry.url, registry_url);
            self.read.layer.registry_username = said(&registry.username).map(str::to_owned);
            self.read.layer.registry_password = said(&registry.password).map(SecretString::from);
        }
        if let Some(tls) = &app.tls {
            self.read.layer.tls_ca_file = said(&tls.ca_file).map(PathBuf::from);
            self.read.layer.tls_skip_verify = tls.skip_verify;
        }
    }

    fn fallback(&mut self, fallback: &RegistryFallback) {
        match mirrors::of_document(fallback) {
            Ok(wanted) => self.read.layer.mirrors = wanted,
            Err(why) => self.reasons.push(format!("app_config.registry_fallback.{why}")),
        }
        let places = fallback.paths.iter().flatten().map(|(host, prefix)| mirrors::place(host, prefix));
        match places.collect::<Result<BTreeMap<_, _>, _>>() {
            Ok(paths) => self.read.layer.mirror_paths = fallback.paths.is_some().then_some(paths),
            Err(why) => self.reasons.push(format!("app_config.registry_fallback.paths: {why}")),
        }
        match fallback.peers.as_deref().map(mirrors::peer_list).transpose() {
            Ok(peers) => self.read.layer.mirror_peers = peers,
            Err(why) => self.reasons.push(format!("app_config.registry_fallback.peers: {why}")),
        }
        for (key, value) in &fallback.unknown {
            let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
            match (key.as_str(), text, self.origin) {
                // The shared rules refuse them in Ground Control's documents.
                ("host_root", Some(path), Origin::ConfigFile) => self.read.host_root = Some(path.into()),
                ("restart_command", Some(command), Origin::ConfigFile) => {
                    self.read.restart_command = Some(command.to_owned());
                }
                ("host_root" | "restart_command", _, _) => {}
                _ => self.warn(format!("app_config.registry_fallback.{key}: not honoured")),
            }
        }
    }

    fn registry(&mut self, registry: &RegistryConfig) {
        self.unknown("zot_config.", &registry.unknown);
        if let Some(storage) = &registry.storage {
            self.unknown("zot_config.storage.", &storage.unknown);
            self.read.layer.gc = storage.gc;
            self.read.layer.gc_grace = self.parse("zot_config.storage.gcDelay", &storage.gc_delay, positive);
            self.read.layer.gc_interval =
                self.parse("zot_config.storage.gcInterval", &storage.gc_interval, positive);
            match (said(&storage.root_directory), self.origin) {
                (Some(FIELD_ROOT_DIRECTORY) | None, _) => {}
                (Some(path), Origin::ConfigFile) => self.read.root_directory = Some(PathBuf::from(path)),
                (Some(path), Origin::Remote) => {
                    self.warn(format!("zot_config.storage.rootDirectory: `{path}` not taken, a store is never moved from afar"));
                }
            }
        }
        if let Some(http) = &registry.http {
            self.http(http);
        }
        if let Some(log) = &registry.log {
            self.unknown("zot_config.log.", &log.unknown);
            // One log for both; the program's own level comes first.
            let level = self.parse("zot_config.log.level", &log.level, LogLevel::from_str);
            self.read.layer.log_level = self.read.layer.log_level.or(level);
        }
    }

    fn http(&mut self, http: &RegistryHttp) {
        self.unknown("zot_config.http.", &http.unknown);
        // Taking the address and leaving out its guard would open what was meant to be closed.
        for (key, value) in [("tls", &http.tls), ("auth", &http.auth)] {
            if value.as_ref().is_some_and(|value| !is_empty(value)) {
                self.reasons.push(format!("zot_config.http.{key}: not supported yet"));
            }
        }
        let address = self.parse("zot_config.http.address", &http.address, |text| {
            if text == "localhost" {
                Ok(DEFAULT_LISTEN.ip())
            } else {
                text.parse().map_err(|_| "is no IP address".to_owned())
            }
        });
        let port = http.port.as_ref().and_then(fleet_protocol::config::Port::number);
        if address.is_none() && port.is_none() {
            return;
        }
        let mut address = address.unwrap_or(DEFAULT_LISTEN.ip());
        if !address.is_loopback() {
            self.warn(format!(
                "zot_config.http.address: `{address}` not taken, beyond loopback the local registry listens only where --registry-listen says so"
            ));
            address = DEFAULT_LISTEN.ip();
        }
        self.read.layer.listen = Some(SocketAddr::new(address, port.unwrap_or(DEFAULT_PORT)));
    }

    fn unknown(&mut self, prefix: &str, unknown: &Unknown) {
        for key in unknown.keys() {
            self.warn(format!("{prefix}{key}: not honoured"));
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.read.warnings.push(warning.into());
    }

    fn parse<T>(
        &mut self,
        key: &str,
        value: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = said(value)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                // The shared rules may have said so already.
                if !self.reasons.iter().any(|reason| reason.starts_with(key)) {
                    self.reasons.push(format!("{key}: `{text}` {why}"));
                }
                None
            }
        }
    }
}

/// A text that says something; in documents, empty is how nothing is written.
fn said(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn positive(text: &str) -> Result<Duration, String> {
    parse_go_duration(text).and_then(|duration| {
        if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
    })
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Object(object) => object.values().all(is_empty),
        serde_json::Value::Array(array) => array.is_empty(),
        serde_json::Value::String(text) => text.is_empty(),
        _ => false,
    }
}
