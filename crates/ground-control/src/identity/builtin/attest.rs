//! Attestation and renewal of satellites: who gets an SVID, for which key. [`super::routes`] speaks HTTP around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_protocol::attestation::{AttestRequest, RenewRequest, RenewalNonce, SvidAnswer, renewal_message};
use identity::key::{Csr, verify};
use identity::svid::chain_to_pem;
use identity::{Layout, SpiffeId};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::{Authority, AuthorityError, Signer};
use crate::domain::StoreError;
use crate::domain::audit::Actor;
use crate::domain::identity::{
    AttestAttempt, IssueGrant, IssueRefusal, NONCE_LIFETIME, RenewAttempt, may_renew,
};
use crate::domain::secret::{self, Purpose};

/// Characters of a token and of a nonce: 128 bits in hexadecimal.
const HEX: usize = 32;
/// How a SubjectPublicKeyInfo of a P-256 key begins (RFC 5480): id-ecPublicKey, prime256v1, an uncompressed point.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Why no SVID was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is not what it has to be (HTTP 400).
    #[error("{0}")]
    Request(String),
    /// Whoever asks has no right to it.
    #[error(transparent)]
    Refused(#[from] IssueRefusal),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority cannot sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Authority {
    /// Attests a satellite with a join token, recorded as done by `by`.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn attest(
        &self,
        request: &AttestRequest,
        by: Actor,
        now: Timestamp,
    ) -> Result<SvidAnswer, IssueError> {
        let public_key = satellite_key(&request.csr)?.public_key;
        let token = request.join_token.expose_secret();
        if !is_hex(token) {
            return Err(IssueRefusal::Unknown.into());
        }
        let signer = self.signer(now)?;
        let attempt = AttestAttempt {
            token: self.hash_key.hash(Purpose::JoinToken, token),
            public_key: STANDARD.encode(&public_key),
            expires_at: signer.expires_at,
            agent: None,
        };
        let grant = self.store.acting_for(by).attest(attempt, now).await??;
        tracing::info!(satellite = grant.name, again = grant.again, "satellite attested");
        self.answer(&signer, &grant, public_key)
    }

    /// A nonce for one renewal.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn nonce(&self, now: Timestamp) -> Result<RenewalNonce, IssueError> {
        let nonce = secret::generate();
        let nonce = nonce.expose_secret().to_owned();
        let expires_at = now.saturating_add(NONCE_LIFETIME).unwrap_or(Timestamp::MAX);
        let hash = self.hash_key.hash(Purpose::RenewalNonce, &nonce);
        self.store.keep_nonce(&hash, expires_at, now).await?;
        Ok(RenewalNonce { nonce, expires_at })
    }

    /// Renews a satellite's SVID for a new key that the old one vouches for, recorded as done by `by`.
    ///
    /// Until the signature is checked every refusal reads the same, so that nobody learns whom there is.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn renew(
        &self,
        request: &RenewRequest,
        by: Actor,
        now: Timestamp,
    ) -> Result<SvidAnswer, IssueError> {
        let csr = satellite_key(&request.csr)?;
        let id: SpiffeId = request
            .spiffe_id
            .parse()
            .map_err(|error: identity::IdError| IssueError::Request(format!("spiffe_id: {error}")))?;
        let signature = STANDARD
            .decode(&request.signature)
            .map_err(|error| IssueError::Request(format!("signature: no base64: {error}")))?;
        if !is_hex(&request.nonce) {
            return Err(IssueRefusal::Nonce.into());
        }
        let Layout::Satellite { region, name } = id.layout() else { return Err(IssueRefusal::Key.into()) };
        if id.trust_domain() != &self.trust_domain {
            return Err(IssueRefusal::Key.into());
        }
        let record = self.store.renewal_record(name.as_str()).await?.ok_or(IssueRefusal::Key)?;
        if record.grant.region != region.as_str() {
            return Err(IssueRefusal::Key.into());
        }
        let message = renewal_message(&request.spiffe_id, &request.nonce, &STANDARD.encode(&csr.der));
        let signed_by = record
            .keys
            .iter()
            .find(|key| STANDARD.decode(key).is_ok_and(|key| verify(&key, message.as_bytes(), &signature)));
        let old_key = signed_by.ok_or(IssueRefusal::Key)?.clone();
        // Before anything is written; the store asks again when it has locked what this is about.
        may_renew(&record, &old_key, self.policy.grace(), now)?;
        let signer = self.signer(now)?;
        let attempt = RenewAttempt {
            satellite: record.grant.satellite,
            nonce: self.hash_key.hash(Purpose::RenewalNonce, &request.nonce),
            old_key,
            new_key: STANDARD.encode(&csr.public_key),
            expires_at: signer.expires_at,
            grace: self.policy.grace(),
        };
        let grant = self.store.acting_for(by).renew(attempt, now).await??;
        tracing::debug!(satellite = grant.name, again = grant.again, "svid renewed");
        self.answer(&signer, &grant, csr.public_key)
    }

    fn answer(
        &self,
        signer: &Signer,
        grant: &IssueGrant,
        public_key: Vec<u8>,
    ) -> Result<SvidAnswer, IssueError> {
        let id = self.satellite_id(&grant.region, &grant.name)?;
        let certificate = signer.issue(id, public_key, grant.epoch)?;
        Ok(SvidAnswer {
            svid: chain_to_pem(&[certificate]),
            trust_bundle: self.known().bundle.to_pem(),
            expires_at: signer.expires_at,
        })
    }

    /// The identity of a satellite that the database names.
    pub(super) fn satellite_id(&self, region: &str, name: &str) -> Result<SpiffeId, StoreError> {
        let corrupt = |error: String| StoreError::corrupt("read a satellite's identity", error);
        Ok(SpiffeId::satellite(
            &self.trust_domain,
            &region.parse().map_err(|error| corrupt(format!("{error}")))?,
            &name.parse().map_err(|error| corrupt(format!("{error}")))?,
        ))
    }
}

/// The request of a satellite: signed by its own key, which is P-256. Whatever else stands in it is passed over.
fn satellite_key(pem: &str) -> Result<Csr, IssueError> {
    let csr = Csr::from_pem(pem).map_err(|error| IssueError::Request(format!("csr: {error}")))?;
    // 32 bytes for each coordinate follow.
    if csr.public_key.len() != P256.len() + 64 || !csr.public_key.starts_with(P256) {
        return Err(IssueError::Request("csr: a key of the curve P-256 is needed".to_owned()));
    }
    Ok(csr)
}

pub(super) fn is_hex(text: &str) -> bool {
    text.len() == HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
