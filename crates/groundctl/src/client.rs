//! Requests to Ground Control's REST API.

use std::time::Duration;

use fleet_protocol::api::ErrorBody;
use reqwest::{Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use crate::cli::Connection;
use crate::error::Error;
use crate::session;

/// The most that is read of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// How long one request waits in all where Ground Control asks for fewer requests.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a request is sent again whose answer got lost.
const RESENDS: u64 = 3;
/// The most that a list page holds.
const PAGE_SIZE: usize = 100;

/// A Ground Control, as one person.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<SecretString>,
}

impl Client {
    /// A client without a session: for the login and for health.
    pub(crate) fn anonymous(connection: &Connection) -> Result<Self, Error> {
        let server = match &connection.server {
            Some(server) => server.clone(),
            None => session::load()?.ok_or(Error::NoServer)?.server,
        };
        let server = parse_server(&server, connection.use_unsecure)?;
        Ok(Self { http: http_client(connection)?, server, token: None })
    }

    /// A client with the session of GROUNDCTL_TOKEN, or else of the last login.
    pub(crate) fn logged_in(connection: &Connection) -> Result<Self, Error> {
        let mut client = Self::anonymous(connection)?;
        client.token = match std::env::var("GROUNDCTL_TOKEN") {
            Ok(token) if !token.is_empty() => Some(token.into()),
            _ => session::load()?
                .filter(|session| {
                    parse_server(&session.server, true).is_ok_and(|server| server == client.server)
                        && session.expires_at > jiff::Timestamp::now()
                })
                .map(|session| session.token),
        };
        match client.token {
            Some(_) => Ok(client),
            None => Err(Error::NotLoggedIn { server: client.server_text() }),
        }
    }

    /// URL of Ground Control, without a slash at its end.
    pub(crate) fn server_text(&self) -> String {
        self.server.as_str().trim_end_matches('/').to_owned()
    }

    /// `GET` of one thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.send(Method::GET, path, None::<&()>).await
    }

    /// `GET` of one thing, with its entity tag where it has one (RFC 9110 section 8.8.3).
    pub(crate) async fn get_tagged<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<(T, Option<String>), Error> {
        let (thing, beside) =
            self.exchange(Method::GET, self.url(path)?, None::<&()>, Terms::default()).await?;
        Ok((thing, beside.tag))
    }

    /// How many entries a list holds for a query.
    pub(crate) async fn count(&self, path: &[&str], query: &[(&str, &str)]) -> Result<u64, Error> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(query).append_pair("page_size", "1");
        let (_, beside): (Ignored, _) =
            self.exchange(Method::GET, url, None::<&()>, Terms::default()).await?;
        beside.total.ok_or_else(|| self.foreign("a list without X-Total-Count".to_owned()))
    }

    /// A change of what still has this entity tag; 412 where it is another (RFC 9110 section 13.1.1).
    pub(crate) async fn send_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
        tag: Option<&str>,
    ) -> Result<T, Error> {
        let terms = Terms { tag, key: None };
        Ok(self.exchange(method, self.url(path)?, body, terms).await?.0)
    }

    /// A request that makes something, or a list anew: sent again where its answer got lost, and carried out once.
    pub(crate) async fn make<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&impl Serialize>,
        tag: Option<&str>,
    ) -> Result<T, Error> {
        let key = key();
        let terms = Terms { tag, key: Some(&key) };
        Ok(self.exchange(Method::POST, self.url(path)?, body, terms).await?.0)
    }

    /// `GET` of one thing, with a query.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.exchange(Method::GET, url, None::<&()>, Terms::default()).await?.0)
    }

    /// `GET` of every page of a list.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>, Error> {
        self.list_of(path, &[]).await
    }

    /// `GET` of every page of what a list holds for a query.
    pub(crate) async fn list_of<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for page in 1_usize.. {
            let mut url = self.url(path)?;
            url.query_pairs_mut()
                .extend_pairs(query)
                .append_pair("page", &page.to_string())
                .append_pair("page_size", &PAGE_SIZE.to_string());
            let (items, _): (Vec<T>, _) =
                self.exchange(Method::GET, url, None::<&()>, Terms::default()).await?;
            let last = items.len() < PAGE_SIZE;
            all.extend(items);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// A request with a JSON body, where there is one.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        self.send_if(method, path, body, None).await
    }

    /// The URL of a path below the server's.
    pub(crate) fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Input(format!("{} can be no server", self.server)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<&impl Serialize>,
        terms: Terms<'_>,
    ) -> Result<(T, Beside), Error> {
        let (mut patience, mut lost) = (PATIENCE, 0);
        let received = loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.expose_secret());
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match self.one(terms.on(request)).await {
                Ok(received) => match received.later.filter(|wait| self.token.is_some() && *wait <= patience)
                {
                    // Refused before it was looked at, or under way already.
                    Some(wait) => {
                        patience -= wait;
                        tokio::time::sleep(wait).await;
                    }
                    None => break received,
                },
                // Its answer got lost, and Ground Control knows it again by its key.
                Err(failure) if terms.key.is_some() && (failure.sent || lost > 0) && lost < RESENDS => {
                    lost += 1;
                    tokio::time::sleep(Duration::from_secs(lost)).await;
                }
                Err(failure) => return Err(failure.error),
            }
        };
        if !received.status.is_success() {
            return Err(self.refusal(received.status, &received.bytes));
        }
        let bytes: &[u8] = if received.bytes.is_empty() { b"null" } else { &received.bytes };
        let answer = serde_json::from_slice(bytes).map_err(|error| self.foreign(error.to_string()))?;
        Ok((answer, received.beside))
    }

    /// One request and its whole answer.
    async fn one(&self, request: reqwest::RequestBuilder) -> Result<Received, Failure> {
        let failed =
            |error: reqwest::Error| Failure { sent: !error.is_connect(), error: self.unreachable(&error) };
        let mut response = request.send().await.map_err(failed)?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let total = text("x-total-count").and_then(|count| count.parse().ok());
        let beside = Beside { tag: text(header::ETAG.as_str()).map(str::to_owned), total };
        let (status, later) = (response.status(), later(&response));
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                let error = self.foreign(format!("more than {MAX_ANSWER} bytes"));
                return Err(Failure { sent: false, error });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Received { status, beside, later, bytes })
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Error {
        if status == StatusCode::UNAUTHORIZED && self.token.is_some() {
            return Error::NotLoggedIn { server: self.server_text() };
        }
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(error) => Error::Refused { code: status.as_u16(), message: error.message },
            Err(_) => self.foreign(format!("HTTP {status}")),
        }
    }

    fn foreign(&self, reason: String) -> Error {
        Error::Answer { server: self.server_text(), reason }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        // The outermost words of the HTTP library say only that it failed; the innermost say why.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Error::Unreachable { server: self.server_text(), reason: reason.to_string() }
    }
}

/// What goes with a request beside its body.
#[derive(Clone, Copy, Default)]
struct Terms<'a> {
    /// The entity tag that what is changed must have.
    tag: Option<&'a str>,
    /// By what the request is known where it comes again (draft-ietf-httpapi-idempotency-key-header).
    key: Option<&'a str>,
}

impl Terms<'_> {
    fn on(self, mut request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        if let Some(tag) = self.tag {
            request = request.header(header::IF_MATCH, tag);
        }
        if let Some(key) = self.key {
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        request
    }
}

/// An answer.
struct Received {
    status: StatusCode,
    beside: Beside,
    /// When the same may be asked again.
    later: Option<Duration>,
    bytes: Vec<u8>,
}

/// What stands beside an answer's body.
struct Beside {
    /// The entity tag of what it shows (RFC 9110 section 8.8.3).
    tag: Option<String>,
    /// How many entries the whole list has of which it is a page.
    total: Option<u64>,
}

/// No answer.
struct Failure {
    /// Whether the request may have been carried out all the same.
    sent: bool,
    error: Error,
}

/// How long to wait before the same is asked again, which has been done nothing for (RFC 9110 section 10.2.3).
fn later(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT)
        .then(|| Duration::from_secs(std::cmp::max(seconds, 1)))
}

/// A key that no other request has.
fn key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// An answer that nobody reads.
pub(crate) type Ignored = Value;

fn parse_server(text: &str, use_unsecure: bool) -> Result<Url, Error> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            Error::Input(format!("`{text}` is no URL of a Ground Control: write https://host[:port]"))
        })?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !loopback && !use_unsecure {
        return Err(Error::Input(format!(
            "{text} is plain HTTP beyond loopback, where anybody on the way reads the password: use https://, or set USE_UNSECURE=true"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Input(
            "the server's URL may hold no user and no password: use `groundctl login`".to_owned(),
        ));
    }
    Ok(url)
}

fn http_client(connection: &Connection) -> Result<reqwest::Client, Error> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &connection.ca_file {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let wrong = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
    }
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| Error::Input(format!("the HTTP client cannot be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for good in
            ["http://127.0.0.1:8080", "http://localhost:1/gc", "https://gc.example.com", "http://[::1]:8080"]
        {
            assert!(parse_server(good, false).is_ok(), "{good}");
        }
        for bad in ["gc.example.com", "ftp://h", "http://gc.example.com", "https://u:p@h", ""] {
            assert!(parse_server(bad, false).is_err(), "{bad}");
        }
        assert!(parse_server("http://gc.example.com", true).is_ok());
    }
}
