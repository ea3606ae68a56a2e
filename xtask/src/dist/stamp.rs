//! What a package says of its origin. It comes from the sources alone, so that the same sources give the same bytes.

use std::process::Command;

use crate::build;

/// Version, time and revision of what is packed.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// The workspace's version.
    pub(crate) version: &'static str,
    /// Seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit's time, else 0.
    pub(crate) time: u64,
    /// The commit, where the sources are a checkout.
    pub(crate) revision: Option<String>,
}

impl Stamp {
    /// The stamp of these sources.
    pub(crate) fn of_sources() -> Self {
        let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time: given
                .or_else(|| git(&["log", "-1", "--format=%ct"]).and_then(|text| text.parse().ok()))
                .unwrap_or(0),
            revision: git(&["rev-parse", "HEAD"]),
        }
    }

    /// Its time as RFC 3339 has it.
    pub(crate) fn time_text(&self) -> String {
        let seconds = i64::try_from(self.time).unwrap_or(0);
        jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(build::workspace()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
