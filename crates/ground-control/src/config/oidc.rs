//! Settings of logins by OpenID Connect.

use std::path::PathBuf;

use url::{Host, Url};

use super::ConfigError;
use super::flags::OidcFlags;
use crate::domain::external::RoleMap;

/// An identity provider, and what its people may do here.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// The provider as it names itself.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// File of our secret there.
    pub client_secret_file: PathBuf,
    /// The claim that tells the role.
    pub role_claim: String,
    /// What its values mean.
    pub roles: RoleMap,
    /// What is asked for, `openid` among it.
    pub scopes: String,
    /// Under which URL browsers reach us; no slash at its end.
    pub public_url: String,
    /// Authorities that are trusted besides the public ones, PEM.
    pub ca_file: Option<PathBuf>,
}

impl OidcConfig {
    /// The rules between the settings; `None` where there is no provider.
    pub(super) fn check(
        flags: OidcFlags,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Box<Self>>, ConfigError> {
        fn need<T>(value: Option<T>, variable: &str) -> Result<T, ConfigError> {
            value.ok_or_else(|| ConfigError::of(variable, "needed with OIDC_ISSUER"))
        }
        let Some(issuer) = flags.oidc_issuer else {
            for (variable, set) in [
                ("OIDC_CLIENT_ID", flags.oidc_client_id.is_some()),
                ("OIDC_CLIENT_SECRET_FILE", flags.oidc_client_secret_file.is_some()),
                ("OIDC_ROLE_CLAIM", flags.oidc_role_claim.is_some()),
                ("OIDC_ROLE_MAP", flags.oidc_role_map.is_some()),
                ("OIDC_SCOPES", flags.oidc_scopes.is_some()),
                ("OIDC_CA_FILE", flags.oidc_ca_file.is_some()),
            ] {
                if set {
                    warnings.push(format!("{variable} has no effect without OIDC_ISSUER"));
                }
            }
            return Ok(None);
        };
        // OpenID Connect Discovery section 3: no query and no fragment.
        secure_url("OIDC_ISSUER", &issuer)?;
        let public_url = need(flags.public_url, "PUBLIC_URL")?;
        let public = secure_url("PUBLIC_URL", &public_url)?;
        if public.path() != "/" {
            return Err(ConfigError::of(
                "PUBLIC_URL",
                "may hold no path: the cookies of a login are those of the whole host",
            ));
        }
        let scopes = flags.oidc_scopes.unwrap_or_else(|| "openid profile email".to_owned());
        let mut scopes: Vec<&str> = scopes.split_whitespace().collect();
        if !scopes.contains(&"openid") {
            scopes.insert(0, "openid");
        }
        Ok(Some(Box::new(Self {
            issuer,
            client_id: need(flags.oidc_client_id, "OIDC_CLIENT_ID")?,
            client_secret_file: need(flags.oidc_client_secret_file, "OIDC_CLIENT_SECRET_FILE")?,
            role_claim: flags.oidc_role_claim.unwrap_or_else(|| "groups".to_owned()),
            roles: need(flags.oidc_role_map, "OIDC_ROLE_MAP")?,
            scopes: scopes.join(" "),
            public_url: public.origin().ascii_serialization(),
            ca_file: flags.oidc_ca_file,
        })))
    }
}

/// A URL under which no secret travels readable: https, or http on loopback.
fn secure_url(variable: &str, text: &str) -> Result<Url, ConfigError> {
    let fail = |what: &str| ConfigError::of(variable, what);
    let url = Url::parse(text).ok().filter(Url::has_host);
    let url = url.ok_or_else(|| fail("is no URL, as https://id.example.com"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fail("may hold no user and no password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fail("may hold neither a query nor a fragment"));
    }
    if !is_secure(&url) {
        return Err(fail("must be https, except on loopback"));
    }
    Ok(url)
}

/// Whether nobody on the way reads what is sent there.
pub(crate) fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}
