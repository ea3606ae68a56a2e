//! The server key, and the keys derived from it for each purpose.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::domain::secret::{HashKey, Hashed, Purpose};

/// Name of the key file in the data folder.
const FILE: &str = "secret.key";

/// Why the server key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot {what} the server key {path}: {source}")]
    Io {
        /// `read` or `make`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds too little.
    #[error("the server key {0} is no base64 of at least 32 bytes; restore it from a backup")]
    Malformed(PathBuf),
    /// The file is gone, and the database holds what was kept under it.
    #[error(
        "the server key {0} is missing though the database is in use; restore it from a backup, for without it \
         every satellite has to be registered again"
    )]
    Lost(PathBuf),
    /// It is another one than the database is kept under.
    #[error(
        "the server key {0} is not the one that this database is kept under: nothing that is hashed or sealed in it could be \
         read; give the key that belongs to it (every replica has the same), or another database"
    )]
    Foreign(PathBuf),
    /// Others on the machine can read it.
    #[error("the server key {0} is readable by others; `chmod 600` it")]
    Permissions(PathBuf),
}

/// The secret under which everything else is kept: robot secrets, tokens and sessions are stored as HMACs of it.
#[derive(Clone)]
pub struct ServerKey(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

impl ServerKey {
    /// Where the key lies: the given file, or the one in the data folder.
    pub fn path(given: Option<&Path>, data_dir: &Path) -> PathBuf {
        given.map_or_else(|| data_dir.join(FILE), Path::to_path_buf)
    }

    /// Reads the key file: the given one, or the one in the data folder. It is made if it is absent and `fresh` says
    /// that the database has nothing yet that was kept under another: a new key beside old data would lock out
    /// every robot.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(given: Option<&Path>, data_dir: &Path, fresh: bool) -> Result<Self, KeyError> {
        let path = Self::path(given, data_dir);
        match Self::read(&path) {
            Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                if !fresh {
                    return Err(KeyError::Lost(path));
                }
                Self::make(&path)?;
                Self::read(&path)
            }
            other => other,
        }
    }

    /// Reads a key file that must be there.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        match STANDARD.decode(Self::text(path)?.trim()) {
            Ok(bytes) if bytes.len() >= 32 => Ok(Self(Zeroizing::new(bytes))),
            _ => Err(KeyError::Malformed(path.to_path_buf())),
        }
    }

    /// What tells this key from others, and nothing else of it.
    pub fn print(&self) -> Hashed {
        HashKey::new(self.derive("machine-secrets").bytes()).hash(Purpose::KeyCheck, "")
    }

    /// The text of a key file that nobody else can read.
    pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, KeyError> {
        let fail = |source| KeyError::Io { what: "read", path: path.to_path_buf(), source };
        let mut file = std::fs::File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.permissions().mode() & 0o007 != 0 {
            return Err(KeyError::Permissions(path.to_path_buf()));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(fail)?;
        Ok(text)
    }

    fn make(path: &Path) -> Result<(), KeyError> {
        let fail = |source| KeyError::Io { what: "make", path: path.to_path_buf(), source };
        let mut key = Zeroizing::new([0_u8; 32]);
        rand::fill(key.as_mut_slice());
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(fail)?;
        file.write_all(Zeroizing::new(STANDARD.encode(key.as_slice())).as_bytes()).map_err(fail)?;
        file.write_all(b"\n").map_err(fail)?;
        file.sync_all().map_err(fail)?;
        std::fs::rename(&temporary, path).map_err(fail)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
    }

    /// A key of its own for one purpose, so that a value made for one can never pass for another.
    pub fn derive(&self, purpose: &str) -> DerivedKey {
        DerivedKey(Zeroizing::new(mac(&self.0, &[b"ground-control/", purpose.as_bytes()])))
    }
}

/// A key for one purpose, made by [`ServerKey::derive`].
#[derive(Clone)]
pub struct DerivedKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DerivedKey(…)")
    }
}

impl DerivedKey {
    /// The key itself, for what makes its own MACs.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        *self.0
    }

    /// HMAC-SHA-256 over the parts, each with its length in front so that their borders count.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
        let framed: Vec<&[u8]> =
            lengths.iter().zip(parts).flat_map(|(length, part)| [length.as_slice(), part]).collect();
        mac(self.0.as_slice(), &framed)
    }

    /// [`DerivedKey::mac`] in hexadecimal, as it is kept in the database.
    pub fn hex(&self, parts: &[&[u8]]) -> String {
        hex::encode(self.mac(parts))
    }

    /// Whether a stored hexadecimal MAC is that of the parts; in constant time.
    pub fn matches(&self, parts: &[&[u8]], stored: &str) -> bool {
        self.hex(parts).as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// So many random bytes, as text that is safe in a URL, a header and a shell.
pub fn random_token(bytes: usize) -> String {
    let mut random = Zeroizing::new(vec![0_u8; bytes]);
    rand::fill(random.as_mut_slice());
    URL_SAFE_NO_PAD.encode(&*random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = ServerKey::open(None, dir.path(), true).unwrap();
        let again = ServerKey::open(None, dir.path(), false).unwrap();
        assert_eq!(first.0, again.0);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_key_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("named");
        assert!(matches!(ServerKey::open(Some(&named), dir.path(), false), Err(KeyError::Lost(_))));
        ServerKey::open(Some(&named), dir.path(), true).unwrap();
        ServerKey::open(Some(&named), dir.path(), false).unwrap();
    }

    #[test]
    fn a_key_that_is_too_short_or_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("named");
        let mut file = std::fs::File::create(&named).unwrap();
        file.write_all(b"short").unwrap();
        std::fs::set_permissions(&named, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(ServerKey::open(Some(&named), dir.path(), true), Err(KeyError::Malformed(_))));
        std::fs::set_permissions(&named, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ServerKey::open(Some(&named), dir.path(), true), Err(KeyError::Permissions(_))));
    }

    #[test]
    fn purposes_and_borders_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let key = ServerKey::open(None, dir.path(), true).unwrap();
        let robot = key.derive("robot");
        assert_ne!(robot.hex(&[b"a"]), key.derive("token").hex(&[b"a"]));
        assert_ne!(robot.hex(&[b"ab", b"c"]), robot.hex(&[b"a", b"bc"]));
        assert!(robot.matches(&[b"a"], &robot.hex(&[b"a"])));
        assert!(!robot.matches(&[b"a"], &robot.hex(&[b"b"])));
        assert!(!robot.matches(&[b"a"], ""));
    }
}
