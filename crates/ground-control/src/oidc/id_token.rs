//! Whether an ID token is good (OpenID Connect Core section 3.1.3.7).
//!
//! Signature, `iss`, `aud`, `exp` and `nbf` are the library's work; here are the choice of the key and what is OpenID's own.

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use subtle::ConstantTimeEq as _;

use super::claims::Claims;

/// Signatures by a key that the provider alone has. None with a shared secret, and never `none`.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// By how many seconds clocks may differ.
const SKEW: i64 = 60;
/// How old a token may be, in seconds: it was made for this login a moment ago.
const OLDEST: i64 = 600;
/// Keys that are tried for a token that names none.
const TRIED: usize = 8;

/// What a token has to say.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

/// Why a token is worth nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("no key of the provider is that of its signature")]
    UnknownKey,
    #[error("{0}")]
    Other(String),
}

impl Bad {
    fn because(what: &str) -> Self {
        Self::Other(what.to_owned())
    }
}

/// The claims of a token that is good.
pub(super) fn verify(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Claims, Bad> {
    let other = |error: jsonwebtoken::errors::Error| Bad::Other(error.to_string());
    let header = jsonwebtoken::decode_header(token).map_err(other)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Bad::Other(format!("signatures by {:?} are not taken", header.alg)));
    }
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    validation.validate_nbf = true;
    validation.leeway = SKEW.unsigned_abs();

    let fits = |key: &&Jwk| {
        let named = header.kid.is_none() || key.common.key_id == header.kid;
        let signs = key.common.public_key_use.as_ref().is_none_or(|to| *to == PublicKeyUse::Signature);
        named && signs
    };
    let mut outcome = Err(Bad::UnknownKey);
    for key in keys.iter().filter(fits).take(TRIED) {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        if key.family() != header.alg.family() || key.family() == AlgorithmFamily::Hmac {
            continue;
        }
        use jsonwebtoken::errors::ErrorKind;
        match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
            Ok(data) => {
                outcome = Ok(data.claims);
                break;
            }
            // One of several keys without names, or a new key under an old name.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(error) => return Err(other(error)),
        }
    }
    let claims = outcome?;
    check(&claims, expected)?;
    Ok(claims)
}

/// What is OpenID's own.
fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), Bad> {
    let several = claims.get("aud").and_then(|aud| aud.as_array()).is_some_and(|aud| aud.len() > 1);
    match claims.get("azp") {
        None if several => {
            return Err(Bad::because("it is for several, and does not say for whom it was made"));
        }
        Some(azp) if azp.as_str() != Some(expected.client_id) => {
            return Err(Bad::because("it was made for another client"));
        }
        _ => {}
    }
    let now = expected.now.as_second();
    // A number with a fraction is one, too (RFC 7519 section 2).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an instant beyond the range is beyond every bound, too"
    )]
    let issued = claims.get("iat").and_then(serde_json::Value::as_f64).map(|seconds| seconds as i64);
    match issued {
        None => return Err(Bad::because("it does not say when it was made")),
        Some(at) if at > now.saturating_add(SKEW) => return Err(Bad::because("it was made in the future")),
        Some(at) if at < now.saturating_sub(OLDEST) => return Err(Bad::because("it was made long ago")),
        Some(_) => {}
    }
    let nonce = claims.get("nonce").and_then(|nonce| nonce.as_str()).unwrap_or("");
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(Bad::because("it belongs to another login"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "id_token/tests.rs"]
mod tests;
