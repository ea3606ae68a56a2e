//! Messages that several of SPIRE's services share (`spire.api.types`).

use std::fmt;

use identity::{IdError, SpiffeId as Id};

/// `SPIFFEID`: a SPIFFE ID in its two parts.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SpiffeId {
    /// The trust domain, bare.
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    /// The path, with a slash in front.
    #[prost(string, tag = "2")]
    pub path: String,
}

impl From<&Id> for SpiffeId {
    fn from(id: &Id) -> Self {
        Self { trust_domain: id.trust_domain().as_str().to_owned(), path: id.path().to_owned() }
    }
}

impl SpiffeId {
    /// The same ID as a checked value.
    ///
    /// # Errors
    /// Where it is none.
    pub fn to_id(&self) -> Result<Id, IdError> {
        self.to_uri().parse()
    }

    /// The ID as it is written, unchecked.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("spiffe://{}{}", self.trust_domain, self.path)
    }
}

/// `Selector`: one thing that attestation found out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct Selector {
    /// The attestor: without a colon.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// What it found; may hold colons.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl Selector {
    /// Reads `type:value`, split at the first colon; `None` where a part is missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        (!kind.is_empty() && !value.is_empty())
            .then(|| Self { r#type: kind.to_owned(), value: value.to_owned() })
    }

    /// `type:value`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.r#type, self.value)
    }
}

/// `SelectorMatch`: how a filter compares selectors.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SelectorMatch {
    /// What to look for.
    #[prost(message, repeated, tag = "1")]
    pub selectors: Vec<Selector>,
    /// How.
    #[prost(enumeration = "MatchBehavior", tag = "2")]
    pub r#match: i32,
}

/// `SelectorMatch.MatchBehavior`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MatchBehavior {
    /// The same set.
    Exact = 0,
    /// No selector beyond those of the filter.
    Subset = 1,
    /// At least those of the filter.
    Superset = 2,
    /// At least one of those of the filter.
    Any = 3,
}

/// `Entry`: which workload gets which identity from which agent.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Entry {
    /// The server's name for it.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The identity that it grants.
    #[prost(message, optional, tag = "2")]
    pub spiffe_id: Option<SpiffeId>,
    /// The agent (or the alias of one) that may get SVIDs for it.
    #[prost(message, optional, tag = "3")]
    pub parent_id: Option<SpiffeId>,
    /// What the workload must show: all of it.
    #[prost(message, repeated, tag = "4")]
    pub selectors: Vec<Selector>,
    /// Seconds; 0 is the server's default.
    #[prost(int32, tag = "5")]
    pub x509_svid_ttl: i32,
    /// Foreign trust domains that it trusts.
    #[prost(string, repeated, tag = "6")]
    pub federates_with: Vec<String>,
    /// Whether it may administrate the server.
    #[prost(bool, tag = "7")]
    pub admin: bool,
    /// Whether it is a server below this one.
    #[prost(bool, tag = "8")]
    pub downstream: bool,
    /// When the entry ends (Unix seconds); 0 is never.
    #[prost(int64, tag = "9")]
    pub expires_at: i64,
    /// DNS names of its SVIDs.
    #[prost(string, repeated, tag = "10")]
    pub dns_names: Vec<String>,
    /// Counts its changes.
    #[prost(int64, tag = "11")]
    pub revision_number: i64,
    /// Whether agents put its SVID into a store.
    #[prost(bool, tag = "12")]
    pub store_svid: bool,
    /// Seconds; 0 is the server's default.
    #[prost(int32, tag = "13")]
    pub jwt_svid_ttl: i32,
    /// A word for the workload that has several identities.
    #[prost(string, tag = "14")]
    pub hint: String,
    /// When it was made (Unix seconds).
    #[prost(int64, tag = "15")]
    pub created_at: i64,
    /// Rarely used settings.
    #[prost(message, optional, tag = "16")]
    pub additional_attributes: Option<AdditionalAttributes>,
}

/// `Entry.AdditionalAttributes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct AdditionalAttributes {
    /// The agent makes no SVID before somebody asks.
    #[prost(bool, tag = "1")]
    pub disable_x509_svid_prefetch: bool,
    /// Every JWT-SVID has an identifier of its own.
    #[prost(bool, tag = "2")]
    pub jwt_svid_include_jti: bool,
}

/// `EntryMask`: which fields of an entry are wanted; an absent mask wants all, `id` always comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
#[allow(missing_docs, reason = "each is the field of the same name")]
pub struct EntryMask {
    #[prost(bool, tag = "2")]
    pub spiffe_id: bool,
    #[prost(bool, tag = "3")]
    pub parent_id: bool,
    #[prost(bool, tag = "4")]
    pub selectors: bool,
    #[prost(bool, tag = "5")]
    pub x509_svid_ttl: bool,
    #[prost(bool, tag = "6")]
    pub federates_with: bool,
    #[prost(bool, tag = "7")]
    pub admin: bool,
    #[prost(bool, tag = "8")]
    pub downstream: bool,
    #[prost(bool, tag = "9")]
    pub expires_at: bool,
    #[prost(bool, tag = "10")]
    pub dns_names: bool,
    #[prost(bool, tag = "11")]
    pub revision_number: bool,
    #[prost(bool, tag = "12")]
    pub store_svid: bool,
    #[prost(bool, tag = "13")]
    pub jwt_svid_ttl: bool,
    #[prost(bool, tag = "14")]
    pub hint: bool,
    #[prost(bool, tag = "15")]
    pub created_at: bool,
    #[prost(bool, tag = "16")]
    pub additional_attributes: bool,
}

/// `Agent`: a node agent that attested.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Agent {
    /// Its identity.
    #[prost(message, optional, tag = "1")]
    pub id: Option<SpiffeId>,
    /// How it attested.
    #[prost(string, tag = "2")]
    pub attestation_type: String,
    /// Its SVID's serial number, decimal; empty where it is banned.
    #[prost(string, tag = "3")]
    pub x509svid_serial_number: String,
    /// The end of its SVID (Unix seconds).
    #[prost(int64, tag = "4")]
    pub x509svid_expires_at: i64,
    /// What its attestation showed.
    #[prost(message, repeated, tag = "5")]
    pub selectors: Vec<Selector>,
    /// Whether it is shut out.
    #[prost(bool, tag = "6")]
    pub banned: bool,
    /// Whether it may attest again with the same proof.
    #[prost(bool, tag = "7")]
    pub can_reattest: bool,
    /// Its version, where it told it.
    #[prost(string, tag = "8")]
    pub agent_version: String,
}

/// `Bundle`: the authorities of a trust domain.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Bundle {
    /// The trust domain, bare.
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    /// Those that sign X.509-SVIDs.
    #[prost(message, repeated, tag = "2")]
    pub x509_authorities: Vec<X509Certificate>,
    /// Those that sign JWT-SVIDs.
    #[prost(message, repeated, tag = "3")]
    pub jwt_authorities: Vec<JwtKey>,
    /// How often to look again, in seconds.
    #[prost(int64, tag = "4")]
    pub refresh_hint: i64,
    /// Grows with every change.
    #[prost(uint64, tag = "5")]
    pub sequence_number: u64,
}

/// `BundleMask`: which parts of a bundle are wanted; an absent mask wants all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
#[allow(missing_docs, reason = "each is the field of the same name")]
pub struct BundleMask {
    #[prost(bool, tag = "2")]
    pub x509_authorities: bool,
    #[prost(bool, tag = "3")]
    pub jwt_authorities: bool,
    #[prost(bool, tag = "4")]
    pub refresh_hint: bool,
    #[prost(bool, tag = "5")]
    pub sequence_number: bool,
    #[prost(bool, tag = "6")]
    pub wit_authorities: bool,
}

/// `X509Certificate`: an authority.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct X509Certificate {
    /// DER.
    #[prost(bytes = "vec", tag = "1")]
    pub asn1: Vec<u8>,
    /// Whether what it signed is to be replaced at once.
    #[prost(bool, tag = "2")]
    pub tainted: bool,
}

/// `JWTKey`: a public key that checks JWT-SVIDs.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct JwtKey {
    /// SubjectPublicKeyInfo, DER.
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    /// Its name in JWT headers.
    #[prost(string, tag = "2")]
    pub key_id: String,
    /// When it ends (Unix seconds).
    #[prost(int64, tag = "3")]
    pub expires_at: i64,
    /// Whether what it signed is to be replaced at once.
    #[prost(bool, tag = "4")]
    pub tainted: bool,
}

/// `X509SVID`: a certificate chain without its key.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct X509Svid {
    /// DER, leaf first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub cert_chain: Vec<Vec<u8>>,
    /// Whose.
    #[prost(message, optional, tag = "2")]
    pub id: Option<SpiffeId>,
    /// When it ends (Unix seconds).
    #[prost(int64, tag = "3")]
    pub expires_at: i64,
    /// The hint of its entry.
    #[prost(string, tag = "4")]
    pub hint: String,
}

/// `Status`: how one item of a batch went.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Status {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Words for it.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Status {
    /// It went well.
    #[must_use]
    pub fn ok() -> Self {
        Self { code: 0, message: "OK".to_owned() }
    }

    /// It went as the code says.
    #[must_use]
    pub fn new(code: tonic::Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into() }
    }

    /// The code; an unknown number is [`tonic::Code::Unknown`].
    #[must_use]
    pub fn code(&self) -> tonic::Code {
        tonic::Code::from_i32(self.code)
    }
}

/// `JoinToken`: shown once, good once.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct JoinToken {
    /// The secret.
    #[prost(string, tag = "1")]
    pub value: String,
    /// Its end (Unix seconds).
    #[prost(int64, tag = "2")]
    pub expires_at: i64,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// `AttestationData`: what an agent proves itself with. A join token is its secret, so it is never printed.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct AttestationData {
    /// The node attestor.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// What it reads: the token itself for `join_token`.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

impl fmt::Debug for AttestationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestationData").field("type", &self.r#type).finish_non_exhaustive()
    }
}
