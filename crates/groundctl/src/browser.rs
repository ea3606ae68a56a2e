//! Opens a URL in the person's browser.

use std::process::{Command, Stdio};

use url::Url;

/// Tries `BROWSER`, then the desktop's own opener; whether one of them could be started.
pub(crate) fn open(url: &Url) -> bool {
    let chosen = std::env::var_os("BROWSER").filter(|program| !program.is_empty());
    let openers = if cfg!(target_os = "macos") { ["open"] } else { ["xdg-open"] };
    chosen.into_iter().chain(openers.map(Into::into)).any(|program| {
        // In no shell: the URL is one argument, whatever is in it.
        Command::new(program)
            .arg(url.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .is_ok()
    })
}
