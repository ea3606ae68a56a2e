//! Docker's own listener: everything that is asked there is asked of docker.io.
//!
//! Docker tells a mirror neither the upstream's name nor a path. Where docker.io lies below a prefix here, or beside what is
//! the site's own, it would find something else on the registry's own address, or nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use blob_store::Store;
use container_runtimes::{Runtime, RuntimeChoice};
use registry_server::listen::{self, Limits};
use registry_server::{AnonymousRead, Namespaces, Options};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::CONNECTIONS;
use super::pulls::PullLog;
use crate::config::{Effective, LiveConfig, Site};
use crate::status::{DockerMirrorStatus, StatusBoard};

/// Where it listens unless the site says otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8586);
const HUB: &str = "docker.io";
/// After what time it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where Docker's own listener shall be; none where Docker is as well off at the registry itself.
#[must_use]
pub fn wanted(site: &Site, effective: &Effective) -> Option<SocketAddr> {
    if effective.byo_wanted {
        return None;
    }
    let asked = effective.mirrors.iter().flatten().any(|request| {
        matches!(request.runtime, RuntimeChoice::Auto | RuntimeChoice::One(Runtime::Docker))
            && request.registries.iter().any(|registry| registry == HUB)
    });
    let elsewhere = effective.mirror_paths.get(HUB).is_some_and(|prefix| !prefix.is_empty());
    let shared = !effective.kept_namespaces.is_empty();
    let needed = asked && (elsewhere || shared);
    site.docker_mirror_listen.or(needed.then_some(DEFAULT))
}

/// The registry, as one of docker.io alone. Nobody writes there.
fn registry(store: Store, namespaces: Namespaces) -> Router {
    let options = Options {
        namespaces,
        assumed_namespace: Some(HUB.to_owned()),
        observer: PullLog::observer(),
        ..Options::default()
    };
    registry_server::router(store, Arc::new(AnonymousRead), options)
}

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// What the site says.
    pub site: Arc<Site>,
    /// What it serves.
    pub store: Store,
    /// Where docker.io is in it.
    pub namespaces: Namespaces,
    /// Where it is told how it is.
    pub board: StatusBoard,
    /// Where it listens at this moment.
    pub address: watch::Sender<Option<SocketAddr>>,
}

/// Listens for as long as the configuration wants it, until the end is asked for.
pub async fn keep(parts: Parts, config: LiveConfig, stop: CancellationToken) {
    let mut changes = config.subscribe();
    let mut said = None;
    loop {
        let wanted = wanted(&parts.site, &changes.borrow_and_update());
        let over = CancellationToken::new();
        let serving = serve(&parts, wanted, &over);
        tokio::pin!(serving);
        let outcome = tokio::select! {
            outcome = &mut serving => outcome,
            goes_on = another_is_wanted(&mut changes, &parts.site, wanted, &stop) => {
                parts.address.send_replace(None);
                over.cancel();
                let outcome = serving.await;
                if !goes_on {
                    return;
                }
                outcome
            }
        };
        parts.address.send_replace(None);
        match outcome {
            Ok(()) => said = None,
            Err(problem) => {
                if said.as_ref() != Some(&problem) {
                    tracing::error!(error = problem, "docker's own listener does not serve");
                }
                let told = DockerMirrorStatus { address: None, problem: Some(problem.clone()) };
                parts.board.update(|status| status.docker_mirror = Some(told));
                said = Some(problem);
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// `false` at the end of the program.
async fn another_is_wanted(
    changes: &mut watch::Receiver<Arc<Effective>>,
    site: &Site,
    before: Option<SocketAddr>,
    stop: &CancellationToken,
) -> bool {
    let other = changes.wait_for(|effective| wanted(site, effective) != before);
    stop.run_until_cancelled(other).await.is_some_and(|outcome| outcome.is_ok())
}

async fn serve(parts: &Parts, wanted: Option<SocketAddr>, over: &CancellationToken) -> Result<(), String> {
    let Some(wanted) = wanted else {
        parts.board.update(|status| status.docker_mirror = None);
        over.cancelled().await;
        return Ok(());
    };
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        format!("cannot listen on {wanted}: {error}; choose another address with --docker-mirror-listen (DOCKER_MIRROR_LISTEN)")
    })?;
    let address = listener.local_addr().unwrap_or(wanted);
    let told = DockerMirrorStatus { address: Some(address.to_string()), problem: None };
    parts.board.update(|status| status.docker_mirror = Some(told));
    parts.address.send_replace(Some(address));
    tracing::info!(%address, "docker's own listener serves");
    let limits = Limits { connections: CONNECTIONS, drain: parts.site.shutdown_timeout, ..Limits::default() };
    let router = registry(parts.store.clone(), parts.namespaces.clone());
    let served = listen::serve(listener, None, router, limits, over.clone().cancelled_owned()).await;
    served.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::testing::site_with;
    use crate::config::{Layer, LocalNamespaces};

    #[test]
    fn it_is_there_where_docker_needs_it() {
        let listens = |mirrors: &[&str], path: Option<&str>, local: &str, said: Option<&str>| {
            let layer = Layer {
                mirrors: Some(container_runtimes::parse_mirrors(mirrors).unwrap()),
                mirror_paths: path.map(|path| [(HUB.to_owned(), path.to_owned())].into()),
                ..Layer::default()
            };
            let mut site = site_with(Path::new("/c"), layer);
            site.kept_namespaces = local.parse::<LocalNamespaces>().unwrap();
            site.docker_mirror_listen = said.map(|said| said.parse().unwrap());
            let effective = Effective::of(&site, &Layer::default());
            wanted(&site, &effective).map(|address| address.to_string())
        };
        let default = Some(DEFAULT.to_string());
        assert_eq!(listens(&["docker:true"], None, "", None), None);
        assert_eq!(listens(&["docker:true"], Some(""), "", None), None);
        assert_eq!(listens(&["docker:true"], Some("hub"), "", None), default);
        assert_eq!(listens(&["auto:docker.io"], None, "dev", None), default);
        assert_eq!(listens(&["auto:quay.io", "podman:docker.io"], Some("hub"), "dev", None), None);
        let said = "127.0.0.1:1";
        assert_eq!(listens(&[], None, "", Some(said)).as_deref(), Some(said));
        assert_eq!(listens(&["docker:true"], Some("hub"), "", Some(said)).as_deref(), Some(said));
    }
}
