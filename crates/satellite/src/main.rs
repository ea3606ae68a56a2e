//! The `satellite` program: see the library of the same name.

use std::process::ExitCode;

use satellite::config::{ConfigError, Environment, Invocation, load};
use satellite::{commands, in_root, node_agent, run};

fn main() -> ExitCode {
    if let Some(code) = in_root::answer(std::env::args_os()) {
        return code;
    }
    // Fails only if a provider is there already, which nobody installs before this line.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    // Before the environment is read, which may hold a token or a password.
    let left_open = run::harden();
    let invocation =
        Environment::of_process().and_then(|environment| load::parse(std::env::args_os(), &environment));
    match invocation {
        Ok(Invocation::Run(site)) if site.runtimes.only_mirrors => commands::only_mirrors(&site),
        Ok(Invocation::Run(mut site)) => {
            site.warnings.extend(left_open);
            run::run(*site)
        }
        Ok(Invocation::Mirrors(action)) => commands::mirrors(&action),
        Ok(Invocation::Ca { action, config_dir }) => commands::ca(&action, &config_dir),
        Ok(Invocation::Accounts(action)) => commands::accounts(&action),
        Ok(Invocation::Export(job)) => commands::export(&job),
        Ok(Invocation::NodeAgent(flags)) => {
            drop(left_open);
            node_agent::run(*flags)
        }
        Ok(Invocation::Ask { command, control_socket }) => commands::ask(&command, &control_socket),
        Err(ConfigError::Answer(text)) => {
            commands::print(&text);
            ExitCode::SUCCESS
        }
        Err(error @ ConfigError::Usage(_)) => {
            commands::complain(&format!("satellite: {error}"));
            ExitCode::from(2)
        }
    }
}
