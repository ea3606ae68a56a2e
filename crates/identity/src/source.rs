//! The handle on the identity that is good at this moment.

use std::sync::Arc;

use tokio::sync::watch;

use crate::svid::{Svid, TrustBundle};

/// An SVID and the authorities of its trust domain, as they are good together.
#[derive(Debug, Clone)]
pub struct Current {
    /// Who we are.
    pub svid: Svid,
    /// Whom we trust.
    pub bundle: TrustBundle,
}

/// Where an identity is kept up to date.
#[derive(Debug)]
pub struct IdentityKeeper {
    sender: watch::Sender<Option<Arc<Current>>>,
}

/// The identity that is good at this moment; clones see the same one.
#[derive(Debug, Clone)]
pub struct Identity {
    receiver: watch::Receiver<Option<Arc<Current>>>,
}

/// A keeper and the handle that sees what it keeps; nothing is kept yet.
#[must_use]
pub fn identity() -> (IdentityKeeper, Identity) {
    let (sender, receiver) = watch::channel(None);
    (IdentityKeeper { sender }, Identity { receiver })
}

impl IdentityKeeper {
    /// From the next handshake on, this is who we are and whom we trust.
    pub fn set(&self, svid: Svid, bundle: TrustBundle) {
        self.update(svid, bundle);
    }

    /// As [`IdentityKeeper::set`], and tells whether it was news; nobody is woken where it was not.
    pub(crate) fn update(&self, svid: Svid, bundle: TrustBundle) -> bool {
        self.sender.send_if_modified(|held| {
            let same =
                held.as_ref().is_some_and(|held| held.svid.chain() == svid.chain() && held.bundle == bundle);
            if !same {
                *held = Some(Arc::new(Current { svid, bundle }));
            }
            !same
        })
    }

    /// The identity is withdrawn: handshakes fail until there is one again.
    pub fn withdraw(&self) {
        self.sender.send_replace(None);
    }

    /// What is kept now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        self.sender.borrow().clone()
    }

    /// A handle on what is kept.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { receiver: self.sender.subscribe() }
    }
}

impl Identity {
    /// What is good now; `None` before the first, and while the identity is withdrawn.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        self.receiver.borrow().clone()
    }

    /// Waits for an identity; `None` where its keeper has ended.
    pub async fn ready(&mut self) -> Option<Arc<Current>> {
        self.receiver.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits for the next change; `false` where its keeper has ended.
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}
