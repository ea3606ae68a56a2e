//! What happens to a node.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use testbed::process::wait_for;

use crate::cluster::{Cluster, LIMIT, NODE, records_of};

const APP: &str = "docker.io/library/app";
const TOOL: &str = "quay.io/acme/tool";
const THERE: &str = "docker.io/library/there";

/// Images come, are pinned, and go; and nothing else does. `version` is what the runtime says of itself.
pub(crate) async fn comes_and_goes(programs: Option<PathBuf>, version: &str) {
    let mut cluster = Cluster::new(programs).await;
    let app = cluster.push("library/app", 1, &[60_000, 3_000]).await;
    let tool = cluster.push("quay.io/acme/tool", 2, &[40_000]).await;
    let there = cluster.push("library/there", 3, &[20_000]).await;
    let all = [("library/app", &app), ("quay.io/acme/tool", &tool), ("library/there", &there)];
    cluster.group(&all).await;
    // The kubelet was first.
    cluster.containerd.cri().pull(&format!("{THERE}:1")).await.unwrap();

    cluster.start_agent();
    let [app_names, tool_names, there_names] =
        [records_of(APP, &app), records_of(TOOL, &tool), records_of(THERE, &there)];
    let ours: Vec<String> = app_names.iter().chain(&tool_names).cloned().collect();
    cluster
        .until("the images, pinned", |seen| {
            ours.iter().all(|name| seen.get(name).is_some_and(|record| record.is_kept(name)))
        })
        .await;
    let seen = cluster.records().await;
    assert_eq!(seen[&app_names[0]].digest, app.root.digest.to_string());
    assert!(there_names.iter().all(|name| seen[name].is_untouched()), "{seen:#?}");
    assert!(cluster.was_asked_for("library/app") && cluster.was_asked_for("quay.io/acme/tool"));
    let node = cluster.node("all three at the node", |node| node["present"] == 3).await;
    assert!(
        node["runtime_version"].as_str().unwrap().trim_start_matches('v').starts_with(version),
        "{node:#}"
    );
    assert_eq!((&node["runtime"], &node["failed"]), (&"containerd".into(), &0.into()), "{node:#}");
    wait_for("the node in the heartbeat", LIMIT, async || {
        let heartbeat = cluster.world.admin.status("edge-01").await.ok()??;
        let text = heartbeat.to_string();
        (text.contains(NODE) && text.contains("\"present\":3")).then_some(())
    })
    .await
    .unwrap();
    if !version.starts_with("1.") {
        wait_for("the pins in CRI's list", LIMIT, async || {
            let images = cluster.containerd.cri().images().await.ok()?;
            let pinned =
                |name: &String| images.iter().any(|image| image.pinned && image.repo_tags.contains(name));
            (pinned(&app_names[0]) && pinned(&tool_names[0]) && !pinned(&there_names[0])).then_some(())
        })
        .await
        .unwrap();
    }

    // A kubelet's pull wipes the labels; they are put back.
    let wiped = ["--namespace", "k8s.io", "images", "label", &app_names[1], "io.cri-containerd.pinned="];
    cluster.containerd.ctr(&wiped).await.unwrap();
    cluster.containerd.cri().pull(&app_names[0]).await.unwrap();
    cluster.until("the labels again", |seen| app_names.iter().all(|name| seen[name].is_kept(name))).await;

    // A person gives the same image another name, which outlives ours, with what it needs.
    let mine = "docker.io/library/mine:1";
    cluster.containerd.ctr(&["--namespace", "k8s.io", "images", "tag", &app_names[0], mine]).await.unwrap();
    cluster.group(&[("library/there", &there), ("quay.io/acme/tool", &tool)]).await;
    cluster.until("the app's tag to go", |seen| !seen.contains_key(&app_names[0])).await;
    cluster
        .until("no pins but the other's", |seen| {
            app_names.iter().skip(1).all(|name| seen.get(name).is_some_and(|record| !record.is_kept(name)))
        })
        .await;
    assert!(cluster.records().await.contains_key(mine));
    // CRI has a list of its own, which hears of changes a little later.
    wait_for("the other name alone in CRI's list", LIMIT, async || {
        let images = cluster.containerd.cri().images().await.ok()?;
        images.iter().any(|image| image.repo_tags == [mine]).then_some(())
    })
    .await
    .unwrap();
    cluster.containerd.ctr(&["--namespace", "k8s.io", "images", "remove", mine]).await.unwrap();
    cluster
        .until("the rest of the app to go", |seen| app_names.iter().all(|name| !seen.contains_key(name)))
        .await;

    // Everything leaves: what was there before stays, as it was.
    let untouched = cluster.records().await;
    cluster.group(&[]).await;
    cluster.until("the tool to go", |seen| tool_names.iter().all(|name| !seen.contains_key(name))).await;
    let left = cluster.records().await;
    assert_eq!(left.keys().cloned().collect::<BTreeSet<_>>(), there_names.iter().cloned().collect());
    assert!(left.iter().all(|(name, record)| untouched[name] == *record));
    cluster.stop_agent().await;
}

/// Killed while the runtime pulls, the agent knows after its restart what it brought and what it did not.
pub(crate) async fn killed_in_a_pull(programs: Option<PathBuf>) {
    let mut cluster = Cluster::new(programs).await;
    let proxy = testbed::proxy::Proxy::start(&cluster.site.url()).await.unwrap();
    cluster.mirror_at(&proxy.url());
    // Half a minute at the speed below: what comes before each kill is kept, and the last one still finds it on its way.
    let app = cluster.push("library/app", 1, &[3_000_000]).await;
    let there = cluster.push("library/there", 2, &[20_000]).await;
    cluster.group(&[("library/app", &app), ("library/there", &there)]).await;
    cluster.containerd.cri().pull(&format!("{THERE}:1")).await.unwrap();
    let layer = app.layout.graph(&app.root).unwrap().blobs[1].digest.to_string();
    for kill in 1..=3 {
        proxy.forget();
        proxy.limit(Some(100_000));
        cluster.start_agent();
        wait_for("the layer on its way", LIMIT, async || {
            let exchanges = proxy.exchanges();
            exchanges.iter().any(|e| e.blob() == Some(layer.as_str()) && e.sent > 10_000).then_some(())
        })
        .await
        .unwrap();
        cluster.kill_agent();
        let list = cluster.world.dir().join("agent").join("records.json");
        let list = String::from_utf8(testbed::files::read(&list).unwrap()).unwrap();
        assert!(
            list.contains("library/app"),
            "kill {kill}: what was there before the pull is listed: {list}"
        );
    }
    proxy.limit(None);
    cluster.start_agent();
    let [app_names, there_names] = [records_of(APP, &app), records_of(THERE, &there)];
    cluster
        .until("the app, pinned", |seen| {
            app_names.iter().all(|name| seen.get(name).is_some_and(|record| record.is_kept(name)))
        })
        .await;
    let seen = cluster.records().await;
    assert!(there_names.iter().all(|name| seen[name].is_untouched()), "{seen:#?}");
    cluster.group(&[]).await;
    cluster
        .until("all that the agent brought to go", |seen| {
            seen.keys().cloned().collect::<BTreeSet<_>>() == there_names.iter().cloned().collect()
        })
        .await;
}

/// With the site gone the agent keeps what is here, also after a restart.
pub(crate) async fn site_away(programs: Option<PathBuf>) {
    let mut cluster = Cluster::new(programs).await;
    let app = cluster.push("library/app", 1, &[30_000]).await;
    cluster.group(&[("library/app", &app)]).await;
    cluster.start_agent();
    let names = records_of(APP, &app);
    let is_kept = |seen: &std::collections::BTreeMap<String, crate::cluster::Record>| {
        names.iter().all(|name| seen.get(name).is_some_and(|record| record.is_kept(name)))
    };
    cluster.until("the app, pinned", is_kept).await;
    cluster.satellite.take().unwrap().kill().unwrap();
    for restart in [false, true] {
        if restart {
            cluster.stop_agent().await;
        }
        for name in &names {
            let wiped = ["--namespace", "k8s.io", "images", "label", name, "io.cri-containerd.pinned="];
            cluster.containerd.ctr(&wiped).await.unwrap();
        }
        if restart {
            cluster.start_agent();
        }
        cluster.until("the pins again", is_kept).await;
    }
    // The site comes back, and with it its word.
    cluster.satellite = Some(cluster.site.start().await.unwrap());
    cluster.world.admin.sync_group("edge", &[]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(120), cluster.until("the app to go", |seen| seen.is_empty()))
        .await
        .unwrap();
}
