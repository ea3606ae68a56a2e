//! The gRPC service over those messages.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::messages::{Empty, X509BundlesResponse, X509Svid, X509SvidResponse};
use super::{Handed, State};

/// Every call carries it, so that nobody is tricked into calling by a request to a web page.
const SECURITY_HEADER: &str = "workload.spiffe.io";

pub(super) async fn serve(listener: UnixListener, state: Arc<State>) {
    let incoming = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    // It ends with its task only; a connection that breaks is its client's affair.
    let _ = tonic::transport::Server::builder()
        .add_service(WorkloadService { state })
        .serve_with_incoming(Box::pin(incoming))
        .await;
}

#[derive(Clone)]
struct WorkloadService {
    state: Arc<State>,
}

impl NamedService for WorkloadService {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl Service<http::Request<Body>> for WorkloadService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/SpiffeWorkloadAPI/FetchX509SVID" => {
                    let mut grpc = Grpc::new(ProstCodec::<X509SvidResponse, Empty>::default());
                    grpc.server_streaming(Watch { state, answer: svids }, request).await
                }
                "/SpiffeWorkloadAPI/FetchX509Bundles" => {
                    let mut grpc = Grpc::new(ProstCodec::<X509BundlesResponse, Empty>::default());
                    grpc.server_streaming(Watch { state, answer: bundles }, request).await
                }
                _ => Status::unimplemented("the stand-in serves X.509 only").into_http(),
            })
        })
    }
}

/// A stream with one answer for each state of things.
struct Watch<T> {
    state: Arc<State>,
    answer: fn(&Handed) -> T,
}

impl<T: Send + 'static> ServerStreamingService<Empty> for Watch<T> {
    type Response = T;
    type ResponseStream = Pin<Box<BoxStream<'static, Result<T, Status>>>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        let (state, answer) = (Arc::clone(&self.state), self.answer);
        Box::pin(async move {
            if request.metadata().get(SECURITY_HEADER).is_none_or(|value| value != "true") {
                state.unguarded.fetch_add(1, Ordering::Relaxed);
                return Err(Status::invalid_argument("security header missing from request"));
            }
            state.opened.fetch_add(1, Ordering::Relaxed);
            let mut handed = state.handed.subscribe();
            handed.mark_changed();
            // The sender lives in the state, which the stream keeps: a watch never ends by itself.
            let stream = futures_util::stream::unfold(Some((handed, state)), move |watching| async move {
                let (mut handed, state) = watching?;
                handed.changed().await.ok()?;
                let present = handed.borrow_and_update().clone();
                Some(match present {
                    Some(present) => (Ok(answer(&present)), Some((handed, state))),
                    None => (Err(Status::permission_denied("no identity issued")), None),
                })
            });
            Ok(Response::new(Box::pin(stream.boxed())))
        })
    }
}

fn svids(handed: &Handed) -> X509SvidResponse {
    let svid = X509Svid {
        spiffe_id: handed.svid.spiffe_id.clone(),
        x509_svid: handed.svid.certificate.clone(),
        x509_svid_key: handed.svid.key.clone(),
        bundle: handed.bundle.concat(),
        hint: String::new(),
    };
    X509SvidResponse { svids: vec![svid], crl: Vec::new(), federated_bundles: HashMap::new() }
}

fn bundles(handed: &Handed) -> X509BundlesResponse {
    let id = handed.svid.spiffe_id.strip_prefix("spiffe://").unwrap_or_default();
    let domain = id.split('/').next().unwrap_or_default();
    let bundles = HashMap::from([(format!("spiffe://{domain}"), handed.bundle.concat())]);
    X509BundlesResponse { crl: Vec::new(), bundles }
}
