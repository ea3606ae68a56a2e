//! A throw-away copy of this machine's system: what is installed, configured or removed there really is, and the machine
//! itself stays as it is.
//!
//! It is a mount namespace with an overlay over `/`, whose upper layer is in memory, and with a `/run`, `/tmp` and `/root` of its
//! own. A process holds it open; with that one's end, which is the end of this handle or of the test, all of it is gone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::wait_for;
use crate::{Error, Result, command, files};

/// A copy of the system.
#[derive(Debug)]
pub struct Throwaway {
    holder: Child,
    dir: tempfile::TempDir,
}

/// Where a shared folder is in the copy.
pub const SHARED: &str = "/mnt";

/// The upper layer is seen from inside, too, so that what was changed can be listed.
const UPPER: &str = "/media";

/// Mounts the copy on `$1`, the folder `$2` in it, and holds it until the standard input ends.
const SCRIPT: &str = r#"
set -e
root=$1/root
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$root" "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
for folder in run tmp root; do mount -t tmpfs -o mode=0755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mount --bind "$2" "$root/mnt"
mount --bind "$1/upper" "$root/media"
touch "$root/run/ready"
exec chroot "$root" cat
"#;

impl Throwaway {
    /// Makes a copy, with a folder of this machine in it under [`SHARED`].
    pub async fn start(shared: &Path) -> Result<Self> {
        command::need_root("a copy of the system")?;
        let dir = files::scratch("throwaway")?;
        let mut holder = Command::new(command::need("unshare", "util-linux")?);
        holder.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]);
        holder.arg(dir.path()).arg(shared).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let holder = holder.spawn().map_err(Error::io("cannot start a copy of the system"))?;
        let mut copy = Self { holder, dir };
        let ready = wait_for("a copy of the system", Duration::from_secs(20), async || {
            // Its root is the copy's from its last step on.
            let root = std::fs::read_link(format!("/proc/{}/root", copy.holder.id())).ok()?;
            (root != Path::new("/")).then_some(())
        });
        if let Err(error) = ready.await {
            let _ = copy.holder.kill();
            let mut said = String::new();
            if let Some(mut stderr) = copy.holder.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
            }
            return Err(Error::Content(format!("{error}: {said}")));
        }
        Ok(copy)
    }

    /// A command in the copy, with the environment of a person who administers it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        // `--wd` without a folder is the holder's own: a folder would be one of this machine's.
        command.args(["--mount", "--root", "--wd", "--target", &self.holder.id().to_string(), "--", program]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a command there and gives what it printed.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Error::Content("no command was given".into()))?;
        let mut command = self.command(program);
        command.args(arguments);
        command::run(command).await
    }

    /// Runs lines of shell there.
    pub async fn sh(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-ec", script]).await
    }

    /// Every path that is another one than on this machine: made, changed or, marked by `-`, removed.
    pub async fn changes(&self) -> Result<Vec<String>> {
        let script = format!(
            "cd {UPPER}; find . -type c -printf '-/%P\\n' -o ! -type d -printf '/%P\\n' -o -type d -printf '/%P/\\n'"
        );
        let mut changes: Vec<String> = self.sh(&script).await?.lines().map(str::to_owned).collect();
        changes.sort();
        Ok(changes)
    }

    /// The folder of this machine that holds the copy.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
