//! One connection to the server, made when it is needed and made anew when it broke or our SVID changed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use identity::tls::{Expected, TlsError, client_config};
use identity::{Current, Identity, SpiffeId, TrustDomain};
use rustls::pki_types::{IpAddr, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const ALPN: &[&[u8]] = &[b"h2"];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the server is, and who we are to it.
pub(super) enum Connection {
    Unix { path: PathBuf, channel: Channel },
    Tcp { host: String, port: u16, identity: Identity, tls: TlsConnector, made: Mutex<Option<Made>> },
}

/// A channel and the identity that it was made with.
pub(super) struct Made {
    with: Option<Arc<Current>>,
    channel: Channel,
}

impl Connection {
    pub(super) fn unix(path: PathBuf) -> Self {
        let target = path.clone();
        let channel = endpoint().connect_with_connector_lazy(service_fn(move |_| {
            let path = target.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        Self::Unix { path, channel }
    }

    pub(super) fn tcp(
        host: String,
        port: u16,
        identity: Identity,
        trust_domain: &TrustDomain,
    ) -> Result<Self, TlsError> {
        let expected = Expected::Exactly(SpiffeId::spire_server(trust_domain));
        let tls = TlsConnector::from(Arc::new(client_config(&identity, expected, ALPN)?));
        Ok(Self::Tcp { host, port, identity, tls, made: Mutex::new(None) })
    }

    /// Whether there is nothing to show, so that no handshake can succeed.
    pub(super) fn lacks_identity(&self) -> bool {
        matches!(self, Self::Tcp { identity, .. } if identity.current().is_none())
    }

    /// The channel to use for the next call. SPIRE's server judges the certificate of the handshake, so a channel that
    /// shows an SVID of the past is left to the calls that are on it.
    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Unix { channel, .. } => channel.clone(),
            Self::Tcp { host, port, identity, tls, made } => {
                let current = identity.current();
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                match made.as_ref() {
                    Some(made) if same(&made.with, &current) => made.channel.clone(),
                    _ => {
                        let channel = secured(host.clone(), *port, tls.clone());
                        *made = Some(Made { with: current, channel: channel.clone() });
                        channel
                    }
                }
            }
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

fn same(one: &Option<Arc<Current>>, other: &Option<Arc<Current>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn secured(host: String, port: u16, tls: TlsConnector) -> Channel {
    endpoint().connect_with_connector_lazy(service_fn(move |_| {
        let (host, tls) = (host.clone(), tls.clone());
        async move {
            let name = server_name(&host)?;
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            let stream: Box<dyn Stream> = Box::new(tls.connect(name, stream).await?);
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    }))
}

/// The name for SNI alone: who the server is, is a matter of its SPIFFE ID.
fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(ServerName::IpAddress(IpAddr::from(address))),
        Err(_) => ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host name"))),
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://spire-server")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(CONNECT_TIMEOUT)
}
