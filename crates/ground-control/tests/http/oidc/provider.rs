//! A provider of OpenID Connect that does wrong on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode as Status};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

/// Encoded in a form and in Basic.
pub(super) const SECRET: &str = "s%:+ ecret";

/// What the provider does; a test changes it at any time.
#[derive(Debug)]
pub(super) struct Behaviour {
    pub(super) issuer: String,
    pub(super) key: String,
    /// Claims of the ID token beside or instead of those that are right; null takes one away.
    pub(super) claims: Value,
    pub(super) userinfo: Value,
    pub(super) tells_issuer: bool,
    /// Codes that were given out: nonce, challenge.
    pub(super) codes: BTreeMap<String, (String, String)>,
    pub(super) down: bool,
}

type Shared = Arc<Mutex<Behaviour>>;

pub(super) struct Provider {
    pub(super) issuer: String,
    behaviour: Shared,
}

fn key(name: &str) -> (EncodingKey, Jwk) {
    static KEYS: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap();
    let der = keys.entry(name.to_owned()).or_insert_with(|| {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der()
    });
    let key = EncodingKey::from_ec_der(der);
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(name.to_owned());
    (key, jwk)
}

async fn metadata(State(shared): State<Shared>) -> Result<Json<Value>, Status> {
    let behaviour = shared.lock().unwrap();
    if behaviour.down {
        return Err(Status::BAD_GATEWAY);
    }
    let issuer = &behaviour.issuer;
    Ok(Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth?tenant=a"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"), "userinfo_endpoint": format!("{issuer}/me"),
        "authorization_response_iss_parameter_supported": behaviour.tells_issuer,
    })))
}

async fn jwks(State(shared): State<Shared>) -> Json<Value> {
    let unknown = json!({"kty": "EC", "crv": "P-9000", "kid": "later", "x": "", "y": ""});
    Json(json!({"keys": [unknown, key(&shared.lock().unwrap().key).1]}))
}

async fn token(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Value>, (Status, Json<Value>)> {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let behaviour = &mut *shared.lock().unwrap();
    let refuse = |error: &str| (Status::BAD_REQUEST, Json(json!({"error": error})));
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let login = format!("Basic {}", STANDARD.encode(format!("gc:{encoded}")));
    if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(login.as_str()) {
        return Err(refuse("invalid_client"));
    }
    let (nonce, challenge) = behaviour.codes.remove(&form["code"]).ok_or_else(|| refuse("invalid_grant"))?;
    let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    if verifier != challenge || !form["redirect_uri"].ends_with("/auth/oidc/callback") {
        return Err(refuse("invalid_grant"));
    }
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": behaviour.issuer, "aud": "gc", "sub": "1", "nonce": nonce, "iat": now, "exp": now + 300,
        "preferred_username": "jane", "groups": ["ops"],
    });
    for (name, value) in behaviour.claims.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let header = Header { kid: Some(behaviour.key.clone()), ..Header::new(Algorithm::ES256) };
    let id_token = jsonwebtoken::encode(&header, &claims, &key(&behaviour.key).0).unwrap();
    Ok(Json(json!({"access_token": "access", "token_type": "Bearer", "id_token": id_token})))
}

async fn userinfo(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.lock().unwrap().userinfo.clone())
}

impl Provider {
    pub(super) async fn start() -> Self {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", socket.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour {
            issuer: issuer.clone(),
            key: "first".to_owned(),
            claims: json!({}),
            userinfo: json!({}),
            tells_issuer: true,
            codes: BTreeMap::new(),
            down: false,
        }));
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .route("/me", get(userinfo))
            .with_state(Arc::clone(&behaviour));
        tokio::spawn(async move { axum::serve(socket, routes).await });
        Self { issuer, behaviour }
    }

    pub(super) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(super) fn claims(&self, claims: Value) {
        self.behave(|behaviour| behaviour.claims = claims);
    }

    /// Lets somebody log in whom a browser brought to `location`; the answer that the browser takes back.
    pub(super) fn consent(&self, location: &Url) -> String {
        let query: BTreeMap<String, String> = location.query_pairs().into_owned().collect();
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["tenant"], "a", "what the endpoint's own query holds stays");
        assert_eq!(query["code_challenge_method"], "S256");
        assert_eq!(query["scope"], "openid profile email");
        let code = format!("code-{}", query["state"]);
        let granted = (query["nonce"].clone(), query["code_challenge"].clone());
        self.behave(|behaviour| {
            behaviour.codes.insert(code.clone(), granted);
        });
        let mut answer = url::form_urlencoded::Serializer::new(String::new());
        answer.append_pair("state", &query["state"]).append_pair("code", &code);
        answer.append_pair("iss", &self.issuer).finish()
    }
}
