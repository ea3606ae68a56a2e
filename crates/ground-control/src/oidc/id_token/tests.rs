use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://id.example.com";

struct Signer {
    key: EncodingKey,
    jwk: Jwk,
}

fn signer(kid: Option<&str>) -> Signer {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = kid.map(str::to_owned);
    Signer { key, jwk }
}

impl Signer {
    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn expected() -> Expected<'static> {
    Expected { issuer: ISSUER, client_id: "gc", nonce: "nonce", now: Timestamp::now() }
}

fn good() -> Value {
    json!({
        "iss": ISSUER, "sub": "1", "aud": "gc", "nonce": "nonce", "iat": now(), "exp": now() + 300, "groups": ["ops"],
    })
}

/// The token with one claim changed, or removed where it is null.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = good();
    let object = claims.as_object_mut().unwrap();
    if value.is_null() {
        object.remove(claim);
    } else {
        object.insert(claim.to_owned(), value);
    }
    claims
}

#[test]
fn a_good_token_is_taken() {
    let signer = signer(Some("a"));
    let keys = [self::signer(Some("b")).jwk, signer.jwk.clone()];
    let claims = verify(&signer.sign(Some("a"), &good()), &keys, &expected()).unwrap();
    assert_eq!(claims["groups"], json!(["ops"]));
    for also in [
        with("aud", json!(["gc"])),
        with("azp", json!("gc")),
        with("iat", json!(now() as f64 + 0.5)),
        with("nbf", json!(now())),
    ] {
        verify(&signer.sign(Some("a"), &also), &keys, &expected()).unwrap();
    }
    let mut several = with("aud", json!(["other", "gc"]));
    several["azp"] = json!("gc");
    verify(&signer.sign(Some("a"), &several), &keys, &expected()).unwrap();
}

#[test]
fn a_token_for_somebody_else_or_another_time_is_not_taken() {
    let signer = signer(Some("a"));
    for bad in [
        with("iss", json!("https://evil.example.com")),
        with("iss", json!("https://id.example.com/")),
        with("iss", Value::Null),
        with("sub", Value::Null),
        with("aud", json!("other")),
        with("aud", json!([])),
        with("aud", Value::Null),
        with("aud", json!(["gc", "other"])),
        with("azp", json!("other")),
        with("azp", json!(7)),
        with("exp", json!(now() - 120)),
        with("exp", Value::Null),
        with("exp", json!("never")),
        with("nbf", json!(now() + 600)),
        with("iat", json!(now() + 600)),
        with("iat", json!(now() - 3600)),
        with("iat", Value::Null),
        with("nonce", json!("another")),
        with("nonce", json!("")),
        with("nonce", Value::Null),
        with("nonce", json!(["nonce"])),
    ] {
        let outcome = verify(&signer.sign(Some("a"), &bad), std::slice::from_ref(&signer.jwk), &expected());
        assert!(matches!(outcome, Err(Bad::Other(_))), "{bad}: {outcome:?}");
    }
}

#[test]
fn a_signature_that_is_not_the_providers_is_not_taken() {
    let (signer, other) = (signer(Some("a")), self::signer(Some("a")));
    let keys = [signer.jwk.clone()];
    // Signed by somebody who calls their key the same: perhaps a new key of the provider.
    assert_eq!(verify(&other.sign(Some("a"), &good()), &keys, &expected()), Err(Bad::UnknownKey));
    assert_eq!(verify(&signer.sign(Some("z"), &good()), &keys, &expected()), Err(Bad::UnknownKey));
    assert_eq!(verify(&signer.sign(Some("a"), &good()), &[], &expected()), Err(Bad::UnknownKey));

    let token = signer.sign(Some("a"), &good());
    let (head, rest) = token.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let encode = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let raised = encode(&with("groups", json!(["platform-admins"])));
    assert_eq!(verify(&format!("{head}.{raised}.{signature}"), &keys, &expected()), Err(Bad::UnknownKey));
    for broken in [
        format!("{}.{body}.", encode(&json!({"alg": "none"}))),
        format!("{}.{body}.{signature}", encode(&json!({"alg": "none", "kid": "a"}))),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        token.replace('.', ""),
        String::new(),
    ] {
        assert!(verify(&broken, &keys, &expected()).is_err(), "{broken}");
    }
}

/// With a shared secret everybody who has it could sign; the public key must never pass for one.
#[test]
fn signatures_with_a_secret_are_not_taken() {
    let signer = signer(Some("a"));
    let header = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = serde_json::to_vec(&signer.jwk).unwrap();
    for secret in [&b"client-secret"[..], &public] {
        let token = jsonwebtoken::encode(&header, &good(), &EncodingKey::from_secret(secret)).unwrap();
        let shared = json!({"kty": "oct", "kid": "a", "k": "Y2xpZW50LXNlY3JldA"});
        let keys = [signer.jwk.clone(), serde_json::from_value(shared).unwrap()];
        let outcome = verify(&token, &keys, &expected());
        assert!(matches!(&outcome, Err(Bad::Other(why)) if why.contains("HS256")), "{outcome:?}");
    }
}

#[test]
fn a_token_that_names_no_key_is_checked_against_all() {
    let signers: Vec<Signer> = (0..3).map(|_| signer(None)).collect();
    let keys: Vec<Jwk> = signers.iter().map(|signer| signer.jwk.clone()).collect();
    for signer in &signers {
        verify(&signer.sign(None, &good()), &keys, &expected()).unwrap();
    }
    let mut for_encryption = signers[0].jwk.clone();
    for_encryption.common.public_key_use = Some(PublicKeyUse::Encryption);
    let outcome = verify(&signers[0].sign(None, &good()), &[for_encryption], &expected());
    assert_eq!(outcome, Err(Bad::UnknownKey));
}
