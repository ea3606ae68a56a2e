//! `groundctl`: the operator's command line, a client of Ground Control's REST API and of nothing else.
//!
//! Tables for people, `--output json` for scripts. Exit codes: 0 done, 1 Ground Control refused or failed, 2 wrong usage or
//! input, 3 no such thing, 4 not logged in or not allowed, 5 conflict with what exists, 6 Ground Control cannot be reached. `diff`: 0 no
//! difference, 1 a difference, 2 it cannot be told. `rollout status`: 0 complete, 1 not complete.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on its terminal")]

mod browser;
mod cli;
mod client;
mod commands;
mod error;
mod fleet;
mod loopback;
mod patience;
mod private_file;
mod render;
mod session;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: the TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
