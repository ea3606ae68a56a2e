//! Syslog to a socket of this machine (`/dev/log`): a message a datagram, or a line where the socket is a stream.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixDatagram, UnixStream};

use super::sink::{Connection, Sink, SinkError};
use super::syslog::Header;
use crate::domain::audit::Entry;

/// How long a write may take while nobody reads.
const PATIENCE: Duration = Duration::from_secs(15);

/// A socket of this machine.
#[derive(Debug)]
pub(crate) struct SocketSink {
    header: Header,
    path: PathBuf,
}

impl SocketSink {
    pub(crate) fn new(tag: &str, path: PathBuf) -> Self {
        Self { header: Header::new(tag), path }
    }
}

#[async_trait]
impl Sink for SocketSink {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn is_local(&self) -> bool {
        true
    }

    /// A datagram that was taken is in the daemon's queue.
    fn in_doubt(&self) -> Duration {
        Duration::ZERO
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, SinkError> {
        let socket = UnixDatagram::unbound()?;
        let socket = match socket.connect(&self.path) {
            Ok(()) => Socket::Datagram(socket),
            // EPROTOTYPE: it is there, and of the other kind.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
                Socket::Stream(UnixStream::connect(&self.path).await?)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Box::new(Local { header: self.header.clone(), socket }))
    }
}

enum Socket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

struct Local {
    header: Header,
    socket: Socket,
}

#[async_trait]
impl Connection for Local {
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError> {
        let sending = async {
            for row in rows {
                let message = self.header.message(row);
                match &mut self.socket {
                    Socket::Datagram(socket) => {
                        let _ = socket.send(message.as_bytes()).await?;
                    }
                    Socket::Stream(stream) => stream.write_all(format!("{message}\n").as_bytes()).await?,
                }
            }
            Ok::<(), SinkError>(())
        };
        match tokio::time::timeout(PATIENCE, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(SinkError::Slow(PATIENCE)),
        }
    }

    async fn broken(&mut self) -> SinkError {
        std::future::pending().await
    }
}
