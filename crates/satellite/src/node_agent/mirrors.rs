//! The mirrors of this node's runtimes: peer, then satellite, then upstream. The agent puts them where its flags say, looks at
//! them again each interval, and restarts nothing: what only a restart brings into force is told, and does not keep the agent
//! from its other work. A reload ends no container, and is done.

use std::time::{Duration, Instant};

use container_runtimes::apply::{Report, Standing, Wanted};
use container_runtimes::containerd::config::Legacy;
use container_runtimes::reload::Means;
use container_runtimes::state::Owner;

use crate::commands;
use crate::config::flags::node_agent::AgentFlags;
use crate::mirrors;

/// What keeps the mirrors as they shall be.
#[derive(Debug)]
pub struct Mirrors {
    flags: AgentFlags,
    looked: Option<Instant>,
    report: Option<Result<Report, String>>,
}

impl Mirrors {
    /// By the flags of an agent.
    #[must_use]
    pub fn new(flags: &AgentFlags) -> Self {
        Self { flags: flags.clone(), looked: None, report: None }
    }

    /// Looks at them, where the last look is an interval ago.
    pub async fn keep(&mut self) {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < self.flags.interval.max(Duration::from_secs(1)))
        {
            return;
        }
        let flags = self.flags.clone();
        let done = tokio::task::spawn_blocking(move || run(&flags)).await;
        let report = done.unwrap_or_else(|error| Err(format!("it ended abnormally: {error}")));
        let old = self.report.take();
        let standing = |report: &Result<Report, String>| report.clone().map(|report| report.runtimes);
        if old.as_ref().map(standing) != Some(standing(&report)) {
            tell(&report);
        }
        self.report = Some(report);
        self.looked = Some(Instant::now());
    }

    /// What is not as it shall be.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match self.report.as_ref()? {
            Err(why) => Some(format!("mirrors: {why}")),
            Ok(report) => {
                let wrong = report
                    .runtimes
                    .iter()
                    .filter(|(_, there)| !matches!(there.state, Standing::InForce | Standing::Removed));
                let words: Vec<String> = wrong
                    .map(|(runtime, there)| {
                        format!("{runtime}: {}", there.message.as_deref().unwrap_or("not in force"))
                    })
                    .collect();
                (!words.is_empty()).then(|| format!("mirrors: {}", words.join("; ")))
            }
        }
    }
}

fn tell(report: &Result<Report, String>) {
    match report {
        Err(problem) => tracing::warn!(problem, "mirrors not kept"),
        Ok(report) => {
            for (runtime, there) in &report.runtimes {
                let why = there.message.as_deref().unwrap_or_default();
                match there.state {
                    Standing::InForce => tracing::info!(%runtime, "mirrors in force"),
                    Standing::Removed => tracing::info!(%runtime, "mirrors removed"),
                    _ => tracing::warn!(%runtime, why, "mirrors not in force"),
                }
            }
        }
    }
}

/// Makes the node what the flags say; what stands in the way is told in words.
fn run(flags: &AgentFlags) -> Result<Report, String> {
    let wish = flags.mirror_wish();
    let wanted = if wish.mirrors.is_empty() {
        Wanted {
            requests: Vec::new(),
            endpoint: None,
            legacy: Legacy::Move,
            owner: Owner::NodeAgent,
            up_to: Means::Reload,
        }
    } else {
        let wanted = commands::wanted(&wish, Owner::NodeAgent, true, flags.node_address, Means::Reload);
        wanted.map_err(|error| error.to_string())?
    };
    mirrors::keep(&flags.host_root, flags.restart_command.as_deref(), &wanted)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use container_runtimes::apply::apply;

    use super::*;
    use crate::mirrors::LocalMachine;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AgentFlags,
    }

    fn flags(root: &Path, further: &[&str]) -> AgentFlags {
        let mut words = vec!["agent", "--site=https://site.example:8443", "--site-token-file=/t"];
        let root = format!("--host-root={}", root.display());
        words.push(&root);
        words.extend(further);
        Line::try_parse_from(words).unwrap().flags
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        blob_store::durable::create_dir_all(path.parent().unwrap()).unwrap();
        blob_store::durable::write_file(&path, text.as_bytes(), 0o644).unwrap();
    }

    #[test]
    fn the_site_is_the_mirror_unless_another_is_named() {
        let wish =
            flags(Path::new("/host"), &["--mirrors=containerd:docker.io;podman:quay.io", "--site-ca=/ca"])
                .mirror_wish();
        assert_eq!(wish.mirrors, ["containerd:docker.io", "podman:quay.io"]);
        assert_eq!(
            (wish.endpoint.as_str(), wish.ca.as_deref()),
            ("https://site.example:8443/", Some(Path::new("/ca")))
        );
        assert!(!wish.allow_slow_fallback && wish.peers.is_empty());
        let further = [
            "--mirror-endpoint=http://127.0.0.1:8585",
            "--site-ca=/ca",
            "--mirror-peer=none",
            "--mirror-path=quay.io=q;ghcr.io=",
            "--allow-slow-fallback",
        ];
        let wish = flags(Path::new("/host"), &further).mirror_wish();
        assert_eq!((wish.endpoint.as_str(), wish.ca), ("http://127.0.0.1:8585", None));
        assert_eq!(
            wish.paths,
            [("ghcr.io".to_owned(), String::new()), ("quay.io".to_owned(), "q".to_owned())]
        );
        assert!(wish.mirrors.is_empty() && wish.peers == ["none"] && wish.allow_slow_fallback);
    }

    #[tokio::test]
    async fn the_agent_keeps_what_is_its_own_and_leaves_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "var/lib/rancher/k3s/agent/x", "");
        put(root, "proc/1/cmdline", "init\0");
        let mut none = Mirrors::new(&flags(root, &[]));
        none.keep().await;
        assert_eq!(none.problem(), None);
        assert!(!LocalMachine::record(root).try_exists().unwrap(), "not even looked at");

        let wish = ["--mirrors=k3s:docker.io", "--mirror-endpoint=http://127.0.0.1:8585", "--interval=1s"];
        let mut mirrors = Mirrors::new(&flags(root, &wish));
        mirrors.keep().await;
        assert_eq!(mirrors.problem(), None);
        let file = root.join("etc/rancher/k3s/registries.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("http://127.0.0.1:8585"), "{text}");
        // What somebody deletes is there again after the next look.
        std::fs::remove_file(&file).unwrap();
        mirrors.looked = None;
        mirrors.keep().await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

        // A satellite on the same machine does not undo it.
        let wanted = Wanted {
            requests: Vec::new(),
            endpoint: None,
            legacy: Legacy::Move,
            owner: Owner::Satellite,
            up_to: Means::Nothing,
        };
        let refused = apply(&LocalMachine::new(root, None).machine(), &wanted).unwrap_err().to_string();
        assert!(refused.contains("node agent"), "{refused}");
        // Without the flag it goes.
        let mut none = Mirrors::new(&flags(root, &[]));
        none.keep().await;
        assert_eq!(none.problem(), None);
        assert!(!file.try_exists().unwrap());
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let wish = ["--mirrors=containerd:docker.io", "--mirror-ca=/no/such/ca"];
        let mut mirrors = Mirrors::new(&flags(folder.path(), &wish));
        mirrors.keep().await;
        let problem = mirrors.problem().unwrap();
        assert!(problem.contains("/no/such/ca"), "{problem}");
        let wish = ["--mirrors=containerd:docker.io", "--mirror-endpoint=http://127.0.0.1:1"];
        let mut mirrors = Mirrors::new(&flags(folder.path(), &wish));
        mirrors.keep().await;
        let problem = mirrors.problem().unwrap();
        assert!(problem.contains("containerd: it is not installed"), "{problem}");
    }
}
