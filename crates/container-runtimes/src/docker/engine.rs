//! What a Docker Engine that runs has made of its file: `GET /info` of its API, over its Unix socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest that one answer may take; a busy engine counts its containers first.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// Asks an engine; tests have their own.
pub trait Engine {
    /// The mirrors of docker.io that the engine at this socket uses now; none where it cannot be asked.
    fn mirrors(&self, socket: &Path) -> Option<Vec<String>>;
}

/// The engine at a socket of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineSocket;

impl Engine for EngineSocket {
    fn mirrors(&self, socket: &Path) -> Option<Vec<String>> {
        parse(&ask(socket).ok()?)
    }
}

/// HTTP/1.0, so that the answer is neither chunked nor followed by another one.
fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if head.split_whitespace().nth(1) != Some("200") {
        return None;
    }
    let info: serde_json::Value = serde_json::from_str(body.trim()).ok()?;
    match info.get("RegistryConfig")?.get("Mirrors") {
        None | Some(serde_json::Value::Null) => Some(Vec::new()),
        Some(list) => serde_json::from_value(list.clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_mirrors() {
        let said = |body: &str| parse(format!("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{body}\n").as_bytes());
        let mirrors = said("{\"RegistryConfig\":{\"Mirrors\":[\"http://127.0.0.1:8585/\"]}}");
        assert_eq!(mirrors, Some(vec!["http://127.0.0.1:8585/".to_owned()]));
        assert_eq!(said("{\"RegistryConfig\":{\"Mirrors\":null}}"), Some(Vec::new()));
        assert_eq!(said("{}"), None);
        assert_eq!(parse(b"HTTP/1.0 500 no\r\n\r\n{\"RegistryConfig\":{}}"), None);
        assert_eq!(parse(b""), None);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(EngineSocket.mirrors(&folder.path().join("none.sock")), None);
    }
}
