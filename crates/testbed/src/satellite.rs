//! The built Satellite as a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use oci::Digest;
use rustix::process::Signal;
use serde_json::Value;

use crate::clock::Clock;
use crate::hardware::Hardware;
use crate::ports::Port;
use crate::process::{Process, wait_for};
use crate::registry::Registry;
use crate::{Error, Result, binaries, command, files};

/// How a satellite is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// URL of Ground Control.
    pub ground_control_url: String,
    /// One-time token. Not used where `identity` is there.
    pub token: String,
    /// How it comes by its SVID, where it has one.
    pub identity: Option<Identity>,
    /// Replaces scheme and host of every registry URL, such as by a proxy's.
    pub registry_override: Option<String>,
    /// The clock that it goes by, where that is not the machine's.
    pub clock: Option<Clock>,
    /// The machine that it believes to run on, where that is not this one.
    pub hardware: Option<Hardware>,
    /// Further variables.
    pub environment: Vec<(String, String)>,
    /// Its command line.
    pub arguments: Vec<String>,
    /// The folder of the program, where it is not to be looked for.
    pub programs: Option<PathBuf>,
}

/// How a satellite comes by its SVID.
#[derive(Clone, Debug)]
pub enum Identity {
    /// From the built-in authority: a join token and a trust bundle as files.
    JoinToken {
        /// The one-time token.
        token: String,
        /// The authorities of the trust domain (PEM).
        trust_bundle: String,
    },
    /// From the Workload API at this socket.
    WorkloadApi {
        /// The socket's path.
        socket: PathBuf,
    },
}

/// A site: the folder and the port of a satellite, which outlast its process.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    port: Port,
    options: Options,
}

/// A running satellite.
#[derive(Debug)]
pub struct Satellite {
    process: Process,
}

impl Site {
    /// Reserves a port and takes a folder, which the caller keeps and removes.
    pub fn new(dir: &Path, options: Options) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), port: Port::reserve()?, options })
    }

    /// URL of the local registry.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// `host:port` of the local registry.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// Its local registry, as everybody.
    pub fn registry(&self) -> Registry {
        Registry::anonymous(&self.url())
    }

    /// Where configuration and identity are.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// Where the artifacts are.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("registry")
    }

    /// The local status socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("satellite.sock")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("satellite.log")
    }

    /// The file with the join token.
    pub fn join_token_file(&self) -> PathBuf {
        self.dir.join("join-token")
    }

    /// The file with the trust bundle.
    pub fn trust_bundle_file(&self) -> PathBuf {
        self.dir.join("trust-bundle.pem")
    }

    /// Puts a new join token where a running satellite finds it, in one step.
    pub fn put_join_token(&self, token: &str) -> Result<()> {
        let fresh = self.dir.join("join-token.new");
        files::write_private(&fresh, token)?;
        std::fs::rename(&fresh, self.join_token_file()).map_err(Error::io("cannot replace the join token"))
    }

    /// Has it find Ground Control elsewhere, such as at a proxy, from the next start on.
    pub fn set_ground_control_url(&mut self, url: String) {
        self.options.ground_control_url = url;
    }

    /// Gives it a command line, from the next start on.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.options.arguments = arguments;
    }

    /// Has it run on another machine, from the next start on.
    pub fn set_hardware(&mut self, hardware: Hardware) {
        self.options.hardware = Some(hardware);
    }

    /// Lengths of the downloads that are not complete, by digest.
    pub fn partials(&self) -> Vec<(String, u64)> {
        let name = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let (algorithm, hex) = name.split_once('-')?;
            let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
            Some((digest.to_string(), path.metadata().ok()?.len()))
        };
        files::walk(&self.data_dir().join("partials")).iter().filter_map(|path| name(path)).collect()
    }

    /// Digests of the files that are complete under their final names.
    pub fn blobs(&self) -> Vec<String> {
        let name = |path: &PathBuf| {
            let algorithm = path.ancestors().nth(2)?.file_name()?.to_str()?;
            let digest: Digest = format!("{algorithm}:{}", path.file_name()?.to_str()?).parse().ok()?;
            Some(digest.to_string())
        };
        files::walk(&self.data_dir().join("blobs")).iter().filter_map(name).collect()
    }

    fn command(&self) -> Result<Command> {
        // The clock is a library that is loaded into the program.
        let find = if self.options.clock.is_some() { binaries::find_dynamic } else { binaries::find };
        let mut command = Command::new(find("satellite", self.options.programs.as_deref())?);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.dir)
            .env("CONFIG_DIR", self.config_dir())
            .env("CONTROL_SOCKET", self.socket())
            .current_dir(&self.dir);
        Ok(command)
    }

    /// Starts the program and waits until its registry answers.
    pub async fn start(&self) -> Result<Satellite> {
        let mut satellite = self.spawn()?;
        let registry = self.registry();
        satellite
            .process
            .ready("the first answer", Duration::from_secs(20), async || registry.ping().await.is_ok())
            .await?;
        Ok(satellite)
    }

    /// Starts the program and waits for nothing.
    pub fn spawn(&self) -> Result<Satellite> {
        files::create_dir(&self.dir)?;
        let mut command = self.command()?;
        command
            .args(&self.options.arguments)
            .env("GROUND_CONTROL_URL", &self.options.ground_control_url)
            .env("REGISTRY_LISTEN", self.port.address())
            .env("REGISTRY_DATA_DIR", self.data_dir())
            .env("JSON_LOGGING", "false");
        if let Some(url) = &self.options.registry_override {
            command.env("HARBOR_REGISTRY_URL", url);
        }
        self.identify(&mut command)?;
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        if let Some(clock) = &self.options.clock {
            clock.apply(&mut command);
        }
        if let Some(hardware) = &self.options.hardware {
            command = hardware.wrap(command)?;
        }
        let process =
            Process::spawn("satellite", command, &self.log())?.patience(Signal::TERM, Duration::from_secs(5));
        Ok(Satellite { process })
    }

    /// Says to a command who the satellite is, or how it comes to know that.
    fn identify(&self, command: &mut Command) -> Result<()> {
        match &self.options.identity {
            None => {
                command.env("TOKEN", &self.options.token);
            }
            Some(Identity::JoinToken { token, trust_bundle }) => {
                // What the test has put there since the first start stays.
                if !self.trust_bundle_file().is_file() {
                    files::write_private(&self.join_token_file(), token)?;
                    files::write(&self.trust_bundle_file(), trust_bundle)?;
                }
                command
                    .env("JOIN_TOKEN_FILE", self.join_token_file())
                    .env("TRUST_BUNDLE_FILE", self.trust_bundle_file());
            }
            Some(Identity::WorkloadApi { socket }) => {
                command
                    .env("SPIFFE_ENABLED", "true")
                    .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", socket.display()));
            }
        }
        Ok(())
    }

    /// What `satellite status --json` says of the running process.
    pub async fn status(&self) -> Result<Value> {
        self.ask("status").await
    }

    /// What `satellite images --json` says.
    pub async fn images(&self) -> Result<Value> {
        self.ask("images").await
    }

    async fn ask(&self, what: &str) -> Result<Value> {
        let mut command = self.command()?;
        command.args([what, "--json"]);
        // The exit code tells whether a person is needed; the document is there all the same.
        let output = command::output(command).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Error::Content(format!("`satellite {what} --json` answered no JSON ({error}): {said}"))
        })
    }

    /// Runs `satellite export` with these arguments, beside the running one or without it.
    pub async fn export(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command()?;
        command.env("REGISTRY_DATA_DIR", self.data_dir()).arg("export").args(arguments);
        command::run(command).await
    }

    /// Waits until a tag points at a digest.
    pub async fn wait_for_tag(
        &self,
        repository: &str,
        tag: &str,
        digest: Digest,
        limit: Duration,
    ) -> Result<()> {
        let registry = self.registry();
        let what = format!("{repository}:{tag} at {digest} on the satellite");
        wait_for(&what, limit, async || {
            let found = registry.digest(repository, tag).await.ok().flatten();
            (found == Some(digest)).then_some(())
        })
        .await
        .map_err(|error| self.with_log(error))
    }

    /// Waits until a tag is gone.
    pub async fn wait_for_absence(&self, repository: &str, tag: &str, limit: Duration) -> Result<()> {
        let registry = self.registry();
        let what = format!("{repository}:{tag} gone from the satellite");
        wait_for(&what, limit, async || {
            matches!(registry.digest(repository, tag).await, Ok(None)).then_some(())
        })
        .await
        .map_err(|error| self.with_log(error))
    }

    fn with_log(&self, error: Error) -> Error {
        match error {
            Error::Late { what, seconds, .. } => Error::Late {
                what,
                seconds,
                log: format!("; the end of the satellite's log:\n{}", files::tail(&self.log(), 40)),
            },
            other => other,
        }
    }
}

impl Satellite {
    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `kill -9`.
    pub fn kill(self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Asks it to end and checks that it says that all went well.
    pub async fn stop(self) -> Result<()> {
        self.process.stop_well(Duration::from_secs(40)).await
    }
}
