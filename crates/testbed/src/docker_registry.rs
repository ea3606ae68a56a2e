//! Debian's `docker-registry` (distribution 2.8): a foreign registry as a target, a source, and a peer to compare with.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Process;
use crate::registry::Registry;
use crate::{Result, command, files};

/// A running `docker-registry`, anonymous, with a folder of its own.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Process,
    port: Port,
    dir: TempDir,
}

impl DockerRegistry {
    /// Starts it and waits until it answers.
    pub async fn start() -> Result<Self> {
        let program = command::need("docker-registry", "docker-registry")?;
        let dir = files::scratch("dreg")?;
        let port = Port::reserve()?;
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}, cache: {{blobdescriptor: inmemory}}}}\n\
             http: {{addr: \"{}\"}}\n",
            dir.path().join("data").display(),
            port.address()
        );
        let config_file = dir.path().join("config.yml");
        files::write(&config_file, config)?;
        let mut serve = Command::new(program);
        serve.arg("serve").arg(&config_file);
        let process = Process::spawn("docker-registry", serve, &dir.path().join("log"))?;
        let mut registry = Self { process, port, dir };
        let client = registry.registry();
        registry
            .process
            .ready("the first answer", Duration::from_secs(20), async || client.ping().await.is_ok())
            .await?;
        Ok(registry)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// A client of it.
    pub fn registry(&self) -> Registry {
        Registry::anonymous(&self.url())
    }

    /// Where it keeps its content.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The process, for its memory and processor time.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
