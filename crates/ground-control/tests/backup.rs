//! Backups of other times: an older program's tables, a newer program's, and what the settings must be like.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ground_control::backup::{self, BackupError, Place, Progress, RestoreOptions};
use ground_control::config::Config;
use ground_control::server;
use ground_control::store::{self, Location};
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use tempfile::TempDir;

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ground-control-domain/migrations");

fn config(dir: &Path, more: &[(&str, &str)]) -> Config {
    let data = dir.join("data");
    let mut variables: BTreeMap<String, String> = [
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", "off"),
        ("ADMIN_PASSWORD", "Correct-horse-1"),
        ("DATA_DIR", data.to_str().unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config::parse(std::iter::empty::<OsString>(), &variables, &BTreeMap::new()).unwrap()
}

async fn start(config: &Config) -> Result<server::Running, server::StartError> {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    server::start(config).await
}

async fn execute(file: &Path, sql: &'static str) {
    let mut connection =
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn make(config: &Config, to: &Path) -> Result<backup::Created, BackupError> {
    backup::create(config, &Place::File(to.to_owned()), None, &Progress::hidden()).await
}

async fn put_back(config: &Config, from: &Path) -> Result<backup::RestoredServer, BackupError> {
    let options = RestoreOptions { replace: true, passphrase: None };
    backup::restore(config, &Place::File(from.to_owned()), &options, &Progress::hidden()).await
}

/// A data folder as the first release left it.
async fn first_release(dir: &TempDir) -> PathBuf {
    let (data, folder) = (dir.path().join("data"), dir.path().join("migrations"));
    blob_store::durable::create_dir_all(&data).unwrap();
    blob_store::durable::create_dir_all(&folder).unwrap();
    std::fs::copy(format!("{MIGRATIONS}/0001_initial.sql"), folder.join("0001_initial.sql")).unwrap();
    let file = data.join("ground-control.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
    Migrator::new(folder).await.unwrap().run(&pool).await.unwrap();
    sqlx::query(
        "INSERT INTO satellites (id, name, region, state, created_at, updated_at)
         VALUES ('0190', 'edge-01', 'default', 'pending', 1, 1)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    file
}

#[tokio::test]
async fn an_older_backup_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    first_release(&dir).await;
    let (config, archive) = (config(dir.path(), &[]), dir.path().join("old.tar"));
    let created = make(&config, &archive).await.unwrap();
    assert_eq!((created.head.schema, created.head.epoch), (1, 0));
    // Making it changed nothing: a backup comes before the new program is tried.
    let other = tempfile::tempdir().unwrap();
    let restored = put_back(&self::config(other.path(), &[]), &archive).await.unwrap();
    assert_eq!(restored.database.epoch, 1);
    let config = self::config(other.path(), &[]);
    let Location::Sqlite { file } = &config.database else { panic!("not SQLite") };
    let store = store::open(&Location::Sqlite { file: file.clone() }).await.unwrap();
    assert_eq!(store.satellite("edge-01").await.unwrap().region, "default");
    store.close().await;
    let again = make(&self::config(dir.path(), &[]), &dir.path().join("again.tar")).await.unwrap();
    assert_eq!(again.head.schema, 1);
}

#[tokio::test]
async fn a_newer_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = first_release(&dir).await;
    execute(
        &file,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9001, 'later', TRUE, X'00', 0)",
    )
    .await;
    let (config, archive) = (config(dir.path(), &[]), dir.path().join("new.tar"));
    assert_eq!(make(&config, &archive).await.unwrap().head.schema, 9001);
    let other = tempfile::tempdir().unwrap();
    let refused = put_back(&self::config(other.path(), &[]), &archive).await.unwrap_err();
    assert!(matches!(refused, BackupError::Newer { schema: 9001, .. }), "{refused}");
    assert!(!other.path().join("data/ground-control.db").try_exists().unwrap());
}

#[tokio::test]
async fn a_running_server_keeps_a_restore_away_and_lets_backups_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &[]);
    let running = start(&config).await.unwrap();
    let archive = dir.path().join("backup.tar");
    let created = make(&config, &archive).await.unwrap();
    assert!(!created.key && created.head.registry && created.head.key_check.is_some());
    assert!(matches!(make(&config, &archive).await, Err(BackupError::Exists(_))));
    assert!(matches!(put_back(&config, &archive).await, Err(BackupError::InUse(_))));
    running.stop().await;
    let restored = put_back(&config, &archive).await.unwrap();
    assert!(restored.before.is_some());
    // With the key of somebody else, nothing.
    std::fs::copy(config.data_dir.join("secret.key"), dir.path().join("kept")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let foreign = start(&self::config(other.path(), &[])).await.unwrap();
    foreign.stop().await;
    let refused = put_back(&self::config(other.path(), &[]), &archive).await.unwrap_err();
    assert!(matches!(refused, BackupError::KeyForeign(_)), "{refused}");
    start(&config).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_database_and_a_key_elsewhere_are_put_back_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (database, key) = (dir.path().join("elsewhere/gc.db"), dir.path().join("keys/gc.key"));
    for path in [&database, &key] {
        blob_store::durable::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let url = format!("sqlite://{}", database.display());
    let settings = [("DATABASE_URL", url.as_str()), ("SECRET_KEY_FILE", key.to_str().unwrap())];
    let config = config(dir.path(), &settings);
    start(&config).await.unwrap().stop().await;
    let (archive, phrase) = (dir.path().join("backup.tar"), dir.path().join("phrase"));
    blob_store::durable::write_file(&phrase, b"correct horse battery", 0o600).unwrap();
    let place = Place::File(archive);
    let created = backup::create(&config, &place, Some(&phrase), &Progress::hidden()).await.unwrap();
    assert!(created.key);
    std::fs::remove_file(&key).unwrap();
    let options = RestoreOptions { replace: true, passphrase: Some(phrase) };
    let restored = backup::restore(&config, &place, &options, &Progress::hidden()).await.unwrap();
    assert!(restored.key && key.try_exists().unwrap() && database.try_exists().unwrap());
    let beside: Vec<String> = std::fs::read_dir(database.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(beside.iter().any(|name| name.starts_with("gc.db.before-restore-")), "{beside:?}");
    assert!(!beside.iter().any(|name| name.ends_with(".restore")), "{beside:?}");
    start(&config).await.unwrap().stop().await;
}
