//! Satellites follow a restored server, whatever they have seen since the backup.

use testbed::admin::Wanted;
use testbed::process::wait_for;
use testbed::world::World;

use crate::support::{LIMIT, done, push, text};

#[tokio::test]
async fn a_satellite_that_has_seen_more_follows_the_restored_state() {
    let mut world = World::start().await.unwrap();
    let dir = world.dir().to_owned();
    let old = push(&world.registry(), &dir, "shop/app", "live", 1).await.root.digest;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "live", old)]).await.unwrap();
    let site = world.site("edge-01", &["one"], None).await.unwrap();
    let satellite = site.start().await.unwrap();
    site.wait_for_tag("shop/app", "live", old, LIMIT).await.unwrap();
    let generation = async || {
        let heartbeat = world.admin.status("edge-01").await.ok()??;
        heartbeat["generation"].as_u64().filter(|generation| *generation > 0)
    };
    wait_for("a generation", LIMIT, generation).await.unwrap();
    let file = dir.join("backup.tar");
    done(&world.place, &["backup", "--to", text(&file)]).await;

    // Twice from the same backup: each time there is more that it does not know.
    for round in 0..2 {
        let mut new = old;
        for seed in 10..14 {
            new =
                push(&world.registry(), &dir, "shop/app", "live", 100 * (round + 1) + seed).await.root.digest;
            world.admin.sync_group("one", &[Wanted::new("shop/app", "live", new)]).await.unwrap();
        }
        site.wait_for_tag("shop/app", "live", new, LIMIT).await.unwrap();
        world.kill_ground_control().unwrap();
        let said = done(&world.place, &["restore", "--from", text(&file), "--replace"]).await;
        assert!(said.contains(&format!("\"epoch\":{}", round + 1)), "{said}");
        world.restart_ground_control().await.unwrap();
        // Sessions ended with the restore.
        assert!(world.admin.satellite("edge-01").await.is_err());
        world.login().await.unwrap();
        site.wait_for_tag("shop/app", "live", old, LIMIT).await.unwrap();
        wait_for("the generation of the restored server", LIMIT, async || {
            let heartbeat = world.admin.status("edge-01").await.ok()??;
            (heartbeat["generation"].as_u64()? >> 40 == round + 1).then_some(())
        })
        .await
        .unwrap();
    }
    // And what is changed from then on.
    let last = push(&world.registry(), &dir, "shop/app", "live", 999).await.root.digest;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "live", last)]).await.unwrap();
    site.wait_for_tag("shop/app", "live", last, LIMIT).await.unwrap();
    satellite.stop().await.unwrap();
}

#[tokio::test]
async fn who_was_revoked_since_is_named() {
    let mut world = World::start().await.unwrap();
    for name in ["edge-01", "edge-02"] {
        world.admin.create_satellite(name, &[]).await.unwrap();
    }
    let file = world.dir().join("backup.tar");
    done(&world.place, &["backup", "--to", text(&file)]).await;
    world.admin.revoke("edge-02").await.unwrap();
    world.kill_ground_control().unwrap();
    let said = done(&world.place, &["restore", "--from", text(&file), "--replace"]).await;
    assert!(said.contains("edge-02") && !said.contains("edge-01"), "{said}");
    // Tokens of which nobody knows whether they were used are worth nothing.
    assert!(said.contains("\"tokens_closed\":2"), "{said}");
    world.restart_ground_control().await.unwrap();
    world.login().await.unwrap();
    assert_eq!(world.admin.satellite("edge-02").await.unwrap()["state"], "pending");
}
