//! A Ground Control with satellites around it: what most end-to-end tests begin with.

use std::path::Path;

use tempfile::TempDir;

use crate::admin::Admin;
use crate::ground_control::{self, GroundControl, Place};
use crate::proxy::Proxy;
use crate::satellite::{self, Site};
use crate::{Result, files};

/// A running Ground Control and a folder for everything around it.
#[derive(Debug)]
pub struct World {
    /// The program; `None` while it is down.
    pub ground_control: Option<GroundControl>,
    /// Where it can be started again.
    pub place: Place,
    /// Its administrator.
    pub admin: Admin,
    dir: TempDir,
}

impl World {
    /// Starts Ground Control with its defaults: SQLite and the built-in registry.
    pub async fn start() -> Result<Self> {
        Self::start_with(ground_control::Options::default()).await
    }

    /// Starts Ground Control.
    pub async fn start_with(options: ground_control::Options) -> Result<Self> {
        Self::start_prepared(options, async |_: &mut Place| Ok(())).await
    }

    /// Starts Ground Control after its place was prepared, such as by something that stands before it.
    pub async fn start_prepared(
        options: ground_control::Options,
        prepare: impl AsyncFnOnce(&mut Place) -> Result<()>,
    ) -> Result<Self> {
        let dir = files::scratch("world")?;
        let mut place = Place::new(&dir.path().join("cloud"), options)?;
        prepare(&mut place).await?;
        let ground_control = place.start().await?;
        let admin = ground_control.admin().await?;
        Ok(Self { ground_control: Some(ground_control), place, admin, dir })
    }

    /// The folder of this world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The central registry, as the administrator.
    pub fn registry(&self) -> crate::registry::Registry {
        crate::registry::Registry::basic(&self.place.url(), ground_control::ADMIN, self.place.password())
    }

    /// A proxy in front of the central registry.
    pub async fn proxy(&self) -> Result<Proxy> {
        Proxy::start(&self.place.url()).await
    }

    /// A new site whose satellite belongs to these groups and looks at its state every second; through `proxy`, where
    /// there is one. The satellite is not started.
    pub async fn site(&self, name: &str, groups: &[&str], proxy: Option<&Proxy>) -> Result<Site> {
        self.site_with(name, groups, proxy, &[]).await
    }

    /// Like [`World::site`], with further variables.
    pub async fn site_with(
        &self,
        name: &str,
        groups: &[&str],
        proxy: Option<&Proxy>,
        environment: &[(&str, &str)],
    ) -> Result<Site> {
        let options = satellite::Options {
            ground_control_url: self.place.url(),
            token: self.admin.create_satellite(name, groups).await?,
            registry_override: proxy.map(Proxy::url),
            ..self.options(environment)
        };
        Site::new(&self.dir.path().join(name), options)
    }

    /// A new site of a registered identity that comes by its SVID with a join token, from the built-in authority. Its
    /// satellite is not started.
    pub async fn site_with_svid(
        &self,
        name: &str,
        region: &str,
        groups: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Site> {
        let registered = self.admin.register(name, region, groups).await?;
        let options = satellite::Options {
            identity: Some(satellite::Identity::JoinToken {
                token: registered.join_token,
                trust_bundle: registered.trust_bundle,
            }),
            ..self.options(environment)
        };
        Site::new(&self.dir.path().join(name), options)
    }

    /// A new site whose satellite has its SVID from a Workload API. It is not started.
    pub fn site_with_workload_api(
        &self,
        name: &str,
        socket: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Site> {
        let options = satellite::Options {
            identity: Some(satellite::Identity::WorkloadApi { socket: socket.to_owned() }),
            ..self.options(environment)
        };
        Site::new(&self.dir.path().join(name), options)
    }

    /// A satellite of this Ground Control, by its clock, that looks at everything every second.
    fn options(&self, environment: &[(&str, &str)]) -> satellite::Options {
        let intervals = [
            ("REGISTER_SATELLITE_INTERVAL", "@every 1s"),
            ("STATE_REPLICATION_INTERVAL", "@every 1s"),
            ("HEARTBEAT_INTERVAL", "@every 1s"),
        ];
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        satellite::Options {
            ground_control_url: self.place.spiffe_url(),
            clock: self.place.clock().cloned(),
            environment: intervals.iter().chain(environment).map(owned).collect(),
            ..satellite::Options::default()
        }
    }

    /// `kill -9` of Ground Control, and with it of the central registry.
    pub fn kill_ground_control(&mut self) -> Result<()> {
        self.ground_control.take().map_or(Ok(()), GroundControl::kill)
    }

    /// Starts Ground Control again where it was.
    pub async fn restart_ground_control(&mut self) -> Result<()> {
        self.ground_control = Some(self.place.start().await?);
        Ok(())
    }

    /// Logs the administrator in again: a session of the day before is over.
    pub async fn login(&mut self) -> Result<()> {
        self.admin = Admin::login(&self.place.url(), ground_control::ADMIN, self.place.password()).await?;
        Ok(())
    }
}
