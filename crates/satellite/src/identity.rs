//! Who the satellite is towards Ground Control.
//!
//! There are three kinds: a robot account that a one-time token bought (then there is no [`EdgeIdentity`] to show), an
//! X.509-SVID of the Workload API, and an X.509-SVID of the authority that is built into Ground Control, which the
//! satellite attests to, renews and keeps itself ([`builtin`]). Whoever keeps the last two up to date, the rest of the
//! program sees the same handle: what is good at this moment, and TLS over it.
//!
//! An SVID is shown to one address only: scheme, host and port of the Ground Control URL. That address is checked by
//! SPIFFE ID and by nothing else; every other address is checked by public authorities and `TLS_CA_FILE`, never by
//! SPIFFE ID.

use std::sync::{Arc, Mutex, PoisonError};

use identity::tls::Expected;
use identity::{Current, Identity, IdentityKeeper, SpiffeId, TrustDomain};
use jiff::Timestamp;
use url::Url;

use crate::config::{ExpectedServer, IdentitySettings, IdentitySource};

mod anchors;
pub(crate) mod builtin;
pub(crate) mod sources;
mod step;

/// HTTP/1.1: what a pool of connections ends with is then told by each of them.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// There is no SVID to show at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// There is none, or it was withdrawn, or it has expired.
    #[error("there is no SVID to show at this moment, see the identity in `satellite status`")]
    Absent,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The handle on who the satellite is. Clones see the same.
#[derive(Debug, Clone)]
pub struct EdgeIdentity {
    used: Option<Used>,
}

#[derive(Debug, Clone)]
struct Used {
    identity: Identity,
    expected: ExpectedServer,
    /// The trust domain of the last SVID: an identity that is away for the moment does not change who the other side is.
    trust_domain: Arc<Mutex<Option<TrustDomain>>>,
}

impl EdgeIdentity {
    /// The handle for these settings, and its keeper where an SVID is used.
    #[must_use]
    pub fn new(settings: &IdentitySettings) -> (Self, Option<IdentityKeeper>) {
        if settings.source == IdentitySource::Token {
            return (Self::none(), None);
        }
        let (keeper, identity) = identity::identity();
        let expected = settings.expected_server.clone();
        let used = Used { identity, expected, trust_domain: Arc::default() };
        (Self { used: Some(used) }, Some(keeper))
    }

    /// No SVID is used.
    #[must_use]
    pub fn none() -> Self {
        Self { used: None }
    }

    /// Whether the satellite identifies itself by an SVID at all.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.is_some()
    }

    /// What is good at this moment; `None` also for an SVID that has expired.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        let current = self.used.as_ref()?.identity.current()?;
        (!current.svid.leaf().is_expired(Timestamp::now())).then_some(current)
    }

    /// What is kept, whether good or not.
    pub(crate) fn kept(&self) -> Option<Arc<Current>> {
        self.used.as_ref()?.identity.current()
    }

    /// Waits for the next change; for ever where nothing will change.
    pub(crate) async fn changed(&mut self) {
        if let Some(used) = &mut self.used
            && used.identity.changed().await
        {
            return;
        }
        std::future::pending().await
    }

    /// TLS for the address of Ground Control. It shows at each handshake what is good then, and fails where that is
    /// nothing.
    ///
    /// # Errors
    /// [`NoIdentity`]; `Absent` only before there ever was an SVID.
    pub fn client_config(&self) -> Result<rustls::ClientConfig, NoIdentity> {
        let used = self.used.as_ref().ok_or(NoIdentity::Absent)?;
        let mut known = used.trust_domain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = used.identity.current() {
            *known = Some(current.svid.id().trust_domain().clone());
        }
        let trust_domain = known.as_ref().ok_or(NoIdentity::Absent)?;
        let expected = expected(&used.expected, trust_domain);
        identity::tls::client_config(&used.identity, expected, ALPN)
            .map_err(|error| NoIdentity::Tls(error.to_string()))
    }
}

/// Whom TLS takes for Ground Control.
fn expected(setting: &ExpectedServer, trust_domain: &TrustDomain) -> Expected {
    match setting {
        ExpectedServer::GroundControl => Expected::Exactly(SpiffeId::ground_control(trust_domain)),
        ExpectedServer::Any => Expected::Member,
        ExpectedServer::Exactly(id) => Expected::Exactly(id.clone()),
    }
}

/// Whether two URLs name the same scheme, host and port.
#[must_use]
pub fn same_address(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_scheme_host_and_port() {
        let same = |one: &str, other: &str| same_address(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("https://gc.example.com", "https://GC.example.com:443/path"));
        assert!(!same("https://gc.example.com", "https://gc.example.com:8443"));
        assert!(!same("https://gc.example.com", "http://gc.example.com:443"));
        assert!(!same("https://gc.example.com", "https://gc.example.com.evil.example"));
    }

    #[test]
    fn the_expected_server_is_of_the_own_trust_domain_unless_it_is_named() {
        let domain: TrustDomain = "td".parse().unwrap();
        let main: SpiffeId = "spiffe://td/gc/main".parse().unwrap();
        assert_eq!(expected(&ExpectedServer::GroundControl, &domain), Expected::Exactly(main));
        assert_eq!(expected(&ExpectedServer::Any, &domain), Expected::Member);
        let other: SpiffeId = "spiffe://td/other".parse().unwrap();
        assert_eq!(expected(&ExpectedServer::Exactly(other.clone()), &domain), Expected::Exactly(other));
    }

    #[test]
    fn before_there_is_an_svid_there_is_no_tls() {
        let (identity, keeper) = EdgeIdentity::new(&IdentitySettings::default());
        assert!(!identity.is_used() && keeper.is_none());
        let settings = IdentitySettings {
            source: IdentitySource::WorkloadApi { endpoint: "unix:///x".to_owned() },
            ..IdentitySettings::default()
        };
        let (identity, _keeper) = EdgeIdentity::new(&settings);
        assert!(identity.is_used());
        assert_eq!(identity.client_config().unwrap_err(), NoIdentity::Absent);
    }
}
