//! A PostgreSQL cluster of one's own: a data folder, a port and a socket that go with the handle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Process;
use crate::{Error, Result, command, files};

/// A running PostgreSQL. The superuser is `postgres`, its password [`Postgres::PASSWORD`].
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    bin: PathBuf,
    dir: TempDir,
}

impl Postgres {
    /// Password of the superuser. The cluster lives on loopback for the time of a test.
    pub const PASSWORD: &str = "postgres-password";

    /// Creates a cluster and waits until it takes connections.
    pub async fn start() -> Result<Self> {
        let bin = newest_installation()?;
        let dir = files::scratch("pg")?;
        let home = dir.path();
        files::write(&home.join("pw"), Self::PASSWORD)?;
        if command::is_root() {
            let mut chown = Command::new("chown");
            chown.args(["-R", "postgres:postgres"]).arg(home);
            command::run(chown).await?;
        }
        let data = home.join("data");
        let mut initdb = as_postgres(&bin.join("initdb"), home);
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "scram-sha-256"]);
        initdb.arg(format!("--pwfile={}", home.join("pw").display()));
        initdb.args(["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        command::run(initdb).await?;

        let port = Port::reserve()?;
        let mut postgres = as_postgres(&bin.join("postgres"), home);
        postgres.arg("-D").arg(&data);
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", port.number()),
            format!("unix_socket_directories={}", home.display()),
            // The cluster never outlives its test: what a power cut would lose nobody misses.
            "fsync=off".into(),
            "shared_buffers=32MB".into(),
            "max_connections=200".into(),
        ];
        for setting in settings {
            postgres.arg("-c").arg(setting);
        }
        let process = Process::spawn("postgres", postgres, &home.join("log"))?
            .patience(Signal::INT, Duration::from_secs(10));
        let mut cluster = Self { process, port, bin, dir };
        let probe = cluster.query_command("postgres", "SELECT 1");
        let (program, arguments, environment) = probe;
        cluster
            .process
            .ready("the first connection", Duration::from_secs(30), async || {
                let mut psql = Command::new(&program);
                psql.args(&arguments).envs(environment.clone());
                command::output(psql).await.is_ok_and(|output| output.status.success())
            })
            .await?;
        Ok(cluster)
    }

    /// Creates an empty database and gives its `postgres://` URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        self.query("postgres", &format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(self.url(name))
    }

    /// The URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@{}/{database}?sslmode=disable", Self::PASSWORD, self.port.address())
    }

    /// Runs one statement as the superuser and gives the unaligned answer.
    pub async fn query(&self, database: &str, sql: &str) -> Result<String> {
        let (program, arguments, environment) = self.query_command(database, sql);
        let mut psql = Command::new(program);
        psql.args(arguments).envs(environment);
        Ok(command::run(psql).await?.trim().to_owned())
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    fn query_command(
        &self,
        database: &str,
        sql: &str,
    ) -> (PathBuf, Vec<String>, [(&'static str, String); 2]) {
        let arguments =
            ["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-p"];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.extend([
            self.port.number().to_string(),
            "-d".into(),
            database.into(),
            "-c".into(),
            sql.into(),
        ]);
        let home = self.dir.path().display().to_string();
        (self.bin.join("psql"), arguments, [("PGPASSWORD", Self::PASSWORD.to_owned()), ("HOME", home)])
    }
}

/// The folder of the newest server programs.
fn newest_installation() -> Result<PathBuf> {
    let missing = || Error::Missing {
        what: "PostgreSQL's server".into(),
        remedy: "install the Debian package postgresql".into(),
    };
    let versions = std::fs::read_dir("/usr/lib/postgresql").map_err(|_| missing())?;
    versions
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max_by_key(|(version, _)| *version)
        .map(|(_, bin)| bin)
        .ok_or_else(missing)
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`.
fn as_postgres(program: &Path, home: &Path) -> Command {
    let mut command = if command::is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home);
    command
}
