//! Facts about the machine that stay when everything else is reinstalled: what the sealed state is bound to.
//!
//! Everything is read below two roots, so that tests can describe any machine with a folder. Nothing here fails: a fact
//! that cannot be read is a fact that is not there.

use std::fs;
use std::path::{Path, PathBuf};

/// More candidates than this of one kind are not looked at: each costs one key derivation when a part was replaced.
const MAX_CANDIDATES: usize = 4;

/// Where the facts are read.
#[derive(Debug, Clone)]
pub struct DeviceRoots {
    /// The machine id's file (`/etc/machine-id`).
    pub machine_id: PathBuf,
    /// The kernel's device tree (`/sys`).
    pub sys: PathBuf,
}

impl Default for DeviceRoots {
    fn default() -> Self {
        Self { machine_id: PathBuf::from("/etc/machine-id"), sys: PathBuf::from("/sys") }
    }
}

/// A part of the machine that can be told apart from another of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The kernel's name for it (`eth0`, `nvme0n1`): a hint for which one to try first, no secret.
    pub name: String,
    /// What identifies it: a MAC address, a serial number.
    pub identity: String,
}

/// What this machine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFacts {
    /// `/etc/machine-id`, where there is one.
    pub machine_id: Option<String>,
    /// Physical network interfaces, whether up or not, in the order of their names.
    pub interfaces: Vec<Part>,
    /// Built-in disks with a serial number, in the order of their names.
    pub disks: Vec<Part>,
    /// What the deployed satellite's key is made of, for reading its file once.
    pub field: FieldFacts,
}

/// The facts as the deployed Go satellite picks them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldFacts {
    /// MAC of the first interface that is up and no loopback.
    pub first_mac: Option<String>,
    /// The first disk serial under `/sys/class/block/*/device/serial`.
    pub first_serial: Option<String>,
}

impl DeviceFacts {
    /// Reads them below `roots`.
    #[must_use]
    pub fn read(roots: &DeviceRoots) -> Self {
        Self {
            machine_id: machine_id(&roots.machine_id),
            interfaces: interfaces(&roots.sys),
            disks: disks(&roots.sys),
            field: FieldFacts { first_mac: field_mac(&roots.sys), first_serial: field_serial(&roots.sys) },
        }
    }
}

fn machine_id(path: &Path) -> Option<String> {
    // An image that was not booted yet says "uninitialized" (machine-id(5)): the same word on every machine.
    line(path).filter(|id| id != "uninitialized")
}

fn interfaces(sys: &Path) -> Vec<Part> {
    let mut found: Vec<Part> = entries(&sys.join("class/net"))
        .into_iter()
        .filter_map(|(name, path)| {
            // Bridges, tunnels and virtual pairs have no device behind them and come and go.
            fs::symlink_metadata(path.join("device")).ok()?;
            // 1 is a random address, 2 one taken from another interface: neither survives a reboot.
            if matches!(line(&path.join("addr_assign_type")).as_deref(), Some("1" | "2")) {
                return None;
            }
            let identity = line(&path.join("address"))?.to_ascii_lowercase();
            real_mac(&identity).then_some(Part { name, identity })
        })
        .collect();
    found.truncate(MAX_CANDIDATES);
    found
}

fn disks(sys: &Path) -> Vec<Part> {
    let mut found: Vec<Part> = entries(&sys.join("class/block"))
        .into_iter()
        .filter(|(name, _)| is_disk_name(name))
        .filter_map(|(name, path)| {
            if fs::symlink_metadata(path.join("partition")).is_ok() {
                return None;
            }
            if line(&path.join("removable")).as_deref() == Some("1") {
                return None;
            }
            // NVMe and SCSI below the device, virtio beside it, SD and eMMC as their card id.
            let identity = ["device/serial", "serial", "device/cid", "device/wwid", "wwid"]
                .iter()
                .find_map(|file| line(&path.join(file)))?;
            Some(Part { name, identity })
        })
        .collect();
    found.truncate(MAX_CANDIDATES);
    found
}

fn field_mac(sys: &Path) -> Option<String> {
    let mut up: Vec<(u32, String)> = entries(&sys.join("class/net"))
        .into_iter()
        .filter_map(|(_, path)| {
            let flags = line(&path.join("flags"))?;
            let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
            const UP: u32 = 1;
            const LOOPBACK: u32 = 8;
            if flags & UP == 0 || flags & LOOPBACK != 0 {
                return None;
            }
            let index = line(&path.join("ifindex"))?.parse().ok()?;
            let mac = line(&path.join("address")).filter(|mac| !mac.is_empty())?;
            Some((index, mac.to_ascii_lowercase()))
        })
        .collect();
    up.sort();
    up.into_iter().next().map(|(_, mac)| mac)
}

fn field_serial(sys: &Path) -> Option<String> {
    // The order of its glob patterns, then of the names each matches.
    let all = entries(&sys.join("class/block"));
    ["sd", "nvme", "vd", "mmcblk"].iter().find_map(|prefix| {
        all.iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .find_map(|(_, path)| line(&path.join("device/serial")))
    })
}

fn is_disk_name(name: &str) -> bool {
    ["sd", "nvme", "vd", "mmcblk", "hd", "xvd"].iter().any(|prefix| name.starts_with(prefix))
}

fn real_mac(mac: &str) -> bool {
    mac.len() >= 17
        && mac.bytes().any(|byte| byte.is_ascii_hexdigit() && byte != b'0')
        && mac != "ff:ff:ff:ff:ff:ff"
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(String, PathBuf)> = listing
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    found.sort();
    found
}

fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.lines().next()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's fixture need not be durable")]
        fs::write(path, text).unwrap();
    }

    fn roots(root: &Path) -> DeviceRoots {
        DeviceRoots { machine_id: root.join("etc/machine-id"), sys: root.join("sys") }
    }

    #[test]
    fn nothing_is_there_in_an_empty_container() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(DeviceFacts::read(&roots(folder.path())), DeviceFacts::default());
    }

    #[test]
    fn an_image_that_never_booted_has_no_machine_id() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "etc/machine-id", "uninitialized\n");
        assert_eq!(DeviceFacts::read(&roots(folder.path())).machine_id, None);
    }

    #[test]
    fn only_physical_interfaces_count_whether_up_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let net = |file: &str, text: &str| write(folder.path(), &format!("sys/class/net/{file}"), text);
        net("lo/address", "00:00:00:00:00:00");
        net("docker0/address", "02:42:00:00:00:01");
        net("eth1/device/vendor", "x");
        net("eth1/address", "AA:bb:cc:00:00:02");
        net("eth1/flags", "0x1002");
        net("wlan0/device/vendor", "x");
        net("wlan0/address", "aa:bb:cc:00:00:03");
        net("wlan0/addr_assign_type", "1");
        let facts = DeviceFacts::read(&roots(folder.path()));
        assert_eq!(facts.interfaces, [Part { name: "eth1".into(), identity: "aa:bb:cc:00:00:02".into() }]);
    }

    #[test]
    fn only_built_in_disks_with_a_serial_count() {
        let folder = tempfile::tempdir().unwrap();
        let block = |file: &str, text: &str| write(folder.path(), &format!("sys/class/block/{file}"), text);
        block("loop0/size", "1");
        block("nvme0n1/device/serial", " S1 \n");
        block("nvme0n1p1/partition", "1");
        block("nvme0n1p1/device/serial", "S1");
        block("sda/removable", "1");
        block("sda/device/serial", "STICK");
        block("vda/serial", "V1");
        let facts = DeviceFacts::read(&roots(folder.path()));
        let found: Vec<(&str, &str)> =
            facts.disks.iter().map(|d| (d.name.as_str(), d.identity.as_str())).collect();
        assert_eq!(found, [("nvme0n1", "S1"), ("vda", "V1")]);
        assert_eq!(facts.field.first_serial.as_deref(), Some("STICK"));
    }

    #[test]
    fn the_deployed_key_takes_the_first_interface_that_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let net = |file: &str, text: &str| write(folder.path(), &format!("sys/class/net/{file}"), text);
        for (name, index, flags, mac) in [
            ("lo", "1", "0x9", "00:00:00:00:00:00"),
            ("eth0", "2", "0x1002", "aa:00:00:00:00:01"),
            ("br0", "9", "0x1003", "aa:00:00:00:00:02"),
            ("wlan0", "3", "0x1003", "aa:00:00:00:00:03"),
        ] {
            net(&format!("{name}/ifindex"), index);
            net(&format!("{name}/flags"), flags);
            net(&format!("{name}/address"), mac);
        }
        assert_eq!(
            DeviceFacts::read(&roots(folder.path())).field.first_mac.as_deref(),
            Some("aa:00:00:00:00:03")
        );
    }
}
