//! Parsers of single values, each saying what it wanted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use identity::TrustDomain;
use identity::workload_api::Endpoint;
use secrecy::SecretString;

use crate::domain::identity::AutoRegister;
use crate::identity::Provider;

/// Whether there is a listener for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminListen {
    Off,
    At(SocketAddr),
}

/// What Go's `strconv.ParseBool` takes, since deployed installations were written for it.
pub(crate) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// A Go duration above zero (`90s`, `1h30m`).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = fleet_protocol::schedule::parse_go_duration(text)
        .map_err(|_| "not a duration, as 90s, 5m or 1h30m".to_owned())?;
    if duration.is_zero() {
        return Err("a duration above zero is needed".to_owned());
    }
    Ok(duration)
}

/// Whole days (`30d`), or a Go duration above zero.
pub(crate) fn days_or_duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    match days.filter(|days| *days > 0) {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        None => duration(text).map_err(|_| "not a duration above zero, as 30d, 72h or 90m".to_owned()),
    }
}

/// The name of a trust domain.
pub(crate) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    text.parse().map_err(|error: identity::IdError| error.to_string())
}

/// Where our own identity comes from.
pub(crate) fn provider(text: &str) -> Result<Provider, &'static str> {
    [Provider::Sidecar, Provider::Static, Provider::Builtin]
        .into_iter()
        .find(|provider| provider.as_str() == text)
        .ok_or("not one of sidecar, static, builtin")
}

/// What becomes of strangers.
pub(crate) fn auto_register(text: &str) -> Result<AutoRegister, &'static str> {
    match text {
        "allow" => Ok(AutoRegister::Allow),
        "approve" => Ok(AutoRegister::Approve),
        "deny" => Ok(AutoRegister::Deny),
        _ => Err("not one of allow, approve, deny"),
    }
}

/// The address of a Workload API.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|error: identity::workload_api::EndpointError| error.to_string())
}

/// The path of a socket, bare or behind `unix:`.
pub(crate) fn socket(text: &str) -> Result<PathBuf, &'static str> {
    // `unix:///run/s` and `unix:/run/s` mean the same.
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    if path.trim_matches('/').is_empty() || (path.len() < text.len() && !path.starts_with('/')) {
        return Err("not the path of a socket, as unix:///tmp/spire-server/private/api.sock");
    }
    Ok(PathBuf::from(path))
}

/// A host name or an IP address, without scheme and port.
pub(crate) fn host(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<std::net::IpAddr>().is_ok() || matches!(url::Host::parse(bare), Ok(url::Host::Domain(_)))
    {
        Ok(bare.to_owned())
    } else {
        Err("not a host name or an IP address; the port is SPIRE_SERVER_PORT")
    }
}

/// One of the five levels, in any case; `warning` is `warn`.
pub(crate) fn log_level(text: &str) -> Result<tracing::Level, &'static str> {
    crate::log::level(text).ok_or("not one of error, warn, info, debug, trace")
}

/// An address, or `off`.
pub(crate) fn admin_listen(text: &str) -> Result<AdminListen, &'static str> {
    match text {
        "off" => Ok(AdminListen::Off),
        address => address
            .parse()
            .map(AdminListen::At)
            .map_err(|_| "not an address and port, as 127.0.0.1:9090, and not off"),
    }
}

/// Any text, kept out of debug output from the first moment.
pub(crate) fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        assert!(boolean("yes").is_err());
    }

    #[test]
    fn days_are_durations_too() {
        assert_eq!(days_or_duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(days_or_duration("90m"), Ok(Duration::from_secs(5400)));
        for bad in ["0d", "-1d", "1.5d", "d", "30", ""] {
            assert!(days_or_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_of_sockets_are_read() {
        for good in ["unix:///run/a.sock", "unix:/run/a.sock", "tcp://127.0.0.1:8082"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["/run/a.sock", "tcp://agent:8082", "http://127.0.0.1:1"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        for text in ["unix:///run/s.sock", "unix:/run/s.sock", "/run/s.sock"] {
            assert_eq!(socket(text), Ok(PathBuf::from("/run/s.sock")), "{text}");
        }
        for bad in ["", "unix://", "unix://relative", "unix:relative"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_no_port() {
        assert_eq!(host("[::1]"), Ok("::1".to_owned()));
        assert_eq!(host("spire.example.com"), Ok("spire.example.com".to_owned()));
        for bad in ["spire.example.com:8081", "https://spire", "", "a b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_above_zero() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("0s").is_err());
        assert!(duration("5").is_err());
    }
}
