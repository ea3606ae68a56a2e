//! What a server stands on: the data folder, the key, the database, the registry's store; and the republication that needs
//! no more than that.

use std::sync::Arc;

use super::error::StartError;
use crate::auth::ServerKey;
use crate::config::Config;
use crate::publish::{self, BuiltinRegistry, Publisher, PublisherHandle};
use crate::store::{self, SharedStore};

/// The data folder, the key and the database.
pub(super) async fn open_database(config: &Config) -> Result<(ServerKey, SharedStore), StartError> {
    let data_dir = &config.data_dir;
    // For this user only: password hashes and the key lie in it.
    blob_store::durable::create_dir_all(data_dir)
        .map_err(|source| StartError::DataDir { path: data_dir.clone(), source })?;
    let store = store::open(&config.database).await.map_err(StartError::Database)?;
    let fresh = !store.has_users().await?;
    let key = ServerKey::open(config.secret_key_file.as_deref(), data_dir, fresh)?;
    Ok((key, store))
}

pub(super) fn open_registry(config: &Config) -> Result<blob_store::Store, StartError> {
    let path = config.data_dir.join("registry");
    blob_store::Store::open(&path, blob_store::Options::default())
        .map_err(|source| StartError::Registry { path, source: Box::new(source) })
}

pub(super) fn publisher(
    store: &SharedStore,
    blobs: &blob_store::Store,
    url: &str,
) -> (Publisher, PublisherHandle) {
    let registry = Arc::new(BuiltinRegistry::new(blobs.clone()));
    Publisher::new(Arc::clone(store), registry, publish::Options::new(url))
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
    let (_, store) = open_database(config).await?;
    let now = jiff::Timestamp::now();
    // Where the port is the system's choice, the URL is that of the last start.
    let url = if config.public_registry_url.is_none() && config.listen.port() == 0 {
        store.registry_url().await?.ok_or(StartError::UnknownUrl)?
    } else {
        config.public_url(config.listen)
    };
    let asked = store.republish_all(now).await?;
    tracing::info!(documents = asked, "asked for all documents");
    let blobs = match open_registry(config) {
        Ok(blobs) => blobs,
        Err(StartError::Registry { source, .. })
            if matches!(*source, blob_store::StoreError::Locked { .. }) =>
        {
            store.close().await;
            return Ok(Republished::ByServer(asked));
        }
        Err(error) => return Err(error),
    };
    store.set_registry_url(&url, now).await?;
    let (mut publisher, _handle) = publisher(&store, &blobs, &url);
    let status = publisher.drain().await;
    store.close().await;
    Ok(Republished::Here(status))
}
