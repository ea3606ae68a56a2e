//! The authority, and beside it the one that follows it: nobody in the site has to be given another one at the same moment.
//!
//! From [`Authorities::rotate`] on both are exported, and a node's certificate of either gets in. The listener goes on with a
//! certificate of the old one, which every node knows, until the old one ends or [`Authorities::finish`] says that every node
//! has been given both. The old one does not vouch for the new one: by its constraints it signs no authority.

use std::path::Path;

use blob_store::durable;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::{FILE, LocalCa, LocalCaError, SERVER_LIFE};

/// The one that follows, in the configuration directory.
const NEXT: &str = "lan-ca-next.pem";

/// Why the authority is not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// One of the two.
    #[error(transparent)]
    Authority(#[from] LocalCaError),
    /// There is a new one already.
    #[error(
        "a new authority was made already and is exported beside the old one: give every node what `satellite ca export` prints, then run `satellite ca rotate --finish`"
    )]
    UnderWay,
    /// There is no new one.
    #[error(
        "no new authority was made: run `satellite ca rotate` first, and give every node what `satellite ca export` prints"
    )]
    NotBegun,
}

/// What this satellite signs with.
#[derive(Debug)]
pub struct Authorities {
    now: LocalCa,
    next: Option<LocalCa>,
}

impl Authorities {
    /// Those of a configuration directory; the first is made where there is none yet.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn open(config_dir: &Path) -> Result<Self, LocalCaError> {
        let now = LocalCa::open(config_dir)?;
        Ok(Self { next: LocalCa::read(&config_dir.join(NEXT))?, now })
    }

    /// Their files: what tells that something changed.
    #[must_use]
    pub fn files(config_dir: &Path) -> [std::path::PathBuf; 2] {
        [config_dir.join(FILE), config_dir.join(NEXT)]
    }

    /// Makes the one that follows.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn rotate(config_dir: &Path) -> Result<Self, RotateError> {
        if Self::open(config_dir)?.next.is_some() {
            return Err(RotateError::UnderWay);
        }
        LocalCa::open_file(config_dir, NEXT)?;
        Ok(Self::open(config_dir)?)
    }

    /// Puts the one that follows in the place of the old one, in one step: who knows the old one alone is shut out.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn finish(config_dir: &Path) -> Result<Self, RotateError> {
        if Self::open(config_dir)?.next.is_none() {
            return Err(RotateError::NotBegun);
        }
        let path = config_dir.join(FILE);
        let renamed = durable::rename(&config_dir.join(NEXT), &path);
        renamed.map_err(|source| LocalCaError::File { path, source })?;
        Ok(Self::open(config_dir)?)
    }

    /// Who signs the listener's certificate: the old one as long as one of a full life fits in.
    #[must_use]
    pub fn of_listener(&self, now: Timestamp) -> &LocalCa {
        match &self.next {
            Some(next) if self.now.not_after().duration_since(now) < SERVER_LIFE => next,
            _ => &self.now,
        }
    }

    /// Who signs nodes' certificates: the one that lives longer.
    #[must_use]
    pub fn of_nodes(&self) -> &LocalCa {
        self.next.as_ref().unwrap_or(&self.now)
    }

    /// Their certificates (DER).
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.now).chain(&self.next).map(LocalCa::certificate)
    }

    /// Their certificates (PEM): what nodes are given.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        std::iter::once(&self.now).chain(&self.next).map(LocalCa::certificate_pem).collect()
    }

    /// When nobody in the site can be known any more, if nothing is done.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.of_nodes().not_after()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_new_one_stands_beside_the_old_until_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(matches!(Authorities::finish(dir), Err(RotateError::NotBegun)));
        let before = Authorities::open(dir).unwrap();
        let old = before.bundle_pem();
        let both = Authorities::rotate(dir).unwrap();
        assert_eq!(fs::metadata(dir.join(NEXT)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Authorities::rotate(dir), Err(RotateError::UnderWay)));
        assert!(both.bundle_pem().starts_with(&old) && both.bundle_pem().len() > old.len());
        assert_eq!(both.certificates().count(), 2);
        let (now, new) = (Timestamp::now(), both.of_nodes().certificate_pem());
        assert_eq!(both.of_listener(now).certificate_pem(), old, "whom every node knows");
        assert_ne!(new, old);
        // The old one comes to its end.
        let end = before.not_after();
        assert_eq!(both.of_listener(end - SERVER_LIFE).certificate_pem(), old);
        assert_eq!(both.of_listener(end - SignedDuration::from_hours(7 * 24 - 1)).certificate_pem(), new);

        let after = Authorities::finish(dir).unwrap();
        assert_eq!(after.bundle_pem(), new);
        assert_eq!(after.of_listener(now).certificate_pem(), new);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "nothing is left over");
        assert!(Authorities::rotate(dir).is_ok(), "and again, years later");
    }
}
