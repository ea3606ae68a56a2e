//! Where the audit is sent on to, and how much of it is kept.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::ConfigError;
use super::value;

/// What syslog servers listen on: plain, and under TLS (RFC 5426, RFC 5425).
const PORT: u16 = 514;
const TLS_PORT: u16 = 6514;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The audit.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditFlags {
    /// Send the audit on, to syslog and to AUDIT_OTEL_ENDPOINT. It is kept in the database in any case. Default: false.
    #[arg(long, help_heading = "Audit", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) audit_log_enabled: Option<bool>,

    /// With AUDIT_LOG_ENABLED: send it to syslog. Default: true.
    #[arg(long, help_heading = "Audit", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) audit_syslog_enabled: Option<bool>,

    /// Where syslog is: `file`, `socket` (AUDIT_SYSLOG_SOCKET_PATH) or `network` (AUDIT_SYSLOG_ADDRESS). Default: file.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_target: Option<String>,

    /// APP-NAME of the messages, at most 48 printable characters. Default: harbor-audit.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_tag: Option<String>,

    /// Socket of the syslog daemon of this machine. Default: /dev/log.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_socket_path: Option<PathBuf>,

    /// How AUDIT_SYSLOG_ADDRESS is spoken to: `udp` (messages may be lost), `tcp` or `tls`. Default: udp.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_network: Option<String>,

    /// Host of the syslog server, and its port (default 514, with TLS 6514).
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_address: Option<String>,

    /// Authorities (PEM) of the syslog server's certificate. Default: the public ones.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_tls_ca_file: Option<PathBuf>,

    /// Our certificate chain (PEM) for the syslog server; read again for each connection.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_tls_cert_file: Option<PathBuf>,

    /// Private key (PEM) of AUDIT_SYSLOG_TLS_CERT_FILE.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_tls_key_file: Option<PathBuf>,

    /// The file of AUDIT_SYSLOG_TARGET=file. Default: ./audit.log.
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_syslog_file_path: Option<PathBuf>,

    /// Size in MB at which another file is begun. Default: 100.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) audit_syslog_file_max_size_mb: Option<u32>,

    /// Earlier files that are kept; 0 keeps all. Default: 7.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) audit_syslog_file_max_backups: Option<u32>,

    /// Days for which earlier files are kept; 0 keeps all. Default: 30.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub(crate) audit_syslog_file_max_age_days: Option<u32>,

    /// Compress earlier files. Default: true.
    #[arg(long, help_heading = "Audit", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) audit_syslog_file_compress: Option<bool>,

    /// Collector (OTLP/HTTP) that gets the audit as log records (`https://collector.example.com:4318`).
    #[arg(long, help_heading = "Audit")]
    pub(crate) audit_otel_endpoint: Option<Url>,

    /// Superseded by TRUSTED_PROXIES, which says whose headers count.
    #[arg(long, help_heading = "Audit", hide = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = value::boolean)]
    pub(crate) audit_trust_forwarded_headers: Option<bool>,

    /// Rows that wait for a sink that is away; what is beyond is lost for it, and counted. Default: 100000.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) audit_sink_backlog: Option<u32>,

    /// Rows that are kept in the database. Default: 1000000.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) audit_retention_rows: Option<u32>,

    /// Days for which rows are kept in the database. Default: 365.
    #[arg(long, help_heading = "Audit", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) audit_retention_days: Option<u32>,
}

/// Where the audit is sent on to, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// Syslog, where it is sent there.
    pub syslog: Option<SyslogConfig>,
    /// The collector that gets log records, without a slash at the end.
    pub collector: Option<String>,
    /// Rows that may wait for a sink.
    pub backlog: u64,
    /// Rows that are kept.
    pub retention_rows: u64,
    /// For how long rows are kept.
    pub retention: Duration,
}

/// Syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogConfig {
    /// APP-NAME.
    pub tag: String,
    /// Where it is.
    pub target: SyslogTarget,
}

/// Where syslog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTarget {
    /// A file that is rotated.
    File {
        /// The file.
        path: PathBuf,
        /// The size, in bytes, at which another is begun.
        max_size: u64,
        /// Earlier ones that are kept; 0 keeps all.
        max_backups: u32,
        /// For how long earlier ones are kept; zero keeps all.
        max_age: Duration,
        /// Whether earlier ones are compressed.
        compress: bool,
    },
    /// A socket of this machine.
    Socket(PathBuf),
    /// A server.
    Network {
        /// How it is spoken to.
        network: SyslogNetwork,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// How a syslog server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogNetwork {
    /// RFC 5426.
    Udp,
    /// RFC 6587, octet counting.
    Tcp,
    /// RFC 5425.
    Tls {
        /// Authorities of the server.
        authorities: Option<PathBuf>,
        /// Our certificate chain and its key.
        client: Option<(PathBuf, PathBuf)>,
    },
}

impl AuditConfig {
    pub(super) fn check(
        flags: AuditFlags,
        unsecure: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let enabled = flags.audit_log_enabled.unwrap_or(false);
        if flags.audit_trust_forwarded_headers == Some(true) {
            return Err(ConfigError::of(
                "AUDIT_TRUST_FORWARDED_HEADERS",
                "headers count from TRUSTED_PROXIES alone; set that instead",
            ));
        }
        let collector =
            flags.audit_otel_endpoint.as_ref().map(|url| collector("AUDIT_OTEL_ENDPOINT", url, unsecure));
        let (backlog, rows, days) =
            (flags.audit_sink_backlog, flags.audit_retention_rows, flags.audit_retention_days);
        // Looked at where it is off, too: a mistake is found when it is made.
        let syslog = SyslogConfig::check(flags, warnings)?;
        let (wanted, syslog) = syslog;
        let collector = collector.transpose()?;
        if !enabled && (wanted || collector.is_some()) {
            warnings.push("the audit is not sent on: AUDIT_LOG_ENABLED is not true".to_owned());
        }
        Ok(Self {
            syslog: syslog.filter(|_| enabled),
            collector: collector.filter(|_| enabled),
            backlog: u64::from(backlog.unwrap_or(100_000)),
            retention_rows: u64::from(rows.unwrap_or(1_000_000)),
            retention: DAY * days.unwrap_or(365),
        })
    }
}

/// A collector's URL, without a slash at the end. Plain HTTP shows names and addresses to the network.
pub(super) fn collector(variable: &str, url: &Url, unsecure: bool) -> Result<String, ConfigError> {
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => {
            return Err(ConfigError::of(variable, "a URL as https://collector.example.com:4318 is needed"));
        }
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback || unsecure => {}
        "http" => {
            return Err(ConfigError::of(variable, "plain HTTP beyond loopback needs USE_UNSECURE=true"));
        }
        _ => return Err(ConfigError::of(variable, "a URL of http or https is needed")),
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(ConfigError::of(variable, "takes no credentials and no query"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

impl SyslogConfig {
    /// Whether anything was said of it, and what there is.
    fn check(flags: AuditFlags, warnings: &mut Vec<String>) -> Result<(bool, Option<Self>), ConfigError> {
        let wanted = flags.audit_syslog_target.is_some() || flags.audit_syslog_address.is_some();
        if flags.audit_syslog_enabled == Some(false) {
            return Ok((false, None));
        }
        let tag = flags.audit_syslog_tag.unwrap_or_else(|| "harbor-audit".to_owned());
        if !(1..=48).contains(&tag.len()) || !tag.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ConfigError::of(
                "AUDIT_SYSLOG_TAG",
                "1 to 48 printable ASCII characters without spaces are needed",
            ));
        }
        let tls = [
            ("AUDIT_SYSLOG_TLS_CA_FILE", flags.audit_syslog_tls_ca_file.is_some()),
            ("AUDIT_SYSLOG_TLS_CERT_FILE", flags.audit_syslog_tls_cert_file.is_some()),
            ("AUDIT_SYSLOG_TLS_KEY_FILE", flags.audit_syslog_tls_key_file.is_some()),
        ];
        let target = flags.audit_syslog_target.as_deref().unwrap_or("file");
        let network = flags.audit_syslog_network.as_deref().unwrap_or("udp");
        if !["udp", "tcp", "tls"].contains(&network) {
            return Err(ConfigError::of("AUDIT_SYSLOG_NETWORK", "not one of udp, tcp, tls"));
        }
        if !(target == "network" && network == "tls")
            && let Some((variable, _)) = tls.iter().find(|(_, set)| *set)
        {
            return Err(ConfigError::of(
                variable,
                "only with AUDIT_SYSLOG_TARGET=network and AUDIT_SYSLOG_NETWORK=tls",
            ));
        }
        let target = match target {
            "file" => SyslogTarget::File {
                path: flags.audit_syslog_file_path.unwrap_or_else(|| PathBuf::from("./audit.log")),
                max_size: u64::from(flags.audit_syslog_file_max_size_mb.unwrap_or(100)) * 1_000_000,
                max_backups: flags.audit_syslog_file_max_backups.unwrap_or(7),
                max_age: DAY * flags.audit_syslog_file_max_age_days.unwrap_or(30),
                compress: flags.audit_syslog_file_compress.unwrap_or(true),
            },
            "socket" => SyslogTarget::Socket(
                flags.audit_syslog_socket_path.unwrap_or_else(|| PathBuf::from("/dev/log")),
            ),
            "network" => {
                let address = flags.audit_syslog_address.ok_or_else(|| {
                    ConfigError::of("AUDIT_SYSLOG_ADDRESS", "needed with AUDIT_SYSLOG_TARGET=network")
                })?;
                let (host, port) = address_of(&address)?;
                let (network, usual) = match network {
                    "tls" => {
                        let client = match (flags.audit_syslog_tls_cert_file, flags.audit_syslog_tls_key_file)
                        {
                            (Some(certificate), Some(key)) => Some((certificate, key)),
                            (None, None) => None,
                            (Some(_), None) => {
                                return Err(ConfigError::of(
                                    "AUDIT_SYSLOG_TLS_KEY_FILE",
                                    "needed beside AUDIT_SYSLOG_TLS_CERT_FILE",
                                ));
                            }
                            (None, Some(_)) => {
                                return Err(ConfigError::of(
                                    "AUDIT_SYSLOG_TLS_CERT_FILE",
                                    "needed beside AUDIT_SYSLOG_TLS_KEY_FILE",
                                ));
                            }
                        };
                        (SyslogNetwork::Tls { authorities: flags.audit_syslog_tls_ca_file, client }, TLS_PORT)
                    }
                    "tcp" => (SyslogNetwork::Tcp, PORT),
                    _ => (SyslogNetwork::Udp, PORT),
                };
                if !matches!(network, SyslogNetwork::Tls { .. }) && flags.audit_log_enabled == Some(true) {
                    warnings.push(format!(
                        "the audit goes to {host} in plain text; AUDIT_SYSLOG_NETWORK=tls protects it"
                    ));
                }
                SyslogTarget::Network { network, host, port: port.unwrap_or(usual) }
            }
            _ => return Err(ConfigError::of("AUDIT_SYSLOG_TARGET", "not one of file, socket, network")),
        };
        Ok((wanted, Some(Self { tag, target })))
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn address_of(text: &str) -> Result<(String, Option<u16>), ConfigError> {
    let bad =
        || ConfigError::of("AUDIT_SYSLOG_ADDRESS", "a host and a port as logs.example.com:6514 are needed");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, host, port) in [
            ("logs.example.com", "logs.example.com", None),
            ("10.0.0.1:1514", "10.0.0.1", Some(1514)),
            ("[::1]:514", "::1", Some(514)),
            ("[2001:db8::1]", "2001:db8::1", None),
        ] {
            assert_eq!(address_of(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for bad in ["", ":514", "host:0", "host:x", "host:70000", "[::1", "[::1]514", "a b", "udp://host"] {
            assert!(address_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn collectors_are_reached_under_tls_or_nearby() {
        let read = |text: &str, unsecure| collector("OTEL", &text.parse().unwrap(), unsecure);
        assert_eq!(read("https://otel.example.com:4318/", false).unwrap(), "https://otel.example.com:4318");
        read("http://127.0.0.1:4318", false).unwrap();
        read("http://[::1]:4318/prefix", false).unwrap();
        read("http://otel.example.com:4318", true).unwrap();
        for bad in
            ["http://otel.example.com:4318", "grpc://otel:4317", "https://u:p@otel", "https://otel?a=b"]
        {
            assert!(read(bad, false).is_err(), "{bad}");
        }
    }
}
