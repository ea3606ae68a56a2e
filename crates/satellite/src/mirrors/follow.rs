//! The running satellite keeps the runtimes' mirrors as its configuration says, and its status says how they are.
//!
//! A reconciler: woken by a change of the configuration and by a timer, each time a full look that does nothing where
//! nothing is to be done.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use container_runtimes::apply::{Report, Standing, Wanted};
use container_runtimes::containerd::config::Legacy;
use container_runtimes::plan::Endpoint;
use container_runtimes::reload::Means;
use container_runtimes::state::Owner;
use jiff::Timestamp;
use tokio::sync::watch;

use super::paths;
use crate::config::{Effective, LiveConfig, Runtimes, Site, resolved_peers};
use crate::control::server::Subject;
use crate::serve::{docker, namespaces};
use crate::status::{MirrorsStatus, RuntimeMirrors};

/// How often files and runtimes are looked at although nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// The same while something is not as it should be.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long Docker's own listener is waited for.
const LISTENS_WITHIN: Duration = Duration::from_secs(2);

/// Keeps the mirrors in step with the configuration, for as long as it is polled.
pub(crate) async fn follow(subject: Arc<Subject>, config: LiveConfig) {
    let mut changes = config.subscribe();
    let mut docker = subject.docker_mirror.subscribe();
    loop {
        let effective = changes.borrow_and_update().clone();
        let status = match &effective.mirrors {
            None => MirrorsStatus::default(),
            Some(_) => {
                let central = central(&subject, &effective);
                let docker = docker_mirror(&subject, &effective, &mut docker).await;
                look(&subject.site, Arc::clone(&effective), subject.registry_address, docker, central).await
            }
        };
        let well = status.problem.is_none()
            && status.runtimes.values().all(|there| matches!(there.state.as_str(), "in_force" | "removed"));
        let asked = effective.mirrors.as_ref().is_some_and(|mirrors| !mirrors.is_empty());
        subject.board.update(|board| {
            let same =
                (&board.mirrors.runtimes, &board.mirrors.problem) == (&status.runtimes, &status.problem);
            if !same {
                tell(&status);
            }
            board.mirrors = status;
        });
        let pause = async {
            match (asked, well) {
                (_, false) => tokio::time::sleep(LOOK_AGAIN).await,
                (true, true) => tokio::time::sleep(LOOK).await,
                // Nothing is asked for and nothing is there.
                (false, true) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            Ok(()) = docker.changed() => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Where Docker's own listener is, if there shall be one. It is up in a moment, as a rule.
async fn docker_mirror(
    subject: &Subject,
    effective: &Effective,
    address: &mut watch::Receiver<Option<SocketAddr>>,
) -> Option<SocketAddr> {
    docker::wanted(&subject.site, effective)?;
    let up = tokio::time::timeout(LISTENS_WITHIN, address.wait_for(Option::is_some)).await;
    drop(up);
    *address.borrow_and_update()
}

fn central(subject: &Subject, effective: &Effective) -> Vec<String> {
    let state = subject.opened.get().map(|opened| opened.vault.state());
    let registration = state.as_ref().and_then(|state| state.registration.as_ref());
    registration.map(|registration| namespaces::of(registration, effective)).unwrap_or_default()
}

fn tell(status: &MirrorsStatus) {
    if let Some(problem) = &status.problem {
        tracing::warn!(problem, "container runtimes not configured");
    }
    for (runtime, there) in &status.runtimes {
        let message = there.message.as_deref().unwrap_or_default();
        match there.state.as_str() {
            "in_force" | "removed" => {
                tracing::info!(runtime, state = there.state, message, "container runtime configured")
            }
            _ => tracing::warn!(runtime, state = there.state, message, "container runtime not configured"),
        }
    }
}

/// One look. The files and programs are waited for on a thread of their own.
async fn look(
    site: &Site,
    effective: Arc<Effective>,
    address: Option<SocketAddr>,
    docker: Option<SocketAddr>,
    central: Vec<String>,
) -> MirrorsStatus {
    let runtimes = site.runtimes.clone();
    let work = move || run(&runtimes, &effective, address, docker, &central);
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(format!("it ended abnormally: {error}")));
    let looked_at = Some(Timestamp::now());
    match done {
        Ok(report) => {
            let runtimes = report.runtimes.into_iter().map(|(runtime, there)| {
                let state = state_name(there.state).to_owned();
                (runtime.to_string(), RuntimeMirrors { state, message: there.message })
            });
            MirrorsStatus { runtimes: runtimes.collect(), problem: None, looked_at }
        }
        Err(problem) => MirrorsStatus { problem: Some(problem), looked_at, ..MirrorsStatus::default() },
    }
}

fn state_name(standing: Standing) -> &'static str {
    match standing {
        Standing::InForce => "in_force",
        Standing::Removed => "removed",
        Standing::RestartNeeded => "restart_needed",
        Standing::Refused => "refused",
        Standing::RolledBack => "rolled_back",
    }
}

/// Makes the machine what the configuration says; what stands in the way is told in words.
pub(crate) fn run(
    runtimes: &Runtimes,
    effective: &Effective,
    address: Option<SocketAddr>,
    docker: Option<SocketAddr>,
    central: &[String],
) -> Result<Report, String> {
    let requests = effective.mirrors.clone().unwrap_or_default();
    let endpoint = if requests.is_empty() {
        None
    } else {
        let mut endpoint = endpoint(effective, address)?;
        endpoint.paths = paths(&requests, central, &effective.mirror_paths);
        endpoint.docker = docker.map(|address| format!("http://{}", reachable(address)));
        let of_a_cluster = super::is_node(&runtimes.host_root);
        endpoint.peers = resolved_peers(effective.mirror_peers.as_deref(), of_a_cluster, None)?;
        Some(endpoint)
    };
    let wanted =
        Wanted { requests, endpoint, legacy: Legacy::Move, owner: Owner::Satellite, up_to: Means::Restart };
    super::keep(&runtimes.host_root, runtimes.restart_command.as_deref(), &wanted)
}

/// The local registry, as this machine's runtimes reach it.
fn endpoint(effective: &Effective, address: Option<SocketAddr>) -> Result<Endpoint, String> {
    if let Some(registry) = &effective.byo_registry {
        let mut endpoint = Endpoint::new(registry.url.as_str())
            .map_err(|error| format!("the site's own registry cannot be a mirror: {error}"))?;
        if let Some(file) = effective.tls.ca_file.as_ref().filter(|_| !endpoint.is_plain()) {
            let text = std::fs::read_to_string(file);
            endpoint.ca = Some(text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?);
        }
        return Ok(endpoint);
    }
    let address = address.ok_or("there is no local registry to name as a mirror")?;
    let mut endpoint =
        Endpoint::new(&format!("http://{}", reachable(address))).map_err(|error| error.to_string())?;
    // It is this machine's own address: it refuses where nobody listens, it is never silent.
    endpoint.may_block = true;
    Ok(endpoint)
}

/// What listens everywhere is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::testing::site_with;
    use crate::config::{ByoRegistry, Layer};
    use crate::mirrors::LocalMachine;

    fn effective(layer: Layer) -> Effective {
        Effective::of(&site_with(Path::new("/c"), layer), &Layer::default())
    }

    #[test]
    fn the_mirror_is_where_this_machine_reaches_it() {
        let plain = effective(Layer::default());
        for (listens, url) in [
            ("127.0.0.1:8585", "http://127.0.0.1:8585"),
            ("0.0.0.0:5000", "http://127.0.0.1:5000"),
            ("[::]:5000", "http://[::1]:5000"),
            ("192.0.2.7:80", "http://192.0.2.7:80"),
        ] {
            assert_eq!(endpoint(&plain, Some(listens.parse().unwrap())).unwrap().url(), url);
        }
        assert!(endpoint(&plain, None).is_err());
        let own = |url: &str| Effective {
            byo_registry: Some(ByoRegistry {
                url: url.parse().unwrap(),
                username: String::new(),
                password: String::new().into(),
            }),
            ..plain.clone()
        };
        assert_eq!(endpoint(&own("https://byo.example"), None).unwrap().url(), "https://byo.example");
        assert!(endpoint(&own("https://byo.example/prefix"), None).unwrap_err().contains("path"));
    }

    #[test]
    fn a_machine_is_configured_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            blob_store::durable::create_dir_all(path.parent().unwrap()).unwrap();
            blob_store::durable::write_file(&path, text.as_bytes(), 0o644).unwrap();
        };
        put("var/lib/rancher/k3s/server/x", "");
        put("proc/1/cmdline", "init\0");
        let runtimes = Runtimes { host_root: root.path().to_owned(), ..Runtimes::default() };
        let run = |mirrors: &[&str]| {
            let mirrors = Some(container_runtimes::parse_mirrors(mirrors).unwrap());
            let effective = Effective { mirrors, ..effective(Layer::default()) };
            run(
                &runtimes,
                &effective,
                Some("127.0.0.1:8585".parse().unwrap()),
                None,
                &["h.example".to_owned()],
            )
        };
        assert_eq!(run(&[]).unwrap(), Report::default());
        assert!(!LocalMachine::record(root.path()).try_exists().unwrap(), "not even looked at");
        let report = run(&["k3s:docker.io,quay.io"]).unwrap();
        assert!(report.is_done(), "{report:?}");
        let text = std::fs::read_to_string(root.path().join("etc/rancher/k3s/registries.yaml")).unwrap();
        assert!(text.contains("quay.io") && text.contains("http://127.0.0.1:8585"), "{text}");
        assert!(run(&[]).unwrap().is_done());
        assert!(!root.path().join("etc").try_exists().unwrap());
    }
}
