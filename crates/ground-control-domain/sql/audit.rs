//! The audit: a row for each change, in the transaction that makes it.

use std::borrow::Cow;

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::audit::{
    Actor, AuditFilter, AuditFrom, Entry, Event, Outcome, Refusal, SinkCursor,
};
use ground_control_domain::store::AuditTrail;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row as _};

use super::transaction::Writing;
use super::{During, SqlStore, count, idempotency, millis, read_json, time};
use crate::dialect::{Connection, Driver};

impl SqlStore {
    /// Commits a change together with the row that tells of it.
    ///
    /// The row comes last: its number is taken under a lock that all changes share, and whoever waited for another lock
    /// behind it could wait in a circle.
    pub(super) async fn commit(
        &self,
        mut tx: Writing,
        event: &Event,
        operation: &'static str,
    ) -> StoreResult<()> {
        // Whoever shows a one-time secret, or comes from an identity provider, is known by nothing else: whose it is.
        let mut actor = Cow::Borrowed(self.actor.as_ref());
        if actor.name.is_empty() {
            let name = event.subject.split_once('/').map_or("", |(_, name)| name);
            actor = Cow::Owned(Actor { name: name.to_owned(), ..self.actor.as_ref().clone() });
        }
        if let Some(claim) = &self.terms.claim {
            idempotency::made(&mut tx, claim, operation).await?;
        }
        record(&mut tx, &actor, event, Outcome::Done, 1, operation).await?;
        tx.commit().await.during(operation)
    }
}

/// Writes a row. Nothing but further rows may follow in the transaction.
async fn record(
    connection: &mut Connection,
    actor: &Actor,
    event: &Event,
    outcome: Outcome,
    folded: u64,
    operation: &'static str,
) -> StoreResult<()> {
    let sequence = sqlx::query_scalar!(
        r#"UPDATE audit_sequence SET last = last + 1 WHERE name = 'audit' RETURNING last AS "last!""#
    )
    .fetch_one(&mut *connection)
    .await
    .during(operation)?;
    // When it is written, and not when somebody asked: numbers and times go the same way.
    let now = millis(Timestamp::now());
    let (action, outcome, subject) = (event.action.as_str(), outcome.as_str(), event.subject.as_str());
    let (kind, name, by) = (actor.kind.as_str(), actor.name.as_str(), actor.authenticated_by.as_str());
    let source = actor.source.map(|source| source.to_string()).unwrap_or_default();
    let request_id = actor.request_id.as_deref().unwrap_or_default();
    let (folded, details) = (i64::try_from(folded).unwrap_or(i64::MAX), event.details());
    sqlx::query!(
        "INSERT INTO audit_log (sequence, recorded_at, action, outcome, subject, actor_kind, actor, source,
             request_id, authenticated_by, folded, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        sequence,
        now,
        action,
        outcome,
        subject,
        kind,
        name,
        source,
        request_id,
        by,
        folded,
        details
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

#[async_trait]
impl AuditTrail for SqlStore {
    async fn audit_entries(
        &self,
        filter: &AuditFilter,
        from: AuditFrom,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        const OPERATION: &str = "read the audit";
        let mut query = QueryBuilder::<Driver>::new(
            "SELECT sequence, recorded_at, action, outcome, subject, actor_kind, actor, source, request_id,
                    authenticated_by, folded, details
             FROM audit_log WHERE ",
        );
        conditions(&mut query, filter, from);
        query.push(" LIMIT ").push_bind(i64::from(limit));
        let mut connection = self.database.read(OPERATION).await?;
        let rows = query.build().persistent(false).fetch_all(&mut *connection).await.during(OPERATION)?;
        rows.iter()
            .map(|row| {
                let text = |column: usize| row.try_get::<String, _>(column).during(OPERATION);
                let number = |column: usize| row.try_get::<i64, _>(column).during(OPERATION);
                Ok(Entry {
                    sequence: count(number(0)?),
                    at: time(OPERATION, number(1)?)?,
                    action: text(2)?,
                    outcome: text(3)?,
                    subject: text(4)?,
                    actor_kind: text(5)?,
                    actor: text(6)?,
                    source: text(7)?,
                    request_id: text(8)?,
                    authenticated_by: text(9)?,
                    count: count(number(10)?),
                    details: read_json(OPERATION, &text(11)?)?,
                })
            })
            .collect()
    }

    async fn audit_end(&self) -> StoreResult<u64> {
        const OPERATION: &str = "find the end of the audit";
        let mut connection = self.database.read(OPERATION).await?;
        let last = sqlx::query_scalar!("SELECT last FROM audit_sequence WHERE name = 'audit'")
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
        Ok(count(last))
    }

    async fn record_event(&self, event: &Event) -> StoreResult<()> {
        const OPERATION: &str = "record what was done";
        let tx = self.database.rows(OPERATION).await?;
        self.commit(tx, event, OPERATION).await
    }

    async fn record_refusals(&self, refusals: &[Refusal]) -> StoreResult<()> {
        const OPERATION: &str = "record refusals";
        if refusals.is_empty() {
            return Ok(());
        }
        let mut tx = self.database.rows(OPERATION).await?;
        for Refusal { actor, event, count } in refusals {
            record(&mut tx, actor, event, Outcome::Refused, *count, OPERATION).await?;
        }
        tx.commit().await.during(OPERATION)
    }

    async fn prune_audit(&self, keep: u64, before: Timestamp, most: u32) -> StoreResult<u64> {
        const OPERATION: &str = "remove old rows of the audit";
        let (keep, before) = (i64::try_from(keep).unwrap_or(i64::MAX), millis(before));
        // Looked for on a reader: mostly there is nothing to remove.
        let mut connection = self.database.read(OPERATION).await?;
        let found = sqlx::query!(
            r#"SELECT (SELECT last FROM audit_sequence WHERE name = 'audit') AS "last!: i64",
                      (SELECT MIN(sequence) FROM audit_log) AS "oldest?: i64",
                      (SELECT sequence FROM audit_log WHERE recorded_at < $1 ORDER BY recorded_at DESC LIMIT 1)
                          AS "aged?: i64""#,
            before
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        let end = found.last.saturating_sub(keep).max(found.aged.unwrap_or(0));
        let Some(oldest) = found.oldest.filter(|oldest| *oldest <= end) else { return Ok(0) };
        let end = end.min(oldest.saturating_add(i64::from(most) - 1));
        let mut tx = self.database.rows(OPERATION).await?;
        let removed = sqlx::query!("DELETE FROM audit_log WHERE sequence <= $1", end)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(removed.rows_affected())
    }

    async fn claim_sink(
        &self,
        sink: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Option<SinkCursor>> {
        const OPERATION: &str = "claim a sink of the audit";
        let (now, until) = (millis(now), millis(until));
        let mut tx = self.database.rows(OPERATION).await?;
        let row = sqlx::query!(
            r#"INSERT INTO audit_cursors (sink, sequence, lost, holder, lease_until)
               VALUES ($1, (SELECT COALESCE(MIN(sequence), 1) - 1 FROM audit_log), 0, $2, $3)
               ON CONFLICT (sink) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
                   WHERE audit_cursors.holder = excluded.holder OR audit_cursors.lease_until <= $4
               RETURNING sequence AS "sequence!: i64", lost AS "lost!: i64""#,
            sink,
            holder,
            until,
            now
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(row.map(|row| SinkCursor { sequence: count(row.sequence), lost: count(row.lost) }))
    }

    async fn move_sink(
        &self,
        sink: &str,
        holder: &str,
        cursor: SinkCursor,
        until: Timestamp,
    ) -> StoreResult<bool> {
        const OPERATION: &str = "note how far a sink of the audit has got";
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (sequence, lost, until) = (signed(cursor.sequence), signed(cursor.lost), millis(until));
        let mut tx = self.database.rows(OPERATION).await?;
        let moved = sqlx::query!(
            "UPDATE audit_cursors SET sequence = $1, lost = $2, lease_until = $3 WHERE sink = $4 AND holder = $5",
            sequence,
            lost,
            until,
            sink,
            holder
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(moved.rows_affected() > 0)
    }
}

/// What a row must meet, and the order of those that do. Only our own words become the query's text.
fn conditions(query: &mut QueryBuilder<Driver>, filter: &AuditFilter, from: AuditFrom) {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match from {
        AuditFrom::After(sequence) => query.push("sequence > ").push_bind(signed(sequence)),
        AuditFrom::Before(sequence) => query.push("sequence < ").push_bind(sequence.map_or(i64::MAX, signed)),
    };
    let texts = [("actor", &filter.actor), ("action", &filter.action), ("subject", &filter.subject)];
    for (column, wanted) in texts {
        if let Some(wanted) = wanted {
            query.push(" AND ").push(column).push(" = ").push_bind(wanted.clone());
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND recorded_at >= ").push_bind(millis(since));
    }
    if let Some(until) = filter.until {
        query.push(" AND recorded_at < ").push_bind(millis(until));
    }
    query.push(match from {
        AuditFrom::After(_) => " ORDER BY sequence",
        AuditFrom::Before(_) => " ORDER BY sequence DESC",
    });
}
