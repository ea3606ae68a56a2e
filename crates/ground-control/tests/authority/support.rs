//! A server whose own authority makes every identity, and those who come to it.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_protocol::attestation::{SvidAnswer, renewal_message};
use ground_control::config::Config;
use ground_control::server::{self, Running};
use identity::key::{Csr, KeyPair};
use identity::tls::{Expected, bootstrap_client_config, client_config};
use identity::{Identity, Svid, TrustBundle, TrustDomain};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "Harbor12345";
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

pub(crate) struct Cloud {
    pub(crate) running: Running,
    client: reqwest::Client,
    _dir: TempDir,
}

/// What an administrator hands to a site.
pub(crate) struct Invitation {
    pub(crate) join_token: String,
    pub(crate) trust_bundle: TrustBundle,
    pub(crate) spiffe_id: String,
}

/// An answer: its status and its JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn svid(self) -> SvidAnswer {
        serde_json::from_value(self.expect(200)).unwrap()
    }
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[
            ("SPIFFE_SERVER_ENABLED", "true"),
            ("SPIRE_SERVER_PORT", "0"),
            ("WEB_LISTEN", "127.0.0.1:0"),
        ])
        .await
    }

    pub(crate) async fn start_with(more: &[(&str, &str)]) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        let dir = tempfile::tempdir().unwrap();
        let mut variables: BTreeMap<String, String> = [
            ("LISTEN", "127.0.0.1:0"),
            ("ADMIN_LISTEN", "off"),
            ("DATA_DIR", dir.path().to_str().unwrap()),
            ("ADMIN_PASSWORD", PASSWORD),
            ("SHUTDOWN_TIMEOUT", "1s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let config = Config::parse([], &variables, &BTreeMap::new()).unwrap();
        let running = server::start(&config).await.unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { running, client, _dir: dir }
    }

    /// As the administrator, over the listener for people.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let address = self.running.web.as_ref().map_or(self.running.address, |web| web.address);
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("http://{address}{path}"));
        let request = request.basic_auth("admin", Some(PASSWORD));
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub(crate) async fn register(&self, name: &str) -> Invitation {
        let body =
            json!({"satellite_name": name, "selectors": ["unix:uid:0"], "attestation_method": "join_token"});
        let body = self.admin("POST", "/api/satellites/register", Some(body)).await.expect(200);
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        Invitation {
            join_token: text("join_token"),
            trust_bundle: TrustBundle::from_pem(TrustDomain::default(), &text("trust_bundle")).unwrap(),
            spiffe_id: text("spiffe_id"),
        }
    }

    /// Somebody without a certificate who knows the bundle.
    pub(crate) fn stranger(&self, bundle: &TrustBundle) -> Client {
        let config = bootstrap_client_config(bundle.clone(), ground_control(), ALPN).unwrap();
        self.client_of(config)
    }

    /// Somebody who shows an SVID.
    pub(crate) fn known(&self, identity: &Identity) -> Client {
        self.client_of(client_config(identity, ground_control(), ALPN).unwrap())
    }

    fn client_of(&self, config: rustls::ClientConfig) -> Client {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Client { client, url: format!("https://{}", self.running.address) }
    }
}

fn ground_control() -> Expected {
    Expected::Exactly("spiffe://harbor-satellite.local/gc/main".parse().unwrap())
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.client.post(format!("{}{path}", self.url)).json(body)).await
    }

    pub(crate) async fn attest(&self, token: &str, key: &KeyPair) -> Answer {
        let body = json!({"join_token": token, "csr": key.csr_pem(None).unwrap()});
        self.post("/satellites/attest", &body).await
    }

    pub(crate) async fn renew(&self, id: &str, old: &KeyPair, new: &KeyPair) -> Answer {
        let nonce = self.get("/satellites/renew").await.expect(200);
        self.post("/satellites/renew", &renewal(id, nonce["nonce"].as_str().unwrap(), old, new)).await
    }
}

/// A renewal's body.
pub(crate) fn renewal(id: &str, nonce: &str, old: &KeyPair, new: &KeyPair) -> Value {
    let csr = new.csr_pem(None).unwrap();
    let message = renewal_message(id, nonce, &STANDARD.encode(Csr::from_pem(&csr).unwrap().der));
    let signature = STANDARD.encode(old.sign(message.as_bytes()).unwrap());
    json!({"csr": csr, "spiffe_id": id, "nonce": nonce, "signature": signature})
}

/// The identity that an answer gives.
pub(crate) fn identity_of(answer: &SvidAnswer, key: &KeyPair) -> Identity {
    let (keeper, identity) = identity::identity();
    let bundle = TrustBundle::from_pem(TrustDomain::default(), &answer.trust_bundle).unwrap();
    keeper.set(Svid::from_pem(&answer.svid, &key.to_pem()).unwrap(), bundle);
    identity
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
    Answer { status, body }
}
