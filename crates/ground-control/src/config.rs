//! Settings: read once from flags, environment and `.env`, checked, and then passed about as values.
//!
//! Nothing else in the program looks at the environment. [`Config::parse`] is a function of its arguments, so
//! tests feed it a map. A mistake of any kind — a value that does not parse, an unknown flag, settings that
//! contradict each other — ends the start and names the variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::FromArgMatches as _;
use clap::parser::ValueSource;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_server::listen::TrustedProxies;
use secrecy::{ExposeSecret as _, SecretString};

use crate::auth::PasswordPolicy;
use crate::store::Location;

mod action;
mod audit;
mod flags;
mod listen;
mod oidc;
mod registry;
mod spiffe;
mod value;

pub use action::Command;
pub use audit::{AuditConfig, SyslogConfig, SyslogNetwork, SyslogTarget};
use flags::{ActionFlags, Flags, variable_of};
pub use listen::{AdminListener, TlsFiles, WebListener};
pub use oidc::OidcConfig;
pub(crate) use oidc::is_secure;
pub use registry::{HarborConfig, HarborPassword, OciConfig, RegistryConfig};
pub use spiffe::{IdentitySource, SpiffeConfig, Spire, SpireAdmin};

const ROBOT_DAY: Duration = Duration::from_secs(24 * 3600);
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Settings that hold a secret: better in the environment or a file than on a command line that every
/// user of the machine can list.
const SECRETS: &[&str] = &["ADMIN_PASSWORD", "DATABASE_URL", "DB_PASSWORD", "HARBOR_PASSWORD"];

/// Why the program does not start, in words for whoever starts it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a mistake: help or version was asked for. Goes to standard output, exit code 0.
    #[error("{0}")]
    Information(String),
    /// A setting is wrong. Exit code 2.
    #[error("{0}")]
    Invalid(String),
}

impl ConfigError {
    fn of(variable: &str, what: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("{variable}: {what}"))
    }

    /// The process's exit code: 0 for help and version, 2 for a mistake.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Information(_) => 0,
            Self::Invalid(_) => 2,
        }
    }
}

/// Everything that the program was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to do.
    pub command: Command,
    /// The address to bind; port 0 is one that the system chooses.
    pub listen: SocketAddr,
    /// The central registry.
    pub registry: RegistryConfig,
    /// `PUBLIC_REGISTRY_URL` as given, without a slash at the end; see [`Config::public_url`].
    pub public_registry_url: Option<String>,
    /// How often each repository that a group names is looked at.
    pub sweep_interval: Duration,
    /// Certificate and key of the listener for those who know no SPIFFE: of [`Config::web`] where SPIFFE is on, of
    /// [`Config::listen`] otherwise; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// The second listener, beside one that shows an SVID.
    pub web: Option<WebListener>,
    /// Proxies that are believed about where connections and requests come from.
    pub trusted_proxies: TrustedProxies,
    /// The operators' listener.
    pub admin: Option<AdminListener>,
    /// Identities by SPIFFE.
    pub spiffe: Option<SpiffeConfig>,
    /// After how much silence a satellite is stale; `None`: three of its own intervals.
    pub stale_threshold: Option<Duration>,
    /// The age at which a robot's secret is to be renewed.
    pub robot_duration: Duration,
    /// Folder of database, registry and keys.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Location,
    /// File of the server key; in [`Config::data_dir`] if unset.
    pub secret_key_file: Option<PathBuf>,
    /// The first administrator's password.
    pub admin_password: Option<SecretString>,
    /// The file that holds it, otherwise.
    pub admin_password_file: Option<PathBuf>,
    /// Life of a login.
    pub session_duration: Duration,
    /// Length of a lockout after failed logins.
    pub lockout_duration: Duration,
    /// Requests a second that one account may send.
    pub api_rate_limit: u32,
    /// What a new password must be like.
    pub passwords: PasswordPolicy,
    /// Logins by OpenID Connect.
    pub oidc: Option<Box<OidcConfig>>,
    /// Where the audit is sent on to, and how much of it is kept.
    pub audit: AuditConfig,
    /// JSON logs; unset means JSON except on a terminal.
    pub json_logging: Option<bool>,
    /// The collector that gets spans, without a slash at the end.
    pub traces: Option<String>,
    /// Least level that is logged.
    pub log_level: tracing::Level,
    /// How long a stop waits for requests under way.
    pub shutdown_timeout: Duration,
    /// What is not wrong but should be said in the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the process's arguments and environment, and `.env` in the working directory.
    ///
    /// # Errors
    /// See [`ConfigError`]; a `.env` that is there and cannot be read is one too.
    pub fn from_process() -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                // A value that is not UTF-8 becomes one that no parser takes, instead of being ignored.
                Some((name, value.into_string().unwrap_or_else(|raw| raw.to_string_lossy().into_owned())))
            })
            .collect();
        let dotenv = read_dotenv(Path::new(".env"))?;
        Self::parse(std::env::args_os().skip(1), &variables, &dotenv)
    }

    /// Reads settings from arguments (without the program's name), environment and the content of `.env`.
    ///
    /// # Errors
    /// See [`ConfigError`]; the message begins with the variable's name where there is one to blame.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        variables: &BTreeMap<String, String>,
        dotenv: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let command = flags::command();
        let given = command
            .clone()
            .try_get_matches_from(std::iter::once(OsString::from("ground-control")).chain(arguments.clone()))
            .map_err(|error| clap_error(&error))?;

        // A variable becomes the flag that it stands for, unless that flag is there: one parser for both.
        let mut all = vec![OsString::from("ground-control")];
        let mut warnings = Vec::new();
        for argument in command.get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            let id = argument.get_id().as_str();
            if flag == "help" || flag == "version" || ActionFlags::ALL.contains(&id) {
                continue;
            }
            let variable = variable_of(id);
            if given.value_source(id) == Some(ValueSource::CommandLine) {
                if SECRETS.contains(&variable.as_str()) {
                    warnings.push(format!(
                        "--{flag} shows a secret to every user of this machine, use the variable {variable}"
                    ));
                }
                continue;
            }
            let set = |map: &BTreeMap<String, String>| map.get(&variable).filter(|v| !v.is_empty()).cloned();
            if let Some(value) = set(variables).or_else(|| set(dotenv)) {
                all.push(OsString::from(format!("--{flag}={value}")));
            }
        }
        all.extend(arguments);
        let matches = command.try_get_matches_from(all).map_err(|error| clap_error(&error))?;
        let flags = Flags::from_arg_matches(&matches).map_err(|error| clap_error(&error))?;
        Self::check(flags, warnings)
    }

    /// The rules that bind several settings together.
    fn check(flags: Flags, mut warnings: Vec<String>) -> Result<Self, ConfigError> {
        let spiffe = SpiffeConfig::check(flags.identity, &mut warnings)?;
        let unsecure = flags.use_unsecure.unwrap_or(false);
        let registry = RegistryConfig::check(flags.registry, spiffe.is_some(), unsecure, &mut warnings)?;
        let listeners = listen::check(
            listen::Settings {
                listen: flags.listen,
                port: flags.port,
                public_registry_url: flags.public_registry_url,
                web_listen: flags.web_listen,
                web_public_url: flags.web_public_url,
                certificate: flags.tls_cert_file,
                key: flags.tls_key_file,
                client_authorities: flags.tls_ca_file,
                unsecure,
                spiffe: spiffe.is_some(),
                registry_elsewhere: registry.is_elsewhere(),
            },
            &mut warnings,
        )?;
        let oidc = OidcConfig::check(flags.oidc, &mut warnings)?;
        let data_dir = flags.data_dir.unwrap_or_else(|| PathBuf::from("./ground-control-data"));
        let parts = flags.db_host.is_some()
            || flags.db_database.is_some()
            || flags.db_username.is_some()
            || flags.db_password.is_some();
        let database = match flags.database_url {
            Some(url) => {
                if parts {
                    warnings.push("DB_HOST and its kin have no effect beside DATABASE_URL".to_owned());
                }
                url.expose_secret()
                    .parse::<Location>()
                    .map_err(|error| ConfigError::of("DATABASE_URL", error))?
            }
            None if parts => {
                let need = |value: Option<String>, variable: &str| {
                    value.ok_or_else(|| ConfigError::of(variable, "needed beside the other DB_ settings"))
                };
                postgres(
                    &need(flags.db_host, "DB_HOST")?,
                    flags.db_port.unwrap_or(5432),
                    &need(flags.db_database, "DB_DATABASE")?,
                    &need(flags.db_username, "DB_USERNAME")?,
                    &flags.db_password.unwrap_or_default(),
                )
            }
            None if flags.db_port.is_some() => {
                return Err(ConfigError::of("DB_HOST", "needed beside DB_PORT"));
            }
            None => Location::Sqlite { file: data_dir.join("ground-control.db") },
        };
        if matches!(database, Location::Postgres { .. }) && flags.secret_key_file.is_none() {
            return Err(ConfigError::of(
                "SECRET_KEY_FILE",
                "needed with PostgreSQL, since every replica must use the same key; the first start makes it",
            ));
        }
        let passwords = PasswordPolicy {
            min_length: flags.password_min_length.unwrap_or(8),
            max_length: flags.password_max_length.unwrap_or(128),
            uppercase: flags.password_require_uppercase.unwrap_or(true),
            lowercase: flags.password_require_lowercase.unwrap_or(true),
            number: flags.password_require_number.unwrap_or(true),
            special: flags.password_require_special.unwrap_or(false),
        };
        if !(1..=1024).contains(&passwords.max_length) {
            return Err(ConfigError::of("PASSWORD_MAX_LENGTH", "must be between 1 and 1024"));
        }
        if passwords.min_length > passwords.max_length {
            return Err(ConfigError::of("PASSWORD_MIN_LENGTH", "is above PASSWORD_MAX_LENGTH"));
        }
        if let Some(password) = &flags.admin_password
            && let Err(rule) = passwords.check(password)
        {
            return Err(ConfigError::of("ADMIN_PASSWORD", rule));
        }
        if flags.admin_password.is_some() && flags.admin_password_file.is_some() {
            return Err(ConfigError::of(
                "ADMIN_PASSWORD",
                "set beside ADMIN_PASSWORD_FILE; leave one of them unset",
            ));
        }
        Ok(Self {
            command: action::check(flags.command, &flags.words, flags.action)?,
            registry,
            listen: listeners.listen,
            public_registry_url: listeners.public_registry_url,
            tls: listeners.tls,
            web: listeners.web,
            trusted_proxies: flags.trusted_proxies.unwrap_or_default(),
            admin: listen::admin(flags.admin_listen, &mut warnings),
            spiffe,
            stale_threshold: flags.fleet.stale_threshold,
            sweep_interval: flags.follow.sweep_interval.unwrap_or(SWEEP_INTERVAL),
            robot_duration: ROBOT_DAY * flags.fleet.robot_duration_days.unwrap_or(30),
            data_dir,
            database,
            secret_key_file: flags.secret_key_file,
            admin_password: flags.admin_password,
            admin_password_file: flags.admin_password_file,
            session_duration: flags.session_duration.unwrap_or(Duration::from_secs(24 * 3600)),
            lockout_duration: flags.lockout_duration.unwrap_or(Duration::from_secs(5 * 60)),
            api_rate_limit: flags.api_rate_limit.unwrap_or(500),
            passwords,
            oidc,
            audit: AuditConfig::check(flags.audit, unsecure, &mut warnings)?,
            traces: flags
                .otel_exporter_otlp_endpoint
                .map(|url| audit::collector("OTEL_EXPORTER_OTLP_ENDPOINT", &url, unsecure))
                .transpose()?,
            json_logging: flags.json_logging,
            log_level: flags.log_level.unwrap_or(tracing::Level::INFO),
            shutdown_timeout: flags.shutdown_timeout.unwrap_or(Duration::from_secs(30)),
            warnings,
        })
    }

    /// What satellites and clients are told of this server: `PUBLIC_REGISTRY_URL`, or the address that was
    /// bound. No slash at the end.
    pub fn public_url(&self, bound: SocketAddr) -> String {
        let secure = self.spiffe.is_some() || self.tls.is_some();
        match &self.public_registry_url {
            Some(url) => url.clone(),
            None => format!("{}://{bound}", if secure { "https" } else { "http" }),
        }
    }

    /// What clients of the second listener are told: `WEB_PUBLIC_URL`, or the address that was bound.
    pub fn web_url(&self, bound: SocketAddr) -> String {
        match self.web.as_ref().and_then(|web| web.public_url.clone()) {
            Some(url) => url,
            None => format!("{}://{bound}", if self.tls.is_some() { "https" } else { "http" }),
        }
    }
}

/// The URL of a PostgreSQL database given by its parts, each of which may hold any character.
fn postgres(host: &str, port: u16, database: &str, username: &str, password: &SecretString) -> Location {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (user, secret, name) = (encode(username), encode(password.expose_secret()), encode(database));
    let url = if host.starts_with('/') {
        // A folder is that of a socket.
        format!("postgres://{user}:{secret}@localhost:{port}/{name}?host={}", encode(host))
    } else if host.parse::<Ipv6Addr>().is_ok() {
        format!("postgres://{user}:{secret}@[{host}]:{port}/{name}")
    } else {
        format!("postgres://{user}:{secret}@{host}:{port}/{name}")
    };
    Location::Postgres { url: SecretString::from(url) }
}

/// The content of a `.env` file; empty where there is none.
fn read_dotenv(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let bad = |error: dotenvy::Error| {
        // The parser's message quotes the line, which may hold a password.
        let what = match error {
            dotenvy::Error::LineParse(_, position) => {
                format!("a line does not parse (at character {position})")
            }
            dotenvy::Error::Io(error) => error.to_string(),
            _ => "cannot be read".to_owned(),
        };
        ConfigError::of(".env", what)
    };
    match dotenvy::from_path_iter(path) {
        Ok(lines) => {
            // The first line of a name wins, as it does for programs that load the file into their environment.
            let mut all = BTreeMap::new();
            for line in lines {
                let (name, value) = line.map_err(bad)?;
                all.entry(name).or_insert(value);
            }
            Ok(all)
        }
        Err(error) if error.not_found() => Ok(BTreeMap::new()),
        Err(error) => Err(bad(error)),
    }
}

/// A clap error in our words: the variable first, then what is wrong.
fn clap_error(error: &clap::Error) -> ConfigError {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return ConfigError::Information(error.render().to_string());
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    match error.get(ContextKind::InvalidArg) {
        // `--session-duration <SESSION_DURATION>` holds the variable between its brackets.
        Some(ContextValue::String(argument)) => {
            let variable = argument.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            match variable {
                Some((variable, _)) => ConfigError::of(variable, text),
                None => ConfigError::Invalid(text.to_owned()),
            }
        }
        _ => ConfigError::Invalid(text.to_owned()),
    }
}
