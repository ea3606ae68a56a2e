//! The calls on their paths, and who may make them.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::ServerConfig;
use spire::server as api;
use spire::types;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic::{Code, Response, Status};

use super::Shared;
use super::codec::StrictCodec;
use super::state::State;

type Incoming = http::Request<hyper::body::Incoming>;

/// Who calls.
#[derive(Clone)]
enum Caller {
    /// Over the Unix socket: an administrator.
    Local,
    /// Over TCP: with this SPIFFE ID, if with any.
    Remote(Option<String>),
}

pub(super) async fn serve_unix(listener: UnixListener, state: Shared) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Caller::Local, Arc::clone(&state)));
    }
}

pub(super) async fn serve_tls(listener: TcpListener, config: Arc<ServerConfig>, state: Shared) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let caller = identity::tls::peer(shown).ok().map(|leaf| leaf.id.to_string());
            state.lock().unwrap_or_else(PoisonError::into_inner).handshakes += 1;
            serve(stream, Caller::Remote(caller), state).await;
        });
    }
}

async fn serve<S>(stream: S, caller: Caller, state: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let (caller, state) = (caller.clone(), Arc::clone(&state));
        async move { Ok::<_, Infallible>(answer(request, &caller, &state).await) }
    });
    // A connection that breaks is its client's affair.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Incoming, caller: &Caller, state: &Shared) -> http::Response<Body> {
    let path = request.uri().path().to_owned();
    let call = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (silent, failure) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(call.clone());
        let at = state.failures.iter().position(|(name, _)| *name == call);
        (state.silent.contains(&call), at.and_then(|at| state.failures.remove(at)))
    };
    if silent {
        std::future::pending::<()>().await;
    }
    if let Some((_, code)) = failure {
        return Status::new(code, "the test wants it so").into_http();
    }
    if !may(caller, &path, state) {
        let method = path.trim_start_matches('/');
        return Status::permission_denied(format!("authorization denied for method /{method}")).into_http();
    }
    match path.as_str() {
        api::GET_BUNDLE => unary(request, state, |state, _: api::GetBundleRequest| Ok(state.bundle())).await,
        api::CREATE_JOIN_TOKEN => unary(request, state, |state, asked| state.create_join_token(&asked)).await,
        api::LIST_AGENTS => unary(request, state, |state, asked| state.list_agents(&asked)).await,
        api::COUNT_AGENTS => {
            unary(request, state, |state, asked| {
                Ok(api::CountAgentsResponse { count: state.count_agents(&asked)? })
            })
            .await
        }
        api::GET_AGENT => unary(request, state, |state, asked| state.agent(&asked)).await,
        api::BAN_AGENT => unary(request, state, |state, asked| state.ban_agent(&asked)).await,
        api::DELETE_AGENT => unary(request, state, |state, asked| state.delete_agent(&asked)).await,
        api::GET_ENTRY => unary(request, state, |state, asked| state.entry(&asked)).await,
        api::LIST_ENTRIES => unary(request, state, |state, asked| state.list_entries(&asked)).await,
        api::BATCH_CREATE_ENTRY => unary(request, state, create_entries).await,
        api::BATCH_DELETE_ENTRY => unary(request, state, delete_entries).await,
        _ => Status::unimplemented(format!("unknown method {call}")).into_http(),
    }
}

/// The bundle is for everybody, all else for administrators.
fn may(caller: &Caller, path: &str, state: &Shared) -> bool {
    match caller {
        Caller::Local => true,
        Caller::Remote(_) if path == api::GET_BUNDLE => true,
        Caller::Remote(id) => {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            id.as_ref().is_some_and(|id| state.admins.contains(id))
        }
    }
}

fn create_entries(
    state: &mut State,
    asked: api::BatchCreateEntryRequest,
) -> Result<api::BatchCreateEntryResponse, Status> {
    let results = asked.entries.iter().map(|entry| match state.create_entry(entry) {
        Ok((entry, false)) => {
            api::CreateEntryResult { status: Some(types::Status::ok()), entry: Some(entry) }
        }
        Ok((entry, true)) => {
            let status = types::Status::new(Code::AlreadyExists, "similar entry already exists");
            api::CreateEntryResult { status: Some(status), entry: Some(entry) }
        }
        Err(error) => {
            let status = types::Status::new(error.code(), error.message());
            api::CreateEntryResult { status: Some(status), entry: None }
        }
    });
    Ok(api::BatchCreateEntryResponse { results: results.collect() })
}

fn delete_entries(
    state: &mut State,
    asked: api::BatchDeleteEntryRequest,
) -> Result<api::BatchDeleteEntryResponse, Status> {
    let results = asked.ids.into_iter().map(|id| {
        let status = match state.delete_entry(&id) {
            Ok(()) => types::Status::ok(),
            Err(error) => types::Status::new(error.code(), error.message()),
        };
        api::DeleteEntryResult { status: Some(status), id }
    });
    Ok(api::BatchDeleteEntryResponse { results: results.collect() })
}

async fn unary<Req, Res>(
    request: Incoming,
    state: &Shared,
    handle: impl Fn(&mut State, Req) -> Result<Res, Status>,
) -> http::Response<Body>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    let handler = tower::service_fn(|request: tonic::Request<Req>| {
        let answer = handle(&mut state.lock().unwrap_or_else(PoisonError::into_inner), request.into_inner());
        std::future::ready(answer.map(Response::new))
    });
    Grpc::new(StrictCodec::<Res, Req>::new()).unary(handler, request).await
}
