//! By what the satellite identifies itself to Ground Control, and whom it takes for Ground Control.
//!
//! That is the site's own word: a remote config neither turns an identity on or off, nor says whom to trust.

use std::path::PathBuf;

use fleet_protocol::config::Spiffe;
use identity::SpiffeId;
use identity::workload_api::Endpoint;

use super::flags::Flags;

/// Where an agent of SPIRE serves the Workload API by custom.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/spire/sockets/agent.sock";

/// What the site says of its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentitySettings {
    /// Where the identity comes from.
    pub source: IdentitySource,
    /// Whom the satellite takes for Ground Control.
    pub expected_server: ExpectedServer,
}

/// Where the satellite's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdentitySource {
    /// There is none: it registers by a one-time token, and its robot account is who it is.
    #[default]
    Token,
    /// An X.509-SVID of the SPIFFE Workload API.
    WorkloadApi {
        /// `unix:///path` or `tcp://address:port` (SPIFFE Workload Endpoint, section 4).
        endpoint: String,
    },
    /// An X.509-SVID of the authority that is built into Ground Control.
    Builtin {
        /// File with a one-time join token; looked at again and again.
        join_token_file: Option<PathBuf>,
        /// File with the authorities (PEM) that Ground Control's certificate is checked against at first.
        trust_bundle_file: Option<PathBuf>,
    },
}

/// Whom the satellite takes for Ground Control.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ExpectedServer {
    /// `spiffe://<own trust domain>/gc/main`.
    #[default]
    GroundControl,
    /// Anybody of the own trust domain.
    Any,
    /// This one.
    Exactly(SpiffeId),
}

impl IdentitySettings {
    /// Whether the satellite shows an X.509-SVID.
    #[must_use]
    pub fn is_spiffe(&self) -> bool {
        self.source != IdentitySource::Token
    }
}

/// The settings of flags and environment over those of the config file, with what has to be told. `flags` are emptied of
/// what is taken here.
pub(super) fn settings(
    flags: &mut Flags,
    file: Option<Spiffe>,
) -> Result<(IdentitySettings, Vec<String>), (&'static str, String)> {
    let file = file.unwrap_or_default();
    let said = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let enabled = flags.spiffe_enabled.take().or(file.enabled).unwrap_or(false);
    let named = flags.spiffe_endpoint_socket.take();
    let mut warnings = Vec::new();
    let mut without_effect =
        |variable: &str, why: &str| warnings.push(format!("{variable} has no effect: {why}"));

    let join_token_file = flags.join_token_file.take();
    let trust_bundle_file = flags.trust_bundle_file.take();
    let source = if join_token_file.is_some() || trust_bundle_file.is_some() {
        if trust_bundle_file.is_none() {
            return Err((
                "TRUST_BUNDLE_FILE",
                "is unset, and JOIN_TOKEN_FILE needs it: without it nobody could tell Ground Control from another".to_owned(),
            ));
        }
        if named.is_some() {
            without_effect(
                "SPIFFE_ENDPOINT_SOCKET",
                "JOIN_TOKEN_FILE and TRUST_BUNDLE_FILE make the built-in authority the source of the identity",
            );
        }
        IdentitySource::Builtin { join_token_file, trust_bundle_file }
    } else if enabled {
        let endpoint = match (named, said(file.endpoint_socket)) {
            (Some(endpoint), _) => endpoint,
            (None, Some(text)) => {
                endpoint(&text).map_err(|why| ("app_config.spiffe.endpoint_socket", why))?
            }
            (None, None) => DEFAULT_ENDPOINT.to_owned(),
        };
        IdentitySource::WorkloadApi { endpoint }
    } else {
        if named.is_some() {
            without_effect("SPIFFE_ENDPOINT_SOCKET", "SPIFFE_ENABLED is not set");
        }
        if flags.spiffe_expected_server_id.is_some() {
            without_effect("SPIFFE_EXPECTED_SERVER_ID", "SPIFFE_ENABLED is not set");
        }
        IdentitySource::Token
    };
    if source != IdentitySource::Token && flags.token.is_some() {
        without_effect("TOKEN", "this satellite registers by its X.509-SVID");
    }
    let expected_server = match (flags.spiffe_expected_server_id.take(), said(file.expected_server_id)) {
        (Some(expected), _) => expected,
        (None, Some(text)) => {
            expected_server(&text).map_err(|why| ("app_config.spiffe.expected_server_id", why))?
        }
        (None, None) => ExpectedServer::GroundControl,
    };
    Ok((IdentitySettings { source, expected_server }, warnings))
}

/// What a remote config says about identity and is not taken, each with the reason.
pub(super) fn not_taken(site: &IdentitySettings, remote: &Spiffe) -> Vec<String> {
    let said = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut found = Vec::new();
    if remote.enabled == Some(true) && !site.is_spiffe() {
        found.push(
            "app_config.spiffe.enabled: not taken, a site turns its identity on itself (SPIFFE_ENABLED)"
                .to_owned(),
        );
    }
    let endpoint = match &site.source {
        IdentitySource::WorkloadApi { endpoint } => endpoint,
        _ => DEFAULT_ENDPOINT,
    };
    if said(&remote.endpoint_socket).is_some_and(|text| text != endpoint && text != DEFAULT_ENDPOINT) {
        found.push(
            "app_config.spiffe.endpoint_socket: not taken, a site names its own (SPIFFE_ENDPOINT_SOCKET)"
                .to_owned(),
        );
    }
    if said(&remote.expected_server_id)
        .is_some_and(|text| expected_server(&text) != Ok(site.expected_server.clone()))
    {
        found.push(
            "app_config.spiffe.expected_server_id: not taken, whom a site trusts is its own word (SPIFFE_EXPECTED_SERVER_ID)"
                .to_owned(),
        );
    }
    found
}

/// The address of a Workload API.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.parse::<Endpoint>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be unix:///path or tcp://<IP address>:<port>".to_owned()),
    }
}

/// Whom to take for Ground Control: a SPIFFE ID, or `any`.
pub(super) fn expected_server(text: &str) -> Result<ExpectedServer, String> {
    match text.trim() {
        "any" => Ok(ExpectedServer::Any),
        text => {
            let id: SpiffeId = text.parse().map_err(|error: identity::IdError| error.to_string())?;
            if id.path().is_empty() {
                return Err(
                    "names a trust domain and nobody in it; write `any`, or the whole SPIFFE ID".to_owned()
                );
            }
            Ok(ExpectedServer::Exactly(id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_or_an_address() {
        for good in ["unix:///run/a.sock", "unix:/run/a.sock", "tcp://127.0.0.1:8000"] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        for bad in ["", "/run/a.sock", "unix://", "unix:a", "tcp://host:1", "https://h"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_remote_config_says_nothing_about_identity_that_is_taken() {
        let site = IdentitySettings {
            source: IdentitySource::WorkloadApi { endpoint: "unix:///run/own.sock".to_owned() },
            ..IdentitySettings::default()
        };
        let quiet = Spiffe {
            enabled: Some(false),
            endpoint_socket: Some(DEFAULT_ENDPOINT.to_owned()),
            expected_server_id: Some(String::new()),
        };
        assert_eq!(not_taken(&site, &quiet), Vec::<String>::new());
        let loud = Spiffe {
            enabled: Some(true),
            endpoint_socket: Some("unix:///elsewhere".to_owned()),
            expected_server_id: Some("any".to_owned()),
        };
        assert_eq!(not_taken(&site, &loud).len(), 2);
        assert_eq!(not_taken(&IdentitySettings::default(), &loud).len(), 3);
    }
}
