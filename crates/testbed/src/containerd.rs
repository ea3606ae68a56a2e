//! A containerd of one's own, used through `ctr`, with registries named in `hosts.toml` as on a node.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::cri::Cri;
use crate::process::Process;
use crate::{Error, Result, command, files};

/// A running containerd with a root, a state folder and a socket of its own.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    socket: PathBuf,
    programs: Option<PathBuf>,
    dir: TempDir,
}

/// How it is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder with `containerd`, `ctr` and the shim, where they are not the machine's.
    pub programs: Option<PathBuf>,
    /// Whether it has its CRI plugin, with [`Containerd::hosts`] for its `config_path`.
    pub cri: bool,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
}

impl Containerd {
    /// Starts containerd and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts containerd and waits until it answers: its CRI, where it has one.
    pub async fn start_with(options: Options) -> Result<Self> {
        command::need_root("containerd")?;
        let containerd = program("containerd", options.programs.as_deref())?;
        program("ctr", options.programs.as_deref())?;
        let dir = files::scratch("ctrd")?;
        let root = dir.path();
        let socket = root.join("c.sock");
        let disabled = match options.cri {
            true => "\"io.containerd.internal.v1.opt\"",
            // The second and the third are what 2.x has for it.
            false => {
                "\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \
                 \"io.containerd.internal.v1.opt\""
            }
        };
        let mut config = format!(
            "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\ndisabled_plugins = [{disabled}]\n\
             [grpc]\naddress = \"{root}/c.sock\"\n[ttrpc]\naddress = \"{root}/t.sock\"\n",
            root = root.display()
        );
        if options.cri {
            // 2.x reads this version, too.
            config += &format!(
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{}/certs.d\"\n",
                root.display()
            );
        }
        files::write(&root.join("config.toml"), config)?;
        let mut program = Command::new(containerd);
        program.arg("--config").arg(root.join("config.toml")).current_dir(root);
        program.envs(&options.environment).env("PATH", path(options.programs.as_deref()));
        let process = Process::spawn("containerd", program, &root.join("log"))?
            .patience(Signal::TERM, Duration::from_secs(10));
        let mut containerd = Self { process, socket, programs: options.programs, dir };
        let probe = containerd.ctr_command(&["version"]);
        let ctr = probe.get_program().to_owned();
        let arguments: Vec<_> = probe.get_args().map(ToOwned::to_owned).collect();
        let cri = options.cri.then(|| containerd.cri());
        containerd
            .process
            .ready("the first answer", Duration::from_secs(30), async || {
                let mut ctr = Command::new(&ctr);
                ctr.args(&arguments);
                command::output(ctr).await.is_ok_and(|output| output.status.success())
                    && match &cri {
                        Some(cri) => cri.answers().await,
                        None => true,
                    }
            })
            .await?;
        Ok(containerd)
    }

    /// Writes `hosts.toml` of a registry (`host:port`): its pulls go to `mirror` first, an `http://` URL.
    pub fn mirror(&self, registry: &str, mirror: &str) -> Result<()> {
        let text = format!(
            "server = \"http://{registry}\"\n[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        files::write(&self.hosts().join(registry).join("hosts.toml"), text)
    }

    /// The folder of registry hosts.
    pub fn hosts(&self) -> PathBuf {
        self.dir.path().join("certs.d")
    }

    /// Runs `ctr` with these arguments.
    pub async fn ctr(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.ctr_command(arguments)).await
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let ctr = self.programs.as_ref().map_or("ctr".into(), |programs| programs.join("ctr"));
        let mut command = Command::new(ctr);
        command.arg("--address").arg(&self.socket);
        // A namespace among the arguments is the later one, which counts.
        command.args(["--namespace", "testbed"]).args(arguments);
        command
    }

    /// Its CRI, where it was started with one. The CRI's images are in the namespace `k8s.io`.
    pub fn cri(&self) -> Cri {
        Cri::new(&self.socket)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Pulls an image for this machine's platform and gives the digest of what the name points at.
    pub async fn pull(&self, reference: &str) -> Result<String> {
        let hosts = self.hosts();
        files::create_dir(&hosts)?;
        let hosts = hosts.display().to_string();
        self.ctr(&["images", "pull", "--hosts-dir", &hosts, reference]).await?;
        let list = self.ctr(&["images", "list", &format!("name=={reference}")]).await?;
        let digest =
            list.lines().filter(|line| line.split_whitespace().next() == Some(reference)).find_map(|line| {
                line.split_whitespace().find(|word| word.starts_with("sha")).map(ToOwned::to_owned)
            });
        digest.ok_or_else(|| Error::Content(format!("containerd does not list {reference}: {list}")))
    }

    /// Runs a container and gives what it printed.
    pub async fn run(&self, image: &str, arguments: &[&str]) -> Result<String> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let id = format!("c{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut all = vec!["run", "--rm", image, &id];
        all.extend(arguments);
        self.ctr(&all).await
    }

    /// Forgets an image, so that the next pull asks again.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        self.ctr(&["images", "remove", "--sync", reference]).await.map(drop)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// A program in a folder, or the machine's.
fn program(name: &str, folder: Option<&Path>) -> Result<PathBuf> {
    folder.map_or_else(|| command::need(name, "containerd"), |folder| Ok(folder.join(name)))
}

/// `PATH` with a folder before all others: it decides which shim is taken.
pub(crate) fn path(first: Option<&Path>) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> =
        first.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path)).collect();
    std::env::join_paths(all).unwrap_or(path)
}
