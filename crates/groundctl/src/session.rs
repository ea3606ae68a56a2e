//! The session that a login leaves for later commands: one file, readable by its owner alone.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Error;
use crate::private_file::PrivateFile;

/// A login at one Ground Control.
#[derive(Serialize, Deserialize)]
pub(crate) struct Session {
    /// URL of Ground Control.
    pub(crate) server: String,
    /// The opaque session.
    #[serde(serialize_with = "exposed")]
    pub(crate) token: SecretString,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
}

fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn path() -> Result<PathBuf, Error> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("XDG_CONFIG_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("groundctl").join("session.json"))
        .ok_or_else(|| {
            Error::Input(
                "neither HOME nor XDG_CONFIG_HOME is set: there is no place for a session".to_owned(),
            )
        })
}

/// The session of the last login, where there is one.
pub(crate) fn load() -> Result<Option<Session>, Error> {
    let path = path()?;
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::io(format!("the session in {} cannot be read", path.display()))(error));
        }
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Input(format!("{} is damaged ({error}): log in again", path.display())))
}

/// Keeps a session, in place of an earlier one.
pub(crate) fn save(session: &Session) -> Result<(), Error> {
    let path = path()?;
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(Error::io(format!("the session cannot be kept in {}", parent.display())))?;
    }
    let bytes = serde_json::to_vec_pretty(session).map_err(|error| Error::Input(error.to_string()))?;
    PrivateFile::prepare(&path)?.keep(&bytes)
}

/// Forgets the session.
pub(crate) fn remove() -> Result<(), Error> {
    let path = path()?;
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("{} cannot be removed", path.display()))(error)),
    }
}
