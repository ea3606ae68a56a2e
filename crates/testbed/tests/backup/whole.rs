//! Beside a server that works: nothing acknowledged is missing, nothing named is missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use testbed::admin::Wanted;
use testbed::ground_control::{self, Place};
use testbed::image;
use testbed::world::World;

use crate::support::{done, groups, passphrase, push, refused, text, wanted};

#[tokio::test]
async fn a_backup_of_a_working_server_has_all_that_was_acknowledged() {
    let world = World::start().await.unwrap();
    let (dir, registry) = (world.dir(), world.registry());
    let phrase = passphrase(dir);
    let mut acknowledged = BTreeMap::new();
    for seed in 0..6 {
        let group = format!("group-{seed}");
        acknowledged.insert(group.clone(), wanted(&world.admin, &registry, dir, &group, seed).await);
    }
    world.admin.create_satellite("edge-01", &["group-0"]).await.unwrap();

    // Somebody replaces images and deletes the old ones all the time.
    let stop = AtomicBool::new(false);
    let changes = async {
        let mut old = image::random(&dir.join("first"), 1000, &[9_000]).unwrap().root.digest;
        for seed in 1001.. {
            if stop.load(Ordering::Relaxed) {
                return seed;
            }
            let image = push(&registry, dir, "shop/busy", "live", seed).await;
            let wanted = Wanted::new("shop/busy", "live", image.root.digest);
            world.admin.sync_group("busy", &[wanted]).await.unwrap();
            let path = format!("/v2/shop/busy/manifests/{old}");
            let (method, headers) = (reqwest::Method::DELETE, HeaderMap::new());
            registry.send(method, &path, headers, Bytes::new()).await.unwrap();
            old = image.root.digest;
        }
        0
    };
    let backups = async {
        let mut files = Vec::new();
        for number in 0..3 {
            let file = dir.join(format!("backup-{number}.tar"));
            let arguments = ["backup", "--to", text(&file), "--key-passphrase-file", text(&phrase)];
            done(&world.place, &arguments).await;
            files.push(file);
        }
        stop.store(true, Ordering::Relaxed);
        files
    };
    let (changed, files) = tokio::join!(changes, backups);
    assert!(changed > 1003, "something changed meanwhile: {changed}");

    let said = refused(&world.place, &["backup", "--to", text(&files[0])]).await;
    assert!(said.contains("overwrites none"), "{said}");
    for (number, file) in files.iter().enumerate() {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        done(&world.place, &["backup", "verify", text(file)]).await;
        let place = Place::new(&dir.join(format!("restored-{number}")), ground_control::Options::default());
        let place = place.unwrap();
        testbed::files::create_dir(&dir.join(format!("restored-{number}"))).unwrap();
        let arguments = ["restore", "--from", text(file), "--key-passphrase-file", text(&phrase)];
        let said = done(&place, &arguments).await;
        assert!(said.contains("REVOKED"), "{said}");
        // The first administrator's password is the database's, not that of the new place.
        let server = place.start().await.unwrap();
        let password = world.place.password();
        let admin =
            testbed::admin::Admin::login(server.url(), ground_control::ADMIN, password).await.unwrap();
        let here = testbed::registry::Registry::basic(server.url(), ground_control::ADMIN, password);
        let listed = groups(&admin).await;
        for (group, digest) in &acknowledged {
            assert_eq!(listed[group], [(format!("shop/{group}"), *digest)]);
        }
        for (repository, digest) in listed.values().flatten() {
            let whole = here.verify(repository, &digest.to_string()).await.unwrap();
            assert!(whole.is_some(), "backup {number} names {repository}@{digest} and has it not");
        }
        assert_eq!(admin.satellite("edge-01").await.unwrap()["groups"], serde_json::json!(["group-0"]));
        server.stop().await.unwrap();
    }
    // Nothing is left of the work but the files themselves.
    for rest in ["backup", "restore", "registry/backup"] {
        assert!(!world.place.data_dir().join(rest).try_exists().unwrap(), "{rest}");
    }
}

#[tokio::test]
async fn what_is_in_use_or_occupied_is_refused() {
    let world = World::start().await.unwrap();
    let (dir, registry) = (world.dir(), world.registry());
    wanted(&world.admin, &registry, dir, "one", 1).await;
    let file = dir.join("backup.tar");
    let said = done(&world.place, &["backup", "--to", text(&file)]).await;
    assert!(said.contains("the server key is not in this backup"), "{said}");
    let said = refused(&world.place, &["restore", "--from", text(&file), "--replace"]).await;
    assert!(said.contains("is in use"), "{said}");
    let World { ground_control, place, .. } = &world;
    assert!(ground_control.is_some());
    // Another folder has no key.
    let other = Place::new(&dir.join("other"), ground_control::Options::default()).unwrap();
    testbed::files::create_dir(&dir.join("other")).unwrap();
    let said = refused(&other, &["restore", "--from", text(&file)]).await;
    assert!(said.contains("the server key is missing"), "{said}");
    // With it, it goes there, and a second time only over what is there.
    std::fs::copy(place.data_dir().join("secret.key"), other.data_dir().join("secret.key")).unwrap();
    done(&other, &["restore", "--from", text(&file)]).await;
    let said = refused(&other, &["restore", "--from", text(&file)]).await;
    assert!(said.contains("--replace"), "{said}");
    let said = done(&other, &["restore", "--from", text(&file), "--replace"]).await;
    assert!(said.contains("what was there is kept"), "{said}");
    other.start().await.unwrap().stop().await.unwrap();
}
