//! Command lines: of what runs, and of what systemd and the init scripts would start.

use crate::host::Host;

/// A running program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The program's name, without its folder.
    pub name: String,
    /// Its arguments, without the program.
    pub arguments: Vec<String>,
}

impl Process {
    /// Whether it is the containerd that Docker, k3s or RKE2 started for itself.
    pub(super) fn belongs_to_another(&self) -> bool {
        let configs = flag_values(&self.arguments, &["--config", "-c"]);
        configs.iter().any(|config| {
            ["/var/lib/rancher/", "/run/docker/", "/var/run/docker/"]
                .iter()
                .any(|own| config.starts_with(own))
        })
    }
}

/// Whether a process is in a process namespace of its own, as in a container: then it is not this machine's.
pub(super) fn is_contained(host: &Host, pid: u32) -> bool {
    let status = host.read(&format!("/proc/{pid}/status")).ok().flatten().unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
}

/// What tells one run of a process from every other: the machine's start, the number, and when it began.
pub(crate) fn instance(host: &Host, pid: u32) -> String {
    let read = |path: &str| host.read(path).ok().flatten().unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    // Field 22 of proc_pid_stat(5); the name before it is in brackets and may hold anything.
    let stat = read(&format!("/proc/{pid}/stat"));
    let began = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).unwrap_or("?");
    format!("{}/{pid}/{began}", boot.trim())
}

/// What runs on this machine, from `/proc`. A process that ends meanwhile, may not be read, or is in a container is left
/// out.
pub fn processes(host: &Host) -> Vec<Process> {
    host.list("/proc")
        .into_iter()
        .filter_map(|name| name.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, host.read(&format!("/proc/{pid}/cmdline")).ok().flatten()?)))
        .filter_map(|(pid, line)| {
            let mut words = line.split('\0').map(str::to_owned);
            let program = words.next().filter(|program| !program.is_empty())?;
            let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
            let mut arguments: Vec<String> = words.collect();
            while arguments.last().is_some_and(String::is_empty) {
                arguments.pop();
            }
            Some(Process { pid, name, arguments })
        })
        .collect()
}

/// The values of a flag (`--flag value`, `--flag=value`), under any of its names.
pub fn flag_values(arguments: &[String], names: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some((name, value)) if names.contains(&name) => {
                values.push(value.trim_matches(['"', '\'']).to_owned())
            }
            None if names.contains(&argument.as_str()) => {
                values.extend(arguments.next().map(|value| value.trim_matches(['"', '\'']).to_owned()));
            }
            _ => {}
        }
    }
    values
}

/// The command lines of a service: `ExecStart` of its unit and drop-ins, and the options files that distributions read.
pub(super) fn unit_commands(host: &Host, service: &str) -> Vec<Vec<String>> {
    let mut texts = Vec::new();
    for folder in
        ["/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system", "/run/systemd/system"]
    {
        let unit = format!("{folder}/{service}.service");
        texts.extend(host.read(&unit).ok().flatten().map(|text| (true, text)));
        let drop_ins = format!("{unit}.d");
        for name in host.list(&drop_ins).into_iter().filter(|name| name.ends_with(".conf")) {
            texts.extend(host.read(&format!("{drop_ins}/{name}")).ok().flatten().map(|text| (true, text)));
        }
    }
    for file in ["/etc/default", "/etc/sysconfig", "/etc/conf.d"] {
        texts.extend(host.read(&format!("{file}/{service}")).ok().flatten().map(|text| (false, text)));
    }
    let mut commands = Vec::new();
    for (unit, text) in texts {
        let text = text.replace("\\\n", " ");
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let Some((key, value)) = line.split_once('=') else { continue };
            if !unit || key.trim() == "ExecStart" || key.trim() == "Environment" {
                commands.push(
                    value
                        .split([' ', '\t', '"', '\''])
                        .filter(|word| !word.is_empty())
                        .map(str::to_owned)
                        .collect(),
                );
            }
        }
    }
    commands
}
