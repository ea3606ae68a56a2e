//! A SPIRE server as far as its administrators see it: join tokens, agents, entries and the bundle, over a Unix socket
//! and over TCP.
//!
//! It is stricter than a server has to be (a field that it does not know is an error, so that a misspelt tag is seen) and
//! otherwise says what a real 1.16 says, in its words. A test plays the agents: [`SpireStandIn::attest_with_token`],
//! [`SpireStandIn::attest`]; and asks what an agent would be given: [`SpireStandIn::entries_for`].

mod codec;
mod rules;
mod service;
mod state;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::{Identity, TrustDomain};
use spire::types::{Agent, Entry};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;
use tonic::{Code, Status};

use crate::authority::Authority;
use crate::{Error, Result, files};
use state::State;

type Shared = Arc<Mutex<State>>;

/// A running stand-in; it ends with its handle.
#[derive(Debug)]
pub struct SpireStandIn {
    socket: PathBuf,
    state: Shared,
    unix: Option<AbortHandle>,
    tcp: Vec<AbortHandle>,
}

/// Where the stand-in listens for administrators with an SVID.
#[derive(Debug)]
pub struct TcpSide {
    /// Its address.
    pub address: SocketAddr,
    keeper: identity::IdentityKeeper,
}

impl TcpSide {
    /// From the next handshake on the server shows a fresh SVID and trusts what the authority's bundle holds now.
    pub fn renew(&self, authority: &Authority, path: &str) -> Result<()> {
        let (svid, bundle) = parsed(authority, path)?;
        self.keeper.set(svid, bundle);
        Ok(())
    }
}

impl SpireStandIn {
    /// Starts one for the authority's trust domain, on a socket below a folder that the caller keeps.
    pub fn start(folder: &Path, authority: &Authority) -> Result<Self> {
        files::create_dir(folder)?;
        let state = State::new(authority.trust_domain(), authority.certificates().to_vec());
        let socket = folder.join("server.sock");
        let mut server = Self { socket, state: Arc::new(Mutex::new(state)), unix: None, tcp: Vec::new() };
        server.resume()?;
        Ok(server)
    }

    /// The server is gone: connections break, the socket too.
    pub fn pause(&mut self) {
        if let Some(task) = self.unix.take() {
            task.abort();
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// The server is back, with all it knew.
    pub fn resume(&mut self) -> Result<()> {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket)
            .map_err(Error::io(format!("cannot listen on {}", self.socket.display())))?;
        self.unix = Some(tokio::spawn(service::serve_unix(listener, Arc::clone(&self.state))).abort_handle());
        Ok(())
    }

    /// Listens on a port of 127.0.0.1 too. There only these SPIFFE IDs are administrators.
    pub async fn listen(&mut self, authority: &Authority, admins: &[&str]) -> Result<TcpSide> {
        self.state().admins = admins.iter().map(|id| (*id).to_owned()).collect();
        let (keeper, own) = identity::identity();
        let (svid, bundle) = parsed(authority, "/spire/server")?;
        keeper.set(svid, bundle);
        let (address, task) = self.accept(own).await?;
        self.tcp.push(task);
        Ok(TcpSide { address, keeper })
    }

    async fn accept(&self, own: Identity) -> Result<(SocketAddr, AbortHandle)> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("cannot listen on 127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::io("no local address"))?;
        let config = identity::tls::server_config(&own, &[b"h2"]).map_err(bad)?;
        let task = tokio::spawn(service::serve_tls(listener, Arc::new(config), Arc::clone(&self.state)));
        Ok((address, task.abort_handle()))
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// An agent comes with a join token, and gives its name.
    pub fn attest_with_token(&self, token: &str) -> Result<String, Status> {
        self.state().attest_with_token(token)
    }

    /// An agent comes with another proof, which shows these selectors (`type:value`); it may come again.
    pub fn attest(&self, method: &str, proof: &str, selectors: &[&str]) -> Result<String, Status> {
        self.state().attest(method, proof, selectors)
    }

    /// The SVID of an agent ends at this second.
    pub fn expire(&self, agent: &str, at: i64) {
        self.state().expire(agent, at);
    }

    /// All entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.values().cloned().collect()
    }

    /// An entry that somebody else makes.
    pub fn add_entry(&self, entry: Entry) -> Result<Entry, Status> {
        self.state().create_entry(&entry).map(|(entry, _)| entry)
    }

    /// All agents.
    pub fn agents(&self) -> Vec<Agent> {
        self.state().agents.values().cloned().collect()
    }

    /// The identities that an agent may serve: those of entries below its own name, and below every name that entries
    /// give it. A banned one gets nothing.
    pub fn entries_for(&self, agent: &str) -> Vec<String> {
        self.state().authorized(agent)
    }

    /// The calls so far, by name, in their order.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The connections so far that were accepted over TCP.
    pub fn handshakes(&self) -> u32 {
        self.state().handshakes
    }

    /// The next calls of this name are refused with these codes, one after the other.
    pub fn fail(&self, call: &str, codes: &[Code]) {
        let failures = codes.iter().map(|code| (call.to_owned(), *code));
        self.state().failures.extend(failures);
    }

    /// Calls of this name are never answered.
    pub fn hang(&self, call: &str) {
        self.state().silent.insert(call.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpireStandIn {
    fn drop(&mut self) {
        self.pause();
        self.tcp.iter().for_each(AbortHandle::abort);
    }
}

fn parsed(authority: &Authority, path: &str) -> Result<(identity::Svid, identity::TrustBundle)> {
    let issued = authority.issue(path)?;
    let svid = identity::Svid::from_pem(&issued.certificate_pem(), &issued.key_pem()).map_err(bad)?;
    let domain: TrustDomain = authority.trust_domain().parse().map_err(bad)?;
    let bundle = identity::TrustBundle::from_pem(domain, &authority.bundle_pem()).map_err(bad)?;
    Ok((svid, bundle))
}

fn bad(error: impl std::fmt::Display) -> Error {
    Error::Content(error.to_string())
}
