//! The files that Podman and CRI-O share, read back by Podman and by skopeo.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use testbed::{Result, command, files, machine};

use crate::engines::{Engine, Podman};
use crate::scene::{Held, Scene};

/// What an operator has of quay.io, in the folder of drop-ins.
const SITE: &str = "# this site's\n[[registry]]\nprefix = \"quay.io\" # all of it\nlocation = \"quay.io\"\n\n\
                    [[registry.mirror]]\nlocation = \"127.0.0.1:9/old\"\ninsecure = true\n";
/// Root's own files of them.
const ROOT: &str = "/root/.config/containers";
const SITE_FILE: &str = "/etc/containers/registries.conf.d/010-site.conf";

/// What skopeo makes of the machine's files: the digest under a name.
async fn skopeo(held: &Held) -> Result<String> {
    let mut skopeo = Command::new(command::need("skopeo", "skopeo")?);
    let name = format!("docker://{}", held.references()[0]);
    skopeo.args(["inspect", "--raw", &name]);
    command::run(skopeo).await
}

/// The mirrors of a registry as Podman reads them, the first first.
async fn mirrors(podman: &Podman, registry: &str) -> Vec<String> {
    let said = podman.podman(&["info", "--format", "{{json .Registries}}"]).await.unwrap();
    let all: Value = serde_json::from_str(&said).unwrap();
    let list = all[registry]["Mirrors"].as_array().cloned().unwrap_or_default();
    list.iter().map(|mirror| mirror["Location"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_left_is_the_other_runtime_s() {
    let result = machine::alone("sharing::what_is_left_is_the_other_runtime_s", async |machine| {
        let scene = Scene::new(machine, &[]).await;
        let [app, tool] = [&scene.held[0], &scene.held[1]];
        // No package has CRI-O: what is looked at of it is that it is there, and its files are judged by Podman.
        files::write("/usr/local/bin/crio".as_ref(), "#!/bin/sh\necho crio version 1.28.4\n").unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions("/usr/local/bin/crio", std::fs::Permissions::from_mode(0o755)).unwrap();
        files::write(SITE_FILE.as_ref(), SITE).unwrap();
        let podman = Podman::start(&scene.machine, BTreeMap::new()).await;
        skopeo(app).await.unwrap_err();
        let before = scene.machine.configuration();
        let endpoint = scene.site.url();
        let apply = async |wishes: &[&str]| {
            let mut words = vec!["apply", "--endpoint", &endpoint];
            words.extend(wishes);
            scene.mirrors(&words).await.unwrap()
        };

        apply(&["--mirrors=podman:docker.io,quay.io", "--mirrors=crio:quay.io"]).await;
        let here = scene.site.address();
        let ours = format!("{here}/quay.io");
        assert_eq!(mirrors(&podman, "docker.io").await, std::slice::from_ref(&here));
        let merged = mirrors(&podman, "quay.io").await;
        assert_eq!(merged.first(), Some(&ours), "{merged:?}");
        assert!(merged.contains(&"127.0.0.1:9/old".to_owned()), "merged, not replaced: {merged:?}");
        let text = String::from_utf8(files::read(SITE_FILE.as_ref()).unwrap()).unwrap();
        assert!(text.contains("# this site's\n") && text.contains("# all of it"), "{text}");
        for held in [app, tool] {
            let served = String::from_utf8(held.image.layout.read(&held.digest()).unwrap()).unwrap();
            assert_eq!(skopeo(held).await.unwrap(), served);
        }

        // Podman is not to have any more; CRI-O is.
        apply(&["--mirrors=crio:quay.io"]).await;
        assert_eq!(mirrors(&podman, "quay.io").await, merged);
        assert_eq!(mirrors(&podman, "docker.io").await, Vec::<String>::new());
        skopeo(tool).await.unwrap();
        skopeo(app).await.unwrap_err();

        scene.mirrors(&["remove"]).await.unwrap();
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());

        // Root's own drop-ins are read last: an entry there is the one in force.
        let entry =
            "[[registry]]\nlocation = \"docker.io/\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:9/root\"\n";
        files::write(format!("{ROOT}/registries.conf.d/10-root.conf").as_ref(), entry).unwrap();
        let before = scene.machine.configuration();
        apply(&["--mirrors=podman:docker.io"]).await;
        assert_eq!(mirrors(&podman, "docker.io").await, [here, "127.0.0.1:9/root".to_owned()]);
        scene.mirrors(&["remove"]).await.unwrap();
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
        // Beside a main file of root's the machine's are not read at all.
        files::write(format!("{ROOT}/registries.conf").as_ref(), "").unwrap();
        let words = ["apply", "--endpoint", &endpoint, "--mirrors=podman:quay.io"];
        scene.mirrors(&words).await.unwrap_err();
        assert_eq!(mirrors(&podman, "quay.io").await, Vec::<String>::new());
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
