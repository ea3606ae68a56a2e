//! A member of the trust domain: registered, attested, with an SVID of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::attestation::{AttestRequest, SvidAnswer};
use identity::key::KeyPair;
use identity::tls::{self, Expected};
use identity::{IdentityKeeper, SpiffeId, Svid, TrustBundle, TrustDomain};
use rustls::ClientConfig;
use testbed::admin::{Admin, Registered};
use testbed::ground_control::GroundControl;
use testbed::{Error, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Connection, Route, get, post};

/// Registrations and attestations at the same time; not what is measured.
const PREPARING: usize = 32;
/// The longest that anything of it takes.
const PATIENCE: Duration = Duration::from_secs(300);
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// A satellite with its SVID.
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Shows the SVID, and takes Ground Control alone.
    pub(crate) tls: Arc<ClientConfig>,
    /// The identity is good for as long as it is kept.
    _keeper: IdentityKeeper,
}

/// Registers satellites and gets each its SVID with its join token, as edges do. `done` hears of each.
pub(crate) async fn enrol(
    ground_control: &GroundControl,
    to: SocketAddr,
    names: Vec<String>,
    (region, groups): (fn(usize) -> String, &[&str]),
    done: impl Fn(),
) -> Result<Vec<Member>> {
    let admin = ground_control.admin().await?;
    let slots = Arc::new(Semaphore::new(PREPARING));
    let groups: Arc<[String]> = groups.iter().map(|&group| group.to_owned()).collect();
    let mut tasks = JoinSet::new();
    for (number, name) in names.into_iter().enumerate() {
        let (admin, slots, groups) = (admin.clone(), Arc::clone(&slots), Arc::clone(&groups));
        tasks.spawn(async move {
            let _slot = slots.acquire().await;
            let region = region(number);
            let one = register(&admin, Route::of(to, number), name, &region, &groups);
            let member = tokio::time::timeout(PATIENCE, one).await.map_err(|_| {
                Error::Content(format!("satellite {number} was not registered within {PATIENCE:?}"))
            })??;
            Ok((number, member))
        });
    }
    let mut members: Vec<(usize, Member)> = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        members.push(ended.map_err(|error| wrong(&error))??);
        done();
    }
    members.sort_by_key(|(number, _)| *number);
    Ok(members.into_iter().map(|(_, member)| member).collect())
}

async fn register(
    admin: &Admin,
    route: Route,
    name: String,
    region: &str,
    groups: &[String],
) -> Result<Member> {
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let registered = loop {
        match admin.register(&name, region, &groups).await {
            // So many at once are more than one administrator may ask for.
            Err(Error::Answer { status: 429, .. }) => tokio::time::sleep(Duration::from_secs(1)).await,
            registered => break registered?,
        }
    };
    let member = Member::attest(route, name, &registered).await?;
    // The registration by SVID: it gives the account of the registry.
    let mut connection = Connection::open(route, &member.tls).await.map_err(|error| wrong(&error))?;
    let answer = connection.ask(&get("/satellites/spiffe-ztr")).await.map_err(|error| wrong(&error))?;
    answer.success().map_err(|error| wrong(&error))?;
    Ok(member)
}

impl Member {
    /// Gets an SVID for a new key with the join token, over TLS that checks Ground Control's SVID.
    async fn attest(route: Route, name: String, registered: &Registered) -> Result<Self> {
        let domain = TrustDomain::default();
        let ground_control = Expected::Exactly(SpiffeId::ground_control(&domain));
        let bundle =
            TrustBundle::from_pem(domain.clone(), &registered.trust_bundle).map_err(|error| wrong(&error))?;
        let bootstrap = tls::bootstrap_client_config(bundle, ground_control.clone(), ALPN)
            .map_err(|error| wrong(&error))?;
        let key = KeyPair::generate().map_err(|error| wrong(&error))?;
        let request = AttestRequest {
            join_token: registered.join_token.clone().into(),
            csr: key.csr_pem(None).map_err(|error| wrong(&error))?,
        };
        let body = serde_json::to_vec(&request).map_err(|error| wrong(&error))?;
        let asked = async {
            let mut connection = Connection::open(route, &Arc::new(bootstrap)).await?;
            connection.ask(&post("/satellites/attest", &body, None)).await
        };
        let answer = asked.await.map_err(|error| wrong(&error))?.success().map_err(|error| wrong(&error))?;
        let answer: SvidAnswer = serde_json::from_slice(&answer.body).map_err(|error| wrong(&error))?;

        let svid = Svid::from_pem(&answer.svid, &key.to_pem()).map_err(|error| wrong(&error))?;
        let bundle = TrustBundle::from_pem(domain, &answer.trust_bundle).map_err(|error| wrong(&error))?;
        let (keeper, identity) = identity::identity();
        keeper.set(svid, bundle);
        let tls = tls::client_config(&identity, ground_control, ALPN).map_err(|error| wrong(&error))?;
        Ok(Self { name, tls: Arc::new(tls), _keeper: keeper })
    }
}

fn wrong(reason: &dyn std::fmt::Display) -> Error {
    Error::Content(format!("a simulated satellite: {reason}"))
}
