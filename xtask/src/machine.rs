//! What this machine is and may do.

use std::path::Path;

/// Whether packages can be installed here: root on Debian or a descendant of it.
pub(crate) fn can_install() -> bool {
    testbed::command::is_root()
        && testbed::command::find("apt-get").is_some()
        && Path::new("/etc/debian_version").is_file()
}

/// Whether a skip counts as a failure (`CI=true`).
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
