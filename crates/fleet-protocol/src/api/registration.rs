//! Satellites with an identity, and who makes identities.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::registration::exposed;

/// How the agent of an edge proves which node it is (SPIRE's node attestation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestationMethod {
    /// A token that is good once.
    #[default]
    JoinToken,
    /// A certificate of the site's own authority.
    X509pop,
    /// An SSH host certificate.
    Sshpop,
}

impl AttestationMethod {
    /// The name in documents, and SPIRE's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::X509pop => "x509pop",
            Self::Sshpop => "sshpop",
        }
    }
}

impl std::str::FromStr for AttestationMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "join_token" => Ok(Self::JoinToken),
            "x509pop" => Ok(Self::X509pop),
            "sshpop" => Ok(Self::Sshpop),
            other => Err(format!("`{other}` is no attestation method; use join_token, x509pop or sshpop")),
        }
    }
}

/// `POST /api/satellites/register`: gives a satellite a SPIFFE identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisterSatellite {
    /// Its name.
    pub satellite_name: String,
    /// Its region; `default` where it is absent or empty.
    pub region: Option<String>,
    /// What a workload must show to be this satellite, as `type:value`.
    pub selectors: Vec<String>,
    /// How its agent attests.
    pub attestation_method: AttestationMethod,
    /// How long the join token is good, in seconds; 600 where it is absent.
    pub ttl_seconds: Option<u32>,
    /// The SPIFFE ID of the agent, where it is known already.
    pub parent_agent_id: Option<String>,
    /// Its groups, beside those that it is in already.
    pub groups: Option<Vec<String>>,
    /// Its config; `default` for a new satellite where it is absent or empty.
    pub config_name: Option<String>,
}

/// The answer to `POST /api/satellites/register`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisteredSatellite {
    /// Its name.
    pub satellite: String,
    /// Its region.
    pub region: String,
    /// Its identity.
    pub spiffe_id: String,
    /// The agent that serves it.
    pub parent_agent_id: String,
    /// The one-time join token, shown once; absent where the agent attests otherwise.
    #[serde(serialize_with = "maybe_exposed")]
    pub join_token: Option<SecretString>,
    /// When the join token is worth nothing any more.
    pub expires_at: Option<Timestamp>,
    /// Where the agent finds its server.
    pub spire_server_address: Option<String>,
    /// That server's port.
    pub spire_server_port: Option<u16>,
    /// The trust domain.
    pub trust_domain: String,
    /// The authorities of the trust domain (PEM).
    pub trust_bundle: String,
}

fn maybe_exposed<S: serde::Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// `GET /api/spire/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireStatus {
    /// Whether identities are SPIFFE's.
    pub enabled: bool,
    /// The trust domain.
    pub trust_domain: Option<String>,
    /// Where Ground Control's own identity comes from: `sidecar`, `static` or `builtin`.
    pub provider: Option<String>,
    /// Whether the server that makes identities answers.
    pub connected: bool,
}

/// `GET /api/spire/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireAgents {
    /// The agents.
    pub agents: Vec<SpireAgent>,
}

/// An agent that attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireAgent {
    /// Its identity.
    pub spiffe_id: String,
    /// How it attested.
    pub attestation_type: String,
    /// What its attestation showed, as `type:value`.
    pub selectors: Vec<String>,
    /// The end of its SVID.
    pub expires_at: Option<Timestamp>,
}
