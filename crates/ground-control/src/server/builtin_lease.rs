//! One server for a built-in registry.
//!
//! What it holds lies on the disk of one server, and what another one would publish or take lies on another's: satellites would
//! find at each only a part. So that server has a lease in the database, under an identifier that lies beside its registry: it
//! comes back at once after a kill, and nobody else comes before the lease has ended.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::StartError;
use crate::store::SharedStore;

const LEASE: &str = "builtin_registry";
/// The file with the identifier.
const FILE: &str = "registry-holder";
const TERM: SignedDuration = SignedDuration::from_secs(60);
const RENEW: Duration = Duration::from_secs(10);

/// The lease of this server's registry.
#[derive(Debug)]
pub(super) struct BuiltinLease {
    store: SharedStore,
    holder: String,
}

impl BuiltinLease {
    /// Takes it, under the identifier in `data_dir`, which is made where there is none.
    ///
    /// # Errors
    /// [`StartError::SecondBuiltin`] where another server has it.
    pub(super) async fn take(store: SharedStore, data_dir: &Path) -> Result<Self, StartError> {
        let lease = Self { store, holder: holder(data_dir)? };
        match lease.renew(Timestamp::now()).await? {
            Ok(()) => Ok(lease),
            Err(until) => Err(StartError::SecondBuiltin { until }),
        }
    }

    async fn renew(&self, now: Timestamp) -> crate::domain::StoreResult<Result<(), Timestamp>> {
        self.store.take_lease(LEASE, &self.holder, now, now + TERM).await
    }

    /// Keeps it until `stop`, then gives it back.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(RENEW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            match self.renew(Timestamp::now()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!(
                    "another server has the built-in registry of this database, end one of the two; several replicas \
                     need REGISTRY_BACKEND=harbor or oci"
                ),
                Err(error) => tracing::warn!(%error, "lease of the built-in registry not renewed"),
            }
        }
        if let Err(error) = self.store.end_lease(LEASE, &self.holder).await {
            tracing::warn!(%error, "lease of the built-in registry not given back, it ends by itself");
        }
    }
}

fn holder(data_dir: &Path) -> Result<String, StartError> {
    let path = data_dir.join(FILE);
    let fail = |source| StartError::DataDir { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) if Uuid::try_parse(text.trim()).is_ok() => Ok(text.trim().to_owned()),
        Ok(_) => make(&path).map_err(fail),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path).map_err(fail),
        Err(error) => Err(fail(error)),
    }
}

fn make(path: &Path) -> std::io::Result<String> {
    let holder = Uuid::new_v4().to_string();
    blob_store::durable::replace_file(path, holder.as_bytes(), 0o600)?;
    Ok(holder)
}
