//! The server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::ports::Port;
use crate::process::Process;
use crate::{Result, command, files};

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Its trust domain.
    pub trust_domain: String,
    /// How long its certificates of authority are good, in Go's notation.
    pub ca_ttl: String,
    /// How long X.509-SVIDs are good.
    pub svid_ttl: String,
    /// How long agents' SVIDs are good.
    pub agent_ttl: String,
    /// The authority of machine certificates (PEM), where `x509pop` is wanted.
    pub x509pop: Option<String>,
    /// The authority of host keys (a line of `authorized_keys`), where `sshpop` is wanted.
    pub sshpop: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            trust_domain: "harbor-satellite.local".into(),
            ca_ttl: "1h".into(),
            svid_ttl: "10m".into(),
            agent_ttl: "10m".into(),
            x509pop: None,
            sshpop: None,
        }
    }
}

/// A server; its folder and port outlast the process.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    port: Port,
    options: ServerOptions,
    process: Option<Process>,
}

impl Server {
    /// Starts a server in a folder that the caller keeps, and waits until it is healthy.
    pub async fn start(dir: &Path, options: ServerOptions) -> Result<Self> {
        let mut server = Self { dir: dir.to_owned(), port: Port::reserve()?, options, process: None };
        server.write_config()?;
        server.resume().await?;
        Ok(server)
    }

    /// Starts it again after [`Server::kill`].
    pub async fn resume(&mut self) -> Result<()> {
        let mut run = Command::new(super::find("spire-server")?);
        run.args(["run", "-config"]).arg(self.dir.join("server.conf")).current_dir(&self.dir);
        let mut process =
            Process::spawn("spire-server", run, &self.log())?.patience(Signal::TERM, Duration::from_secs(5));
        process
            .ready("health", Duration::from_secs(30), async || self.call(&["healthcheck"]).await.is_ok())
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |process| process.kill().map(drop))
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.options.trust_domain
    }

    /// The socket of its administrators' API.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("server.sock")
    }

    /// The port that agents attest to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("spire-server.log")
    }

    /// Runs a command of the program against its socket and gives what it prints.
    pub async fn call(&self, arguments: &[&str]) -> Result<String> {
        let mut call = Command::new(super::find("spire-server")?);
        call.args(arguments).arg("-socketPath").arg(self.socket());
        command::run(call).await
    }

    /// The authorities of its trust domain (PEM).
    pub async fn bundle(&self) -> Result<String> {
        self.call(&["bundle", "show"]).await
    }

    /// A join token for an agent that is to have this SPIFFE ID, too.
    pub async fn token(&self, spiffe_id: &str) -> Result<String> {
        let said = self.call(&["token", "generate", "-spiffeID", spiffe_id, "-ttl", "600"]).await?;
        Ok(said.trim().trim_start_matches("Token:").trim().to_owned())
    }

    /// Creates a workload entry for everything that runs as this process's user.
    pub async fn entry(&self, parent: &str, spiffe_id: &str) -> Result<String> {
        let selector = own_selector();
        self.call(&["entry", "create", "-parentID", parent, "-spiffeID", spiffe_id, "-selector", &selector])
            .await
    }

    /// The entries for a SPIFFE ID, as the program prints them.
    pub async fn entries(&self, spiffe_id: &str) -> Result<String> {
        self.call(&["entry", "show", "-spiffeID", spiffe_id]).await
    }

    /// The agents, as the program prints them.
    pub async fn agents(&self) -> Result<String> {
        self.call(&["agent", "list"]).await
    }

    /// Issues an SVID to whoever asks, written as `svid.pem`, `key.pem` and `bundle.pem` below `dir`.
    pub async fn mint(&self, spiffe_id: &str, ttl: &str, dir: &Path) -> Result<()> {
        files::create_dir(dir)?;
        let to = dir.display().to_string();
        self.call(&["x509", "mint", "-spiffeID", spiffe_id, "-ttl", ttl, "-write", &to]).await.map(drop)
    }

    /// Makes the next authority, which is in the bundles from then on and signs nothing yet; gives its id.
    pub async fn prepare_authority(&self) -> Result<String> {
        let answer = self.local_authority(&["prepare"]).await?;
        authority(&answer, "prepared_authority")
    }

    /// Has the prepared authority sign; gives the id of the one before.
    pub async fn activate_authority(&self, id: &str) -> Result<String> {
        let shown = self.local_authority(&["show"]).await?;
        let before = authority(&shown, "active")?;
        self.local_authority(&["activate", "-authorityID", id]).await?;
        Ok(before)
    }

    /// Has agents replace at once what an authority signed that signs no more.
    pub async fn taint_authority(&self, id: &str) -> Result<()> {
        self.local_authority(&["taint", "-authorityID", id]).await.map(drop)
    }

    /// Takes a tainted authority out of the bundles.
    pub async fn revoke_authority(&self, id: &str) -> Result<()> {
        self.local_authority(&["revoke", "-authorityID", id]).await.map(drop)
    }

    async fn local_authority(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut whole = vec!["localauthority", "x509"];
        whole.extend(arguments);
        whole.extend(["-output", "json"]);
        let said = self.call(&whole).await?;
        serde_json::from_str(&said).map_err(|error| {
            crate::Error::Content(format!("`{}` printed no JSON ({error}): {said}", whole.join(" ")))
        })
    }

    fn write_config(&self) -> Result<()> {
        let d = self.dir.display();
        let mut attestors = String::from("    NodeAttestor \"join_token\" { plugin_data {} }\n");
        if let Some(authority) = &self.options.x509pop {
            files::write(&self.dir.join("x509pop-ca.pem"), authority)?;
            attestors += &format!(
                "    NodeAttestor \"x509pop\" {{ plugin_data {{ ca_bundle_path = \"{d}/x509pop-ca.pem\" }} }}\n"
            );
        }
        if let Some(authority) = &self.options.sshpop {
            files::write(&self.dir.join("sshpop-ca.pub"), authority)?;
            attestors += &format!(
                "    NodeAttestor \"sshpop\" {{ plugin_data {{ cert_authorities_path = \"{d}/sshpop-ca.pub\" }} }}\n"
            );
        }
        let ServerOptions { trust_domain, ca_ttl, svid_ttl, agent_ttl, .. } = &self.options;
        let config = format!(
            r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{d}/server.sock"
    trust_domain = "{trust_domain}"
    data_dir = "{d}/data"
    log_level = "INFO"
    ca_ttl = "{ca_ttl}"
    default_x509_svid_ttl = "{svid_ttl}"
    agent_ttl = "{agent_ttl}"
    admin_ids = ["spiffe://{trust_domain}/gc/main"]
    ratelimit {{ attestation = false signing = false }}
}}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{d}/datastore.sqlite3" }} }}
    KeyManager "disk" {{ plugin_data {{ keys_path = "{d}/keys.json" }} }}
{attestors}}}
"#,
            port = self.port.number()
        );
        files::create_dir(&self.dir.join("data"))?;
        files::write(&self.dir.join("server.conf"), config)
    }
}

fn authority(answer: &serde_json::Value, which: &str) -> Result<String> {
    let id = answer[which]["authority_id"].as_str().filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| crate::Error::Content(format!("there is no {which}: {answer}")))
}

/// What SPIRE's Unix attestor says of a process of this user.
pub fn own_selector() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}
