//! The platforms that programs are shipped for, and what each is called by compilers, Debian and registries.

use clap::ValueEnum;
use serde_json::{Value, json};

/// A platform: always Linux, always static with musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Platform {
    /// 64-bit x86.
    Amd64,
    /// 64-bit Arm.
    Arm64,
    /// 32-bit Arm with hardware floating point, such as a Raspberry Pi 2.
    Armv7,
}

impl Platform {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Amd64, Self::Arm64, Self::Armv7];

    /// The one that this machine's programs are compiled for, where it is one of ours.
    pub(crate) fn of_this_machine() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Some(Self::Amd64),
            ("linux", "aarch64") => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Its name in file names and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armv7 => "armv7",
        }
    }

    /// The compiler's target.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
            Self::Armv7 => "armv7-unknown-linux-musleabihf",
        }
    }

    /// Debian's architecture.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// `architecture`, `os` and `variant` of an image (OCI image-spec, image-index.md).
    pub(crate) fn oci(self) -> Value {
        match self {
            Self::Amd64 => json!({"architecture": "amd64", "os": "linux"}),
            Self::Arm64 => json!({"architecture": "arm64", "os": "linux", "variant": "v8"}),
            Self::Armv7 => json!({"architecture": "arm", "os": "linux", "variant": "v7"}),
        }
    }

    /// `e_machine` of its programs (the ELF header).
    pub(crate) fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
            Self::Armv7 => 40,
        }
    }

    /// How QEMU calls the machine.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
            Self::Armv7 => "arm",
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
