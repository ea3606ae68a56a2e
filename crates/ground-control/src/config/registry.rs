//! Settings of the central registry: which one it is, and its accounts where it is not ours.

use std::path::PathBuf;

use registry_client::{Endpoint, Scheme};

use super::ConfigError;
use super::flags::RegistryFlags;

/// The central registry.
#[derive(Debug, Clone)]
pub enum RegistryConfig {
    /// The one inside this program.
    Builtin,
    /// Any other that speaks OCI Distribution.
    Oci(Box<OciConfig>),
}

/// A registry with two accounts: one that writes, one that satellites read with.
#[derive(Debug, Clone)]
pub struct OciConfig {
    /// Where it is.
    pub endpoint: Endpoint,
    /// The account that publishes state documents.
    pub push_username: String,
    /// File of its password.
    pub push_password_file: PathBuf,
    /// The account that satellites are given.
    pub pull_username: String,
    /// File of its password.
    pub pull_password_file: PathBuf,
    /// Authorities that are trusted besides the public ones, PEM.
    pub ca_file: Option<PathBuf>,
    /// Plain HTTP beyond loopback.
    pub allow_plain_http: bool,
}

impl RegistryConfig {
    /// Whether it is not the one inside this program.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::Builtin)
    }

    /// The rules between the settings.
    pub(super) fn check(
        flags: RegistryFlags,
        spiffe: bool,
        unsecure: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        match flags.registry_backend.as_deref() {
            None | Some("builtin") => {
                for name in given(&flags) {
                    warnings.push(format!("{name} has no effect without REGISTRY_BACKEND=oci"));
                }
                Ok(Self::Builtin)
            }
            Some("oci") => oci(flags, spiffe, unsecure).map(|oci| Self::Oci(Box::new(oci))),
            Some("harbor") => Err(ConfigError::of(
                "REGISTRY_BACKEND",
                "harbor is not supported yet, only builtin and oci are",
            )),
            Some(other) => {
                Err(ConfigError::of("REGISTRY_BACKEND", format!("{other:?} is neither builtin nor oci")))
            }
        }
    }
}

fn given(flags: &RegistryFlags) -> Vec<&'static str> {
    [
        ("OCI_REGISTRY_URL", flags.oci_registry_url.is_some()),
        ("OCI_PUSH_USERNAME", flags.oci_push_username.is_some()),
        ("OCI_PUSH_PASSWORD_FILE", flags.oci_push_password_file.is_some()),
        ("OCI_PULL_USERNAME", flags.oci_pull_username.is_some()),
        ("OCI_PULL_PASSWORD_FILE", flags.oci_pull_password_file.is_some()),
        ("OCI_CA_FILE", flags.oci_ca_file.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect()
}

fn oci(flags: RegistryFlags, spiffe: bool, unsecure: bool) -> Result<OciConfig, ConfigError> {
    fn need<T>(value: Option<T>, variable: &str) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::of(variable, "needed with REGISTRY_BACKEND=oci"))
    }
    let url = need(flags.oci_registry_url, "OCI_REGISTRY_URL")?;
    // Said by itself, for a host alone would be taken for one of HTTPS, and documents name the scheme.
    if !url.contains("://") {
        return Err(ConfigError::of(
            "OCI_REGISTRY_URL",
            "needs a scheme, as in https://registry.example.com",
        ));
    }
    let endpoint: Endpoint =
        url.parse().map_err(|error| ConfigError::of("OCI_REGISTRY_URL", format!("{error}")))?;
    if endpoint.scheme() == Scheme::Http && !endpoint.is_loopback() && !unsecure {
        return Err(ConfigError::of(
            "OCI_REGISTRY_URL",
            "http beyond loopback needs USE_UNSECURE=true; better is an https URL",
        ));
    }
    let push_username = need(flags.oci_push_username, "OCI_PUSH_USERNAME")?;
    let push_password_file = need(flags.oci_push_password_file, "OCI_PUSH_PASSWORD_FILE")?;
    let pull_username = need(flags.oci_pull_username, "OCI_PULL_USERNAME")?;
    let pull_password_file = need(flags.oci_pull_password_file, "OCI_PULL_PASSWORD_FILE")?;
    for (name, username) in [("OCI_PUSH_USERNAME", &push_username), ("OCI_PULL_USERNAME", &pull_username)] {
        // RFC 7617 section 2: what stands before the first colon is the name.
        if username.contains(|c: char| c == ':' || c.is_control()) {
            return Err(ConfigError::of(
                name,
                "a user name of HTTP Basic has neither colons nor control characters",
            ));
        }
    }
    if push_username == pull_username {
        return Err(ConfigError::of(
            "OCI_PULL_USERNAME",
            "is the account that pushes; every satellite is given the pull account, so that it must be another one, which \
             can only read",
        ));
    }
    if !spiffe {
        return Err(ConfigError::of(
            "SPIFFE_SERVER_ENABLED",
            "must be true with REGISTRY_BACKEND=oci: all satellites share one pull account there, which is given to those \
             with an SVID only",
        ));
    }
    Ok(OciConfig {
        endpoint,
        push_username,
        push_password_file,
        pull_username,
        pull_password_file,
        ca_file: flags.oci_ca_file,
        allow_plain_http: unsecure,
    })
}
