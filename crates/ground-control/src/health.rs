//! The running server's readiness, asked from a second process of the same settings: what watches containers has nothing else
//! that it could run in an image of one program.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::Config;

/// How long the answer may take: longer than the server gives its database, shorter than who asks is used to wait.
const PATIENCE: Duration = Duration::from_secs(8);
/// The most bytes of an answer.
const LARGEST: usize = 64 * 1024;

/// Why no requests should be sent to the server.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is nobody to ask.
    #[error("ADMIN_LISTEN: off, and health is asked there")]
    Off,
    /// No answer.
    #[error("ADMIN_LISTEN: no answer at {address}: {cause}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What went wrong.
        cause: String,
    },
    /// The server says so itself, in its own words.
    #[error("{0}")]
    NotReady(String),
}

/// Asks the operators' listener of the server that runs with these settings, on this machine.
///
/// # Errors
/// [`HealthError`], unless it is ready.
pub async fn ask(config: &Config) -> Result<(), HealthError> {
    let address = reachable(config.admin.as_ref().ok_or(HealthError::Off)?.listen);
    let silent = |cause: String| HealthError::Silent { address, cause };
    let answer = tokio::time::timeout(PATIENCE, answer(address)).await;
    let answer = answer.map_err(|_| silent(format!("none within {} s", PATIENCE.as_secs())))?;
    match answer.map_err(|error| silent(error.to_string()))? {
        (StatusCode::OK, _) => Ok(()),
        (_, said) => Err(HealthError::NotReady(String::from_utf8_lossy(&said).trim_end().to_owned())),
    }
}

/// One plain request, by which no certificates are looked for: an image of one program has none.
async fn answer(address: SocketAddr) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::get("/ready").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head.status, Limited::new(body, LARGEST).collect().await?.to_bytes()))
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
