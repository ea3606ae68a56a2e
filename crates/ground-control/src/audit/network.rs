//! Syslog over the network: UDP (RFC 5426), TCP (RFC 6587, octet counting) and TLS (RFC 5425).
//!
//! A server that refuses our certificate under TLS 1.3 says so after our handshake is done and our first rows are written:
//! so each connection is read, too, and what was written to one that ends is in doubt. A peer that has vanished without a
//! word is noticed by the system sooner than the doubt ends ([`UNACKNOWLEDGED`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::sink::{Connection, Sink, SinkError};
use super::syslog::{Header, counted};
use crate::domain::audit::Entry;

/// How long a connection, and a write, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// After this long without an acknowledgement the system gives a connection up: half of what is in doubt.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// What was written within this time may not have been read when a connection breaks.
const IN_DOUBT: Duration = Duration::from_secs(60);
/// For how long a server may refuse a certificate before rows are written to it.
const SETTLE: Duration = Duration::from_millis(300);

/// Which protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
    Tls(TlsFiles),
}

/// The files of TLS, read again for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Authorities of the server; the public ones where unset.
    pub(crate) authorities: Option<PathBuf>,
    /// Our certificate chain and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// A syslog server somewhere.
#[derive(Debug)]
pub(crate) struct NetworkSink {
    header: Header,
    protocol: Protocol,
    host: String,
    port: u16,
}

impl NetworkSink {
    pub(crate) fn new(tag: &str, protocol: Protocol, (host, port): (String, u16)) -> Self {
        Self { header: Header::new(tag), protocol, host, port }
    }

    async fn tcp(&self) -> Result<TcpStream, SinkError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(
            &stream,
            u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX),
        )
        .map_err(std::io::Error::from)?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(std::io::Error::from)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, UNACKNOWLEDGED / 3).map_err(std::io::Error::from)?;
        rustix::net::sockopt::set_tcp_keepintvl(&stream, UNACKNOWLEDGED / 6).map_err(std::io::Error::from)?;
        Ok(stream)
    }
}

#[async_trait]
impl Sink for NetworkSink {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn in_doubt(&self) -> Duration {
        if self.protocol == Protocol::Udp { Duration::ZERO } else { IN_DOUBT }
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, SinkError> {
        let connecting = async {
            Ok::<Box<dyn Connection>, SinkError>(match &self.protocol {
                Protocol::Udp => {
                    let mut addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
                    let address = addresses.next().ok_or_else(|| {
                        std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address")
                    })?;
                    let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                    let socket = UdpSocket::bind(any).await?;
                    socket.connect(address).await?;
                    Box::new(Datagrams { socket, header: self.header.clone() })
                }
                Protocol::Tcp => Box::new(Stream::new(self.tcp().await?, self.header.clone())),
                Protocol::Tls(files) => {
                    let config = client_config(files)?;
                    let name = ServerName::try_from(self.host.clone())
                        .map_err(|_| SinkError::Tls(format!("{:?} is no name of a server", self.host)))?;
                    let stream = TlsConnector::from(config).connect(name, self.tcp().await?).await?;
                    let mut stream = Stream::new(stream, self.header.clone());
                    if let Ok(refused) = tokio::time::timeout(SETTLE, stream.broken()).await {
                        return Err(refused);
                    }
                    Box::new(stream)
                }
            })
        };
        tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| SinkError::Slow(PATIENCE))?
    }
}

fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, SinkError> {
    let broken =
        |path: &Path, what: &dyn std::fmt::Display| SinkError::Tls(format!("{}: {what}", path.display()));
    let chain = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| broken(path, &error))
    };
    let mut roots = rustls::RootCertStore::empty();
    match &files.authorities {
        Some(path) => {
            for certificate in chain(path)? {
                roots.add(certificate).map_err(|error| broken(path, &error))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match &files.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| broken(key, &error))?;
            config
                .with_client_auth_cert(chain(certificate)?, private)
                .map_err(|error| broken(certificate, &error))?
        }
    };
    Ok(Arc::new(config))
}

/// UDP: best effort, a message a datagram.
struct Datagrams {
    socket: UdpSocket,
    header: Header,
}

#[async_trait]
impl Connection for Datagrams {
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError> {
        for row in rows {
            // Nobody listening is told by the datagram after; it is lost like any other.
            if let Err(error) = self.socket.send(self.header.message(row).as_bytes()).await
                && error.kind() != std::io::ErrorKind::ConnectionRefused
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn broken(&mut self) -> SinkError {
        std::future::pending().await
    }
}

/// TCP, with or without TLS.
struct Stream<S> {
    header: Header,
    writer: WriteHalf<S>,
    ended: oneshot::Receiver<SinkError>,
    reader: JoinHandle<()>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream<S> {
    fn new(stream: S, header: Header) -> Self {
        let (mut reading, writer) = tokio::io::split(stream);
        let (tell, ended) = oneshot::channel();
        // A syslog server says nothing: what comes is its end, or why it refuses us.
        let reader = tokio::spawn(async move {
            let mut scratch = [0; 256];
            let error = loop {
                match reading.read(&mut scratch).await {
                    Ok(0) => break SinkError::Closed,
                    Ok(_) => {}
                    Err(error) => break error.into(),
                }
            };
            let _ = tell.send(error);
        });
        Self { header, writer, ended, reader }
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for Stream<S> {
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError> {
        let mut frames = Vec::with_capacity(rows.len() * 512);
        for row in rows {
            counted(&mut frames, &self.header.message(row));
        }
        let writing = async {
            self.writer.write_all(&frames).await?;
            self.writer.flush().await
        };
        match tokio::time::timeout(PATIENCE, writing).await {
            Ok(Ok(())) => Ok(()),
            // Why it ended says more than that it cannot be written to.
            Ok(Err(error)) => Err(self.ended.try_recv().unwrap_or(SinkError::Io(error))),
            Err(_) => Err(SinkError::Slow(PATIENCE)),
        }
    }

    async fn broken(&mut self) -> SinkError {
        (&mut self.ended).await.unwrap_or(SinkError::Closed)
    }
}
