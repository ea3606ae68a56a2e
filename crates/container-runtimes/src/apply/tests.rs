use std::cell::{Cell, RefCell};
use std::path::Path;

use super::*;
use crate::command::Said;
use crate::runtime::parse_mirrors;

const CONFIG: &str = "/etc/containerd/config.toml";
const DAEMON: &str = "/etc/docker/daemon.json";
const OLD: &str = "# site\nversion = 2\n";

/// A machine with a containerd and a Docker Engine that run, as far as files and programs tell.
struct World {
    root: tempfile::TempDir,
    host: Host,
    folder: StateFolder,
    /// What was restarted and reloaded.
    done: RefCell<Vec<String>>,
    /// Whether the CRI answers with our folder set, and without.
    cri: Cell<(bool, bool)>,
    starts: Cell<u32>,
    /// The mirrors that the engine uses; none where it cannot be asked.
    engine: RefCell<Option<Vec<String>>>,
    /// Texts of its file at each reload.
    reloads: RefCell<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = Self {
            host: Host::new(root.path().join("host")),
            folder: StateFolder::new(root.path().join("state")),
            root,
            done: RefCell::default(),
            cri: Cell::new((true, true)),
            starts: Cell::new(0),
            engine: RefCell::new(Some(Vec::new())),
            reloads: RefCell::default(),
        };
        for path in ["/usr/bin/containerd", "/usr/sbin/dockerd"] {
            world.host.write(path, "", 0o755).unwrap();
        }
        world.host.write(CONFIG, OLD, 0o644).unwrap();
        world.host.write("/proc/8/cmdline", "dockerd\0", 0o644).unwrap();
        world.start();
        world
    }

    /// containerd begins anew.
    fn start(&self) {
        self.starts.set(self.starts.get() + 1);
        let stat =
            format!("7 (containerd) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 {} 0\n", self.starts.get());
        self.host.write("/proc/7/stat", &stat, 0o644).unwrap();
        self.host.write("/proc/7/cmdline", "/usr/bin/containerd\0", 0o644).unwrap();
    }

    /// Docker reads its file again: of a key that is not there it keeps what it has.
    fn reload(&self) {
        let text = self.host.read(DAEMON).unwrap().unwrap_or_default();
        if text.contains("registry-mirrors")
            && let Some(mirrors) = self.engine.borrow_mut().as_mut()
        {
            *mirrors = crate::docker::mirrors(&text).unwrap();
        }
        self.reloads.borrow_mut().push(text);
    }

    fn has_ours(&self) -> bool {
        self.host.read(CONFIG).unwrap().unwrap_or_default().contains("config_path")
    }

    fn machine(&self, manager: Manager) -> Machine<'_> {
        Machine {
            host: &self.host,
            folder: &self.folder,
            commands: self,
            restarts: self,
            cri: self,
            engine: self,
            manager,
            patience: Duration::from_millis(10),
        }
    }

    fn wanted(mirrors: &[&str], owner: Owner) -> Wanted {
        Wanted {
            requests: parse_mirrors(mirrors).unwrap(),
            endpoint: Some(Endpoint::new("http://127.0.0.1:8585").unwrap()),
            legacy: Legacy::Move,
            owner,
            up_to: Means::Restart,
        }
    }

    fn apply_as(&self, owner: Owner, manager: Manager, mirrors: &[&str]) -> Result<Report, ApplyError> {
        apply(&self.machine(manager), &Self::wanted(mirrors, owner))
    }

    fn apply(&self, mirrors: &[&str]) -> Report {
        self.apply_as(Owner::Hand, command(), mirrors).unwrap()
    }

    fn status(&self) -> Status {
        status(&self.machine(command())).unwrap()
    }

    fn done(&self) -> Vec<String> {
        self.done.take()
    }
}

fn command() -> Manager {
    Manager::Command("manage".to_owned())
}

impl Commands for World {
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said> {
        let stdout = match (program, arguments) {
            ("/usr/bin/containerd", ["--version"]) => "containerd x 1.6.20 y".to_owned(),
            ("/usr/sbin/dockerd" | "dockerd", ["--version"]) => "Docker version 20.10.24, build x".to_owned(),
            ("containerd", ["--config", path, ..]) => self.host.read(path)?.unwrap_or_default(),
            ("sh", ["-c", "manage", "satellite", runtime, verb]) => {
                self.done.borrow_mut().push(format!("{verb} {runtime}"));
                if *runtime == "containerd" {
                    self.start();
                } else {
                    self.reload();
                }
                String::new()
            }
            // A reload that gets lost.
            ("systemctl", ["is-active" | "reload", ..]) => String::new(),
            other => panic!("{other:?}"),
        };
        Ok(Said { success: true, stdout, stderr: String::new() })
    }
}

impl Cri for World {
    fn answers(&self, socket: &Path) -> bool {
        assert_eq!(socket, self.host.path("/run/containerd/containerd.sock"));
        let (with, without) = self.cri.get();
        if self.has_ours() && self.starts.get() > 1 { with } else { without }
    }
}

impl Engine for World {
    fn mirrors(&self, socket: &Path) -> Option<Vec<String>> {
        assert_eq!(socket, self.host.path("/var/run/docker.sock"));
        self.engine.borrow().clone()
    }
}

const BOTH: [&str; 2] = ["containerd:docker.io,quay.io", "docker:true"];

fn state(report: &Report, runtime: Runtime) -> Standing {
    report.runtimes[&runtime].state
}

#[test]
fn what_changed_is_seen_and_what_did_not_is_left_running() {
    let world = World::new();
    let report = world.apply(&BOTH);
    assert!(report.is_done(), "{report:?}");
    assert_eq!(world.done(), ["restart containerd", "reload docker"]);
    let status = world.status();
    assert!(status.is_well() && status.owner == Some(Owner::Hand), "{status:?}");
    let containerd = &status.runtimes[&Runtime::Containerd];
    assert_eq!(containerd.registries.iter().collect::<Vec<_>>(), ["docker.io", "quay.io"]);
    assert_eq!((containerd.version.as_deref(), containerd.running), (Some("1.6.20"), Some(true)));

    assert!(world.apply(&BOTH).is_done());
    assert!(world.done().is_empty(), "nothing changed");
    assert!(world.apply(&["containerd:docker.io,quay.io,ghcr.io", "docker:true"]).is_done());
    assert!(world.done().is_empty(), "hosts.toml is read at every pull");

    let report = world.apply(&[]);
    assert_eq!(state(&report, Runtime::Docker), Standing::Removed);
    assert_eq!(world.done(), ["reload docker", "restart containerd"]);
    assert_eq!(world.host.read(CONFIG).unwrap().as_deref(), Some(OLD));
    assert_eq!(world.status().owner, None);
    let left = Host::new(world.root.path()).list("/state");
    assert_eq!(left, ["backups", "lock", "state.json"]);
}

#[test]
fn a_restart_that_nobody_here_can_do_is_told_until_it_happened() {
    let world = World::new();
    let without = || world.apply_as(Owner::Hand, Manager::None, &["containerd:quay.io"]).unwrap();
    let report = without();
    assert_eq!(state(&report, Runtime::Containerd), Standing::RestartNeeded);
    assert_eq!(state(&without(), Runtime::Containerd), Standing::RestartNeeded, "not forgotten");
    let status = world.status();
    assert!(!status.is_well() && status.runtimes[&Runtime::Containerd].needs == Some(Means::Restart));
    world.start();
    assert!(world.status().is_well(), "another run of it read the files at its start");
    assert!(without().is_done());

    let later = Wanted { up_to: Means::Reload, ..World::wanted(&[], Owner::Hand) };
    let report = apply(&world.machine(command()), &later).unwrap();
    assert_eq!(state(&report, Runtime::Containerd), Standing::RestartNeeded);
    assert!(world.done().is_empty());
    assert!(world.apply(&[]).is_done());
    assert_eq!(world.done(), ["restart containerd"], "made up for");
}

#[test]
fn a_reload_is_done_where_a_restart_is_not() {
    let world = World::new();
    let up_to = |up_to| {
        let wanted = Wanted { up_to, ..World::wanted(&["docker:true"], Owner::Hand) };
        apply(&world.machine(command()), &wanted).unwrap()
    };
    assert_eq!(state(&up_to(Means::Nothing), Runtime::Docker), Standing::RestartNeeded);
    assert!(world.done().is_empty());
    assert_eq!(state(&up_to(Means::Reload), Runtime::Docker), Standing::InForce);
    assert_eq!(world.done(), ["reload docker"]);
}

#[test]
fn what_does_not_run_is_not_started() {
    let world = World::new();
    world.host.remove("/proc/7/cmdline").unwrap();
    assert!(world.apply(&["containerd:quay.io"]).is_done());
    assert!(world.done().is_empty());
}

#[test]
fn a_cri_that_does_not_come_back_brings_the_old_files_back() {
    let world = World::new();
    world.cri.set((false, true));
    let report = world.apply(&["containerd:quay.io"]);
    assert_eq!(state(&report, Runtime::Containerd), Standing::RolledBack, "{report:?}");
    assert!(report.runtimes[&Runtime::Containerd].message.as_ref().unwrap().contains("it answers again"));
    assert!(matches!(report.files[CONFIG], Change::RolledBack(_)));
    assert_eq!(world.host.read(CONFIG).unwrap().as_deref(), Some(OLD));
    assert!(!world.host.has("/etc/containerd/certs.d"));
    assert_eq!(world.done(), ["restart containerd", "restart containerd"]);
    assert!(world.status().runtimes[&Runtime::Containerd].failed.is_some());

    let by_itself = || world.apply_as(Owner::Satellite, command(), &["containerd:quay.io"]).unwrap();
    assert_eq!(state(&by_itself(), Runtime::Containerd), Standing::Refused);
    assert!(world.done().is_empty(), "not tried again by itself");
    world.host.write(CONFIG, &format!("{OLD}# better\n"), 0o644).unwrap();
    world.cri.set((true, true));
    assert_eq!(state(&by_itself(), Runtime::Containerd), Standing::InForce, "the file is another");
    assert!(world.status().is_well());
}

#[test]
fn a_cri_that_did_not_answer_before_is_not_waited_for() {
    let world = World::new();
    world.cri.set((false, false));
    assert!(world.apply(&["containerd:quay.io"]).is_done());
    assert!(world.has_ours());
}

#[test]
fn a_satellite_leaves_to_a_person_what_a_person_decided() {
    let world = World::new();
    world.apply(&["containerd:quay.io"]);
    let refused = world.apply_as(Owner::Satellite, command(), &[]);
    assert!(matches!(refused, Err(ApplyError::ByHand)), "{refused:?}");
    world.apply(&[]);
    assert!(world.apply_as(Owner::Satellite, command(), &["containerd:quay.io"]).unwrap().is_done());
    assert!(world.apply(&["containerd:docker.io"]).is_done(), "a person may always");
    assert_eq!(world.status().owner, Some(Owner::Hand));
}

#[test]
fn two_programs_do_not_undo_each_other_s() {
    for (first, second) in [(Owner::Satellite, Owner::NodeAgent), (Owner::NodeAgent, Owner::Satellite)] {
        let world = World::new();
        assert!(world.apply_as(first, command(), &["containerd:quay.io"]).unwrap().is_done());
        for wish in [&[] as &[&str], &["containerd:docker.io"]] {
            let refused = world.apply_as(second, command(), wish);
            assert!(matches!(refused, Err(ApplyError::Kept(_))), "{refused:?}");
        }
        assert!(world.has_ours());
        assert!(world.apply_as(first, command(), &[]).unwrap().is_done());
        assert!(
            world.apply_as(second, command(), &["containerd:quay.io"]).unwrap().is_done(),
            "it is free now"
        );
    }
}

#[test]
fn a_difference_is_shown_and_nothing_is_written() {
    let world = World::new();
    let machine = world.machine(command());
    let Differences { files, refused } = difference(&machine, &World::wanted(&BOTH, Owner::Hand)).unwrap();
    assert!(refused.is_empty());
    let names: Vec<_> = files.keys().collect();
    assert_eq!(
        names,
        [
            "/etc/containerd/certs.d/docker.io/hosts.toml",
            "/etc/containerd/certs.d/quay.io/hosts.toml",
            CONFIG,
            "/etc/docker/daemon.json"
        ]
    );
    assert!(files[CONFIG].text(CONFIG).contains("+  config_path = "), "{}", files[CONFIG].text(CONFIG));
    assert_eq!(world.host.read(CONFIG).unwrap().as_deref(), Some(OLD));
    assert!(Host::new(world.root.path()).list("/state").is_empty());
    world.apply(&BOTH);
    assert!(difference(&machine, &World::wanted(&BOTH, Owner::Hand)).unwrap().files.is_empty());
}

#[test]
fn two_at_once_do_not_mix() {
    let world = World::new();
    let _other = world.folder.lock().unwrap();
    let refused = world.apply_as(Owner::Hand, command(), &BOTH);
    assert!(matches!(refused, Err(ApplyError::Busy)), "{refused:?}");
    assert!(!world.has_ours());
}

#[test]
fn what_cannot_be_written_is_told_with_its_file_and_holds_up_nobody_else() {
    let world = World::new();
    // As a read-only file system would, this keeps the new text from its place.
    let in_the_way = "/etc/containerd/.config.toml.satellite.tmp/x";
    world.host.write(in_the_way, "", 0o644).unwrap();
    let report = world.apply(&BOTH);
    let containerd = &report.runtimes[&Runtime::Containerd];
    assert_eq!(containerd.state, Standing::RolledBack);
    assert!(containerd.message.as_ref().unwrap().contains(CONFIG), "{containerd:?}");
    assert_eq!(report.runtimes[&Runtime::Docker].state, Standing::InForce);
    assert_eq!(world.host.read(CONFIG).unwrap().as_deref(), Some(OLD));
    assert!(!world.host.has("/etc/containerd/certs.d"));
    assert!(world.status().runtimes[&Runtime::Containerd].files.is_empty(), "no record of what is not there");
    world.host.remove(in_the_way).unwrap();
    world.host.remove_if_empty("/etc/containerd/.config.toml.satellite.tmp");
    assert!(world.apply(&BOTH).is_done());
}

#[test]
fn what_cannot_be_read_is_told_with_its_file_and_holds_up_nobody_else() {
    let world = World::new();
    std::io::Write::write_all(
        &mut std::fs::File::create(world.host.path(CONFIG)).unwrap(),
        b"version = 2\n# caf\xe9\n",
    )
    .unwrap();
    let report = world.apply(&BOTH);
    let containerd = &report.runtimes[&Runtime::Containerd];
    assert_eq!(containerd.state, Standing::Refused);
    assert_eq!(containerd.message.as_deref(), Some("/etc/containerd/config.toml: the file is no UTF-8"));
    assert_eq!(report.runtimes[&Runtime::Docker].state, Standing::InForce);
}

#[test]
fn a_run_that_was_killed_is_completed_or_taken_back() {
    for again in [&BOTH[..], &[]] {
        let world = World::new();
        assert!(world.apply(&BOTH).is_done());
        // The record was there, and then the power was not.
        let hosts = "/etc/containerd/certs.d/quay.io/hosts.toml";
        world.host.write(CONFIG, OLD, 0o644).unwrap();
        world.host.remove(hosts).unwrap();
        world.host.write("/etc/containerd/certs.d/quay.io/.hosts.toml.satellite.tmp", "ha", 0o600).unwrap();
        let files = &world.status().runtimes[&Runtime::Containerd].files;
        assert_eq!((files[CONFIG], files[hosts]), (Condition::Before, Condition::Missing));
        assert!(world.apply(again).is_done());
        if !again.is_empty() {
            assert!(world.has_ours() && world.status().is_well());
            assert!(world.apply(&[]).is_done());
        }
        assert_eq!(world.host.read(CONFIG).unwrap().as_deref(), Some(OLD));
        assert_eq!(world.host.list("/etc/containerd"), ["config.toml"], "nothing is left over");
    }
}

#[test]
fn a_record_that_is_damaged_is_told_with_what_to_do() {
    let world = World::new();
    world.apply(&BOTH);
    let state = Host::new(world.root.path().join("state"));
    state.write("/state.json", "{\"version\": 1, \"fi", 0o600).unwrap();
    let told = world.apply_as(Owner::Hand, command(), &[]).unwrap_err().to_string();
    assert!(told.contains("state/state.json is damaged") && told.contains("backups"), "{told}");
    assert!(world.has_ours(), "nothing is guessed");
}

/// A Docker Engine with its mirror, and what its file was before.
fn docker_with(before: Option<&str>) -> World {
    let world = World::new();
    if let Some(text) = before {
        world.host.write(DAEMON, text, 0o644).unwrap();
    }
    assert!(world.apply(&["docker:true"]).is_done());
    assert_eq!(world.engine.borrow().as_ref().unwrap().first().unwrap(), "http://127.0.0.1:8585");
    world.reloads.take();
    world
}

#[test]
fn an_engine_sees_an_empty_list_before_the_key_goes() {
    for before in [None, Some("{}"), Some("{\"debug\":true}")] {
        let world = docker_with(before);
        let report = world.apply(&[]);
        assert_eq!(state(&report, Runtime::Docker), Standing::Removed, "{report:?}");
        assert_eq!(world.engine.borrow().as_deref(), Some(&[][..]));
        let reloads = world.reloads.take();
        assert_eq!(reloads.len(), 1, "{reloads:?}");
        assert!(reloads[0].contains("\"registry-mirrors\"") && !reloads[0].contains("8585"), "{reloads:?}");
        assert_eq!(world.host.read(DAEMON).unwrap().as_deref(), before);
        assert!(world.status().is_well());
    }
    let world = docker_with(Some("{\"registry-mirrors\": [\"https://m\"]}"));
    assert!(world.apply(&[]).is_done());
    assert_eq!(
        world.reloads.take(),
        ["{\"registry-mirrors\": [\"https://m\"]}"],
        "an operator's list goes on"
    );
    assert_eq!(world.engine.take().unwrap(), ["https://m"]);
}

#[test]
fn a_kill_on_the_way_out_is_made_up_for() {
    for (reloaded, back) in [(false, false), (true, false), (true, true)] {
        let world = docker_with(Some("{\"debug\":true}"));
        {
            // As far as it came.
            let mut shell = Shell::open(&world.host, &world.folder, &world).unwrap();
            let leaving = shell.leaving(&Plan::default()).unwrap().unwrap();
            shell.empty(&leaving).unwrap();
            if reloaded {
                world.reload();
            }
            if back {
                shell.apply(&Plan::nothing(&detect(&world.host, &world))).unwrap();
            }
        }
        let report = world.apply(&[]);
        assert!(report.is_done(), "{report:?}");
        assert_eq!(world.host.read(DAEMON).unwrap().as_deref(), Some("{\"debug\":true}"));
        assert_eq!(world.engine.borrow().as_deref(), Some(&[][..]));
        assert!(world.status().is_well());
    }
    // The record is ahead of the file.
    let world = docker_with(None);
    let text = world.host.read(DAEMON).unwrap().unwrap();
    let mut shell = Shell::open(&world.host, &world.folder, &world).unwrap();
    let leaving = shell.leaving(&Plan::default()).unwrap().unwrap();
    shell.empty(&leaving).unwrap();
    world.host.write(DAEMON, &text, 0o644).unwrap();
    let report = world.apply(&[]);
    assert_eq!(report.files[DAEMON], Change::Deleted, "{report:?}");
    assert!(!world.host.has("/etc/docker"));
    // Another wish is as good an end.
    let world = docker_with(None);
    let mut shell = Shell::open(&world.host, &world.folder, &world).unwrap();
    let leaving = shell.leaving(&Plan::default()).unwrap().unwrap();
    shell.empty(&leaving).unwrap();
    world.reload();
    assert!(world.apply(&["docker:true"]).is_done());
    assert_eq!(world.engine.borrow().as_ref().unwrap(), &["http://127.0.0.1:8585"]);
}

#[test]
fn where_nobody_reloads_an_engine_its_restart_is_left_to_a_person() {
    let world = docker_with(Some("{\"debug\":true}"));
    let report = world.apply_as(Owner::Hand, Manager::None, &[]).unwrap();
    assert_eq!(state(&report, Runtime::Docker), Standing::RestartNeeded, "{report:?}");
    assert!(report.runtimes[&Runtime::Docker].message.as_ref().unwrap().starts_with("restart needed"));
    assert_eq!(world.host.read(DAEMON).unwrap().as_deref(), Some("{\"debug\":true}"), "back all the same");
    assert_eq!(world.status().runtimes[&Runtime::Docker].needs, Some(Means::Restart));
    assert_eq!(
        state(&world.apply(&[]), Runtime::Docker),
        Standing::RestartNeeded,
        "not forgotten, and not done"
    );
    assert!(!world.done().iter().any(|line| line.starts_with("restart")), "containers go on");
    world.engine.replace(Some(Vec::new()));
    assert!(world.status().is_well(), "it was restarted");

    let world = docker_with(None);
    world.engine.replace(None);
    let report = world.apply(&[]);
    assert_eq!(state(&report, Runtime::Docker), Standing::RestartNeeded, "nobody can see it: {report:?}");
    assert!(world.reloads.take().is_empty());
}

#[test]
fn what_a_person_added_to_an_engine_s_file_stays() {
    let world = docker_with(Some("{\"debug\":true}"));
    let text = world.host.read(DAEMON).unwrap().unwrap().replace("true", "false");
    world.host.write(DAEMON, &text, 0o644).unwrap();
    let report = world.apply(&[]);
    assert!(report.is_done(), "{report:?}");
    assert_eq!(report.files[DAEMON], Change::Stripped);
    assert_eq!(world.host.read(DAEMON).unwrap().as_deref(), Some("{\"debug\":false}"));
}

#[test]
fn an_engine_that_does_not_take_its_mirror_is_told_of() {
    let world = World::new();
    world.host.write(DAEMON, "{\"debug\":true}", 0o644).unwrap();
    let report = world.apply_as(Owner::Hand, Manager::Systemd, &["docker:true"]).unwrap();
    assert_eq!(state(&report, Runtime::Docker), Standing::RestartNeeded, "{report:?}");
    assert!(report.runtimes[&Runtime::Docker].message.as_ref().unwrap().contains("other mirrors"));
}
