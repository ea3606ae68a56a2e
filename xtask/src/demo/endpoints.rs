//! `target/demo/endpoints.json`: where everything is, for people's scripts.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci::Digest;
use serde::Serialize;
use testbed::files;

use crate::error::{Error, Result};

/// The document.
#[derive(Debug, Serialize)]
pub(crate) struct Endpoints {
    /// URL of Ground Control's API, for people's clients.
    pub(crate) ground_control: String,
    /// URL of the central registry, for people's clients.
    pub(crate) central_registry: String,
    /// URL of both for satellites, under Ground Control's SVID.
    pub(crate) ground_control_for_satellites: String,
    /// The satellite's identity.
    pub(crate) satellite_spiffe_id: String,
    /// URL of the satellite's registry.
    pub(crate) satellite_registry: String,
    /// The satellite's status socket.
    pub(crate) satellite_socket: PathBuf,
    /// The administrator.
    pub(crate) admin_user: String,
    /// The file with the administrator's password.
    pub(crate) admin_password_file: PathBuf,
    /// `repository:tag`.
    pub(crate) image: String,
    /// Digest of the image's index.
    pub(crate) digest: Digest,
    /// Process ids by program.
    pub(crate) pids: BTreeMap<String, u32>,
}

/// Removes what an earlier demo wrote, so that nobody takes it for this one's.
pub(crate) fn clear(out: &Path) -> Result<()> {
    for name in ["endpoints.json", "admin-password"] {
        match std::fs::remove_file(out.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Other(format!("cannot remove {}: {error}", out.join(name).display())));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Endpoints {
    /// Writes the document, and the password readable for its owner alone. The document comes last and in one step:
    /// who sees it sees all of it, and everything that it names.
    pub(crate) fn write(&self, out: &Path, password: &str) -> Result<()> {
        files::create_dir(out)?;
        let failed =
            |error: std::io::Error| Error::Other(format!("cannot write into {}: {error}", out.display()));
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.admin_password_file)
            .map_err(failed)?;
        std::io::Write::write_all(&mut file, password.as_bytes()).map_err(failed)?;
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        files::write(&out.join("endpoints.json.new"), text + "\n")?;
        std::fs::rename(out.join("endpoints.json.new"), out.join("endpoints.json")).map_err(failed)
    }
}
