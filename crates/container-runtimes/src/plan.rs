//! From what is wanted and what is there to the edits of files. Reads, never writes.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::containerd::config::{self, Legacy, LegacyRegistry};
use crate::containerd::{self, hosts};
use crate::detect::Detected;
use crate::edit::{Edit, Refusal};
use crate::rancher::{self, MirrorEndpoint};
use crate::registries::{self, MirrorEntry};
use crate::runtime::{MirrorRequest, Runtime, RuntimeChoice};
use crate::{docker, reconcile};

/// Files that are judged, and rolled back, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// containerd's.
    Containerd,
    /// Docker's.
    Docker,
    /// What Podman and CRI-O share.
    Containers,
    /// k3s's.
    K3s,
    /// RKE2's.
    Rke2,
}

/// What is meant for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileEdit {
    /// containerd's `config.toml`: name a folder.
    ContainerdConfig {
        /// The engine's version.
        engine: containerd::Version,
        /// What to do with settings that exclude it.
        legacy: Legacy,
    },
    /// A `hosts.toml`.
    Hosts {
        /// Its registry.
        registry: String,
        /// Our mirrors of it.
        mirrors: Vec<hosts::MirrorHost>,
        /// The text to begin with where there is no file: the same registry's in a folder that is read no more.
        seed: Option<String>,
        /// Settings that come from `config.toml`.
        moved: Option<LegacyRegistry>,
    },
    /// `daemon.json`.
    Docker {
        /// Our mirrors.
        urls: Vec<String>,
    },
    /// `registries.conf` or one of its drop-ins.
    Registries {
        /// Our mirrors, of all runtimes that share the file.
        entries: Vec<MirrorEntry>,
    },
    /// `registries.yaml`.
    Rancher {
        /// Our mirrors.
        mirrors: Vec<MirrorEndpoint>,
    },
}

impl FileEdit {
    /// The edit of a text.
    pub fn apply(&self, base: Option<&str>) -> Result<Edit, Refusal> {
        match self {
            Self::ContainerdConfig { engine, legacy } => {
                config::apply(base, *engine, *legacy, None).map(|applied| applied.edit)
            }
            Self::Hosts { registry, mirrors, seed, moved } => {
                let mut text = base.or(seed.as_deref()).unwrap_or_default().to_owned();
                if let Some(moved) = moved {
                    text = hosts::adopt(Some(&text), moved)?.text;
                }
                text = hosts::apply(Some(&text), registry, mirrors)?.text;
                Ok(Edit::between(base.unwrap_or_default(), text))
            }
            Self::Docker { urls } => docker::apply(base, urls),
            Self::Registries { entries } => registries::apply(base, entries),
            Self::Rancher { mirrors } => rancher::apply(base, mirrors),
        }
    }

    /// Takes it out of a text that was edited since; what `base`, the text before us, had stays.
    pub fn strip(&self, base: Option<&str>, current: &str) -> Result<Edit, Refusal> {
        let before = base.unwrap_or_default();
        match self {
            Self::ContainerdConfig { engine, legacy } => {
                let applied = config::apply(base, *engine, *legacy, None)?;
                let mut text = current.to_owned();
                if applied.edit.is_change() && config::inspect(before)?.config_path.is_none() {
                    text = config::strip(&text, &applied.folder, base)?.text;
                }
                if !applied.moved.is_empty() {
                    text = config::put_back(&text, before)?;
                }
                Ok(Edit::between(current, text))
            }
            Self::Hosts { registry, mirrors, .. } => {
                let mut urls = Vec::new();
                for mirror in mirrors {
                    if !hosts::names(before, &mirror.url)? {
                        urls.push(mirror.url.clone());
                    }
                }
                hosts::strip(current, registry, &urls)
            }
            Self::Docker { urls } => {
                let had = docker::mirrors(before)?;
                let ours: Vec<String> = urls.iter().filter(|url| !had.contains(url)).cloned().collect();
                docker::strip(current, &ours, !before.contains("\"registry-mirrors\""))
            }
            Self::Registries { entries } => {
                let had = registries::prefixes(before)?;
                let mut ours = Vec::new();
                for entry in entries {
                    if !registries::names(before, entry)? {
                        ours.push(entry.clone());
                    }
                }
                let made: Vec<String> = ours
                    .iter()
                    .map(|entry| entry.prefix.clone())
                    .filter(|prefix| !had.contains(prefix))
                    .collect();
                registries::strip(current, &ours, &made)
            }
            Self::Rancher { mirrors } => {
                let mut ours = Vec::new();
                for mirror in mirrors {
                    if !rancher::mirrors(before, &mirror.registry)?.contains(&mirror.url) {
                        ours.push(mirror.clone());
                    }
                }
                rancher::strip(current, &ours, base)
            }
        }
    }
}

/// A file and what is meant for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// What is meant.
    pub edit: FileEdit,
    /// Whose parser judges it.
    pub group: Group,
    /// The runtimes that read it.
    pub runtimes: Vec<Runtime>,
    /// Its mode, where it is made.
    pub mode: u32,
}

/// Where the mirror is, as runtimes of this machine reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host and port, without a path.
    pub url: String,
    /// CA certificates that it is checked by, a file of the machine.
    pub ca: Option<String>,
    /// Header lines with credentials, for containerd.
    pub headers: Vec<(String, String)>,
    /// Whether logging in is needed.
    pub needs_login: bool,
    /// How long containerd from 2.1 on tries to reach it, in milliseconds.
    pub dial_timeout: u32,
    /// Whether it may be named beyond loopback to runtimes that wait long for one that is silent: containerd before 2.1,
    /// Docker, Podman, CRI-O.
    pub may_block: bool,
    /// Under which path it keeps the repositories of a registry, for runtimes that do not send the registry's name; those
    /// not named here under none.
    pub paths: BTreeMap<String, String>,
}

impl Endpoint {
    /// A mirror on loopback, plain and open.
    pub fn loopback(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca: None,
            headers: Vec::new(),
            needs_login: false,
            dial_timeout: 300,
            may_block: false,
            paths: BTreeMap::new(),
        }
    }

    fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest).trim_end_matches('/')
    }

    fn is_loopback(&self) -> bool {
        let host = self.authority().rsplit_once(':').map_or(self.authority(), |(host, _)| host);
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }
}

/// All edits, and what cannot be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path on the machine.
    pub files: BTreeMap<String, PlannedFile>,
    /// Runtimes that are left alone, and why.
    pub refused: Vec<(Runtime, String)>,
}

/// Makes a plan. `base` answers what a file holds without our part of it; see [`reconcile::Shell::base`].
pub fn plan(
    requests: &[MirrorRequest],
    detected: &[Detected],
    endpoint: &Endpoint,
    legacy: Legacy,
    shell: &reconcile::Shell<'_>,
) -> io::Result<Plan> {
    let mut wanted: BTreeMap<Runtime, Vec<String>> = BTreeMap::new();
    for request in requests {
        let runtimes: Vec<Runtime> = match request.runtime {
            RuntimeChoice::One(runtime) => vec![runtime],
            RuntimeChoice::Auto => detected.iter().map(|found| found.runtime).collect(),
        };
        for runtime in runtimes {
            let automatic = request.runtime == RuntimeChoice::Auto && runtime == Runtime::Docker;
            let registries = wanted.entry(runtime).or_default();
            for registry in &request.registries {
                if !(registries.contains(registry) || automatic && registry != "docker.io") {
                    registries.push(registry.clone());
                }
            }
        }
    }
    wanted.retain(|_, registries| !registries.is_empty());
    let mut plan = Plan::default();
    for (runtime, registries) in &wanted {
        let Some(found) = detected.iter().find(|found| found.runtime == *runtime) else {
            plan.refused.push((*runtime, "it is not installed".to_owned()));
            continue;
        };
        let part = match runtime {
            Runtime::Containerd => containerd_files(found, registries, endpoint, legacy, shell)?,
            Runtime::Docker => docker_files(found, endpoint),
            Runtime::Podman | Runtime::Crio => containers_files(registries, endpoint, shell)?,
            Runtime::K3s | Runtime::Rke2 => rancher_files(*runtime, registries, endpoint),
        };
        match part {
            Ok(files) => {
                files.into_iter().for_each(|(path, edit, group)| plan.add(path, edit, group, *runtime))
            }
            Err(why) => plan.refused.push((*runtime, why)),
        }
    }
    Ok(plan)
}

type Files = Result<Vec<(String, FileEdit, Group)>, String>;

impl Plan {
    fn add(&mut self, path: String, edit: FileEdit, group: Group, runtime: Runtime) {
        let secret =
            matches!(&edit, FileEdit::Hosts { mirrors, .. } if mirrors.iter().any(|m| !m.headers.is_empty()));
        let mode = if secret { 0o600 } else { 0o644 };
        let file = self.files.entry(path).or_insert_with(|| PlannedFile {
            edit: edit.clone(),
            group,
            runtimes: Vec::new(),
            mode,
        });
        file.runtimes.push(runtime);
        if let (FileEdit::Registries { entries }, FileEdit::Registries { entries: more }) =
            (&mut file.edit, edit)
        {
            for entry in more {
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
    }
}

const SILENT: &str = "it would wait long for a mirror that is silent, so it gets mirrors on loopback only, unless that is allowed";

fn containerd_files(
    found: &Detected,
    registries: &[String],
    endpoint: &Endpoint,
    legacy: Legacy,
    shell: &reconcile::Shell<'_>,
) -> io::Result<Files> {
    let Some(version) = found.version else { return Ok(Err("it does not tell its version".to_owned())) };
    let engine = containerd::Version::new(version.0, version.1, version.2);
    if !engine.has_dial_timeout() && !endpoint.is_loopback() && !endpoint.may_block {
        return Ok(Err(SILENT.to_owned()));
    }
    let base = shell.base(&found.config)?;
    let effective = match base.as_deref().map(config::inspect) {
        Some(Ok(own)) if !own.imports.is_empty() => match shell.dump(&found.config) {
            // What we set ourselves is no setting of an imported file.
            Ok(mut effective) => {
                if shell.state().files.contains_key(&found.config) {
                    effective.config_path = effective.config_path.filter(|path| path != containerd::CERTS_D);
                }
                Some(effective)
            }
            Err(why) => return Ok(Err(why)),
        },
        _ => None,
    };
    let applied = match config::apply(base.as_deref(), engine, legacy, effective.as_ref()) {
        Ok(applied) => applied,
        Err(refusal) => return Ok(Err(format!("{}: {refusal}", found.config))),
    };
    let mirror = hosts::MirrorHost {
        ca: endpoint.ca.clone(),
        headers: endpoint.headers.clone(),
        dial_timeout: engine.has_dial_timeout().then_some(endpoint.dial_timeout),
        ..hosts::MirrorHost::new(endpoint.url.trim_end_matches('/'))
    };
    let folder = applied.folder.trim_end_matches('/');
    let mut seeds: BTreeMap<String, String> = BTreeMap::new();
    for registry in registries {
        // Only while there is no hosts.toml do the certificates beside it count.
        if shell.base(&format!("{folder}/{registry}/hosts.toml"))?.is_none()
            && let Some(text) = folder_of_registry(shell, folder, registry)?
        {
            seeds.insert(registry.clone(), text);
        }
    }
    for other in &applied.copy_from {
        for registry in shell.host().list(other) {
            if !seeds.contains_key(&registry)
                && let Some(text) = folder_of_registry(shell, other.trim_end_matches('/'), &registry)?
            {
                seeds.insert(registry, text);
            }
        }
    }
    let mut names: Vec<&String> = registries.iter().collect();
    names.extend(applied.moved.iter().map(|moved| &moved.registry));
    names.extend(seeds.keys());
    let mut files: Vec<(String, FileEdit, Group)> = Vec::new();
    for registry in names {
        let path = format!("{folder}/{registry}/hosts.toml");
        if files.iter().any(|(other, ..)| *other == path) {
            continue;
        }
        let edit = FileEdit::Hosts {
            registry: registry.clone(),
            mirrors: if registries.contains(registry) { vec![mirror.clone()] } else { Vec::new() },
            seed: seeds.get(registry).cloned(),
            moved: applied.moved.iter().find(|moved| moved.registry == *registry).cloned(),
        };
        files.push((path, edit, Group::Containerd));
    }
    if applied.edit.is_change() {
        files.push((found.config.clone(), FileEdit::ContainerdConfig { engine, legacy }, Group::Containerd));
    }
    Ok(Ok(files))
}

/// What a folder of registry hosts says of one registry, as the text of a `hosts.toml`.
fn folder_of_registry(
    shell: &reconcile::Shell<'_>,
    folder: &str,
    registry: &str,
) -> io::Result<Option<String>> {
    let place = format!("{folder}/{registry}");
    if let Some(text) = shell.base(&format!("{place}/hosts.toml"))? {
        return Ok(Some(text));
    }
    Ok(hosts::of_certificates(registry, &place, &shell.host().list(&place)))
}

/// Why a runtime other than containerd cannot be given this mirror, if so.
fn unreachable_for_others(endpoint: &Endpoint) -> Option<String> {
    if !endpoint.is_loopback() && !endpoint.may_block {
        Some(SILENT.to_owned())
    } else if endpoint.ca.is_some() {
        Some("a certificate authority of the mirror's own cannot be configured for it yet".to_owned())
    } else if endpoint.needs_login {
        Some("credentials for the mirror cannot be configured for it yet".to_owned())
    } else {
        None
    }
}

fn docker_files(found: &Detected, endpoint: &Endpoint) -> Files {
    if let Some(flag) = found.mirror_flags.first() {
        return Err(format!(
            "it is started with --registry-mirror {flag}; with the same setting in daemon.json its next start would fail: move the flag into that file"
        ));
    }
    if endpoint.needs_login {
        return Err("it cannot log in to a mirror; name one that is open".to_owned());
    }
    if let Some(why) = unreachable_for_others(endpoint) {
        return Err(why);
    }
    let urls = vec![endpoint.url.trim_end_matches('/').to_owned()];
    Ok(vec![(found.config.clone(), FileEdit::Docker { urls }, Group::Docker)])
}

fn containers_files(
    names: &[String],
    endpoint: &Endpoint,
    shell: &reconcile::Shell<'_>,
) -> io::Result<Files> {
    if let Some(why) = unreachable_for_others(endpoint) {
        return Ok(Err(why));
    }
    let folder = registries::REGISTRIES_CONF_D;
    let drop_ins = shell.host().list(folder).into_iter().filter(|name| name.ends_with(".conf"));
    let mut files = vec![registries::REGISTRIES_CONF.to_owned()];
    files.extend(drop_ins.map(|name| format!("{folder}/{name}")));
    let mut standing: Vec<(String, Vec<String>)> = Vec::new();
    for path in files {
        match shell.base(&path)?.as_deref().map(registries::prefixes) {
            Some(Ok(prefixes)) => standing.push((path, prefixes)),
            Some(Err(refusal)) => return Ok(Err(format!("{path}: {refusal}"))),
            None => {}
        }
    }
    let mut edits: BTreeMap<String, Vec<MirrorEntry>> = BTreeMap::new();
    for registry in names {
        // A later file's entry replaces an earlier one's of the same prefix.
        let path = standing.iter().rev().find(|(_, prefixes)| prefixes.contains(registry));
        let path = path.map_or_else(|| registries::OWN_FILE.to_owned(), |(path, _)| path.clone());
        let mut location = endpoint.authority().to_owned();
        if let Some(prefix) = endpoint.paths.get(registry).filter(|prefix| !prefix.is_empty()) {
            location = format!("{location}/{}", prefix.trim_matches('/'));
        }
        edits.entry(path).or_default().push(MirrorEntry {
            prefix: registry.clone(),
            location,
            insecure: endpoint.url.starts_with("http://"),
        });
    }
    Ok(Ok(edits
        .into_iter()
        .map(|(path, entries)| (path, FileEdit::Registries { entries }, Group::Containers))
        .collect()))
}

fn rancher_files(runtime: Runtime, registries: &[String], endpoint: &Endpoint) -> Files {
    if let Some(why) = unreachable_for_others(endpoint) {
        return Err(why);
    }
    let (path, group) = match runtime {
        Runtime::Rke2 => (rancher::RKE2_REGISTRIES, Group::Rke2),
        _ => (rancher::K3S_REGISTRIES, Group::K3s),
    };
    let url = endpoint.url.trim_end_matches('/').to_owned();
    let mirrors = registries
        .iter()
        .map(|registry| MirrorEndpoint { registry: registry.clone(), url: url.clone() })
        .collect();
    Ok(vec![(path.to_owned(), FileEdit::Rancher { mirrors }, group)])
}
