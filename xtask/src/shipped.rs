//! Which programs the tests run: the static ones that packages are made of, so that what is shipped is what was tested.
//!
//! They are built beside the tests, which are this machine's own, and cost a second compilation of what the programs are
//! made of (five minutes on two cores, once). A test that moves its programs' clock loads a library into them, which no static
//! program takes: it gets them as they are compiled for this machine's C library.

use std::path::PathBuf;

use crate::build;
use crate::dist::stamp::Stamp;
use crate::dist::{self, Platform, compile};
use crate::progress::Step;
use crate::suites::Suite;

/// The suite of what is shipped.
pub(crate) const SUITE: &str = "packages";

/// Suites that start none of the programs, or only those that cargo has beside their tests.
const WITHOUT_PROGRAMS: [&str; 3] = ["unit", "store", "transfer"];

/// The built programs.
pub(crate) struct Built {
    /// Compiled for this machine's C library.
    host: PathBuf,
    /// Static, or why there are none. Nothing where no chosen suite starts them.
    fixed: Option<Result<PathBuf, String>>,
}

/// Builds the static programs, where a suite starts them.
pub(crate) fn build(host: PathBuf, suites: &[&Suite]) -> Built {
    let wanted = suites.iter().any(|suite| !WITHOUT_PROGRAMS.contains(&suite.name));
    let fixed = wanted.then(|| match Platform::of_this_machine() {
        Some(Platform::Amd64) => compile::programs(Platform::Amd64, false).map_err(|error| error.to_string()),
        _ => Err("the static programs are tested on amd64 alone".to_owned()),
    });
    if let Some(Err(reason)) = &fixed {
        println!("not the programs that are shipped are tested, but this machine's own: {reason}");
    }
    Built { host, fixed }
}

impl Built {
    /// Where packages of these programs are.
    fn packages() -> PathBuf {
        build::workspace().join("target/packages")
    }

    /// What tells tests where the programs are.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let tested = self.fixed.as_ref().and_then(|fixed| fixed.as_ref().ok()).unwrap_or(&self.host);
        [
            (testbed::binaries::BIN_DIR, tested),
            (testbed::binaries::HOST_BIN_DIR, &self.host),
            (testbed::packages::DIR, &Self::packages()),
        ]
        .map(|(name, folder)| (name.to_owned(), folder.display().to_string()))
        .to_vec()
    }

    /// Makes packages of the static programs.
    pub(crate) fn pack(&self) -> Result<(), String> {
        let folder = match &self.fixed {
            Some(Ok(folder)) => folder.clone(),
            Some(Err(reason)) => return Err(reason.clone()),
            None => return Err("its programs were not built".into()),
        };
        let step = Step::begin("packages");
        let (stamp, output) = (Stamp::of_sources(), Self::packages());
        dist::make(&[(Platform::Amd64, folder)], &output, &stamp, true).map_err(|error| error.to_string())?;
        step.done(output.display().to_string());
        Ok(())
    }
}
