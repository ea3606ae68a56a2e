//! `cargo xtask bench`: the figures of `docs/benchmarks.md`, each beside a peer in the same run.
//!
//! Everything is measured on the release build, as whole processes from the outside. Absolute figures belong to one
//! machine; the ratios are what a goal is set for. A goal that is missed is shown as missed.

mod fleet;
mod memory;
mod replication;
pub(crate) mod report;
mod serving;
mod site;
mod start;

use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use testbed::{Error, Result};

use report::Report;
pub(crate) use site::peak_bytes;

use crate::packages::Needed;

/// What is measured, and where the result goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure serving beside one more registry, which takes anonymous pushes: NAME=URL; may be given several times
    #[arg(long = "peer", value_name = "NAME=URL", value_parser = parse_peer)]
    peers: Vec<Peer>,
    /// Measure only what has this word in its name
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Measure the programs of this folder instead of building the release profile
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What the measures need besides the build.
const PEERS: [Needed; 4] = [
    Needed { program: "wrk", package: "wrk" },
    Needed { program: "skopeo", package: "skopeo" },
    Needed { program: "docker-registry", package: "docker-registry" },
    Needed { program: "nginx", package: "nginx-light" },
];

/// A registry to measure beside.
#[derive(Clone, Debug)]
struct Peer {
    name: String,
    url: String,
}

fn parse_peer(text: &str) -> Result<Peer, String> {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && url.starts_with("http") => {
            Ok(Peer { name: name.to_owned(), url: url.trim_end_matches('/').to_owned() })
        }
        _ => Err("write NAME=http://host:port".to_owned()),
    }
}

/// Builds the release profile, measures, prints the table and writes the JSON.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let folder = options.programs.clone().unwrap_or_else(|| target_dir().join("release"));
    if std::env::var_os(testbed::binaries::BIN_DIR).is_none_or(|dir| dir != folder) {
        if options.programs.is_none() {
            build()?;
        }
        return again_with(&folder);
    }
    crate::packages::ensure(&PEERS).map_err(Error::Content)?;
    let report = Box::pin(measure(options)).await?;
    report.print();
    match &options.json {
        Some(path) => report.write(path),
        None => Ok(()),
    }
}

async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new();
    let wanted = |name: &str| options.only.as_deref().is_none_or(|word| name.contains(word));
    if wanted("start") {
        report.section("start to first manifest served");
        report.add(start::start_to_first_manifest().await?);
    }
    if wanted("manifest") || wanted("blob") || wanted("serving") {
        report.section("serving, beside docker-registry and nginx");
        for measure in serving::serving(&options.peers).await? {
            report.add(measure);
        }
    }
    if wanted("memory") || wanted("rss") {
        report.section("memory of the satellite");
        for measure in memory::memory().await? {
            report.add(measure);
        }
    }
    if wanted("replication") {
        report.section("replication of 1 GB, beside skopeo");
        for measure in replication::replication().await? {
            report.add(measure);
        }
    }
    if wanted("fleet") || wanted("handshake") || wanted("heartbeat") {
        report.section("a fleet that comes back at once");
        for measure in fleet::fleet().await? {
            report.add(measure);
        }
    }
    Ok(report)
}

fn target_dir() -> PathBuf {
    // This program stands in `<target>/<profile>/`.
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bins"])
        .env("SQLX_OFFLINE", "true")
        .status()
        .map_err(Error::io("cannot run cargo"))?;
    if status.success() { Ok(()) } else { Err(Error::Content("the release build failed".to_owned())) }
}

/// The folder of the programs is read from the environment once: the measuring process gets it at its start.
fn again_with(folder: &std::path::Path) -> Result<()> {
    let own = std::env::current_exe().map_err(Error::io("cannot find this program"))?;
    let status = Command::new(own)
        .args(std::env::args_os().skip(1))
        .env(testbed::binaries::BIN_DIR, folder)
        .status()
        .map_err(Error::io("cannot run this program again"))?;
    if status.success() { Ok(()) } else { Err(Error::Content("the measurement failed".to_owned())) }
}
