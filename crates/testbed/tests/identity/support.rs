//! What the tests here begin with.

use std::sync::Arc;
use std::time::Duration;

use identity::key::KeyPair;
use identity::tls::Expected;
use identity::{SpiffeId, TrustBundle, TrustDomain};
use oci::Digest;
use serde_json::{Value, json};
use testbed::admin::{Registered, Wanted};
use testbed::clock::Clock;
use testbed::files;
use testbed::ground_control::{self, Place};
use testbed::image::{self, Image};
use testbed::link::Link;
use testbed::process::wait_for;
use testbed::satellite::Site;
use testbed::world::World;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const DOMAIN: &str = "harbor-satellite.local";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A Ground Control with the built-in authority.
pub(crate) async fn builtin() -> World {
    World::start_with(options(None)).await.unwrap()
}

/// The same by a clock that can be moved.
pub(crate) async fn builtin_by_clock() -> (World, Clock) {
    let clock = Clock::new().unwrap();
    (World::start_with(options(Some(&clock))).await.unwrap(), clock)
}

/// The same, and satellites reach it and its registry over a link only.
pub(crate) async fn builtin_behind_link(clock: Option<&Clock>) -> (World, Link) {
    let link = Arc::new(std::sync::Mutex::new(None));
    let taken = Arc::clone(&link);
    let world = World::start_prepared(options(clock), async move |place: &mut Place| {
        let link = Link::start(&place.spiffe_address()).await?;
        place.set_public_registry_url(link.url());
        *taken.lock().unwrap() = Some(link);
        Ok(())
    })
    .await
    .unwrap();
    let link = link.lock().unwrap().take().unwrap();
    (world, link)
}

fn options(clock: Option<&Clock>) -> ground_control::Options {
    ground_control::Options { spiffe: true, clock: clock.cloned(), ..Default::default() }
}

/// Makes an image of random layers, pushes it, and has a group ask for it and nothing else.
pub(crate) async fn publish(world: &World, group: &str, tag: &str, seed: u64, layers: &[usize]) -> Image {
    let image = image::random(&world.dir().join(format!("image-{seed}")), seed, layers).unwrap();
    world.registry().push("shop/app", tag, &image).await.unwrap();
    world.admin.sync_group(group, &[Wanted::new("shop/app", tag, image.root.digest)]).await.unwrap();
    image
}

pub(crate) async fn arrives(site: &Site, tag: &str, digest: Digest) {
    site.wait_for_tag("shop/app", tag, digest, LIMIT).await.unwrap();
    assert!(site.registry().verify("shop/app", tag).await.unwrap().is_some());
}

/// What a satellite says of itself now.
pub(crate) async fn status(site: &Site) -> Value {
    site.status().await.unwrap()["satellite"].take()
}

/// Waits until a satellite says so of itself.
pub(crate) async fn says(site: &Site, what: &str, mut probe: impl FnMut(&Value) -> bool) -> Value {
    let found = wait_for(what, LIMIT, async || {
        let status = site.status().await.ok()?["satellite"].take();
        probe(&status).then_some(status)
    });
    match found.await {
        Ok(status) => status,
        Err(error) => {
            let status = site.status().await.map(|status| format!("{status:#}"));
            panic!("{error}\n{}\n{}", status.unwrap_or_default(), files::tail(&site.log(), 40))
        }
    }
}

/// When the SVID in use ends, as the satellite tells it.
pub(crate) fn svid_end(status: &Value) -> String {
    status["identity"]["expires_at"].as_str().unwrap_or_default().to_owned()
}

/// Waits until Ground Control says that a satellite is in this state.
pub(crate) async fn reaches(world: &World, name: &str, state: &str) -> Value {
    wait_for(&format!("{name} {state}"), LIMIT, async || {
        let satellite = world.admin.satellite(name).await.ok()?;
        (satellite["state"] == state).then_some(satellite)
    })
    .await
    .unwrap()
}

/// An edge that is played by hand: a key, and what Ground Control gave for it.
pub(crate) struct Hand {
    pub(crate) url: String,
    pub(crate) bundle: String,
    pub(crate) key: KeyPair,
    pub(crate) svid: Option<String>,
}

impl Hand {
    pub(crate) fn new(url: String, registered: &Registered) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { url, bundle: registered.trust_bundle.clone(), key, svid: None }
    }

    /// A client that shows no certificate.
    pub(crate) fn bootstrap(&self) -> reqwest::Client {
        let domain: TrustDomain = DOMAIN.parse().unwrap();
        let bundle = TrustBundle::from_pem(domain.clone(), &self.bundle).unwrap();
        let expected = Expected::Exactly(SpiffeId::ground_control(&domain));
        client(identity::tls::bootstrap_client_config(bundle, expected, &[b"http/1.1"]).unwrap())
    }

    /// Attests with a join token and gives the status.
    pub(crate) async fn attest(&mut self, token: &str) -> u16 {
        let body = json!({"join_token": token, "csr": self.key.csr_pem(None).unwrap()});
        let request = self.bootstrap().post(format!("{}/satellites/attest", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        if status == 200 {
            let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            self.svid = Some(answer["svid"].as_str().unwrap().to_owned());
            self.bundle = answer["trust_bundle"].as_str().unwrap().to_owned();
        }
        status
    }

    /// A client that shows the SVID.
    pub(crate) fn client(&self) -> reqwest::Client {
        svid_client(self.svid.as_deref().unwrap(), &self.key.to_pem(), &self.bundle)
    }
}

/// A client that shows this SVID and takes Ground Control for what this bundle vouches for.
pub(crate) fn svid_client(svid: &str, key: &str, bundle: &str) -> reqwest::Client {
    let domain: TrustDomain = DOMAIN.parse().unwrap();
    // Not by the product's configuration: an SVID that is wrong has to be shown, too.
    let chain = certificates(svid);
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
    let bundle = TrustBundle::from_pem(domain.clone(), bundle).unwrap();
    let expected = Expected::Exactly(SpiffeId::ground_control(&domain));
    let mut config = identity::tls::bootstrap_client_config(bundle, expected, &[b"http/1.1"]).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    client(config)
}

fn certificates(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn client(config: rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .tls_backend_preconfigured(config)
        .build()
        .unwrap()
}

/// The status of a request, or `None` where the connection was refused. The answer is read to its end: a connection that is
/// left before is closed, and the next request would need a new one.
pub(crate) async fn asks(client: &reqwest::Client, url: &str) -> Option<u16> {
    let answer = client.get(url).send().await.ok()?;
    let status = answer.status().as_u16();
    answer.bytes().await.ok()?;
    Some(status)
}

/// Requests that Ground Control refused since this many bytes of its log, but those that ask for a token first, as a
/// registry's clients do, and for referrers that are not there.
pub(crate) fn refused(log: &std::path::Path, since: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(&files::read(log).unwrap()).into_owned();
    let failed = |line: &&str| {
        line.contains("answered")
            && [" 4", "=4", ":4", " 5", "=5", ":5"].iter().any(|digit| {
                line.split("status")
                    .nth(1)
                    .is_some_and(|rest| rest.trim_start_matches('"').starts_with(digit))
            })
            && !(line.contains("/v2/") && (line.contains("401") || line.contains("404")))
    };
    text[since.min(text.len())..].lines().filter(failed).map(str::to_owned).collect()
}
