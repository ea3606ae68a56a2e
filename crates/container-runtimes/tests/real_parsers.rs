//! The runtimes' own parsers read what the editors wrote. Needs containerd 1.6, Podman 4.3, skopeo and Docker 20.10 (Debian's);
//! nothing below /etc is written, no daemon stays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::path::Path;
use std::process::{Command, Output};

use container_runtimes::command::{Commands, HostCommands, Said};
use container_runtimes::containerd::config::Legacy;
use container_runtimes::containerd::{CERTS_D, Version, config};
use container_runtimes::detect::{Version as Found, detect};
use container_runtimes::host::Host;
use container_runtimes::plan::{Endpoint, plan};
use container_runtimes::reconcile::{Change, Outcome, Shell};
use container_runtimes::registries::MirrorEntry;
use container_runtimes::state::StateFolder;
use container_runtimes::{Runtime, docker, parse_mirrors, registries};

const OURS: &str = "http://127.0.0.1:8585";
const V1_6: Version = Version { major: 1, minor: 6, patch: 20 };

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    command.output().unwrap_or_else(|e| panic!("{} cannot be run, is it installed? {e}", program.display()))
}

fn put(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
    path
}

fn dump(folder: &Path, text: &str) -> Output {
    let file = put(folder, "config.toml", text);
    run(Command::new("containerd").arg("--config").arg(file).args(["config", "dump"]))
}

#[test]
fn containerd_reads_the_folder_back() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "",
        "root = \"/var/lib/x\"\n",
        "version = 2\n",
        "# c\nversion = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"a\" # b\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nx = [\"y\"]",
        "version = 2\r\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\r\nconfig_path = \"\"\r\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://m\"]\n",
    ] {
        let applied = config::apply(Some(text), V1_6, config::Legacy::Move, None).unwrap();
        let output = dump(folder.path(), &applied.edit.text);
        assert!(
            output.status.success(),
            "{}\n{}",
            applied.edit.text,
            String::from_utf8_lossy(&output.stderr)
        );
        let read = config::inspect(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!(read.config_path.as_deref(), Some(CERTS_D), "{}", applied.edit.text);
        assert!(read.legacy.is_empty());
    }
    assert!(!dump(folder.path(), "version = 2\n[plugins\n").status.success(), "a broken file is noticed");
}

#[test]
fn podman_reads_the_mirrors_back() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |prefix: &str, location: &str| MirrorEntry {
        prefix: prefix.to_owned(),
        location: location.to_owned(),
        insecure: true,
    };
    let wanted = [entry("docker.io", "127.0.0.1:8585"), entry("quay.io", "127.0.0.1:8585/quay.io")];
    let before = "unqualified-search-registries = ['docker.io']\n# site\n[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"m.example\"\n";
    let after = registries::apply(Some(before), &wanted).unwrap().text;
    let file = put(folder.path(), "registries.conf", &after);
    let output = run(Command::new("podman")
        .args(["--root", folder.path().join("root").to_str().unwrap()])
        .args(["--runroot", folder.path().join("run").to_str().unwrap()])
        .args(["--storage-driver", "vfs", "info", "--format", "{{json .Registries}}"])
        .env("CONTAINERS_REGISTRIES_CONF", &file));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["docker.io"]["Mirrors"][0]["Location"], "127.0.0.1:8585", "{read}");
    assert_eq!(read["docker.io"]["Mirrors"][1]["Location"], "m.example");
    assert_eq!(read["quay.io"]["Mirrors"][0]["Location"], "127.0.0.1:8585/quay.io");
    assert_eq!(read["quay.io"]["Mirrors"][0]["Insecure"], true);
}

/// 20.10 has no `--validate`, but an unknown key ends its start before anything is touched: with one added, the
/// complaint must be about that key, and not about the file.
#[test]
fn docker_reads_the_mirrors() {
    let folder = tempfile::tempdir().unwrap();
    for text in
        ["", "{}", "{\"debug\": true}", "{\n  \"registry-mirrors\": [\n    \"https://m.example\"\n  ]\n}\n"]
    {
        let after = docker::apply(Some(text), &[OURS.to_owned()]).unwrap().text;
        let file = put(folder.path(), "daemon.json", &after.replacen('{', "{\"no-such-key\": 1,", 1));
        let output = run(Command::new("dockerd")
            .arg("--config-file")
            .arg(file)
            .args(["--data-root", folder.path().join("data").to_str().unwrap()])
            .args(["--exec-root", folder.path().join("exec").to_str().unwrap()])
            .args(["--pidfile", folder.path().join("pid").to_str().unwrap()]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("no-such-key"), "{after}\n{said}");
        let flag = run(Command::new("dockerd").args(["--registry-mirror", OURS, "--config-file"]).arg(put(
            folder.path(),
            "daemon.json",
            &after,
        )));
        let said = String::from_utf8_lossy(&flag.stderr);
        assert!(
            !flag.status.success() && said.contains("registry-mirrors"),
            "the flag and the key exclude each other\n{said}"
        );
    }
}

/// The real programs, looking at the files of a folder as if they were the machine's.
struct Elsewhere<'a>(&'a Path);

impl Commands for Elsewhere<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> std::io::Result<Said> {
        let commands = HostCommands::new("/");
        let there = self.0.join("etc/containers");
        if program.ends_with("podman") && arguments[0] == "info" {
            let script = "mount --bind \"$0\" /etc/containers && exec podman \"$@\"";
            let mut all = vec!["-m", "sh", "-c", script, there.to_str().unwrap()];
            let storage = self.0.join("storage");
            let (root, run) = (storage.join("root"), storage.join("run"));
            all.extend([
                "--root",
                root.to_str().unwrap(),
                "--runroot",
                run.to_str().unwrap(),
                "--storage-driver",
                "vfs",
            ]);
            all.extend(arguments);
            return commands.run("unshare", &all);
        }
        let mapped: Vec<String> = arguments
            .iter()
            .map(|argument| match argument.strip_prefix('/') {
                Some(path) => self.0.join(path).to_str().unwrap().to_owned(),
                None => (*argument).to_owned(),
            })
            .collect();
        commands.run(program, &mapped.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn reconcile(root: &Path, mirrors: &[&str]) -> Outcome {
    let (host, folder, commands) = (Host::new(root), StateFolder::new(root.join("state")), Elsewhere(root));
    let mut detected = detect(&Host::new("/"), &HostCommands::new("/"));
    // Whatever else runs on this machine, with whatever flags, is not what is looked at.
    for found in &mut detected {
        found.mirror_flags.clear();
        match found.runtime {
            Runtime::Containerd => found.config = "/etc/containerd/config.toml".to_owned(),
            Runtime::Docker => found.config = docker::DAEMON_JSON.to_owned(),
            _ => {}
        }
    }
    let mut shell = Shell::open(&host, &folder, &commands).unwrap();
    let requests = parse_mirrors(mirrors).unwrap();
    let plan = plan(&requests, &detected, &Endpoint::new(OURS).unwrap(), Legacy::Move, &shell).unwrap();
    assert_eq!(plan.refused, []);
    shell.apply(&plan).unwrap()
}

#[test]
fn this_machine_is_recognised() {
    let found = detect(&Host::new("/"), &HostCommands::new("/"));
    let version =
        |runtime| found.iter().find(|found| found.runtime == runtime).and_then(|found| found.version);
    assert!(version(Runtime::Containerd) >= Some(Found(1, 6, 0)), "{found:?}");
    assert!(version(Runtime::Docker) >= Some(Found(20, 10, 0)), "{found:?}");
    assert!(version(Runtime::Podman) >= Some(Found(4, 3, 0)), "{found:?}");
}

#[test]
fn the_runtimes_judge_what_is_written_and_get_it_back() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path());
    let config = "# site\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"a\"\n";
    let drop_in = "[[registry]]\nlocation = \"docker.io\" # kept\n";
    host.write("/etc/containerd/config.toml", config, 0o644).unwrap();
    host.write("/etc/containers/registries.conf", "", 0o644).unwrap();
    host.write("/etc/containers/registries.conf.d/10-site.conf", drop_in, 0o644).unwrap();
    let all = ["containerd:docker.io,quay.io", "podman:docker.io,quay.io", "docker:true"];
    let outcome = reconcile(root.path(), &all);
    assert!(outcome.files.values().all(|change| *change == Change::Written), "{outcome:?}");
    let read = Elsewhere(root.path()).run("podman", &["info", "--format", "{{json .Registries}}"]).unwrap();
    let read: serde_json::Value = serde_json::from_str(&read.stdout).unwrap();
    for registry in ["docker.io", "quay.io"] {
        assert_eq!(read[registry]["Mirrors"][0]["Location"], "127.0.0.1:8585", "{read}");
    }
    assert!(reconcile(root.path(), &all).files.values().all(|change| *change == Change::Unchanged));
    reconcile(root.path(), &[]);
    assert_eq!(host.read("/etc/containerd/config.toml").unwrap().as_deref(), Some(config));
    assert_eq!(
        host.read("/etc/containers/registries.conf.d/10-site.conf").unwrap().as_deref(),
        Some(drop_in)
    );
    assert!(!host.has("/etc/docker") && !host.has("/etc/containerd/certs.d"));
}

#[test]
fn an_objection_of_the_real_parsers_brings_the_old_bytes_back() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path());
    let broken = "[[registry]]\nprefix = \"x\"\nblocked = \"no\"\n";
    host.write("/etc/containers/registries.conf.d/90-broken.conf", broken, 0o644).unwrap();
    let config = "version = 2\noom_score = \"none\"\n";
    host.write("/etc/containerd/config.toml", config, 0o644).unwrap();
    let outcome = reconcile(root.path(), &["podman:quay.io", "containerd:quay.io"]);
    assert!(outcome.files.values().all(|change| matches!(change, Change::RolledBack(_))), "{outcome:?}");
    assert_eq!(host.read("/etc/containerd/config.toml").unwrap().as_deref(), Some(config));
    assert!(!host.has(registries::OWN_FILE) && !host.has("/etc/containerd/certs.d"));
}
