//! A handler behind a path: what a code generator would write for each service.
//!
//! Both take the request of any HTTP router (the path decides before), and keep its extensions, so that a handler sees
//! whose certificate was shown. Messages are limited to [`MAX_MESSAGE`].

use std::future::Future;

use prost::Message;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, StdError, http};
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The longest message that is taken: gRPC's own default.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// One message in, one message out.
pub async fn unary<Req, Res, B, F, Fut>(request: http::Request<B>, handler: F) -> http::Response<Body>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send,
    F: FnMut(Request<Req>) -> Fut,
    Fut: Future<Output = Result<Response<Res>, Status>>,
{
    grpc::<Req, Res>().unary(service_fn(handler), request).await
}

/// A stream of messages in, a stream of messages out.
pub async fn streaming<Req, Res, B, S, F, Fut>(request: http::Request<B>, handler: F) -> http::Response<Body>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send,
    S: Stream<Item = Result<Res, Status>> + Send + 'static,
    F: FnMut(Request<Streaming<Req>>) -> Fut + Send,
    Fut: Future<Output = Result<Response<S>, Status>> + Send,
{
    grpc::<Req, Res>().streaming(service_fn(handler), request).await
}

/// The answer to a path that nobody serves.
#[must_use]
pub fn unimplemented(path: &str) -> http::Response<Body> {
    Status::unimplemented(format!("{path} is not served here")).into_http()
}

fn grpc<Req, Res>() -> Grpc<ProstCodec<Res, Req>>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    Grpc::new(ProstCodec::<Res, Req>::default()).max_decoding_message_size(MAX_MESSAGE)
}
