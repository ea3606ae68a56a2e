//! A runtime's CRI: the kubelet's interface (k8s.io/cri-api), over a Unix socket. Whether it answers, and its images.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

mod images;

pub use images::{CriImages, NodeImage, RuntimeVersion};

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The present version of the interface, and the one that containerd before 1.6 has.
const VERSION: [&str; 2] = ["/runtime.v1.RuntimeService/Version", "/runtime.v1alpha2.RuntimeService/Version"];

/// Asks a CRI; tests have their own.
pub trait Cri {
    /// Whether there is one that answers.
    fn answers(&self, socket: &Path) -> bool;
}

/// The CRI at a socket of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CriSocket;

#[derive(Clone, PartialEq, prost::Message)]
struct VersionRequest {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
    #[prost(string, tag = "4")]
    runtime_api_version: String,
}

impl Cri for CriSocket {
    fn answers(&self, socket: &Path) -> bool {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return false;
        };
        runtime.block_on(async {
            let asked = tokio::time::timeout(LIMIT, version(socket.to_owned())).await;
            asked.is_ok_and(|answer| answer.is_ok())
        })
    }
}

async fn version(socket: PathBuf) -> Result<VersionResponse, Status> {
    let connect = service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    let channel = Endpoint::from_static("http://cri").connect_with_connector_lazy(connect);
    let mut grpc = Grpc::new(channel);
    let mut last = Status::unavailable("not asked");
    for path in VERSION {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<VersionRequest, VersionResponse>::default();
        let request = Request::new(VersionRequest { version: "0.1.0".to_owned() });
        match grpc.unary(request, PathAndQuery::from_static(path), codec).await {
            Ok(answer) => return Ok(answer.into_inner()),
            // A containerd whose CRI plugin did not load knows neither.
            Err(status) if status.code() == Code::Unimplemented => last = status,
            Err(status) => return Err(status),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_listens_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!CriSocket.answers(&folder.path().join("none.sock")));
        let silent = std::os::unix::net::UnixListener::bind(folder.path().join("s.sock")).unwrap();
        drop(silent);
        assert!(!CriSocket.answers(&folder.path().join("s.sock")));
    }
}
