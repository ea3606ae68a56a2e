//! `satellite mirrors`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use container_runtimes::apply::{
    ApplyError, Condition, Differences, Report, Standing, Status, Wanted, apply, difference, status,
};
use container_runtimes::containerd::config::Legacy;
use container_runtimes::plan::{ClientCertificate, Endpoint, EndpointError, Login};
use container_runtimes::reconcile::{Change, Difference};
use container_runtimes::reload::Means;
use container_runtimes::state::Owner;
use container_runtimes::{Hidden, Runtime, SpecError, parse_mirrors};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;

use super::{complain, print, text};
use crate::config::flags::mirrors::{MirrorsAction, Place, Restarts, Wish};
use crate::config::{Site, live, peers, resolved_peers};
use crate::mirrors::{LocalMachine, follow, is_node, paths};
use crate::serve::{docker, namespaces};

/// A certificate, a key or a password in a file larger than this is none.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Why a command was not carried out at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorsError {
    /// The runtimes and registries.
    #[error("--mirrors: {0}")]
    Mirrors(#[from] SpecError),
    /// The mirror's URL, and what goes with it.
    #[error("--endpoint: {0}")]
    Endpoint(#[from] EndpointError),
    /// A file of certificates, a key or a password.
    #[error("{flag}: {path}: {why}")]
    File { flag: &'static str, path: String, why: String },
    /// The peers.
    #[error("--peer: {0}")]
    Peer(String),
    /// The run itself.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl MirrorsError {
    /// Whether the command line is at fault.
    fn is_usage(&self) -> bool {
        !matches!(self, Self::Apply(_))
    }
}

/// Does it, prints what came of it, and says by the exit code how it went.
#[must_use]
pub fn mirrors(action: &MirrorsAction) -> ExitCode {
    match answer(action) {
        Ok((text, code)) => {
            print(&text);
            ExitCode::from(code)
        }
        Err(error) => {
            complain(&format!("satellite: {error}"));
            let trouble = if matches!(action, MirrorsAction::Diff { .. }) { 2 } else { 1 };
            ExitCode::from(if error.is_usage() { 2 } else { trouble })
        }
    }
}

/// `--fallback-only`: what a satellite of this configuration would do to the runtimes, once.
#[must_use]
pub fn only_mirrors(site: &Site) -> ExitCode {
    let effective = live::at_boot(site);
    let central = namespaces::kept(&site.config_dir);
    let docker = docker::wanted(site, &effective);
    match follow::run(&site.runtimes, &effective, Some(effective.listen.address), docker, &central) {
        Ok(report) => {
            print(&render_report(&report));
            if report.is_done() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            complain(&format!("satellite: mirrors not written: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn answer(action: &MirrorsAction) -> Result<(String, u8), MirrorsError> {
    match action {
        MirrorsAction::Apply { wish, restarts, place, output } => {
            let wanted = by_hand(wish, place, up_to(restarts))?;
            let report = apply(&machine(place, restarts).machine(), &wanted)?;
            let nothing = report.runtimes.is_empty();
            let text = match output.json {
                true => text::json(&report),
                false if nothing => {
                    "no container runtime that can be configured is installed here\n".to_owned()
                }
                false => render_report(&report),
            };
            Ok((text, u8::from(!report.is_done())))
        }
        MirrorsAction::Remove { restarts, place, output } => {
            let wanted = Wanted {
                requests: Vec::new(),
                endpoint: None,
                legacy: Legacy::Move,
                owner: Owner::Hand,
                up_to: up_to(restarts),
            };
            let report = apply(&machine(place, restarts).machine(), &wanted)?;
            let text = if output.json { text::json(&report) } else { render_report(&report) };
            Ok((text, u8::from(!report.is_done())))
        }
        MirrorsAction::Status { place, output } => {
            let status = status(&LocalMachine::new(&place.host_root, None).machine())?;
            let text = if output.json { text::json(&status) } else { render_status(&status) };
            Ok((text, u8::from(!status.is_well())))
        }
        MirrorsAction::Diff { wish, place, output } => {
            let wanted = by_hand(wish, place, Means::Nothing)?;
            let machine = LocalMachine::new(&place.host_root, None);
            let Differences { files, refused } = difference(&machine.machine(), &wanted)?;
            let stuck = !refused.is_empty()
                || files.values().any(|difference| matches!(difference.change, Change::Refused(_)));
            let code = if stuck { 2 } else { u8::from(!files.is_empty()) };
            let listing = Listing::new(&files, &refused);
            Ok((if output.json { text::json(&listing) } else { render_diff(&files, &refused) }, code))
        }
    }
}

fn machine(place: &Place, restarts: &Restarts) -> LocalMachine {
    LocalMachine::new(&place.host_root, restarts.restart_command.as_deref())
}

fn up_to(restarts: &Restarts) -> Means {
    if restarts.no_restart { Means::Nothing } else { Means::Restart }
}

fn by_hand(wish: &Wish, place: &Place, up_to: Means) -> Result<Wanted, MirrorsError> {
    wanted(wish, Owner::Hand, is_node(&place.host_root), None, up_to)
}

/// What is asked for, with its files read. `of_a_cluster` and `own_address` decide about peers of which nothing is said.
pub(crate) fn wanted(
    wish: &Wish,
    owner: Owner,
    of_a_cluster: bool,
    own_address: Option<IpAddr>,
    up_to: Means,
) -> Result<Wanted, MirrorsError> {
    let requests = parse_mirrors(&wish.mirrors)?;
    let mut endpoint = Endpoint::new(&wish.endpoint)?;
    endpoint.ca = wish.ca.as_deref().map(|file| certificates("--ca", file)).transpose()?;
    if let (Some(username), Some(file)) = (&wish.username, &wish.password_file) {
        let password = read("--password-file", file)?;
        let password = password.trim_end_matches(['\n', '\r']);
        if password.is_empty() {
            return Err(broken("--password-file", file, "it is empty"));
        }
        endpoint.login = Some(Login { username: username.clone(), password: Hidden::new(password) });
    }
    if let (Some(certificate), Some(key)) = (&wish.client_cert, &wish.client_key) {
        let certificate = certificates("--client-cert", certificate)?;
        let text = read("--client-key", key)?;
        if PrivateKeyDer::from_pem_slice(text.as_bytes()).is_err() {
            return Err(broken("--client-key", key, "it holds no private key in PEM"));
        }
        endpoint.client = Some(ClientCertificate { certificate, key: Hidden::new(text) });
    }
    endpoint.paths = paths(&requests, &[], &wish.paths.iter().cloned().collect());
    endpoint.may_block = wish.allow_slow_fallback;
    endpoint.docker.clone_from(&wish.docker_endpoint);
    let said = peers(&wish.peers).map_err(MirrorsError::Peer)?;
    endpoint.peers =
        resolved_peers(said.as_deref(), of_a_cluster, own_address).map_err(MirrorsError::Peer)?;
    Ok(Wanted {
        requests,
        endpoint: Some(endpoint.check()?),
        legacy: if wish.keep_legacy { Legacy::Refuse } else { Legacy::Move },
        owner,
        up_to,
    })
}

fn broken(flag: &'static str, path: &Path, why: impl Into<String>) -> MirrorsError {
    MirrorsError::File { flag, path: path.display().to_string(), why: why.into() }
}

fn read(flag: &'static str, path: &Path) -> Result<String, MirrorsError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
    read.map_err(|error| broken(flag, path, format!("it cannot be read: {error}")))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(broken(flag, path, "it is larger than 1 MiB"));
    }
    Ok(text)
}

fn certificates(flag: &'static str, path: &Path) -> Result<String, MirrorsError> {
    let text = read(flag, path)?;
    let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
    match found.next() {
        Some(Ok(_)) if found.all(|certificate| certificate.is_ok()) => Ok(text),
        _ => Err(broken(flag, path, "it holds no certificate in PEM")),
    }
}

fn render_report(report: &Report) -> String {
    let mut out = String::new();
    if report.runtimes.is_empty() {
        out.push_str("no runtime has a mirror of ours\n");
    }
    for (runtime, there) in &report.runtimes {
        let state = match there.state {
            Standing::InForce => "in force",
            Standing::Removed => "removed",
            Standing::RestartNeeded => "not in force",
            Standing::Refused => "refused",
            Standing::RolledBack => "rolled back",
        };
        let message = there.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        let _infallible = writeln!(out, "{:<12}{state}{message}", runtime.name());
    }
    let changes = report.files.iter().filter_map(|(path, change)| {
        let word = match change {
            Change::Unchanged | Change::Refused(_) => return None,
            Change::Written => "written",
            Change::Restored => "as it was before",
            Change::Stripped => "edited since, only our entries taken out",
            Change::Deleted => "deleted",
            Change::RolledBack(_) => "rolled back",
        };
        Some(format!("  {path}: {word}\n"))
    });
    let changes: String = changes.collect();
    if !changes.is_empty() {
        let _infallible = write!(out, "\nfiles:\n{changes}");
    }
    for unchecked in &report.unchecked {
        let _infallible = writeln!(out, "not checked: {unchecked}");
    }
    out
}

fn render_status(status: &Status) -> String {
    let mut out = String::new();
    let owner = match status.owner {
        None => "nobody: no mirror of ours is configured",
        Some(Owner::Hand) => "a person (satellite mirrors apply)",
        Some(Owner::Satellite) => "the satellite's configuration",
        Some(Owner::NodeAgent) => "the node agent's flags",
    };
    let _infallible = writeln!(out, "decided by  {owner}");
    for (runtime, there) in &status.runtimes {
        let version = there.version.as_deref().unwrap_or("version unknown");
        let running = match there.running {
            _ if !there.installed => "not installed",
            Some(true) => "runs",
            Some(false) => "does not run",
            None => "may run",
        };
        let list =
            |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        let mirrors = if there.registries.is_empty() {
            "no mirror of ours".to_owned()
        } else {
            format!("{} from {}", list(&there.registries), list(&there.mirrors))
        };
        let _infallible = writeln!(out, "{:<12}{version}, {running}: {mirrors}", runtime.name());
        match there.needs {
            Some(Means::Restart) => out.push_str("  restart needed: it has not seen its files\n"),
            Some(Means::Reload) => out.push_str("  reload needed: it has not seen its files\n"),
            Some(Means::Nothing) | None => {}
        }
        if let Some(why) = &there.failed {
            let _infallible = writeln!(out, "  taken back: {why}");
        }
        for (path, condition) in &there.files {
            let word = match condition {
                Condition::Written => "as written",
                Condition::Before => "as it was before: a change of it was broken off, apply or remove again",
                Condition::Edited => "edited since",
                Condition::Missing => "gone",
                Condition::Unreadable => "cannot be read",
            };
            let _infallible = writeln!(out, "  {path}: {word}");
        }
    }
    out
}

/// What `diff --json` prints.
#[derive(Debug, Serialize)]
struct Listing {
    files: BTreeMap<String, ListedFile>,
    refused: BTreeMap<Runtime, String>,
}

#[derive(Debug, Serialize)]
struct ListedFile {
    #[serde(flatten)]
    change: Change,
    diff: String,
}

impl Listing {
    fn new(files: &BTreeMap<String, Difference>, refused: &[(Runtime, String)]) -> Self {
        let listed = |(path, difference): (&String, &Difference)| {
            let diff = match difference.change {
                Change::Refused(_) => String::new(),
                _ => difference.text(path),
            };
            (path.clone(), ListedFile { change: difference.change.clone(), diff })
        };
        Self { files: files.iter().map(listed).collect(), refused: refused.iter().cloned().collect() }
    }
}

fn render_diff(files: &BTreeMap<String, Difference>, refused: &[(Runtime, String)]) -> String {
    let mut out = String::new();
    for (path, difference) in files {
        match &difference.change {
            Change::Refused(why) => {
                let _infallible = writeln!(out, "{path}: refused: {why}");
            }
            _ => out.push_str(&difference.text(path)),
        }
    }
    for (runtime, why) in refused {
        let _infallible = writeln!(out, "{runtime}: refused: {why}");
    }
    out
}
