//! The built Ground Control of a simulation, as a process of its own, looked at from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::ground_control::{GroundControl, Options, Place};
use testbed::ports::Port;
use testbed::postgres::Postgres;
use testbed::process::wait_for;
use testbed::{Error, Result};

/// The database of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Database {
    /// The file in the data folder.
    Sqlite,
    /// A private cluster.
    Postgres,
}

/// Where Ground Control is, and what belongs to it.
#[derive(Debug)]
pub(super) struct Cloud {
    place: Place,
    running: Option<GroundControl>,
    /// The operators' listener.
    admin: Port,
    postgres: Option<Postgres>,
}

/// The longest that one statement of [`Cloud::sql`] takes.
const PATIENCE: Duration = Duration::from_secs(900);
/// The name of the database in the cluster.
const DATABASE: &str = "fleet";

impl Cloud {
    /// Starts the programs of `folder` with what they need, in the folder `dir`.
    pub(super) async fn start(
        dir: &Path,
        database: Database,
        programs: PathBuf,
        settings: &[(String, String)],
    ) -> Result<Self> {
        let postgres = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Postgres::start().await?),
        };
        let database_url = match &postgres {
            Some(postgres) => Some(postgres.create_database(DATABASE).await?),
            None => None,
        };
        let admin = Port::reserve()?;
        let mut environment = settings.to_vec();
        environment.push(("ADMIN_LISTEN".to_owned(), admin.address()));
        let options = Options {
            spiffe: true,
            database_url,
            programs: Some(programs),
            environment,
            ..Options::default()
        };
        let place = Place::new(&dir.join("cloud"), options)?;
        let running = Some(place.start().await?);
        Ok(Self { place, running, admin, postgres })
    }

    /// The running program.
    pub(super) fn ground_control(&self) -> Result<&GroundControl> {
        self.running.as_ref().ok_or_else(|| Error::Content("Ground Control does not run".to_owned()))
    }

    /// Where satellites connect to.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.place.spiffe_address().parse().map_err(|error| Error::Content(format!("{error}")))
    }

    /// Ends the program, has `change` done to its database by SQL, and starts it again.
    pub(super) async fn between<F>(&mut self, change: F) -> Result<()>
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        if let Some(running) = self.running.take() {
            running.stop().await?;
        }
        change(self).await?;
        self.running = Some(self.place.start().await?);
        Ok(())
    }

    /// Runs SQL while the program does not, and gives the answer: rows by line, columns by `|`.
    pub(super) async fn sql(&self, script: &str) -> Result<String> {
        match &self.postgres {
            Some(postgres) => postgres.query(DATABASE, script).await,
            None => {
                let mut sqlite = std::process::Command::new("sqlite3");
                sqlite.args(["-batch", "-bail"]).arg(self.place.data_dir().join("ground-control.db"));
                sqlite.arg(script);
                testbed::command::run_within(sqlite, PATIENCE).await
            }
        }
    }

    /// Which dialect [`Self::sql`] speaks.
    pub(super) fn database(&self) -> Database {
        if self.postgres.is_some() { Database::Postgres } else { Database::Sqlite }
    }

    /// Processor time that the program has used, in seconds.
    pub(super) fn cpu(&self) -> Result<f64> {
        let unread = || Error::Content("Ground Control's CPU cannot be read".to_owned());
        self.ground_control()?.process().cpu_seconds().ok_or_else(unread)
    }

    /// Its resident memory, in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        let unread = || Error::Content("Ground Control's memory cannot be read".to_owned());
        self.ground_control()?.process().resident_bytes().ok_or_else(unread)
    }

    /// The most of it since [`Self::forget_peak`].
    pub(super) fn peak(&self) -> Result<u64> {
        crate::bench::peak_bytes(self.ground_control()?.process().id())
    }

    /// Begins a new high-water mark.
    pub(super) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.ground_control()?.process().id());
        testbed::files::write(path.as_ref(), "5")
    }

    /// What its metrics say: the value of each series by its name and labels, as they are written.
    pub(super) async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let url = format!("http://{}/metrics", self.admin.address());
        let failed = |source| Error::Request { method: "GET".to_owned(), url: url.clone(), source };
        let answer = testbed::registry::http_client().get(&url).send().await.map_err(failed)?;
        let text = answer.error_for_status().map_err(failed)?.text().await.map_err(failed)?;
        Ok(series(&text))
    }

    /// Waits until every document is published.
    pub(super) async fn published(&self) -> Result<()> {
        wait_for("the publication of every document", PATIENCE, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let waiting = self.metrics().await.ok()?.get("ground_control_documents_waiting").copied()?;
            (waiting == 0.0).then_some(())
        })
        .await
    }

    /// Ends it, and says whether it ended well.
    pub(super) async fn stop(mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

/// Reads the text format of Prometheus.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP a b\na_total{x=\"y z\"} 3\nb 0.5\n# EOF\n";
        let read = series(text);
        assert_eq!((read["a_total{x=\"y z\"}"], read["b"], read.len()), (3.0, 0.5, 2));
    }
}
