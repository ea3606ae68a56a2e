use std::io;

use super::*;
use crate::command::Said;

struct Fake;

impl Commands for Fake {
    fn run(&self, program: &str, _: &[&str]) -> io::Result<Said> {
        let stdout = match program {
            "/usr/bin/containerd" => "containerd github.com/containerd/containerd/v2 v2.2.1 abcdef\n",
            "/usr/sbin/dockerd" => "Docker version 20.10.24+dfsg1, build 5d6db84\n",
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Said { success: true, stdout: stdout.to_owned(), stderr: String::new() })
    }
}

#[test]
fn what_runtimes_say_of_themselves() {
    for (said, version) in [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", Version(1, 6, 20)),
        (
            "containerd github.com/containerd/containerd/v2 v2.2.0 1c4457e00facac03ce1d75f7b6777a7a851e5c41",
            Version(2, 2, 0),
        ),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", Version(1, 7, 27)),
        ("Docker version 28.2.2, build e6534b4", Version(28, 2, 2)),
        ("podman version 4.3.1", Version(4, 3, 1)),
        ("crio version 1.30.0\nVersion:        1.30.0\nGitCommit: x", Version(1, 30, 0)),
        ("k3s version v1.31.5+k3s1 (56ec5dd4)\ngo version go1.22.10", Version(1, 31, 5)),
        ("rke2 version v1.32.0+rke2r1 (1182e7eb)", Version(1, 32, 0)),
        ("podman version 5.0-dev", Version(5, 0, 0)),
    ] {
        assert_eq!(parse_version(said), Some(version), "{said}");
    }
    assert_eq!(parse_version("no version here"), None);
}

#[test]
fn a_machine_with_several() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path());
    let put = |path: &str, text: &str| drop(host.write(path, text, 0o644).unwrap());
    put("/proc/9/cmdline", "/usr/bin/containerd\0--config\0/tmp/private.toml\0");
    put("/usr/bin/containerd", "");
    put("/usr/sbin/dockerd", "");
    put("/var/lib/rancher/k3s/agent/x", "");
    put(
        "/proc/10/cmdline",
        "/var/lib/rancher/k3s/data/current/bin/containerd\0-c\0/var/lib/rancher/k3s/agent/etc/containerd/config.toml\0",
    );
    put("/proc/11/cmdline", "/usr/bin/containerd\0--config=/etc/other.toml\0");
    put("/proc/12/cmdline", "/usr/sbin/dockerd\0-H\0fd://\0--registry-mirror\0https://running\0");
    put("/proc/13/cmdline", "dockerd\0--registry-mirror=https://in-a-container\0");
    put("/proc/13/status", "Name:\tdockerd\nNSpid:\t13\t1\n");
    put("/etc/other.toml", "version = 2\n[grpc]\naddress = \"/run/other.sock\"\n");
    put("/proc/self/cmdline", "x\0");
    put(
        "/etc/systemd/system/docker.service.d/m.conf",
        "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd \\\n  --registry-mirror=https://unit\n",
    );
    put(
        "/etc/default/docker",
        "#DOCKER_OPTS=\"--registry-mirror=https://no\"\nDOCKER_OPTS=\"--registry-mirror=https://default\"\n",
    );
    let found = detect(&host, &Fake);
    let names: Vec<_> = found.iter().map(|found| found.runtime).collect();
    assert_eq!(names, [Runtime::Containerd, Runtime::Docker, Runtime::K3s]);
    assert_eq!((found[0].version, found[0].config.as_str()), (Some(Version(2, 2, 1)), "/etc/other.toml"));
    assert_eq!(found[1].mirror_flags, ["https://default", "https://running", "https://unit"]);
    assert_eq!(found[1].process.as_ref().unwrap().pid, Some(12));
    assert!(found[2].program.is_none() && found[2].process.is_none());
    assert_eq!(found[0].socket.as_deref(), Some("/run/other.sock"));
    assert_eq!(found[2].socket.as_deref(), Some("/run/k3s/containerd/containerd.sock"));
    assert_eq!(detect(&Host::new(root.path().join("empty")), &Fake), []);
}

#[test]
fn a_run_of_a_process_is_told_from_the_next() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path());
    let put = |path: &str, text: &str| drop(host.write(path, text, 0o644).unwrap());
    put("/usr/sbin/dockerd", "");
    let process = |found: Vec<Detected>| found.into_iter().next().unwrap().process;
    let unseen = process(detect(&host, &Fake)).unwrap();
    assert_eq!(unseen.pid, None, "where nothing is seen, it may run");
    put("/proc/1/cmdline", "init\0");
    assert_eq!(process(detect(&host, &Fake)), None);
    put("/proc/sys/kernel/random/boot_id", "b00t\n");
    put("/proc/7/cmdline", "dockerd\0");
    let began = |began: u32| {
        let before = "S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0";
        put("/proc/7/stat", &format!("7 (a) b) {before} {began} 0\n"));
        process(detect(&host, &Fake)).unwrap().instance
    };
    assert_eq!(began(4711), "b00t/7/4711");
    assert_ne!(began(4712), "b00t/7/4711");
}
