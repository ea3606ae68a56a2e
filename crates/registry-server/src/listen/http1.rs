//! HTTP/1.1 on one connection; while a request only waits, there is nothing but its stream.
//!
//! hyper keeps two buffers of 8 KiB for as long as a connection is open, which for ten thousand satellites, each with a request
//! that waits, is most of what they cost. So where an answer is [`Later`], hyper is taken apart. When the answer is there, it
//! begins anew on the same stream: it is shown the head of a request in the place of the one that it has read before, and answers
//! that with what was waited for.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use axum::body::Body;
use http::{Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::body::Marked;
use super::connection::{Context, Peer, call};
use super::later::{Later, Waiting};
use super::stream::{Activity, Limited};

/// What stands for the request whose answer was waited for. It has the version that it had, and no body, as that was read.
const AGAIN: &[u8] = b"POST / HTTP/1.1\r\nhost: again\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve<S>(context: &Context, stream: Box<S>, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let activity = Arc::new(Activity::default());
    let mut stream =
        Limited::new(stream, Some((Arc::clone(&activity), limits.header_read)), limits.write_stall);
    let mut answer = None;
    loop {
        // On the heap, where it is gone while a request waits.
        let spoken = Box::pin(speak(context, stream, &activity, &peer, answer.take()));
        let Some((back, waiting)) = spoken.await else { return };
        stream = back;
        answer = held(&mut stream, waiting).await;
        if answer.is_none() {
            return;
        }
        stream.replay_first(AGAIN);
    }
}

/// Speaks HTTP/1.1 until the connection ends, or until a request waits: then the stream comes back. The first request is
/// answered with `answer`, if there is one.
async fn speak<S>(
    context: &Context,
    stream: Limited<Box<S>>,
    activity: &Arc<Activity>,
    peer: &Peer,
    answer: Option<Response<Body>>,
) -> Option<(Limited<Box<S>>, Waiting)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ready, waits) = (Mutex::new(answer), Arc::new(Mutex::new(None)));
    let service = service_fn(|request: Request<Incoming>| {
        activity.requested();
        let ready = taken(&ready);
        let may_wait = may_wait(&request);
        let asked = ready.is_none().then(|| call(context, peer, request));
        let (activity, waits) = (Arc::clone(activity), Arc::clone(&waits));
        async move {
            let mut response = match (ready, asked) {
                (Some(response), _) => response,
                (None, Some(asked)) => asked.await,
                (None, None) => pending().await,
            };
            if let Some(waiting) = Later::take(response.extensions_mut()) {
                if may_wait {
                    *waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
                    // The connection is taken apart, and this with it.
                    pending::<()>().await;
                } else {
                    response = Later::arrived(waiting).await;
                }
            }
            Ok::<_, Infallible>(response.map(|body| Marked::new(body, activity)))
        }
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.limits.idle)
        .max_buf_size(256 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = pin!(context.stopping.cancelled());
    let mut told = false;
    let waiting = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Err(ended));
            }
            // An answer that the peer has not read yet would be lost.
            if !activity.is_blocked()
                && let Some(waiting) = taken(&waits)
            {
                return Poll::Ready(Ok(waiting));
            }
            if told || stopping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    });
    match waiting.await {
        Ok(waiting) => {
            let parts = connection.into_parts();
            let mut stream = parts.io.into_inner();
            stream.replay_last(&parts.read_buf);
            Some((stream, waiting))
        }
        Err(ended) => {
            if let Err(error) = ended {
                tracing::debug!(address = %peer.address, %error, "connection ended");
            }
            None
        }
    }
}

/// Waits for an answer; `None` where the peer has gone meanwhile.
async fn held<S: AsyncRead + Unpin>(stream: &mut Limited<S>, waiting: Waiting) -> Option<Response<Body>> {
    let mut answer = pin!(Later::arrived(waiting));
    // Whoever sends the next request before it was answered is there, and is read from when it is its turn.
    if !stream.has_replay() {
        let mut byte = [0];
        tokio::select! {
            answer = answer.as_mut() => return Some(answer),
            read = stream.read(&mut byte) => match read {
                Ok(1) => stream.replay_last(&byte),
                _ => return None,
            },
        }
    }
    Some(answer.await)
}

/// Whether a request can be taken up again by [`AGAIN`].
fn may_wait(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && !matches!(*request.method(), Method::HEAD | Method::CONNECT)
        && ![header::CONNECTION, header::EXPECT, header::UPGRADE]
            .iter()
            .any(|name| headers.contains_key(name))
}

fn taken<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
