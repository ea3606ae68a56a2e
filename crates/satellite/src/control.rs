//! The local status socket: HTTP over a Unix socket that only the satellite's own account can open.
//!
//! `GET /v1/status` answers a [`StatusDocument`]; `POST /v1/sync` wakes the replication; `POST /v1/token` takes a new
//! one-time token; `POST /v1/export` answers an image archive. The documents carry their version, fields are only ever added, and readers ignore what they do not
//! know, so that a command of one release understands a process of another.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use fleet_protocol::heartbeat::FetchingArtifact;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::status::Status;
use crate::transfers::TransferStatus;

pub mod client;
mod export;
pub mod server;

/// Version of the documents on the socket.
pub const API_VERSION: u32 = 1;
/// Linux allows 107 bytes in the address of a Unix socket (unix(7)).
const LONGEST_ADDRESS: usize = 107;

/// How the satellite is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// [`API_VERSION`].
    pub api_version: u32,
    /// Whether nothing needs a person.
    pub healthy: bool,
    /// What does, one line each.
    pub problems: Vec<String>,
    /// The process.
    pub process: ProcessStatus,
    /// The local registry.
    pub registry: RegistryStatus,
    /// Blobs on their way at this moment.
    #[serde(default)]
    pub transfers: Vec<TransferStatus>,
    /// Artifacts on their way, each with the bytes of it that are here and that it has.
    #[serde(default)]
    pub fetching: Vec<FetchingArtifact>,
    /// Registration, schedulers, desired state, artifacts.
    pub satellite: Status,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its id.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// For how long it runs, in seconds.
    pub uptime_seconds: u64,
    /// Its configuration directory.
    pub config_dir: PathBuf,
    /// URL of Ground Control, if there is one.
    pub ground_control_url: Option<String>,
    /// Where its desired state is read, once it is registered.
    pub state_url: Option<String>,
}

/// The local registry and its store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryStatus {
    /// Where it listens; `None` where a registry of the site's own is used.
    pub address: Option<String>,
    /// Upstream hosts that it stands in for.
    pub namespaces: Vec<String>,
    /// The registry of the site's own, if artifacts go there.
    pub byo_registry: Option<String>,
    /// Beginnings of repositories' names that are the site's own.
    pub local_namespaces: Vec<String>,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Bytes of all content; shared content counts once.
    pub bytes: u64,
    /// Blobs and manifests.
    pub contents: u64,
    /// Manifests, once for each repository.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Repositories.
    pub repositories: u64,
}

/// Body of `POST /v1/token`.
#[derive(Serialize, Deserialize)]
pub struct NewToken {
    /// The token.
    pub token: String,
}

/// Answer to a `POST` and to errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What happened, for a person.
    pub message: String,
}

/// A socket's path in a form that fits an address, however deep the directory is.
struct SocketPath {
    address: PathBuf,
    /// Keeps the directory open while `address` goes through it.
    _directory: Option<File>,
}

impl SocketPath {
    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST_ADDRESS {
            return Ok(Self { address: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let directory = File::open(parent)?;
        let address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self { address, _directory: Some(directory) })
    }
}
