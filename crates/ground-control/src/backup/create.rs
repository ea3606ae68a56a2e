//! Making a backup, beside a running server.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use blob_store::durable;
use blob_store::export::{Export, Mark};
use jiff::Timestamp;
use oci::{Algorithm, Digest};
use secrecy::ExposeSecret as _;

use super::Place;
use super::archive::{DAMAGED, DATABASE, DatabaseKind, FORMAT, HEAD, Head, JOURNAL, KEY, Writer, blob_name};
use super::error::{BackupError, at};
use super::file::Sequential;
use super::folder::{COPY, DataFolder, Temporary};
use super::key;
use super::progress::Progress;
use crate::auth::{KeyError, ServerKey};
use crate::config::{Config, RegistryConfig};
use crate::domain::backup::Standing;
use crate::domain::secret::Hashed;
use crate::store::Location;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// What was backed up.
#[derive(Debug, Clone)]
pub struct Created {
    /// What it is a backup of.
    pub head: Head,
    /// Whether the server key is in it.
    pub key: bool,
    /// Where the key is that belongs to it.
    pub key_file: PathBuf,
    /// Contents of the registry in it.
    pub blobs: u64,
    /// Contents of the registry that manifests name and that were damaged or gone.
    pub damaged: Vec<Digest>,
    /// With PostgreSQL: the command that dumps the database beside it.
    pub dump: Option<String>,
}

/// Makes a backup of the server of these settings, whether it runs or not. `passphrase`: the file with the passphrase under
/// which the server key goes along.
///
/// # Errors
/// [`BackupError`]; no file is left then.
pub async fn create(
    config: &Config,
    to: &Place,
    passphrase: Option<&Path>,
    progress: &Progress,
) -> Result<Created, BackupError> {
    match to {
        Place::Standard if std::io::stdout().is_terminal() => return Err(BackupError::Terminal),
        Place::File(path) if path.try_exists().map_err(at("look at", path))? => {
            return Err(BackupError::Exists(path.clone()));
        }
        _ => {}
    }
    let passphrase = passphrase.map(key::passphrase).transpose()?;
    let postgres = matches!(config.database, Location::Postgres { .. });
    if postgres && passphrase.is_none() {
        return Err(BackupError::KeyWanted);
    }
    let folder = DataFolder::for_backup(&config.data_dir)?;
    let copy = Temporary::new(folder.path().join(COPY))?;
    let builtin = matches!(config.registry, RegistryConfig::Builtin);

    // The order is what makes the copy whole: mark, database, registry.
    let mark = if builtin { Some(Mark::take(&folder.registry())?) } else { None };
    let taken_at = Timestamp::now();
    let database = copy.path().join("database.sqlite");
    let (kind, standing) = match &config.database {
        Location::Sqlite { file } => {
            if !file.try_exists().map_err(at("look at", file))? {
                return Err(BackupError::Nothing(file.clone()));
            }
            progress.begin("copying the database", 0);
            ground_control_sqlite::backup::copy(file, &database).await?;
            (DatabaseKind::Sqlite, ground_control_sqlite::backup::examine(&database).await?)
        }
        Location::Postgres { url } => {
            let standing = ground_control_postgres::backup::look(url).await?;
            (DatabaseKind::Postgresql, standing.ok_or(BackupError::NotRestored)?)
        }
    };
    let key_file = ServerKey::path(config.secret_key_file.as_deref(), &config.data_dir);
    check_key(&key_file, &standing)?;
    let sealed = match &passphrase {
        None => None,
        Some(passphrase) => {
            let text = ServerKey::text(&key_file)?;
            let passphrase = passphrase.clone();
            let sealed = tokio::task::spawn_blocking(move || key::seal(&passphrase, &text)).await;
            Some(sealed.map_err(|error| BackupError::Failed(error.to_string()))??)
        }
    };
    let dump = match &config.database {
        Location::Sqlite { .. } => None,
        Location::Postgres { url } => Some(dump_command(url.expose_secret(), taken_at)),
    };
    let work = Work {
        folder,
        copy,
        mark,
        to: to.clone(),
        database: (kind == DatabaseKind::Sqlite).then_some(database),
        sealed,
        head: Head {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at,
            database: kind,
            schema: standing.schema,
            epoch: standing.epoch,
            key_check: standing.key_check,
            registry: builtin,
            bytes: 0,
        },
        progress: progress.clone(),
    };
    let written = tokio::task::spawn_blocking(move || work.write()).await;
    let (head, key, blobs, damaged) = written.map_err(|error| BackupError::Failed(error.to_string()))??;
    progress.end();
    Ok(Created { head, key, key_file, blobs, damaged, dump })
}

/// A backup under a key that does not belong to the database would be found to be worth nothing when it is needed.
fn check_key(path: &Path, standing: &Standing) -> Result<(), BackupError> {
    let Some(check) = &standing.key_check else { return Ok(()) };
    if Hashed::from(check.clone()) == ServerKey::read(path)?.print() {
        return Ok(());
    }
    Err(KeyError::Foreign(path.to_owned()).into())
}

/// What is left once everything is copied or marked; blocking.
struct Work {
    folder: DataFolder,
    copy: Temporary,
    mark: Option<Mark>,
    to: Place,
    database: Option<PathBuf>,
    sealed: Option<Vec<u8>>,
    head: Head,
    progress: Progress,
}

type Written = (Head, bool, u64, Vec<Digest>);

impl Work {
    fn write(mut self) -> Result<Written, BackupError> {
        let registry = match self.mark.take() {
            None => None,
            Some(mark) => {
                let root = self.folder.registry();
                // On the disk of the registry, so that links can be made.
                let staging = Temporary::new(root.join(COPY))?;
                let export = Export::begin(&root, staging.path(), mark)?;
                Some((staging, export))
            }
        };
        let mut contents = match &registry {
            None => Vec::new(),
            Some((_, export)) => export.contents()?,
        };
        contents.sort_by_key(|content| content.digest);
        let size =
            |path: &PathBuf| std::fs::metadata(path).map(|found| found.len()).map_err(at("look at", path));
        self.head.bytes = self.database.as_ref().map_or(Ok(0), size)?
            + contents.iter().map(|content| content.size).sum::<u64>();
        self.progress.begin("writing", self.head.bytes);
        match &self.to {
            Place::Standard => {
                let to = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
                let (_, written) =
                    self.archive(to, registry.as_ref().map(|(_, export)| export), &contents)?;
                Ok(written)
            }
            Place::File(path) => {
                let temporary = Unfinished::beside(path);
                let to = BufWriter::with_capacity(BUFFER, Sequential::create(&temporary.0)?);
                let (to, written) =
                    self.archive(to, registry.as_ref().map(|(_, export)| export), &contents)?;
                let file = to.into_inner().map_err(|error| at("write", path)(error.into_error()))?;
                file.sync().map_err(at("sync", path))?;
                drop(file);
                // Somebody may have made it meanwhile: a link overwrites nothing.
                std::fs::hard_link(&temporary.0, path).map_err(at("make", path))?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                durable::sync_dir(folder).map_err(at("sync", folder))?;
                Ok(written)
            }
        }
    }

    fn archive<W: Write>(
        &self,
        to: W,
        export: Option<&Export>,
        contents: &[blob_store::export::Exported],
    ) -> Result<(W, Written), BackupError> {
        let json = |error: serde_json::Error| BackupError::Failed(error.to_string());
        let sums = Sequential::create(&self.copy.path().join("sums"))?;
        let mut archive = Writer::new(to, sums, self.head.taken_at, &self.progress);
        archive.bytes(HEAD, &serde_json::to_vec_pretty(&self.head).map_err(json)?)?;
        if let Some(sealed) = &self.sealed {
            archive.bytes(KEY, sealed)?;
        }
        if let Some(path) = &self.database {
            add(&mut archive, DATABASE, path, Algorithm::Sha256)?;
        }
        let mut damaged = Vec::new();
        if let Some(export) = export {
            for content in contents {
                let digest = content.digest;
                let (name, path) = (blob_name(&digest), export.path(&digest));
                if add(&mut archive, &name, &path, digest.algorithm())? != digest {
                    export.leave_out(&digest)?;
                    damaged.push(digest);
                }
            }
            archive.bytes(DAMAGED, &serde_json::to_vec(&damaged).map_err(json)?)?;
            add(&mut archive, JOURNAL, &export.journal()?, Algorithm::Sha256)?;
        }
        let blobs = (contents.len() - damaged.len()) as u64;
        if let Some(export) = export {
            damaged = export.left_out()?;
        }
        let to = archive.finish()?;
        Ok((to, (self.head.clone(), self.sealed.is_some(), blobs, damaged)))
    }
}

fn add<W: Write>(
    archive: &mut Writer<'_, W>,
    name: &str,
    path: &Path,
    algorithm: Algorithm,
) -> Result<Digest, BackupError> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let size = file.metadata().map_err(at("look at", path))?.len();
    archive.file(name, &mut file, size, algorithm)
}

/// A file that goes, whether its work was done or not: what is done has another name then.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
        Self(path.with_file_name(name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.0.display(), "unfinished backup not removed");
        }
    }
}

/// The command that dumps the database, without its password.
fn dump_command(url: &str, taken_at: Timestamp) -> String {
    let shown = match url::Url::parse(url) {
        Ok(mut url) => {
            // A URL that cannot have a password has none.
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => "postgres://…".to_owned(),
    };
    let name = taken_at.strftime("%Y%m%dT%H%M%SZ");
    format!("pg_dump --format=custom --no-owner --dbname='{shown}' --file='ground-control-{name}.dump'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_no_password() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let url = "postgres://gc:hunter2@db.example.com:5433/fleet?sslmode=verify-full";
        let command = dump_command(url, at);
        assert_eq!(
            command,
            "pg_dump --format=custom --no-owner --dbname='postgres://gc@db.example.com:5433/fleet?sslmode=verify-full' \
             --file='ground-control-20231114T221320Z.dump'"
        );
    }
}
