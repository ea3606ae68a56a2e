//! A Docker engine of one's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::containerd::path;
use crate::process::Process;
use crate::{Error, Result, command, files};

/// A running `dockerd` with a data root and a socket of its own, without any network of its own.
#[derive(Debug)]
pub struct Docker {
    process: Process,
    socket: PathBuf,
    _dir: TempDir,
}

/// How it is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder with `dockerd`, `containerd`, its shim and `runc`, where they are not the machine's.
    pub programs: Option<PathBuf>,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
    /// Whether images are kept by its containerd, as new installations from 29 on do.
    pub containerd_store: bool,
}

impl Docker {
    /// Starts an engine and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts an engine and waits until it answers.
    pub async fn start_with(options: Options) -> Result<Self> {
        command::need_root("the Docker engine")?;
        let dockerd = match &options.programs {
            Some(folder) => folder.join("dockerd"),
            None => command::need("dockerd", "docker.io")?,
        };
        command::need("docker", "docker.io")?;
        let dir = files::scratch("docker")?;
        let socket = dir.path().join("docker.sock");
        let mut config = serde_json::json!({
            "data-root": dir.path().join("data"),
            "exec-root": dir.path().join("exec"),
            "pidfile": dir.path().join("pid"),
            "hosts": [format!("unix://{}", socket.display())],
            "bridge": "none",
            "iptables": false,
            "ip-forward": false,
            "ip-masq": false,
        });
        if options.containerd_store {
            config["features"] = serde_json::json!({ "containerd-snapshotter": true });
        } else {
            config["storage-driver"] = "overlay2".into();
        }
        let config_file = dir.path().join("daemon.json");
        files::write(&config_file, config.to_string())?;
        let mut program = Command::new(dockerd);
        program.arg("--config-file").arg(&config_file).current_dir(dir.path());
        program.envs(&options.environment).env("PATH", path(options.programs.as_deref()));
        // Debian's client is older than what a newer engine takes by itself.
        program.env("DOCKER_MIN_API_VERSION", "1.24");
        // The engine has mounts and a containerd to take down.
        let process = Process::spawn("dockerd", program, &dir.path().join("log"))?
            .patience(Signal::TERM, Duration::from_secs(15));
        let mut docker = Self { process, socket, _dir: dir };
        let socket = docker.socket.clone();
        docker
            .process
            .ready("the first answer", Duration::from_secs(60), async || {
                command::output(client(&socket, &["version"]))
                    .await
                    .is_ok_and(|output| output.status.success())
            })
            .await?;
        Ok(docker)
    }

    /// Runs `docker` with these arguments.
    pub async fn docker(&self, arguments: &[&str]) -> Result<String> {
        command::run(client(&self.socket, arguments)).await
    }

    /// Pulls an image and gives the digest under which the engine knows it.
    pub async fn pull(&self, reference: &str) -> Result<String> {
        self.docker(&["pull", "--quiet", reference]).await?;
        let digests = self
            .docker(&["image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", reference])
            .await?;
        let digest =
            digests.lines().find_map(|line| line.split_once('@').map(|(_, digest)| digest.to_owned()));
        digest.ok_or_else(|| Error::Content(format!("Docker names no digest for {reference}: {digests}")))
    }

    /// Runs a container without network and gives what it printed.
    pub async fn run(&self, image: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["run", "--rm", "--network", "none", "--pull", "never", image];
        all.extend(arguments);
        self.docker(&all).await
    }

    /// Forgets every image, so that the next pull is a whole one.
    pub async fn remove_all(&self) -> Result<()> {
        self.docker(&["system", "prune", "--all", "--force"]).await.map(drop)
    }

    /// Process id of the engine.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

fn client(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    // Neither a context nor credentials of the person who runs this.
    command.env("DOCKER_CONFIG", socket.with_file_name("client")).env_remove("DOCKER_CONTEXT");
    command.arg("-H").arg(format!("unix://{}", socket.display())).args(arguments);
    command
}
