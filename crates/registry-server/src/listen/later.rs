//! Answers that come later, and meanwhile hold nothing but what they wait with.
//!
//! Ten thousand clients that wait for something to happen are ten thousand requests under way. Within the futures of a router's
//! layers each holds kilobytes, of which it needs a few hundred bytes. A handler that has done what it can do at once answers
//! with [`Later`]: the layers around it end, and the accept loop awaits what is left. A layer that has to see the answer
//! itself says so with [`Later::then`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use http::{Extensions, Response};

/// What is awaited.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// In the extensions of a response: this is not the answer, the answer comes later.
#[derive(Clone)]
pub struct Later(Arc<Mutex<Option<Waiting>>>);

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl Later {
    /// A response in whose place `answer` is to be sent when it is there.
    pub fn response(answer: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(Box::pin(answer))))));
        response
    }

    /// What `finish` makes of the answer: now, or when it is there. `within`: what the answer is awaited in, such as a span.
    pub fn then<F>(
        mut response: Response<Body>,
        within: impl FnOnce(Pin<Box<dyn Future<Output = Response<Body>> + Send>>) -> F,
        finish: impl FnOnce(Response<Body>) -> Response<Body> + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        match Self::take(response.extensions_mut()) {
            None => finish(response),
            Some(answer) => Self::response(within(Box::pin(async move { finish(answer.await) }))),
        }
    }

    /// The answer itself.
    pub(super) async fn arrived(mut waiting: Waiting) -> Response<Body> {
        loop {
            let mut response = waiting.await;
            match Self::take(response.extensions_mut()) {
                Some(next) => waiting = next,
                None => return response,
            }
        }
    }

    /// What there is to await, where the answer comes later.
    pub(super) fn take(extensions: &mut Extensions) -> Option<Waiting> {
        extensions.remove::<Self>()?.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn marked(mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert("x-mark", http::HeaderValue::from_static("seen"));
        response
    }

    #[tokio::test]
    async fn layers_see_the_answer_when_it_is_there() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let response = Later::response(async move {
            let status: StatusCode = told.await.unwrap();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        });
        let mut response = Later::then(response, |answer| answer, marked);
        assert!(!response.headers().contains_key("x-mark"), "the answer is not there");
        let waiting = tokio::spawn(Later::arrived(Later::take(response.extensions_mut()).unwrap()));
        tell.send(StatusCode::FORBIDDEN).unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers()["x-mark"], "seen");
    }

    #[tokio::test]
    async fn what_is_there_is_finished_at_once() {
        let response = Later::then(Response::new(Body::empty()), |answer| answer, marked);
        assert!(response.headers().contains_key("x-mark"));
    }
}
