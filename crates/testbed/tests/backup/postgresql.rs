//! With PostgreSQL: its own dump, and beside it the key, the registry and the epoch.

use std::process::Command;

use testbed::admin::Admin;
use testbed::command;
use testbed::ground_control::{self, Place};
use testbed::postgres::Postgres;
use testbed::registry::Registry;
use testbed::world::World;

use crate::support::{done, groups, passphrase, refused, text, wanted};

/// A program of the PostgreSQL that is installed.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let newest = versions.map(|version| version.unwrap().path()).max().unwrap();
    Command::new(newest.join("bin").join(name))
}

#[tokio::test]
async fn the_key_goes_along_and_the_epoch_is_raised() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("before").await.unwrap();
    let options = ground_control::Options { database_url: Some(url), ..ground_control::Options::default() };
    let mut world = World::start_with(options).await.unwrap();
    let dir = world.dir().to_owned();
    let digest = wanted(&world.admin, &world.registry(), &dir, "one", 1).await;
    let (phrase, file, dump) = (passphrase(&dir), dir.join("backup.tar"), dir.join("backup.dump"));
    let said = refused(&world.place, &["backup", "--to", text(&file)]).await;
    assert!(said.contains("--key-passphrase-file"), "{said}");
    let said =
        done(&world.place, &["backup", "--to", text(&file), "--key-passphrase-file", text(&phrase)]).await;
    assert!(said.contains("pg_dump --format=custom") && !said.contains(Postgres::PASSWORD), "{said}");
    let mut dumping = program("pg_dump");
    dumping.args([
        "--format=custom",
        "--no-owner",
        "--dbname",
        &postgres.url("before"),
        "--file",
        text(&dump),
    ]);
    command::run(dumping).await.unwrap();
    wanted(&world.admin, &world.registry(), &dir, "two", 2).await;

    // Elsewhere: an empty database, no key, no registry.
    let url = postgres.create_database("after").await.unwrap();
    let options =
        ground_control::Options { database_url: Some(url.clone()), ..ground_control::Options::default() };
    let place = Place::new(&dir.join("elsewhere"), options).unwrap();
    testbed::files::create_dir(&dir.join("elsewhere")).unwrap();
    let restore = ["restore", "--from", text(&file), "--key-passphrase-file", text(&phrase)];
    let said = refused(&place, &restore).await;
    assert!(said.contains("pg_restore"), "{said}");
    let mut restoring = program("pg_restore");
    restoring.args(["--no-owner", "--dbname", &url, text(&dump)]);
    command::run(restoring).await.unwrap();
    let said = done(&place, &restore).await;
    assert!(said.contains("\"epoch\":1"), "{said}");
    let server = place.start().await.unwrap();
    let said = refused(&place, &["restore", "--from", text(&file), "--replace"]).await;
    assert!(said.contains("in use") || said.contains("connected"), "{said}");
    let password = world.place.password();
    let admin = Admin::login(server.url(), ground_control::ADMIN, password).await.unwrap();
    let registry = Registry::basic(server.url(), ground_control::ADMIN, password);
    let listed = groups(&admin).await;
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["one"]);
    assert!(registry.verify("shop/one", &digest.to_string()).await.unwrap().is_some());
    server.stop().await.unwrap();

    // Another installation's database is not taken for this one.
    let url = postgres.create_database("third").await.unwrap();
    let options = ground_control::Options { database_url: Some(url), ..ground_control::Options::default() };
    let third = World::start_with(options).await.unwrap();
    let said = refused(&third.place, &["restore", "--from", text(&file), "--replace"]).await;
    assert!(said.contains("in use"), "{said}");
    let mut third = third;
    third.kill_ground_control().unwrap();
    let with_key = ["restore", "--from", text(&file), "--replace", "--key-passphrase-file", text(&phrase)];
    let said = refused(&third.place, &with_key).await;
    assert!(said.contains("not the one that this backup belongs to") || said.contains("connected"), "{said}");
    world.kill_ground_control().unwrap();
}
