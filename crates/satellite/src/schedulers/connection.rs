//! The client of Ground Control that a scheduler keeps.

use std::sync::Arc;

use identity::Current;
use url::Url;

use crate::config::{Effective, TlsTrust};
use crate::ground_control::{GroundControl, GroundControlError};
use crate::identity::{EdgeIdentity, NoIdentity};

/// Kept, so that its connections are, until the settings or the SVID change: what goes on over a connection goes on
/// under the SVID that it was opened with.
#[derive(Debug, Default)]
pub(super) struct Connection(Option<(Basis, GroundControl)>);

#[derive(Debug)]
struct Basis {
    url: Url,
    tls: TlsTrust,
    unsecure: bool,
    svid: Option<Arc<Current>>,
}

impl Basis {
    fn is(&self, other: &Self) -> bool {
        let same_svid = match (&self.svid, &other.svid) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_svid && self.url == other.url && self.tls == other.tls && self.unsecure == other.unsecure
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    GroundControl(#[from] GroundControlError),
    #[error(transparent)]
    Identity(#[from] NoIdentity),
}

impl Connection {
    /// The client for the Ground Control at `url`.
    pub(super) fn to(
        &mut self,
        url: &Url,
        config: &Effective,
        identity: &EdgeIdentity,
    ) -> Result<GroundControl, ConnectionError> {
        let svid = identity.current();
        if identity.is_used() && svid.is_none() {
            self.0 = None;
            return Err(NoIdentity::Absent.into());
        }
        let basis = Basis { url: url.clone(), tls: config.tls.clone(), unsecure: config.use_unsecure, svid };
        if let Some((known, ground_control)) = &self.0
            && known.is(&basis)
        {
            return Ok(ground_control.clone());
        }
        let ground_control = if identity.is_used() {
            GroundControl::over(url, identity.client_config()?)?
        } else {
            GroundControl::new(url, &config.tls, config.use_unsecure)?
        };
        self.0 = Some((basis, ground_control.clone()));
        Ok(ground_control)
    }
}
