//! The command line: every setting of Ground Control, documented where it is defined.
//!
//! Each flag has one environment variable and each variable one flag: `--session-duration` is
//! `SESSION_DURATION`, and so for all of them. The variable's name is what the help shows as the flag's
//! value, so that a message about a value always names the variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use identity::TrustDomain;
use identity::workload_api::Endpoint;
use registry_server::listen::TrustedProxies;
use secrecy::SecretString;
use url::Url;

use super::audit::AuditFlags;
use super::value;
use crate::domain::external::RoleMap;
use crate::domain::identity::AutoRegister;
use crate::identity::Provider;

/// The word that says what the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Verb {
    /// Serve the API, the built-in registry and the satellites' routes until a signal comes.
    #[default]
    Serve,
    /// Write every state document to the registry again from the database, then exit.
    Republish,
    /// Write database, built-in registry and, sealed, the server key to one file (`--to`), beside the running server; with
    /// `verify FILE`, check such a file.
    Backup,
    /// Put back what a backup (`--from`) holds; the server must not run.
    Restore,
    /// Ask the running server, at ADMIN_LISTEN, whether requests may be sent to it: exit code 0, or 1 and why not.
    Health,
}

/// What belongs to one command alone: no setting of the server, and so without a variable.
#[derive(Debug, clap::Args)]
pub(crate) struct ActionFlags {
    /// With backup: the file to make, `-` for standard output. It must not be there yet.
    #[arg(long, value_name = "FILE", help_heading = "Backup and restore")]
    pub(crate) to: Option<PathBuf>,

    /// With restore: the file to read, `-` for standard input.
    #[arg(long, value_name = "FILE", help_heading = "Backup and restore")]
    pub(crate) from: Option<PathBuf>,

    /// With backup: take the server key along, sealed under the passphrase in this file (12 characters at least). With restore:
    /// open it, and put it to SECRET_KEY_FILE where none is.
    #[arg(long, value_name = "FILE", help_heading = "Backup and restore")]
    pub(crate) key_passphrase_file: Option<PathBuf>,

    /// With restore: set aside what is there, which is kept in a folder beside it.
    #[arg(long, help_heading = "Backup and restore")]
    pub(crate) replace: bool,
}

impl ActionFlags {
    /// Their identifiers.
    pub(crate) const ALL: &[&str] = &["to", "from", "key_passphrase_file", "replace"];
}

/// The control plane of Harbor Satellite: satellites, groups, configs, and the built-in central registry.
#[derive(Debug, Parser)]
#[command(
    name = "ground-control",
    version,
    args_override_self = true,
    after_help = "Every flag has an environment variable: the name in angle brackets. \
                  Precedence: flag, environment, .env in the working directory, default. \
                  An empty variable is an unset one."
)]
pub(crate) struct Flags {
    /// What to do.
    #[arg(value_enum, default_value = "serve", value_name = "COMMAND")]
    pub(crate) command: Verb,

    /// Of the command: `verify FILE` after backup.
    #[arg(value_name = "ARGUMENT", hide = true, num_args = 0..)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) action: ActionFlags,

    /// Address and port to listen on (`127.0.0.1:8080`); port 0 takes a free one and logs it.
    #[arg(long, help_heading = "Listening")]
    pub(crate) listen: Option<SocketAddr>,

    /// Port to listen on, on all interfaces; LISTEN is the more exact form and wins over it.
    #[arg(long, help_heading = "Listening")]
    pub(crate) port: Option<u16>,

    /// URL under which satellites and people reach this registry (`https://gc.example.com`); state documents
    /// hold it. Default: the listening address; required if that is a wildcard.
    #[arg(long, help_heading = "Listening")]
    pub(crate) public_registry_url: Option<String>,

    /// Allow plain HTTP to and from places beyond this machine's loopback.
    #[arg(long, help_heading = "Listening", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) use_unsecure: Option<bool>,

    /// Address and port for all that know no SPIFFE, beside LISTEN: people, clients of the registry, satellites with
    /// tokens. Under TLS_CERT_FILE, or plain on loopback. Only with SPIFFE_SERVER_ENABLED.
    #[arg(long, help_heading = "Listening")]
    pub(crate) web_listen: Option<SocketAddr>,

    /// URL under which WEB_LISTEN is reached. Default: the address; required if that is a wildcard.
    #[arg(long, help_heading = "Listening")]
    pub(crate) web_public_url: Option<String>,

    /// Proxies in front of LISTEN and WEB_LISTEN that are believed about where connections and requests come from: networks
    /// and addresses with commas between them (`10.0.0.0/8,192.0.2.7`). From them the PROXY protocol (version 2, in front of
    /// TLS) and the headers X-Forwarded-For and Forwarded count, from nobody else. Default: none.
    #[arg(long, help_heading = "Listening")]
    pub(crate) trusted_proxies: Option<TrustedProxies>,

    /// Certificate chain (PEM) of the listener (with SPIFFE: of WEB_LISTEN); read again when the file changes. Needs
    /// TLS_KEY_FILE.
    #[arg(long, help_heading = "TLS")]
    pub(crate) tls_cert_file: Option<PathBuf>,

    /// Private key (PEM) of TLS_CERT_FILE; read again when the file changes.
    #[arg(long, help_heading = "TLS")]
    pub(crate) tls_key_file: Option<PathBuf>,

    /// Authorities (PEM) of client certificates; a client may come without one, but not with a false one.
    #[arg(long, help_heading = "TLS")]
    pub(crate) tls_ca_file: Option<PathBuf>,

    /// Folder of the database file, the built-in registry and the keys. Default: `./ground-control-data`.
    #[arg(long, help_heading = "Storage")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Database: `sqlite:///path/file.db` or `postgres://user:password@host/database?sslmode=verify-full`.
    /// Default: a SQLite file in DATA_DIR.
    #[arg(long, help_heading = "Storage", value_parser = value::secret)]
    pub(crate) database_url: Option<SecretString>,

    /// PostgreSQL host; with it the other DB_ settings hold, unless DATABASE_URL is set.
    #[arg(long, help_heading = "Storage")]
    pub(crate) db_host: Option<String>,

    /// PostgreSQL port. Default: 5432.
    #[arg(long, help_heading = "Storage")]
    pub(crate) db_port: Option<u16>,

    /// PostgreSQL database name.
    #[arg(long, help_heading = "Storage")]
    pub(crate) db_database: Option<String>,

    /// PostgreSQL user name.
    #[arg(long, help_heading = "Storage")]
    pub(crate) db_username: Option<String>,

    /// PostgreSQL password; any character is taken as it is.
    #[arg(long, help_heading = "Storage", value_parser = value::secret)]
    pub(crate) db_password: Option<SecretString>,

    /// File with the server's secret key; made (mode 0600) at the first start. Default: `secret.key` in DATA_DIR;
    /// required with PostgreSQL. Who loses it loses every robot's credentials.
    #[arg(long, help_heading = "Storage")]
    pub(crate) secret_key_file: Option<PathBuf>,

    /// Address and port of the operators' listener: metrics, health, the log's level. It knows no login: anybody who
    /// reaches it may ask. `off` turns it off. Default: 127.0.0.1:9090, without it where that is taken.
    #[arg(long, help_heading = "Listening", value_parser = value::admin_listen)]
    pub(crate) admin_listen: Option<value::AdminListen>,

    /// Password of the first administrator, `admin`, used only while the database has no user; afterwards a
    /// change has no effect. Generated and printed once if unset.
    #[arg(long, help_heading = "People", value_parser = value::secret)]
    pub(crate) admin_password: Option<SecretString>,

    /// File with that password, in the place of ADMIN_PASSWORD; read while the database has no user, and not needed afterwards.
    #[arg(long, help_heading = "People")]
    pub(crate) admin_password_file: Option<PathBuf>,

    /// How long a login lasts. Default: 24h.
    #[arg(long, help_heading = "People", value_parser = value::duration)]
    pub(crate) session_duration: Option<Duration>,

    /// How long a name is locked for a source after too many failed logins. Default: 5m.
    #[arg(long, help_heading = "People", value_parser = value::duration)]
    pub(crate) lockout_duration: Option<Duration>,

    /// Requests a second that one account may send to the API of one replica, ten times as many at once. Default: 500.
    #[arg(long, help_heading = "People", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) api_rate_limit: Option<u32>,

    /// Shortest password. Default: 8.
    #[arg(long, help_heading = "People")]
    pub(crate) password_min_length: Option<usize>,

    /// Longest password. Default: 128.
    #[arg(long, help_heading = "People")]
    pub(crate) password_max_length: Option<usize>,

    /// A password needs an upper-case letter. Default: true.
    #[arg(long, help_heading = "People", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) password_require_uppercase: Option<bool>,

    /// A password needs a lower-case letter. Default: true.
    #[arg(long, help_heading = "People", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) password_require_lowercase: Option<bool>,

    /// A password needs a digit. Default: true.
    #[arg(long, help_heading = "People", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) password_require_number: Option<bool>,

    /// A password needs a character that is neither letter nor digit. Default: false.
    #[arg(long, help_heading = "People", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) password_require_special: Option<bool>,

    #[command(flatten)]
    pub(crate) oidc: OidcFlags,

    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    #[command(flatten)]
    pub(crate) follow: FollowFlags,

    #[command(flatten)]
    pub(crate) fleet: FleetFlags,

    #[command(flatten)]
    pub(crate) identity: IdentityFlags,

    #[command(flatten)]
    pub(crate) audit: AuditFlags,

    /// Log as JSON, one object a line. Default: true, but text on a terminal.
    #[arg(long, help_heading = "Logging", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) json_logging: Option<bool>,

    /// Least level that is logged: error, warn, info, debug or trace. Default: info.
    #[arg(long, help_heading = "Logging", value_parser = value::log_level)]
    pub(crate) log_level: Option<tracing::Level>,

    /// Collector (OTLP/HTTP) that gets spans of requests and jobs (`https://collector.example.com:4318`). Default: none.
    #[arg(long, help_heading = "Logging")]
    pub(crate) otel_exporter_otlp_endpoint: Option<Url>,

    /// How long a stop waits for requests under way. Default: 30s.
    #[arg(long, help_heading = "Listening", value_parser = value::duration)]
    pub(crate) shutdown_timeout: Option<Duration>,
}

/// The central registry.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryFlags {
    /// Where state documents and images are kept: `builtin` (the registry inside this program), `harbor` (by the HARBOR_
    /// settings) or `oci` (any other, by the OCI_ settings; it serves satellites with an SVID only, so SPIFFE_SERVER_ENABLED
    /// must be true). Default: harbor where HARBOR_URL is set, else builtin.
    #[arg(long, help_heading = "Registry")]
    pub(crate) registry_backend: Option<String>,

    /// URL of Harbor (2.12 to 2.16), as satellites reach it, too (`https://harbor.example.com`). Plain HTTP beyond loopback
    /// needs USE_UNSECURE.
    #[arg(long, help_heading = "Registry")]
    pub(crate) harbor_url: Option<String>,

    /// Account at Harbor that makes projects and robots and publishes: an administrator, or a robot of system level by its
    /// full name. It is never handed out.
    #[arg(long, help_heading = "Registry")]
    pub(crate) harbor_username: Option<String>,

    /// Its password or secret; better in HARBOR_PASSWORD_FILE.
    #[arg(long, help_heading = "Registry", value_parser = value::secret)]
    pub(crate) harbor_password: Option<SecretString>,

    /// File with its password; read again when it changes.
    #[arg(long, help_heading = "Registry")]
    pub(crate) harbor_password_file: Option<PathBuf>,

    /// Authorities (PEM) of Harbor's certificate, besides the public ones.
    #[arg(long, help_heading = "Registry")]
    pub(crate) harbor_ca_file: Option<PathBuf>,

    /// URL of this server as Harbor reaches it with its webhooks (`https://gc.example.com`).
    #[arg(long, help_heading = "Registry")]
    pub(crate) harbor_webhook_url: Option<String>,

    /// Start without asking how Harbor is doing. Default: false.
    #[arg(long, help_heading = "Registry", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) skip_harbor_health_check: Option<bool>,

    /// URL of the registry of REGISTRY_BACKEND=oci, as satellites reach it, too (`https://registry.example.com`). Plain HTTP
    /// beyond loopback needs USE_UNSECURE.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_registry_url: Option<String>,

    /// Account there that writes below `satellite/`; where it may delete, too, superseded documents are removed. It is
    /// never handed out.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_push_username: Option<String>,

    /// File with its password; read again when it changes.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_push_password_file: Option<PathBuf>,

    /// Account there that all satellites are given; it should be able to read, and nothing else. Must not be the one that
    /// pushes.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_pull_username: Option<String>,

    /// File with its password; read again each time that it is handed out, and a change is announced to the satellites.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_pull_password_file: Option<PathBuf>,

    /// Authorities (PEM) of the registry's certificate, besides the public ones.
    #[arg(long, help_heading = "Registry")]
    pub(crate) oci_ca_file: Option<PathBuf>,
}

/// Groups that follow the registry.
#[derive(Debug, clap::Args)]
pub(crate) struct FollowFlags {
    /// How often the registry is asked what the groups' tags and rules stand for, and what refers to it, beside what it
    /// tells by itself. Default: 10m.
    #[arg(long, help_heading = "Registry", value_parser = value::duration)]
    pub(crate) sweep_interval: Option<Duration>,
}

/// Logins by OpenID Connect.
#[derive(Debug, clap::Args)]
pub(crate) struct OidcFlags {
    /// The identity provider (`https://id.example.com/realms/ops`), exactly as it names itself. People then log in at
    /// `/auth/oidc/login`, too.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_issuer: Option<String>,

    /// Our client there: confidential, code flow, with the redirect URI `PUBLIC_URL/auth/oidc/callback`.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_client_id: Option<String>,

    /// File with the client's secret; read again when it changes.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_client_secret_file: Option<PathBuf>,

    /// The claim that tells the role: a text or a list; dots lead into objects (`realm_access.roles`). Default: groups.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_role_claim: Option<String>,

    /// What its values mean (`platform-admins=system_admin,ops=admin,everyone=viewer`; semicolons separate where values hold
    /// commas). The highest role counts; who has none is refused.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_role_map: Option<RoleMap>,

    /// Scopes that are asked for. Default: `openid profile email`.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_scopes: Option<String>,

    /// Authorities (PEM) of the provider's certificate, besides the public ones.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) oidc_ca_file: Option<PathBuf>,

    /// URL under which browsers reach this server (`https://gc.example.com`); required with OIDC_ISSUER. Never taken from a
    /// request.
    #[arg(long, help_heading = "OpenID Connect")]
    pub(crate) public_url: Option<String>,
}

/// What is expected of satellites.
#[derive(Debug, clap::Args)]
pub(crate) struct FleetFlags {
    /// After how much silence a satellite is stale. Default: three of its own heartbeat intervals.
    #[arg(long, help_heading = "Satellites", value_parser = value::duration)]
    pub(crate) stale_threshold: Option<Duration>,

    /// Age in days at which a satellite is asked to fetch fresh registry credentials; at Harbor, how long robots live at a time.
    /// Default: 30.
    #[arg(long, help_heading = "Satellites", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) robot_duration_days: Option<u32>,
}

/// Identities by SPIFFE.
#[derive(Debug, clap::Args)]
pub(crate) struct IdentityFlags {
    /// Identities by SPIFFE: LISTEN shows an X.509-SVID and takes those of satellites. Default: false.
    #[arg(long, help_heading = "SPIFFE", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) spiffe_server_enabled: Option<bool>,

    /// The trust domain. Default: `harbor-satellite.local`.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::trust_domain)]
    pub(crate) spiffe_trust_domain: Option<TrustDomain>,

    /// Where this server's own SVID comes from: `sidecar` (the Workload API), `static` (files) or `builtin` (the built-in
    /// authority). Default: what the other settings ask for, `builtin` where they ask for nothing.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::provider)]
    pub(crate) spiffe_provider: Option<Provider>,

    /// The Workload API (`unix:///run/spire/sockets/agent.sock`).
    #[arg(long, help_heading = "SPIFFE", value_parser = value::endpoint)]
    pub(crate) spiffe_endpoint_socket: Option<Endpoint>,

    /// X.509-SVID (PEM chain) of the provider `static`; read again when the file changes.
    #[arg(long, help_heading = "SPIFFE")]
    pub(crate) spiffe_cert_file: Option<PathBuf>,

    /// Private key (PEM) of SPIFFE_CERT_FILE.
    #[arg(long, help_heading = "SPIFFE")]
    pub(crate) spiffe_key_file: Option<PathBuf>,

    /// Authorities (PEM) of the trust domain, for the provider `static`.
    #[arg(long, help_heading = "SPIFFE")]
    pub(crate) spiffe_bundle_file: Option<PathBuf>,

    /// What becomes of a valid identity that nobody registered: `allow` (registered, without groups), `approve` (waits for
    /// an administrator) or `deny`. Default: allow.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::auto_register)]
    pub(crate) auto_register: Option<AutoRegister>,

    /// For how long after its end an SVID of the built-in authority still renews (`30d`, `72h`). Default: 30d.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::days_or_duration)]
    pub(crate) svid_renewal_grace: Option<Duration>,

    /// Admin API of a SPIRE server (`unix:///tmp/spire-server/private/api.sock`), through which satellites are registered.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::socket)]
    pub(crate) spire_server_socket: Option<PathBuf>,

    /// Host of the SPIRE server as agents reach it; dialled with our SVID, too, where SPIRE_SERVER_SOCKET is unset. With the
    /// built-in authority: the host under which agents reach its own listener.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::host)]
    pub(crate) spire_server_address: Option<String>,

    /// Port of SPIRE_SERVER_ADDRESS, and of the built-in authority's listener for agents. Default: 8081.
    #[arg(long, help_heading = "SPIFFE")]
    pub(crate) spire_server_port: Option<u16>,

    /// Address of the built-in authority's listener for agents. Default: 127.0.0.1.
    #[arg(long, help_heading = "SPIFFE")]
    pub(crate) spire_bind_address: Option<IpAddr>,

    /// The same as SPIFFE_TRUST_DOMAIN.
    #[arg(long, help_heading = "SPIFFE", value_parser = value::trust_domain)]
    pub(crate) spire_trust_domain: Option<TrustDomain>,
}

/// The variable of a flag's identifier.
pub(crate) fn variable_of(id: &str) -> String {
    id.to_ascii_uppercase().replace('-', "_")
}

/// The whole command line.
pub(crate) fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Flags::command()
}
