//! `satellite mirrors` on a machine in a folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::harness::{Ended, Site};

const FILE: &str = "etc/rancher/k3s/registries.yaml";

/// A machine with a k3s that does not run.
struct Machine {
    site: Site,
}

impl Machine {
    fn new() -> Self {
        // None of it is read.
        let site = Site::new().set("GROUND_CONTROL_URL", "nonsense").set("MIRRORS", "nonsense");
        let machine = Self { site };
        machine.put("var/lib/rancher/k3s/server/x", "");
        machine.put("proc/1/cmdline", "init\0");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.folder().join("host").join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        blob_store::durable::create_dir_all(path.parent().unwrap()).unwrap();
        blob_store::durable::write_file(&path, text.as_bytes(), 0o644).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn mirrors(&self, arguments: &[&str]) -> Ended {
        let root = self.path("");
        let mut all = vec!["mirrors", arguments[0], "--host-root", root.to_str().unwrap()];
        all.extend(&arguments[1..]);
        self.site.run(&all)
    }
}

#[test]
fn by_hand_and_back_again() {
    let machine = Machine::new();
    let before = "# ours\nconfigs: {}\n";
    machine.put(FILE, before);
    let wish = "--mirrors=k3s:docker.io,quay.io";

    let diff = machine.mirrors(&["diff", wish]);
    assert_eq!(diff.code, Some(1), "{diff:?}");
    assert!(diff.stdout.contains("+++ /etc/rancher/k3s/registries.yaml"), "{diff:?}");
    assert_eq!(machine.read(FILE), before);

    let apply = machine.mirrors(&["apply", wish]);
    assert_eq!(apply.code, Some(0), "{apply:?}");
    assert!(apply.stdout.contains("k3s         in force"), "{apply:?}");
    let written = machine.read(FILE);
    assert!(written.starts_with("# ours\n") && written.contains("http://127.0.0.1:8585"), "{written}");
    assert_eq!(machine.mirrors(&["diff", wish]).code, Some(0));
    assert!(!machine.site.config_dir().try_exists().unwrap(), "no satellite was needed");

    let status = machine.mirrors(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((status.code, &json["owner"]), (Some(0), &"hand".into()), "{json}");
    assert_eq!(json["runtimes"]["k3s"]["registries"], serde_json::json!(["docker.io", "quay.io"]));
    assert_eq!(json["runtimes"]["k3s"]["files"]["/etc/rancher/k3s/registries.yaml"], "written");

    machine.put(FILE, &format!("{written}# later\n"));
    let status = machine.mirrors(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("edited since"), "{status:?}");
    machine.put(FILE, &written);
    assert_eq!(machine.mirrors(&["remove"]).code, Some(0));
    assert_eq!(machine.read(FILE), before);
}

#[test]
fn others_of_the_machine_can_read_what_is_not_secret() {
    let machine = Machine::new();
    let apply = machine.mirrors(&["apply", "--mirrors=k3s:docker.io", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&apply.stdout).unwrap();
    assert_eq!(json["files"]["/etc/rancher/k3s/registries.yaml"]["change"], "written", "{json}");
    let mode = |name: &str| machine.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(FILE), mode("etc/rancher/k3s")), (0o644, 0o755));
    assert_eq!(mode("var/lib/harbor-satellite/mirrors/state.json"), 0o600);
    assert_eq!(machine.mirrors(&["remove"]).code, Some(0));
    assert!(!machine.path("etc").try_exists().unwrap());
}

#[test]
fn what_cannot_be_done_is_said() {
    let machine = Machine::new();
    let refused = machine.mirrors(&["apply", "--mirrors=k3s:docker.io", "--endpoint=http://192.0.2.7:8585"]);
    assert!(refused.code == Some(1) && refused.stdout.contains("loopback only"), "{refused:?}");
    let refused = machine.mirrors(&["diff", "--mirrors=podman:docker.io"]);
    assert!(refused.code == Some(2) && refused.stdout.contains("not installed"), "{refused:?}");
    for (arguments, word) in [
        (&["apply", "--mirrors=rkt:docker.io"][..], "rkt"),
        (&["apply"], "--mirrors"),
        (&["apply", "--mirrors=docker:true", "--ca=/nowhere.pem", "--endpoint=https://h"], "/nowhere.pem"),
        (&["apply", "--mirrors=docker:true", "--username=u"], "--password-file"),
        (&["forget"], "forget"),
    ] {
        let ended = machine.mirrors(arguments);
        assert!(ended.code == Some(2) && ended.stderr.contains(word), "{ended:?}");
    }
    assert!(!machine.path("var/lib/harbor-satellite/mirrors/state.json").try_exists().unwrap());
}

#[test]
fn a_password_is_shown_nowhere() {
    let machine = Machine::new();
    let file = machine.path("password");
    machine.put("password", "hunter2\n");
    let with = ["--endpoint=https://10.0.0.2:8585", "--username=u", "--allow-slow-fallback"];
    let mut all = vec!["diff", "--mirrors=k3s:docker.io", "--password-file", file.to_str().unwrap()];
    all.extend(with);
    let diff = machine.mirrors(&all);
    assert!(diff.code == Some(1) && diff.stdout.contains("password: \"****"), "{diff:?}");
    all[0] = "apply";
    let apply = machine.mirrors(&all);
    assert!(apply.code == Some(0) && machine.read(FILE).contains("hunter2"), "{apply:?}");
    assert_eq!(machine.path(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let status = machine.mirrors(&["status", "--json"]);
    for text in [&diff, &apply, &status].map(|ended| format!("{ended:?}")) {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_satellite_keeps_them_while_it_runs_and_leaves_them_when_it_ends() {
    let machine = Machine::new();
    let root = machine.path("");
    let site = |mirrors: &str| Site::new().set("MIRRORS", mirrors).set("HOST_ROOT", root.to_str().unwrap());
    let with = site("k3s:docker.io");
    let mut running = with.start();
    let status =
        with.status_when(|status| status["satellite"]["mirrors"]["runtimes"]["k3s"]["state"] == "in_force");
    assert!(status["satellite"]["mirrors"]["looked_at"].is_string(), "{status}");
    let address = format!("http://{}", running.address);
    assert!(machine.read(FILE).contains(&address));
    assert_eq!(running.stop(), Some(0));
    assert!(machine.read(FILE).contains(&address), "they cost nothing where nobody listens");

    let without = site("k3s:quay.io").set("NO_REGISTRY_FALLBACK", "true");
    let mut running = without.start();
    assert_eq!(running.stop(), Some(0));
    assert!(machine.read(FILE).contains(&address), "left alone");

    let none = Site::new().set("HOST_ROOT", root.to_str().unwrap());
    let mut running = none.start();
    none.status_when(|status| status["satellite"]["mirrors"]["runtimes"]["k3s"]["state"] == "removed");
    assert_eq!(running.stop(), Some(0));
    assert!(!machine.path(FILE).try_exists().unwrap());
}

#[test]
fn they_are_written_once_where_that_is_all_that_is_asked() {
    let machine = Machine::new();
    let root = machine.path("");
    let site = Site::new().set("MIRRORS", "k3s:docker.io").set("HOST_ROOT", root.to_str().unwrap());
    let ended = site.run(&["--fallback-only"]);
    assert!(ended.code == Some(0) && ended.stdout.contains("in force"), "{ended:?}");
    assert!(machine.read(FILE).contains("http://127.0.0.1:8585"));
}
