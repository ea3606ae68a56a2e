//! A wire between two programs that knows nothing of what it carries, TLS for example: it slows, breaks, and loses
//! answers on demand.
//!
//! What [`crate::proxy`] does to plain HTTP this does to bytes. An answer is what the server says after the client has
//! spoken twice: with TLS 1.3 its first words are the handshake, the second ones the end of it and the request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::{Error, Result};

/// Bytes that go out at once where the speed is limited.
const PIECE: usize = 8 * 1024;

/// How long the server may go on talking after its answer was lost, before its connection ends too.
const DEAF: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Rules {
    bytes_per_second: Option<u64>,
    free_at: Option<Instant>,
    unreachable: bool,
    /// Connections that are to be broken after this many bytes of answers.
    lose_after: u64,
    /// How many more connections lose their answer.
    lose: u32,
    /// How many did.
    lost: u32,
}

#[derive(Debug)]
struct State {
    server: String,
    rules: Mutex<Rules>,
    connections: AtomicU64,
    carried: AtomicU64,
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running link. It ends with its handle.
#[derive(Debug)]
pub struct Link {
    state: Arc<State>,
    address: String,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Starts a link to a server at `host:port`.
    pub async fn start(server: &str) -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("cannot listen for the link"))?;
        let address = listener.local_addr().map_err(Error::io("the link has no address"))?.to_string();
        let state = Arc::new(State {
            server: server.to_owned(),
            rules: Mutex::default(),
            connections: AtomicU64::new(0),
            carried: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { state, address, task })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Bytes that went to clients so far.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Limits what goes to clients, all together; `None` takes the limit away.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        let mut rules = self.state.rules();
        rules.bytes_per_second = bytes_per_second;
        rules.free_at = None;
    }

    /// Has the next `times` connections lose what the server answers beyond `after` bytes, the handshake not counted.
    /// The server gets every request, and its answers go nowhere.
    pub fn lose_answers(&self, after: u64, times: u32) {
        let mut rules = self.state.rules();
        (rules.lose_after, rules.lose) = (after, times);
    }

    /// How many connections lost an answer so far.
    pub fn lost(&self) -> u32 {
        self.state.rules().lost
    }

    /// Refuses new connections and breaks those that are there at their next byte, as a network that is gone.
    pub fn unreachable(&self) {
        self.state.rules().unreachable = true;
    }

    /// Takes all faults back; the speed stays.
    pub fn heal(&self) {
        let mut rules = self.state.rules();
        (rules.unreachable, rules.lose) = (false, 0);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the link: the set aborts them when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if state.rules().unreachable {
            continue;
        }
        state.connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // A connection that breaks is what the link is for.
            let _ = carry(client, &state).await;
        });
    }
}

async fn carry(client: TcpStream, state: &State) -> std::io::Result<()> {
    let server = TcpStream::connect(&state.server).await?;
    // Small messages go out as they come, as they would without the link.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let turns = AtomicU64::new(0);
    tokio::select! {
        ended = up(from_client, to_server, state, &turns) => ended?,
        ended = down(from_server, to_client, state, &turns) => return ended,
    }
    Ok(())
}

/// Counts as a turn each time that one side speaks after the other: even ones are the client's.
fn turn(turns: &AtomicU64, server: bool) -> u64 {
    let now = turns.load(Ordering::Relaxed);
    let whose = now % 2 == 1;
    if whose == server {
        return now;
    }
    turns.store(now + 1, Ordering::Relaxed);
    now + 1
}

async fn up(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    turns: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = client.read(&mut buffer).await?;
        if length == 0 || state.rules().unreachable {
            return Ok(());
        }
        turn(turns, false);
        server.write_all(&buffer[..length]).await?;
    }
}

async fn down(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    state: &State,
    turns: &AtomicU64,
) -> std::io::Result<()> {
    let (mut buffer, mut answered) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let length = server.read(&mut buffer).await?;
        if length == 0 || state.rules().unreachable {
            return client.shutdown().await;
        }
        // 0 the client's first words, 1 the handshake, 2 the request, 3 the answer.
        let room = if turn(turns, true) >= 3 {
            let mut rules = state.rules();
            let room = usize::try_from(rules.lose_after.saturating_sub(answered)).unwrap_or(usize::MAX);
            answered += length as u64;
            let loses = rules.lose > 0 && room < length;
            rules.lose -= u32::from(loses);
            rules.lost += u32::from(loses);
            loses.then_some(room)
        } else {
            None
        };
        for piece in buffer[..room.unwrap_or(length)].chunks(PIECE) {
            pace(state, piece.len()).await;
            client.write_all(piece).await?;
            state.carried.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        if room.is_some() {
            // The server is heard out, so that it has done all it would have done.
            let rest = async {
                while server.read(&mut buffer).await? > 0 {}
                std::io::Result::Ok(())
            };
            return tokio::time::timeout(DEAF, rest).await.unwrap_or(Ok(()));
        }
    }
}

async fn pace(state: &State, length: usize) {
    let due = {
        let mut rules = state.rules();
        let Some(speed) = rules.bytes_per_second else { return };
        let now = Instant::now();
        let start = rules.free_at.filter(|at| *at > now).unwrap_or(now);
        let due = start + Duration::from_secs_f64(length as f64 / speed.max(1) as f64);
        rules.free_at = Some(due);
        due
    };
    tokio::time::sleep_until(due.into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every line with itself.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        stream.write_all(&buffer[..length]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_to_be_lost_is_lost_once() {
        let link = Link::start(&echo().await).await.unwrap();
        link.lose_answers(2, 1);
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"handshake").await.unwrap(), b"handshake");
        assert!(ask(&mut stream, b"request").await.is_err());
        assert_eq!(link.lost(), 1);
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"handshake").await.unwrap(), b"handshake");
        assert_eq!(ask(&mut stream, b"request").await.unwrap(), b"request");
        link.unreachable();
        assert!(ask(&mut stream, b"anybody").await.is_err());
    }
}
