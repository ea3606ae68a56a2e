//! What is installed, in which version, and how it was started.

use crate::command::Commands;
use crate::host::Host;
use crate::runtime::Runtime;

mod process;

pub(crate) use process::instance;
pub use process::{Process, flag_values, processes};

/// Where programs are looked for, in this order.
const FOLDERS: [&str; 9] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/bin",
    "/sbin",
    "/opt/bin",
    "/snap/bin",
    "/var/lib/rancher/rke2/bin",
];

/// A version's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A runtime that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// Which.
    pub runtime: Runtime,
    /// Its program, a path of the machine; none where only its folders were found.
    pub program: Option<String>,
    /// Its version, where the program said one.
    pub version: Option<Version>,
    /// Its configuration: the one named on its command line, else the usual one, whether it exists or not.
    pub config: String,
    /// Its process, if it runs now.
    pub process: Option<Running>,
    /// Where its CRI answers, if it has one; of Docker, where its API does.
    pub socket: Option<String>,
    /// Mirrors given as flags, of the running process or in a unit: they exclude the same setting in a file (Docker).
    pub mirror_flags: Vec<String>,
}

/// The process of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its number; none where the machine's processes cannot be seen.
    pub pid: Option<u32>,
    /// What tells this run of it from every other.
    pub instance: String,
}

impl Running {
    /// A process that may or may not be there: nobody can look.
    fn unseen() -> Self {
        Self { pid: None, instance: "unseen".to_owned() }
    }
}

/// Reads what a runtime's `--version` printed: the first word that looks like a version.
pub fn parse_version(said: &str) -> Option<Version> {
    said.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let numbers = word.split(['+', '-', '~', ',']).next()?;
        let mut parts = numbers.split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Version(major, minor, parts.next().and_then(|part| part.parse().ok()).unwrap_or(0)))
    })
}

fn daemon(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Docker => "dockerd",
        other => other.name(),
    }
}

fn usual_config(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Containerd => crate::containerd::CONFIG_TOML,
        Runtime::Docker => crate::docker::DAEMON_JSON,
        Runtime::Podman | Runtime::Crio => crate::registries::REGISTRIES_CONF,
        Runtime::K3s => crate::rancher::K3S_REGISTRIES,
        Runtime::Rke2 => crate::rancher::RKE2_REGISTRIES,
    }
}

/// The configuration that a command line names.
fn configured(runtime: Runtime, process: &Process) -> Option<String> {
    let names: &[&str] = match runtime {
        Runtime::Containerd => &["--config", "-c"],
        Runtime::Docker => &["--config-file"],
        _ => return None,
    };
    flag_values(&process.arguments, names).pop()
}

/// Folders that only an installed k3s or RKE2 has, wherever its program is.
fn own_folder(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::K3s => Some("/var/lib/rancher/k3s"),
        Runtime::Rke2 => Some("/var/lib/rancher/rke2"),
        _ => None,
    }
}

/// Where a runtime's CRI, or Docker's API, answers.
fn socket(host: &Host, runtime: Runtime, process: Option<&Process>, config: &str) -> Option<String> {
    match runtime {
        Runtime::Containerd => {
            let flag =
                process.and_then(|process| flag_values(&process.arguments, &["--address", "-a"]).pop());
            let set = || crate::containerd::config::address(&host.read(config).ok().flatten()?);
            Some(flag.or_else(set).unwrap_or_else(|| "/run/containerd/containerd.sock".to_owned()))
        }
        Runtime::K3s | Runtime::Rke2 => Some("/run/k3s/containerd/containerd.sock".to_owned()),
        Runtime::Crio => Some("/var/run/crio/crio.sock".to_owned()),
        Runtime::Docker => {
            let flags = process.map(|process| flag_values(&process.arguments, &["--host", "-H"]));
            let flag =
                flags.into_iter().flatten().find_map(|host| host.strip_prefix("unix://").map(str::to_owned));
            let set = || crate::docker::socket(&host.read(config).ok().flatten()?);
            Some(flag.or_else(set).unwrap_or_else(|| crate::docker::SOCKET.to_owned()))
        }
        Runtime::Podman => None,
    }
}

/// Looks for every runtime.
pub fn detect(host: &Host, commands: &dyn Commands) -> Vec<Detected> {
    let running = processes(host);
    Runtime::ALL.into_iter().filter_map(|runtime| detect_one(host, commands, &running, runtime)).collect()
}

/// The process of a runtime. Of several, the one with the usual configuration; one with a file elsewhere counts where there
/// is no usual one.
fn process_of<'a>(host: &Host, running: &'a [Process], runtime: Runtime) -> Option<&'a Process> {
    let name = daemon(runtime);
    let own: Vec<&Process> =
        running.iter().filter(|process| process.name == name && !process.belongs_to_another()).collect();
    let own: Vec<&Process> =
        own.into_iter().filter(|process| !process::is_contained(host, process.pid)).collect();
    let elsewhere =
        |process: &&&Process| configured(runtime, process).is_some_and(|file| !file.starts_with("/etc/"));
    own.iter()
        .find(|process| !elsewhere(process))
        .or_else(|| own.first().filter(|_| !host.has(usual_config(runtime))))
        .copied()
}

/// The process of a runtime that is known to run; where nobody can see it, that it does.
pub(crate) fn running(host: &Host, runtime: Runtime) -> Running {
    let all = processes(host);
    process_of(host, &all, runtime).map_or_else(Running::unseen, |process| Running {
        pid: Some(process.pid),
        instance: instance(host, process.pid),
    })
}

/// The command lines of a service: those with which it runs, and those with which its unit would start it.
pub(crate) fn command_lines(host: &Host, name: &str) -> Vec<Vec<String>> {
    let running = processes(host).into_iter().filter(|process| process.name == name);
    let mut lines: Vec<Vec<String>> = running.map(|process| process.arguments).collect();
    lines.extend(process::unit_commands(host, name));
    lines
}

fn detect_one(
    host: &Host,
    commands: &dyn Commands,
    running: &[Process],
    runtime: Runtime,
) -> Option<Detected> {
    let name = daemon(runtime);
    let program = FOLDERS.iter().map(|folder| format!("{folder}/{name}")).find(|path| host.has(path));
    let usual = usual_config(runtime);
    let process = process_of(host, running, runtime);
    let folder = own_folder(runtime).is_some_and(|folder| host.has(folder));
    if program.is_none() && process.is_none() && !folder {
        return None;
    }
    let said = program.as_deref().and_then(|program| commands.run(program, &["--version"]).ok());
    let version = said.and_then(|said| parse_version(&said.stdout));
    let flag = process.and_then(|process| configured(runtime, process));
    let config = flag.unwrap_or_else(|| usual.to_owned());
    let mut mirror_flags = Vec::new();
    if runtime == Runtime::Docker {
        mirror_flags.extend(
            process
                .map(|process| flag_values(&process.arguments, &["--registry-mirror"]))
                .into_iter()
                .flatten(),
        );
        for started in process::unit_commands(host, "docker") {
            mirror_flags.extend(flag_values(&started, &["--registry-mirror"]));
        }
        mirror_flags.sort();
        mirror_flags.dedup();
    }
    Some(Detected {
        runtime,
        program,
        version,
        process: match process {
            Some(process) => {
                Some(Running { pid: Some(process.pid), instance: process::instance(host, process.pid) })
            }
            None if running.is_empty() => Some(Running::unseen()),
            None => None,
        },
        socket: socket(host, runtime, process, &config),
        config,
        mirror_flags,
    })
}

#[cfg(test)]
mod tests;
