//! The Go program beside this crate (`go/`): an independent implementation of SPIFFE to talk to, as the client and as
//! the server of mTLS, and as a user of the Workload API.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::{Error, Result, go_build};

/// How long the peer may take for one line. The first one waits for a connection to the Workload API.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the peer's own identity comes from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A Workload API (`unix://…`).
    Socket(&'a str),
    /// A folder with `svid.pem`, `key.pem` and `bundle.pem`.
    Files(&'a Path),
}

/// A running peer. It ends with its handle.
#[derive(Debug)]
pub struct GoPeer {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl GoPeer {
    /// Tells every X.509 context of a Workload API.
    pub async fn watch(socket: &str) -> Result<Self> {
        Self::start(&["watch", "-socket", socket]).await
    }

    /// A client that gets `url` from a server with the SPIFFE ID `authorize`, once for each [`GoPeer::request`].
    pub async fn client(source: &Source<'_>, url: &str, authorize: &str) -> Result<Self> {
        let (flag, value) = source.flag();
        Self::start(&["client", flag, &value, "-url", url, "-authorize", authorize]).await
    }

    /// A server for clients with the SPIFFE ID `authorize`; gives its `host:port`, too.
    pub async fn server(source: &Source<'_>, authorize: &str) -> Result<(Self, String)> {
        let (flag, value) = source.flag();
        let mut server = Self::start(&["server", flag, &value, "-authorize", authorize]).await?;
        let first = server.line().await?;
        let address = first["address"].as_str().map(str::to_owned);
        let address = address.ok_or_else(|| Error::Content(format!("the peer has no address: {first}")))?;
        Ok((server, address))
    }

    async fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = tokio::process::Command::new(go_build::build("go", "spiffe-peer").await?);
        command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("cannot start the Go peer"))?;
        let no_pipe = || Error::Content("the Go peer has no pipe".into());
        Ok(Self {
            input: child.stdin.take().ok_or_else(no_pipe)?,
            output: BufReader::new(child.stdout.take().ok_or_else(no_pipe)?).lines(),
            _child: child,
        })
    }

    /// The next thing that it tells.
    pub async fn line(&mut self) -> Result<Value> {
        let late = || Error::Late {
            what: "a line of the Go peer".into(),
            seconds: LIMIT.as_secs(),
            log: String::new(),
        };
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await.map_err(|_| late())?;
        let line = line.map_err(Error::io("cannot read from the Go peer"))?.ok_or_else(|| Error::Ended {
            program: "the Go peer".into(),
            status: "end of output".into(),
            log: String::new(),
        })?;
        serde_json::from_str(&line).map_err(|_| Error::Content(format!("the Go peer said `{line}`")))
    }

    /// One request of a client, on a connection of its own, and what became of it.
    pub async fn request(&mut self) -> Result<Value> {
        self.input.write_all(b"\n").await.map_err(Error::io("cannot write to the Go peer"))?;
        self.line().await
    }
}

impl Source<'_> {
    fn flag(&self) -> (&'static str, String) {
        match self {
            Self::Socket(socket) => ("-socket", (*socket).to_owned()),
            Self::Files(folder) => ("-files", folder.display().to_string()),
        }
    }
}
