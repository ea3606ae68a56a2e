//! A running Satellite with `--mirrors`, and without: it keeps the runtimes in step with its own settings.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testbed::machine;
use testbed::process::wait_for;

use crate::engines::{Containerd, Docker, Engine, Podman};
use crate::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [&str; 3] = ["containerd", "docker", "podman"];

/// Waits until its status says this of these runtimes.
async fn are(scene: &Scene, runtimes: &[&str], state: &str) {
    let mut last = Value::Null;
    let looked = wait_for("the runtimes", PATIENCE, async || {
        last = scene.site.status().await.ok()?["satellite"]["mirrors"].clone();
        let told = &last["runtimes"];
        runtimes.iter().all(|runtime| told[runtime]["state"] == state).then_some(())
    })
    .await;
    looked.unwrap_or_else(|error| panic!("{error}: {last}"));
}

#[test]
fn a_satellite_keeps_its_runtimes() {
    let result = machine::alone("running::a_satellite_keeps_its_runtimes", async |machine| {
        let mut scene = Scene::new(machine, &[]).await;
        scene.satellite.take().unwrap().stop().await.unwrap();
        // Nobody but the Satellite can answer them.
        let nowhere = std::collections::BTreeMap::new();
        let containerd = Containerd::start(&scene.machine, nowhere.clone()).await;
        let docker = Docker::start(&scene.machine, nowhere.clone()).await;
        let podman = Podman::start(&scene.machine, nowhere).await;
        let before = scene.machine.configuration();

        let restart = containerd.words().pop().unwrap();
        let flags =
            ["--mirrors=containerd:docker.io,quay.io", "--mirrors=podman:docker.io", "--mirrors=docker:true"];
        let mut arguments: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        arguments.extend(["--restart-command".to_owned(), restart.clone()]);
        scene.site.set_arguments(arguments);
        let satellite = scene.site.start().await.unwrap();
        are(&scene, &ALL, "in_force").await;
        let [app, tool] = [&scene.held[0], &scene.held[1]];
        for reference in app.references().iter().chain(&tool.references()) {
            containerd.pull(reference).await.unwrap();
        }
        for reference in app.references() {
            docker.pull(&reference).await.unwrap();
            podman.pull(&reference).await.unwrap();
        }
        podman.pull(&tool.references()[0]).await.unwrap_err();
        satellite.stop().await.unwrap();

        // The next one has other settings.
        scene.site.set_arguments(vec!["--restart-command".to_owned(), restart]);
        let satellite = scene.site.start().await.unwrap();
        are(&scene, &ALL, "removed").await;
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
        assert_eq!(docker.mirrors().await.trim(), "[]");
        assert_eq!(containerd.asked(), ["start", "restart", "restart"]);
        assert_eq!(docker.asked(), ["start", "reload", "reload"]);
        satellite.stop().await.unwrap();
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_configuration_asks_for_them_at_run_time() {
    let result = machine::alone("running::a_configuration_asks_for_them_at_run_time", async |machine| {
        let scene = Scene::with_a_cloud(machine, &[]).await;
        let nowhere = std::collections::BTreeMap::new();
        let podman = Podman::start(&scene.machine, nowhere).await;
        let before = scene.machine.configuration();
        let fallback = |enabled: bool| json!({"enabled": enabled, "registries": ["docker.io", "quay.io"], "runtimes": ["podman"]});
        let admin = &scene.world.admin;
        let config = json!({"app_config": {"registry_fallback": fallback(true)}});
        let body = json!({"config_name": "edge", "registry": "", "config": config});
        admin.call(Method::POST, "/api/configs", Some(&body)).await.unwrap();
        let body = json!({"satellite": "edge-01", "config_name": "edge"});
        admin.call(Method::POST, "/api/configs/satellite", Some(&body)).await.unwrap();
        are(&scene, &["podman"], "in_force").await;
        for held in &scene.held {
            podman.pull(&held.references()[0]).await.unwrap();
        }
        let body = json!({"app_config": {"registry_fallback": fallback(false)}});
        admin.call(Method::PATCH, "/api/configs/edge", Some(&body)).await.unwrap();
        are(&scene, &["podman"], "removed").await;
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
