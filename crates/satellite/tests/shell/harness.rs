//! A site in a temporary folder, and the program running in it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use blob_store::{Completeness, PutManifest, Store};
use oci::Digest;
use serde_json::Value;

/// Far more than anything here takes; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A manifest that needs no blob.
pub(crate) const INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Between its fork and its exec a child holds copies of this process's files, and with them the lock of a store that
/// another test has open. Opening one excludes starting children.
static CHILDREN: RwLock<()> = RwLock::new(());

pub(crate) fn spawn(command: &mut Command) -> Child {
    let _starting = CHILDREN.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// A folder with a site in it.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_dir(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The program, with nothing of this process's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_satellite"));
        command
            .args(arguments)
            .env_clear()
            .env("CONFIG_DIR", self.config_dir())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ended::of(spawn(&mut command).wait_with_output().unwrap())
    }

    /// Starts it and waits until its registry serves, on a port that the system chose.
    pub(crate) fn start(&self) -> Running {
        let mut command = self.command(&[]);
        if !self.variables.iter().any(|(name, _)| name == "REGISTRY_LISTEN") {
            command.env("REGISTRY_LISTEN", "127.0.0.1:0");
        }
        let mut child = spawn(command.stderr(Stdio::piped()).stdout(Stdio::null()));
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running =
            Running { child, lines, seen: String::new(), address: "0.0.0.0:0".parse().unwrap() };
        let line = running.log("local registry serves");
        running.address = line["address"].as_str().unwrap().parse().unwrap();
        running
    }

    /// Asks the running one as JSON, whatever its exit code.
    pub(crate) fn ask(&self, what: &str) -> Value {
        let ended = self.run(&[what, "--json"]);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// Asks for the status until there is one as wanted.
    pub(crate) fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.run(&["status", "--json"]);
            match serde_json::from_str(&ended.stdout) {
                Ok(status) if wanted(&status) => return status,
                _ => assert!(Instant::now() < end, "{ended:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Puts [`INDEX`] into the store of a satellite that does not run.
    pub(crate) fn put_index(&self, repository: &str, tag: &str) -> Digest {
        let digest = Digest::sha256(INDEX);
        let put = PutManifest {
            repository: repository.parse().unwrap(),
            digest,
            media_type: None,
            bytes: INDEX.into(),
            tags: vec![tag.parse().unwrap()],
            completeness: Completeness::VisibleHere,
        };
        self.fill(async |store| {
            store.put_manifest(put).await.unwrap();
        });
        digest
    }

    /// Puts a blob into the store of a satellite that does not run.
    pub(crate) fn put_blob(&self, repository: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::sha256(&bytes);
        let repository = repository.parse().unwrap();
        self.fill(async |store| {
            store.put_blob(&repository, &digest, bytes.into()).await.unwrap();
        });
        digest
    }

    /// Works on the store of a satellite that does not run.
    pub(crate) fn fill(&self, fill: impl AsyncFnOnce(&Store)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _no_children = CHILDREN.write().unwrap_or_else(PoisonError::into_inner);
        runtime.block_on(async {
            let store =
                Store::open(self.config_dir().join("registry"), blob_store::Options::default()).unwrap();
            fill(&store).await;
        });
    }
}

/// A program that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A program that runs; it is killed when this goes.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// The next line of the log that holds `text`.
    pub(crate) fn log(&mut self, text: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return serde_json::from_str(&line).unwrap_or(Value::String(line));
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("`{text}` is not in the log:\n{}", self.seen)
                }
            }
        }
    }

    /// Everything that was logged until its end.
    pub(crate) fn whole_log(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        self.seen.clone()
    }

    /// One request to the local registry: status and body.
    pub(crate) fn request(&self, method: &str, path: &str) -> (u16, String) {
        request(self.address, method, path)
    }

    /// Memory of its own that it holds, in KiB: what the program's file brings is not in it.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.terminate();
        self.ended()
    }

    /// The exit code, once it ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end:\n{}", self.seen)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
