//! The server key within a backup: sealed under a passphrase (argon2id, AES-256-GCM), never as it is.

use std::path::Path;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{BackupError, at, damaged};

/// The least length of a passphrase.
const LEAST: usize = 12;
/// Bound to what is sealed, so that it opens as nothing else.
const CONTEXT: &[u8] = b"ground-control backup, server key, 1";
/// What a backup of ours costs to try a passphrase on: memory in KiB, passes, lanes (RFC 9106, second recommended option).
const COST: (u32, u32, u32) = (64 * 1024, 3, 4);
/// What a backup may ask for at most.
const MOST: (u32, u32, u32) = (1024 * 1024, 16, 16);

/// The sealed key, as the archive holds it. Bytes are base64.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

/// Reads a passphrase from a file; a line's end after it is none of it.
pub(super) fn passphrase(path: &Path) -> Result<SecretString, BackupError> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(at("read", path))?);
    let phrase = text.trim_end_matches(['\r', '\n']);
    if phrase.chars().count() < LEAST {
        return Err(BackupError::PassphraseShort { path: path.to_owned(), least: LEAST });
    }
    Ok(SecretString::from(phrase))
}

/// Seals the text of a key file.
pub(super) fn seal(passphrase: &SecretString, text: &str) -> Result<Vec<u8>, BackupError> {
    let (salt, nonce): ([u8; 16], [u8; 12]) = (rand::random(), rand::random());
    let key = stretch(passphrase, &salt, COST)?;
    let sealed = Aes256Gcm::new(&(*key).into())
        .encrypt(&Nonce::from(nonce), Payload { msg: text.as_bytes(), aad: CONTEXT })
        .map_err(|_| BackupError::Failed("the server key cannot be sealed".to_owned()))?;
    let sealed = Sealed {
        kdf: "argon2id".to_owned(),
        memory_kib: COST.0,
        passes: COST.1,
        lanes: COST.2,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        sealed: STANDARD.encode(sealed),
    };
    serde_json::to_vec_pretty(&sealed).map_err(|error| BackupError::Failed(error.to_string()))
}

/// Opens what [`seal`] made; `path` is where the passphrase came from.
pub(super) fn open(
    passphrase: &SecretString,
    path: &Path,
    bytes: &[u8],
) -> Result<Zeroizing<String>, BackupError> {
    let sealed: Sealed = serde_json::from_slice(bytes).map_err(damaged)?;
    let cost = (sealed.memory_kib, sealed.passes, sealed.lanes);
    if sealed.kdf != "argon2id" || cost.0 > MOST.0 || cost.1 > MOST.1 || cost.2 > MOST.2 {
        return Err(damaged("the server key is sealed in a way that this program does not open"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(damaged);
    let nonce: [u8; 12] = decode(&sealed.nonce)?
        .try_into()
        .map_err(|_| damaged("the nonce of the server key has another length"))?;
    let key = stretch(passphrase, &decode(&sealed.salt)?, cost)?;
    let text = Aes256Gcm::new(&(*key).into())
        .decrypt(&Nonce::from(nonce), Payload { msg: &decode(&sealed.sealed)?, aad: CONTEXT })
        .map_err(|_| BackupError::Passphrase(path.to_owned()))?;
    String::from_utf8(text).map(Zeroizing::new).map_err(damaged)
}

fn stretch(
    passphrase: &SecretString,
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
) -> Result<Zeroizing<[u8; 32]>, BackupError> {
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(damaged)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose_secret().as_bytes(), salt, key.as_mut_slice())
        .map_err(damaged)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_it() {
        let (phrase, file) = (SecretString::from("correct horse battery"), Path::new("f"));
        let sealed = seal(&phrase, "the key\n").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("the key"));
        assert_eq!(open(&phrase, file, &sealed).unwrap().as_str(), "the key\n");
        let other = SecretString::from("correct horse batterx");
        assert!(matches!(open(&other, file, &sealed), Err(BackupError::Passphrase(_))));
        let mut costly: Sealed = serde_json::from_slice(&sealed).unwrap();
        costly.memory_kib = u32::MAX;
        let costly = serde_json::to_vec(&costly).unwrap();
        assert!(matches!(open(&phrase, file, &costly), Err(BackupError::Damaged(_))));
    }

    #[test]
    fn a_passphrase_is_a_line_that_is_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phrase");
        blob_store::durable::write_file(&path, b"correct horse\n", 0o600).unwrap();
        assert_eq!(passphrase(&path).unwrap().expose_secret(), "correct horse");
        blob_store::durable::write_file(&path, b"short\n", 0o600).unwrap();
        assert!(matches!(passphrase(&path), Err(BackupError::PassphraseShort { .. })));
    }
}
