//! The outbox: intents to publish. What becomes of them is written down by `published`.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::desired::Written;
use ground_control_domain::document::{Claimed, DocumentKey, OutboxLag, Published, Superseded};
use ground_control_domain::store::{DocumentSource, Outbox};
use ground_control_domain::{StoreError, StoreResult};
use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{During, SqlStore, count, millis, read, sources, time};
use crate::dialect::{self, Connection, Driver};

/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 2000;

/// The setting that remembers the registry's public URL.
const REGISTRY_URL: &str = "registry_url";

/// Asks for a document within the caller's transaction.
///
/// A claim that someone holds stays theirs: when they finish they find the newer change, and the document's turn
/// comes again.
pub(super) async fn enqueue(
    connection: &mut Connection,
    document: &DocumentKey,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    insert(connection, document, false, now, operation).await
}

async fn insert(
    connection: &mut Connection,
    document: &DocumentKey,
    verify: bool,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (key, order, now) = (document.to_string(), document.kind.rank(), millis(now));
    let change = change_id();
    sqlx::query!(
        "INSERT INTO outbox (document, publish_order, change_id, verify, enqueued_at, attempts, due_at, claimed_until)
         VALUES ($1, $2, $3, $4, $5, 0, $5, 0)
         ON CONFLICT (document) DO UPDATE SET
             change_id = excluded.change_id, verify = outbox.verify OR excluded.verify,
             attempts = 0, due_at = excluded.due_at",
        key,
        order,
        change,
        verify,
        now
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Asks for the documents of every satellite of a group within the caller's transaction.
pub(super) async fn enqueue_members(
    connection: &mut Connection,
    group_id: &str,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (now, change) = (millis(now), change_id());
    sqlx::query!(
        "INSERT INTO outbox (document, publish_order, change_id, verify, enqueued_at, attempts, due_at, claimed_until)
         SELECT 'satellite/' || s.name, 2, CAST($1 AS TEXT), FALSE, CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT), 0
         FROM satellites s JOIN group_members m ON m.satellite_id = s.id
         WHERE m.group_id = $3 AND s.state <> 'deleted'
         ON CONFLICT (document) DO UPDATE SET
             change_id = excluded.change_id, attempts = 0, due_at = excluded.due_at",
        change,
        now,
        group_id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// The beginning of a statement that asks for the documents of the satellites `s` which its `FROM` gives.
pub(super) fn enqueueing(now: Timestamp) -> QueryBuilder<Driver> {
    let mut query = QueryBuilder::new(
        "INSERT INTO outbox (document, publish_order, change_id, verify, enqueued_at, attempts, due_at, claimed_until)
         SELECT 'satellite/' || s.name, 2, CAST(",
    );
    query.push_bind(change_id()).push(" AS TEXT), FALSE, CAST(").push_bind(millis(now));
    query.push(" AS BIGINT), 0, CAST(").push_bind(millis(now)).push(" AS BIGINT), 0");
    query
}

/// The end of that statement: what waits already is a newer change now.
pub(super) fn or_again(mut query: QueryBuilder<Driver>) -> QueryBuilder<Driver> {
    query.push(
        " ON CONFLICT (document) DO UPDATE SET
             change_id = excluded.change_id, attempts = 0, due_at = excluded.due_at",
    );
    query
}

fn change_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A claimed intent as the dialect's query returns it.
pub(crate) struct ClaimedRow {
    pub(crate) document: String,
    pub(crate) change_id: String,
    pub(crate) attempts: i64,
    pub(crate) verify: bool,
    pub(crate) enqueued_at: i64,
}

impl ClaimedRow {
    fn claimed(self, operation: &'static str) -> StoreResult<Claimed> {
        Ok(Claimed {
            document: read(operation, &self.document)?,
            change: self.change_id,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            verify: self.verify,
            enqueued_at: time(operation, self.enqueued_at)?,
        })
    }
}

#[async_trait]
impl Outbox for SqlStore {
    async fn claim_documents(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<Claimed>> {
        const OPERATION: &str = "claim documents to publish";
        let now_millis = millis(now);
        let mut connection = self.database.read(OPERATION).await?;
        // A look costs no write: an idle publisher does not disturb the writers.
        let due = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM outbox WHERE due_at <= $1 AND claimed_until <= $1) AS "due!: bool""#,
            now_millis
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !due {
            return Ok(Vec::new());
        }
        let mut tx = self.database.rows(OPERATION).await?;
        let rows =
            dialect::claim(&mut tx, i64::from(limit), now_millis, millis(until)).await.during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        let mut claimed: Vec<Claimed> =
            rows.into_iter().map(|row| row.claimed(OPERATION)).collect::<StoreResult<_>>()?;
        claimed.sort_by(|a, b| {
            (a.document.kind, a.enqueued_at, &a.document).cmp(&(b.document.kind, b.enqueued_at, &b.document))
        });
        Ok(claimed)
    }

    async fn document_source(&self, document: &DocumentKey) -> StoreResult<DocumentSource> {
        const OPERATION: &str = "read what a document is built from";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        sources::read_source(&mut snapshot, document, OPERATION).await
    }

    async fn published(&self, document: &DocumentKey) -> StoreResult<Option<Published>> {
        self.find_published(document).await
    }

    async fn document_published(
        &self,
        claimed: &Claimed,
        source: &DocumentSource,
        written: Written,
        now: Timestamp,
    ) -> StoreResult<Published> {
        self.mark_published(claimed, source, written, now).await
    }

    async fn document_removed(&self, claimed: &Claimed) -> StoreResult<()> {
        self.mark_removed(claimed).await
    }

    async fn satellites_waiting(&self, enqueued_at: Timestamp) -> StoreResult<bool> {
        const OPERATION: &str = "look for waiting satellites";
        let enqueued_at = millis(enqueued_at);
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM outbox WHERE publish_order = 2 AND enqueued_at <= $1) AS "waiting!: bool""#,
            enqueued_at
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)
    }

    async fn document_failed(&self, claimed: &Claimed, reason: &str, at: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "record a failure to publish";
        let (key, at) = (claimed.document.to_string(), millis(at));
        let reason: String = reason.chars().filter(|c| *c != '\0').take(MAX_REASON).collect();
        let mut tx = self.database.rows(OPERATION).await?;
        let kept = sqlx::query!(
            "UPDATE outbox SET attempts = attempts + 1, due_at = $1, claimed_until = 0, last_error = $2
             WHERE document = $3 AND change_id = $4",
            at,
            reason,
            key,
            claimed.change
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if kept.rows_affected() == 0 {
            sqlx::query!("UPDATE outbox SET claimed_until = 0 WHERE document = $1", key)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        }
        tx.commit().await.during(OPERATION)
    }

    async fn document_postponed(&self, claimed: &Claimed, at: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "postpone a document";
        let (key, at) = (claimed.document.to_string(), millis(at));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE outbox SET claimed_until = 0,
                 due_at = CASE WHEN change_id = $1 THEN $2 ELSE due_at END
             WHERE document = $3",
            claimed.change,
            at,
            key
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn superseded(&self, limit: u32, now: Timestamp) -> StoreResult<Vec<Superseded>> {
        self.list_superseded(limit, now).await
    }

    async fn superseded_removed(&self, gone: &Superseded) -> StoreResult<()> {
        self.forget_superseded(gone).await
    }

    async fn published_after(
        &self,
        after: Option<&DocumentKey>,
        limit: u32,
    ) -> StoreResult<Vec<(DocumentKey, Published)>> {
        self.list_published(after, limit).await
    }

    async fn republish(&self, document: &DocumentKey, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "ask for a document again";
        let mut tx = self.database.rows(OPERATION).await?;
        insert(&mut tx, document, true, now, OPERATION).await?;
        tx.tell(Change::Fleet);
        tx.commit().await.during(OPERATION)
    }

    async fn republish_all(&self, now: Timestamp) -> StoreResult<u64> {
        const OPERATION: &str = "ask for every document again";
        let mut tx = self.database.fleet(OPERATION).await?;
        let asked = enqueue_all(&mut tx, now, OPERATION).await?;
        let event = Event::new(Action::DocumentsRepublished, "documents", "all").with("documents", asked);
        self.commit(tx, &event, OPERATION).await?;
        Ok(asked)
    }

    async fn set_registry_url(&self, url: &str, now: Timestamp) -> StoreResult<bool> {
        const OPERATION: &str = "note the registry's URL";
        let mut tx = self.database.fleet(OPERATION).await?;
        let before = sqlx::query_scalar!("SELECT value FROM settings WHERE name = $1", REGISTRY_URL)
            .fetch_optional(&mut *tx)
            .await
            .during(OPERATION)?;
        if before.as_deref() == Some(url) {
            return Ok(false);
        }
        sqlx::query!(
            "INSERT INTO settings (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            REGISTRY_URL,
            url
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        enqueue_all(&mut tx, now, OPERATION).await?;
        let event =
            Event::new(Action::RegistryUrlChanged, "registry", "url").with("from", before).with("to", url);
        self.commit(tx, &event, OPERATION).await?;
        Ok(true)
    }

    async fn registry_url(&self) -> StoreResult<Option<String>> {
        const OPERATION: &str = "read the registry's URL";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!("SELECT value FROM settings WHERE name = $1", REGISTRY_URL)
            .fetch_optional(&mut *connection)
            .await
            .during(OPERATION)
    }

    async fn outbox_lag(&self) -> StoreResult<OutboxLag> {
        const OPERATION: &str = "measure the outbox";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT COUNT(*) AS "waiting!: i64",
                      COUNT(CASE WHEN attempts > 0 THEN 1 END) AS "failing!: i64",
                      MIN(enqueued_at) AS "oldest?: i64"
               FROM outbox"#
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        Ok(OutboxLag {
            waiting: count(row.waiting),
            failing: count(row.failing),
            oldest: row.oldest.map(|at| time(OPERATION, at)).transpose()?,
        })
    }
}

/// Asks for every document that should be there, and for every one that is published, which may be one too many.
pub(super) async fn enqueue_all(
    connection: &mut Connection,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<u64> {
    let (now, change) = (millis(now), change_id());
    let asked = sqlx::query!(
        "INSERT INTO outbox (document, publish_order, change_id, verify, enqueued_at, attempts, due_at, claimed_until)
         SELECT d.document, d.publish_order, CAST($1 AS TEXT), TRUE, CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT), 0
         FROM (SELECT 'config/' || name AS document, 0 AS publish_order FROM configs
               UNION SELECT 'group/' || name, 1 FROM artifact_groups
               UNION SELECT 'satellite/' || name, 2 FROM satellites WHERE state <> 'deleted'
               UNION SELECT document, CASE WHEN document LIKE 'config/%' THEN 0
                                           WHEN document LIKE 'group/%' THEN 1 ELSE 2 END
                     FROM published WHERE digest <> '') d
         WHERE d.document <> ''
         ON CONFLICT (document) DO UPDATE SET
             change_id = excluded.change_id, verify = TRUE, attempts = 0, due_at = excluded.due_at",
        change,
        now
    )
    .execute(connection)
    .await
    .during(operation)?;
    Ok(asked.rows_affected())
}

/// Asks for the documents that a program which knows no numbers has published.
pub(super) async fn enqueue_unnumbered(
    connection: &mut Connection,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<u64> {
    let (now, change) = (millis(now), change_id());
    let asked = sqlx::query!(
        "INSERT INTO outbox (document, publish_order, change_id, verify, enqueued_at, attempts, due_at, claimed_until)
         SELECT document, CASE WHEN document LIKE 'config/%' THEN 0 WHEN document LIKE 'group/%' THEN 1 ELSE 2 END,
                CAST($1 AS TEXT), FALSE, CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT), 0
         FROM published WHERE numbered <> generation AND digest <> ''
         ON CONFLICT (document) DO NOTHING",
        change,
        now
    )
    .execute(connection)
    .await
    .during(operation)?;
    Ok(asked.rows_affected())
}

/// Refuses a document that no repository could hold: a name that a deployed fleet already has may be too long.
pub(super) fn publishable(document: &DocumentKey) -> StoreResult<()> {
    document.repository().parse::<oci::RepositoryName>().map(drop).map_err(|_| {
        StoreError::invalid(format!(
            "{:?} is too long a name: its state has to fit into a repository name",
            document.name
        ))
    })
}
