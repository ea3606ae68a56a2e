//! gRPC over a runtime's Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// How long a connection to a socket of this machine may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Lists of a node's images are the largest answers; the kubelet takes as much.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// How much of a runtime's message is told on.
const LONGEST_MESSAGE: usize = 500;

/// Why a runtime did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Nobody answers at its socket.
    #[error("the container runtime does not answer at {socket}: {why}")]
    Unreachable {
        /// The socket.
        socket: String,
        /// What came instead.
        why: String,
    },
    /// It answered, and refused.
    #[error("{call}: {message}")]
    Refused {
        /// What it was asked for.
        call: &'static str,
        /// What it says, shortened.
        message: String,
        /// The status as gRPC has it.
        code: Code,
    },
    /// It takes too long.
    #[error("{call}: no answer within {} s", .limit.as_secs())]
    Slow {
        /// What it was asked for.
        call: &'static str,
        /// How long was waited.
        limit: Duration,
    },
}

impl CallError {
    /// Whether what was asked about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }

    /// Whether it knows no such call.
    pub(crate) fn is_unknown_call(&self) -> bool {
        matches!(self, Self::Refused { code: Code::Unimplemented, .. })
    }
}

/// A way to one socket. Connects when it is used, and again where the runtime was restarted.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    path: PathBuf,
    channel: Channel,
}

impl Socket {
    pub(crate) fn new(path: &Path) -> Self {
        let at = path.to_owned();
        let connect = service_fn(move |_| {
            let at = at.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(at).await?)) }
        });
        let endpoint = Endpoint::from_static("http://runtime").connect_timeout(CONNECT);
        Self { path: path.to_owned(), channel: endpoint.connect_with_connector_lazy(connect) }
    }

    pub(crate) async fn call<Asked, Answer>(
        &self,
        call: &'static str,
        request: Request<Asked>,
        limit: Duration,
    ) -> Result<Answer, CallError>
    where
        Asked: prost::Message + Default + Send + Sync + 'static,
        Answer: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        let asked = async {
            let unready = |error: tonic::transport::Error| Status::unavailable(innermost(&error));
            grpc.ready().await.map_err(unready)?;
            let codec = ProstCodec::<Asked, Answer>::default();
            grpc.unary(request, PathAndQuery::from_static(call), codec).await
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.error(call, &status)),
            Err(_) => Err(CallError::Slow { call: name_of(call), limit }),
        }
    }

    fn error(&self, call: &'static str, status: &Status) -> CallError {
        let message = shortened(status.message());
        if status.code() == Code::Unavailable {
            return CallError::Unreachable { socket: self.path.display().to_string(), why: message };
        }
        CallError::Refused { call: name_of(call), message, code: status.code() }
    }
}

/// The method alone.
fn name_of(call: &'static str) -> &'static str {
    call.rsplit_once('/').map_or(call, |(_, name)| name)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
