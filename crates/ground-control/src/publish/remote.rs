//! Any registry that speaks OCI Distribution, with an account that may push.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_protocol::state;
use fleet_protocol::state_image::StateImage;
use jiff::Timestamp;
use oci::{Descriptor, Digest, ManifestError, Reference, RepositoryName, Tag};
use registry_client::{
    Client, ClientOptions, Credentials, Endpoint, Error, ErrorKind, RetryPolicy, TlsOptions,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::backend::{RegistryBackend, RegistryError, StateManifest};
use crate::central::PasswordFile;
use crate::config::OciConfig;

/// Within a publisher's claim, so that no other takes a document over that is still being written.
const LONGEST: Duration = Duration::from_secs(45);

/// How the registry answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAnswer {
    /// When.
    pub at: Timestamp,
    /// Whether it did what it was asked.
    pub ok: bool,
}

/// Publishes into another registry.
#[derive(Debug)]
pub struct OciRegistry {
    client: Client,
    username: String,
    password: PasswordFile,
    /// The password that the client has.
    signed_in: Mutex<Option<SecretString>>,
    tag: Tag,
    last: Mutex<Option<LastAnswer>>,
}

/// Why an operation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Registry(#[from] Error),
    #[error("the manifest cannot be read")]
    Manifest(#[source] ManifestError),
    #[error("the registry keeps {found} under the tag, and not what was put there")]
    ReadBack { found: Digest },
    #[error("it took longer than {} s", LONGEST.as_secs())]
    Slow,
}

impl OciRegistry {
    /// The registry that the settings name. No request is made yet.
    ///
    /// # Errors
    /// An unusable file of authorities.
    pub fn new(config: &OciConfig, password: PasswordFile) -> Result<Self, Error> {
        let tls = TlsOptions { ca_file: config.ca_file.clone(), ..TlsOptions::default() };
        Self::at(config.endpoint.clone(), tls, config.allow_plain_http, &config.push_username, password)
    }

    /// The registry at `endpoint`, written to as `username`. No request is made yet.
    ///
    /// # Errors
    /// An unusable file of authorities.
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    pub fn at(
        endpoint: Endpoint,
        tls: TlsOptions,
        allow_plain_http: bool,
        username: &str,
        password: PasswordFile,
    ) -> Result<Self, Error> {
        let options = ClientOptions {
            tls,
            allow_plain_http,
            // The outbox comes again by itself.
            retry: RetryPolicy {
                attempts: 3,
                max_retry_after: Duration::from_secs(5),
                ..RetryPolicy::default()
            },
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(15),
            upload_answer_timeout: Duration::from_secs(30),
            user_agent: concat!("ground-control/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ClientOptions::default()
        };
        Ok(Self {
            client: Client::new(endpoint, options)?,
            username: username.to_owned(),
            password,
            signed_in: Mutex::new(None),
            tag: state::TAG.parse().expect("the tag of state documents is a tag"),
            last: Mutex::new(None),
        })
    }

    /// The registry's address.
    pub fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    /// How it answered last; `None` before the first time.
    pub fn last_answer(&self) -> Option<LastAnswer> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What speaks to it; to be used within [`OciRegistry::during`].
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn by_tag(&self) -> Reference {
        Reference::Tag(self.tag.clone())
    }

    /// Takes over a password that was rotated.
    async fn sign_in(&self) {
        let password = match self.password.recent().await {
            Ok(password) => password,
            Err(error) => {
                tracing::warn!(%error, "going on with the password that was read before");
                return;
            }
        };
        let mut signed_in = self.signed_in.lock().unwrap_or_else(PoisonError::into_inner);
        let same = signed_in.as_ref().is_some_and(|known| known.expose_secret() == password.expose_secret());
        if !same {
            self.client.set_credentials(Credentials::Basic {
                username: self.username.clone(),
                password: password.clone(),
            });
            *signed_in = Some(password);
        }
    }

    /// Does something at the registry: signed in, within its time, and remembered.
    pub(crate) async fn during<T>(
        &self,
        operation: &'static str,
        repository: &RepositoryName,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, RegistryError> {
        self.sign_in().await;
        let result = tokio::time::timeout(LONGEST, work).await.unwrap_or(Err(Failure::Slow));
        let last = LastAnswer { at: Timestamp::now(), ok: result.is_ok() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        result.map_err(|failure| RegistryError {
            operation,
            repository: repository.to_string(),
            source: Box::new(failure),
        })
    }

    async fn tagged(&self, repository: &RepositoryName) -> Result<Option<Digest>, Failure> {
        self.digest_of(repository, &self.by_tag()).await
    }

    /// The digest of the manifest that a tag or digest names; `None` where there is none.
    pub(crate) async fn digest_of(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, Failure> {
        let Some(head) = self.client.head_manifest(repository, reference).await? else {
            return Ok(None);
        };
        match head.digest {
            Some(digest) => Ok(Some(digest)),
            None => match self.client.manifest(repository, reference).await {
                Ok(manifest) => Ok(Some(manifest.digest)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn push_blob(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        if self.client.has_blob(repository, &descriptor.digest).await?.is_some() {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let retry = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let mut failures = 0;
        loop {
            let content = bytes.clone();
            let stream = futures_util::stream::once(async move { Ok::<_, Infallible>(content) });
            let size = bytes.len() as u64;
            let Err(error) = self.client.push_blob(repository, &descriptor.digest, size, stream).await else {
                return Ok(());
            };
            failures += 1;
            match retry.delay(failures, error.retry_after()) {
                Some(pause) if error.is_retryable() => tokio::time::sleep(pause).await,
                _ => return Err(error.into()),
            }
        }
    }

    /// Removes a manifest by its digest; `false` where the registry, or what the account may do there, does not allow that.
    /// A refusal counts as that only from a registry that knew the account a moment ago: alone it may be an outage.
    async fn delete(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, Failure> {
        match self.client.delete_manifest(repository, &Reference::Digest(*digest)).await {
            Ok(_) => Ok(true),
            Err(error) if is_not_allowed(&error) => {
                self.tagged(repository).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Deletion is optional in OCI Distribution 1.1 ("Content Management"): 405 where it is off, or any refusal of the right.
fn is_not_allowed(error: &Error) -> bool {
    error.is_forbidden()
        || error.is_unauthorized()
        || matches!(
            error.kind(),
            ErrorKind::Refused { status: 405 | 501, .. } | ErrorKind::Unavailable { status: 501, .. }
        )
        || matches!(error.kind(), ErrorKind::Refused { code: Some(code), .. } if code == "UNSUPPORTED")
}

#[async_trait]
impl RegistryBackend for OciRegistry {
    async fn current(&self, repository: &RepositoryName) -> Result<Option<StateManifest>, RegistryError> {
        let tagged = self.during("look up the tag", repository, self.tagged(repository)).await?;
        Ok(tagged.map(|digest| StateManifest { digest }))
    }

    async fn publish(&self, repository: &RepositoryName, image: &StateImage) -> Result<(), RegistryError> {
        let work = async {
            self.push_blob(repository, &image.config_descriptor, &image.config).await?;
            self.push_blob(repository, &image.layer_descriptor, &image.layer).await?;
            let manifest = Bytes::copy_from_slice(&image.manifest);
            self.client.put_manifest(repository, &self.by_tag(), image.media_type, manifest).await?;
            // Some registries rewrite what they are given, or answer before they have it.
            let found = self.client.manifest(repository, &self.by_tag()).await?.digest;
            if found != image.digest {
                return Err(Failure::ReadBack { found });
            }
            Ok(())
        };
        self.during("write the document", repository, work).await
    }

    async fn remove(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), RegistryError> {
        let work = async {
            if self.tagged(repository).await? == Some(*digest) {
                return Ok(());
            }
            if !self.delete(repository, digest).await? {
                tracing::debug!(%repository, %digest, "the registry allows no deletion, the superseded manifest stays");
            }
            Ok(())
        };
        self.during("remove a manifest", repository, work).await
    }

    /// A registry tells no manifests but those with a tag: what was superseded goes by [`RegistryBackend::remove`].
    async fn clear(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        let work = async {
            let Some(digest) = self.tagged(repository).await? else { return Ok(()) };
            if !self.delete(repository, &digest).await? {
                tracing::warn!(%repository, "the registry allows no deletion, a removed document stays there");
            }
            Ok(())
        };
        self.during("remove the document", repository, work).await
    }
}
