//! Podman with storage and configuration of its own.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Error, Result, command, files};

/// A private Podman: no daemon, only folders.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Podman leaves its overlay folder mounted onto itself, and the folder could not be removed.
        let mount = self.dir.path().join("root/overlay");
        let _ = Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status();
    }
}

impl Podman {
    /// Prepares the folders and checks that Podman runs.
    pub async fn start() -> Result<Self> {
        command::need_root("Podman's overlay storage")?;
        command::need("podman", "podman")?;
        let dir = files::scratch("podman")?;
        // crun of Debian 12 fails on hybrid cgroups; without CAP_SYS_RESOURCE Podman may not raise limits.
        let containers = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                          [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        files::write(&dir.path().join("containers.conf"), containers)?;
        files::write(&dir.path().join("registries.conf"), "unqualified-search-registries = []\n")?;
        files::write(&dir.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        files::write(&dir.path().join("auth.json"), "{}")?;
        let podman = Self { dir };
        podman.podman(&["info"]).await?;
        Ok(podman)
    }

    /// Says that a registry (`host:port`) is asked in plain HTTP, and through a mirror (`host:port`) where one is given.
    pub fn registry(&self, registry: &str, mirror: Option<&str>) -> Result<()> {
        let path = self.dir.path().join("registries.conf");
        let mut text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
        text += &format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
        if let Some(mirror) = mirror {
            text += &format!("[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n");
        }
        files::write(&path, text)
    }

    /// Runs `podman` with these arguments.
    pub async fn podman(&self, arguments: &[&str]) -> Result<String> {
        let dir = self.dir.path();
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", dir.join("registries.conf"))
            .env("HOME", dir)
            .env("TMPDIR", dir)
            .env("REGISTRY_AUTH_FILE", dir.join("auth.json"));
        for (flag, folder) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(flag).arg(dir.join(folder));
        }
        command.args(["--storage-driver", "overlay"]).args(arguments);
        command::run(command).await
    }

    /// Pulls an image and gives the digest of what was asked for: the index's, where it is one.
    pub async fn pull(&self, reference: &str) -> Result<String> {
        let policy = self.dir.path().join("policy.json").display().to_string();
        self.podman(&["pull", "--quiet", "--signature-policy", &policy, reference]).await?;
        let inspect = ["image", "inspect", "--format", "{{range .RepoDigests}}{{.}}\n{{end}}", reference];
        let digests = self.podman(&inspect).await?;
        // Podman names both, the index and the child that it took.
        let digests: Vec<&str> =
            digests.lines().filter_map(|line| line.split_once('@').map(|(_, digest)| digest)).collect();
        if digests.is_empty() {
            return Err(Error::Content(format!("Podman names no digest for {reference}")));
        }
        Ok(digests.join(" "))
    }

    /// Runs a container without network and gives what it printed.
    pub async fn run(&self, image: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["run", "--rm", "--network", "none", "--pull", "never", image];
        all.extend(arguments);
        self.podman(&all).await
    }

    /// Forgets every image.
    pub async fn remove_all(&self) -> Result<()> {
        self.podman(&["image", "rm", "--all", "--force"]).await.map(drop)
    }
}
