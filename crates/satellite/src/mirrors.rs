//! The container runtimes' mirrors on this machine: where the files and our record of them are, and by what the machine
//! is reached. `satellite mirrors` and the running satellite share it, and with it the record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use container_runtimes::MirrorRequest;
use container_runtimes::apply::{ApplyError, Machine, Report, Wanted, apply};
use container_runtimes::command::HostCommands;
use container_runtimes::cri::CriSocket;
use container_runtimes::docker::engine::EngineSocket;
use container_runtimes::host::Host;
use container_runtimes::service::Manager;
use container_runtimes::state::StateFolder;

use crate::in_root::ENTER;

pub(crate) mod follow;

/// Below the machine's root, wherever we run: a person on the host and a satellite in a container see the same record.
const STATE: &str = "var/lib/harbor-satellite/mirrors";
/// The longest that a service may take to restart; k3s on a small device takes minutes.
const RESTART_LIMIT: Duration = Duration::from_secs(180);
/// The longest that a CRI may take to come back after that.
const CRI_LIMIT: Duration = Duration::from_secs(60);

/// A machine whose runtimes are configured.
#[derive(Debug)]
pub struct LocalMachine {
    host: Host,
    folder: StateFolder,
    commands: HostCommands,
    restarts: HostCommands,
    manager: Manager,
}

impl LocalMachine {
    /// The machine whose root is here.
    #[must_use]
    pub fn new(host_root: &Path, restart_command: Option<&str>) -> Self {
        let host = Host::new(host_root);
        let commands = HostCommands::new(host_root).entered_by(ENTER);
        Self {
            folder: StateFolder::new(host_root.join(STATE)),
            restarts: commands.clone().with_limit(RESTART_LIMIT),
            manager: Manager::find(&host, restart_command),
            commands,
            host,
        }
    }

    /// For one run.
    #[must_use]
    pub fn machine(&self) -> Machine<'_> {
        Machine {
            host: &self.host,
            folder: &self.folder,
            commands: &self.commands,
            restarts: &self.restarts,
            cri: &CriSocket,
            engine: &EngineSocket,
            manager: self.manager.clone(),
            patience: CRI_LIMIT,
        }
    }

    /// Where the record is.
    #[must_use]
    pub fn record(host_root: &Path) -> PathBuf {
        host_root.join(STATE)
    }
}

/// Makes a machine what is wanted, for a program that does so again and again; what stands in the way is told in words.
pub(crate) fn keep(
    host_root: &Path,
    restart_command: Option<&str>,
    wanted: &Wanted,
) -> Result<Report, String> {
    let nothing = wanted.requests.is_empty();
    // A machine that never had mirrors of ours is not even looked at.
    if nothing && !LocalMachine::record(host_root).join("state.json").try_exists().unwrap_or(false) {
        return Ok(Report::default());
    }
    match apply(&LocalMachine::new(host_root, restart_command).machine(), wanted) {
        Ok(report) => Ok(report),
        // Nothing of ours is asked for, and what is there is somebody else's.
        Err(ApplyError::Busy | ApplyError::ByHand | ApplyError::Kept(_) | ApplyError::State(_))
            if nothing =>
        {
            Ok(Report::default())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the machine is a node of a cluster: only a kubelet makes this folder, and makes it at its first start.
pub(crate) fn is_node(host_root: &Path) -> bool {
    Host::new(host_root).has("/var/lib/kubelet/pods")
}

/// Where the local registry keeps each registry's repositories, for runtimes that do not send the registry's name: those
/// of docker.io and of the central registry under their own path, those of any other host under the host's name.
#[must_use]
pub fn paths(
    requests: &[MirrorRequest],
    central: &[String],
    explicit: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let hosts = requests.iter().flat_map(|request| &request.registries);
    hosts
        .filter_map(|host| {
            let given = explicit.get(host).cloned();
            let own = host == "docker.io" || central.contains(host);
            let prefix = given.unwrap_or_else(|| if own { String::new() } else { host.clone() });
            (!prefix.is_empty()).then(|| (host.clone(), prefix))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_makes_a_node() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("var/lib/kubelet");
        blob_store::durable::create_dir_all(&folder).unwrap();
        assert!(!is_node(root.path()), "its package alone");
        blob_store::durable::create_dir_all(&folder.join("pods")).unwrap();
        assert!(is_node(root.path()));
    }

    #[test]
    fn each_host_has_its_place() {
        let requests =
            container_runtimes::parse_mirrors(&["podman:docker.io,quay.io,ghcr.io,harbor.example.com"])
                .unwrap();
        let explicit = BTreeMap::from([("ghcr.io".to_owned(), "github".to_owned())]);
        let paths = paths(&requests, &["harbor.example.com".to_owned()], &explicit);
        let all: Vec<_> = paths.iter().map(|(host, prefix)| (host.as_str(), prefix.as_str())).collect();
        assert_eq!(all, [("ghcr.io", "github"), ("quay.io", "quay.io")]);
    }
}
