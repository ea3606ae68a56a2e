//! A containerd of one's own, used through `ctr`, with registries named in `hosts.toml` as on a node.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::{Error, Result, command, files};

/// A running containerd with a root, a state folder and a socket of its own.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    socket: PathBuf,
    dir: TempDir,
}

impl Containerd {
    /// Starts containerd and waits until it answers.
    pub async fn start() -> Result<Self> {
        command::need_root("containerd")?;
        let containerd = command::need("containerd", "containerd")?;
        command::need("ctr", "containerd")?;
        let dir = files::scratch("ctrd")?;
        let root = dir.path();
        let socket = root.join("c.sock");
        let config = format!(
            "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{root}/c.sock\"\n[ttrpc]\naddress = \"{root}/t.sock\"\n",
            root = root.display()
        );
        files::write(&root.join("config.toml"), config)?;
        let mut program = Command::new(containerd);
        program.arg("--config").arg(root.join("config.toml")).current_dir(root);
        let process = Process::spawn("containerd", program, &root.join("log"))?
            .patience(Signal::TERM, Duration::from_secs(10));
        let mut containerd = Self { process, socket, dir };
        let probe = containerd.ctr_command(&["version"]);
        let arguments: Vec<_> = probe.get_args().map(ToOwned::to_owned).collect();
        containerd
            .process
            .ready("the first answer", Duration::from_secs(30), async || {
                let mut ctr = Command::new("ctr");
                ctr.args(&arguments);
                command::output(ctr).await.is_ok_and(|output| output.status.success())
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

    fn hosts(&self) -> PathBuf {
        self.dir.path().join("certs.d")
    }

    /// Runs `ctr` with these arguments.
    pub async fn ctr(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.ctr_command(arguments)).await
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", "testbed"]).args(arguments);
        command
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
