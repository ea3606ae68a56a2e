//! Every check of the OCI Distribution conformance categories, and of what this project promises beyond them, run
//! against any registry over HTTP.
//!
//! [`run`] takes the address, the headers that authenticate, and a [`Mode`]: a registry that may be written to is
//! tested with content made on the spot in repositories of its own; a read-only one with content that is known to be
//! in it, and by trying to write. The outcome is a [`Report`] of named checks; nothing is skipped.
//!
//! The checks know the protocol and nothing of the registry behind it. Repositories are fresh for each check, so that
//! checks do not depend on each other and a run can be repeated against the same registry.

mod blobs;
mod content;
mod discovery;
mod management;
mod manifests;
mod names;
mod ranges;
mod read_only;
mod session;
mod uploads;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use oci::{Algorithm, Digest};

pub use session::{Failure, Session};

/// Which checks are run.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Everything may be written and deleted: pull, push, discovery and management are checked.
    ReadWrite,
    /// Nothing may be written: pull and discovery of this content are checked, and that every write is refused.
    ReadOnly(KnownContent),
}

/// Content that is in a read-only registry.
#[derive(Debug, Clone)]
pub struct KnownContent {
    /// The repository.
    pub repository: String,
    /// A tag in it.
    pub tag: String,
    /// What the tag points at: an index or an image, of which everything is there.
    pub digest: Digest,
    /// Manifests that refer to `digest`, all of which have to be listed.
    pub referrers: Vec<Digest>,
}

/// The outcome of one check.
#[derive(Debug, Clone)]
pub struct CheckResult {
    /// What was checked, as a path of words.
    pub name: String,
    /// `None` where it held; else what was expected and what came.
    pub failure: Option<String>,
}

/// The outcomes of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they ran.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// The checks that did not hold.
    pub fn failures(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter().filter(|result| result.failure.is_some())
    }

    /// How many held.
    pub fn passed(&self) -> usize {
        self.results.len() - self.failures().count()
    }

    /// `Err` with the whole table unless every check held.
    ///
    /// # Errors
    /// The table, with what was expected and what came for each failure.
    pub fn into_result(self) -> Result<usize, String> {
        if self.results.is_empty() {
            return Err("no check was run".to_owned());
        }
        match self.failures().count() {
            0 => Ok(self.results.len()),
            _ => Err(self.to_string()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            match &result.failure {
                None => writeln!(f, "pass  {}", result.name)?,
                Some(why) => writeln!(f, "FAIL  {}\n      {}", result.name, why.replace('\n', "\n      "))?,
            }
        }
        writeln!(f, "{} passed, {} failed", self.passed(), self.failures().count())
    }
}

/// A check under way.
type Run<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// One line of the table.
struct Check {
    name: &'static str,
    /// Whether it is run once for each digest algorithm.
    each_algorithm: bool,
    run: for<'a> fn(&'a Session, Algorithm) -> Run<'a>,
}

/// Writes lines of the table: `each "name" => function` for both algorithms, `once "name" => function` for sha256.
macro_rules! checks {
    ($($how:ident $name:literal => $function:path),+ $(,)?) => {
        &[$($crate::conformance::Check {
            name: $name,
            each_algorithm: checks!(@ $how),
            run: |session, algorithm| Box::pin($function(session, algorithm)),
        }),+]
    };
    (@ each) => { true };
    (@ once) => { false };
}
use checks;

/// Runs every check of the mode against the registry at `base_url` (`http://host:port`), with `headers` on each request.
///
/// # Errors
/// Only where no request can be made at all, such as for a wrong address; what the registry does wrong is in the report.
pub async fn run(base_url: &str, headers: &[(&str, &str)], mode: Mode) -> Result<Report, Failure> {
    let session = Session::new(base_url, headers)?;
    session.get("/v2/").send().await?;
    let mut report = Report::default();
    match mode {
        Mode::ReadWrite => {
            let tables = [
                blobs::CHECKS,
                uploads::CHECKS,
                ranges::CHECKS,
                manifests::CHECKS,
                discovery::CHECKS,
                management::CHECKS,
                names::CHECKS,
            ];
            for check in tables.into_iter().flatten() {
                let algorithms: &[Algorithm] = match check.each_algorithm {
                    true => &[Algorithm::Sha256, Algorithm::Sha512],
                    false => &[Algorithm::Sha256],
                };
                for algorithm in algorithms {
                    let name = match check.each_algorithm {
                        true => format!("{} ({algorithm})", check.name),
                        false => check.name.to_owned(),
                    };
                    let failure =
                        (check.run)(&session, *algorithm).await.err().map(|failure| failure.to_string());
                    report.results.push(CheckResult { name, failure });
                }
            }
        }
        Mode::ReadOnly(known) => read_only::run(&session, &known, &mut report).await,
    }
    Ok(report)
}
