//! Machines that are told apart by their parts, for programs that look at `/etc/machine-id` and `/sys`: each runs in a
//! mount namespace where those are what the machine has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, command, files};

/// A machine: its parts are below a folder.
#[derive(Clone, Debug)]
pub struct Hardware {
    dir: PathBuf,
}

impl Hardware {
    /// Makes a machine whose parts carry these names; two machines with different names share no part.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let number = name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
        files::write(&dir.join("machine-id"), format!("{number:032x}\n"))?;
        let mac = number.to_le_bytes();
        let mac = format!("00:16:3e:{:02x}:{:02x}:{:02x}\n", mac[0], mac[1], mac[2]);
        let interface = dir.join("sys/class/net/eth0");
        for (file, text) in [
            ("address", mac.as_str()),
            ("addr_assign_type", "0\n"),
            ("flags", "0x1003\n"),
            ("ifindex", "2\n"),
            ("device/vendor", "0x1af4\n"),
        ] {
            files::write(&interface.join(file), text)?;
        }
        let disk = dir.join("sys/class/block/nvme0n1");
        files::write(&disk.join("device/serial"), format!("SERIAL-{name}-{number:x}\n"))?;
        files::write(&disk.join("removable"), "0\n")?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The same command on this machine.
    pub fn wrap(&self, inner: Command) -> Result<Command> {
        let mut wrapped = Command::new(command::need("unshare", "util-linux")?);
        // Where root is not ours, a user namespace gives the right to mount inside it.
        wrapped.arg(if command::is_root() { "-m" } else { "-Urm" });
        // Nothing of the mount program may be replaced by what the inner environment preloads: it is set after it.
        let script = "mount --bind \"$1/machine-id\" /etc/machine-id && mount --bind \"$1/sys\" /sys && \
                      shift && exec env -i \"$@\"";
        wrapped
            .args(["sh", "-c", script, "sh"])
            .arg(&self.dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin");
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                let mut setting = OsString::from(name);
                setting.push("=");
                setting.push(value);
                wrapped.arg(setting);
            }
        }
        wrapped.arg(inner.get_program()).args(inner.get_args());
        if let Some(dir) = inner.get_current_dir() {
            wrapped.current_dir(dir);
        }
        Ok(wrapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_machines_have_no_part_in_common() {
        let dir = files::scratch("hardware").unwrap();
        let mut seen = Vec::new();
        for name in ["one", "two"] {
            let machine = Hardware::new(&dir.path().join(name), name).unwrap();
            let mut look = Command::new("cat");
            look.args([
                "/etc/machine-id",
                "/sys/class/net/eth0/address",
                "/sys/class/block/nvme0n1/device/serial",
            ]);
            look.env_clear().env("PATH", "/usr/bin:/bin");
            seen.push(command::run(machine.wrap(look).unwrap()).await.unwrap());
        }
        let parts = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (one, two) = (parts(&seen[0]), parts(&seen[1]));
        assert_eq!((one.len(), two.len()), (3, 3));
        assert!(one.iter().zip(&two).all(|(a, b)| a != b), "{one:?} {two:?}");
    }
}
