//! The runtimes' own parsers read what the editors wrote. Needs containerd 1.6, Podman 4.3, skopeo and Docker 20.10 (Debian's);
//! nothing below /etc is written, no daemon stays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::path::Path;
use std::process::{Command, Output};

use container_runtimes::containerd::{CERTS_D, Version, config};
use container_runtimes::registries::MirrorEntry;
use container_runtimes::{docker, registries};

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
