//! Requests that a limit refused.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::catalogue::Catalogue;
use super::{Labels, Metrics};

/// Which limit refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Too many failed logins of one name from one source.
    Lockout,
    /// Too many failed logins of one source.
    Source,
    /// Too many passwords wait to be checked.
    Queue,
    /// Too many requests of one account.
    Account,
    /// Too many failed registrations from one source.
    Registration,
}

impl Limit {
    const ALL: [Self; 5] = [Self::Lockout, Self::Source, Self::Queue, Self::Account, Self::Registration];

    fn label(self) -> &'static str {
        match self {
            Self::Lockout => "lockout",
            Self::Source => "source",
            Self::Queue => "queue",
            Self::Account => "account",
            Self::Registration => "registration",
        }
    }
}

#[derive(Debug)]
pub(super) struct Limits(Family<Labels<1>, Counter>);

impl Limits {
    pub(super) fn new(all: &mut Catalogue) -> Self {
        let limits = Self(all.add(
            "ground_control_limited",
            &["limit"],
            "Requests refused by a limit: lockout, source, queue, account, registration",
            Family::default(),
        ));
        for limit in Limit::ALL {
            let _ = limits.0.get_or_create(&[("limit", limit.label().into())]);
        }
        limits
    }
}

impl Metrics {
    /// A limit refused a request.
    pub(crate) fn limited(&self, limit: Limit) {
        self.values.limits.0.get_or_create(&[("limit", limit.label().into())]).inc();
    }
}
