//! Settings of the central registry: which one it is, and its accounts where it is not ours.

use std::path::PathBuf;

use registry_client::{Endpoint, Scheme};
use secrecy::SecretString;

use super::ConfigError;
use super::flags::RegistryFlags;

/// The central registry.
#[derive(Debug, Clone)]
pub enum RegistryConfig {
    /// The one inside this program.
    Builtin,
    /// Harbor.
    Harbor(Box<HarborConfig>),
    /// Any other that speaks OCI Distribution.
    Oci(Box<OciConfig>),
}

/// A Harbor, and the account with which we work there.
#[derive(Debug, Clone)]
pub struct HarborConfig {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Our account: a user, or a robot by its full name.
    pub username: String,
    /// Its password.
    pub password: HarborPassword,
    /// Authorities that are trusted besides the public ones, PEM.
    pub ca_file: Option<PathBuf>,
    /// Plain HTTP beyond loopback.
    pub allow_plain_http: bool,
    /// Whether the start does not ask how it is doing.
    pub skip_health_check: bool,
    /// This server as Harbor's webhooks reach it, without a slash at the end.
    pub webhook_url: Option<String>,
}

/// Where the password of our account at Harbor is.
#[derive(Debug, Clone)]
pub enum HarborPassword {
    /// In the settings.
    Given(SecretString),
    /// In a file, which somebody may rotate.
    File(PathBuf),
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
        // An empty variable is an unset one.
        let default = if flags.harbor_url.is_some() { "harbor" } else { "builtin" };
        let backend = flags.registry_backend.clone().unwrap_or_else(|| default.to_owned());
        let mut unused = |names: Vec<&str>, wants: &str| {
            warnings.extend(names.into_iter().map(|name| format!("{name} has no effect without {wants}")));
        };
        if backend != "oci" {
            unused(given_oci(&flags), "REGISTRY_BACKEND=oci");
        }
        if backend != "harbor" {
            unused(given_harbor(&flags), "REGISTRY_BACKEND=harbor");
        }
        match backend.as_str() {
            "builtin" => Ok(Self::Builtin),
            "harbor" => harbor(flags, unsecure).map(|harbor| Self::Harbor(Box::new(harbor))),
            "oci" => oci(flags, spiffe, unsecure).map(|oci| Self::Oci(Box::new(oci))),
            other => Err(ConfigError::of(
                "REGISTRY_BACKEND",
                format!("{other:?} is none of builtin, harbor and oci"),
            )),
        }
    }
}

fn given_oci(flags: &RegistryFlags) -> Vec<&'static str> {
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

fn given_harbor(flags: &RegistryFlags) -> Vec<&'static str> {
    [
        ("HARBOR_URL", flags.harbor_url.is_some()),
        ("HARBOR_USERNAME", flags.harbor_username.is_some()),
        ("HARBOR_PASSWORD", flags.harbor_password.is_some()),
        ("HARBOR_PASSWORD_FILE", flags.harbor_password_file.is_some()),
        ("HARBOR_CA_FILE", flags.harbor_ca_file.is_some()),
        ("HARBOR_WEBHOOK_URL", flags.harbor_webhook_url.is_some()),
        ("SKIP_HARBOR_HEALTH_CHECK", flags.skip_harbor_health_check == Some(true)),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect()
}

fn harbor(flags: RegistryFlags, unsecure: bool) -> Result<HarborConfig, ConfigError> {
    fn need<T>(value: Option<T>, variable: &str) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::of(variable, "needed with REGISTRY_BACKEND=harbor"))
    }
    let endpoint = endpoint("HARBOR_URL", &need(flags.harbor_url, "HARBOR_URL")?, unsecure)?;
    let username = need(flags.harbor_username, "HARBOR_USERNAME")?;
    check_username("HARBOR_USERNAME", &username)?;
    let password = match (flags.harbor_password, flags.harbor_password_file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::of(
                "HARBOR_PASSWORD",
                "set beside HARBOR_PASSWORD_FILE; leave one of them unset",
            ));
        }
        (Some(given), None) => HarborPassword::Given(given),
        (None, file) => HarborPassword::File(need(file, "HARBOR_PASSWORD")?),
    };
    let webhook_url = flags.harbor_webhook_url.map(|url| webhook_url(&url)).transpose()?;
    Ok(HarborConfig {
        endpoint,
        username,
        password,
        ca_file: flags.harbor_ca_file,
        allow_plain_http: unsecure,
        skip_health_check: flags.skip_harbor_health_check.unwrap_or(false),
        webhook_url,
    })
}

fn webhook_url(text: &str) -> Result<String, ConfigError> {
    let wrong = |what: String| ConfigError::of("HARBOR_WEBHOOK_URL", what);
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    if !plain || !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("is not like https://gc.example.com".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A registry's address that satellites and documents are told.
fn endpoint(variable: &str, url: &str, unsecure: bool) -> Result<Endpoint, ConfigError> {
    // Said by itself, for a host alone would be taken for one of HTTPS, and documents name the scheme.
    if !url.contains("://") {
        return Err(ConfigError::of(variable, "needs a scheme, as in https://registry.example.com"));
    }
    let endpoint: Endpoint = url.parse().map_err(|error| ConfigError::of(variable, format!("{error}")))?;
    if endpoint.scheme() == Scheme::Http && !endpoint.is_loopback() && !unsecure {
        return Err(ConfigError::of(
            variable,
            "http beyond loopback needs USE_UNSECURE=true; better is an https URL",
        ));
    }
    Ok(endpoint)
}

fn check_username(variable: &str, username: &str) -> Result<(), ConfigError> {
    // RFC 7617 section 2: what stands before the first colon is the name.
    if username.contains(|c: char| c == ':' || c.is_control()) {
        let what = "a user name of HTTP Basic has neither colons nor control characters";
        return Err(ConfigError::of(variable, what));
    }
    Ok(())
}

fn oci(flags: RegistryFlags, spiffe: bool, unsecure: bool) -> Result<OciConfig, ConfigError> {
    fn need<T>(value: Option<T>, variable: &str) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::of(variable, "needed with REGISTRY_BACKEND=oci"))
    }
    let url = need(flags.oci_registry_url, "OCI_REGISTRY_URL")?;
    let endpoint = endpoint("OCI_REGISTRY_URL", &url, unsecure)?;
    let push_username = need(flags.oci_push_username, "OCI_PUSH_USERNAME")?;
    let push_password_file = need(flags.oci_push_password_file, "OCI_PUSH_PASSWORD_FILE")?;
    let pull_username = need(flags.oci_pull_username, "OCI_PULL_USERNAME")?;
    let pull_password_file = need(flags.oci_pull_password_file, "OCI_PULL_PASSWORD_FILE")?;
    for (name, username) in [("OCI_PUSH_USERNAME", &push_username), ("OCI_PULL_USERNAME", &pull_username)] {
        check_username(name, username)?;
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
