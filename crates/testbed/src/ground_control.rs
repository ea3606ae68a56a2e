//! The built Ground Control as a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::ports::Port;
use crate::process::Process;
use crate::registry::Registry;
use crate::{Result, binaries, files};

/// The bootstrapped administrator.
pub const ADMIN: &str = "admin";

/// How a Ground Control is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `DATABASE_URL`; without it the SQLite file in the data folder.
    pub database_url: Option<String>,
    /// What satellites are told of the registry, where that is not the listener itself.
    pub public_registry_url: Option<String>,
    /// Whether it has SPIFFE identities: then satellites find it at [`Place::spiffe_url`] and everybody else at
    /// [`Place::url`]. Its provider is the built-in authority unless `environment` says otherwise.
    pub spiffe: bool,
    /// The clock that it goes by, where that is not the machine's.
    pub clock: Option<Clock>,
    /// Further variables.
    pub environment: Vec<(String, String)>,
    /// The folder of the program, where it is not to be looked for.
    pub programs: Option<PathBuf>,
}

/// A place for a Ground Control: its folder, ports and password, which outlast the process.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    port: Port,
    /// Where it shows its SVID, if it has one.
    spiffe_port: Option<Port>,
    /// Where agents attest to the built-in authority.
    agents_port: Option<Port>,
    password: String,
    options: Options,
}

/// A running Ground Control.
#[derive(Debug)]
pub struct GroundControl {
    process: Process,
    url: String,
    spiffe_url: String,
    password: String,
}

impl Place {
    /// Reserves its ports and takes a folder, which the caller keeps and removes.
    pub fn new(dir: &Path, options: Options) -> Result<Self> {
        // Within the default rules for passwords: upper and lower case and a digit.
        let password = format!("Testbed-{:016x}", rand::random::<u64>());
        let spiffe_port = options.spiffe.then(Port::reserve).transpose()?;
        let foreign = options.environment.iter().any(|(name, _)| name == "SPIFFE_PROVIDER");
        let agents_port = (options.spiffe && !foreign).then(Port::reserve).transpose()?;
        let port = Port::reserve()?;
        Ok(Self { dir: dir.to_owned(), port, spiffe_port, agents_port, password, options })
    }

    /// `http://127.0.0.1:<port>`: for people's clients and for all that know no SPIFFE.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Where satellites find it: `https://127.0.0.1:<port>` with its SVID, or [`Place::url`] where it has none.
    pub fn spiffe_url(&self) -> String {
        self.spiffe_port.as_ref().map_or_else(|| self.url(), |port| format!("https://{}", port.address()))
    }

    /// `host:port` of [`Place::spiffe_url`].
    pub fn spiffe_address(&self) -> String {
        self.spiffe_port.as_ref().unwrap_or(&self.port).address()
    }

    /// The port at which agents attest to the built-in authority, where that is the provider.
    pub fn agents_port(&self) -> Option<u16> {
        self.agents_port.as_ref().map(Port::number)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("ground-control.log")
    }

    /// Sets a variable from the next start on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.options.environment.retain(|(known, _)| known != name);
        self.options.environment.push((name.to_owned(), value.into()));
    }

    /// Has satellites told another address of the registry, such as a proxy's. Takes effect at the next start.
    pub fn set_public_registry_url(&mut self, url: String) {
        self.options.public_registry_url = Some(url);
    }

    /// The clock that it goes by, where that is not the machine's.
    pub fn clock(&self) -> Option<&Clock> {
        self.options.clock.as_ref()
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Where the database, the registry and the keys are.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The command line of this place, for another command of the program.
    pub fn command(&self) -> Result<Command> {
        // The clock is a library that is loaded into the program.
        let find = if self.options.clock.is_some() { binaries::find_dynamic } else { binaries::find };
        let mut command = Command::new(find("ground-control", self.options.programs.as_deref())?);
        // Nothing of the caller's environment changes how it runs, and no `.env` of the working directory.
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.dir)
            .env("LISTEN", self.spiffe_address())
            // Many run side by side, and the operators' default port is one.
            .env("ADMIN_LISTEN", "off")
            .env("DATA_DIR", self.data_dir())
            .env("ADMIN_PASSWORD", &self.password)
            .current_dir(&self.dir);
        if self.spiffe_port.is_some() {
            command.env("SPIFFE_SERVER_ENABLED", "true").env("WEB_LISTEN", self.port.address());
        }
        if let Some(port) = &self.agents_port {
            command.env("SPIRE_SERVER_PORT", port.number().to_string());
        }
        if let Some(clock) = &self.options.clock {
            clock.apply(&mut command);
        }
        if let Some(url) = &self.options.database_url {
            command.env("DATABASE_URL", url).env("SECRET_KEY_FILE", self.dir.join("secret.key"));
        }
        if let Some(url) = &self.options.public_registry_url {
            command.env("PUBLIC_REGISTRY_URL", url);
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Starts the program and waits until it is ready.
    pub async fn start(&self) -> Result<GroundControl> {
        files::create_dir(&self.dir)?;
        let process = Process::spawn("ground-control", self.command()?, &self.log())?
            .patience(Signal::TERM, Duration::from_secs(5));
        let mut running = GroundControl {
            process,
            url: self.url(),
            spiffe_url: self.spiffe_url(),
            password: self.password.clone(),
        };
        let client = crate::registry::http_client();
        let ready = format!("{}/health/ready", running.url);
        running
            .process
            .ready("readiness", Duration::from_secs(30), async || {
                client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await?;
        Ok(running)
    }
}

impl GroundControl {
    /// Its URL for people's clients: the API and the registry.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL for satellites, the registry included; see [`Place::spiffe_url`].
    pub fn spiffe_url(&self) -> &str {
        &self.spiffe_url
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// `user:password` of the administrator.
    pub fn credentials(&self) -> String {
        format!("{ADMIN}:{}", self.password)
    }

    /// Logs the administrator in.
    pub async fn admin(&self) -> Result<Admin> {
        Admin::login(&self.url, ADMIN, &self.password).await
    }

    /// The registry, as the administrator.
    pub fn registry(&self) -> Registry {
        Registry::basic(&self.url, ADMIN, &self.password)
    }

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
