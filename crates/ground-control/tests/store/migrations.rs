//! Replicas are exchanged one after the other: for a while an older program works on a newer schema.

use std::path::PathBuf;

use ground_control::store::Location;
use secrecy::ExposeSecret as _;
use sqlx::migrate::Migrator;

use crate::fixture::{Fixture, at, group, satellite};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ground-control-domain/migrations");

fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(MIGRATIONS).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// A migrator that knows only the first `count` migrations, as a program of that time does.
async fn older(count: usize, folder: PathBuf) -> Migrator {
    for file in files().iter().take(count) {
        std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let mut migrator = Migrator::new(folder).await.unwrap();
    migrator.set_ignore_missing(true);
    migrator
}

async fn boot(migrator: Migrator, location: Location) {
    match location {
        Location::Sqlite { file } => {
            let url = format!("sqlite://{}?mode=rwc", file.display());
            let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
            migrator.run(&pool).await.unwrap();
            pool.close().await;
        }
        Location::Postgres { url } => {
            let pool = sqlx::PgPool::connect(url.expose_secret()).await.unwrap();
            migrator.run(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

pub(crate) async fn an_older_program_boots_on_a_newer_schema(fixture: Fixture) {
    // A database that the first release made, brought up to date by this one …
    let first = tempfile::tempdir().unwrap();
    boot(older(1, first.path().to_path_buf()).await, fixture.location.clone()).await;
    let store = fixture.ready().await;
    group(&store, "east", "shop/app").await;
    satellite(&store, "edge-01", &["east"]).await;
    // … and started on by programs of every release between the two, beside this one.
    for count in 1..=files().len() {
        let folder = tempfile::tempdir().unwrap();
        boot(older(count, folder.path().to_path_buf()).await, fixture.location.clone()).await;
    }
    satellite(&store, "edge-02", &["east"]).await;
    let again = fixture.open().await;
    assert_eq!(again.satellite("edge-01").await.unwrap().groups, ["east"]);
    again.delete_satellite("edge-02", at(9)).await.unwrap();
}

/// What an older program does not expect is a column that it must fill or a table that is gone.
#[test]
fn migrations_only_ever_add() {
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let code: Vec<_> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        for statement in code.join(" ").split(';').map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "))
        {
            let adds_a_column = statement.starts_with("ALTER TABLE ") && statement.contains(" ADD COLUMN ");
            let new = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ", "INSERT INTO "];
            // Of rows that are there, a new column may say something.
            let fills = statement.starts_with("UPDATE ");
            let adds = statement.is_empty() || fills || new.iter().any(|start| statement.starts_with(start));
            assert!(adds || adds_a_column, "{}: {statement}", file.display());
            let fillable = !statement.contains("NOT NULL") || statement.contains(" DEFAULT ");
            assert!(!adds_a_column || fillable, "{}: {statement} has no default", file.display());
        }
    }
}
