//! The site's token: what a node agent shows to its satellite. It is one for all nodes of a site, in a file on both
//! sides, and opens the plan and the nodes' reports and nothing else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// A token shorter than this is guessed.
const SHORTEST: usize = 16;
const LONGEST: usize = 4096;

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path}: a token has {SHORTEST} to {LONGEST} visible ASCII characters; make one with `openssl rand -hex 32`"
    )]
    Shape {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a token; white space around it does not count.
///
/// # Errors
/// [`TokenError`].
pub fn read(path: &Path) -> Result<SecretString, TokenError> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(LONGEST as u64 + 16).read_to_string(&mut text))
        .map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    let token = text.trim();
    let is_token =
        (SHORTEST..=LONGEST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        return Err(TokenError::Shape { path: path.to_owned() });
    }
    Ok(SecretString::from(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_long_and_printable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(read(&path), Err(TokenError::Unreadable { .. })));
        for (text, good) in [
            ("0123456789abcdef\n", true),
            ("  0123456789abcdef", true),
            ("0123456789abcde", false),
            ("0123456789abcdef 0", false),
            ("0123456789abcdef\u{e4}", false),
            ("", false),
        ] {
            blob_store::durable::write_file(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(read(&path).is_ok(), good, "{text:?}");
        }
        blob_store::durable::write_file(&path, &[b'a'; LONGEST + 1], 0o600).unwrap();
        assert!(read(&path).is_err());
        blob_store::durable::write_file(&path, &[b'a'; LONGEST], 0o600).unwrap();
        assert_eq!(read(&path).unwrap().expose_secret().len(), LONGEST);
    }
}
