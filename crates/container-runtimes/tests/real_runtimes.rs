//! Runtimes that run: a containerd with its CRI plugin that is restarted, and a Docker Engine that reads its file again.
//! Each has a root, a state folder and a socket of its own; nothing below /etc is written. Needs root, containerd 1.6 and
//! Docker 20.10 (Debian's).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::cell::{Cell, RefCell};
use std::fs::{DirBuilder, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use container_runtimes::apply::{Machine, Report, Standing, Wanted, apply, status};
use container_runtimes::command::{Commands, HostCommands, Said};
use container_runtimes::containerd::config::Legacy;
use container_runtimes::cri::{Cri, CriSocket};
use container_runtimes::docker::engine::{Engine, EngineSocket};
use container_runtimes::host::Host;
use container_runtimes::plan::Endpoint;
use container_runtimes::reload::Means;
use container_runtimes::service::Manager;
use container_runtimes::state::{Owner, StateFolder};
use container_runtimes::{Runtime, parse_mirrors};

/// Far more than anything here takes; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const CONFIG: &str = "/etc/containerd/config.toml";
const DAEMON: &str = "/etc/docker/daemon.json";

/// A machine in a folder: its files are below it, its programs are the real ones.
struct World {
    root: tempfile::TempDir,
    host: Host,
    folder: StateFolder,
    runtime: Runtime,
    process: RefCell<Option<Child>>,
    /// What containerd's file is followed by at its next start, if it has our folder: a change that nobody foresaw.
    trouble: Cell<&'static str>,
    restarts: Cell<u32>,
}

impl World {
    fn new(runtime: Runtime) -> Self {
        // A socket's path is short.
        let root = tempfile::Builder::new().prefix("cr").tempdir_in("/tmp").unwrap();
        let world = Self {
            host: Host::new(root.path()),
            folder: StateFolder::new(root.path().join("record")),
            root,
            runtime,
            process: RefCell::default(),
            trouble: Cell::new(""),
            restarts: Cell::new(0),
        };
        let program = if runtime == Runtime::Docker { "/usr/sbin/dockerd" } else { "/usr/bin/containerd" };
        world.host.write(program, "", 0o755).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn containerd_config(&self) -> String {
        let root = self.root.path().display();
        format!(
            "# site\nversion = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\ndisabled_plugins = \
             [\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"{root}/c.sock\"\n[ttrpc]\naddress = \
             \"{root}/t.sock\"\n[plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true # kept\n"
        )
    }

    fn docker_config(&self) -> String {
        let root = self.root.path().display();
        format!(
            "{{\"data-root\": \"{root}/data\", \"exec-root\": \"{root}/exec\", \"pidfile\": \"{root}/pid\",\n \
             \"hosts\": [\"unix://{root}/d.sock\"], \"storage-driver\": \"vfs\", \"bridge\": \"none\",\n \
             \"iptables\": false, \"ip-forward\": false, \"ip-masq\": false}}\n"
        )
    }

    /// Starts it, and shows it in the machine's list of processes.
    fn start(&self) {
        let log = File::create(self.path("log")).unwrap();
        let mut command = match self.runtime {
            Runtime::Docker => {
                let mut command = Command::new("dockerd");
                command.arg("--config-file").arg(self.host.path(DAEMON));
                command
            }
            _ => {
                let mut text = self.host.read(CONFIG).unwrap().unwrap();
                if text.contains("config_path") {
                    // The machine's folder is below ours.
                    let place = format!("config_path = \"{}/etc", self.root.path().display());
                    text = text.replace("config_path = \"/etc", &place) + self.trouble.get();
                }
                self.host.write("/started.toml", &text, 0o644).unwrap();
                let mut command = Command::new("containerd");
                command.arg("--config").arg(self.host.path("/started.toml"));
                command
            }
        };
        let child = command
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let name = if self.runtime == Runtime::Docker { "dockerd" } else { "containerd" };
        let pid = child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        self.host.write("/proc/1/cmdline", "init\0", 0o644).unwrap();
        self.host.write(&format!("/proc/{pid}/stat"), &stat, 0o644).unwrap();
        self.host.write(&format!("/proc/{pid}/cmdline"), &format!("/usr/bin/{name}\0"), 0o644).unwrap();
        *self.process.borrow_mut() = Some(child);
    }

    fn stop(&self) {
        let Some(mut child) = self.process.borrow_mut().take() else { return };
        self.host.remove(&format!("/proc/{}/cmdline", child.id())).unwrap();
        self.host.remove(&format!("/proc/{}/stat", child.id())).unwrap();
        let pid = child.id().to_string();
        drop(Command::new("kill").arg(&pid).status());
        let end = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(LOOK);
        }
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < end, "{what} did not come about\n{log}");
            std::thread::sleep(LOOK);
        }
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            host: &self.host,
            folder: &self.folder,
            commands: self,
            restarts: self,
            cri: self,
            engine: self,
            manager: Manager::Command("manage".to_owned()),
            patience: Duration::from_secs(8),
        }
    }

    fn apply(&self, mirrors: &[&str]) -> Report {
        let wanted = Wanted {
            requests: parse_mirrors(mirrors).unwrap(),
            endpoint: Some(Endpoint::new("http://127.0.0.1:8585").unwrap()),
            legacy: Legacy::Move,
            owner: Owner::Hand,
            up_to: Means::Restart,
        };
        apply(&self.machine(), &wanted).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        // What an engine leaves mounted.
        let root = self.root.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for place in
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&root))
        {
            drop(Command::new("umount").args(["-l", place]).status());
        }
    }
}

impl Commands for World {
    fn run(&self, program: &str, arguments: &[&str]) -> std::io::Result<Said> {
        if let ("sh", ["-c", "manage", _, runtime, verb]) = (program, arguments) {
            assert_eq!(*runtime, self.runtime.name());
            self.restarts.set(self.restarts.get() + 1);
            if *verb == "reload" {
                let pid = self.process.borrow().as_ref().unwrap().id().to_string();
                assert!(Command::new("kill").args(["-HUP", &pid]).status()?.success());
            } else {
                self.stop();
                self.start();
            }
            return Ok(Said { success: true, stdout: String::new(), stderr: String::new() });
        }
        let mapped: Vec<String> = arguments
            .iter()
            .map(|argument| match argument.strip_prefix("/etc/") {
                Some(path) => self.path("etc").join(path).to_str().unwrap().to_owned(),
                None => (*argument).to_owned(),
            })
            .collect();
        HostCommands::new("/").run(program, &mapped.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// The socket's path in the file is that of this machine, and not of the one in the folder.
impl Cri for World {
    fn answers(&self, socket: &Path) -> bool {
        assert!(socket.ends_with("c.sock"), "{}", socket.display());
        CriSocket.answers(&self.path("c.sock"))
    }
}

impl Engine for World {
    fn mirrors(&self, socket: &Path) -> Option<Vec<String>> {
        assert!(socket.ends_with("d.sock"), "{}", socket.display());
        EngineSocket.mirrors(&self.path("d.sock"))
    }
}

fn containerd() -> World {
    let world = World::new(Runtime::Containerd);
    world.host.write(CONFIG, &world.containerd_config(), 0o644).unwrap();
    world.start();
    world.until("an answer of the CRI", || CriSocket.answers(&world.path("c.sock")));
    world
}

#[test]
fn a_containerd_comes_back_with_its_mirrors() {
    let world = containerd();
    let before = world.host.read(CONFIG).unwrap().unwrap();
    let mirrors = ["containerd:docker.io,quay.io"];
    let report = world.apply(&mirrors);
    assert!(report.is_done(), "{report:?}");
    assert_eq!(world.restarts.get(), 1);
    assert!(CriSocket.answers(&world.path("c.sock")));
    assert!(world.apply(&mirrors).is_done());
    assert_eq!(world.restarts.get(), 1, "nothing changed");
    assert!(world.apply(&[]).is_done());
    assert_eq!((world.restarts.get(), world.host.read(CONFIG).unwrap().unwrap()), (2, before));
    assert!(!world.host.has("/etc/containerd/certs.d"));
}

#[test]
fn a_containerd_whose_cri_does_not_load_gets_its_old_files_back() {
    let world = containerd();
    let before = world.host.read(CONFIG).unwrap().unwrap();
    world.trouble.set(
        "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://m\"]\n",
    );
    let report = world.apply(&["containerd:docker.io"]);
    let containerd = &report.runtimes[&Runtime::Containerd];
    assert_eq!(containerd.state, Standing::RolledBack, "{report:?}");
    assert!(containerd.message.as_ref().unwrap().contains("it answers again"), "{containerd:?}");
    assert_eq!(world.host.read(CONFIG).unwrap().unwrap(), before);
    assert!(!world.host.has("/etc/containerd/certs.d"));
    assert_eq!(world.restarts.get(), 2);
    assert!(CriSocket.answers(&world.path("c.sock")));
    assert!(!status(&world.machine()).unwrap().is_well());
}

#[test]
fn a_docker_engine_takes_its_mirror_without_a_restart() {
    let world = World::new(Runtime::Docker);
    world.host.write(DAEMON, &world.docker_config(), 0o644).unwrap();
    DirBuilder::new().create(world.path("client")).unwrap();
    world.start();
    let info = || {
        let output = Command::new("docker")
            .env("DOCKER_CONFIG", world.path("client"))
            .args(["-H", &format!("unix://{}", world.path("d.sock").display()), "info", "--format"])
            .arg("{{.ID}} {{.RegistryConfig.Mirrors}}")
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    world.until("an answer of the engine", || info().is_some());
    let pid = world.process.borrow().as_ref().unwrap().id();
    let report = world.apply(&["docker:true"]);
    assert!(report.is_done(), "{report:?}");
    world.until("the mirror", || info().is_some_and(|info| info.contains("http://127.0.0.1:8585/")));
    assert_eq!(world.process.borrow().as_ref().unwrap().id(), pid);
    assert!(world.apply(&[]).is_done());
    world.until("its end", || info().is_some_and(|info| !info.contains("8585")));
    assert_eq!(world.host.read(DAEMON).unwrap().unwrap(), world.docker_config());
    assert_eq!(world.restarts.get(), 2);
}
