//! The envelope: a random data key seals the content; the data key is wrapped once for each thing that identifies the
//! machine, so that one replaced part locks nobody out and another machine is locked out.
//!
//! ```json
//! {"header":{"version":2,"cipher":"aes-256-gcm","kdf":{"name":"argon2id","m":19456,"t":2,"p":1,"salt":"…"},
//!            "slots":[{"kind":"interface","hint":"eth0","nonce":"…","key":"…"}]},
//!  "nonce":"…","data":"…"}
//! ```
//! The header is authenticated with the content, each slot with its own kind. Version 1 is the deployed satellite's
//! format ([`super::field`]).

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// The version that is written.
pub(crate) const VERSION: u32 = 2;
const CIPHER: &str = "aes-256-gcm";
const KDF: &str = "argon2id";
/// OWASP's second choice for Argon2id: 19 MiB, two passes, one lane.
const COST: Cost = Cost { m: 19_456, t: 2, p: 1 };
/// A file may not ask for more than this: it comes from a disk that somebody may have had in hands.
const MAX_COST: Cost = Cost { m: 65_536, t: 4, p: 4 };
const MAX_SLOTS: usize = 8;

/// A 256-bit key that is wiped when it goes.
pub(crate) type Key = Zeroizing<[u8; 32]>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Memory, KiB.
    pub(crate) m: u32,
    /// Passes.
    pub(crate) t: u32,
    /// Lanes.
    pub(crate) p: u32,
}

/// What a wrap slot is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// Machine id and the MAC of a physical interface.
    Interface,
    /// Machine id and the serial of a built-in disk.
    Disk,
    /// The machine id alone, where there is nothing else.
    MachineId,
    /// A random key in a file beside the envelope, where the machine has nothing to tell it apart.
    DeviceKey,
}

/// One thing that identifies this machine, and its secret form.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) kind: SlotKind,
    /// The kernel's name of the part; decides only what is tried first.
    pub(crate) hint: String,
    /// What the wrapping key is derived from.
    pub(crate) secret: Zeroizing<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    kind: SlotKind,
    hint: String,
    nonce: String,
    key: String,
}

/// What stands before the sealed content, in the clear and authenticated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    version: u32,
    cipher: String,
    kdf: Kdf,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    m: u32,
    t: u32,
    p: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    header: Header,
    nonce: String,
    data: String,
}

/// Why an envelope could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// It is no envelope, or not one of ours.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// It is whole, but no slot opens here.
    #[error("the file was sealed on other hardware")]
    OtherHardware,
    /// It was written by a later release.
    #[error("the file is of version {0}, which this release cannot read")]
    TooNew(u32),
}

/// Why an envelope could not be made; the system's random source or the key derivation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("sealing failed: {0}")]
pub struct SealFailure(String);

impl Header {
    /// Wraps a fresh data key for each of `bindings`. One key derivation each: run it off the async threads.
    pub(crate) fn create(bindings: &[Binding]) -> Result<(Self, Key), SealFailure> {
        let mut key: Key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut());
        Ok((Self::wrap(&key, bindings)?, key))
    }

    /// Wraps `key` anew for each of `bindings`, when the parts of the machine changed.
    pub(crate) fn wrap(key: &Key, bindings: &[Binding]) -> Result<Self, SealFailure> {
        let salt: [u8; 16] = random();
        let mut slots = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let wrapping = derive(&binding.secret, &salt, COST).map_err(SealFailure)?;
            let nonce: [u8; 12] = random();
            let wrapped = Aes256Gcm::new(&(*wrapping).into())
                .encrypt(&Nonce::from(nonce), Payload { msg: key.as_ref(), aad: &slot_context(binding.kind) })
                .map_err(|_| SealFailure("the key could not be wrapped".to_owned()))?;
            slots.push(Slot {
                kind: binding.kind,
                hint: binding.hint.clone(),
                nonce: STANDARD.encode(nonce),
                key: STANDARD.encode(wrapped),
            });
        }
        Ok(Self {
            version: VERSION,
            cipher: CIPHER.to_owned(),
            kdf: Kdf { name: KDF.to_owned(), m: COST.m, t: COST.t, p: COST.p, salt: STANDARD.encode(salt) },
            slots,
        })
    }

    /// The whole file, with `content` sealed under `key`.
    pub(crate) fn seal(&self, key: &Key, content: &[u8]) -> Result<Vec<u8>, SealFailure> {
        let nonce: [u8; 12] = random();
        let context = self.context().map_err(SealFailure)?;
        let data = Aes256Gcm::new(&(**key).into())
            .encrypt(&Nonce::from(nonce), Payload { msg: content, aad: &context })
            .map_err(|_| SealFailure("the content could not be encrypted".to_owned()))?;
        let file = File { header: self.clone(), nonce: STANDARD.encode(nonce), data: STANDARD.encode(data) };
        serde_json::to_vec(&file).map_err(|error| SealFailure(error.to_string()))
    }

    /// Opens a file with whichever of `candidates` fits. One key derivation for each that is tried.
    pub(crate) fn open(
        bytes: &[u8],
        candidates: &[Binding],
    ) -> Result<(Self, Key, Zeroizing<Vec<u8>>), OpenFailure> {
        let file = parse(bytes)?;
        let salt = decode("kdf.salt", &file.header.kdf.salt)?;
        let cost = file.header.cost()?;
        let nonce = decode_nonce("nonce", &file.nonce)?;
        let data = decode("data", &file.data)?;
        let key = file.header.unwrap_key(&salt, cost, candidates)?.ok_or(OpenFailure::OtherHardware)?;
        let context = file.header.context().map_err(OpenFailure::Damaged)?;
        let content = Aes256Gcm::new(&(*key).into())
            .decrypt(&nonce, Payload { msg: &data, aad: &context })
            .map_err(|_| OpenFailure::Damaged("its content was changed".to_owned()))?;
        Ok((file.header, key, Zeroizing::new(content)))
    }

    fn unwrap_key(
        &self,
        salt: &[u8],
        cost: Cost,
        candidates: &[Binding],
    ) -> Result<Option<Key>, OpenFailure> {
        for (slot, binding) in self.attempts(candidates) {
            let wrapping = derive(&binding.secret, salt, cost).map_err(OpenFailure::Damaged)?;
            let nonce = decode_nonce("slot nonce", &slot.nonce)?;
            let wrapped = decode("slot key", &slot.key)?;
            let opened = Aes256Gcm::new(&(*wrapping).into())
                .decrypt(&nonce, Payload { msg: &wrapped, aad: &slot_context(slot.kind) });
            if let Ok(opened) = opened {
                let opened = Zeroizing::new(opened);
                let key: [u8; 32] = opened
                    .as_slice()
                    .try_into()
                    .map_err(|_| OpenFailure::Damaged("its key has the wrong length".to_owned()))?;
                return Ok(Some(Zeroizing::new(key)));
            }
        }
        Ok(None)
    }

    /// What to try, the likeliest first: the same kind under the same name, then the same kind.
    fn attempts<'a>(&'a self, candidates: &'a [Binding]) -> impl Iterator<Item = (&'a Slot, &'a Binding)> {
        let pairs = move |same_name: bool| {
            self.slots.iter().flat_map(move |slot| {
                candidates
                    .iter()
                    .filter(move |binding| {
                        binding.kind == slot.kind && (binding.hint == slot.hint) == same_name
                    })
                    .map(move |binding| (slot, binding))
            })
        };
        pairs(true).chain(pairs(false))
    }

    fn cost(&self) -> Result<Cost, OpenFailure> {
        let Kdf { m, t, p, .. } = self.kdf;
        if self.cipher != CIPHER || self.kdf.name != KDF {
            return Err(OpenFailure::Damaged("it names a cipher that version 2 does not have".to_owned()));
        }
        if m > MAX_COST.m || t > MAX_COST.t || p > MAX_COST.p {
            return Err(OpenFailure::Damaged("it asks for an unreasonable key derivation".to_owned()));
        }
        Ok(Cost { m, t, p })
    }

    fn context(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }
}

/// A key from the secret form of a binding. The memory goes back to the system when this returns.
pub(crate) fn derive(secret: &str, salt: &[u8], cost: Cost) -> Result<Key, String> {
    let params = Params::new(cost.m, cost.t, cost.p, Some(32)).map_err(|error| error.to_string())?;
    let blocks = params.block_count();
    // Room for more than 32 MiB is asked for, of which only `blocks` are touched: glibc hands an allocation of that
    // size back to the system when it is freed, and does not learn from it that it should keep large ones.
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(blocks.max(33 * 1024)).map_err(|error| error.to_string())?;
    memory.resize(blocks, Block::new());
    let mut key: Key = Zeroizing::new([0; 32]);
    let outcome = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        secret.as_bytes(),
        salt,
        key.as_mut(),
        memory.as_mut_slice(),
    );
    for block in &mut memory {
        block.as_mut().zeroize();
    }
    outcome.map_err(|error| error.to_string())?;
    Ok(key)
}

fn parse(bytes: &[u8]) -> Result<File, OpenFailure> {
    #[derive(Deserialize)]
    struct Peek {
        header: PeekHeader,
    }
    #[derive(Deserialize)]
    struct PeekHeader {
        version: u32,
    }
    let damaged = |error: serde_json::Error| OpenFailure::Damaged(error.to_string());
    let peek: Peek = serde_json::from_slice(bytes).map_err(damaged)?;
    if peek.header.version > VERSION {
        return Err(OpenFailure::TooNew(peek.header.version));
    }
    let file: File = serde_json::from_slice(bytes).map_err(damaged)?;
    if file.header.version != VERSION || file.header.slots.len() > MAX_SLOTS {
        return Err(OpenFailure::Damaged("its header is none that was ever written".to_owned()));
    }
    Ok(file)
}

fn slot_context(kind: SlotKind) -> Vec<u8> {
    let kind = match kind {
        SlotKind::Interface => "interface",
        SlotKind::Disk => "disk",
        SlotKind::MachineId => "machine-id",
        SlotKind::DeviceKey => "device-key",
    };
    format!("harbor-satellite sealed state {VERSION} {kind}").into_bytes()
}

pub(crate) fn decode(what: &str, text: &str) -> Result<Vec<u8>, OpenFailure> {
    STANDARD.decode(text).map_err(|_| OpenFailure::Damaged(format!("its {what} is no base64")))
}

fn decode_nonce(what: &str, text: &str) -> Result<Nonce<aes_gcm::aead::consts::U12>, OpenFailure> {
    let bytes: [u8; 12] = decode(what, text)?
        .try_into()
        .map_err(|_| OpenFailure::Damaged(format!("its {what} has the wrong length")))?;
    Ok(Nonce::from(bytes))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(kind: SlotKind, hint: &str, secret: &str) -> Binding {
        Binding { kind, hint: hint.to_owned(), secret: Zeroizing::new(secret.to_owned()) }
    }

    fn machine() -> Vec<Binding> {
        vec![binding(SlotKind::Interface, "eth0", "id|mac"), binding(SlotKind::Disk, "sda", "id|serial")]
    }

    fn sealed() -> Vec<u8> {
        let (header, key) = Header::create(&machine()).unwrap();
        header.seal(&key, b"content").unwrap()
    }

    #[test]
    fn opens_where_it_was_sealed() {
        let (_, _, content) = Header::open(&sealed(), &machine()).unwrap();
        assert_eq!(content.as_slice(), b"content");
    }

    #[test]
    fn opens_with_one_part_replaced_and_when_a_part_was_renamed() {
        let file = sealed();
        for here in [
            vec![binding(SlotKind::Interface, "eth0", "id|new"), binding(SlotKind::Disk, "sda", "id|serial")],
            vec![binding(SlotKind::Interface, "eth0", "id|mac"), binding(SlotKind::Disk, "sda", "id|new")],
            vec![binding(SlotKind::Interface, "enp1s0", "id|mac")],
            vec![binding(SlotKind::Interface, "a", "id|x"), binding(SlotKind::Interface, "b", "id|mac")],
        ] {
            assert!(Header::open(&file, &here).is_ok());
        }
    }

    #[test]
    fn does_not_open_elsewhere() {
        let file = sealed();
        for there in [
            vec![],
            vec![binding(SlotKind::Interface, "eth0", "id|new"), binding(SlotKind::Disk, "sda", "id|new")],
            // The right secret under the wrong kind is wrong.
            vec![binding(SlotKind::Disk, "sda", "id|mac")],
        ] {
            assert_eq!(Header::open(&file, &there).unwrap_err(), OpenFailure::OtherHardware);
        }
    }

    #[test]
    fn a_changed_header_or_content_is_noticed() {
        let file: serde_json::Value = serde_json::from_slice(&sealed()).unwrap();
        let mut without_a_slot = file.clone();
        without_a_slot["header"]["slots"].as_array_mut().unwrap().pop();
        let mut renamed = file.clone();
        renamed["header"]["slots"][0]["hint"] = "eth9".into();
        let mut content = file.clone();
        content["data"] = STANDARD.encode([7; 32]).into();
        let mut costly = file.clone();
        costly["header"]["kdf"]["m"] = 4_000_000.into();
        let mut unknown = file;
        unknown["header"]["extra"] = true.into();
        for changed in [without_a_slot, renamed, content, costly, unknown] {
            let bytes = serde_json::to_vec(&changed).unwrap();
            assert!(matches!(Header::open(&bytes, &machine()), Err(OpenFailure::Damaged(_))), "{changed}");
        }
    }

    #[test]
    fn a_torn_file_is_damaged_and_a_later_version_is_not() {
        let file = sealed();
        for length in [0, 1, 20, file.len() / 2, file.len() - 1] {
            assert!(matches!(Header::open(&file[..length], &machine()), Err(OpenFailure::Damaged(_))));
        }
        let later = br#"{"header":{"version":3,"new":1},"more":2}"#;
        assert_eq!(Header::open(later, &machine()).unwrap_err(), OpenFailure::TooNew(3));
    }

    #[test]
    fn content_is_not_in_the_file_and_no_two_seals_are_alike() {
        let (header, key) = Header::create(&machine()).unwrap();
        let one = header.seal(&key, b"super-secret-password").unwrap();
        let two = header.seal(&key, b"super-secret-password").unwrap();
        assert_ne!(one, two);
        assert!(!String::from_utf8(one).unwrap().contains("super-secret"));
    }
}
