//! Whether the registry takes the account that the satellite holds.
//!
//! Where every document is read in each turn, reading tells. Where Ground Control tells what there is, an idle satellite
//! asks the registry for nothing, so that an account is tried by itself: once when it is new, and when a download was
//! denied. What the registry accepted is told in the heartbeat, because the account that it took the place of can go then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Reconciler;
use crate::desired::{Desired, Upstream};
use crate::follow::{Position, Source};

/// Accounts are tried this far apart at least.
const PAUSE: Duration = Duration::from_secs(30);

/// When the account is tried.
#[derive(Debug, Default)]
pub(super) struct Account {
    doubtful: bool,
    not_before: Option<Instant>,
}

impl Account {
    /// The registry denied something: the account may be void.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }
}

impl Reconciler {
    /// Learns from what the read of the desired state met, or tries the account.
    pub(super) async fn hear_of_account(
        &mut self,
        upstream: &Arc<Upstream>,
        desired: &Desired,
        position: &Position,
    ) {
        let Some(username) = upstream.username() else {
            if !desired.unreachable {
                self.parts.refusals.clear();
            }
            return;
        };
        let told = position.source != Source::Registry;
        if desired.unauthorized {
            self.refused();
        } else if desired.answered {
            self.accepted(username);
        } else if told && self.is_to_be_tried(username) {
            match upstream.check_credentials().await {
                Ok(true) => self.accepted(username),
                Ok(false) => self.refused(),
                Err(error) => tracing::debug!(%error, "account at the registry not tried"),
            }
        } else if !told && !desired.unreachable {
            self.parts.refusals.clear();
        }
    }

    fn is_to_be_tried(&mut self, username: &str) -> bool {
        let known = self.parts.accepted.username();
        let due = self.account.not_before.is_none_or(|at| at <= Instant::now());
        let tried = due && (self.account.doubtful || known.as_deref() != Some(username));
        if tried {
            self.account.not_before = Some(Instant::now() + PAUSE);
        }
        tried
    }

    fn accepted(&mut self, username: &str) {
        self.account.doubtful = false;
        self.parts.refusals.clear();
        self.news |= self.parts.accepted.set(username.to_owned());
        self.reader.accepted(username);
    }

    fn refused(&mut self) {
        if self.parts.refusals.another() {
            self.parts.wake_heartbeat.notify_one();
        }
    }
}
