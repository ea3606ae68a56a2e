//! The built-in authority: certificates for satellites and node agents without SPIRE.
//!
//! The authorities of the trust domain live in SQL, their keys sealed under the server key; every replica reads them,
//! and any of them makes the next one in time ([`identity::authority::rotation`]). Which one signs is decided anew for
//! each certificate, so that no replica has to be told.
//!
//! Three doors lead here: satellites attest and renew over HTTP ([`routes`]), stock node agents over SPIRE's own protocol
//! ([`Authority::agent_router`]), and registration hands out the join tokens for both (it is a [`super::Registrar`]).
//! What they have in common: the identity comes from the database and never from the request, and a certificate is
//! bound to the key that asked.

mod agents;
mod attest;
mod registrar;
mod routes;
mod seal;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use identity::authority::rotation::{self, Policy, Term};
use identity::authority::{BACKDATE, CertificateAuthority, Issue, SVID_LIFE, serial};
use identity::key::{KeyError, KeyPair};
use identity::svid::SvidError;
use identity::tls::TlsError;
use identity::{Identity, IdentityKeeper, SpiffeId, Svid, TrustBundle, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use registry_server::listen::TlsServer;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use self::seal::Seal;
use crate::auth::{DerivedKey, ServerKey};
use crate::domain::StoreError;
use crate::domain::identity::AuthorityRecord;
use crate::domain::secret::HashKey;
use crate::metrics::{Job, Metrics};
use crate::store::SharedStore;

pub use attest::IssueError;
pub use routes::routes;

/// How often the clock is looked at: it may jump, and a machine may sleep.
const TICK: Duration = Duration::from_secs(30);
/// How often the database is looked at.
const UPKEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// More than enough tries: each loses only to a replica that made the same authority.
const TRIES: u32 = 5;

/// Why the built-in authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The database does not answer.
    #[error("the certificate authorities cannot be read or kept")]
    Store(#[from] StoreError),
    /// A key was sealed under another server key.
    #[error(
        "the key of the certificate authority {0} does not open with this server key; restore the SECRET_KEY_FILE \
         under which it was kept"
    )]
    Sealed(String),
    /// A kept authority is damaged, or a certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] identity::authority::AuthorityError),
    /// The system gives no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was made is no SVID or bundle.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// There is no TLS with it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No authority is left that could sign.
    #[error("no certificate authority is good at this time; is the clock right?")]
    None,
}

/// An authority as it is at hand.
#[derive(Debug, Clone)]
struct Member {
    id: String,
    term: Term,
    authority: Arc<CertificateAuthority>,
}

/// The authorities of the trust domain, as they were read last.
#[derive(Debug)]
struct Known {
    members: Vec<Member>,
    bundle: TrustBundle,
}

impl Known {
    fn terms(&self) -> Vec<Term> {
        self.members.iter().map(|member| member.term).collect()
    }
}

/// Who signs now, and until when what it signs may be good.
struct Signer {
    authority: Arc<CertificateAuthority>,
    now: Timestamp,
    expires_at: Timestamp,
}

impl Signer {
    fn issue(
        &self,
        id: SpiffeId,
        public_key: Vec<u8>,
        epoch: i64,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        Ok(self.authority.issue(&Issue {
            id,
            public_key,
            serial: serial(epoch),
            not_before: self.now.saturating_sub(BACKDATE).unwrap_or(self.now),
            not_after: self.expires_at,
            dns_names: Vec::new(),
        })?)
    }
}

/// The built-in authority.
#[derive(Debug)]
pub struct Authority {
    store: SharedStore,
    trust_domain: TrustDomain,
    policy: Policy,
    seal: Seal,
    hash_key: HashKey,
    /// Makes the identities of agents out of their join tokens.
    agent_key: DerivedKey,
    known: RwLock<Arc<Known>>,
    /// `/gc/main`.
    own: IdentityKeeper,
    /// `/spire/server`.
    server: IdentityKeeper,
}

impl Authority {
    /// Opens the authority of `trust_domain`, which is made where there is none. [`Authority::own`] is ready then.
    ///
    /// `grace`: for how long after its end an SVID still renews; at most [`rotation::MAX_GRACE`].
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub async fn open(
        store: SharedStore,
        key: &ServerKey,
        trust_domain: TrustDomain,
        grace: SignedDuration,
    ) -> Result<Arc<Self>, AuthorityError> {
        Self::open_at(store, key, trust_domain, grace, Timestamp::now()).await
    }

    /// [`Authority::open`] at a time of the caller's choice.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub async fn open_at(
        store: SharedStore,
        key: &ServerKey,
        trust_domain: TrustDomain,
        grace: SignedDuration,
        now: Timestamp,
    ) -> Result<Arc<Self>, AuthorityError> {
        if grace > rotation::MAX_GRACE {
            tracing::warn!(
                days = rotation::MAX_GRACE.as_hours() / 24,
                "SVID_RENEWAL_GRACE is longer than an authority's life allows, shortened"
            );
        }
        let policy = Policy::new(grace);
        let seal = Seal::new(key, &trust_domain);
        let known = upkeep(&store, &trust_domain, policy, &seal, &[], now).await?;
        let authority = Self {
            store,
            trust_domain,
            policy,
            seal,
            hash_key: HashKey::new(key.derive("machine-secrets").bytes()),
            agent_key: key.derive("agent-identities"),
            known: RwLock::new(Arc::new(known)),
            own: identity::identity().0,
            server: identity::identity().0,
        };
        authority.freshen(now)?;
        Ok(Arc::new(authority))
    }

    /// Keeps authorities and our own SVIDs fresh until `stop`: a task that runs as long as the program.
    pub async fn keep(self: Arc<Self>, metrics: Metrics, stop: CancellationToken) {
        let mut looked_at = Timestamp::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            let now = Timestamp::now();
            if now < looked_at || now.duration_since(looked_at) >= UPKEEP_EVERY {
                let run = metrics.job(Job::Authority);
                let outcome = self.refresh(now).await;
                run.ended(outcome.is_ok());
                match outcome {
                    Ok(()) => looked_at = now,
                    Err(error) => {
                        tracing::warn!(%error, "certificate authorities not looked after, tried again")
                    }
                }
            }
            // Without the database, too: what is at hand signs for us.
            if let Err(error) = self.freshen(now) {
                tracing::warn!(%error, "own svid not renewed, tried again");
            }
        }
    }

    /// Looks after the authorities as of `now`: makes the next one where it is time, forgets those that nobody needs,
    /// takes up what other replicas made, and renews our own SVIDs where they are due.
    ///
    /// # Errors
    /// [`AuthorityError`]; what was there before goes on working.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), AuthorityError> {
        let before = self.known();
        let known =
            upkeep(&self.store, &self.trust_domain, self.policy, &self.seal, &before.members, now).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        self.freshen(now)
    }

    /// Ground Control's own identity, `/gc/main`.
    pub fn own(&self) -> Identity {
        self.own.identity()
    }

    /// What the agents' listener shows: `/spire/server`, the one server that a stock agent takes.
    pub fn server(&self) -> Identity {
        self.server.identity()
    }

    /// The trust domain that it vouches for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities of the trust domain now.
    pub fn bundle(&self) -> TrustBundle {
        self.known().bundle.clone()
    }

    /// TLS of the agents' listener: the SVID `/spire/server`, HTTP/2 alone, a client certificate where one is shown.
    ///
    /// # Errors
    /// [`AuthorityError::Tls`].
    pub fn agent_tls(&self) -> Result<TlsServer, AuthorityError> {
        let config = identity::tls::server_config(&self.server(), &[b"h2"])?;
        Ok(TlsServer::new(Arc::new(config)))
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn signer(&self, now: Timestamp) -> Result<Signer, AuthorityError> {
        let known = self.known();
        let index = rotation::signing(&known.terms(), now).ok_or(AuthorityError::None)?;
        let authority = known.members.get(index).map(|member| Arc::clone(&member.authority));
        let authority = authority.ok_or(AuthorityError::None)?;
        let end = now.saturating_add(SVID_LIFE).unwrap_or(Timestamp::MAX).min(authority.not_after());
        // Certificates know whole seconds.
        let expires_at = Timestamp::from_second(end.as_second()).unwrap_or(end);
        Ok(Signer { authority, now, expires_at })
    }

    /// Renews our own SVIDs where they are due, and puts a changed bundle into service.
    fn freshen(&self, now: Timestamp) -> Result<(), AuthorityError> {
        let known = self.known();
        let ids = [SpiffeId::ground_control(&self.trust_domain), SpiffeId::spire_server(&self.trust_domain)];
        for (keeper, id) in [&self.own, &self.server].into_iter().zip(ids) {
            let current = keeper.current();
            match current.filter(|current| is_fresh(&current.svid, now)) {
                Some(current) if current.bundle == known.bundle => {}
                Some(current) => keeper.set(current.svid.clone(), known.bundle.clone()),
                None => {
                    let key = KeyPair::generate()?;
                    let certificate = self.signer(now)?.issue(id, key.public_key(), 0)?;
                    keeper.set(Svid::from_der(vec![certificate], key.private_key())?, known.bundle.clone());
                }
            }
        }
        Ok(())
    }
}

/// Whether our own SVID may go on: at half its life, and a little later by an amount of its own, it is renewed.
fn is_fresh(svid: &Svid, now: Timestamp) -> bool {
    let leaf = svid.leaf();
    let jitter = f64::from(leaf.serial.last().copied().unwrap_or(0)) / 255.0;
    leaf.not_before <= now && now < svid.renew_at(jitter)
}

/// Reads the authorities, makes the next one where it is time, and forgets those that nobody needs.
async fn upkeep(
    store: &SharedStore,
    trust_domain: &TrustDomain,
    policy: Policy,
    seal: &Seal,
    at_hand: &[Member],
    now: Timestamp,
) -> Result<Known, AuthorityError> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut records = store.authorities(trust_domain.as_str()).await?;
    for _ in 0..TRIES {
        let Some(term) = rotation::next(&terms(&records), now, policy) else { break };
        let record = make(trust_domain, term, seal)?;
        let (id, signs_from) = (record.id.clone(), record.signs_from);
        // Another replica may have been quicker: then its authority is the one.
        if store.add_authority(record).await? {
            tracing::info!(id, %signs_from, "certificate authority made");
        }
        records = store.authorities(trust_domain.as_str()).await?;
    }
    for index in rotation::forgotten(&terms(&records), now, policy).into_iter().rev() {
        let record = records.remove(index);
        store.remove_authority(&record.id).await?;
        tracing::info!(id = record.id, "certificate authority forgotten");
    }
    let mut members = Vec::with_capacity(records.len());
    for record in records {
        let held = at_hand.iter().find(|member| member.id == record.id);
        let authority = match held {
            Some(member) => Arc::clone(&member.authority),
            None => Arc::new(open(&record, seal)?),
        };
        members.push(Member { term: term(&record), id: record.id, authority });
    }
    let certificates = members.iter().map(|member| member.authority.certificate().clone()).collect();
    let bundle = TrustBundle::from_der(trust_domain.clone(), certificates)?;
    Ok(Known { members, bundle })
}

fn term(record: &AuthorityRecord) -> Term {
    Term { created_at: record.created_at, signs_from: record.signs_from, expires_at: record.expires_at }
}

fn terms(records: &[AuthorityRecord]) -> Vec<Term> {
    records.iter().map(term).collect()
}

fn make(trust_domain: &TrustDomain, term: Term, seal: &Seal) -> Result<AuthorityRecord, AuthorityError> {
    let not_before = term.created_at.saturating_sub(BACKDATE).unwrap_or(term.created_at);
    let authority = CertificateAuthority::generate(trust_domain, not_before, term.expires_at)?;
    let id = uuid::Uuid::now_v7().to_string();
    Ok(AuthorityRecord {
        sealed_key: seal.seal(&id, &authority.key_pem())?,
        id,
        trust_domain: trust_domain.as_str().to_owned(),
        certificate: authority.certificate_pem(),
        created_at: term.created_at,
        signs_from: term.signs_from,
        expires_at: term.expires_at,
    })
}

fn open(record: &AuthorityRecord, seal: &Seal) -> Result<CertificateAuthority, AuthorityError> {
    let key = seal.open(&record.id, &record.sealed_key)?;
    Ok(CertificateAuthority::from_pem(&record.certificate, &key)?)
}

#[cfg(test)]
mod tests;
