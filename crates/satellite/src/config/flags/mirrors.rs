//! `satellite mirrors`: the container runtimes' mirrors by hand. It asks no satellite and reads none of its settings, so
//! that it serves a machine where none runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use container_runtimes::plan::Endpoint;

use super::Output;

/// What to do with the container runtimes' mirrors.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MirrorsAction {
    /// Write mirrors into the runtimes' configuration, and reload or restart what has to see it.
    ///
    /// Exactly these mirrors: what an earlier call wrote and this one does not name goes. Needs root. Exit code 0: all is
    /// in force; 1: something was refused, rolled back or waits for a restart.
    Apply {
        /// What is wanted.
        #[command(flatten)]
        wish: Wish,
        /// Restarts.
        #[command(flatten)]
        restarts: Restarts,
        /// Where.
        #[command(flatten)]
        place: Place,
        /// How it is told.
        #[command(flatten)]
        output: Output,
    },
    /// Show which mirrors are configured, and whether files were edited or a restart is waited for since.
    ///
    /// Exit code 0: all is well; 1: something needs a person.
    Status {
        /// Where.
        #[command(flatten)]
        place: Place,
        /// How it is told.
        #[command(flatten)]
        output: Output,
    },
    /// Show what `apply` would change. Writes nothing.
    ///
    /// Exit code 0: nothing; 1: something; 2: it cannot be told, or some runtime would be refused.
    Diff {
        /// What is wanted.
        #[command(flatten)]
        wish: Wish,
        /// Where.
        #[command(flatten)]
        place: Place,
        /// How it is told.
        #[command(flatten)]
        output: Output,
    },
    /// Take every mirror out again: files become what they were before.
    ///
    /// Of a file that was edited since, only our entries go. Needs root. Exit code 0: all is gone; 1: something was
    /// refused or waits for a restart.
    Remove {
        /// Restarts.
        #[command(flatten)]
        restarts: Restarts,
        /// Where.
        #[command(flatten)]
        place: Place,
        /// How it is told.
        #[command(flatten)]
        output: Output,
    },
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Wish {
    /// Runtimes and the registries to mirror in them, as containerd:docker.io,quay.io (repeatable). Runtimes: containerd,
    /// docker (docker.io only; also docker:true), podman, crio, k3s, rke2, and auto for all that are installed.
    #[arg(long, value_name = "RUNTIME:HOSTS", required = true)]
    pub mirrors: Vec<String>,
    /// The mirror: a satellite's registry as this machine reaches it.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8585", value_parser = endpoint)]
    pub endpoint: String,
    /// The mirror for Docker, where it has an address of its own: the satellite's listener for docker.io alone, as
    /// http://127.0.0.1:8586.
    #[arg(long, value_name = "URL", value_parser = own_endpoint)]
    pub docker_endpoint: Option<String>,
    /// PEM file of the authority that the mirror's certificate is checked by.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Account at the mirror. Docker cannot log in to a mirror: give it a client certificate.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub username: Option<String>,
    /// File with that account's password.
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// PEM file of a certificate to show to the mirror.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// Where the mirror keeps a registry's repositories, as quay.io=quay.io or harbor.example.com= for no prefix
    /// (repeatable). Without it: docker.io under none, any other host under its own name. Only Podman and CRI-O need it.
    #[arg(long = "path", value_name = "HOST=PREFIX", value_parser = crate::config::mirrors::place_flag)]
    pub paths: Vec<(String, String)>,
    /// Mirror of the cluster's nodes among each other (Spegel) that containerd asks before the endpoint, by digest: its
    /// URL, auto for this node's own address and port 30020, or none (repeatable) [default: auto where a kubelet runs on
    /// this machine, else none]
    #[arg(long = "peer", value_name = "URL", value_parser = crate::config::mirrors::peer_flag)]
    pub peers: Vec<String>,
    /// Also give a mirror beyond loopback to runtimes that wait long for one that is silent: containerd before 2.1,
    /// Docker, Podman, CRI-O.
    #[arg(long)]
    pub allow_slow_fallback: bool,
    /// Refuse containerd where registry.mirrors or configs.*.tls stand in its config.toml, instead of moving them into
    /// hosts.toml.
    #[arg(long)]
    pub keep_legacy: bool,
}

/// How runtimes are made to see it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Restarts {
    /// Shell command that reloads or restarts a runtime where neither systemd nor OpenRC does: $1 is the runtime, $2 is
    /// reload or restart.
    #[arg(long, value_name = "COMMAND")]
    pub restart_command: Option<String>,
    /// Write the files, and tell what has to be reloaded or restarted.
    #[arg(long, conflicts_with = "restart_command")]
    pub no_restart: bool,
}

/// Which machine.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Place {
    /// Where the machine's root is mounted, as seen from here: /host in a container.
    #[arg(long, value_name = "DIR", default_value = "/", value_parser = folder)]
    pub host_root: PathBuf,
}

fn own_endpoint(text: &str) -> Result<String, String> {
    let endpoint = Endpoint::new(text).map_err(|error| error.to_string())?;
    if !endpoint.is_loopback() || !endpoint.is_plain() {
        return Err("must be http:// on loopback: it is a listener of this machine's satellite".to_owned());
    }
    Ok(endpoint.url().to_owned())
}

/// Where nothing is, nothing would be found and everything be well.
fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such folder".to_owned()) }
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    Endpoint::new(text).map(|endpoint| endpoint.url().to_owned()).map_err(|error| error.to_string())
}
