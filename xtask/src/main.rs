//! What people and continuous integration run: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench`, `cargo xtask fleet`,
//! `cargo xtask dist`.
//!
//! Every task starts real processes; none of them outlives the task, however it ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]

mod bench;
mod build;
mod demo;
mod dist;
mod error;
mod fleet;
mod machine;
mod orphans;
mod packages;
mod progress;
mod shipped;
mod suites;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the whole system on this machine: push an image, replicate it, pull it with the cloud gone.
    Demo(demo::Arguments),
    /// Run all tests, or the named suites. Ends with `N passed, N failed, N skipped`.
    Test(test::Arguments),
    /// Measure speed, memory and traffic beside other registries.
    Bench(bench::Options),
    /// Run a simulated fleet against Ground Control, and measure what it costs.
    Fleet(fleet::Options),
    /// Make what is shipped: static programs, container images, Debian packages.
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    // The provider that every TLS client of the process uses; a second installation is refused and harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    orphans::adopt();
    // The benchmarks' clients need more than one thread to keep a server busy.
    let mut builder = match &cli.task {
        Task::Bench(_) | Task::Fleet(_) => tokio::runtime::Builder::new_multi_thread(),
        Task::Demo(_) | Task::Test(_) | Task::Dist(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let task = async {
            match cli.task {
                Task::Demo(arguments) => Box::pin(demo::run(arguments)).await.map(|()| ExitCode::SUCCESS),
                Task::Test(arguments) => Box::pin(test::run(arguments)).await,
                Task::Dist(arguments) => dist::run(&arguments),
                Task::Bench(options) => {
                    bench::run(&options).await.map(|()| ExitCode::SUCCESS).map_err(error::Error::from)
                }
                Task::Fleet(options) => Box::pin(fleet::run(&options))
                    .await
                    .map(|()| ExitCode::SUCCESS)
                    .map_err(error::Error::from),
            }
        };
        tokio::select! {
            result = task => result.unwrap_or_else(|error| {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }),
            signal = orphans::interrupted() => {
                eprintln!("interrupted: ending what was started");
                ExitCode::from(signal)
            }
        }
    });
    drop(runtime);
    orphans::end();
    code
}
