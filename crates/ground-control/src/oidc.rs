//! Logins by OpenID Connect: the code flow with PKCE, state and nonce (OpenID Connect Core section 3.1, RFC 7636).
//!
//! The provider may be away at any time: it is asked when somebody logs in and never before, what it said of itself is
//! kept, and every request to it is bounded in time and size. What it says of a person decides over their role alone; who
//! somebody is, is (issuer, subject).
//!
//! Secrets of a login that is under way (the nonce, the code verifier) are derived from its `state` under the server key:
//! none of them is kept anywhere, and the state itself only as a hash.

mod cache;
mod claims;
mod id_token;
mod provider;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use url::Url;

use self::id_token::Expected;
use self::provider::{Metadata, Provider};
use crate::auth::{DerivedKey, ServerKey};
use crate::central::PasswordFile;
use crate::config::OidcConfig;
use crate::domain::external::{ExternalPerson, LONGEST_SUBJECT};

pub use provider::ProviderError;

/// The path of the redirect URI.
pub const CALLBACK: &str = "/auth/oidc/callback";

/// Why a login that the provider answered comes to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginFailure {
    /// The provider is away, or says what cannot be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The answer is none to what was asked, or was made up by somebody else.
    #[error("the answer is not to be trusted: {0}")]
    Untrusted(String),
    /// Who it is, is known and proven; they have nothing to do here.
    #[error("no value of the claim {claim} gives a role")]
    NoRole {
        /// Who it is at the provider.
        subject: String,
        /// The claim that was looked at.
        claim: String,
    },
}

/// The provider, our client there, and what its people may do here.
#[derive(Debug)]
pub struct Oidc {
    provider: Provider,
    config: OidcConfig,
    key: DerivedKey,
}

impl Oidc {
    /// Prepares; the provider is not spoken to.
    ///
    /// # Errors
    /// A sentence about `OIDC_CA_FILE` or the HTTP client.
    pub fn new(config: &OidcConfig, key: &ServerKey) -> Result<Self, String> {
        let secret = PasswordFile::new("OIDC_CLIENT_SECRET_FILE", &config.client_secret_file);
        let ca_file: Option<&Path> = config.ca_file.as_deref();
        Ok(Self {
            provider: Provider::new(&config.issuer, &config.client_id, secret, ca_file)?,
            config: config.clone(),
            key: key.derive("oidc"),
        })
    }

    /// The provider's name for itself.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Under which URL browsers reach us.
    pub fn public_url(&self) -> &str {
        &self.config.public_url
    }

    /// What is derived from a login's state: the nonce or the code verifier.
    fn derived(&self, purpose: &[u8], state: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.mac(&[purpose, state.as_bytes()]))
    }

    fn redirect_uri(&self) -> String {
        format!("{}{CALLBACK}", self.config.public_url)
    }

    /// Where the browser is sent to log in under this state.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn authorization_url(&self, state: &str) -> Result<Url, ProviderError> {
        let metadata = self.provider.metadata().await?;
        let mut url = metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.redirect_uri())
            .append_pair("scope", &self.config.scopes)
            .append_pair("state", state)
            .append_pair("nonce", &self.derived(b"nonce", state))
            .append_pair("code_challenge", &challenge_of(&self.derived(b"verifier", state)))
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Whether the answer comes from our provider (RFC 9207): a provider that says that it tells who it is has to, and
    /// another one may not answer in its place.
    ///
    /// # Errors
    /// [`LoginFailure`].
    pub async fn check_issuer(&self, iss: Option<&str>) -> Result<(), LoginFailure> {
        match iss {
            Some(iss) if iss == self.config.issuer => Ok(()),
            Some(_) => Err(LoginFailure::Untrusted("it is another provider's".to_owned())),
            None => {
                let metadata = self.provider.metadata().await?;
                if metadata.authorization_response_iss_parameter_supported {
                    return Err(LoginFailure::Untrusted("it does not say which provider's it is".to_owned()));
                }
                Ok(())
            }
        }
    }

    /// Who logged in, for the code that the provider sent for this state.
    ///
    /// # Errors
    /// [`LoginFailure`].
    pub async fn person(&self, state: &str, code: &str) -> Result<ExternalPerson, LoginFailure> {
        let metadata = self.provider.metadata().await?;
        let verifier = self.derived(b"verifier", state);
        let tokens = self.provider.exchange(&metadata, code, &self.redirect_uri(), &verifier).await;
        let tokens = tokens.map_err(|error| match error {
            // RFC 6749 section 5.2: the code is another's, has expired, or was used.
            ProviderError::Refused { error } if error == "invalid_grant" => {
                LoginFailure::Untrusted("the provider does not take its code".to_owned())
            }
            other => other.into(),
        })?;
        let expected = Expected {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce: &self.derived(b"nonce", state),
            now: jiff::Timestamp::now(),
        };
        let mut claims = self.verified(&metadata, &tokens.id_token, &expected).await?;
        let subject = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or("").to_owned();
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !subject.is_ascii() {
            return Err(LoginFailure::Untrusted("its subject is not 1 to 255 ASCII characters".to_owned()));
        }
        let claim = &self.config.role_claim;
        if !claims::has(&claims, claim)
            && let (Some(endpoint), Some(token)) = (&metadata.userinfo_endpoint, &tokens.access_token)
        {
            // OpenID Connect Core section 5.4: claims of a scope may be told there alone; section 5.3.2: of the same person.
            let more = self.provider.userinfo(endpoint, token).await?;
            if more.get("sub").and_then(|sub| sub.as_str()) != Some(subject.as_str()) {
                return Err(LoginFailure::Untrusted("the user information is of somebody else".to_owned()));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        let values = claims::texts(&claims, claim);
        let Some(role) = self.config.roles.highest(values) else {
            return Err(LoginFailure::NoRole { subject, claim: claim.clone() });
        };
        Ok(ExternalPerson {
            issuer: self.config.issuer.clone(),
            subject,
            name: claims::name(&claims).map(str::to_owned),
            role,
        })
    }

    /// The claims of an ID token that is good; a key that is not known is looked for at the provider once.
    async fn verified(
        &self,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<claims::Claims, LoginFailure> {
        let keys = self.provider.keys(metadata).await?;
        match id_token::verify(token, &keys, expected) {
            Err(id_token::Bad::UnknownKey) => {
                let keys = self.provider.fresh_keys(metadata, &keys).await?;
                id_token::verify(token, &keys, expected)
            }
            other => other,
        }
        .map_err(|bad| LoginFailure::Untrusted(format!("ID token: {bad}")))
    }
}

/// The challenge of a code verifier, method S256 (RFC 7636 section 4.2).
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        assert_eq!(
            challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
