//! A server that says on the wire exactly what a test tells it to, true or not. Every answer has a connection
//! of its own, and every request is written down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for by `Range: bytes=N-`.
    pub(crate) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What happens after the answer's last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    /// The connection stays open and silent.
    Stall,
    /// The connection stays open and brings one byte again and again.
    Trickle,
}

/// An answer, byte for byte.
pub(crate) struct Reply {
    head: String,
    body: Vec<u8>,
    length: Option<usize>,
    silent: bool,
    end: End,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            head: format!("HTTP/1.1 {status} X\r\n"),
            body: Vec::new(),
            length: None,
            silent: false,
            end: End::Close,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The body; its true length is announced unless [`Reply::announce`] says otherwise.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Announces this length, whatever is sent.
    pub(crate) fn announce(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// Announces no length; the body says itself where it ends.
    pub(crate) fn without_length(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Sends only so many bytes of the body, with the whole length announced.
    pub(crate) fn cut(mut self, sent: usize) -> Self {
        self.length = self.length.or(Some(self.body.len()));
        self.body.truncate(sent);
        self
    }

    pub(crate) fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::status(status).header("Content-Type", "application/json").body(body)
    }

    /// A blob as a good registry serves it, from the asked offset on.
    pub(crate) fn blob(request: &Request, content: &[u8]) -> Self {
        match request.range() {
            Some(from) if from > 0 => Self::status(206)
                .header("Content-Range", &format!("bytes {from}-{}/{}", content.len() - 1, content.len()))
                .body(&content[from..]),
            _ => Self::status(200).body(content),
        }
    }

    async fn send(self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        let length = self.length.unwrap_or(self.body.len());
        let length = if self.silent { String::new() } else { format!("Content-Length: {length}\r\n") };
        let head = format!("{}{length}Connection: close\r\n\r\n", self.head);
        stream.write_all(head.as_bytes()).await?;
        if !head_only {
            stream.write_all(&self.body).await?;
        }
        stream.flush().await?;
        if self.end == End::Trickle {
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        if self.end == End::Stall {
            // Until the other side has had enough.
            let mut rest = [0_u8; 1024];
            while stream.read(&mut rest).await? > 0 {}
        }
        stream.shutdown().await
    }
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Hostile {
    pub(crate) address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hostile {
    /// Answers each request with what `answer` makes of it and of its number, from 0.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let server = Self { address, requests: requests.clone() };
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, requests) = (answer.clone(), requests.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else { return };
                    let number = {
                        let mut requests = requests.lock().unwrap();
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    let reply = answer(&request, number);
                    let _ = reply.send(&mut stream, request.method == "HEAD").await;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// `METHOD target`, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|r| format!("{} {}", r.method, r.target)).collect()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut buffer = [0_u8; 4096];
        let n = stream.read(&mut buffer).await.ok()?;
        if n == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        let mut buffer = vec![0_u8; 64 * 1024];
        let n = stream.read(&mut buffer).await.ok()?;
        if n == 0 {
            break;
        }
        body.extend_from_slice(&buffer[..n]);
    }
    Some(Request { method, target, headers, body })
}
