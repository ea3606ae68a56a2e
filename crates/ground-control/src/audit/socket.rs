//! Syslog to a socket of this machine (`/dev/log`): a message a datagram, or a line where the socket is a stream.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixDatagram, UnixStream};

use super::local::{LocalPlace, Messages};
use super::sink::SinkError;

/// How long a write may take while nobody reads.
const PATIENCE: Duration = Duration::from_secs(15);

/// A socket of this machine.
#[derive(Debug)]
pub(crate) struct LocalSocket(pub(crate) PathBuf);

#[async_trait]
impl LocalPlace for LocalSocket {
    type Open = Socket;

    async fn open(&self) -> Result<Socket, SinkError> {
        let socket = UnixDatagram::unbound()?;
        match socket.connect(&self.0) {
            Ok(()) => Ok(Socket::Datagram(socket)),
            // EPROTOTYPE: it is there, and of the other kind.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
                Ok(Socket::Stream(UnixStream::connect(&self.0).await?))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The open socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

#[async_trait]
impl Messages for Socket {
    async fn write(&mut self, messages: Vec<String>) -> Result<(), SinkError> {
        let sending = async {
            for message in messages {
                match self {
                    Self::Datagram(socket) => {
                        let _ = socket.send(message.as_bytes()).await?;
                    }
                    Self::Stream(stream) => stream.write_all(format!("{message}\n").as_bytes()).await?,
                }
            }
            Ok::<(), SinkError>(())
        };
        match tokio::time::timeout(PATIENCE, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(SinkError::Slow(PATIENCE)),
        }
    }
}
