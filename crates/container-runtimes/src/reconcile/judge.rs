//! The runtimes' own parsers as judges. An error is an objection, in words; `Some` says why nothing was asked.

use std::io;

use super::own_folder;
use crate::command::{Commands, Said};
use crate::containerd::config::{self, Found};
use crate::detect::{Version, parse_version};

/// The first version of Docker Engine that has `--validate`.
const DOCKER_VALIDATES: Version = Version(23, 0, 0);

type Verdict = Result<Option<String>, String>;

/// Runs a program that may not be there.
fn ask(commands: &dyn Commands, program: &str, arguments: &[&str]) -> Result<Option<Said>, String> {
    match commands.run(program, arguments) {
        Ok(said)
            if !said.success
                && said.stderr.contains("No such file or directory")
                && said.stderr.starts_with("chroot") =>
        {
            Ok(None)
        }
        Ok(said) => Ok(Some(said)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{program} could not be asked: {e}")),
    }
}

fn last_line(said: &Said) -> String {
    said.stderr
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given")
        .trim()
        .to_owned()
}

/// What containerd makes of a configuration; none where there is no containerd.
pub(super) fn dump(commands: &dyn Commands, path: &str) -> Result<Option<Found>, String> {
    let Some(said) = ask(commands, "containerd", &["--config", path, "config", "dump"])? else {
        return Ok(None);
    };
    if !said.success {
        return Err(format!("containerd does not read {path}: {}", last_line(&said)));
    }
    config::inspect(&said.stdout)
        .map(Some)
        .map_err(|refusal| format!("what containerd prints of {path}: {refusal}"))
}

/// containerd reads the file, names our folder, and has nothing beside it that would stop its CRI plugin.
pub(super) fn containerd(commands: &dyn Commands, path: &str, text: &str) -> Verdict {
    let Some(found) = dump(commands, path)? else {
        return Ok(Some(format!("{path}: containerd is not there to check it")));
    };
    if !found.legacy.is_empty() {
        return Err(format!("{path}: registry.mirrors or configs.*.tls would stop containerd's CRI plugin"));
    }
    if found.config_path == own_folder(text) {
        Ok(None)
    } else {
        Err(format!("{path}: containerd reads config_path as {:?}", found.config_path.unwrap_or_default()))
    }
}

/// Docker Engine from 23.0 on says whether it would start with the file.
pub(super) fn docker(commands: &dyn Commands, path: &str) -> Verdict {
    let version = ask(commands, "dockerd", &["--version"])?.and_then(|said| parse_version(&said.stdout));
    if version.is_none_or(|version| version < DOCKER_VALIDATES) {
        return Ok(Some(format!("{path}: this Docker Engine has no --validate")));
    }
    match ask(commands, "dockerd", &["--validate", "--config-file", path])? {
        Some(said) if !said.success => Err(format!("dockerd does not take {path}: {}", last_line(&said))),
        _ => Ok(None),
    }
}

/// Podman reads `registries.conf` and its drop-ins, for CRI-O too.
pub(super) fn containers(commands: &dyn Commands) -> Verdict {
    match ask(commands, "podman", &["info", "--format", "{{json .Registries}}"])? {
        None => Ok(Some("registries.conf: podman is not there to check it".to_owned())),
        Some(said) if said.success => Ok(None),
        Some(said) => Err(format!("podman does not read registries.conf: {}", last_line(&said))),
    }
}
