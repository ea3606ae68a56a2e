//! A password that stands in a file which somebody else rotates, or in the settings.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The most bytes of a password.
const LARGEST: u64 = 4096;
/// For how long what was read is taken for what stands there, where ten thousand satellites ask in a row.
const RECENT: Duration = Duration::from_secs(1);

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFileError {
    /// The file cannot be read.
    #[error("{variable}: cannot read {path}: {source}")]
    Io {
        /// The setting that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds none.
    #[error("{variable}: {path} {what}")]
    Unusable {
        /// The setting that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: &'static str,
    },
}

/// A file with one password; a line end after it does not belong to it. Clones share what was read last.
#[derive(Debug, Clone)]
pub struct PasswordFile {
    variable: &'static str,
    path: PathBuf,
    /// It is this one, and in no file.
    given: Option<SecretString>,
    seen: Arc<Mutex<Option<(Instant, SecretString)>>>,
}

impl PasswordFile {
    /// The file that the setting `variable` names. Nothing is read yet.
    pub fn new(variable: &'static str, path: &Path) -> Self {
        Self { variable, path: path.to_owned(), given: None, seen: Arc::default() }
    }

    /// A password that the setting `variable` holds itself.
    pub fn given(variable: &'static str, password: SecretString) -> Self {
        Self { variable, path: PathBuf::new(), given: Some(password), seen: Arc::default() }
    }

    /// The password as it stands in the file now.
    ///
    /// # Errors
    /// [`PasswordFileError`].
    pub async fn now(&self) -> Result<SecretString, PasswordFileError> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let (variable, path) = (self.variable, self.path.clone());
        let began = Instant::now();
        // A file on a network's disk may hang, and must not take a thread that serves with it.
        let password = tokio::task::spawn_blocking(move || read(variable, &path))
            .await
            .unwrap_or_else(|_| Err(self.unusable("was not read to its end")))?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, password.clone()));
        Ok(password)
    }

    /// The password as it stood in the file a moment ago at the earliest.
    ///
    /// # Errors
    /// [`PasswordFileError`].
    pub async fn recent(&self) -> Result<SecretString, PasswordFileError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match seen {
            Some((at, password)) if at.elapsed() < RECENT => Ok(password),
            _ => self.now().await,
        }
    }

    fn unusable(&self, what: &'static str) -> PasswordFileError {
        PasswordFileError::Unusable { variable: self.variable, path: self.path.clone(), what }
    }
}

fn read(variable: &'static str, path: &Path) -> Result<SecretString, PasswordFileError> {
    let unusable = |what| PasswordFileError::Unusable { variable, path: path.to_owned(), what };
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|source| PasswordFileError::Io { variable, path: path.to_owned(), source })?;
    if bytes.len() as u64 > LARGEST {
        return Err(unusable("holds more than 4096 bytes, which is no password"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("is no text"))?;
    let password = text.strip_suffix('\n').unwrap_or(text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    match password {
        "" => Err(unusable("is empty")),
        text if text.contains(char::is_control) => Err(unusable("holds more than one line")),
        text => Ok(SecretString::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PasswordFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        testbed::files::write(&path, content).unwrap();
        (dir, PasswordFile::new("OCI_PULL_PASSWORD_FILE", &path))
    }

    #[tokio::test]
    async fn the_end_of_the_line_is_no_part_of_the_password() {
        for content in ["p w:ü", "p w:ü\n", "p w:ü\r\n"] {
            let (_dir, file) = file(content.as_bytes());
            assert_eq!(file.now().await.unwrap().expose_secret(), "p w:ü");
        }
    }

    #[tokio::test]
    async fn a_file_without_a_password_is_named() {
        for content in [&b""[..], b"\n", b"a\nb\n", b"\xff\xfe", &[b'x'; 5000]] {
            let (dir, file) = file(content);
            let error = file.now().await.unwrap_err().to_string();
            assert!(error.starts_with("OCI_PULL_PASSWORD_FILE: "), "{error}");
            assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        }
        let gone = PasswordFile::new("OCI_PULL_PASSWORD_FILE", Path::new("/nonexistent/password"));
        assert!(gone.now().await.unwrap_err().to_string().contains("cannot read"));
    }

    #[tokio::test]
    async fn what_was_read_is_trusted_for_a_moment_and_read_again_when_asked() {
        let (dir, file) = file(b"first");
        assert_eq!(file.recent().await.unwrap().expose_secret(), "first");
        testbed::files::write(&dir.path().join("password"), "second").unwrap();
        assert_eq!(file.now().await.unwrap().expose_secret(), "second");
        assert_eq!(file.clone().recent().await.unwrap().expose_secret(), "second", "clones share it");
    }
}
