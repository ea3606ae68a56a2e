//! Robots first: a group's document is published when its satellites may read what it names, and a satellite's when it may
//! read what its groups name.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::keeper::KeeperHandle;
use crate::domain::StoreResult;
use crate::domain::document::{Claimed, DocumentKind};
use crate::domain::harbor::GroupTurn;
use crate::publish::Gate;
use crate::store::SharedStore;

/// How long a document waits before is looked again; the keeper wakes the publisher, too.
const POSTPONED: SignedDuration = SignedDuration::from_millis(500);

/// Stands before the publisher where Harbor is the registry.
#[derive(Debug)]
pub struct SiteGate {
    store: SharedStore,
    keeper: KeeperHandle,
}

impl SiteGate {
    /// For the robots that this keeper sees to.
    pub fn new(store: SharedStore, keeper: KeeperHandle) -> Self {
        Self { store, keeper }
    }
}

#[async_trait]
impl Gate for SiteGate {
    async fn postponed(&self, claimed: &Claimed) -> StoreResult<Option<SignedDuration>> {
        let (name, now) = (claimed.document.name.as_str(), Timestamp::now());
        match claimed.document.kind {
            DocumentKind::Config => Ok(None),
            DocumentKind::Satellite => {
                // Its groups may be others than before.
                self.store.ask_site(name, &claimed.change, now).await?;
                self.keeper.wake();
                let waits = self.store.site_waits(name).await?;
                if waits {
                    tracing::debug!(satellite = name, "document waits for its robot");
                }
                Ok(waits.then_some(POSTPONED))
            }
            DocumentKind::Group => match self.store.group_turn(name, now).await? {
                GroupTurn::Now => {
                    self.keeper.wake();
                    Ok(None)
                }
                GroupTurn::Waits(sites) => {
                    tracing::debug!(group = name, sites, "document waits for robots");
                    self.keeper.wake();
                    Ok(Some(POSTPONED))
                }
            },
        }
    }
}
