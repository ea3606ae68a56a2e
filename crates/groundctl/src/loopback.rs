//! The other end of a login in a browser (RFC 8252): a listener on loopback that takes one answer.
//!
//! What comes is a one-time code, worth nothing without the verifier that never leaves this process (RFC 7636); and it counts
//! only with the state that this login was begun with.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use crate::error::Error;

/// The only path that is answered.
const PATH: &str = "/callback";
/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Connections at once: a browser opens one or two.
const CONNECTIONS: u32 = 8;

/// A login that waits for its browser.
#[derive(Debug)]
pub(crate) struct Loopback {
    listener: TcpListener,
    port: u16,
    state: String,
    verifier: SecretString,
}

/// What the browser brought.
enum Outcome {
    Code(SecretString),
    Refused(String),
}

impl Loopback {
    /// Listens on a port that the system chooses.
    pub(crate) async fn listen() -> Result<Self, Error> {
        let failed = || Error::io("cannot listen on 127.0.0.1 for the browser's answer");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        Ok(Self { listener, port, state: random(), verifier: random().into() })
    }

    /// What shows that the code was for this process; goes to Ground Control alone, in a body.
    pub(crate) fn verifier(&self) -> &SecretString {
        &self.verifier
    }

    /// The parameters of the login's URL.
    pub(crate) fn parameters(&self) -> [(&'static str, String); 4] {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose_secret().as_bytes()));
        [
            ("redirect_uri", format!("http://127.0.0.1:{}{PATH}", self.port)),
            ("state", self.state.clone()),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256".to_owned()),
        ]
    }

    /// Waits for the code that Ground Control sends the browser with.
    pub(crate) async fn code(&self) -> Result<SecretString, Error> {
        let (sender, mut outcomes) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let outcome = tokio::select! {
            outcome = outcomes.recv() => outcome,
            never = self.serve(&places, &sender) => match never {},
            () = tokio::time::sleep(PATIENCE) => {
                return Err(Error::Input("nobody logged in within ten minutes: try again".to_owned()));
            }
        };
        // The page that the browser shows is on its way when the outcome is: its task is let end.
        let _ = tokio::time::timeout(Duration::from_secs(2), places.acquire_many(CONNECTIONS)).await;
        match outcome {
            Some(Outcome::Code(code)) => Ok(code),
            Some(Outcome::Refused(error)) => Err(Error::Refused {
                code: 403,
                message: format!(
                    "the login was refused ({error}); the browser's page or the server's log says why"
                ),
            }),
            None => Err(Error::Input("the browser's answer did not come: try again".to_owned())),
        }
    }

    async fn serve(&self, places: &Arc<Semaphore>, sender: &mpsc::Sender<Outcome>) -> Infallible {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
            let (sender, state) = (sender.clone(), self.state.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, state.clone(), sender.clone()));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).keep_alive(false);
                // A browser that hangs up has its answer, or wants none.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                drop(place);
            });
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: String,
    sender: mpsc::Sender<Outcome>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let uri = request.uri();
    if request.method() != Method::GET || uri.path() != PATH {
        return Ok(page(StatusCode::NOT_FOUND, "There is nothing here."));
    }
    let Some(outcome) = outcome_of(uri.query().unwrap_or(""), &state) else {
        return Ok(page(StatusCode::BAD_REQUEST, "This is not the login that groundctl waits for."));
    };
    let shown = match &outcome {
        Outcome::Code(_) => {
            page(StatusCode::OK, "You are signed in. Go back to the terminal; this page can be closed.")
        }
        Outcome::Refused(_) => page(StatusCode::FORBIDDEN, "You are not signed in. The terminal says more."),
    };
    // A second answer to one login is nobody's.
    let _ = sender.try_send(outcome);
    Ok(shown)
}

/// What a query brings, if its state is ours.
fn outcome_of(query: &str, state: &str) -> Option<Outcome> {
    let pairs = Url::parse("http://127.0.0.1/").ok().map(|mut url| {
        url.set_query(Some(query));
        url
    })?;
    let of = |name: &str| {
        let mut values =
            pairs.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        values.next().filter(|_| values.next().is_none())
    };
    if of("state")? != state {
        return None;
    }
    match (of("code"), of("error")) {
        (Some(code), None) => Some(Outcome::Code(code.into())),
        (None, Some(error)) => {
            let plain = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            Some(Outcome::Refused(plain))
        }
        _ => None,
    }
}

fn page(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let html =
        format!("<!doctype html><meta charset=utf-8><title>groundctl</title><p id=outcome>{text}</p>\n");
    let mut response = Response::new(Full::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    response
}

/// 256 random bits, safe in a URL.
fn random() -> String {
    let bytes: [u8; 32] = rand::random();
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_login_counts() {
        let code = |query: &str| match outcome_of(query, "ours") {
            Some(Outcome::Code(code)) => code.expose_secret().to_owned(),
            Some(Outcome::Refused(error)) => format!("refused {error}"),
            None => "nothing".to_owned(),
        };
        assert_eq!(code("code=c&state=ours&iss=x"), "c");
        assert_eq!(code("error=access_denied%0A&state=ours"), "refused access_denied");
        for nothing in [
            "",
            "code=c",
            "state=ours",
            "code=c&state=theirs",
            "code=c&code=d&state=ours",
            "code=c&state=ours&state=ours",
            "code=c&error=d&state=ours",
        ] {
            assert_eq!(code(nothing), "nothing", "{nothing}");
        }
    }

    #[tokio::test]
    async fn a_browsers_answer_is_taken_from_loopback() {
        let waiting = Loopback::listen().await.unwrap();
        let parameters: std::collections::BTreeMap<_, _> = waiting.parameters().into_iter().collect();
        assert_eq!(parameters["code_challenge"].len(), 43);
        let target = parameters["redirect_uri"].clone();
        assert!(target.starts_with("http://127.0.0.1:") && target.ends_with("/callback"), "{target}");
        let state = parameters["state"].clone();
        let browser = tokio::spawn(async move {
            let get = async |query: String| {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let address = target.trim_start_matches("http://").trim_end_matches(PATH).to_owned();
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let request = format!("GET {PATH}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let foreign = get("code=stolen&state=theirs".to_owned()).await;
            (foreign, get(format!("code=good&state={state}")).await)
        });
        assert_eq!(waiting.code().await.unwrap().expose_secret(), "good");
        let (foreign, good) = browser.await.unwrap();
        assert!(foreign.starts_with("HTTP/1.1 400"), "{foreign}");
        assert!(good.starts_with("HTTP/1.1 200") && !good.contains("good\""), "{good}");
    }
}
