//! The outbox: what has to be published, and what has been.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::StoreResult;
use crate::desired::Written;
use crate::document::{Claimed, DocumentKey, OutboxLag, Published, Superseded};
use crate::group::Artifact;

/// What a document is built from; read in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum DocumentSource {
    /// A satellite's document.
    Satellite(SatelliteSource),
    /// A group's document.
    Group(GroupSource),
    /// A configuration's document.
    Config(Value),
    /// What the document describes is gone: it is to be removed.
    Gone,
}

/// What a group's document is built from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupSource {
    /// Its list as satellites are given it: see [`crate::resolution::apply`].
    pub artifacts: Vec<Artifact>,
    /// Whether something of it was never looked for: a moment later there may be digests.
    pub unseen: bool,
}

/// What a satellite's document is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SatelliteSource {
    /// Its groups, sorted.
    pub groups: Vec<String>,
    /// Its configuration.
    pub config: String,
    /// Documents among those that are not published yet: the satellite's has to wait for them.
    pub unpublished: Vec<DocumentKey>,
}

/// The outbox: what has to be published, and what has been. Only the publisher uses most of this.
#[async_trait]
pub trait Outbox {
    /// Claims at most `limit` documents that are due at `now`, until `until`: no other publisher gets them before.
    /// Configurations and groups come before satellites.
    async fn claim_documents(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<Claimed>>;

    /// What the document is built from, as the records stand now.
    async fn document_source(&self, document: &DocumentKey) -> StoreResult<DocumentSource>;

    /// What was last published of it.
    async fn published(&self, document: &DocumentKey) -> StoreResult<Option<Published>>;

    /// The document made of `source` is in the registry: remembers it, and what it takes the place of for removal. Where it is
    /// another one than before, it takes the next number ([`super::Publications`]). The intent ends unless a newer change
    /// came meanwhile.
    async fn document_published(
        &self,
        claimed: &Claimed,
        source: &DocumentSource,
        written: Written,
        now: Timestamp,
    ) -> StoreResult<Published>;

    /// The document and all its manifests are gone from the registry.
    async fn document_removed(&self, claimed: &Claimed) -> StoreResult<()>;

    /// Whether satellites' documents asked for up to `enqueued_at` still wait: they may name a document that is to be removed.
    async fn satellites_waiting(&self, enqueued_at: Timestamp) -> StoreResult<bool>;

    /// Publishing failed: tries again at `at`. `reason` is kept for the status.
    async fn document_failed(&self, claimed: &Claimed, reason: &str, at: Timestamp) -> StoreResult<()>;

    /// It is not its turn yet: gives it back until `at`, with no failure counted.
    async fn document_postponed(&self, claimed: &Claimed, at: Timestamp) -> StoreResult<()>;

    /// Superseded manifests whose grace is over.
    async fn superseded(&self, limit: u32, now: Timestamp) -> StoreResult<Vec<Superseded>>;

    /// A superseded manifest is gone from the registry.
    async fn superseded_removed(&self, gone: &Superseded) -> StoreResult<()>;

    /// All documents of the registry, by key, after `after`: for a look whether the registry holds what it should.
    async fn published_after(
        &self,
        after: Option<&DocumentKey>,
        limit: u32,
    ) -> StoreResult<Vec<(DocumentKey, Published)>>;

    /// Asks for one document to be published again even if it has not changed.
    async fn republish(&self, document: &DocumentKey, now: Timestamp) -> StoreResult<()>;

    /// Asks for every document to be published, or removed if what it describes is gone; tells how many.
    async fn republish_all(&self, now: Timestamp) -> StoreResult<u64>;

    /// Notes the registry's public URL, which the documents hold; if it is another than before, every document is
    /// asked for. Tells whether it was.
    async fn set_registry_url(&self, url: &str, now: Timestamp) -> StoreResult<bool>;

    /// The registry's public URL as it was noted last.
    async fn registry_url(&self) -> StoreResult<Option<String>>;

    /// How far the publisher is behind.
    async fn outbox_lag(&self) -> StoreResult<OutboxLag>;
}
