//! Who may use the registry over the LAN: a file of names and argon2id hashes, read again when it changes.
//!
//! A pull is dozens of requests with the same password, and a hash is made to be slow. So what was proved once is known by
//! a keyed digest until the account changes; what is not known is stretched one at a time, in a bounded queue, and who was
//! wrong often waits longer than who was not.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use registry_server::Refusal;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::local_ca::is_name;
use failures::Failures;

mod failures;

const LARGEST_FILE: u64 = 1024 * 1024;
const MOST_ACCOUNTS: usize = 4096;
/// The most memory that a hash may ask for, in KiB, and the most passes: hashes may come from elsewhere.
const MOST_MEMORY: u32 = 64 * 1024;
const MOST_PASSES: u32 = 10;
/// Passwords that may wait to be stretched, beside the one that is.
const QUEUE: usize = 256;
/// A password that is longer is nobody's.
const LONGEST_PASSWORD: usize = 1024;
const SHORTEST_PASSWORD: usize = 8;
/// A locked account, as in shadow(5).
const LOCKED: &str = "!";
const DEFAULT: (u32, u32, u32) = (19_456, 2, 1);

/// Why the accounts of a file are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// It cannot be read.
    #[error("{path} cannot be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Others may change it.
    #[error("{0} can be written by others than its owner: set its mode to 0600")]
    Writable(PathBuf),
    /// It is too large.
    #[error("{0} is larger than 1 MiB, or holds more than 4096 accounts")]
    Size(PathBuf),
    /// A line says nothing.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong; never the line itself.
        why: &'static str,
    },
    /// A password or a name that is not taken.
    #[error("{0}")]
    Unfit(&'static str),
}

/// The accounts of one reading. Absent from it: unknown.
type Book = BTreeMap<String, Standing>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Neither its password nor a certificate of its name opens anything.
    Locked,
    /// A PHC string.
    Hash(Arc<str>),
}

/// A hash, and a keyed digest of what matched it.
type Proof = (Arc<str>, [u8; 32]);

/// The accounts of a file. Clones share them.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    book: RwLock<Arc<Book>>,
    /// What was proved, by name: the hash, and a digest of name and password under `key`.
    proved: Mutex<HashMap<String, Proof>>,
    key: [u8; 32],
    failures: Mutex<Failures>,
    /// One password is stretched at a time: each takes 19 MiB and a core.
    turn: Semaphore,
    room: Semaphore,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Accounts").field("accounts", &self.len()).finish_non_exhaustive()
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self(Arc::new(Inner {
            book: RwLock::default(),
            proved: Mutex::default(),
            key: rand::random(),
            failures: Mutex::default(),
            turn: Semaphore::new(1),
            room: Semaphore::new(QUEUE + 1),
        }))
    }
}

impl Accounts {
    /// How many accounts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.book().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.book().is_empty()
    }

    /// Whether an account of this name is locked.
    #[must_use]
    pub fn is_locked(&self, name: &str) -> bool {
        self.book().get(name) == Some(&Standing::Locked)
    }

    /// Reads the file, and takes what it says; what was known before stays where it cannot be read.
    ///
    /// # Errors
    /// [`AccountsError`]. Blocks.
    pub fn read(&self, path: &Path) -> Result<(), AccountsError> {
        let book = Arc::new(read(path)?);
        let mut proved = self.0.proved.lock().unwrap_or_else(PoisonError::into_inner);
        proved.retain(|name, (hash, _)| book.get(name) == Some(&Standing::Hash(Arc::clone(hash))));
        *self.0.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&book);
        Ok(())
    }

    /// Whether the password is that of the account.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`], [`Refusal::TooManyRequests`].
    pub async fn check(&self, name: &str, password: SecretString, source: IpAddr) -> Result<(), Refusal> {
        if password.expose_secret().len() > LONGEST_PASSWORD {
            return Err(Refusal::Unauthenticated);
        }
        let digest = self.digest(name, &password);
        if self.is_proved(name, &digest) {
            return Ok(());
        }
        self.admit(source)?;
        let Ok(_room) = self.0.room.try_acquire() else {
            return Err(Refusal::TooManyRequests(Duration::from_secs(1)));
        };
        let turn = self.0.turn.acquire().await;
        // Others of the same pull may have been first, or others of the same attack.
        if self.is_proved(name, &digest) {
            return Ok(());
        }
        self.admit(source)?;
        let hash = match self.book().get(name) {
            Some(Standing::Hash(hash)) => Some(Arc::clone(hash)),
            Some(Standing::Locked) | None => None,
        };
        let (known, wanted) = (hash.clone(), hash.unwrap_or_else(nobodys));
        let right =
            tokio::task::spawn_blocking(move || is_password(&wanted, &password)).await.unwrap_or(false);
        drop(turn);
        match known.filter(|_| right) {
            Some(hash) => {
                let mut proved = self.0.proved.lock().unwrap_or_else(PoisonError::into_inner);
                proved.insert(name.to_owned(), (hash, digest));
                Ok(())
            }
            None => {
                let mut failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.count(source, Instant::now());
                Err(Refusal::Unauthenticated)
            }
        }
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn admit(&self, source: IpAddr) -> Result<(), Refusal> {
        let failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.wait(source, Instant::now()).map_or(Ok(()), |wait| Err(Refusal::TooManyRequests(wait)))
    }

    fn is_proved(&self, name: &str, digest: &[u8; 32]) -> bool {
        let proved = self.0.proved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((hash, kept)) = proved.get(name) else { return false };
        // The file may have changed since.
        self.book().get(name) == Some(&Standing::Hash(Arc::clone(hash))) && bool::from(kept.ct_eq(digest))
    }

    fn digest(&self, name: &str, password: &SecretString) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.0.key)
            .chain_update((name.len() as u64).to_be_bytes())
            .chain_update(name)
            .chain_update(password.expose_secret())
            .finalize()
            .into()
    }
}

/// What tells one state of a file from the next without reading it.
#[must_use]
pub(super) fn fingerprint(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Whether others than the owner may read the file, which is worth a word.
#[must_use]
pub(super) fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

fn read(path: &Path) -> Result<Book, AccountsError> {
    let failed = |error: io::Error| AccountsError::File { path: path.to_owned(), why: error.to_string() };
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o022 != 0 {
        return Err(AccountsError::Writable(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(AccountsError::Size(path.to_owned()));
    }
    let book =
        parse(&text).map_err(|(line, why)| AccountsError::Line { path: path.to_owned(), line, why })?;
    if book.len() > MOST_ACCOUNTS {
        return Err(AccountsError::Size(path.to_owned()));
    }
    Ok(book)
}

/// `name:hash` in each line; empty ones and such that begin with `#` say nothing.
fn parse(text: &str) -> Result<Book, (usize, &'static str)> {
    let mut book = Book::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let (name, hash) = line.split_once(':').ok_or((number, "must be NAME:HASH"))?;
        if !is_name(name) {
            return Err((number, "a name is 1 to 63 of a-z, A-Z, 0-9, dot, dash and underscore"));
        }
        let standing = match hash {
            LOCKED => Standing::Locked,
            hash if parameters(hash).is_some() => Standing::Hash(hash.into()),
            _ => {
                return Err((number, "is no hash of argon2id: make one with `satellite accounts hash NAME`"));
            }
        };
        if book.insert(name.to_owned(), standing).is_some() {
            return Err((number, "repeats a name"));
        }
    }
    Ok(book)
}

/// The line of an account with this password.
///
/// # Errors
/// [`AccountsError::Unfit`].
pub fn line(name: &str, password: &SecretString) -> Result<String, AccountsError> {
    if !is_name(name) {
        return Err(AccountsError::Unfit("a name is 1 to 63 of a-z, A-Z, 0-9, dot, dash and underscore"));
    }
    let text = password.expose_secret();
    if text.chars().count() < SHORTEST_PASSWORD || text.len() > LONGEST_PASSWORD {
        return Err(AccountsError::Unfit("a password has 8 characters at least and 1024 bytes at most"));
    }
    if text.chars().any(char::is_control) {
        return Err(AccountsError::Unfit("a password holds no control characters"));
    }
    let salt: [u8; 16] = rand::random();
    let hash = stretch(DEFAULT, &salt, 32, text)
        .ok_or(AccountsError::Unfit("this password cannot be hashed on this machine: memory is short"))?;
    Ok(format!("{name}:{}", phc(&salt, &hash)))
}

fn phc(salt: &[u8], hash: &[u8]) -> String {
    let (m, t, p) = DEFAULT;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${hash}")
}

/// The hash of nothing that anybody knows: stretched for unknown names, so that they cost what known ones cost.
fn nobodys() -> Arc<str> {
    phc(&[0; 16], &[0; 32]).into()
}

/// The parameters of a PHC string that is taken.
fn parameters(hash: &str) -> Option<(u32, u32, u32)> {
    let parsed = PasswordHash::new(hash).ok()?;
    let known = Algorithm::try_from(parsed.algorithm.as_str()) == Ok(Algorithm::Argon2id)
        && parsed.version.is_none_or(|version| Version::try_from(version) == Ok(Version::V0x13))
        && parsed.salt.is_some()
        && parsed.hash.is_some();
    let params = Params::try_from(&parsed).ok().filter(|_| known)?;
    let fits = params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES;
    fits.then(|| (params.m_cost(), params.t_cost(), params.p_cost()))
}

fn is_password(hash: &str, password: &SecretString) -> bool {
    let Some(costs) = parameters(hash) else { return false };
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else { return false };
    let expected = expected.as_bytes();
    stretch(costs, salt.as_ref(), expected.len(), password.expose_secret())
        .is_some_and(|found| bool::from(found.as_slice().ct_eq(expected)))
}

fn stretch(
    (m, t, p): (u32, u32, u32),
    salt: &[u8],
    length: usize,
    password: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let params = Params::new(m, t, p, Some(length)).ok()?;
    let mut hash = Zeroizing::new(vec![0; length]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests;
