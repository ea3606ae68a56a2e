//! `cargo xtask bench`: figures beside other registries.

use std::path::PathBuf;

use crate::error::Result;

/// What to measure against.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A further registry to compare with.
    #[arg(long, value_name = "NAME=URL")]
    peer: Vec<String>,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let _ = arguments;
    Ok(())
}
