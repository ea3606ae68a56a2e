use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::command::Said;
use crate::containerd::config::Legacy;
use crate::detect::{Detected, Running, Version};
use crate::plan::{Endpoint, Login, plan};
use crate::runtime::parse_mirrors;
use crate::secret::Hidden;

const OURS: &str = "http://127.0.0.1:8585";

/// Judges that answer from a table, and say what the containerd file holds.
struct Judges<'a> {
    host: &'a Host,
    objects: RefCell<Option<&'static str>>,
}

impl Commands for Judges<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said> {
        let success = *self.objects.borrow() != Some(program);
        let stdout = match program {
            "containerd" => self.host.read(arguments[1]).unwrap().unwrap(),
            _ if arguments == ["--version"] => "Docker version 28.2.2, build x".to_owned(),
            _ => String::new(),
        };
        Ok(Said { success, stdout, stderr: "bad\n".to_owned() })
    }
}

struct World {
    root: tempfile::TempDir,
    host: Host,
    folder: StateFolder,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("host")).unwrap();
        let host = Host::new(root.path().join("host"));
        for (path, text) in files {
            host.write(path, text, 0o640).unwrap();
        }
        let folder = StateFolder::new(root.path().join("state"));
        Self { host, folder, root }
    }

    fn detected(runtime: Runtime) -> Detected {
        let (version, config) = match runtime {
            Runtime::Containerd => (Version(1, 6, 20), crate::containerd::CONFIG_TOML),
            _ => (Version(28, 2, 2), crate::docker::DAEMON_JSON),
        };
        Detected {
            runtime,
            program: None,
            version: Some(version),
            config: config.to_owned(),
            process: Some(Running { pid: Some(1), instance: "first".to_owned() }),
            socket: None,
            mirror_flags: Vec::new(),
        }
    }

    fn run(&self, mirrors: &[&str], objects: Option<&'static str>) -> Outcome {
        let judges = Judges { host: &self.host, objects: RefCell::new(objects) };
        let mut shell = Shell::open(&self.host, &self.folder, &judges).unwrap();
        let detected: Vec<_> = Runtime::ALL.into_iter().map(Self::detected).collect();
        let requests = parse_mirrors(mirrors).unwrap();
        let plan = plan(&requests, &detected, &Endpoint::new(OURS).unwrap(), Legacy::Move, &shell).unwrap();
        assert_eq!(plan.refused, []);
        shell.apply(&plan).unwrap()
    }

    fn files(&self) -> BTreeMap<String, String> {
        fn walk(at: &std::path::Path, root: &std::path::Path, out: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if path.is_dir() {
                    out.insert(format!("{name}/"), String::new());
                    walk(&path, root, out);
                } else {
                    out.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(&self.host.path("/"), &self.host.path("/"), &mut out);
        out
    }
}

const ALL: [&str; 6] = [
    "containerd:docker.io,quay.io",
    "docker:true",
    "podman:docker.io",
    "crio:quay.io",
    "k3s:docker.io",
    "rke2:quay.io",
];

fn machine() -> World {
    World::new(&[
        (
            "/etc/containerd/config.toml",
            "# ours\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"gcr.io\"]\nendpoint = [\"https://m\"]\n",
        ),
        ("/etc/docker/daemon.json", "{\"debug\":true}"),
        ("/etc/containers/registries.conf", "# none\n"),
        ("/etc/containers/registries.conf.d/10-site.conf", "[[registry]]\nlocation = \"docker.io\"\n"),
        ("/etc/rancher/k3s/registries.yaml", "configs: {}\n"),
    ])
}

#[test]
fn applied_once_and_removed_without_a_trace() {
    let world = machine();
    let before = world.files();
    let outcome = world.run(&ALL, None);
    assert!(outcome.files.values().all(|change| *change == Change::Written), "{outcome:?}");
    let after = world.files();
    assert!(after["etc/containerd/certs.d/gcr.io/hosts.toml"].contains("https://m"), "moved");
    assert!(after["etc/containerd/certs.d/quay.io/hosts.toml"].contains(OURS));
    assert!(after["etc/containers/registries.conf.d/10-site.conf"].contains("127.0.0.1:8585"), "merged");
    assert!(after["etc/containers/registries.conf.d/50-satellite-mirrors.conf"].contains("quay.io"));
    let means: Vec<_> = outcome.due.iter().map(|due| (due.runtime, due.means)).collect();
    assert!(means.contains(&(Runtime::Containerd, crate::reload::Means::Restart)));
    assert!(means.contains(&(Runtime::Docker, crate::reload::Means::Reload)));

    let again = world.run(&ALL, None);
    assert!(
        again.files.values().all(|change| *change == Change::Unchanged) && again.due.is_empty(),
        "{again:?}"
    );
    assert_eq!(world.files(), after);

    let gone = world.run(&[], None);
    assert_eq!(world.files(), before);
    assert_eq!(gone.files["/etc/docker/daemon.json"], Change::Restored);
    assert_eq!(gone.files["/etc/rancher/rke2/registries.yaml"], Change::Deleted);
    // Nobody restarted anything.
    let mut left = world.folder.load().unwrap();
    left.pending.clear();
    assert_eq!(left, State::default());
    assert!(Host::new(world.root.path().join("state")).list("/backups").is_empty());
}

#[test]
fn one_of_two_that_share_a_file_goes() {
    let world = World::new(&[]);
    world.run(&["podman:docker.io", "crio:quay.io"], None);
    world.run(&["crio:quay.io"], None);
    let text = &world.files()["etc/containers/registries.conf.d/50-satellite-mirrors.conf"];
    assert!(text.contains("quay.io") && !text.contains("docker.io"), "{text}");
    world.run(&[], None);
    assert_eq!(world.files(), BTreeMap::new());
}

#[test]
fn what_was_edited_since_keeps_the_edit() {
    let world = machine();
    world.run(&ALL, None);
    let append = |path: &str, text: &str| {
        let now = world.host.read(path).unwrap().unwrap();
        world.host.write(path, &format!("{now}{text}"), 0o600).unwrap();
    };
    append("/etc/containerd/config.toml", "[debug]\nlevel = \"info\"\n");
    append("/etc/containers/registries.conf.d/10-site.conf", "\n[[registry]]\nlocation = \"late.example\"\n");
    append("/etc/rancher/rke2/registries.yaml", "configs: {a: {}}\n");
    let gone = world.run(&[], None);
    let left = world.files();
    let config = &left["etc/containerd/config.toml"];
    assert!(
        config.contains("[debug]") && config.contains("https://m") && !config.contains("config_path"),
        "{config}"
    );
    assert!(!left.contains_key("etc/containerd/certs.d/"), "{left:?}");
    let conf = &left["etc/containers/registries.conf.d/10-site.conf"];
    assert!(conf.contains("late.example") && !conf.contains("8585"), "{conf}");
    assert_eq!(left["etc/rancher/rke2/registries.yaml"], "configs: {a: {}}\n");
    assert_eq!(gone.files["/etc/containerd/config.toml"], Change::Stripped);
}

#[test]
fn an_objection_brings_the_old_bytes_back() {
    for (objects, group) in
        [("containerd", "etc/containerd/"), ("dockerd", "etc/docker/"), ("podman", "etc/containers/")]
    {
        let world = machine();
        let before = world.files();
        let outcome = world.run(&ALL, Some(objects));
        let after = world.files();
        let of = |files: &BTreeMap<String, String>| -> Vec<(String, String)> {
            files
                .iter()
                .filter(|(path, _)| path.starts_with(group))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect()
        };
        assert_eq!(of(&after), of(&before), "{objects}");
        assert_ne!(after, before, "other runtimes go on");
        let back = |path: &String, change: &Change| {
            path[1..].starts_with(group) && matches!(change, Change::RolledBack(_))
        };
        assert!(outcome.files.iter().any(|(path, change)| back(path, change)), "{outcome:?}");
        world.run(&ALL, None);
        world.run(&[], None);
        assert_eq!(world.files(), before);
    }
}

#[test]
fn a_configuration_with_imports_is_left_as_it_is_the_second_time() {
    let world = World::new(&[("/etc/containerd/config.toml", "version = 2\nimports = [\"/etc/c.d/*\"]\n")]);
    let before = world.files();
    let path = "/etc/containerd/config.toml";
    assert_eq!(world.run(&["containerd:quay.io"], None).files[path], Change::Written);
    assert_eq!(world.run(&["containerd:quay.io"], None).files[path], Change::Unchanged);
    world.run(&[], None);
    assert_eq!(world.files(), before);
}

#[test]
fn what_folders_say_of_registries_goes_on_counting() {
    let world = World::new(&[
        ("/etc/containerd/config.toml", "version = 2\n"),
        ("/etc/containerd/certs.d/quay.io/ca.crt", "x"),
        ("/etc/docker/certs.d/a.example/hosts.toml", "server = \"https://a\"\n"),
        ("/etc/docker/certs.d/b.example/ca.crt", "x"),
    ]);
    let before = world.files();
    world.run(&["containerd:quay.io"], None);
    let after = world.files();
    let quay = &after["etc/containerd/certs.d/quay.io/hosts.toml"];
    assert!(quay.contains("certs.d/quay.io/ca.crt") && quay.contains(OURS), "{quay}");
    assert!(!after.contains_key("etc/containerd/certs.d/a.example/"), "1.6 did not read that folder");
    world.run(&[], None);
    assert_eq!(world.files(), before);

    let judges = Judges { host: &world.host, objects: RefCell::new(None) };
    let shell = Shell::open(&world.host, &world.folder, &judges).unwrap();
    let newer = Detected { version: Some(Version(2, 2, 0)), ..World::detected(Runtime::Containerd) };
    let requests = parse_mirrors(&["containerd:quay.io"]).unwrap();
    let made = plan(&requests, &[newer], &Endpoint::new(OURS).unwrap(), Legacy::Refuse, &shell).unwrap();
    let text = |path: &str| made.files[path].edit.apply(None).unwrap().text;
    assert_eq!(text("/etc/containerd/certs.d/a.example/hosts.toml"), "server = \"https://a\"\n");
    assert!(
        text("/etc/containerd/certs.d/b.example/hosts.toml").contains("/etc/docker/certs.d/b.example/ca.crt")
    );
    assert!(text("/etc/containerd/certs.d/quay.io/hosts.toml").contains("dial_timeout = \"300ms\""));
}

#[test]
fn what_holds_for_every_registry_goes_on_holding_for_one_that_gets_a_file() {
    let every = "# the site's\n[host.\"https://cache.example\"]\n  [host.\"https://cache.example\".header]\n    X-Key = [\"k\"]\n";
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
    let world = World::new(&[
        ("/etc/containerd/config.toml", config),
        ("/etc/containerd/certs.d/_default/hosts.toml", every),
        ("/etc/containerd/certs.d/ghcr.io/hosts.toml", "server = \"https://ghcr.io\"\n"),
    ]);
    let before = world.files();
    world.run(&["containerd:quay.io,ghcr.io"], None);
    let after = world.files();
    let quay = &after["etc/containerd/certs.d/quay.io/hosts.toml"];
    let (ours, theirs) = (quay.find(OURS).unwrap(), quay.find("cache.example").unwrap());
    assert!(ours < theirs, "{quay}");
    assert_eq!(
        world.host.mode("/etc/containerd/certs.d/quay.io/hosts.toml"),
        Some(0o600),
        "headers are secrets"
    );
    assert!(!after["etc/containerd/certs.d/ghcr.io/hosts.toml"].contains("cache.example"), "it had its own");
    world.run(&[], None);
    assert_eq!(world.files(), before);

    let legacy = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"*\"]\nendpoint = [\"https://cache.example\"]\n";
    let world = World::new(&[("/etc/containerd/config.toml", legacy)]);
    let before = world.files();
    world.run(&["containerd:quay.io"], None);
    let after = world.files();
    for registry in ["quay.io", "_default"] {
        let text = &after[&format!("etc/containerd/certs.d/{registry}/hosts.toml")];
        assert!(text.contains("cache.example"), "{registry}: {text}");
    }
    world.run(&[], None);
    assert_eq!(world.files(), before);
}

#[test]
fn credentials_stay_with_root() {
    let path = "/etc/containerd/certs.d/quay.io/hosts.toml";
    for (there, expected) in [(None, true), (Some(0o600), true), (Some(0o644), false)] {
        let world = World::new(&[]);
        if let Some(mode) = there {
            world.host.write(path, "# mine\n", mode).unwrap();
        }
        let judges = Judges { host: &world.host, objects: RefCell::new(None) };
        let mut shell = Shell::open(&world.host, &world.folder, &judges).unwrap();
        let requests = parse_mirrors(&["containerd:quay.io"]).unwrap();
        let login = Login { username: "u".to_owned(), password: Hidden::new("hunter2") };
        let endpoint = Endpoint { login: Some(login), ..Endpoint::new(OURS).unwrap() };
        let found = [World::detected(Runtime::Containerd)];
        let plan = plan(&requests, &found, &endpoint, Legacy::Refuse, &shell).unwrap();
        let outcome = shell.apply(&plan).unwrap();
        assert_eq!(outcome.files[path] == Change::Written, expected, "{outcome:?}");
        assert_eq!(world.host.mode(path).unwrap() & 0o077 == 0, expected);
        assert_eq!(Host::new(world.root.path()).mode("/state/state.json").unwrap_or(0o600), 0o600);
    }
}

#[test]
fn a_file_of_ours_that_was_open_is_closed_before_it_holds_an_account() {
    let world = World::new(&[]);
    world.run(&["containerd:quay.io"], None);
    let path = "/etc/containerd/certs.d/quay.io/hosts.toml";
    assert_eq!(world.host.mode(path), Some(0o644));
    let judges = Judges { host: &world.host, objects: RefCell::new(None) };
    let mut shell = Shell::open(&world.host, &world.folder, &judges).unwrap();
    let requests = parse_mirrors(&["containerd:quay.io", "crio:quay.io"]).unwrap();
    let login = Login { username: "u".to_owned(), password: Hidden::new("hunter2") };
    let endpoint = Endpoint {
        login: Some(login),
        may_block: true,
        ca: Some("pem\n".to_owned()),
        ..Endpoint::new("https://10.0.0.2:1").unwrap()
    };
    let found = [World::detected(Runtime::Containerd), World::detected(Runtime::Crio)];
    let plan = plan(&requests, &found, &endpoint, Legacy::Refuse, &shell).unwrap();
    let outcome = shell.apply(&plan).unwrap();
    assert!(
        outcome.files.values().all(|change| *change == Change::Written || *change == Change::Unchanged),
        "{outcome:?}"
    );
    assert_eq!((world.host.mode(path), world.host.mode(crate::auth::ROOT_AUTH)), (Some(0o600), Some(0o600)));
    let files = world.files();
    assert!(files["etc/containerd/certs.d/quay.io/hosts.toml"].contains("Authorization"));
    assert_eq!(files["etc/containers/certs.d/10.0.0.2:1/satellite-mirror.crt"], "pem\n");
    assert!(files["root/.config/containers/auth.json"].contains("dTpodW50ZXIy"));
    drop(shell);
    world.run(&[], None);
    assert_eq!(world.files(), BTreeMap::new(), "whole folders of ours go");
}

#[test]
fn one_refusal_leaves_the_whole_runtime_alone() {
    let world = machine();
    world.host.write("/etc/containerd/certs.d/quay.io/hosts.toml", "host = {}\n", 0o644).unwrap();
    let before = world.files();
    let outcome = world.run(&["containerd:docker.io,quay.io"], None);
    assert_eq!(world.files(), before);
    assert!(outcome.files.values().all(|change| matches!(change, Change::Refused(_))), "{outcome:?}");
}

#[test]
fn a_crash_between_state_and_file_loses_nothing() {
    let world = machine();
    let before = world.files();
    world.run(&["docker:true"], None);
    // The state is written, the file is not yet.
    world.host.write("/etc/docker/daemon.json", &before["etc/docker/daemon.json"], 0o640).unwrap();
    assert_eq!(world.run(&["docker:true"], None).files["/etc/docker/daemon.json"], Change::Written);
    world.run(&[], None);
    assert_eq!(world.files(), before);
}

#[test]
fn runtimes_that_must_be_left_alone_are_named() {
    let world = World::new(&[]);
    let judges = Judges { host: &world.host, objects: RefCell::new(None) };
    let shell = Shell::open(&world.host, &world.folder, &judges).unwrap();
    let mut docker = World::detected(Runtime::Docker);
    docker.mirror_flags.push("https://flag".to_owned());
    let detected = [docker, World::detected(Runtime::Containerd)];
    let requests = parse_mirrors(&["docker:true", "containerd:quay.io", "k3s:quay.io"]).unwrap();
    let far = Endpoint::new("https://10.0.0.2:8585").unwrap();
    let made = plan(&requests, &detected, &far, Legacy::Refuse, &shell).unwrap();
    let said = |runtime| &made.refused.iter().find(|(refused, _)| *refused == runtime).unwrap().1;
    assert!(said(Runtime::Docker).contains("https://flag"));
    assert!(said(Runtime::Containerd).contains("loopback"));
    assert!(said(Runtime::K3s).contains("not installed"));
    assert!(made.files.is_empty());
    let login = Login { username: "u".to_owned(), password: Hidden::new("hunter2") };
    let open = Endpoint { may_block: true, login: Some(login), ..far };
    let requests = parse_mirrors(&["auto:docker.io,quay.io"]).unwrap();
    let made = plan(&requests, &[World::detected(Runtime::Docker)], &open, Legacy::Refuse, &shell).unwrap();
    assert!(made.refused[0].1.contains("log in"));
}

/// What CRI-O is refused for, if it is.
fn refused(world: &World, mirrors: &str, endpoint: &Endpoint) -> Result<Plan, String> {
    let judges = Judges { host: &world.host, objects: RefCell::default() };
    let shell = Shell::open(&world.host, &world.folder, &judges).unwrap();
    let requests = parse_mirrors(&[mirrors]).unwrap();
    let plan = plan(&requests, &[World::detected(Runtime::Crio)], endpoint, Legacy::Move, &shell).unwrap();
    match plan.refused.first() {
        Some((_, why)) => Err(why.clone()),
        None => Ok(plan),
    }
}

#[test]
fn root_s_own_files_count_for_podman_and_cri_o() {
    let endpoint = Endpoint::new(OURS).unwrap();
    let drop_in = "/root/.config/containers/registries.conf.d/10-root.conf";
    let entry = "[[registry]]\nlocation = \"quay.io\"\n";
    let world = World::new(&[
        ("/etc/containers/registries.conf.d/99-site.conf", entry),
        ("/etc/containers/registries.conf.d/99-folder.conf/x", ""),
        (drop_in, entry),
    ]);
    let plan = refused(&world, "crio:quay.io", &endpoint).unwrap();
    assert_eq!(plan.files.keys().collect::<Vec<_>>(), [drop_in], "they are read after the machine's");
    world.host.write("/root/.config/containers/registries.conf", "", 0o644).unwrap();
    let why = refused(&world, "crio:quay.io", &endpoint).unwrap_err();
    assert!(why.contains("instead of /etc/containers"), "{why}");
}

#[test]
fn what_stands_for_a_registry_is_not_put_out_of_force() {
    let endpoint = Endpoint::new(OURS).unwrap();
    let all = "[[registry]]\nprefix = \"*.example.com\"\nblocked = true\n";
    let path = "/etc/containers/registries.conf.d/10-site.conf";
    let world = World::new(&[(path, all)]);
    let why = refused(&world, "crio:docker.io,r.example.com", &endpoint).unwrap_err();
    assert!(why.contains(path) && why.contains("*.example.com"), "{why}");
    assert!(refused(&world, "crio:docker.io", &endpoint).is_ok());
    let named = format!("{all}[[registry]]\nlocation = \"r.example.com\"\n");
    world.host.write(path, &named, 0o644).unwrap();
    assert!(refused(&world, "crio:docker.io,r.example.com", &endpoint).is_ok());
}

#[test]
fn an_account_goes_where_cri_o_looks() {
    let login = Login { username: "u".to_owned(), password: Hidden::new("p") };
    let endpoint = Endpoint { login: Some(login), ..Endpoint::new(OURS).unwrap() };
    let world = World::new(&[]);
    let files =
        |plan: Plan| plan.files.into_keys().filter(|path| path.ends_with(".json")).collect::<Vec<_>>();
    assert_eq!(files(refused(&world, "crio:quay.io", &endpoint).unwrap()), [crate::auth::ROOT_AUTH]);
    let set = "[crio.image]\nglobal_auth_file = \"/var/lib/kubelet/config.json\"\n";
    world.host.write("/etc/crio/crio.conf.d/20-auth", set, 0o644).unwrap();
    assert_eq!(files(refused(&world, "crio:quay.io", &endpoint).unwrap()), ["/var/lib/kubelet/config.json"]);
}
