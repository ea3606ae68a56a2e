//! A satellite as its Ground Control sees it: one connection, one SVID, heartbeats.
//!
//! Written down to the bytes: a general HTTP client for each of a thousand satellites would measure itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_protocol::attestation::{AttestRequest, SvidAnswer};
use fleet_protocol::heartbeat::{CachedImage, Heartbeat};
use identity::key::KeyPair;
use identity::tls::{self, Expected};
use identity::{IdentityKeeper, SpiffeId, Svid, TrustBundle, TrustDomain};
use rustls::pki_types::ServerName;
use testbed::admin::Registered;
use testbed::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Images that each heartbeat tells of.
const IMAGES: usize = 20;
/// The longest that a satellite waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const MAX_ANSWER: usize = 16 * 1024;

/// A satellite with its SVID.
pub(super) struct Member {
    tls: Arc<rustls::ClientConfig>,
    request: Vec<u8>,
    /// The identity is good for as long as it is kept.
    _keeper: IdentityKeeper,
}

impl Member {
    /// Gets an SVID for a new key with the join token, over TLS that checks Ground Control's SVID.
    pub(super) async fn attest(url: &str, name: String, registered: &Registered) -> Result<Self> {
        let domain = TrustDomain::default();
        let ground_control = Expected::Exactly(SpiffeId::ground_control(&domain));
        let alpn: &[&[u8]] = &[b"http/1.1"];
        let bundle =
            TrustBundle::from_pem(domain.clone(), &registered.trust_bundle).map_err(|error| wrong(&error))?;
        let bootstrap = tls::bootstrap_client_config(bundle, ground_control.clone(), alpn)
            .map_err(|error| wrong(&error))?;
        let key = KeyPair::generate().map_err(|error| wrong(&error))?;
        let request = AttestRequest {
            join_token: registered.join_token.clone().into(),
            csr: key.csr_pem(None).map_err(|error| wrong(&error))?,
        };
        let url = format!("{url}/satellites/attest");
        let broken = |source| Error::Request { method: "POST".to_owned(), url: url.clone(), source };
        let http = reqwest::Client::builder().no_proxy().use_preconfigured_tls(bootstrap).build();
        let answer = http.map_err(broken)?.post(&url).timeout(PATIENCE).json(&request).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(broken)?;
        let answer: SvidAnswer = answer.json().await.map_err(broken)?;

        let svid = Svid::from_pem(&answer.svid, &key.to_pem()).map_err(|error| wrong(&error))?;
        let bundle = TrustBundle::from_pem(domain, &answer.trust_bundle).map_err(|error| wrong(&error))?;
        let (keeper, identity) = identity::identity();
        keeper.set(svid, bundle);
        let tls = tls::client_config(&identity, ground_control, alpn).map_err(|error| wrong(&error))?;
        Ok(Self { tls: Arc::new(tls), request: heartbeat(name)?, _keeper: keeper })
    }
}

fn heartbeat(name: String) -> Result<Vec<u8>> {
    let image = |number: usize| CachedImage {
        reference: format!("registry.example.com/bench/image-{number}:latest@sha256:{}", "a".repeat(64)),
        size_bytes: 50_000_000,
    };
    let body = serde_json::to_vec(&Heartbeat {
        name,
        activity: "idle".to_owned(),
        state_report_interval: "@every 00h00m30s".to_owned(),
        image_count: IMAGES as u64,
        cached_images: (0..IMAGES).map(image).collect(),
        ..Heartbeat::default()
    })
    .map_err(|error| wrong(&error))?;
    let head = format!(
        "POST /satellites/sync HTTP/1.1\r\nHost: gc\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.into_bytes(), body].concat())
}

/// A connection after its first heartbeat.
pub(super) struct Connected {
    /// From the first byte to the end of the handshake, as the client sees it.
    pub(super) handshake: Duration,
    /// From the first byte to the answer.
    pub(super) took: Duration,
    stream: TlsStream<TcpStream>,
    member: usize,
}

impl Connected {
    /// Connects every satellite at the same moment, each with a heartbeat.
    pub(super) async fn all(address: &str, members: &Arc<Vec<Member>>) -> Result<Vec<Self>> {
        Self::at_once(address, members, true).await
    }

    /// Connects every satellite at the same moment, and no more than that.
    pub(super) async fn handshakes(address: &str, members: &Arc<Vec<Member>>) -> Result<()> {
        Self::at_once(address, members, false).await.map(drop)
    }

    async fn at_once(address: &str, members: &Arc<Vec<Member>>, heartbeat: bool) -> Result<Vec<Self>> {
        let barrier = Arc::new(Barrier::new(members.len()));
        let mut tasks = JoinSet::new();
        for number in 0..members.len() {
            let (barrier, members) = (Arc::clone(&barrier), Arc::clone(members));
            let address = address.to_owned();
            tasks.spawn(async move {
                barrier.wait().await;
                tokio::time::timeout(PATIENCE, Self::one(&address, &members, number, heartbeat))
                    .await
                    .map_err(|_| wrong(&"a satellite waited too long for its answer"))?
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    async fn one(address: &str, members: &[Member], number: usize, heartbeat: bool) -> Result<Self> {
        let begin = Instant::now();
        let failed = Error::io(format!("satellite {number} cannot connect"));
        let member = members.get(number).ok_or_else(|| wrong(&"no such satellite"))?;
        let name = ServerName::try_from("gc").map_err(|error| wrong(&error))?;
        let stream = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(Arc::clone(&member.tls)).connect(name, stream).await
        };
        let stream = stream.await.map_err(failed)?;
        let handshake = begin.elapsed();
        let mut connected = Self { handshake, took: handshake, stream, member: number };
        if heartbeat {
            connected.heartbeat(members).await?;
            connected.took = begin.elapsed();
        }
        Ok(connected)
    }

    /// Sends a heartbeat and waits until it is accepted.
    pub(super) async fn heartbeat(&mut self, members: &[Member]) -> Result<()> {
        let failed = || Error::io(format!("the heartbeat of satellite {} broke off", self.member));
        let member = members.get(self.member).ok_or_else(|| wrong(&"no such satellite"))?;
        let (write, read) = (failed(), failed());
        self.stream.write_all(&member.request).await.map_err(write)?;
        self.stream.flush().await.map_err(failed())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 2048];
        let step = async {
            loop {
                if let Some(status) = complete(&answer) {
                    return Ok(status);
                }
                let length = self.stream.read(&mut chunk).await?;
                if length == 0 || answer.len() > MAX_ANSWER {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                answer.extend_from_slice(&chunk[..length]);
            }
        };
        match step.await.map_err(read)? {
            200 => Ok(()),
            _ => Err(wrong(&String::from_utf8_lossy(&answer))),
        }
    }
}

/// The status of an answer that is there in whole.
fn complete(answer: &[u8]) -> Option<u16> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    (answer.len() >= end + 4 + length).then(|| head.split(' ').nth(1)?.parse().ok())?
}

fn wrong(reason: &dyn std::fmt::Display) -> Error {
    Error::Content(format!("1,000 satellites: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(complete(whole), Some(200));
        assert_eq!(complete(&whole[..whole.len() - 1]), None);
        assert_eq!(complete(b"HTTP/1.1 401 Unauthorized\r\n\r\n"), Some(401));
        assert_eq!(complete(b"HTTP/1.1 200"), None);
    }
}
