//! Our own account at Harbor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::harbor::{Client, ClientOptions, Error, RetryPolicy, TlsOptions};
use secrecy::{ExposeSecret as _, SecretString};

use crate::central::{PasswordFile, PasswordFileError};
use crate::config::{HarborConfig, HarborPassword};

/// Why Harbor could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Our own password cannot be had.
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// The client cannot be set up.
    #[error(transparent)]
    Harbor(#[from] Error),
}

/// Our account at Harbor, and whether Harbor answered last.
#[derive(Debug)]
pub struct Login {
    config: HarborConfig,
    options: ClientOptions,
    password: PasswordFile,
    client: Mutex<Option<(SecretString, Client)>>,
    away: AtomicBool,
}

impl Login {
    /// The account that the settings name. No request is made yet.
    ///
    /// # Errors
    /// [`LoginError`]: an unusable file of authorities, a password that cannot be read.
    pub async fn open(config: &HarborConfig) -> Result<Self, LoginError> {
        // The keeper comes again by itself.
        let retry =
            RetryPolicy { attempts: 2, max_retry_after: Duration::from_secs(5), ..RetryPolicy::default() };
        let options = ClientOptions { retry, precondition_retry: retry, ..ClientOptions::default() };
        Self::open_with(config, options).await
    }

    /// [`Login::open`] with a client that behaves in another way; how certificates are checked is the settings' word.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn open_with(config: &HarborConfig, options: ClientOptions) -> Result<Self, LoginError> {
        let password = match &config.password {
            HarborPassword::Given(password) => PasswordFile::given("HARBOR_PASSWORD", password.clone()),
            HarborPassword::File(file) => PasswordFile::new("HARBOR_PASSWORD_FILE", file),
        };
        let options = ClientOptions {
            tls: TlsOptions { ca_file: config.ca_file.clone(), ..TlsOptions::default() },
            allow_plain_http: config.allow_plain_http,
            ..options
        };
        let login = Self {
            config: config.clone(),
            options,
            password,
            client: Mutex::new(None),
            away: AtomicBool::new(false),
        };
        login.client().await?;
        Ok(login)
    }

    /// The settings that it was made of.
    pub fn config(&self) -> &HarborConfig {
        &self.config
    }

    /// Its password, which may be rotated.
    pub fn password(&self) -> &PasswordFile {
        &self.password
    }

    /// A client with the password as it is now.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn client(&self) -> Result<Client, LoginError> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let password = match (self.password.recent().await, &known) {
            (Ok(password), _) => password,
            (Err(error), Some((_, client))) => {
                tracing::warn!(%error, "going on with the password that was read before");
                return Ok(client.clone());
            }
            (Err(error), None) => return Err(error.into()),
        };
        if let Some((with, client)) = known
            && with.expose_secret() == password.expose_secret()
        {
            return Ok(client);
        }
        let login = ::harbor::Login { username: self.config.username.clone(), password: password.clone() };
        let client = Client::new(&self.config.endpoint, &login, self.options.clone())?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some((password, client.clone()));
        Ok(client)
    }

    /// Whether Harbor gave no good answer last.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Remembers whether Harbor answered.
    pub(super) fn seen(&self, away: bool) {
        if self.away.swap(away, Ordering::Relaxed) != away {
            if away {
                tracing::warn!(harbor = %self.config.endpoint, "harbor is away");
            } else {
                tracing::info!(harbor = %self.config.endpoint, "harbor is back");
            }
        }
    }
}
