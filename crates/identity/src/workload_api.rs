//! An identity from the SPIFFE Workload API of this machine: a SPIRE agent, or whoever else speaks it.
//!
//! The agent proves who we are by looking at our process; we hold no secret. What it sends is in force from the next
//! handshake on. It also tells when we are nobody (`PERMISSION_DENIED`): what was held is withdrawn at once. An agent
//! that is merely away takes nothing from us until what we hold expires.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};

use crate::expiry;
use crate::id::{Layout, TrustDomain};
use crate::source::IdentityKeeper;
use crate::svid::{Leaf, Svid, SvidError, TrustBundle};

/// The wait before the second try, doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two tries: the agent is on this machine, and asking it costs next to nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a connection may take to come about, and the first answer to arrive on it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The shortest silence after which an agent is asked anew.
const SHORTEST_SILENCE: Duration = Duration::from_secs(10);

/// The address of a Workload API is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no Workload API address: {cause}; use unix:///path or tcp://<IP address>:<port>")]
pub struct EndpointError {
    text: String,
    cause: String,
}

/// The address of a Workload API (SPIFFE Workload Endpoint, section 4): `unix:///path`, `unix:/path`, `tcp://ip:port`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    text: String,
    parsed: spiffe::transport::Endpoint,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match spiffe::transport::Endpoint::parse(text) {
            Ok(parsed) => Ok(Self { text: text.to_owned(), parsed }),
            Err(error) => Err(EndpointError { text: text.to_owned(), cause: error.to_string() }),
        }
    }
}

/// Which SVID is ours where the agent has several for us: the first of this layout, else the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The first: the default SVID (SPIFFE Workload API, section 5.3).
    #[default]
    First,
    /// A satellite's.
    Satellite,
    /// Ground Control's.
    GroundControl,
}

impl Wanted {
    fn takes(self, layout: &Layout) -> bool {
        match self {
            Self::First => true,
            Self::Satellite => matches!(layout, Layout::Satellite { .. }),
            Self::GroundControl => matches!(layout, Layout::GroundControl),
        }
    }

    /// The index of ours among the layouts of all; `None` only where there are none.
    fn choose(self, layouts: &[Layout]) -> Option<usize> {
        layouts.iter().position(|layout| self.takes(layout)).or_else(|| (!layouts.is_empty()).then_some(0))
    }
}

/// Keeps an identity as the agent says, for ever. Ends only where the future is dropped.
pub async fn follow(keeper: IdentityKeeper, endpoint: Endpoint, wanted: Wanted) -> Infallible {
    tokio::join!(ask_for_ever(&keeper, &endpoint, wanted), expiry::withdraw_expired(&keeper)).0
}

/// Why a conversation with the agent is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// We are nobody, says the agent.
    #[error("the agent has no identity for this process")]
    Denied(#[source] WorkloadApiError),
    #[error("the agent cannot be asked")]
    Lost(#[source] WorkloadApiError),
    #[error("what the agent sent is unusable")]
    Unusable(#[from] SvidError),
    #[error("the agent closed the stream")]
    Closed,
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Unanswered,
    /// Nothing wrong yet; but a dead connection looks the same.
    #[error("silent for long")]
    Silent,
}

impl From<WorkloadApiError> for Ended {
    fn from(error: WorkloadApiError) -> Self {
        match error {
            WorkloadApiError::NoIdentityIssued
            | WorkloadApiError::PermissionDenied(_)
            // An answer that names no SVID says the same.
            | WorkloadApiError::MissingRequiredField { field: "X509SVIDResponse.svids" } => Self::Denied(error),
            _ => Self::Lost(error),
        }
    }
}

async fn ask_for_ever(keeper: &IdentityKeeper, endpoint: &Endpoint, wanted: Wanted) -> Infallible {
    let mut wait = FIRST_WAIT;
    let mut said = None;
    loop {
        let mut updated = false;
        let ended = converse(keeper, endpoint, wanted, &mut updated).await;
        if updated {
            wait = FIRST_WAIT;
            said = None;
        }
        let error = whole(&ended);
        if matches!(ended, Ended::Denied(_)) && keeper.current().is_some() {
            tracing::error!(%endpoint, %error, "identity withdrawn by the workload api");
            keeper.withdraw();
        }
        if !matches!(ended, Ended::Silent) && said.as_ref() != Some(&error) {
            // An agent may be away for weeks: said once.
            tracing::warn!(%endpoint, %error, held = keeper.current().is_some(), "no news from the workload api");
            said = Some(error);
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..=1.0))).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// An error with all its causes: that of a connection says what is wrong only at the bottom.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if next != last {
            text.push_str(": ");
            text.push_str(&next);
        }
        last = next;
        cause = error.source();
    }
    text
}

async fn converse(keeper: &IdentityKeeper, endpoint: &Endpoint, wanted: Wanted, updated: &mut bool) -> Ended {
    match try_converse(keeper, endpoint, wanted, updated).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn try_converse(
    keeper: &IdentityKeeper,
    endpoint: &Endpoint,
    wanted: Wanted,
    updated: &mut bool,
) -> Result<Infallible, Ended> {
    let open = async {
        let client = WorkloadApiClient::connect(endpoint.parsed.clone()).await?;
        let mut stream = client.stream_x509_contexts().await?;
        let first = stream.next().await.ok_or(Ended::Closed)??;
        Ok::<_, Ended>((client, stream, first))
    };
    let (_client, mut stream, first) =
        tokio::time::timeout(ANSWER_WITHIN, open).await.map_err(|_| Ended::Unanswered)??;
    let mut context = first;
    loop {
        let (svid, bundle) = chosen(&context, wanted)?;
        let Leaf { id, not_after, .. } = svid.leaf().clone();
        if keeper.update(svid, bundle) {
            tracing::info!(%id, %not_after, "svid from the workload api");
        }
        let silence = silence(not_after, Timestamp::now());
        *updated = true;
        context = match tokio::time::timeout(silence, stream.next()).await {
            Err(_) => return Err(Ended::Silent),
            Ok(None) => return Err(Ended::Closed),
            Ok(Some(next)) => next?,
        };
    }
}

/// How long nothing need come before the agent is asked anew: half of what is left, so that a connection that died
/// unseen is noticed several times before the SVID ends.
fn silence(not_after: Timestamp, now: Timestamp) -> Duration {
    (expiry::left(not_after, now) / 2).max(SHORTEST_SILENCE)
}

fn chosen(context: &X509Context, wanted: Wanted) -> Result<(Svid, TrustBundle), SvidError> {
    let layout = |id: &spiffe::SpiffeId| {
        id.to_string().parse::<crate::SpiffeId>().map_or(Layout::Other, |id| id.layout())
    };
    let svids = context.svids();
    let layouts: Vec<Layout> = svids.iter().map(|svid| layout(svid.spiffe_id())).collect();
    let svid = wanted
        .choose(&layouts)
        .and_then(|index| svids.get(index))
        .ok_or(SvidError::Rule("the agent sent none"))?;
    let name = svid.spiffe_id().trust_domain();
    let trust_domain: TrustDomain = name.as_str().parse()?;
    let authorities = context.bundle_set().get(name).ok_or(SvidError::EmptyBundle)?;
    let bundle = TrustBundle::from_der(trust_domain, owned(authorities.authorities()))?;
    let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
    let svid = Svid::from_der(owned(svid.cert_chain()), PrivateKeyDer::Pkcs8(key))?;
    if svid.leaf().is_expired(Timestamp::now()) {
        return Err(SvidError::Rule("it has expired"));
    }
    Ok((svid, bundle))
}

fn owned(certificates: &[spiffe::cert::Certificate]) -> Vec<CertificateDer<'static>> {
    certificates.iter().map(|certificate| CertificateDer::from(certificate.as_bytes().to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layouts() -> impl Strategy<Value = Vec<Layout>> {
        let ids = [
            "spiffe://td/gc/main",
            "spiffe://td/satellite/edge-01",
            "spiffe://td/agent/edge-01",
            "spiffe://td/x",
        ];
        let layout =
            prop::sample::select(ids.to_vec()).prop_map(|id| id.parse::<crate::SpiffeId>().unwrap().layout());
        prop::collection::vec(layout, 0..6)
    }

    proptest! {
        #[test]
        fn ours_is_the_first_of_the_wanted_layout_else_the_first(layouts in layouts(), pick in 0..3) {
            let wanted = [Wanted::First, Wanted::Satellite, Wanted::GroundControl][usize::try_from(pick).unwrap()];
            match wanted.choose(&layouts) {
                None => prop_assert!(layouts.is_empty()),
                Some(index) if wanted.takes(&layouts[index]) => {
                    prop_assert!(!layouts[..index].iter().any(|layout| wanted.takes(layout)));
                }
                Some(index) => {
                    prop_assert_eq!(index, 0);
                    prop_assert!(!layouts.iter().any(|layout| wanted.takes(layout)));
                }
            }
        }

        #[test]
        fn a_dead_connection_is_noticed_before_the_svid_ends(life in -100i64..10_000_000) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let silence = silence(now + jiff::SignedDuration::from_secs(life), now);
            prop_assert!(silence >= SHORTEST_SILENCE);
            prop_assert!(life < 20 || silence < Duration::from_secs(life.unsigned_abs()));
        }
    }

    #[test]
    fn an_error_tells_its_cause_once() {
        let status = WorkloadApiError::PermissionDenied("not you".to_owned());
        let text = whole(&Ended::from(status));
        assert_eq!(text, "the agent has no identity for this process: permission denied: not you");
    }
}
