//! From what is wanted and what is there to the edits of files. Reads, never writes.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::containerd::config::{self, Legacy};
use crate::containerd::{self, hosts};
use crate::detect::Detected;
use crate::rancher::configs::HostConfig;
use crate::rancher::{self, MirrorEndpoint};
use crate::registries::{self, MirrorEntry};
use crate::runtime::{MirrorRequest, Runtime, RuntimeChoice};
use crate::secret::Hidden;
use crate::{auth, crio, reconcile};

mod endpoint;
mod file_edit;

pub use endpoint::{ClientCertificate, Endpoint, EndpointError, Login, Peer};
pub use file_edit::FileEdit;

/// What the names of certificate files of ours contain; runtimes read each file of such a folder.
pub(crate) const CERTIFICATE: &str = "/satellite-mirror.";

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

/// All edits, and what cannot be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path on the machine.
    pub files: BTreeMap<String, PlannedFile>,
    /// Runtimes that are left alone, and why.
    pub refused: Vec<(Runtime, String)>,
    /// The runs of the runtimes that have not seen what is about to change.
    pub running: BTreeMap<Runtime, String>,
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
    let mut plan = Plan::nothing(detected);
    for (runtime, registries) in &wanted {
        let Some(found) = detected.iter().find(|found| found.runtime == *runtime) else {
            plan.refused.push((*runtime, "it is not installed".to_owned()));
            continue;
        };
        let part = match runtime {
            Runtime::Containerd => containerd_files(found, registries, endpoint, legacy, shell),
            Runtime::Docker => Ok(docker_files(found, endpoint)),
            Runtime::Podman | Runtime::Crio => containers_files(*runtime, registries, endpoint, shell),
            Runtime::K3s | Runtime::Rke2 => Ok(rancher_files(*runtime, registries, endpoint)),
        };
        // What cannot be read of one runtime keeps no other from its mirrors.
        match part.unwrap_or_else(|error| Err(error.to_string())) {
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
    /// The plan that takes everything of ours out.
    pub fn nothing(detected: &[Detected]) -> Self {
        let running = detected.iter().filter_map(|found| {
            found.process.as_ref().map(|process| (found.runtime, process.instance.clone()))
        });
        Self { running: running.collect(), ..Self::default() }
    }

    fn add(&mut self, path: String, edit: FileEdit, group: Group, runtime: Runtime) {
        let mode = if edit.is_private() { 0o600 } else { 0o644 };
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
    let folder = applied.folder.trim_end_matches('/');
    let mut files = certificates(folder, endpoint, Group::Containerd);
    let place = |name: &str| format!("{folder}/{}{CERTIFICATE}{name}", endpoint.authority());
    let mirror = hosts::MirrorHost {
        ca: endpoint.ca.as_ref().map(|_| place("crt")),
        client: endpoint.client.as_ref().map(|_| (place("cert"), place("key"))),
        headers: endpoint.login.iter().map(Login::header).collect(),
        dial_timeout: engine.has_dial_timeout().then_some(endpoint.dial_timeout),
        ..hosts::MirrorHost::new(endpoint.url())
    };
    // Where one that is silent costs half a minute, only those that cannot be.
    let may_ask = |peer: &&Peer| engine.has_dial_timeout() || peer.here || endpoint.may_block;
    let peers = endpoint.peers.iter().filter(may_ask).map(|peer| hosts::MirrorHost {
        by_digest: true,
        dial_timeout: engine.has_dial_timeout().then_some(endpoint.dial_timeout),
        ..hosts::MirrorHost::new(peer.url())
    });
    let mut mirrors: Vec<hosts::MirrorHost> = peers.filter(|peer| peer.url != mirror.url).collect();
    mirrors.push(mirror);
    let mut seeds: BTreeMap<String, String> = BTreeMap::new();
    for registry in registries {
        // Only while there is no hosts.toml do the certificates beside it count.
        if shell.base(&format!("{folder}/{registry}/hosts.toml"))?.is_some() {
            continue;
        }
        if let Some(text) = folder_of_registry(shell, folder, registry)? {
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
    // What holds for every registry without a folder of its own holds no more for one that gets one.
    let every = format!("{folder}/{}/hosts.toml", hosts::EVERY);
    let moved = |registry: &str| applied.moved.iter().find(|moved| moved.registry == registry);
    let mut default = shell.base(&every)?;
    if let Some(moved) = moved(hosts::EVERY) {
        match hosts::adopt(default.as_deref(), moved) {
            Ok(edit) => default = Some(edit.text),
            Err(refusal) => return Ok(Err(format!("{every}: {refusal}"))),
        }
    }
    if let Some(text) = default {
        for registry in registries {
            let own = seeds.contains_key(registry) || moved(registry).is_some();
            if own || shell.base(&format!("{folder}/{registry}/hosts.toml"))?.is_some() {
                continue;
            }
            if hosts::has_relative_paths(&text) {
                return Ok(Err(format!(
                    "{every}: it names certificates by paths that hold beside it only, and {registry} has to say the same in a file of its own; write them from the root"
                )));
            }
            seeds.insert(registry.clone(), text.clone());
        }
    }
    let mut names: Vec<&String> = registries.iter().collect();
    names.extend(applied.moved.iter().map(|moved| &moved.registry));
    names.extend(seeds.keys());
    for registry in names {
        let path = format!("{folder}/{registry}/hosts.toml");
        if files.iter().any(|(other, ..)| *other == path) {
            continue;
        }
        let edit = FileEdit::Hosts {
            registry: registry.clone(),
            mirrors: if registries.contains(registry) { mirrors.clone() } else { Vec::new() },
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
    let mut names = shell.host().list(&place);
    // What we put there is the mirror's, and goes with it.
    names.retain(|name| !format!("/{name}").starts_with(CERTIFICATE));
    Ok(hosts::of_certificates(registry, &place, &names))
}

/// Why a runtime that waits long for a silent mirror is not given this one, if so.
fn silent(endpoint: &Endpoint) -> Option<String> {
    (!endpoint.is_loopback() && !endpoint.may_block).then(|| SILENT.to_owned())
}

/// The mirror's authority and our certificate for it, where the runtimes of `folder` look for them: by host and port.
fn certificates(folder: &str, endpoint: &Endpoint, group: Group) -> Vec<(String, FileEdit, Group)> {
    let place = format!("{folder}/{}", endpoint.authority());
    let mut files = Vec::new();
    let mut add = |name: &str, text: &Hidden, secret: bool| {
        let edit = FileEdit::Own { text: text.clone(), secret };
        files.push((format!("{place}{CERTIFICATE}{name}"), edit, group));
    };
    if let Some(ca) = &endpoint.ca {
        add("crt", &Hidden::new(ca.as_str()), false);
    }
    if let Some(client) = &endpoint.client {
        add("cert", &Hidden::new(client.certificate.as_str()), false);
        add("key", &client.key, true);
    }
    files
}

fn docker_files(found: &Detected, endpoint: &Endpoint) -> Files {
    if let Some(flag) = found.mirror_flags.first() {
        return Err(format!(
            "it is started with --registry-mirror {flag}; with the same setting in daemon.json its next start would fail: move the flag into that file"
        ));
    }
    if let Some(own) = &endpoint.docker {
        let edit = FileEdit::Docker { urls: vec![own.clone()] };
        return Ok(vec![(found.config.clone(), edit, Group::Docker)]);
    }
    // It asks for library/app, whatever that is there.
    if let Some(prefix) = endpoint.paths.get("docker.io").filter(|prefix| !prefix.is_empty()) {
        return Err(format!("the mirror keeps docker.io below {prefix}, and Docker cannot ask for that"));
    }
    if endpoint.login.is_some() && endpoint.client.is_none() {
        return Err("it cannot log in to a mirror; give a client certificate, or name a mirror that is open"
            .to_owned());
    }
    if let Some(why) = silent(endpoint) {
        return Err(why);
    }
    let mut files = certificates("/etc/docker/certs.d", endpoint, Group::Docker);
    let urls = vec![endpoint.url().to_owned()];
    files.push((found.config.clone(), FileEdit::Docker { urls }, Group::Docker));
    Ok(files)
}

fn containers_files(
    runtime: Runtime,
    names: &[String],
    endpoint: &Endpoint,
    shell: &reconcile::Shell<'_>,
) -> io::Result<Files> {
    if let Some(why) = silent(endpoint) {
        return Ok(Err(why));
    }
    let host = shell.host();
    if host.has(registries::ROOT_REGISTRIES_CONF) {
        return Ok(Err(format!(
            "{} is read instead of /etc/containers, and is not edited: move what it holds into {}",
            registries::ROOT_REGISTRIES_CONF,
            registries::REGISTRIES_CONF
        )));
    }
    let mut files = vec![registries::REGISTRIES_CONF.to_owned()];
    for folder in [registries::REGISTRIES_CONF_D, registries::ROOT_REGISTRIES_CONF_D] {
        let drop_ins = host.list(folder).into_iter().filter(|name| name.ends_with(".conf"));
        let drop_ins = drop_ins.map(|name| format!("{folder}/{name}"));
        files.extend(drop_ins.filter(|path| !host.is_folder(path)));
    }
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
        let covering = |prefixes: &'_ [String]| {
            registries::covering(registry, prefixes.iter().map(String::as_str)).map(str::to_owned)
        };
        if path.is_none()
            && let Some((file, prefix)) =
                standing.iter().rev().find_map(|(file, prefixes)| Some((file, covering(prefixes)?)))
        {
            return Ok(Err(format!(
                "{file}: its entry of {prefix} stands for {registry}, and one of ours would take its place: write one of {registry} beside it"
            )));
        }
        let path = path.map_or_else(|| registries::OWN_FILE.to_owned(), |(path, _)| path.clone());
        let mut location = endpoint.authority().to_owned();
        if let Some(prefix) = endpoint.paths.get(registry).filter(|prefix| !prefix.is_empty()) {
            location = format!("{location}/{}", prefix.trim_matches('/'));
        }
        edits.entry(path).or_default().push(MirrorEntry {
            prefix: registry.clone(),
            location,
            insecure: endpoint.is_plain(),
        });
    }
    let mut files = certificates("/etc/containers/certs.d", endpoint, Group::Containers);
    if let Some(login) = &endpoint.login {
        let edit = FileEdit::Account { registry: endpoint.authority().to_owned(), auth: login.basic() };
        // The file that CRI-O was told of is the only one that it reads.
        let own = match runtime {
            Runtime::Crio => crio::global_auth_file(host),
            _ => Ok(None),
        };
        match own {
            Ok(own) => {
                files.push((own.unwrap_or_else(|| auth::ROOT_AUTH.to_owned()), edit, Group::Containers))
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    files.extend(
        edits.into_iter().map(|(path, entries)| (path, FileEdit::Registries { entries }, Group::Containers)),
    );
    Ok(Ok(files))
}

fn rancher_files(runtime: Runtime, registries: &[String], endpoint: &Endpoint) -> Files {
    if let Some(why) = silent(endpoint) {
        return Err(why);
    }
    let (path, group) = match runtime {
        Runtime::Rke2 => (rancher::RKE2_REGISTRIES, Group::Rke2),
        _ => (rancher::K3S_REGISTRIES, Group::K3s),
    };
    let url = endpoint.url().to_owned();
    let mirrors = registries
        .iter()
        .map(|registry| MirrorEndpoint { registry: registry.clone(), url: url.clone() })
        .collect();
    // It has no folder of certificates by host; its own is as good.
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut files = Vec::new();
    for (place, edit, group) in certificates(folder, endpoint, group) {
        let name = place.rsplit_once('/').map_or("", |(_, name)| name);
        files.push((format!("{folder}/{name}"), edit, group));
    }
    let place = |name: &str| format!("{folder}{CERTIFICATE}{name}");
    let config = HostConfig {
        host: endpoint.authority().to_owned(),
        login: endpoint.login.as_ref().map(|login| (login.username.clone(), login.password.clone())),
        ca: endpoint.ca.as_ref().map(|_| place("crt")),
        client: endpoint.client.as_ref().map(|_| (place("cert"), place("key"))),
    };
    let needed = config.login.is_some() || config.ca.is_some() || config.client.is_some();
    let edit = FileEdit::Rancher { mirrors, config: needed.then_some(config) };
    files.push((path.to_owned(), edit, group));
    Ok(files)
}
