//! A Satellite as nodes of its site have it: over the LAN, with TLS of its own authority; and Docker beside a Satellite that
//! keeps docker.io elsewhere.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::machine::{self, Machine};
use testbed::ports::Port;
use testbed::process::wait_for;
use testbed::{binaries, command, files};

use crate::engines::{Containerd, Docker, Engine, Podman};
use crate::scene::Scene;

const SITE: &str = "site.example";
/// Where that is. Of what is on 127.0.0.0/8 Docker checks no certificate, and shows none there.
const ADDRESS: &str = "10.77.0.3";
const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(60);
/// What a person of the site has of it.
const FILES: &str = "/root/site";

fn file(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// `satellite ca` or `satellite accounts`, beside the running one.
fn by_hand(scene: &Scene, words: &[&str], input: &str) -> String {
    let mut command = Command::new(binaries::find("satellite", None).unwrap());
    command.arg("--config-dir").arg(scene.site.config_dir()).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Pulls each image under each of its names, and sees it in the Satellite's log.
async fn pulls<E: Engine>(scene: &Scene, engine: &E) {
    for held in scene.held.iter().filter(|held| E::HOSTS.contains(&held.host)) {
        for reference in held.references() {
            engine.forget().await;
            let before = scene.pulls(held);
            engine.pull(&reference).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
            assert!(scene.pulls(held) > before, "{reference} came from elsewhere");
        }
    }
}

async fn over_the_lan(machine: Machine) {
    files::write("/etc/hosts".as_ref(), format!("127.0.0.1 localhost\n{ADDRESS} {SITE}\n")).unwrap();
    let mut address = Command::new("busybox");
    address.args(["ip", "address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    command::run(address).await.unwrap();
    let port = Port::reserve().unwrap();
    let accounts = file("accounts");
    files::write_private(accounts.as_ref(), "").unwrap();
    let listen = format!("{ADDRESS}:{}", port.number());
    let environment = [
        ("LAN_LISTEN", listen.as_str()),
        ("LAN_NAME", SITE),
        ("LAN_ACCOUNTS_FILE", accounts.as_str()),
        ("LOCAL_NAMESPACES", "dev"),
    ];
    let scene = Scene::new(machine, &environment).await;
    let line = by_hand(&scene, &["accounts", "hash", "node"], PASSWORD);
    files::write_private(accounts.as_ref(), line).unwrap();
    files::write_private(file("password").as_ref(), PASSWORD).unwrap();
    let ca = file("ca.pem");
    by_hand(&scene, &["ca", "export", "--out", &ca], "");
    by_hand(&scene, &["ca", "issue", "--name", "node-7", "--out", FILES], "");
    wait_for("the account", PATIENCE, async || {
        let status = scene.site.status().await.ok()?;
        (status["satellite"]["lan"]["accounts"] == 1).then_some(())
    })
    .await
    .unwrap();
    let endpoint = format!("https://{SITE}:{}", port.number());
    let machine = &scene.machine;
    let containerd = Containerd::start(machine, BTreeMap::new()).await;
    let podman = Podman::start(machine, BTreeMap::new()).await;
    let docker = Docker::start(machine, BTreeMap::new()).await;
    let before = machine.configuration();
    let further = containerd.words();
    let further: Vec<&str> = further.iter().map(String::as_str).collect();
    let to = ["--endpoint", &endpoint, "--ca", &ca, "--allow-slow-fallback"];

    // Nobody is anonymous.
    let open = [&["apply", Podman::MIRRORS, Containerd::MIRRORS][..], &to, &further].concat();
    scene.mirrors(&open).await.unwrap();
    let reference = &scene.held[0].references()[0];
    containerd.pull(reference).await.unwrap_err();
    podman.pull(reference).await.unwrap_err();

    let password = file("password");
    let account = ["--username", "node", "--password-file", &password];
    scene.mirrors(&[&open[..], &account].concat()).await.unwrap();
    pulls(&scene, &containerd).await;
    pulls(&scene, &podman).await;
    scene.mirrors(&[&["remove"][..], &further].concat()).await.unwrap();

    // Docker cannot log in, and shows a certificate.
    let (certificate, key) = (file("node-7.crt"), file("node-7.key"));
    let shown = ["--client-cert", &certificate, "--client-key", &key];
    scene.mirrors(&[&["apply", Docker::MIRRORS][..], &to, &shown].concat()).await.unwrap();
    docker.pull(reference).await.unwrap_or_else(|error| {
        let log = files::tail(&scene.site.log(), 40);
        panic!("{error}\n{}\n{log}", docker.log())
    });
    pulls(&scene, &docker).await;
    let locked = format!("{}node-7:!\n", by_hand(&scene, &["accounts", "hash", "node"], PASSWORD));
    files::write_private(accounts.as_ref(), locked).unwrap();
    wait_for("the lock", PATIENCE, async || {
        let status = scene.site.status().await.ok()?;
        (status["satellite"]["lan"]["accounts"] == 2).then_some(())
    })
    .await
    .unwrap();
    docker.forget().await;
    docker.pull(reference).await.unwrap_err();
    scene.mirrors(&["remove"]).await.unwrap();
    assert_eq!(before.differences(&machine.configuration()), Vec::<String>::new());
}

#[test]
fn nodes_pull_over_the_lan_from_a_real_satellite() {
    let result = machine::alone("site::nodes_pull_over_the_lan_from_a_real_satellite", over_the_lan);
    result.unwrap_or_else(|error| panic!("{error}"));
}

async fn elsewhere(machine: Machine) {
    let port = Port::reserve().unwrap();
    let listen = port.address();
    let environment = [
        ("MIRRORS", "docker:true;podman:docker.io"),
        ("MIRROR_PATH", "docker.io=hub"),
        ("DOCKER_MIRROR_LISTEN", listen.as_str()),
    ];
    let images =
        [(1, "docker.io", "library/app", "hub/library/app"), (2, "docker.io", "acme/tool", "hub/acme/tool")];
    let scene = Scene::keeping(machine, &environment, &images).await;
    wait_for("the mirror in Docker's configuration", PATIENCE, async || {
        let status = scene.site.status().await.ok()?;
        (status["satellite"]["mirrors"]["runtimes"]["docker"]["state"] == "in_force").then_some(())
    })
    .await
    .unwrap();
    let written = std::fs::read_to_string("/etc/docker/daemon.json").unwrap();
    assert!(written.contains(&listen), "{written}");
    let docker = Docker::start(&scene.machine, BTreeMap::new()).await;
    pulls(&scene, &docker).await;
    let podman = Podman::start(&scene.machine, BTreeMap::new()).await;
    pulls(&scene, &podman).await;
}

#[test]
fn docker_finds_what_is_kept_elsewhere() {
    let result = machine::alone("site::docker_finds_what_is_kept_elsewhere", elsewhere);
    result.unwrap_or_else(|error| panic!("{error}"));
}
