//! Restoring a backup.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Place;
use super::archive::Head;
use super::error::{BackupError, at, damaged};
use super::folder::{DataFolder, remove_all};
use super::moves::{Move, Moves};
use super::progress::Progress;
use super::read::{self, newer};
use super::stage::{KeyPlan, Stage, beside};
use crate::auth::ServerKey;
use crate::config::Config;
use crate::domain::backup::{Restored, Standing};
use crate::domain::secret::Hashed;
use crate::store::{self, Location};

/// What stays in the registry's folder whatever is restored.
const REGISTRY_STAYS: &[&str] = &["lock", "ballast", "restore", "backup"];
/// The beginning of the names of folders with what was there before.
const BEFORE: &str = "before-restore-";

/// How a restore is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Whether what is there is set aside; otherwise a place that holds something is refused.
    pub replace: bool,
    /// The file with the passphrase under which the server key was sealed.
    pub passphrase: Option<PathBuf>,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct RestoredServer {
    /// What the backup is of.
    pub head: Head,
    /// What became of the database.
    pub database: Restored,
    /// Satellites that were revoked or deleted in the database that was replaced, and are let in by the one that was
    /// restored.
    pub let_in_again: Vec<String>,
    /// The folder with what was there before.
    pub before: Option<PathBuf>,
    /// Whether the server key was put back, too.
    pub key: bool,
}

/// Restores the backup in `from` for the server of these settings, which must not run.
///
/// # Errors
/// [`BackupError`]; nothing is changed then.
pub async fn restore(
    config: &Config,
    from: &Place,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<RestoredServer, BackupError> {
    let folder = DataFolder::alone(&config.data_dir)?;
    let before = match &config.database {
        Location::Sqlite { file } => occupied(file, &folder, options.replace).await?,
        Location::Postgres { url } => {
            match ground_control_postgres::backup::servers(url).await? {
                0 => {}
                connections => return Err(BackupError::Connected { connections }),
            }
            let standing =
                ground_control_postgres::backup::look(url).await?.ok_or(BackupError::NotRestored)?;
            if standing.schema > ground_control_postgres::backup::schema() {
                return Err(newer("of the database", super::FORMAT, standing.schema));
            }
            if there(&folder.registry().join("journal"))? && !options.replace {
                return Err(BackupError::Occupied(folder.registry()));
            }
            Some(standing)
        }
    };
    let mut unfinished = Unfinished(vec![folder.staging(), folder.registry_staging()]);
    unfinished.0.extend(places_elsewhere(config).iter().map(|place| beside(place)));
    let (contents, staged) = stage(config, from, options, &folder, progress).await?;
    let (head, now) = (contents.head, Timestamp::now());
    if head.registry {
        let registry = staged.registry.clone();
        let missing = tokio::task::spawn_blocking(move || blob_store::export::check(&registry)).await;
        let missing = missing.map_err(|error| BackupError::Failed(error.to_string()))??;
        if let Some(digest) = missing.first() {
            return Err(damaged(format!("content of the registry is not in it, such as {digest}")));
        }
    }
    let seen = before.as_ref().map_or(0, |standing| standing.epoch).max(head.epoch);
    let mut let_in_again = Vec::new();
    let prepared = match &config.database {
        Location::Sqlite { file } => {
            check_database(&staged.database, &head).await?;
            if before.is_some() {
                let_in_again = lost_revocations(file, &staged.database).await;
            }
            Some(prepare(&Location::Sqlite { file: staged.database.clone() }, seen, &head, now).await?)
        }
        Location::Postgres { .. } => {
            if before.as_ref().and_then(|standing| standing.key_check.as_ref()) != head.key_check.as_ref() {
                return Err(BackupError::OtherDatabase);
            }
            None
        }
    };
    progress.go_on()?;
    let (moves, aside) = plan(config, &folder, &head, &staged, now)?;
    sync(&staged)?;
    // From here on there is no way back.
    moves.commit(folder.path())?;
    unfinished.0.clear();
    moves.carry_out(folder.path())?;
    let database = match prepared {
        Some(restored) => restored,
        // The key is in its place: a kill from here on is made up for by the same command.
        None => prepare(&config.database, seen, &head, now).await?,
    };
    progress.end();
    let before = aside.try_exists().unwrap_or(false).then_some(aside);
    Ok(RestoredServer { head, database, let_in_again, before, key: staged.key != KeyPlan::Stays })
}

/// What a restore that fails leaves of itself: nothing.
struct Unfinished(Vec<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove_all(path) {
                tracing::warn!(%error, "what was not restored is not removed, the next restore removes it");
            }
        }
    }
}

/// The places of database and key that are outside of the data folder.
fn places_elsewhere(config: &Config) -> Vec<PathBuf> {
    let mut places = vec![ServerKey::path(config.secret_key_file.as_deref(), &config.data_dir)];
    if let Location::Sqlite { file } = &config.database {
        places.push(file.clone());
    }
    places.retain(|place| place.strip_prefix(&config.data_dir).is_err());
    places
}

/// What came out of the archive.
struct Staged {
    database: PathBuf,
    registry: PathBuf,
    key: KeyPlan,
    key_file: PathBuf,
}

async fn stage(
    config: &Config,
    from: &Place,
    options: &RestoreOptions,
    folder: &DataFolder,
    progress: &Progress,
) -> Result<(read::Contents, Staged), BackupError> {
    let (config, from, options, progress) = (config.clone(), from.clone(), options.clone(), progress.clone());
    let (staging, registry) = (folder.staging(), folder.registry_staging());
    let work = move || {
        let passphrase = options.passphrase.as_deref();
        let mut stage = Stage::new(&config, options.replace, passphrase, &staging, registry)?;
        let contents = read::read(&from, &mut stage, &progress)?;
        let key_file = stage.key_file().to_owned();
        let staged = Staged {
            database: stage.database.clone(),
            registry: stage.registry.clone(),
            key: stage.key.clone(),
            key_file,
        };
        Ok((contents, staged))
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| BackupError::Failed(error.to_string()))?
}

/// Looks whether the place is free, or may be made so; how far the database there has got.
async fn occupied(file: &Path, folder: &DataFolder, replace: bool) -> Result<Option<Standing>, BackupError> {
    let database = there(file)?;
    for (path, held) in
        [(file.to_owned(), database), (folder.registry(), there(&folder.registry().join("journal"))?)]
    {
        if held && !replace {
            return Err(BackupError::Occupied(path));
        }
    }
    if !database {
        return Ok(None);
    }
    match ground_control_sqlite::backup::look(file).await {
        Ok(standing) => Ok(Some(standing)),
        Err(error) => {
            // It may be why somebody restores.
            tracing::warn!(error = %crate::server::chain(&error), "the database that is there cannot be read");
            Ok(None)
        }
    }
}

/// What the archive says of its database must be what is in it.
async fn check_database(path: &Path, head: &Head) -> Result<(), BackupError> {
    let standing = ground_control_sqlite::backup::examine(path).await.map_err(|error| {
        damaged(format!("its database cannot be read ({})", crate::server::chain(&error)))
    })?;
    let same_key = match (&standing.key_check, &head.key_check) {
        (Some(ours), Some(theirs)) => Hashed::from(ours.clone()) == Hashed::from(theirs.clone()),
        (ours, theirs) => ours == theirs,
    };
    if standing.schema != head.schema || standing.epoch != head.epoch || !same_key {
        return Err(damaged("its database is not the one that it says"));
    }
    Ok(())
}

/// Brings the tables up to date and raises the epoch.
async fn prepare(
    location: &Location,
    seen: u64,
    head: &Head,
    now: Timestamp,
) -> Result<Restored, BackupError> {
    let store = store::open(location).await?;
    let restored = store.restored(seen, head.taken_at, now).await;
    store.close().await;
    Ok(restored?)
}

/// Who was shut out since the backup. Only told: a failure is no reason to restore nothing.
async fn lost_revocations(before: &Path, restored: &Path) -> Vec<String> {
    let names = async {
        let shut_out = ground_control_sqlite::backup::shut_out(before).await?;
        let let_in: BTreeSet<String> =
            ground_control_sqlite::backup::let_in(restored).await?.into_iter().collect();
        crate::domain::StoreResult::Ok(
            shut_out.into_iter().filter(|name| let_in.contains(name)).collect::<Vec<_>>(),
        )
    };
    match names.await {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(error = %crate::server::chain(&error), "who was revoked since the backup is not known");
            Vec::new()
        }
    }
}

/// The renames, and where what is there goes.
fn plan(
    config: &Config,
    folder: &DataFolder,
    head: &Head,
    staged: &Staged,
    now: Timestamp,
) -> Result<(Moves, PathBuf), BackupError> {
    let set_aside = format!("{BEFORE}{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"));
    let plan = Plan { folder: folder.path(), set_aside: &set_aside };
    let mut moves = Vec::new();
    if let Location::Sqlite { file } = &config.database {
        // The old logs first: beside another database they would be taken for its own.
        for suffix in ["-wal", "-shm"] {
            let mut log = file.as_os_str().to_owned();
            log.push(suffix);
            moves.push(plan.place(None, Path::new(&log))?);
        }
        moves.push(plan.place(Some(&staged.database), file)?);
    }
    if let KeyPlan::From(path) = &staged.key {
        moves.push(plan.place(Some(path), &staged.key_file)?);
    }
    if head.registry {
        // Entry by entry and within itself: it may be a disk of its own.
        let (registry, new) = (folder.registry(), names(&staged.registry)?);
        for name in names(&registry)?.union(&new) {
            let from = new.contains(name).then(|| staged.registry.join(name));
            moves.push(Move {
                from: from.as_deref().map(|from| plan.own(from)).transpose()?,
                to: plan.own(&registry.join(name))?,
                aside: plan.own(&registry.join(&set_aside).join(name))?,
            });
        }
    }
    let remove = vec![plan.own(&folder.staging())?, plan.own(&folder.registry_staging())?];
    Ok((Moves { moves, remove }, folder.path().join(set_aside)))
}

struct Plan<'a> {
    folder: &'a Path,
    set_aside: &'a str,
}

impl Plan<'_> {
    /// A path as it is written down: what is in the data folder stays in it wherever that is found the next time.
    fn own(&self, path: &Path) -> Result<PathBuf, BackupError> {
        match path.strip_prefix(self.folder) {
            Ok(inside) => Ok(inside.to_owned()),
            Err(_) => std::path::absolute(path).map_err(at("find", path)),
        }
    }

    /// What is there goes into a folder of its own, or, since renames do not leave a disk, beside its place.
    fn place(&self, from: Option<&Path>, to: &Path) -> Result<Move, BackupError> {
        let aside = match to.strip_prefix(self.folder) {
            Ok(inside) => Path::new(self.set_aside).join(inside),
            Err(_) => {
                let mut name = to.file_name().unwrap_or_default().to_owned();
                name.push(format!(".{}", self.set_aside));
                self.own(&to.with_file_name(name))?
            }
        };
        Ok(Move { from: from.map(|from| self.own(from)).transpose()?, to: self.own(to)?, aside })
    }
}

/// What a registry's folder holds of the registry itself.
fn names(folder: &Path) -> Result<BTreeSet<std::ffi::OsString>, BackupError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(at("list", folder)(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(at("list", folder))?.file_name();
        let stays =
            name.to_str().is_some_and(|name| REGISTRY_STAYS.contains(&name) || name.starts_with(BEFORE));
        if !stays {
            names.insert(name);
        }
    }
    Ok(names)
}

fn there(path: &Path) -> Result<bool, BackupError> {
    path.try_exists().map_err(at("look at", path))
}

/// Returns when all that was put aside is on the disk: one call for a whole disk is cheaper than one for each blob.
fn sync(staged: &Staged) -> Result<(), BackupError> {
    let mut places = vec![staged.database.clone(), staged.registry.clone()];
    if let KeyPlan::From(path) = &staged.key {
        places.push(path.clone());
    }
    for place in places {
        match File::open(&place) {
            Ok(file) => rustix::fs::syncfs(&file).map_err(|error| at("sync", &place)(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("open", &place)(error)),
        }
    }
    Ok(())
}
