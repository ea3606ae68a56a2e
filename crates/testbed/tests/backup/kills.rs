//! Killed at any moment, a restore leaves the old state or the new one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use testbed::ground_control::{self, Place};
use testbed::world::World;

use crate::support::{copy, done, groups, push, text, wanted};

/// How often it is killed.
const KILLS: u32 = 12;

#[tokio::test]
async fn killed_at_any_moment_it_leaves_the_old_or_the_new() {
    let mut world = World::start().await.unwrap();
    let (dir, registry) = (world.dir().to_owned(), world.registry());
    let old = wanted(&world.admin, &registry, &dir, "old", 1).await;
    for seed in 10..40 {
        push(&registry, &dir, "shop/more", &format!("t{seed}"), seed).await;
    }
    let file = dir.join("backup.tar");
    done(&world.place, &["backup", "--to", text(&file)]).await;
    world.admin.delete_group("old").await.unwrap();
    let new = wanted(&world.admin, &registry, &dir, "new", 2).await;
    world.ground_control.take().unwrap().stop().await.unwrap();

    let mut place = Place::new(&dir.join("target"), ground_control::Options::default()).unwrap();
    place.set("ADMIN_PASSWORD", world.place.password());
    let fresh = || {
        drop(std::fs::remove_dir_all(place.data_dir()));
        copy(&world.place.data_dir(), &place.data_dir());
    };
    fresh();
    let begun = Instant::now();
    done(&place, &["restore", "--from", text(&file), "--replace"]).await;
    let takes = begun.elapsed();
    let mut restored = 0;
    for kill in 0..=KILLS {
        fresh();
        let mut program = place.command().unwrap();
        program.args(["restore", "--from", text(&file), "--replace"]);
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment of the kill is what is tried out; nothing waits for it.
        tokio::time::sleep(takes * kill / KILLS + Duration::from_millis(u64::from(kill))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let server = place.start().await.unwrap();
        let (url, password) = (server.url(), world.place.password());
        let admin = testbed::admin::Admin::login(url, ground_control::ADMIN, password).await.unwrap();
        let here = testbed::registry::Registry::basic(url, ground_control::ADMIN, password);
        let listed = groups(&admin).await;
        let (group, digest) = if listed.contains_key("old") { ("old", old) } else { ("new", new) };
        restored += u32::from(group == "old");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[group], [(format!("shop/{group}"), digest)]);
        let whole = here.verify(&format!("shop/{group}"), &digest.to_string()).await.unwrap();
        assert!(whole.is_some(), "{group} after kill {kill}");
        server.stop().await.unwrap();
        for rest in ["restore", "restore.json", "registry/restore"] {
            assert!(!place.data_dir().join(rest).try_exists().unwrap(), "{rest} after kill {kill}");
        }
    }
    assert!(restored <= KILLS, "the first kill comes before anything is done");
}
