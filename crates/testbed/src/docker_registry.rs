//! Debian's `docker-registry` (distribution 2.8): a foreign registry as a target, a source, and a peer to compare with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Process;
use crate::registry::Registry;
use crate::{Error, Result, command, files};

/// A running `docker-registry` with a folder of its own.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Process,
    port: Port,
    scheme: &'static str,
    dir: TempDir,
}

/// A password that its accounts may have: it takes bcrypt alone, which nothing else here makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Password {
    /// As a client says it.
    pub text: &'static str,
    bcrypt: &'static str,
}

/// Three passwords.
pub const PASSWORDS: [Password; 3] = [
    Password { text: "push-Rf2Vq9", bcrypt: "$2b$04$uYpTt5OQJ3le3h9n.wOm...fSBnZnyvOoTAc97Wz.RmgRKPYdz6KW" },
    Password { text: "pull-Kd7Wm3", bcrypt: "$2b$04$e0Ww7YJdfCCchtDur0yEEeYn909xl/5Q8RuRGYY1d7wXoT3hbvttm" },
    Password { text: "pull-Zt4Hx8", bcrypt: "$2b$04$cn2IvfLKcnubRvzAw6zXieAccVErSvScGJ/T1oL0htHKs.3H3oyou" },
];

/// How it is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names and passwords of those who may do everything; with none, everybody may.
    pub accounts: Vec<(String, Password)>,
    /// Whether manifests may be deleted.
    pub delete: bool,
    /// Certificate chain and key (PEM), where it is to speak TLS.
    pub tls: Option<(String, String)>,
    /// The authority (PEM) by which every client has to show a certificate.
    pub client_authority: Option<String>,
    /// Whether it listens on every address of the machine, and not on loopback alone.
    pub everywhere: bool,
    /// The folder of another one, whose content it serves, too.
    pub data: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            delete: true,
            tls: None,
            client_authority: None,
            everywhere: false,
            data: None,
        }
    }
}

impl DockerRegistry {
    /// Starts it for everybody and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts it and waits until it answers.
    pub async fn start_with(options: Options) -> Result<Self> {
        let program = command::need("docker-registry", "docker-registry")?;
        let dir = files::scratch("dreg")?;
        let port = Port::reserve()?;
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: {}}}, cache: {{blobdescriptor: inmemory}}}}\n\
             http: {{addr: \"{}\"{}}}\n",
            options.data.unwrap_or_else(|| dir.path().join("data")).display(),
            options.delete,
            if options.everywhere { format!(":{}", port.number()) } else { port.address() },
            tls(dir.path(), options.tls.as_ref(), options.client_authority.as_deref())?,
        );
        if !options.accounts.is_empty() {
            write_accounts(dir.path(), &options.accounts)?;
            let file = accounts_file(dir.path());
            config += &format!("auth: {{htpasswd: {{realm: testbed, path: {}}}}}\n", file.display());
        }
        let config_file = dir.path().join("config.yml");
        files::write(&config_file, config)?;
        let mut serve = Command::new(program);
        serve.arg("serve").arg(&config_file);
        let process = Process::spawn("docker-registry", serve, &dir.path().join("log"))?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let mut registry = Self { process, port, scheme, dir };
        let (client, address) = (registry.registry(), registry.address());
        registry
            .process
            .ready("the first answer", Duration::from_secs(20), async || match scheme {
                "http" => client.ping().await.is_ok(),
                // Whom it trusts is the test's business.
                _ => tokio::net::TcpStream::connect(&address).await.is_ok(),
            })
            .await?;
        Ok(registry)
    }

    /// Replaces the accounts of one that was started with some; those before are refused from the next request on.
    pub fn set_accounts(&self, accounts: &[(String, Password)]) -> Result<()> {
        write_accounts(self.dir.path(), accounts)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.port.address())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// A client of it.
    pub fn registry(&self) -> Registry {
        Registry::anonymous(&self.url())
    }

    /// A client of it with an account.
    pub fn registry_as(&self, user: &str, password: Password) -> Registry {
        Registry::basic(&self.url(), user, password.text)
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

/// The part of its configuration that names the files, after they were written.
fn tls(dir: &Path, pair: Option<&(String, String)>, clients: Option<&str>) -> Result<String> {
    let Some((certificate, key)) = pair else { return Ok(String::new()) };
    let (chain, private) = (dir.join("tls.pem"), dir.join("tls.key"));
    files::write(&chain, certificate)?;
    files::write_private(&private, key)?;
    let mut clients_of = String::new();
    if let Some(authority) = clients {
        let file = dir.join("clients.pem");
        files::write(&file, authority)?;
        clients_of = format!(", clientcas: [{}]", file.display());
    }
    Ok(format!(", tls: {{certificate: {}, key: {}{clients_of}}}", chain.display(), private.display()))
}

fn accounts_file(dir: &Path) -> PathBuf {
    dir.join("htpasswd")
}

/// In one step: it reads the file again when its time has changed, and half a file would shut everybody out.
fn write_accounts(dir: &Path, accounts: &[(String, Password)]) -> Result<()> {
    let lines = accounts.iter().map(|(name, password)| format!("{name}:{}\n", password.bcrypt));
    let fresh = dir.join("htpasswd.new");
    files::write(&fresh, lines.collect::<String>())?;
    std::fs::rename(&fresh, accounts_file(dir)).map_err(Error::io("cannot replace the accounts"))
}
