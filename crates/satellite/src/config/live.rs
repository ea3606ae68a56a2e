//! The configuration in force while the program runs: readers subscribe, the replication of the config document writes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob_store::durable;
use fleet_protocol::config::ConfigDocument;
use oci::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Change, Effective, Layer, Refusal, RemoteConfig, Shared, Site, layer};
use crate::sealed::{KeptConfig, SealError, Vault};

/// What a start needs to know of the remote config before the sealed state is open. It holds no secret.
const BOOT_FILE: &str = "boot.json";

/// A handle to the configuration in force. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    site: Arc<Site>,
    vault: Vault,
    sender: watch::Sender<Shared>,
}

/// Why a remote config did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The document itself is at fault; the last good one stays.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is good, but could not be kept on disk, so it was not taken either.
    #[error("remote config is good but could not be kept: {0}")]
    NotKept(#[from] SealError),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Boot {
    listen: Option<std::net::SocketAddr>,
    gc_grace_seconds: Option<u64>,
    bring_own_registry: Option<bool>,
}

/// The configuration before the sealed state is open: the site's word, and what of the last remote config stands
/// outside the seal.
#[must_use]
pub fn at_boot(site: &Site) -> Effective {
    let boot = std::fs::read(site.config_dir.join(BOOT_FILE))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Boot>(&bytes).ok())
        .unwrap_or_default();
    let remote = Layer {
        // The file is in plain view: what it says must not open more than a remote config could.
        listen: boot.listen.filter(|address| address.ip().is_loopback()),
        byo_registry: boot.bring_own_registry,
        gc_grace: boot.gc_grace_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        ..Layer::default()
    };
    Effective::of(site, &remote)
}

impl LiveConfig {
    /// Puts the last good remote config back in force, so that a start without a network works as before. `boot` is
    /// what the process started with. A kept document that this release refuses is left out, and the reasons returned.
    #[must_use]
    pub fn open(site: Arc<Site>, boot: Effective, vault: Vault) -> (Self, Option<Refusal>) {
        let kept = vault.state();
        let (mut effective, mut refusal) = (boot, None);
        if let Some(kept) = &kept.remote_config {
            match RemoteConfig::apply(&site, &effective, &kept.document) {
                Ok(change) => {
                    write_boot(&site.config_dir, &change.layer);
                    // Nothing has been started with these yet.
                    effective = Effective {
                        byo_wanted: change.next_start.byo_wanted,
                        byo_registry: change.next_start.byo_registry,
                        ..change.effective
                    };
                }
                Err(refused) => refusal = Some(refused),
            }
        }
        (Self { site, vault, sender: watch::Sender::new(Arc::new(effective)) }, refusal)
    }

    /// What the site decided.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The configuration in force now.
    #[must_use]
    pub fn current(&self) -> Shared {
        self.sender.borrow().clone()
    }

    /// Wakes its holder when the configuration changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Shared> {
        self.sender.subscribe()
    }

    /// Digest of the remote config that is kept, if there is one.
    #[must_use]
    pub fn kept_digest(&self) -> Option<Digest> {
        self.vault.state().remote_config.as_ref().and_then(|kept| kept.digest)
    }

    /// Validates `document`, keeps it durably (sealed, with the `digest` of the state artifact it came from), then puts
    /// it in force.
    ///
    /// # Errors
    /// [`AdoptError`]; nothing changed then.
    pub async fn adopt(&self, digest: Digest, document: &ConfigDocument) -> Result<Change, AdoptError> {
        let current = self.current();
        let change = RemoteConfig::apply(&self.site, &current, document)?;
        let unreadable = layer::unreadable_files(&change.next_start);
        if !unreadable.is_empty() {
            let reasons = unreadable.iter().map(ToString::to_string).collect();
            return Err(Refusal { reasons }.into());
        }
        let kept = KeptConfig { digest: Some(digest), document: document.clone() };
        let (config_dir, said) = (self.site.config_dir.clone(), change.layer.clone());
        self.vault
            .update(move |state| {
                state.remote_config = Some(kept);
            })
            .await?;
        drop(tokio::task::spawn_blocking(move || write_boot(&config_dir, &said)).await);
        self.sender.send_replace(Arc::new(change.effective.clone()));
        Ok(change)
    }
}

/// Keeps what the next start needs early. A failure costs nothing but that start's settings, which the sealed document
/// puts right again.
fn write_boot(config_dir: &Path, said: &Layer) {
    let path = config_dir.join(BOOT_FILE);
    let boot = Boot {
        listen: said.listen,
        gc_grace_seconds: said.gc_grace.map(|grace| grace.as_secs()),
        bring_own_registry: said.byo_registry,
    };
    let written = serde_json::to_vec(&boot).map_err(std::io::Error::other).and_then(|bytes| {
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        durable::write_file(&path, &bytes, durable::PRIVATE_FILE)
    });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "settings for the next start not kept");
    }
}

#[cfg(test)]
mod tests;
