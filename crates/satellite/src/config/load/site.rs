//! A satellite's settings, put together from its flags with their variables and its config file, and checked as a whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_protocol::config::ConfigDocument;
use oci::PlatformFilter;
use url::Url;

use super::{ConfigError, Environment, Origins};
use crate::config::flags::{Flags, variable};
use crate::config::layer::{self, Layer, Origin};
use crate::config::{Effective, Runtimes, Site, identity, lan, mirrors};
use crate::sealed::field;

const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_SCRUB_INTERVAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// A config file larger than this is none.
const MAX_CONFIG_FILE: u64 = 1024 * 1024;

pub(super) fn config_dir(flags: &Flags, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(given) = &flags.config_dir {
        return Ok(given.clone());
    }
    // XDG Base Directory Specification: a relative value is invalid and ignored.
    let absolute =
        |name| environment.get(name).map(|(value, _)| PathBuf::from(value)).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|base| base.join("satellite"))
        .ok_or_else(|| {
            ConfigError::of("CONFIG_DIR", "is unset, and so are XDG_CONFIG_HOME and HOME; give --config-dir")
        })
}

pub(super) fn site(
    mut flags: Flags,
    origins: &BTreeMap<String, Origins>,
    config_dir: PathBuf,
    control_socket: PathBuf,
) -> Result<Site, ConfigError> {
    if let Some(flag) = flags.not_supported_yet() {
        return Err(ConfigError::of(
            &format!("--{flag} ({})", variable(flag)),
            "not supported yet; unset it",
        ));
    }
    let mut warnings = Vec::new();
    for flag in ["token", "registry-password"] {
        if origins.get(flag) == Some(&Origins::Flag) {
            warnings.push(format!("--{flag} shows in the process list; set {} instead", variable(flag)));
        }
    }
    warnings.extend(flags.without_effect().map(|flag| format!("{} has no effect yet", variable(flag))));
    if origins.contains_key("config-dir") && config_dir.as_os_str().is_empty() {
        return Err(ConfigError::of("CONFIG_DIR", "is empty"));
    }

    let mut file = config_file(&config_dir.join(field::CONFIG_FILE))?;
    let spiffe = file.as_mut().and_then(|read| read.spiffe.take());
    let (identity, notes) =
        identity::settings(&mut flags, spiffe).map_err(|(name, why)| ConfigError::of(name, why))?;
    warnings.extend(notes);
    let said = Layer {
        ground_control_url: flags.ground_control_url,
        log_level: flags.log_level,
        use_unsecure: flags.use_unsecure,
        state_replication_interval: flags.state_replication_interval,
        register_satellite_interval: flags.register_satellite_interval,
        heartbeat_interval: flags.heartbeat_interval,
        referrer_interval: flags.referrers_interval,
        byo_registry: flags.byo_registry,
        registry_url: flags.registry_url,
        registry_username: flags.registry_username,
        registry_password: flags.registry_password,
        tls_ca_file: flags.tls_ca_file,
        tls_skip_verify: flags.tls_skip_verify,
        harbor_registry_url: flags.harbor_registry_url,
        listen: flags.registry_listen,
        gc_grace: flags.gc_grace,
        gc_interval: flags.gc_interval,
        mirrors: mirrors::of_flags(&flags.mirrors).map_err(|why| ConfigError::of("MIRRORS", why))?,
        mirror_peers: mirrors::peers(&flags.mirror_peer)
            .map_err(|why| ConfigError::of("MIRROR_PEER", why))?,
        mirror_paths: mirrors::places(&flags.mirror_path)
            .map(|places| (!places.is_empty()).then_some(places))
            .map_err(|why| ConfigError::of("MIRROR_PATH", why))?,
        direct_delivery: flags.direct_delivery,
        image_dir: flags.image_dir,
        image_platforms: flags.image_platforms,
        ..Layer::default()
    };
    let listen_unsecure = flags.lan.registry_listen_unsecure == Some(true);
    let local_namespaces = flags.lan.local_namespaces.clone().unwrap_or_default();
    let docker_mirror_listen = flags.lan.docker_mirror_listen;
    if let Some(address) =
        docker_mirror_listen.filter(|address| !address.ip().is_loopback() && !listen_unsecure)
    {
        return Err(ConfigError::of(
            "DOCKER_MIRROR_LISTEN",
            format!("{address} is beyond loopback, where it would be open"),
        ));
    }
    let (lan, notes) = lan::settings(flags.lan).map_err(|(name, why)| ConfigError::of(name, why))?;
    warnings.extend(notes);
    let mut registry_data_dir = flags.registry_data_dir;
    let (mut host_root, mut restart_command) = (flags.host_root, flags.restart_command);
    let mut layer = said;
    if let Some(read) = file {
        warnings
            .extend(read.warnings.into_iter().map(|warning| format!("{}: {warning}", field::CONFIG_FILE)));
        registry_data_dir = registry_data_dir.or(read.root_directory);
        host_root = host_root.or(read.host_root);
        restart_command = restart_command.or(read.restart_command);
        layer = layer.over(read.layer);
    }
    let site = Site {
        token: flags.token,
        identity,
        registry_data_dir: registry_data_dir.unwrap_or_else(|| config_dir.join("registry")),
        config_dir,
        control_socket,
        platforms: flags.platforms.unwrap_or_else(PlatformFilter::all),
        json_logging: flags.json_logging,
        traces: flags.otel_exporter_otlp_endpoint,
        shutdown_timeout: flags.shutdown_timeout.unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT),
        scrub_interval: flags.scrub_interval.unwrap_or(DEFAULT_SCRUB_INTERVAL),
        listen_unsecure,
        lan,
        kept_namespaces: local_namespaces.clone(),
        local_namespaces,
        docker_mirror_listen,
        runtimes: Runtimes {
            host_root: host_root.unwrap_or_else(|| PathBuf::from("/")),
            restart_command,
            leave_alone: flags.no_registry_fallback == Some(true),
            only_mirrors: flags.fallback_only == Some(true),
        },
        layer,
        warnings,
    };
    let effective = Effective::of(&site, &Layer::default());
    if site.runtimes.only_mirrors && effective.mirrors.as_ref().is_none_or(Vec::is_empty) {
        return Err(ConfigError::of("FALLBACK_ONLY", "needs mirrors to write: give --mirrors (MIRRORS)"));
    }
    let mut problems = layer::problems(&effective);
    problems.extend(layer::unreadable_files(&effective));
    if let Some(url) = &site.traces {
        check_collector(url, effective.use_unsecure).map_err(ConfigError::Usage)?;
    }
    if !problems.is_empty() {
        return Err(ConfigError::Usage(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        ));
    }
    Ok(site)
}

pub(super) fn config_file(path: &Path) -> Result<Option<layer::Read>, ConfigError> {
    let name = path.display();
    let unreadable = |error: io::Error| ConfigError::Usage(format!("{name}: cannot be read: {error}"));
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_CONFIG_FILE => {
            return Err(ConfigError::Usage(format!("{name}: is larger than 1 MiB, so it is no config file")));
        }
        Ok(_) => std::fs::read(path).map_err(unreadable)?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    if field::is_deployed(&bytes) {
        return Ok(None);
    }
    let document: ConfigDocument =
        serde_json::from_slice(&bytes).map_err(|error| ConfigError::Usage(format!("{name}: {error}")))?;
    layer::read(&document, Origin::ConfigFile)
        .map(Some)
        .map_err(|refusal| ConfigError::Usage(format!("{name}: {}", refusal.reasons.join("; "))))
}

/// Spans name the site and what it asks for: not in plain text over a network, unless somebody said so.
fn check_collector(url: &Url, use_unsecure: bool) -> Result<(), String> {
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" if url.has_host() => Ok(()),
        "http" if loopback || use_unsecure => Ok(()),
        "http" => {
            Err("OTEL_EXPORTER_OTLP_ENDPOINT: plain HTTP beyond loopback needs USE_UNSECURE=true".to_owned())
        }
        _ => {
            Err("OTEL_EXPORTER_OTLP_ENDPOINT: a URL as https://collector.example.com:4318 is needed"
                .to_owned())
        }
    }
}
