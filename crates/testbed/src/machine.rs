//! A machine of a test's own: process, mount and network namespaces, in which runtimes run with the paths that they have
//! on a real one.
//!
//! The test program runs itself once more in them. There `/etc`, `/root`, `/opt`, `/usr/local` and `/var/lib` are overlays
//! that go with the test, `/run` is empty, and the network is loopback alone: what is pulled there was not fetched from
//! anywhere else. All that a test starts dies with its first process. Nothing of systemd or OpenRC is seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{Error, Result, command, files};

mod service;
mod tree;

pub use service::Service;
pub use tree::Tree;

/// Tells the second run of the test program which folder is its own.
const FOLDER: &str = "TESTBED_MACHINE";
const SETUP: &str = include_str!("machine/setup.sh");
/// Far more than a test takes.
const LIMIT: Duration = Duration::from_secs(280);
/// Written by a body that came to its end: a name that no test has would run none, and end well.
const DONE: &str = "done";

/// The machine that the running test has to itself.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
}

/// Whether this is the run of a test on a machine of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(FOLDER).is_some()
}

/// Runs a test's body on a machine of its own. `test` is the name of the test as the test program lists it.
///
/// # Errors
/// Where there can be no such machine, or the body failed, with what it printed.
pub fn alone(test: &str, body: impl AsyncFnOnce(Machine)) -> Result<()> {
    alone_with(test, &[], body)
}

/// Like [`alone`], with the programs in these folders in the place of the machine's of the same names.
///
/// # Errors
/// Likewise.
pub fn alone_with(test: &str, programs: &[PathBuf], body: impl AsyncFnOnce(Machine)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("cannot start a runtime"))?;
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        runtime.block_on(body(Machine { folder: folder.clone() }));
        return files::write(&folder.join(DONE), "");
    }
    runtime.block_on(again(test, programs))
}

/// The outer half: the test program once more, in namespaces.
async fn again(test: &str, programs: &[PathBuf]) -> Result<()> {
    command::need_root("a machine of its own")?;
    command::need("busybox", "busybox-static")?;
    let folder = files::scratch("m")?;
    let own = std::env::current_exe().map_err(Error::io("the test program is not to be found"))?;
    let mut unshare = Command::new(command::need("unshare", "util-linux")?);
    unshare
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ])
        .args(["sh", "-c", SETUP, "machine"])
        .arg(folder.path())
        .arg(programs.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":"))
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder.path())
        .env("RUST_BACKTRACE", "0")
        .env("HOME", "/root")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_RUNTIME_DIR");
    let log = folder.path().join("log");
    let status = Process::spawn("the machine", unshare, &log)?.ended(LIMIT).await?;
    if status.success() && folder.path().join(DONE).is_file() {
        return Ok(());
    }
    // The runner counts such lines.
    let said = files::tail(&log, 60).replace("test result:", "its result:");
    Err(Error::Content(format!("{test} on a machine of its own ({status}):\n{said}")))
}

/// A small file system, which goes with the machine.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Gives it another size.
    ///
    /// # Errors
    /// Where it cannot have that.
    pub async fn resize(&self, mebibytes: u64) -> Result<()> {
        self.mount(&format!("remount,size={mebibytes}m")).await
    }

    async fn mount(&self, options: &str) -> Result<()> {
        let mut mount = Command::new("busybox");
        mount.args(["mount", "-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.place);
        command::run(mount).await.map(drop)
    }
}

impl Machine {
    /// A folder that goes with the machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the folders hold in which runtimes are configured, byte for byte.
    pub fn configuration(&self) -> Tree {
        let mut tree = Tree::of(&["/etc", "/root/.config/containers", "/root/.docker"]);
        // Whoever owns this machine works in root's home meanwhile; of it counts what is there, and not what it holds.
        tree.names_in(&["/root", "/root/.config"]);
        tree
    }

    /// A file system in memory of so many MiB at a folder, which is made.
    ///
    /// # Errors
    /// Where it cannot be mounted.
    pub async fn disk(&self, place: &Path, mebibytes: u64) -> Result<Disk> {
        files::create_dir(place)?;
        let disk = Disk { place: place.to_owned() };
        disk.mount(&format!("size={mebibytes}m")).await?;
        Ok(disk)
    }

    /// A program that is run in the background, ended and started again as a service of the machine.
    ///
    /// # Errors
    /// Where its files cannot be written.
    pub fn service(
        &self,
        name: &str,
        command: &[&str],
        environment: &BTreeMap<String, String>,
    ) -> Result<Service> {
        Service::new(&self.folder, name, command, environment)
    }
}
