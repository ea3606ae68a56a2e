//! One connection of a satellite: HTTP/1.1 over mutual TLS, written down to the bytes.
//!
//! A general HTTP client for each of ten thousand satellites would measure itself. Between two requests a connection holds
//! no buffer of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// What is read at once.
const CHUNK: usize = 2048;

/// Where a satellite connects from and to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The server.
    pub(crate) to: SocketAddr,
    /// The address of the satellite, where it has one of its own.
    pub(crate) from: Option<Ipv4Addr>,
}

impl Route {
    /// The route of the satellite with this number: each has an address of its own within 127.0.0.0/8, as each site has one.
    /// So they do not share one range of ports, nor what the server allows to one address.
    pub(crate) fn of(to: SocketAddr, number: usize) -> Self {
        let number = u32::try_from(number % 0x00f0_0000).unwrap_or(0);
        let from = to.ip().is_loopback().then(|| Ipv4Addr::from(0x7f01_0000 + number));
        Self { to, from }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// For how long the server waited at most, where it says that it waits (`Preference-Applied: wait=N`).
    pub(crate) waited: Option<u32>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// Connects and makes the handshake.
    pub(crate) async fn open(route: Route, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = route.from {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(route.to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("gc").map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        Ok(Self { stream })
    }

    /// Sends a request in whole.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Waits for an answer in whole. Dropped before that, the connection is of no more use.
    pub(crate) async fn receive(&mut self) -> io::Result<Answer> {
        let mut answer = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            let length = self.stream.read(&mut chunk).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(chunk.get(..length).unwrap_or_default());
            if let Some(answer) = Answer::complete(&answer)? {
                return Ok(answer);
            }
            if answer.len() > MAX_ANSWER {
                return Err(io::Error::other("the answer is too long"));
            }
        }
    }

    /// Sends a request and waits for the answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request).await?;
        self.receive().await
    }
}

impl Answer {
    /// Reads an answer that is there in whole; `None` where more has to come.
    fn complete(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let bad = || io::Error::other("the answer is no HTTP/1.1");
        let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or_else(bad)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(bad)?;
        let (mut length, mut waited) = (0, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| bad())?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(io::Error::other("the answer is chunked, which this client does not read"));
            } else if name.eq_ignore_ascii_case("preference-applied") {
                waited = value.split(',').find_map(|one| one.trim().strip_prefix("wait=")?.parse().ok());
            }
        }
        let body = bytes.get(end + 4..).unwrap_or_default();
        if body.len() < length {
            return Ok(None);
        }
        Ok(Some(Self { status, waited, body: body.get(..length).unwrap_or_default().to_vec() }))
    }

    /// The answer where it is one of success, its text as the reason otherwise.
    pub(crate) fn success(self) -> Result<Self, String> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&self.body))),
        }
    }
}

/// A request with a JSON body; `wait`: for how long the server is asked to hold the answer back.
pub(crate) fn post(path: &str, body: &[u8], wait: Option<u32>) -> Vec<u8> {
    let wait = wait.map_or_else(String::new, |seconds| format!("Prefer: wait={seconds}\r\n"));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gc\r\nContent-Type: application/json\r\n{wait}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: gc\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\npreference-applied: wait=30\r\n\r\n{}";
        let answer = Answer { status: 200, waited: Some(30), body: b"{}".to_vec() };
        assert_eq!(Answer::complete(whole).unwrap(), Some(answer));
        assert_eq!(Answer::complete(&whole[..whole.len() - 1]).unwrap(), None);
        assert_eq!(Answer::complete(b"HTTP/1.1 200").unwrap(), None);
        let refused = Answer::complete(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap().unwrap();
        assert_eq!((refused.status, refused.waited), (401, None));
        assert!(refused.success().is_err());
        assert!(Answer::complete(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Answer::complete(b"no\r\n\r\n").is_err());
    }

    #[test]
    fn every_satellite_has_an_address_of_its_own() {
        let to = "127.0.0.1:1".parse().unwrap();
        let (first, later) = (Route::of(to, 0).from.unwrap(), Route::of(to, 70_000).from.unwrap());
        assert!(first != later && first.is_loopback() && later.is_loopback());
        assert_eq!(Route::of("192.0.2.1:1".parse().unwrap(), 1).from, None);
    }
}
