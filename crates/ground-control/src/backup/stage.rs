//! Where a restore puts what comes out of an archive, before anything of it counts.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use blob_store::durable;
use oci::Digest;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::archive::{DatabaseKind, Head};
use super::error::{BackupError, at};
use super::file::Sequential;
use super::folder::remove_all;
use super::key;
use super::read::{Entry, Receiver, newer};
use crate::auth::{KeyError, ServerKey};
use crate::config::{Config, RegistryConfig};
use crate::domain::secret::Hashed;
use crate::store::Location;

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// What is left free of a disk.
const RESERVE: u64 = 64 << 20;

/// The server key after a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyPlan {
    /// The one that is there stays.
    Stays,
    /// The one in this file takes its place.
    From(PathBuf),
}

/// What comes out of an archive.
pub(super) struct Stage<'a> {
    config: &'a Config,
    replace: bool,
    /// With the file that it came from.
    passphrase: Option<(SecretString, PathBuf)>,
    /// Where the database is put.
    pub(super) database: PathBuf,
    /// Where the registry is put.
    pub(super) registry: PathBuf,
    key_file: PathBuf,
    key_staged: PathBuf,
    /// Decided when the archive says what it is.
    pub(super) key: KeyPlan,
}

impl<'a> Stage<'a> {
    /// `folder`: where small things are put; `registry`: the same on the disk of the registry.
    pub(super) fn new(
        config: &'a Config,
        replace: bool,
        passphrase: Option<&Path>,
        folder: &Path,
        registry: PathBuf,
    ) -> Result<Self, BackupError> {
        let passphrase = match passphrase {
            None => None,
            Some(path) => Some((key::passphrase(path)?, path.to_owned())),
        };
        let key_file = ServerKey::path(config.secret_key_file.as_deref(), &config.data_dir);
        // Renames do not leave a disk: what lies elsewhere is put beside its place.
        let beside = |place: &Path, name: &str| match place.strip_prefix(&config.data_dir) {
            Ok(_) => folder.join(name),
            Err(_) => beside(place),
        };
        let database = match &config.database {
            Location::Sqlite { file } => beside(file, "database.sqlite"),
            Location::Postgres { .. } => folder.join("database.sqlite"),
        };
        let key_staged = beside(&key_file, "server.key");
        for rest in [&database, &key_staged] {
            remove_all(rest)?;
        }
        durable::create_dir_all(folder).map_err(at("make", folder))?;
        Ok(Self {
            config,
            replace,
            passphrase,
            database,
            registry,
            key_file,
            key_staged,
            key: KeyPlan::Stays,
        })
    }

    /// What the settings must be like.
    fn check_settings(&self, head: &Head) -> Result<(), BackupError> {
        let known = ground_control_sqlite::backup::schema();
        if head.schema > known {
            return Err(newer(&head.program, head.format, head.schema));
        }
        let ours = match self.config.database {
            Location::Sqlite { .. } => DatabaseKind::Sqlite,
            Location::Postgres { .. } => DatabaseKind::Postgresql,
        };
        if head.database != ours {
            return Err(BackupError::OtherSettings {
                theirs: head.database.as_str(),
                ours: ours.as_str(),
                variable: "DATABASE_URL",
            });
        }
        let builtin = matches!(self.config.registry, RegistryConfig::Builtin);
        if head.registry != builtin {
            let name = |builtin| if builtin { "the built-in registry" } else { "a registry elsewhere" };
            return Err(BackupError::OtherSettings {
                theirs: name(head.registry),
                ours: name(builtin),
                variable: "REGISTRY_BACKEND",
            });
        }
        Ok(())
    }

    /// Which key there will be; the database can be used with one alone.
    fn plan_key(&self, head: &Head, sealed: Option<&[u8]>) -> Result<KeyPlan, BackupError> {
        let fits = |key: &ServerKey| {
            head.key_check.as_ref().is_none_or(|check| Hashed::from(check.clone()) == key.print())
        };
        let present = match ServerKey::read(&self.key_file) {
            Ok(key) => Some(fits(&key)),
            Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if present == Some(true) {
            return Ok(KeyPlan::Stays);
        }
        let (Some(sealed), Some((passphrase, path))) = (sealed, &self.passphrase) else {
            return Err(match present {
                Some(_) => BackupError::KeyForeign(self.key_file.clone()),
                None if head.key_check.is_none() => return Ok(KeyPlan::Stays),
                None => BackupError::KeyMissing(self.key_file.clone()),
            });
        };
        if present.is_some() && !self.replace {
            return Err(BackupError::KeyForeign(self.key_file.clone()));
        }
        let text: Zeroizing<String> = key::open(passphrase, path, sealed)?;
        durable::write_file(&self.key_staged, text.as_bytes(), durable::PRIVATE_FILE)
            .map_err(at("write", &self.key_staged))?;
        if !fits(&ServerKey::read(&self.key_staged)?) {
            return Err(super::error::damaged("the server key in it is not the one of its database"));
        }
        Ok(KeyPlan::From(self.key_staged.clone()))
    }

    /// Where the key belongs.
    pub(super) fn key_file(&self) -> &Path {
        &self.key_file
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.registry.join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }
}

/// The name of what is put beside its place.
pub(super) fn beside(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".restore");
    place.with_file_name(name)
}

impl Receiver for Stage<'_> {
    fn begin(&mut self, head: &Head, key: Option<&[u8]>) -> Result<(), BackupError> {
        self.check_settings(head)?;
        self.key = self.plan_key(head, key)?;
        if head.registry {
            durable::create_dir_all(&self.registry).map_err(at("make", &self.registry))?;
            require_space(&self.registry, head.bytes)?;
        }
        Ok(())
    }

    fn file(&mut self, entry: Entry, size: u64) -> Result<Box<dyn Write>, BackupError> {
        let path = match entry {
            Entry::Database => self.database.clone(),
            Entry::Blob(digest) => self.blob(&digest),
            Entry::Journal => self.registry.join("journal").join("journal"),
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        durable::create_dir_all(folder).map_err(at("make", folder))?;
        require_space(folder, size)?;
        Ok(Box::new(BufWriter::with_capacity(BUFFER, Sequential::create(&path)?)))
    }

    fn leave_out(&mut self, digest: &Digest) -> Result<(), BackupError> {
        remove_all(&self.blob(digest))
    }
}

/// Refuses what would fill the disk.
fn require_space(path: &Path, bytes: u64) -> Result<(), BackupError> {
    let disk = rustix::fs::statvfs(path).map_err(|error| at("look at", path)(error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes.saturating_add(RESERVE) {
        let full = std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("{bytes} bytes are needed and {free} are free"),
        );
        return Err(at("write to", path)(full));
    }
    Ok(())
}
