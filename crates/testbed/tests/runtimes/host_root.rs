//! A Satellite in a container sees the machine below a folder, and asks for all runtimes that are there.

use std::collections::BTreeMap;
use std::process::Command;

use testbed::machine;
use testbed::{command, files};

use crate::engines::{Containerd, Docker, Engine, Podman};
use crate::scene::Scene;

#[test]
fn whatever_is_installed() {
    let result = machine::alone("host_root::whatever_is_installed", async |machine| {
        let scene = Scene::new(machine, &[]).await;
        let nowhere = BTreeMap::new();
        let containerd = Containerd::start(&scene.machine, nowhere.clone()).await;
        let docker = Docker::start(&scene.machine, nowhere.clone()).await;
        let podman = Podman::start(&scene.machine, nowhere).await;
        let host = scene.machine.folder().join("host");
        files::create_dir(&host).unwrap();
        let mut bind = Command::new("mount");
        bind.arg("--rbind").arg("/").arg(&host);
        command::run(bind).await.unwrap();
        let before = scene.machine.configuration();

        let (endpoint, root) = (scene.site.url(), host.display().to_string());
        let further = containerd.words();
        let mut words = vec!["apply", "--mirrors=auto:docker.io,quay.io", "--endpoint", &endpoint];
        words.extend(["--host-root", &root]);
        words.extend(further.iter().map(String::as_str));
        let said = scene.mirrors(&words).await.unwrap();
        assert_eq!(said.lines().filter(|line| line.contains("in force")).count(), 3, "{said}");
        let [app, tool] = [&scene.held[0], &scene.held[1]];
        for reference in app.references().iter().chain(&tool.references()) {
            containerd.pull(reference).await.unwrap();
            podman.pull(reference).await.unwrap();
        }
        docker.pull(&app.references()[0]).await.unwrap();

        // A person on the machine itself sees the same, and takes it back.
        let status = scene.mirrors(&["status"]).await.unwrap();
        assert_eq!(
            status.lines().filter(|line| line.contains(&endpoint) || line.contains(" from ")).count(),
            3
        );
        let mut words = vec!["remove"];
        words.extend(further.iter().map(String::as_str));
        scene.mirrors(&words).await.unwrap();
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
        assert_eq!(docker.mirrors().await.trim(), "[]");
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
