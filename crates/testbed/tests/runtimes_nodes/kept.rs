//! An agent that keeps the mirrors of its node's containerd: peer, then satellite, then upstream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use testbed::cri::Cri;
use testbed::docker_registry::DockerRegistry;
use testbed::machine::Machine;
use testbed::ports::Port;
use testbed::process::{Process, wait_for};
use testbed::proxy::Proxy;
use testbed::registry::Registry;
use testbed::{binaries, command, files};

use crate::engines::{Containerd, Engine};
use crate::scene::Scene;

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "node-1";
const HOSTS: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";

/// The agent's command line, and what runs of it.
struct Agent {
    words: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Agent {
    fn start(&mut self, further: &[&str]) {
        let mut agent = Command::new(binaries::find("satellite", None).unwrap());
        agent.env_clear().args(&self.words).args(further);
        let process = Process::spawn("node-agent", agent, &self.log).unwrap();
        self.process = Some(process.patience(Signal::TERM, Duration::from_secs(20)));
    }

    async fn stop(&mut self) {
        self.process.take().unwrap().stop_well(Duration::from_secs(20)).await.unwrap();
    }
}

/// How the site says that the node stands, once that is as it shall be.
async fn node(scene: &Scene, what: &str, holds: impl Fn(&Value) -> bool) {
    let seen = wait_for(what, LIMIT, async || {
        let status = scene.site.status().await.ok()?;
        let node = status["satellite"]["nodes"].as_array()?.iter().find(|node| node["name"] == NODE)?;
        holds(node).then_some(())
    });
    if let Err(error) = seen.await {
        panic!("{error}: {:#}", scene.site.status().await.unwrap()["satellite"]["nodes"]);
    }
}

fn problem(node: &Value) -> &str {
    node["problem"].as_str().unwrap_or_default()
}

/// Waits until the file of docker.io holds a text, and gives it whole.
async fn hosts(what: &str, text: &str) -> String {
    let found = wait_for(what, LIMIT, async || {
        std::fs::read_to_string(HOSTS).ok().filter(|there| there.contains(text))
    });
    found.await.unwrap_or_else(|error| panic!("{error}: {:?}", std::fs::read_to_string(HOSTS)))
}

/// What the satellite's log tells of blobs that were pulled.
fn blobs_pulled(scene: &Scene) -> usize {
    let log = std::fs::read_to_string(scene.site.log()).unwrap();
    log.lines().filter(|line| line.contains("blob pulled")).count()
}

pub(crate) async fn peer_satellite_upstream(machine: Machine, dial_timeout: bool) {
    let lan = Port::reserve().unwrap();
    let token = machine.folder().join("site-token");
    files::write_private(&token, "a-token-of-this-very-site").unwrap();
    let (address, token) = (lan.address(), token.display().to_string());
    let environment =
        [("LAN_LISTEN", address.as_str()), ("LAN_NAME", "127.0.0.1"), ("SITE_TOKEN_FILE", token.as_str())];
    let mut scene = Scene::new(machine, &environment).await;
    let ca = scene.machine.folder().join("site-ca.pem").display().to_string();
    let mut export = Command::new(binaries::find("satellite", None).unwrap());
    export.args(["ca", "export", "--config-dir"]).arg(scene.site.config_dir()).args(["--out", &ca]);
    command::run(export).await.unwrap();
    let containerd = Containerd::start(&scene.machine, scene.upstream.environment()).await;
    let cri = Cri::new(Path::new("/run/containerd/containerd.sock"));
    let before = scene.machine.configuration();

    let satellite = scene.site.url();
    let words = [
        "node-agent".to_owned(),
        format!("--site=https://{address}"),
        format!("--site-token-file={token}"),
        format!("--site-ca={ca}"),
        format!("--node-name={NODE}"),
        format!("--state-dir={}", scene.machine.folder().join("agent").display()),
        "--runtime-endpoint=unix:///run/containerd/containerd.sock".to_owned(),
        "--interval=1s".to_owned(),
        "--node-address=127.0.0.1".to_owned(),
    ];
    let mirrors = ["--mirrors=containerd:docker.io,quay.io", &format!("--mirror-endpoint={satellite}")];
    let log = scene.machine.folder().join("agent.log");
    let mut agent = Agent { words: words.to_vec(), log, process: None };
    agent.start(&mirrors);

    // It restarts nothing, and says what does not work before that.
    node(&scene, "that a restart is needed", |node| {
        problem(node).starts_with("mirrors: containerd: restart needed")
    })
    .await;
    assert_eq!(containerd.asked(), ["start"]);
    let mut restart = Command::new("sh");
    restart.args(["-c", &containerd.words()[1], "satellite", "containerd", "restart"]);
    command::run(restart).await.unwrap();
    node(&scene, "both images, and no problem", |node| node["present"] == 2 && node["problem"].is_null())
        .await;

    // The peer is where Spegel would be, and nobody is there: what refuses costs nothing.
    let timeout = if dial_timeout { "  dial_timeout = \"300ms\"\n" } else { "" };
    let text = hosts("the mirrors", &satellite).await;
    assert_eq!(
        text,
        format!(
            "server = \"https://registry-1.docker.io\"\n\n\
             [host.\"http://127.0.0.1:30020\"]\n  capabilities = [\"pull\"]\n{timeout}\n\
             [host.\"{satellite}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{timeout}"
        )
    );

    // What somebody takes away is there again.
    std::fs::remove_file(HOSTS).unwrap();
    assert_eq!(hosts("the mirrors again", &satellite).await, text);
    assert_eq!(containerd.asked(), ["start", "restart"]);

    // A peer that has everything: the satellite is asked for the tag, and the peer for the blobs.
    agent.stop().await;
    containerd.forget().await;
    let store = DockerRegistry::start().await.unwrap();
    for held in &scene.held {
        let registry = Registry::anonymous(&store.url());
        registry.push(held.repository, "1", &held.image).await.unwrap();
    }
    let peer = Proxy::start(&store.url()).await.unwrap();
    let (pulls, blobs) = (scene.pulls(&scene.held[0]), blobs_pulled(&scene));
    let named = format!("--mirror-peer={}", peer.url());
    agent.start(&[mirrors[0], mirrors[1], &named]);
    hosts("the other peer", &peer.url()).await;
    wait_for("the peer asked for blobs", LIMIT, async || {
        let images = cri.images().await.ok()?.len();
        (peer.blob_reads().len() >= 4 && images == 2).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", peer.exchanges(), files::tail(&agent.log, 20)));
    node(&scene, "both images from the peer", |node| node["present"] == 2 && node["problem"].is_null()).await;
    let asked = peer.exchanges();
    assert!(asked.iter().all(|one| one.path == "/v2/" || one.path.contains("sha256:")), "{asked:#?}");
    // On a machine that is busy for longer than `dial_timeout` containerd gives a peer up for one request.
    let (theirs, ours) = (peer.blob_reads().len(), blobs_pulled(&scene) - blobs);
    assert!(ours < theirs, "{theirs} blobs from the peer, {ours} from the satellite");
    assert!(scene.pulls(&scene.held[0]) >= pulls);
    agent.stop().await;

    // Peer and satellite are gone.
    drop(peer);
    scene.kill_satellite();
    containerd.forget().await;
    scene.upstream.take_asked();
    containerd.pull(&scene.held[0].references()[0]).await.unwrap();
    assert!(!scene.upstream.take_asked().is_empty());

    // Without the flag everything is as it was, with the site away, too.
    agent.start(&[]);
    wait_for("the mirrors gone", LIMIT, async || (!Path::new(HOSTS).try_exists().ok()?).then_some(()))
        .await
        .unwrap();
    agent.stop().await;
    assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
    assert_eq!(containerd.asked(), ["start", "restart"]);
}
