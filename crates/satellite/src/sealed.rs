//! What the device keeps secret, sealed to the device.
//!
//! One file, `<config-dir>/sealed.json`, holds everything that must not be read on another machine: the credentials that
//! Ground Control handed out, the claim of a registration that is under way, the last good remote config, and the key and
//! SVID of the built-in authority. It is opened once, after the local registry already serves, and every change replaces
//! it in one durable step.
//!
//! A file that does not open here is renamed, never overwritten: the satellite goes on serving what it holds, and
//! registers anew by what identifies it outside this file, or asks for a new token.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use blob_store::durable;
use fleet_protocol::config::ConfigDocument;
use fleet_protocol::registration::StateConfig;
use oci::{Algorithm, Digest};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::device::DeviceFacts;
use envelope::{Binding, Header, Key};
pub use envelope::{OpenFailure, SealFailure, SlotKind};
pub use held::{HeldIdentity, Joining, Renewing};

mod envelope;
pub mod field;
mod held;

/// Name of the sealed file in the configuration directory.
pub const SEALED_FILE: &str = "sealed.json";
/// Name of the key that stands in where the machine has nothing to tell it apart.
pub const DEVICE_KEY_FILE: &str = "device.key";
/// A sealed file is a few kilobytes; a larger one is none of ours.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// The plaintext of the sealed file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceState {
    /// What registration answered; `None` until it succeeded.
    pub registration: Option<StateConfig>,
    /// The claim of a one-time token: made and kept before the first try, so that a lost answer can be asked for again.
    pub claim: Option<Claim>,
    /// The last remote config that was taken.
    pub remote_config: Option<KeptConfig>,
    /// The SPIFFE ID that the registration was given to; `None` where that was by a token.
    pub registered_as: Option<String>,
    /// The SVID that the built-in authority issued.
    pub identity: Option<HeldIdentity>,
    /// An attestation under way.
    pub joining: Option<Joining>,
    /// A renewal under way.
    pub renewing: Option<Renewing>,
}

impl fmt::Debug for DeviceState {
    // Written by hand: the fields hold credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeviceState")
            .field("registered", &self.registration.is_some())
            .field("claim", &self.claim.is_some())
            .field("remote_config", &self.remote_config.as_ref().map(|kept| &kept.digest))
            .field("registered_as", &self.registered_as)
            .field("identity", &self.identity)
            .finish()
    }
}

/// A registration under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// SHA-256 of the token, hexadecimal: tells one token from the next without keeping it.
    pub token_sha256: String,
    /// 32 hexadecimal characters that bind the answer to this device.
    pub nonce: String,
}

/// A remote config and where it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptConfig {
    /// Digest of the state artifact's manifest; `None` when it was taken over from a deployed satellite's file.
    pub digest: Option<Digest>,
    /// The document.
    pub document: ConfigDocument,
}

/// What is encrypted: the state, and what the wrap slots were made of, so that a replaced part is noticed and the
/// slots are renewed without deriving every key at every start.
#[derive(Serialize, Deserialize)]
struct Content {
    bound: Vec<String>,
    state: DeviceState,
}

/// The open sealed file. Clones share it; updates are serialised.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    config_dir: PathBuf,
    facts: DeviceFacts,
    state: watch::Sender<Arc<DeviceState>>,
    /// `None` until the first change: a satellite that was never registered keeps no file.
    seal: Mutex<Option<(Header, Key)>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Vault").field("config_dir", &self.inner.config_dir).finish_non_exhaustive()
    }
}

/// Something a person should know about the sealed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Nothing identifies this machine, so a key in a file beside the sealed state protects it.
    NoHardware,
    /// A file did not open and was renamed; the satellite has to register anew.
    SetAside {
        /// Its new name.
        path: PathBuf,
        /// Why it did not open.
        failure: OpenFailure,
    },
    /// A part of the machine was replaced; the slots were renewed.
    PartReplaced,
    /// A deployed satellite's file was taken over.
    Imported {
        /// That file; it stays as it is.
        path: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHardware => write!(
                formatter,
                "this machine has neither a machine id with a network card or disk of its own: credentials are sealed with \
                 {DEVICE_KEY_FILE} beside them, so a copy of the configuration directory opens elsewhere; mount /etc/machine-id"
            ),
            Self::SetAside { path, failure } => write!(
                formatter,
                "sealed state could not be opened ({failure}); it was kept as {}",
                path.display()
            ),
            Self::PartReplaced => {
                write!(formatter, "a part of this machine was replaced; sealed state bound to the new parts")
            }
            Self::Imported { path } => {
                write!(formatter, "identity and configuration taken over from {}", path.display())
            }
        }
    }
}

/// Why the sealed file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk said no. What was there before is still there.
    #[error(
        "cannot {doing} {path}: {source}; check that the configuration directory is writable and has room"
    )]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sealing itself failed.
    #[error(transparent)]
    Seal(#[from] SealFailure),
    /// The state could not be put into words.
    #[error("sealed state cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The process is ending.
    #[error("the process is ending, nothing more is written")]
    Ending,
}

impl Vault {
    /// Opens what is in `config_dir`, or starts empty. Blocks for as long as a key derivation takes (tens of
    /// milliseconds), so it belongs on a blocking thread.
    ///
    /// # Errors
    /// [`SealError::Io`] when a file is there but cannot be read or renamed: then nothing was changed, and it may be
    /// tried again. A file that is damaged or from other hardware is no error but a [`Notice`].
    pub fn open(config_dir: &Path, facts: DeviceFacts) -> Result<(Self, Vec<Notice>), SealError> {
        let mut notices = Vec::new();
        let device_key = read_device_key(config_dir)?;
        let wanted = wanted(&facts, device_key.as_ref());
        let path = config_dir.join(SEALED_FILE);
        let mut opened = None;
        if let Some(bytes) = read(&path)? {
            match unseal(&bytes, &candidates(&facts, device_key.as_ref())) {
                Ok(found) => opened = Some(found),
                Err(failure) => notices.push(set_aside(&path, failure)?),
            }
        }
        let vault = |state: DeviceState, seal| Self {
            inner: Arc::new(Inner {
                config_dir: config_dir.to_owned(),
                facts: facts.clone(),
                state: watch::Sender::new(Arc::new(state)),
                seal: Mutex::new(seal),
            }),
        };
        let vault = match opened {
            Some((mut header, key, content)) => {
                // With a file there, `wanted` is never empty: it was opened with something that is there.
                let renewed = !wanted.is_empty() && !same(&content.bound, &wanted);
                if renewed {
                    header = Header::wrap(&key, &wanted)?;
                }
                let vault = vault(content.state, Some((header, key)));
                if renewed {
                    vault.change(|_| ())?;
                    notices.push(Notice::PartReplaced);
                }
                vault
            }
            None => {
                let vault = vault(DeviceState::default(), None);
                if notices.is_empty() {
                    notices.extend(vault.import()?);
                }
                vault
            }
        };
        if facts.machine_id.is_none() {
            notices.push(Notice::NoHardware);
        }
        Ok((vault, notices))
    }

    /// What it holds now.
    #[must_use]
    pub fn state(&self) -> Arc<DeviceState> {
        self.inner.state.borrow().clone()
    }

    /// Wakes its holder when what it holds changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<DeviceState>> {
        self.inner.state.subscribe()
    }

    /// Changes what it holds; the change is on the disk when this returns, also when the caller stopped waiting.
    ///
    /// # Errors
    /// [`SealError`]; then nothing changed, in memory neither.
    pub async fn update<F>(&self, change: F) -> Result<(), SealError>
    where
        F: FnOnce(&mut DeviceState) + Send + 'static,
    {
        let vault = self.clone();
        tokio::task::spawn_blocking(move || vault.change(change)).await.map_err(|_| SealError::Ending)?
    }

    /// The configuration directory.
    #[must_use]
    pub fn config_dir(&self) -> &Path {
        &self.inner.config_dir
    }

    fn change(&self, change: impl FnOnce(&mut DeviceState)) -> Result<(), SealError> {
        let mut seal = self.inner.seal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = DeviceState::clone(&self.state());
        change(&mut state);
        let bindings = self.bindings()?;
        let (header, key) = match seal.take() {
            Some(seal) => seal,
            None => Header::create(&bindings)?,
        };
        let bound = bindings.iter().map(fingerprint).collect();
        let content = Content { bound, state };
        let plain = Zeroizing::new(serde_json::to_vec(&content)?);
        let written = header.seal(&key, &plain).map_err(SealError::from).and_then(|bytes| {
            let path = self.inner.config_dir.join(SEALED_FILE);
            durable::write_file(&path, &bytes, durable::PRIVATE_FILE).map_err(io("write", &path))
        });
        *seal = Some((header, key));
        written?;
        self.inner.state.send_replace(Arc::new(content.state));
        Ok(())
    }

    /// What new slots are made for; makes the stand-in key where the machine has nothing.
    fn bindings(&self) -> Result<Vec<Binding>, SealError> {
        let config_dir = &self.inner.config_dir;
        let mut device_key = read_device_key(config_dir)?;
        if self.inner.facts.machine_id.is_none() && device_key.is_none() {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            rand::rng().fill_bytes(bytes.as_mut());
            let text = Zeroizing::new(hex::encode(*bytes));
            let path = config_dir.join(DEVICE_KEY_FILE);
            durable::write_file(&path, text.as_bytes(), durable::PRIVATE_FILE).map_err(io("write", &path))?;
            device_key = Some(text);
        }
        Ok(wanted(&self.inner.facts, device_key.as_ref()))
    }

    /// Takes over what a deployed satellite left in `config.json`, once.
    fn import(&self) -> Result<Option<Notice>, SealError> {
        let path = self.inner.config_dir.join(field::CONFIG_FILE);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        match field::import(&bytes, &self.inner.facts) {
            Ok(Some(imported)) => {
                self.change(|state| *state = imported)?;
                Ok(Some(Notice::Imported { path }))
            }
            Ok(None) => Ok(None),
            Err(failure) => set_aside(&path, failure).map(Some),
        }
    }
}

fn unseal(bytes: &[u8], candidates: &[Binding]) -> Result<(Header, Key, Content), OpenFailure> {
    let (header, key, plain) = Header::open(bytes, candidates)?;
    let content = serde_json::from_slice(&plain)
        .map_err(|error| OpenFailure::Damaged(format!("its content: {error}")))?;
    Ok((header, key, content))
}

fn set_aside(path: &Path, failure: OpenFailure) -> Result<Notice, SealError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".set-aside-{}", jiff::Timestamp::now().as_second()));
    let aside = PathBuf::from(name);
    durable::rename(path, &aside).map_err(io("rename", path))?;
    Ok(Notice::SetAside { path: aside, failure })
}

fn same(bound: &[String], wanted: &[Binding]) -> bool {
    bound.len() == wanted.len()
        && bound.iter().zip(wanted).all(|(bound, wanted)| *bound == fingerprint(wanted))
}

/// Tells one binding from another, inside the seal.
fn fingerprint(binding: &Binding) -> String {
    Digest::of(Algorithm::Sha256, binding.secret.as_bytes()).hex()
}

/// One slot for the first network card and one for the first disk; each needs the machine id too. The machine id alone
/// is a slot only where it is all there is, and the key file only where there is nothing.
fn wanted(facts: &DeviceFacts, device_key: Option<&Zeroizing<String>>) -> Vec<Binding> {
    let all = candidates(facts, device_key);
    let first = |kind| all.iter().find(|binding| binding.kind == kind).cloned();
    let parts: Vec<Binding> =
        [first(SlotKind::Interface), first(SlotKind::Disk)].into_iter().flatten().collect();
    if !parts.is_empty() {
        return parts;
    }
    first(SlotKind::MachineId).or_else(|| first(SlotKind::DeviceKey)).into_iter().collect()
}

/// Everything that could have been sealed to.
fn candidates(facts: &DeviceFacts, device_key: Option<&Zeroizing<String>>) -> Vec<Binding> {
    let mut all = Vec::new();
    let mut add = |kind, hint: &str, secret: String| {
        all.push(Binding { kind, hint: hint.to_owned(), secret: Zeroizing::new(secret) });
    };
    if let Some(id) = &facts.machine_id {
        for part in &facts.interfaces {
            add(SlotKind::Interface, &part.name, format!("{id}|{}", part.identity));
        }
        for part in &facts.disks {
            add(SlotKind::Disk, &part.name, format!("{id}|{}", part.identity));
        }
        add(SlotKind::MachineId, "machine-id", id.clone());
    }
    if let Some(key) = device_key {
        add(SlotKind::DeviceKey, DEVICE_KEY_FILE, String::clone(key));
    }
    all
}

fn read_device_key(config_dir: &Path) -> Result<Option<Zeroizing<String>>, SealError> {
    let path = config_dir.join(DEVICE_KEY_FILE);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let bytes = Zeroizing::new(bytes);
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok((!text.is_empty()).then(|| Zeroizing::new(text)))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SealError> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", path)(error)),
    };
    if length > MAX_FILE {
        return Err(io("read", path)(io::Error::other("the file is too large to be ours")));
    }
    fs::read(path).map(Some).map_err(io("read", path))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Io { doing, path, source }
}

#[cfg(test)]
mod tests;
