//! The running server's readiness, asked from a second process of the same settings: what watches containers has nothing else
//! that it could run in an image of one program.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::config::Config;
use crate::server::chain;

/// How long the answer may take: longer than the server gives its database, shorter than who asks is used to wait.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why no requests should be sent to the server.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is nobody to ask.
    #[error("ADMIN_LISTEN: off, and health is asked there")]
    Off,
    /// No answer.
    #[error("ADMIN_LISTEN: no answer at {address}: {}", chain(.source))]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The server says so itself.
    #[error("{0}")]
    NotReady(Value),
}

/// Asks the operators' listener of the server that runs with these settings, on this machine.
///
/// # Errors
/// [`HealthError`], unless it is ready.
pub async fn ask(config: &Config) -> Result<(), HealthError> {
    let address = reachable(config.admin.as_ref().ok_or(HealthError::Off)?.listen);
    let silent = |source| HealthError::Silent { address, source };
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(silent)?;
    let answer = client.get(format!("http://{address}/ready")).send().await.map_err(silent)?;
    let is_ready = answer.status().is_success();
    let said = answer.json().await.map_err(silent)?;
    if is_ready { Ok(()) } else { Err(HealthError::NotReady(said)) }
}

/// Where a listener of every address is found.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("127.0.0.2:1", "127.0.0.2:1"),
            ("192.0.2.7:9090", "192.0.2.7:9090"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
