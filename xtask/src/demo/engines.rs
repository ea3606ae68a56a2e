//! The container engines of this machine, each started privately where that is possible.

use oci::Digest;
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::podman::Podman;

use crate::error::{Error, Result};
use crate::progress::Step;

/// The engines that are there.
#[derive(Default)]
pub(crate) struct Engines {
    docker: Option<Docker>,
    podman: Option<Podman>,
    containerd: Option<Containerd>,
}

/// What is pulled.
#[derive(Debug)]
pub(crate) struct Pull {
    /// `host:port` of the satellite.
    pub(crate) satellite: String,
    /// `host:port` of the central registry as the satellite was told it: under that name containerd pulls through its
    /// mirror.
    pub(crate) central: String,
    /// Repository.
    pub(crate) repository: String,
    /// Tag.
    pub(crate) tag: String,
    /// What the tag has to be.
    pub(crate) digest: Digest,
}

/// Starts what is there and says what is not, and why.
pub(crate) async fn start() -> Engines {
    async fn take<T>(what: &str, starting: impl Future<Output = testbed::Result<T>>) -> Option<T> {
        let step = Step::begin(format!("a private {what}"));
        match starting.await {
            Ok(engine) => {
                step.done("runs");
                Some(engine)
            }
            Err(error) => {
                step.skipped(&error.to_string());
                None
            }
        }
    }
    Engines {
        docker: take("Docker engine", Docker::start()).await,
        podman: take("Podman", Podman::start()).await,
        containerd: take("containerd", Containerd::start()).await,
    }
}

impl Engines {
    /// Pulls with each, by tag, and compares what each says that it got.
    pub(crate) async fn pull_all(&self, pull: &Pull) -> Result<()> {
        let reference = format!("{}/{}:{}", pull.satellite, pull.repository, pull.tag);
        if let Some(docker) = &self.docker {
            let step = Step::begin(format!("docker pull {reference}"));
            check(step, &docker.pull(&reference).await?, pull)?;
        }
        if let Some(podman) = &self.podman {
            let step = Step::begin(format!("podman pull {reference}"));
            podman.registry(&pull.satellite, None)?;
            check(step, &podman.pull(&reference).await?, pull)?;
        }
        if let Some(containerd) = &self.containerd {
            // As on a node: the image keeps the central registry's name, the satellite is its mirror.
            let reference = format!("{}/{}:{}", pull.central, pull.repository, pull.tag);
            let step = Step::begin(format!("ctr images pull {reference} (mirror: {})", pull.satellite));
            containerd.mirror(&pull.central, &format!("http://{}", pull.satellite))?;
            let digest = containerd.pull(&reference).await?;
            containerd.remove(&reference).await?;
            check(step, &digest, pull)?;
        }
        Ok(())
    }

    /// Removes what was pulled, so that the next pull is a whole one.
    pub(crate) async fn forget_all(&self) -> Result<()> {
        if let Some(docker) = &self.docker {
            docker.remove_all().await?;
        }
        if let Some(podman) = &self.podman {
            podman.remove_all().await?;
        }
        Ok(())
    }
}

fn check(step: Step, found: &str, pull: &Pull) -> Result<()> {
    if !found.contains(&pull.digest.to_string()) {
        return Err(Error::Other(format!("it got {found}, {} was pushed", pull.digest)));
    }
    step.done("the digest is the pushed one");
    Ok(())
}
