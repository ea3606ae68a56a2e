//! The agent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Process;
use crate::{Result, command, files};

/// What an agent attests with.
#[derive(Clone, Debug)]
pub enum Attestation {
    /// A one-time token.
    JoinToken(String),
    /// A certificate and its key (PEM).
    X509pop {
        /// The certificate.
        certificate: String,
        /// Its key.
        key: String,
    },
    /// Files of an SSH host key and its certificate.
    Sshpop {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
}

/// An agent; its folder outlasts the process.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Starts an agent in a folder that the caller keeps. It is not waited for: see [`Agent::healthy`].
    pub fn start(
        dir: &Path,
        trust_domain: &str,
        server_port: u16,
        bundle: &str,
        attestation: &Attestation,
    ) -> Result<Self> {
        let d = dir.display();
        files::create_dir(&dir.join("data"))?;
        files::write(&dir.join("bundle.pem"), bundle)?;
        let attestor = match attestation {
            Attestation::JoinToken(_) => r#"NodeAttestor "join_token" { plugin_data {} }"#.to_owned(),
            Attestation::X509pop { certificate, key } => {
                files::write(&dir.join("node.pem"), certificate)?;
                files::write_private(&dir.join("node.key"), key)?;
                format!(
                    r#"NodeAttestor "x509pop" {{ plugin_data {{ private_key_path = "{d}/node.key" certificate_path = "{d}/node.pem" }} }}"#
                )
            }
            Attestation::Sshpop { key, certificate } => format!(
                r#"NodeAttestor "sshpop" {{ plugin_data {{ host_key_path = "{}" host_cert_path = "{}" }} }}"#,
                key.display(),
                certificate.display()
            ),
        };
        let token = match attestation {
            Attestation::JoinToken(token) => format!("join_token = \"{token}\""),
            _ => String::new(),
        };
        let config = format!(
            r#"agent {{
    data_dir = "{d}/data"
    server_address = "127.0.0.1"
    server_port = "{server_port}"
    socket_path = "{d}/agent.sock"
    trust_domain = "{trust_domain}"
    trust_bundle_path = "{d}/bundle.pem"
    log_level = "INFO"
    {token}
}}
plugins {{
    KeyManager "disk" {{ plugin_data {{ directory = "{d}/data" }} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
    {attestor}
}}
"#
        );
        files::write_private(&dir.join("agent.conf"), config)?;
        let mut agent = Self { dir: dir.to_owned(), process: None };
        agent.resume()?;
        Ok(agent)
    }

    /// Starts it again after [`Agent::kill`], with what it keeps on its disk.
    pub fn resume(&mut self) -> Result<()> {
        let mut run = Command::new(super::find("spire-agent")?);
        run.args(["run", "-config"]).arg(self.dir.join("agent.conf")).current_dir(&self.dir);
        let process =
            Process::spawn("spire-agent", run, &self.log())?.patience(Signal::TERM, Duration::from_secs(5));
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it has attested and serves the Workload API.
    pub async fn healthy(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let answered = process
            .ready("health", Duration::from_secs(60), async || self.call(&["healthcheck"]).await.is_ok())
            .await;
        self.process = Some(process);
        answered
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |process| process.kill().map(drop))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.process.as_ref().is_none_or(Process::has_ended)
    }

    /// The socket of the Workload API.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("spire-agent.log")
    }

    /// Runs a command of the program against its socket and gives what it prints.
    pub async fn call(&self, arguments: &[&str]) -> Result<String> {
        let mut call = Command::new(super::find("spire-agent")?);
        call.args(arguments).arg("-socketPath").arg(self.socket());
        command::run(call).await
    }
}
