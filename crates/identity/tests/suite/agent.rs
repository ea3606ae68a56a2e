//! A Workload API that says what a test tells it to (SPIFFE Workload API, section 5; the messages by hand).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use identity::TrustBundle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

use crate::ca::Issued;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509SvidRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub(crate) federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) hint: String,
}

impl X509Svid {
    pub(crate) fn new(id: &str, issued: &Issued, bundle: &TrustBundle) -> Self {
        Self {
            spiffe_id: id.to_owned(),
            x509_svid: issued.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: issued.key.serialize_der(),
            bundle: bundle.authorities.iter().flat_map(|der| der.to_vec()).collect(),
            hint: String::new(),
        }
    }
}

/// What the agent says, now and until it is told otherwise.
#[derive(Clone)]
pub(crate) enum Says {
    /// These SVIDs.
    Svids(Vec<X509Svid>),
    /// The process is nobody.
    Denied,
}

/// An agent that runs; [`Agent::stop`] ends it and every stream of it.
pub(crate) struct Agent {
    says: watch::Sender<Says>,
    opened: watch::Receiver<usize>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Agent {
    /// Serves on a unix socket that must not be there yet.
    pub(crate) fn on_socket(path: &Path, says: Says) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let incoming = stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        Self::serve(incoming, says)
    }

    /// Serves on a free port of this host; answers the address.
    pub(crate) async fn on_port(says: Says) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let incoming = stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        (Self::serve(incoming, says), address)
    }

    fn serve<C>(incoming: impl Stream<Item = io::Result<C>> + Send + 'static, says: Says) -> Self
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (sender, says) = watch::channel(says);
        let stop = CancellationToken::new();
        let (count, opened) = watch::channel(0);
        let service = Workload { says, opened: count, stop: stop.clone() };
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            let serving = Server::builder().add_service(service);
            serving.serve_with_incoming_shutdown(Box::pin(incoming), stopped).await.unwrap();
        });
        Self { says: sender, opened, stop, server }
    }

    pub(crate) fn says(&self, says: Says) {
        self.says.send_replace(says);
    }

    /// Waits until so many further streams have been opened.
    pub(crate) async fn asked_again(&mut self, times: usize) {
        let until = *self.opened.borrow() + times;
        self.opened.wait_for(|opened| *opened >= until).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap();
    }
}

#[derive(Clone)]
struct Workload {
    says: watch::Receiver<Says>,
    opened: watch::Sender<usize>,
    stop: CancellationToken,
}

impl NamedService for Workload {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

type Answers = Pin<Box<dyn Stream<Item = Result<X509SvidResponse, Status>> + Send>>;

impl ServerStreamingService<X509SvidRequest> for Workload {
    type Response = X509SvidResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<X509SvidRequest>) -> Self::Future {
        let Self { mut says, opened, stop } = self.clone();
        Box::pin(async move {
            // SPIFFE Workload Endpoint, section 5: it keeps requests out that a browser was tricked into.
            if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
                return Err(Status::invalid_argument("security header missing from request"));
            }
            opened.send_modify(|opened| *opened += 1);
            says.mark_changed();
            let answers = stream::unfold(Some((says, stop)), |state| async move {
                let (mut says, stop) = state?;
                tokio::select! {
                    changed = says.changed() => changed.ok()?,
                    () = stop.cancelled() => return None,
                }
                let answer = says.borrow_and_update().clone();
                match answer {
                    Says::Svids(svids) => {
                        Some((Ok(X509SvidResponse { svids, ..Default::default() }), Some((says, stop))))
                    }
                    Says::Denied => Some((Err(Status::permission_denied("no identity issued")), None)),
                }
            });
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

impl<B> Service<http::Request<B>> for Workload
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/SpiffeWorkloadAPI/FetchX509SVID" {
                return Ok(Status::unimplemented("not this one").into_http());
            }
            let mut grpc = Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.server_streaming(service, request).await)
        })
    }
}
