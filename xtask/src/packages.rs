//! Debian packages that suites need.

use std::process::Command;

use crate::machine;

/// A program and the package that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The program, or an absolute path of a file or folder.
    pub(crate) program: &'static str,
    /// The Debian package.
    pub(crate) package: &'static str,
}

impl Needed {
    fn is_there(self) -> bool {
        if self.program.starts_with('/') {
            return std::path::Path::new(self.program).try_exists().unwrap_or(false);
        }
        testbed::command::find(self.program).is_some()
    }
}

/// Installs what is missing of these; otherwise says why it cannot be had.
pub(crate) fn ensure(needed: &[Needed]) -> Result<(), String> {
    let missing = || -> Vec<&str> {
        let mut packages: Vec<_> = needed.iter().filter(|n| !n.is_there()).map(|n| n.package).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !machine::can_install() {
        return Err(format!("not installed: {list} (as root on Debian they would be installed now)"));
    }
    println!("installing {list}");
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&packages);
    // Lists of packages may be old or absent: they are fetched only where the first try fails.
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if !installed {
        return Err(format!("apt-get could not install {list}"));
    }
    match missing() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("still missing after the installation: {}", left.join(" "))),
    }
}
