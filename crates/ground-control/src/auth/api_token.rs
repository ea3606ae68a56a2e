//! The text of an API token: `hsgc_`, 128 random bits, and a check of 32 bits over both, in hexadecimal.
//!
//! By the prefix a scanner finds one that was published; by the check it knows, without asking anybody, that it is one. Here
//! it keeps what was mistyped away from the database.

use fleet_protocol::api::TOKEN_PREFIX;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::domain::secret;

/// Hexadecimal digits of the random part and of the check.
const RANDOM: usize = 32;
const CHECK: usize = 8;

/// A new token.
pub(crate) fn generate() -> SecretString {
    let random = secret::generate();
    let text = random.expose_secret();
    SecretString::from(format!("{TOKEN_PREFIX}{text}{}", check(text)))
}

/// Whether this means to be a token, well formed or not: a session or a password never looks like that by chance.
pub(crate) fn is_meant(text: &SecretString) -> bool {
    text.expose_secret().starts_with(TOKEN_PREFIX)
}

/// Whether it has the form and the check of a token.
pub(crate) fn is_well_formed(text: &SecretString) -> bool {
    let Some(rest) = text.expose_secret().strip_prefix(TOKEN_PREFIX) else { return false };
    rest.len() == RANDOM + CHECK
        && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && check(&rest[..RANDOM]) == rest[RANDOM..]
}

fn check(random: &str) -> String {
    let digest = Sha256::new().chain_update(TOKEN_PREFIX).chain_update(random).finalize();
    hex::encode(&digest[..CHECK / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_anything_else() {
        let (one, other) = (generate(), generate());
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(is_meant(&one) && is_well_formed(&one));
        let text = one.expose_secret().to_owned();
        let flipped = if text.ends_with('0') { "1" } else { "0" };
        for bad in [
            text[..44].to_owned(),
            format!("{text}0"),
            text.to_uppercase(),
            format!("{}{flipped}", &text[..text.len() - 1]),
            "hsgc_".to_owned(),
            "0123456789abcdef0123456789abcdef".to_owned(),
            "hsgc_ääääääääääääääääääää".to_owned(),
        ] {
            assert!(!is_well_formed(&SecretString::from(bad.clone())), "{bad}");
        }
    }
}
