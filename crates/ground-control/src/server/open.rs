//! What a server stands on: the data folder, the key, the database, the registry's store; and the republication that needs
//! no more than that.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::ExposeSecret as _;

use super::error::StartError;
use crate::auth::{KeyError, Robots, Seal, ServerKey};
use crate::backup::DataFolder;
use crate::central::{
    BuiltinIssuer, CentralRegistry, CredentialIssuer, HarborIssuer, HarborLogin, HarborRegistry, Keeper,
    KeeperOptions, OciIssuer, PasswordFile, RegistryKind,
};
use crate::config::{Config, RegistryConfig};
use crate::domain::secret::{HashKey, Hashed};
use crate::follow::{ArtifactIndex, BuiltinIndex};
use crate::publish::{self, BuiltinRegistry, OciRegistry, Publisher, PublisherHandle, RegistryBackend};
use crate::store::{self, SharedStore};

/// The data folder, the key and the database.
pub(super) async fn open_database(
    config: &Config,
) -> Result<(DataFolder, ServerKey, SharedStore), StartError> {
    let data_dir = &config.data_dir;
    // For this user only: password hashes and the key lie in it.
    let folder = DataFolder::enter(data_dir)?;
    let store = store::open(&config.database).await.map_err(StartError::Database)?;
    let fresh = !store.has_users().await?;
    let key = ServerKey::open(config.secret_key_file.as_deref(), data_dir, fresh)?;
    let print = key.print();
    if Hashed::from(store.key_check(print.as_str()).await?) != print {
        let path = ServerKey::path(config.secret_key_file.as_deref(), data_dir);
        return Err(KeyError::Foreign(path).into());
    }
    Ok((folder, key, store))
}

/// The central registry, before it is known under which URL this server is reached.
pub(super) enum OpenRegistry {
    Builtin(blob_store::Store),
    Harbor(Arc<HarborRegistry>),
    Oci { registry: Arc<OciRegistry>, pull_username: String, push: PasswordFile, pull: PasswordFile },
}

impl OpenRegistry {
    /// Opens what the settings name. Another registry is not spoken to: it may be away.
    pub(super) async fn open(config: &Config) -> Result<Self, StartError> {
        let oci = match &config.registry {
            RegistryConfig::Builtin => {
                let path = config.data_dir.join("registry");
                let opened = blob_store::Store::open(&path, blob_store::Options::default());
                let failed = |source| StartError::Registry { path, source: Box::new(source) };
                return opened.map(Self::Builtin).map_err(failed);
            }
            RegistryConfig::Harbor(harbor) => {
                let login = Arc::new(HarborLogin::open(harbor).await.map_err(StartError::Harbor)?);
                let registry = HarborRegistry::new(login).map_err(StartError::OciRegistry)?;
                return Ok(Self::Harbor(Arc::new(registry)));
            }
            RegistryConfig::Oci(oci) => oci,
        };
        let push = PasswordFile::new("OCI_PUSH_PASSWORD_FILE", &oci.push_password_file);
        let pull = PasswordFile::new("OCI_PULL_PASSWORD_FILE", &oci.pull_password_file);
        if push.now().await?.expose_secret() == pull.now().await?.expose_secret() {
            return Err(StartError::SamePassword);
        }
        let registry = OciRegistry::new(oci, push.clone()).map_err(StartError::OciRegistry)?;
        Ok(Self::Oci { registry: Arc::new(registry), pull_username: oci.pull_username.clone(), push, pull })
    }

    /// What satellites and documents are told, where this server is reached at `public_url`.
    pub(super) fn url(&self, public_url: &str) -> String {
        match self {
            Self::Builtin(_) => public_url.to_owned(),
            Self::Harbor(registry) => registry.login().config().endpoint.to_string(),
            Self::Oci { registry, .. } => registry.endpoint().to_string(),
        }
    }

    /// Where state documents go.
    pub(super) fn documents(&self) -> Arc<dyn RegistryBackend> {
        match self {
            Self::Builtin(blobs) => Arc::new(BuiltinRegistry::new(blobs.clone())),
            Self::Harbor(registry) => Arc::clone(registry) as _,
            Self::Oci { registry, .. } => Arc::clone(registry) as _,
        }
    }

    /// What it holds.
    fn index(&self) -> Arc<dyn ArtifactIndex> {
        match self {
            Self::Builtin(blobs) => Arc::new(BuiltinIndex::new(blobs.clone())),
            Self::Harbor(registry) => Arc::clone(registry) as _,
            Self::Oci { registry, .. } => Arc::clone(registry) as _,
        }
    }

    /// All that the server needs of it, and who keeps its accounts. `longest`: the age at which a robot's secret is to be renewed.
    pub(super) fn central(
        self,
        store: &SharedStore,
        key: &ServerKey,
        hash_key: &Arc<HashKey>,
        robots: &Robots,
        url: String,
        longest: SignedDuration,
    ) -> (CentralRegistry, Option<Keeper>) {
        let (documents, index) = (self.documents(), self.index());
        let store = Arc::clone(store);
        let mut accounts = None;
        let (issuer, kind): (Arc<dyn CredentialIssuer>, _) = match self {
            Self::Builtin(blobs) => {
                let issuer = BuiltinIssuer::new(store, robots.clone(), url.clone(), longest);
                (Arc::new(issuer), RegistryKind::Builtin(blobs))
            }
            Self::Harbor(registry) => {
                let days = u32::try_from(longest.as_hours() / 24).unwrap_or(u32::MAX).max(1);
                let (seal, login) = (Seal::new(key, "harbor-robots"), Arc::clone(registry.login()));
                let options = KeeperOptions::new(days);
                let (keeper, handle) =
                    Keeper::new(Arc::clone(&store), login, robots.clone(), seal.clone(), options);
                accounts = Some(keeper);
                let issuer = HarborIssuer::new(store, seal, url.clone(), handle.clone());
                (Arc::new(issuer), RegistryKind::Harbor(registry, handle))
            }
            Self::Oci { registry, pull_username, push, pull } => {
                let hash_key = Arc::clone(hash_key);
                let issuer = OciIssuer::new(store, hash_key, url.clone(), pull_username, pull, push);
                (Arc::new(issuer), RegistryKind::Oci(registry))
            }
        };
        (CentralRegistry { url, documents, index, issuer, kind }, accounts)
    }
}

/// `first_look`: see [`publish::Options`].
pub(super) fn publisher(
    store: &SharedStore,
    documents: &Arc<dyn RegistryBackend>,
    url: &str,
    first_look: Duration,
) -> (Publisher, PublisherHandle) {
    let options = publish::Options { first_look, ..publish::Options::new(url) };
    Publisher::new(Arc::clone(store), Arc::clone(documents), options)
}

/// How a republication ended.
#[derive(Debug)]
pub enum Republished {
    /// This process wrote what there is to write.
    Here(publish::Status),
    /// A server has the registry open; it was asked, and writes so many documents within seconds.
    ByServer(u64),
}

/// Asks for every state document to be written again, or removed where what it describes is gone; does it at once
/// unless a server is running that does it.
///
/// # Errors
/// [`StartError`]; documents that could not be written are counted in the answer.
pub async fn republish(config: &Config) -> Result<Republished, StartError> {
    let (_folder, _, store) = open_database(config).await?;
    let now = jiff::Timestamp::now();
    let url = match &config.registry {
        RegistryConfig::Harbor(harbor) => harbor.endpoint.to_string(),
        RegistryConfig::Oci(oci) => oci.endpoint.to_string(),
        // Where the port is the system's choice, the URL is that of the last start.
        RegistryConfig::Builtin if config.public_registry_url.is_none() && config.listen.port() == 0 => {
            store.registry_url().await?.ok_or(StartError::UnknownUrl)?
        }
        RegistryConfig::Builtin => config.public_url(config.listen),
    };
    let asked = store.republish_all(now).await?;
    tracing::info!(documents = asked, "asked for all documents");
    let registry = match OpenRegistry::open(config).await {
        Ok(registry) => registry,
        Err(StartError::Registry { source, .. })
            if matches!(*source, blob_store::StoreError::Locked { .. }) =>
        {
            store.close().await;
            return Ok(Republished::ByServer(asked));
        }
        Err(error) => return Err(error),
    };
    store.set_registry_url(&url, now).await?;
    let (mut publisher, _handle) = publisher(&store, &registry.documents(), &url, Duration::ZERO);
    let status = publisher.drain().await;
    store.close().await;
    Ok(Republished::Here(status))
}
