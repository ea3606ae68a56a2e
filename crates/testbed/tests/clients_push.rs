//! Real clients push into what is the site's own, on its machine and over the LAN; it stays through everything that the
//! satellite does, and nothing else can be written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::docker::Docker;
use testbed::image::{self, Image};
use testbed::podman::Podman;
use testbed::ports::Port;
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{admin, binaries, files, skopeo};

const REPOSITORY: &str = "library/busybox";
const PASSWORD: &str = "correct horse battery";
const LONG: Duration = Duration::from_secs(60);

/// A satellite with a listener for the LAN and a namespace of the site's own, and what a person has of it.
struct Scene {
    world: World,
    site: Site,
    satellite: Satellite,
    lan: Port,
    image: Image,
    folder: PathBuf,
}

fn by_hand(config_dir: &Path, words: &[&str], input: &str) -> String {
    let mut command = Command::new(binaries::find("satellite", None).unwrap());
    command.env_clear().arg("--config-dir").arg(config_dir).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Scene {
    async fn start() -> Self {
        let world = World::start().await.unwrap();
        let image = image::busybox(&world.dir().join("image")).await.unwrap();
        world.registry().push_graph(REPOSITORY, Some("1"), &image.layout, &image.root).await.unwrap();
        let wanted = admin::Wanted::new(REPOSITORY, "1", image.root.digest);
        world.admin.sync_group("edge", &[wanted]).await.unwrap();

        let folder = world.dir().join("person");
        files::create_dir(&folder).unwrap();
        let lan = Port::reserve().unwrap();
        let accounts = folder.join("accounts");
        let environment = [
            ("LOCAL_NAMESPACES", "dev".to_owned()),
            ("LAN_LISTEN", lan.address()),
            ("LAN_ACCOUNTS_FILE", accounts.display().to_string()),
        ];
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let site = world.site_with("edge-01", &["edge"], None, &environment).await.unwrap();
        let line = by_hand(&site.config_dir(), &["accounts", "hash", "node"], PASSWORD);
        files::write_private(&accounts, line).unwrap();
        let ca = by_hand(&site.config_dir(), &["ca", "export"], "");
        files::write(&folder.join("certs/ca.crt"), ca).unwrap();
        let satellite = site.start().await.unwrap();
        site.wait_for_tag(REPOSITORY, "1", image.root.digest, LONG).await.unwrap();
        testbed::process::wait_for("the listener for the LAN", LONG, async || {
            let status = site.status().await.ok()?;
            let lan = &status["satellite"]["lan"];
            (lan["address"].is_string() && lan["accounts"] == 1).then_some(())
        })
        .await
        .unwrap();
        Self { world, site, satellite, lan, image, folder }
    }

    fn certs(&self) -> String {
        self.folder.join("certs").display().to_string()
    }

    /// Copies the image with every platform to a repository on the LAN listener.
    async fn copy(&self, to: &str, credentials: Option<&str>) -> testbed::Result<String> {
        let source = format!("oci:{}:image", self.image.layout.dir().display());
        let target = format!("docker://{}/{to}", self.lan.address());
        let certs = self.certs();
        let mut words = vec!["copy", "--all", "--quiet", "--dest-cert-dir", &certs];
        words.extend(credentials.iter().flat_map(|credentials| ["--dest-creds", credentials]));
        words.extend([source.as_str(), target.as_str()]);
        skopeo::skopeo(&words).await
    }
}

#[tokio::test]
async fn what_people_push_stays_and_nothing_else_is_written() {
    let scene = Scene::start().await;
    let here = scene.site.address();
    let lan = scene.lan.address();

    // On this machine, as anybody.
    let docker = Docker::start().await.unwrap();
    let replicated = format!("{here}/{REPOSITORY}:1");
    docker.pull(&replicated).await.unwrap();
    let own = format!("{here}/dev/team/app:1");
    docker.docker(&["tag", &replicated, &own]).await.unwrap();
    docker.docker(&["push", &own]).await.unwrap();
    let elsewhere = format!("{here}/library/other:1");
    docker.docker(&["tag", &replicated, &elsewhere]).await.unwrap();
    let refused = docker.docker(&["push", &elsewhere]).await.unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    docker.docker(&["push", &replicated]).await.unwrap_err();

    // Over the LAN, with an account. Docker takes any certificate on 127.0.0.1, skopeo and Podman check it.
    let account = format!("node:{PASSWORD}");
    docker.docker(&["login", "--username", "node", "--password", PASSWORD, &lan]).await.unwrap();
    docker.docker(&["login", "--username", "node", "--password", "wrong", &lan]).await.unwrap_err();
    docker.docker(&["login", "--username", "node", "--password", PASSWORD, &lan]).await.unwrap();
    let over_lan = format!("{lan}/dev/team/lan:1");
    docker.docker(&["tag", &replicated, &over_lan]).await.unwrap();
    docker.docker(&["push", &over_lan]).await.unwrap();
    scene.copy("dev/multi:1", Some(&account)).await.unwrap();
    for (to, credentials) in [
        ("dev/multi:2", None),
        ("dev/multi:2", Some("node:wrong")),
        ("library/busybox:2", Some(account.as_str())),
        ("quay.io/org/app:2", Some(account.as_str())),
    ] {
        scene.copy(to, credentials).await.unwrap_err();
    }
    let podman = Podman::start().await.unwrap();
    let multi = format!("{lan}/dev/multi:1");
    let certs = scene.certs();
    let policy = scene.folder.join("policy.json");
    files::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let policy = policy.display().to_string();
    let pull = ["pull", "--quiet", "--signature-policy", &policy, "--cert-dir", &certs];
    podman.podman(&[&pull[..], &[&multi]].concat()).await.unwrap_err();
    podman.podman(&[&pull[..], &["--creds", &account, &multi]].concat()).await.unwrap();
    assert_eq!(podman.run(&multi, &["echo", "from the site"]).await.unwrap(), "from the site\n");

    // A group wants the same repository, and another one goes.
    let mut there = Vec::new();
    let registry = scene.site.registry();
    for (repository, tag) in [("dev/team/app", "1"), ("dev/team/lan", "1"), ("dev/multi", "1")] {
        there.push((repository, tag, registry.digest(repository, tag).await.unwrap().unwrap()));
    }
    let other = image::random(&scene.world.dir().join("other"), 7, &[20_000]).unwrap();
    scene.world.registry().push("dev/multi", "1", &other).await.unwrap();
    let wanted = admin::Wanted::new("dev/multi", "1", other.root.digest);
    scene.world.admin.sync_group("edge", &[wanted]).await.unwrap();
    scene.site.wait_for_absence(REPOSITORY, "1", LONG).await.unwrap();
    testbed::process::wait_for("the refusal", LONG, async || {
        let status = scene.site.status().await.ok()?;
        let failed = &status["satellite"]["failed"][0];
        let told = failed["reason"].as_str().is_some_and(|reason| reason.contains("LOCAL_NAMESPACES"));
        (failed["reference"] == "dev/multi:1" && told).then_some(())
    })
    .await
    .unwrap();
    let whole = async |there: &[(&str, &str, oci::Digest)]| {
        for (repository, tag, digest) in there {
            assert_eq!(registry.digest(repository, tag).await.unwrap(), Some(*digest), "{repository}");
            assert!(registry.verify(repository, tag).await.unwrap().is_some(), "{repository}");
        }
    };
    whole(&there).await;

    // Whoever pushed may delete.
    let delete = format!("docker://{multi}");
    let words = ["delete", "--creds", &account, "--cert-dir", &certs, &delete];
    skopeo::skopeo(&words).await.unwrap();
    assert_eq!(registry.digest("dev/multi", "1").await.unwrap(), None);
    whole(&there[..2]).await;
    scene.satellite.stop().await.unwrap();
}
