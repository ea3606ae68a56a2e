//! What each command does.

mod audit;
mod configs;
mod fleet;
mod groups;
mod login;
mod registration;
mod rollout;
mod satellites;
mod spire;
mod status;
mod tokens;
mod users;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use secrecy::SecretString;
use serde_json::Value;

use crate::cli::{Cli, Command, Rollout};
use crate::client::Client;
use crate::error::Error;

/// The most bytes of a file that is applied.
const MAX_FILE: u64 = 16 << 20;

/// Runs one command; its exit code is one where the answer itself is a no.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let output = cli.output;
    let connection = &cli.connection;
    match cli.command {
        Command::Diff(diff) => {
            let differs = fleet::diff(connection, output, &diff).await;
            return differs.map(ExitCode::from).map_err(|error| Error::NoDifference(Box::new(error)));
        }
        Command::Rollout(Rollout::Status(status)) => {
            return rollout::status(&Client::logged_in(connection)?, output, &status)
                .await
                .map(ExitCode::from);
        }
        Command::Audit(audit) => audit::run(&Client::logged_in(connection)?, output, &audit).await,
        Command::Apply(apply) => fleet::apply(&Client::logged_in(connection)?, output, &apply).await,
        Command::Export(export) => fleet::export(&Client::logged_in(connection)?, output, &export).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "groundctl", &mut std::io::stdout());
            Ok(())
        }
        Command::Login(login) => login::login(connection, output, &login).await,
        Command::Whoami => login::whoami(&Client::logged_in(connection)?, output).await,
        Command::Logout => login::logout(connection, output).await,
        Command::Status => status::status(&Client::logged_in(connection)?, output).await,
        Command::Satellites(command) => {
            satellites::run(&Client::logged_in(connection)?, output, command).await
        }
        Command::Groups(command) => groups::run(&Client::logged_in(connection)?, output, command).await,
        Command::Configs(command) => configs::run(&Client::logged_in(connection)?, output, command).await,
        Command::Users(command) => users::run(&Client::logged_in(connection)?, output, command).await,
        Command::Tokens(command) => tokens::run(&Client::logged_in(connection)?, output, command).await,
        Command::Spire(command) => spire::run(&Client::logged_in(connection)?, output, command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a YAML or JSON file, `-` being standard input.
fn read_document(path: &Path) -> Result<Value, Error> {
    let text = read_text(path)?;
    serde_saphyr::from_str(&text).map_err(|error| Error::Input(format!("{}: {error}", path.display())))
}

/// Reads a secret from a file, or asks for it on the terminal.
fn read_secret(file: Option<&Path>, question: &str) -> Result<SecretString, Error> {
    let text = match file {
        Some(path) => read_text(path)?,
        None => rpassword::prompt_password(question)
            .map_err(Error::io("the password cannot be read from the terminal; name a file instead"))?,
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Error::Input("the password is empty".to_owned()));
    }
    Ok(text.to_owned().into())
}

fn read_text(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let failed = || Error::io(format!("{} cannot be read", path.display()));
    let reader: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(failed())?),
    };
    reader.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed())?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::Input(format!("{} has more than {MAX_FILE} bytes", path.display())));
    }
    Ok(text)
}
