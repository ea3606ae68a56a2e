//! `satellites register` and `satellites enable`: what hands a site its one-time token.
//!
//! The token is known this once. So the files that are to hold it are prepared before Ground Control is asked, and a token
//! that went into a file is not shown.

use std::path::PathBuf;

use fleet_protocol::api::{NewSatelliteAnswer, RegisterSatellite, RegisteredSatellite};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::cli::{Handover, Output, Register};
use crate::client::Client;
use crate::error::Error;
use crate::private_file::PrivateFile;
use crate::render;

/// The files that were asked for, ready to be written.
struct Files {
    token: Option<PrivateFile>,
    bundle: Option<PrivateFile>,
}

impl Files {
    fn prepare(handover: &Handover) -> Result<Self, Error> {
        let prepare = |path: &Option<PathBuf>| path.as_deref().map(PrivateFile::prepare).transpose();
        Ok(Self { token: prepare(&handover.join_token_file)?, bundle: prepare(&handover.trust_bundle_file)? })
    }
}

/// Writes a text into the file that was prepared for it, and gives where it is.
fn put(file: Option<PrivateFile>, text: &str) -> Result<Option<PathBuf>, Error> {
    let Some(file) = file else { return Ok(None) };
    let path = file.path().to_owned();
    file.keep(text.as_bytes())?;
    Ok(Some(path))
}

/// A registration and where its parts went.
#[derive(Serialize)]
struct Registered {
    #[serde(flatten)]
    answer: RegisteredSatellite,
    join_token_file: Option<PathBuf>,
    trust_bundle_file: Option<PathBuf>,
}

/// A satellite without a SPIFFE identity that is let in again.
#[derive(Serialize)]
struct Enabled {
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// What `enable` is answered with: as `register` for a SPIFFE identity, as `create` otherwise.
#[derive(Deserialize)]
#[serde(untagged)]
enum EnableAnswer {
    Registration(Box<RegisteredSatellite>),
    Token(NewSatelliteAnswer),
}

pub(crate) async fn register(client: &Client, output: Output, register: Register) -> Result<(), Error> {
    let files = Files::prepare(&register.handover)?;
    let request = RegisterSatellite {
        satellite_name: register.name,
        region: register.region,
        selectors: register.selectors,
        attestation_method: register.attestation_method,
        ttl_seconds: register.ttl,
        parent_agent_id: register.parent_agent,
        groups: (!register.groups.is_empty()).then_some(register.groups),
        config_name: register.config,
    };
    let path = ["api", "satellites", "register"];
    let answer: RegisteredSatellite = client.make(&path, Some(&request), None).await?;
    show_registration(output, answer, files)
}

pub(crate) async fn enable(
    client: &Client,
    output: Output,
    name: &str,
    handover: Handover,
) -> Result<(), Error> {
    let files = Files::prepare(&handover)?;
    let path = ["api", "satellites", name, "enable"];
    match client.make(&path, None::<&()>, None).await? {
        EnableAnswer::Registration(answer) => show_registration(output, *answer, files),
        EnableAnswer::Token(answer) => {
            let token_file = put(files.token, &answer.token)?;
            let enabled = Enabled { token: token_file.is_none().then_some(answer.token), token_file };
            render::show(output, &enabled, |enabled| {
                render::record([
                    ("Satellite", name.to_owned()),
                    ("Token", shown(enabled.token.as_deref(), enabled.token_file.as_ref())),
                    ("Use", "give it to the satellite as TOKEN within 24 hours; it works once".to_owned()),
                ])
            })
        }
    }
}

fn show_registration(output: Output, mut answer: RegisteredSatellite, files: Files) -> Result<(), Error> {
    let trust_bundle_file = put(files.bundle, &answer.trust_bundle)?;
    let mut join_token_file = None;
    if let Some(token) = &answer.join_token {
        join_token_file = put(files.token, token.expose_secret())?;
        if join_token_file.is_some() {
            answer.join_token = None;
        }
    }
    let bundle = trust_bundle_file.is_none().then(|| answer.trust_bundle.clone());
    let registered = Registered { answer, join_token_file, trust_bundle_file };
    render::show(output, &registered, record)?;
    // PEM is what it is only with its own line breaks: it stands below the table.
    if let (Output::Table, Some(bundle)) = (output, bundle) {
        println!("\n{}", bundle.trim_end());
    }
    Ok(())
}

fn record(registered: &Registered) -> comfy_table::Table {
    let answer = &registered.answer;
    let server = match (&answer.spire_server_address, answer.spire_server_port) {
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.clone(),
        _ => String::new(),
    };
    let token = answer.join_token.as_ref().map(ExposeSecret::expose_secret);
    let token = shown(token, registered.join_token_file.as_ref());
    let ends = answer.expires_at.filter(|_| !token.is_empty()).map(|end| end.to_string());
    render::record([
        ("Satellite", answer.satellite.clone()),
        ("Region", answer.region.clone()),
        ("SPIFFE ID", answer.spiffe_id.clone()),
        ("Agent", answer.parent_agent_id.clone()),
        ("Agent's server", server),
        ("Trust domain", answer.trust_domain.clone()),
        ("Join token", if token.is_empty() { "none: its agent attests otherwise".to_owned() } else { token }),
        ("Token ends", ends.unwrap_or_default()),
        (
            "Trust bundle",
            registered
                .trust_bundle_file
                .as_ref()
                .map_or_else(|| "below".to_owned(), |path| format!("in {}", path.display())),
        ),
    ])
}

fn shown(secret: Option<&str>, file: Option<&PathBuf>) -> String {
    match (secret, file) {
        (_, Some(path)) => format!("in {}", path.display()),
        (Some(secret), None) => secret.to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answers_to_enable_are_told_apart() {
        let token = r#"{"token":"00112233445566778899aabbccddeeff"}"#;
        assert!(matches!(serde_json::from_str(token).unwrap(), EnableAnswer::Token(_)));
        let registration = r#"{"satellite":"edge-01","region":"default","spiffe_id":"spiffe://td/satellite/region/default/edge-01",
            "parent_agent_id":"spiffe://td/agent/edge-01","join_token":null,"expires_at":null,"spire_server_address":null,
            "spire_server_port":null,"trust_domain":"td","trust_bundle":"PEM"}"#;
        assert!(matches!(serde_json::from_str(registration).unwrap(), EnableAnswer::Registration(_)));
    }
}
