//! A Ground Control and satellites of it, to measure.

use std::path::Path;
use std::time::Duration;

use testbed::admin::{Admin, Wanted};
use testbed::files;
use testbed::ground_control::{self, GroundControl, Place};
use testbed::image::Image;
use testbed::satellite::{self, Satellite, Site};
use testbed::{Error, Result};

/// The repository of what is measured.
pub(super) const REPOSITORY: &str = "bench/image";
/// Its tag.
pub(super) const TAG: &str = "latest";
/// Longest time that a replication takes.
const LIMIT: Duration = Duration::from_secs(300);

/// A running Ground Control with one image in a group.
pub(super) struct Cloud {
    pub(super) ground_control: GroundControl,
    admin: Admin,
    dir: tempfile::TempDir,
}

impl Cloud {
    /// Starts it.
    pub(super) async fn start() -> Result<Self> {
        let dir = files::scratch("bench")?;
        let place = Place::new(&dir.path().join("cloud"), ground_control::Options::default())?;
        let ground_control = place.start().await?;
        let admin = ground_control.admin().await?;
        Ok(Self { ground_control, admin, dir })
    }

    /// A folder for images and sites.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Pushes an image and has a group of the same name ask for it.
    pub(super) async fn publish(&self, group: &str, repository: &str, image: &Image) -> Result<()> {
        self.ground_control.registry().push(repository, TAG, image).await?;
        self.admin.sync_group(group, &[Wanted::new(repository, TAG, image.root.digest)]).await
    }

    /// Adds a satellite to a group.
    pub(super) async fn join(&self, satellite: &str, group: &str) -> Result<()> {
        self.admin.add_to_group(satellite, group).await
    }

    /// A new site that belongs to the groups; its satellite is not started.
    pub(super) async fn site(&self, name: &str, groups: &[&str], registry: Option<String>) -> Result<Site> {
        let token = self.admin.create_satellite(name, groups).await?;
        Site::new(
            &self.dir.path().join(name),
            satellite::Options {
                ground_control_url: self.ground_control.url().to_owned(),
                token,
                registry_override: registry,
                ..satellite::Options::default()
            },
        )
    }

    /// A site whose satellite has the image.
    pub(super) async fn filled(
        &self,
        name: &str,
        groups: &[&str],
        image: &Image,
    ) -> Result<(Site, Satellite)> {
        let site = self.site(name, groups, None).await?;
        let satellite = site.start().await?;
        site.wait_for_tag(REPOSITORY, TAG, image.root.digest, LIMIT).await?;
        Ok((site, satellite))
    }
}

/// The high-water mark of a process's resident memory, in bytes (`VmHWM`).
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(Error::io(format!("cannot read {path}")))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| Error::Content(format!("{path} has no VmHWM")))
}
