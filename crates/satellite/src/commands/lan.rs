//! `satellite ca` and `satellite accounts`: what other machines of the site need to get in.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use blob_store::durable;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{complain, print};
use crate::config::flags::lan::{AccountsAction, CaAction};
use crate::serve::accounts;
use crate::serve::local_ca::{Authorities, RotateError};

/// Certificates are for everybody.
const PUBLIC_FILE: u32 = 0o644;
/// A password is shorter.
const LONGEST_INPUT: u64 = 4096;

/// Prints the authority's certificate, or makes one for a node.
#[must_use]
pub fn ca(action: &CaAction, config_dir: &Path) -> ExitCode {
    told(answer(action, config_dir))
}

/// Prints the line of an account.
#[must_use]
pub fn accounts(action: &AccountsAction) -> ExitCode {
    let AccountsAction::Hash { name } = action;
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(LONGEST_INPUT).read_to_string(&mut text);
    let made = match read {
        Ok(_) => {
            let password = SecretString::from(text.trim_end_matches(['\n', '\r']));
            accounts::line(name, &password).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("the password cannot be read from the standard input: {error}")),
    };
    told(made.map(|line| line + "\n"))
}

fn told(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("satellite: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn answer(action: &CaAction, config_dir: &Path) -> Result<String, String> {
    if let CaAction::Rotate { finish } = action {
        return rotate(*finish, config_dir).map_err(|error| error.to_string());
    }
    let ours = Authorities::open(config_dir).map_err(|error| error.to_string())?;
    match action {
        CaAction::Rotate { .. } | CaAction::Export { out: None } => Ok(ours.bundle_pem()),
        CaAction::Export { out: Some(file) } => {
            write(file, ours.bundle_pem().as_bytes(), PUBLIC_FILE)?;
            Ok(String::new())
        }
        CaAction::Issue { name, out, life } => {
            let life = SignedDuration::try_from(*life).map_err(|_| "--life is too long".to_owned())?;
            let issued = ours
                .of_nodes()
                .issue_client(name, Timestamp::now(), life)
                .map_err(|error| error.to_string())?;
            durable::create_dir_all(out)
                .map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
            write(&out.join(format!("{name}.key")), issued.key_pem().as_bytes(), durable::PRIVATE_FILE)?;
            write(&out.join(format!("{name}.crt")), issued.certificate_pem().as_bytes(), PUBLIC_FILE)?;
            write(&out.join("ca.crt"), ours.bundle_pem().as_bytes(), PUBLIC_FILE)?;
            Ok(format!(
                "{name}.crt, {name}.key and ca.crt are in {}, good until {}\n",
                out.display(),
                issued.not_after
            ))
        }
    }
}

fn rotate(finish: bool, config_dir: &Path) -> Result<String, RotateError> {
    if finish {
        let ours = Authorities::finish(config_dir)?;
        return Ok(format!(
            "the new authority, good until {}, is the only one now: what knows or was issued by the old one is shut out\n",
            ours.not_after()
        ));
    }
    let ours = Authorities::rotate(config_dir)?;
    Ok(format!(
        "a new authority, good until {}, stands beside the old one. Give every node what `satellite ca export` prints now, \
         which is both, and a new certificate where it has one (`satellite ca issue`); then run `satellite ca rotate --finish`\n",
        ours.not_after()
    ))
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    durable::write_file(file, bytes, mode)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}
