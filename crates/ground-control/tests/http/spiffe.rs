//! A server whose identity and whose satellites' come from an authority of the test's own.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::tls::{Expected, bootstrap_client_config};
use identity::{Svid, TrustBundle, TrustDomain};
use reqwest::Method;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tempfile::TempDir;
use testbed::authority::{Authority, IssuedSvid};

use crate::support::{Answer, As, Server, answer};

pub(crate) const TRUST_DOMAIN: &str = "harbor-satellite.local";

/// A server under SPIFFE; people reach it at its second listener, as [`Server`]'s own methods do.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    /// The files of the server's own SVID.
    _files: TempDir,
}

/// A connection with the server: one, which is not made anew as long as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    client: reqwest::Client,
    url: String,
}

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

impl Fleet {
    pub(crate) async fn start(more: &[(&str, &str)]) -> Self {
        Self::start_with(crate::support::client(), more).await
    }

    /// With a client for the second listener.
    pub(crate) async fn start_with(client: reqwest::Client, more: &[(&str, &str)]) -> Self {
        let authority = Authority::new(TRUST_DOMAIN).unwrap();
        let own = authority.issue("/gc/main").unwrap();
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, bundle) = (path("svid.pem"), path("svid.key"), path("bundle.pem"));
        write(Path::new(&certificate), &own.certificate_pem());
        write(Path::new(&key), &own.key_pem());
        write(Path::new(&bundle), &authority.bundle_pem());
        let mut variables = vec![
            ("SPIFFE_SERVER_ENABLED", "true"),
            ("SPIFFE_CERT_FILE", certificate.as_str()),
            ("SPIFFE_KEY_FILE", &key),
            ("SPIFFE_BUNDLE_FILE", &bundle),
            ("WEB_LISTEN", "127.0.0.1:0"),
        ];
        variables.extend_from_slice(more);
        let server = Server::start_with(tempfile::tempdir().unwrap(), &variables, client).await;
        let mut own = server.running.state.identities.as_ref().unwrap().own.clone();
        own.ready().await.unwrap();
        Self { server, authority, _files: files }
    }

    /// The SVID of a satellite of the region `default`.
    pub(crate) fn svid(&self, name: &str) -> IssuedSvid {
        self.authority.issue(&format!("/satellite/region/default/{name}")).unwrap()
    }

    /// The SVID of a satellite that ends so soon, or ended so long ago (negative, seconds).
    pub(crate) fn svid_ending_in(&self, name: &str, seconds: i64) -> IssuedSvid {
        let mut wish = self.authority.wish(&format!("/satellite/region/default/{name}"));
        let span = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        wish.not_before = now - Duration::from_secs(600);
        wish.not_after = if seconds < 0 { now - span } else { now + span };
        self.authority.issue_as(&wish).unwrap()
    }

    /// Somebody who shows this, or nothing.
    pub(crate) fn peer(&self, svid: Option<&IssuedSvid>) -> Peer {
        peer(&self.server, &self.authority.bundle_pem(), svid)
    }

    /// Lets a satellite introduce itself; the answer is its robot's name and secret.
    pub(crate) async fn introduce(&self, name: &str) -> (String, String) {
        let peer = self.peer(Some(&self.svid(name)));
        credentials(&peer.send(As::Nobody, "GET", "/satellites/spiffe-ztr", None).await.unwrap().expect(200))
    }
}

/// The robot's name and secret in a `StateConfig`.
pub(crate) fn credentials(answer: &Answer) -> (String, String) {
    let text = |name: &str| answer.body["auth"][name].as_str().unwrap().to_owned();
    (text("username"), text("password"))
}

/// Somebody who trusts this bundle (PEM), and shows this, right or wrong.
pub(crate) fn peer(server: &Server, bundle: &str, svid: Option<&IssuedSvid>) -> Peer {
    let trust_domain: TrustDomain = TRUST_DOMAIN.parse().unwrap();
    let expected = Expected::Exactly("spiffe://harbor-satellite.local/gc/main".parse().unwrap());
    let bundle = TrustBundle::from_pem(trust_domain, bundle).unwrap();
    let mut tls = bootstrap_client_config(bundle, expected, &[b"h2", b"http/1.1"]).unwrap();
    if let Some(svid) = svid {
        tls.client_auth_cert_resolver = shows(svid);
    }
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    Peer { client, url: format!("https://{}", server.running.address) }
}

impl Peer {
    /// An error where there is no handshake.
    pub(crate) async fn send(
        &self,
        who: As<'_>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = match who {
            As::Nobody => request,
            As::Session(token) => request.bearer_auth(token),
            As::Basic(name, password) => request.basic_auth(name, Some(password)),
        };
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(answer(request.send().await?).await)
    }

    /// With nothing but the certificate, which the server takes.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(As::Nobody, method, path, body).await.unwrap()
    }

    /// A heartbeat by the certificate.
    pub(crate) async fn heartbeat(&self) -> Answer {
        self.ask("POST", "/satellites/sync", Some(serde_json::json!({}))).await
    }
}

/// What a client shows this with.
pub(crate) fn shows(svid: &IssuedSvid) -> Arc<dyn ResolvesClientCert> {
    let svid = Svid::from_pem(&svid.certificate_pem(), &svid.key_pem()).unwrap();
    Arc::new(Shows(svid.certified_key()))
}

/// Shows a certificate whatever it is worth.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
