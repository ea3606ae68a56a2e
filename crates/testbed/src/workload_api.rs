//! The SPIFFE Workload API as an agent serves it, on a Unix socket: what it hands out is what a test says, rotates when
//! the test says so, and is withdrawn when the test says so.
//!
//! Source: SPIFFE Workload API, sections 3 to 6, and SPIFFE Workload Endpoint, sections 3 and 4 (the security header).

mod messages;
mod service;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::authority::{Authority, IssuedSvid};
use crate::{Error, Result};

/// What a workload gets.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Its SVID.
    pub svid: IssuedSvid,
    /// The authorities of its trust domain (DER).
    pub bundle: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct State {
    handed: watch::Sender<Option<Handed>>,
    /// Calls that came without the security header.
    unguarded: AtomicU32,
    /// Streams of SVIDs that were opened.
    opened: AtomicU32,
}

/// A running Workload API for one workload. It ends with its handle.
#[derive(Debug)]
pub struct WorkloadApi {
    socket: PathBuf,
    state: Arc<State>,
    task: Option<AbortHandle>,
}

impl WorkloadApi {
    /// Serves on a socket that the caller's folder holds; nothing is handed out yet.
    pub async fn start(socket: &Path) -> Result<Self> {
        let state = State {
            handed: watch::Sender::new(None),
            unguarded: AtomicU32::new(0),
            opened: AtomicU32::new(0),
        };
        let mut api = Self { socket: socket.to_owned(), state: Arc::new(state), task: None };
        api.resume()?;
        Ok(api)
    }

    /// Serves an SVID for a path of the authority's trust domain.
    pub async fn serving(socket: &Path, authority: &Authority, path: &str) -> Result<Self> {
        let api = Self::start(socket).await?;
        api.issue(authority, path)?;
        Ok(api)
    }

    /// Hands out a fresh SVID and the authority's present bundle, to those who listen too.
    pub fn issue(&self, authority: &Authority, path: &str) -> Result<()> {
        self.hand(authority.issue(path)?, authority);
        Ok(())
    }

    /// Hands out this SVID and the authority's present bundle.
    pub fn hand(&self, svid: IssuedSvid, authority: &Authority) {
        let bundle = authority.certificates().to_vec();
        self.state.handed.send_replace(Some(Handed { svid, bundle }));
    }

    /// The identity is withdrawn: streams end with `PermissionDenied`, and so does every new one.
    pub fn withdraw(&self) {
        self.state.handed.send_replace(None);
    }

    /// What is handed out now.
    pub fn handed(&self) -> Option<Handed> {
        self.state.handed.borrow().clone()
    }

    /// The agent is gone: connections break, the socket too.
    pub fn pause(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// The agent is back.
    pub fn resume(&mut self) -> Result<()> {
        let _ = std::fs::remove_file(&self.socket);
        if let Some(parent) = self.socket.parent() {
            crate::files::create_dir(parent)?;
        }
        let listener = UnixListener::bind(&self.socket)
            .map_err(Error::io(format!("cannot listen on {}", self.socket.display())))?;
        self.task = Some(tokio::spawn(service::serve(listener, Arc::clone(&self.state))).abort_handle());
        Ok(())
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `unix://<path>`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Calls so far that lacked the security header, and were refused.
    pub fn unguarded(&self) -> u32 {
        self.state.unguarded.load(Ordering::Relaxed)
    }

    /// Streams of SVIDs so far.
    pub fn opened(&self) -> u32 {
        self.state.opened.load(Ordering::Relaxed)
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.pause();
    }
}
