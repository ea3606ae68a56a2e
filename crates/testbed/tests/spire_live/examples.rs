//! The scripts in `examples/`, from nothing to a replicated image.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use testbed::ports::Port;
use testbed::process::{Process, wait_for};
use testbed::registry::Registry;
use testbed::secrets::Secrets;
use testbed::{binaries, files, spire};

const LIMIT: Duration = Duration::from_secs(120);

async fn run(method: &str) {
    println!("{}", spire::version().await.unwrap());
    let dir = files::scratch("ex").unwrap();
    let ports: Vec<Port> = (0..4).map(|_| Port::reserve().unwrap()).collect();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = |program: &Path| program.parent().unwrap().display().to_string();
    let path = [
        folder(&binaries::find("ground-control", None).unwrap()),
        folder(&spire::find("spire-server").unwrap()),
        "/usr/bin:/bin".to_owned(),
    ]
    .join(":");
    let mut script = Command::new(workspace.join("examples").join(method).join("run.sh"));
    script.env_clear().env("PATH", path).env("HOME", dir.path()).env("WORK", dir.path());
    for (name, port) in ["SPIRE_PORT", "GC_PORT", "WEB_PORT", "REGISTRY_PORT"].iter().zip(&ports) {
        script.env(name, port.number().to_string());
    }
    let log = dir.path().join("script.log");
    let mut process =
        Process::spawn(method, script, &log).unwrap().patience(Signal::TERM, Duration::from_secs(10));
    let said = || String::from_utf8_lossy(&files::read(&log).unwrap_or_default()).into_owned();
    process.ready("the replicated image", LIMIT, async || said().contains("everything runs")).await.unwrap();

    // Whole, as read by somebody else.
    let registry = Registry::anonymous(&format!("http://{}", ports[3].address()));
    let verified = registry.verify("library/hello", "latest").await.unwrap().unwrap();
    assert_eq!((verified.manifests, verified.blobs), (1, 2));
    let digest = registry.digest("library/hello", "latest").await.unwrap().unwrap();
    assert!(said().contains(&format!("replicated library/hello:latest {digest}")), "{}", said());

    // It came by the identity that SPIRE gave.
    let mut status = Command::new(binaries::find("satellite", None).unwrap());
    status.args(["status", "--json"]).env("CONTROL_SOCKET", dir.path().join("edge/satellite.sock"));
    status.env("CONFIG_DIR", dir.path().join("edge/satellite"));
    let status = testbed::command::output(status).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let identity = &status["satellite"]["identity"];
    assert_eq!(identity["source"], "workload_api", "{status:#}");
    assert_eq!(identity["spiffe_id"], "spiffe://harbor-satellite.local/satellite/region/us-east/edge-01");

    // The password is in no process's arguments and in no log.
    let mut secrets = Secrets::default();
    let password = String::from_utf8(files::read(&dir.path().join("cloud/admin-password")).unwrap()).unwrap();
    secrets.add("the administrator's password", password.trim());
    let mut found = Vec::new();
    for name in
        ["spire-server", "spire-agent-cloud", "spire-agent-edge", "ground-control", "satellite", "script"]
    {
        found.extend(secrets.in_files(&dir.path().join(format!("{name}.log")), &[]));
    }
    found.extend(secrets.in_files(&dir.path().join("edge/satellite"), &[]));
    assert_eq!(found, Vec::<String>::new());

    process.stop(Duration::from_secs(30)).await.unwrap();
    wait_for("the end of what the script started", LIMIT, async || {
        registry.ping().await.is_err().then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_flow_with_a_join_token() {
    run("join_token").await;
}

#[tokio::test]
async fn the_flow_with_x509pop() {
    run("x509pop").await;
}

#[tokio::test]
async fn the_flow_with_sshpop() {
    run("sshpop").await;
}
