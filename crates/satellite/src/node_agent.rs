//! `satellite node-agent`: on each node of a cluster, it has the node's runtime hold what the site's satellite holds.
//!
//! It has no identity of its own and knows no Ground Control: the plan comes from the site's satellite over TLS, with a
//! token that all nodes of the site share. It asks the runtime for images by their names; where the bytes come from is the
//! runtime's configuration. It names nothing but what the plan names, and touches nothing that it did not bring
//! ([`decide`]). With the site away it keeps what is here, for as long as that takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use blob_store::durable;
use container_runtimes::CallError;
use container_runtimes::cri::{CriImages, RuntimeVersion};
use http::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::flags::node_agent::{AgentFlags, RuntimeEndpoint};
use crate::logging;
use crate::site::wire::{LONGEST_REASON, NodeReport, SitePlan};

pub mod containerd;
pub mod crio;
pub mod decide;
pub mod ledger;
pub mod mirrors;
pub mod plan;
pub mod round;
pub mod site;

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;

use self::containerd::Containerd;
use self::crio::Crio;
use self::decide::{Labels, Record, Seen, Wanted};
use self::ledger::LedgerFile;
use self::mirrors::Mirrors;
use self::plan::PlanFile;
use self::round::{Agent, Node, RoundError};
use self::site::{Site, Way};

/// Sockets that `auto` looks at: k3s and RKE2, containerd, CRI-O.
const SOCKETS: [&str; 3] =
    ["/run/k3s/containerd/containerd.sock", "/run/containerd/containerd.sock", "/var/run/crio/crio.sock"];
/// Between two tries to reach a site that does not answer: the first, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A site that answers at once although nothing changed is not asked without a pause.
const PAUSE: Duration = Duration::from_millis(500);

/// A node's runtime, whichever it is.
#[derive(Debug, Clone)]
pub enum AnyNode {
    /// containerd.
    Containerd(Containerd),
    /// CRI-O.
    Crio(Crio),
}

impl Node for AnyNode {
    async fn look(&self) -> Result<Seen, CallError> {
        match self {
            Self::Containerd(node) => node.look().await,
            Self::Crio(node) => node.look().await,
        }
    }

    async fn pull(&self, name: &str) -> Result<(), CallError> {
        match self {
            Self::Containerd(node) => node.pull(name).await,
            Self::Crio(node) => node.pull(name).await,
        }
    }

    async fn label(&self, labels: &Labels) -> Result<(), CallError> {
        match self {
            Self::Containerd(node) => node.label(labels).await,
            Self::Crio(node) => node.label(labels).await,
        }
    }

    async fn remove(&self, record: &Record) -> Result<bool, CallError> {
        match self {
            Self::Containerd(node) => node.remove(record).await,
            Self::Crio(node) => node.remove(record).await,
        }
    }

    async fn hold(&self, names: &[String], stay: &BTreeSet<String>) -> Result<(), String> {
        match self {
            Self::Containerd(node) => node.hold(names, stay).await,
            Self::Crio(node) => node.hold(names, stay).await,
        }
    }
}

/// Runs an agent until a signal ends it.
#[must_use]
pub fn run(flags: AgentFlags) -> ExitCode {
    drop(logging::start(flags.json_logging, flags.log_level, false));
    let runtime =
        match tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "cannot start");
                return ExitCode::FAILURE;
            }
        };
    match runtime.block_on(live(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(flags: AgentFlags) -> Result<(), String> {
    let name = flags.node_name.clone().unwrap_or_else(hostname);
    if !crate::site::wire::is_node_name(&name) {
        return Err(format!("`{name}` is no name of a node; give --node-name"));
    }
    let place = |error: std::io::Error| format!("{}: {error}; choose --state-dir", flags.state_dir.display());
    durable::create_dir_all(&flags.state_dir).map_err(place)?;
    let file = LedgerFile::new(&flags.state_dir);
    // Said now rather than at the first image.
    file.load().map_err(place)?;
    let way =
        Way { url: flags.site.clone(), token_file: flags.site_token_file.clone(), ca: flags.site_ca.clone() };
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let kept = PlanFile::new(&flags.state_dir);
    let known = watch::Sender::new(kept.load());
    tracing::info!(node = name, site = %flags.site, "node agent starts");
    let follow = follow(&way, &kept, &known);
    let work = work(&flags, &name, &way, file, known.subscribe(), &stop);
    tokio::select! {
        () = follow => {}
        () = work => {}
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "ending"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "ending"),
    }
    Ok(())
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Keeps what is wanted in step with the site.
async fn follow(way: &Way, kept: &PlanFile, known: &watch::Sender<Wanted>) {
    let mut retry = FIRST_RETRY;
    let mut answers = None;
    loop {
        // A new client, so that files that were changed since are read again.
        let mut etag: Option<HeaderValue> = None;
        let error = match Site::new(way.clone()) {
            Err(error) => error,
            Ok(site) => loop {
                let began = Instant::now();
                match site.plan(etag.as_ref()).await {
                    Ok(answer) => {
                        if answers != Some(true) {
                            tracing::info!(site = %way.url, "site answers");
                            answers = Some(true);
                        }
                        retry = FIRST_RETRY;
                        if let Some((plan, tag)) = answer {
                            take(&plan, kept, known).await;
                            etag = Some(tag);
                        }
                        tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
                    }
                    Err(error) => break error,
                }
            },
        };
        if answers != Some(false) {
            tracing::warn!(%error, "no plan from the site, what is here stays");
            answers = Some(false);
        }
        known.send_if_modified(|wanted| {
            let old = plan::old(wanted.clone());
            let changed = *wanted != old;
            *wanted = old;
            changed
        });
        tokio::time::sleep(retry.mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

async fn take(plan: &SitePlan, kept: &PlanFile, known: &watch::Sender<Wanted>) {
    let (wanted, left_out) = plan::wanted(plan);
    if let Some(first) = left_out.first() {
        tracing::warn!(first, left_out = left_out.len(), "plan names what is no image of a tag or a digest");
    }
    let (kept, plan) = (kept.clone(), plan.clone());
    let written = tokio::task::spawn_blocking(move || kept.store(&plan)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%error, "plan not kept on disk");
    }
    tracing::debug!(images = wanted.names.len(), whole = wanted.whole, "plan taken");
    known.send_if_modified(|now| {
        let changed = *now != wanted;
        *now = wanted;
        changed
    });
}

/// Rounds, one after the other, for as long as it is polled.
async fn work(
    flags: &AgentFlags,
    name: &str,
    way: &Way,
    file: LedgerFile,
    mut known: watch::Receiver<Wanted>,
    stop: &CancellationToken,
) {
    let mut told = Told { way: way.clone(), name: name.to_owned(), site: None, failed: false };
    let mut present: Option<(Agent<AnyNode>, RuntimeVersion)> = None;
    let mut problem: Option<String> = None;
    let mut mirrors = Mirrors::new(flags);
    while !stop.is_cancelled() {
        // Before the first pull, so that it goes there.
        mirrors.keep().await;
        let wanted = known.borrow_and_update().clone();
        let outcome = match &mut present {
            None => match find(flags, &file).await {
                Ok(found) => {
                    tracing::info!(runtime = found.1.name, version = found.1.version, "runtime answers");
                    present = Some(found);
                    continue;
                }
                Err(why) => Err(why),
            },
            Some((agent, runtime)) => {
                let done = round(agent, runtime, &wanted, &known, &mut mirrors, &mut told).await;
                done.map_err(|error| error.to_string())
            }
        };
        let now = outcome.err();
        if let Some(why) = &now {
            if problem.as_ref() != Some(why) {
                tracing::warn!(problem = why, "round not carried out, tried again");
            }
            let runtime = present.as_ref().map(|(_, runtime)| runtime.clone()).unwrap_or_default();
            let why = both(Some(why), mirrors.problem().as_deref());
            told.tell(&report(&runtime, Vec::new(), why.as_deref())).await;
            // The runtime may come back as another version.
            present = None;
        }
        problem = now;
        let next =
            if problem.is_some() { flags.interval.min(Duration::from_secs(5)) } else { flags.interval };
        let due = present.as_ref().and_then(|(agent, _)| agent.due());
        let next = due.map_or(next, |due| next.min(due.saturating_duration_since(Instant::now())));
        tokio::select! {
            changed = known.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(next.max(PAUSE)) => {}
        }
    }
}

/// One round: order first, then what is missing, until the plan is another one.
async fn round(
    agent: &mut Agent<AnyNode>,
    runtime: &RuntimeVersion,
    wanted: &Wanted,
    known: &watch::Receiver<Wanted>,
    mirrors: &mut Mirrors,
    told: &mut Told,
) -> Result<(), RoundError> {
    loop {
        mirrors.keep().await;
        let (seen, missing) = agent.tidy(wanted).await?;
        let next = agent.next(&missing, Instant::now());
        let images = agent.presence(wanted, &seen, next.as_deref());
        let problem = both(agent.complaint(), mirrors.problem().as_deref());
        told.tell(&report(runtime, images, problem.as_deref())).await;
        let Some(next) = next else { return Ok(()) };
        agent.pull(&next, wanted).await?;
        if known.has_changed().unwrap_or(true) {
            return Ok(());
        }
    }
}

/// What is wrong with images, and with mirrors.
fn both(images: Option<&str>, mirrors: Option<&str>) -> Option<String> {
    let all: Vec<&str> = images.into_iter().chain(mirrors).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn report(
    runtime: &RuntimeVersion,
    images: Vec<crate::site::wire::NodeImage>,
    problem: Option<&str>,
) -> NodeReport {
    NodeReport {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime: runtime.name.clone(),
        runtime_version: runtime.version.clone(),
        images,
        problem: problem.map(|why| why.chars().take(LONGEST_REASON).collect()),
    }
}

/// The runtime, once it answers, and an agent for it.
async fn find(flags: &AgentFlags, file: &LedgerFile) -> Result<(Agent<AnyNode>, RuntimeVersion), String> {
    let sockets = match &flags.runtime_endpoint {
        RuntimeEndpoint::Socket(socket) => vec![socket.clone()],
        RuntimeEndpoint::Auto => SOCKETS.map(PathBuf::from).to_vec(),
    };
    let mut why = "no runtime's socket is here; name it with --runtime-endpoint".to_owned();
    for socket in &sockets {
        if matches!(flags.runtime_endpoint, RuntimeEndpoint::Auto) && !socket.try_exists().unwrap_or(false) {
            continue;
        }
        match CriImages::new(socket).runtime().await {
            Ok(runtime) => {
                let node = node(socket, &runtime, flags);
                let agent = Agent::new(node, file.clone()).map_err(|error| error.to_string())?;
                return Ok((agent, runtime));
            }
            Err(error) => why = format!("{}: {error}", socket.display()),
        }
    }
    Err(why)
}

fn node(socket: &Path, runtime: &RuntimeVersion, flags: &AgentFlags) -> AnyNode {
    if runtime.name.eq_ignore_ascii_case("cri-o") {
        let command = flags.restart_command.as_deref();
        return AnyNode::Crio(Crio::new(socket, flags.pull_timeout, &flags.host_root, command));
    }
    AnyNode::Containerd(Containerd::new(socket, flags.pull_timeout))
}

/// Tells the site how this node stands.
struct Told {
    way: Way,
    name: String,
    site: Option<Site>,
    failed: bool,
}

impl Told {
    async fn tell(&mut self, report: &NodeReport) {
        let told = match self.site.take().map_or_else(|| Site::new(self.way.clone()), Ok) {
            Ok(site) => site.report(&self.name, report).await.map(|()| self.site = Some(site)),
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                tracing::warn!(%error, "site not told how this node stands");
                self.failed = true;
            }
            Err(_) => {}
        }
    }
}
