//! `rollout status`, `satellites describe` and `audit` against the built Ground Control and Satellite.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::admin::Wanted;
use testbed::process::wait_for;
use testbed::world::World;
use testbed::{binaries, files, image};

use crate::operator::Operator;

const LIMIT: Duration = Duration::from_secs(90);

fn operator(world: &World) -> Operator {
    let home = world.dir().join("home");
    files::create_dir(&home).unwrap();
    let operator = Operator { home, server: world.place.url() };
    operator.logs_in(world.place.password());
    operator
}

#[tokio::test]
async fn a_rollout_is_watched_to_its_end() {
    let world = World::start().await.unwrap();
    let operator = operator(&world);
    let image = image::random(&world.dir().join("image"), 1, &[5_000]).unwrap();
    world.registry().push("shop/app", "live", &image).await.unwrap();
    world.admin.sync_group("shops", &[Wanted::new("shop/app", "live", image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["shops"], None).await.unwrap();
    world.admin.create_satellite("edge-02", &["shops"]).await.unwrap();
    operator.fails(3, &["rollout", "status", "none"]);

    // Nobody has it, and who waits for it gives up in time.
    let run = operator.run(&["rollout", "status", "shops", "--watch", "--timeout", "3s"]);
    let said = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(
        said.contains("0 of 2 satellites have it") && said.contains("edge-01") && said.contains("edge-02"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said}");
    let described = operator.does(&["satellite", "describe", "edge-01"]);
    assert!(
        described.contains("pending") && described.contains("none yet") && described.contains("shop/app"),
        "{described}"
    );

    let satellite = site.start().await.unwrap();
    let watch = ["rollout", "status", "shops", "--watch", "--timeout", "90s", "--ignore-unreachable"];
    let done = operator.json(&watch);
    assert_eq!((&done["standing"], &done["totals"]["current"]), (&json!("complete"), &json!(1)), "{done}");
    let rest = operator.run(&["--output", "json", "rollout", "status", "shops"]);
    assert_eq!(rest.status.code(), Some(1), "one of them is away");
    let rest: Value = serde_json::from_slice(&rest.stdout).unwrap();
    assert_eq!(
        (&rest["satellites"][0]["satellite"], &rest["satellites"][1]),
        (&json!("edge-02"), &Value::Null)
    );

    let empty = operator
        .file("empty.yaml", "groups:\n  empty: {artifacts: [{repository: shop/app, match: {glob: no-*}}]}\n");
    operator.does(&["apply", "-f", &empty]);
    wait_for("the entry that nothing stands for", LIMIT, async || {
        let shown = operator.run(&["rollout", "status", "empty"]);
        String::from_utf8(shown.stdout).ok()?.contains("unresolved: ").then_some(())
    })
    .await
    .unwrap();
    // Who watches gives the publisher five seconds to hear of a change, and then looks at least once more.
    let run = operator.run(&["rollout", "status", "empty", "--watch", "--timeout", "10s"]);
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.code() == Some(1) && said.contains("unresolved: shop/app glob no-*"), "{said}");
    operator.does(&["rollout", "status", "empty", "--watch", "--timeout", "60s", "--ignore-unresolved"]);

    let described = operator.json(&["satellite", "describe", "edge-01"]);
    assert_eq!(described["drift"], json!(false), "{described}");
    assert_eq!(described["artifacts"][0]["state"], "there");
    assert_eq!(described["status"]["name"], "edge-01");
    assert!(
        described["events"].as_array().unwrap().iter().any(|event| event["action"] == "satellite.created"),
        "{described}"
    );

    // What cannot be had is named with its reason, and is drift.
    let gone = image::random(&world.dir().join("gone"), 2, &[5_000]).unwrap();
    world.admin.sync_group("shops", &[Wanted::new("shop/app", "gone", gone.root.digest)]).await.unwrap();
    let failed = wait_for("a satellite that tells of a failure", LIMIT, async || {
        let shown = operator.run(&["--output", "json", "rollout", "status", "shops"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        (shown["totals"]["failed"] == 1).then(|| shown["satellites"][0].clone())
    });
    let failed = failed.await.unwrap();
    assert!(failed["satellite"] == "edge-01" && !failed["reason"].as_str().unwrap().is_empty(), "{failed}");
    let run = operator.run(&["rollout", "status", "shops", "--watch", "--fail-fast"]);
    assert_eq!(run.status.code(), Some(1), "who does not wait for what failed is told at once");
    let described = operator.does(&["satellite", "describe", "edge-01"]);
    assert!(described.contains("failed") && described.contains("(drifts)"), "{described}");
    let drifting = operator.json(&["satellites", "list", "--drift"]);
    assert!(drifting.as_array().unwrap().iter().any(|one| one["name"] == "edge-01"), "{drifting}");
    satellite.stop().await.unwrap();
}

#[tokio::test]
async fn the_audit_is_read_and_followed() {
    let world = World::start().await.unwrap();
    let operator = operator(&world);
    world.admin.sync_group("shops", &[]).await.unwrap();
    let rows = operator.json(&["audit", "--action", "group.synced"]);
    assert_eq!((&rows[0]["subject"], &rows[1]), (&json!("group/shops"), &Value::Null), "{rows}");
    assert_eq!(operator.json(&["audit", "--limit", "1"]).as_array().unwrap().len(), 1);
    assert!(operator.does(&["audit", "--since", "1h", "--subject", "group/shops"]).contains("group.synced"));
    assert_eq!(operator.json(&["audit", "--until", "1h"]), json!([]));
    operator.fails(2, &["audit", "--since", "yesterday"]);

    let mut following = Command::new(binaries::find("groundctl", None).unwrap())
        .args(["--output", "json", "audit", "--follow", "--limit", "1", "--action", "group.synced"])
        .env_clear()
        .env("HOME", &operator.home)
        .env("GROUNDCTL_SERVER", &operator.server)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next =
        || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["subject"].clone();
    assert_eq!(next(), "group/shops");
    for group in ["one", "two"] {
        world.admin.sync_group(group, &[]).await.unwrap();
    }
    assert_eq!((next(), next()), (json!("group/one"), json!("group/two")));
    following.kill().unwrap();
    following.wait().unwrap();
}
