//! State documents at Harbor: written like to any registry, removed by Harbor's own interface, which takes a whole repository
//! with all that was ever in it.

use std::sync::Arc;

use async_trait::async_trait;
use fleet_protocol::state_image::StateImage;
use oci::{Digest, RepositoryName};
use registry_client::TlsOptions;

use super::login::{Login, LoginError};
use crate::publish::{LastAnswer, OciRegistry, RegistryBackend, RegistryError, StateManifest};

/// Publishes into Harbor.
#[derive(Debug)]
pub struct HarborRegistry {
    registry: OciRegistry,
    login: Arc<Login>,
}

impl HarborRegistry {
    /// The Harbor of this account. No request is made yet.
    ///
    /// # Errors
    /// An unusable file of authorities.
    pub fn new(login: Arc<Login>) -> Result<Self, registry_client::Error> {
        let config = login.config();
        let tls = TlsOptions { ca_file: config.ca_file.clone(), ..TlsOptions::default() };
        let registry = OciRegistry::at(
            config.endpoint.clone(),
            tls,
            config.allow_plain_http,
            &config.username,
            login.password().clone(),
        )?;
        Ok(Self { registry, login })
    }

    /// The account that it publishes with.
    pub fn login(&self) -> &Arc<Login> {
        &self.login
    }

    /// What speaks OCI Distribution to it.
    pub(crate) fn distribution(&self) -> &OciRegistry {
        &self.registry
    }

    /// How the registry answered last; `None` before the first time.
    pub fn last_answer(&self) -> Option<LastAnswer> {
        self.registry.last_answer()
    }
}

fn failed(
    operation: &'static str,
    repository: &RepositoryName,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RegistryError {
    RegistryError { operation, repository: repository.to_string(), source: source.into() }
}

#[async_trait]
impl RegistryBackend for HarborRegistry {
    async fn current(&self, repository: &RepositoryName) -> Result<Option<StateManifest>, RegistryError> {
        self.registry.current(repository).await
    }

    async fn publish(&self, repository: &RepositoryName, image: &StateImage) -> Result<(), RegistryError> {
        self.registry.publish(repository, image).await
    }

    async fn remove(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), RegistryError> {
        const OPERATION: &str = "remove a manifest";
        if self.current(repository).await?.is_some_and(|current| current.digest == *digest) {
            return Ok(());
        }
        let client = self.login.client().await.map_err(|error| failed(OPERATION, repository, error))?;
        match client.delete_artifact(repository, digest).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_forbidden() => {
                tracing::debug!(%repository, %digest, "our account may not delete, the superseded manifest stays");
                Ok(())
            }
            Err(error) => Err(failed(OPERATION, repository, error)),
        }
    }

    async fn clear(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        const OPERATION: &str = "remove the document";
        let client =
            self.login.client().await.map_err(|error: LoginError| failed(OPERATION, repository, error))?;
        match client.delete_repository(repository).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_forbidden() => {
                tracing::warn!(%repository, "our account may not delete, a removed document stays there");
                Ok(())
            }
            Err(error) => Err(failed(OPERATION, repository, error)),
        }
    }
}
