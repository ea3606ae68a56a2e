//! What was published: written down with the end of the intent, numbered, and what it took the place of.

use ground_control_domain::StoreResult;
use ground_control_domain::change::Change;
use ground_control_domain::desired::{Named, Written};
use ground_control_domain::document::{Claimed, DocumentKey, Published, Superseded};
use ground_control_domain::store::DocumentSource;
use jiff::Timestamp;

use super::transaction::Writing;
use super::{During, SqlStore, count, json, millis, publications, read, time};
use crate::dialect::Connection;

struct PublishedRow {
    document: String,
    digest: String,
    generation: i64,
    published_at: i64,
}

impl PublishedRow {
    fn published(&self, operation: &'static str) -> StoreResult<Published> {
        Ok(Published {
            digest: read(operation, &self.digest)?,
            generation: count(self.generation),
            published_at: time(operation, self.published_at)?,
        })
    }
}

/// Ends an intent, or gives it back where a newer change came meanwhile.
async fn finish(connection: &mut Connection, claimed: &Claimed, operation: &'static str) -> StoreResult<()> {
    let key = claimed.document.to_string();
    let ended =
        sqlx::query!("DELETE FROM outbox WHERE document = $1 AND change_id = $2", key, claimed.change)
            .execute(&mut *connection)
            .await
            .during(operation)?;
    if ended.rows_affected() == 0 {
        sqlx::query!("UPDATE outbox SET claimed_until = 0 WHERE document = $1", key)
            .execute(connection)
            .await
            .during(operation)?;
    }
    Ok(())
}

/// Gives a document the next number, and tells of it. Last in a transaction.
async fn number(
    tx: &mut Writing,
    document: &DocumentKey,
    names: &str,
    operation: &'static str,
) -> StoreResult<()> {
    let (key, number) = (document.to_string(), publications::next_number(tx, operation).await?);
    sqlx::query!(
        "UPDATE published SET number = $1, numbered = generation, names = $2 WHERE document = $3",
        number,
        names,
        key
    )
    .execute(&mut **tx)
    .await
    .during(operation)?;
    tx.tell(Change::Published(document.clone()));
    Ok(())
}

/// What a satellite's document names, as it is kept; nothing for others.
fn names(source: &DocumentSource, operation: &'static str) -> StoreResult<String> {
    match source {
        DocumentSource::Satellite(satellite) => {
            json(operation, &Named { groups: satellite.groups.clone(), config: satellite.config.clone() })
        }
        _ => Ok(String::new()),
    }
}

impl SqlStore {
    /// [`ground_control_domain::store::Outbox::published`].
    pub(super) async fn find_published(&self, document: &DocumentKey) -> StoreResult<Option<Published>> {
        const OPERATION: &str = "look up a published document";
        let key = document.to_string();
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(
            PublishedRow,
            "SELECT document, digest, generation, published_at FROM published
             WHERE document = $1 AND digest <> ''",
            key
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?
        .map(|row| row.published(OPERATION))
        .transpose()
    }

    /// [`ground_control_domain::store::Outbox::document_published`].
    pub(super) async fn mark_published(
        &self,
        claimed: &Claimed,
        source: &DocumentSource,
        written: Written,
        now: Timestamp,
    ) -> StoreResult<Published> {
        const OPERATION: &str = "record a published document";
        let (key, new) = (claimed.document.to_string(), written.digest.to_string());
        let (now, remove_at) = (millis(now), millis(written.remove_at));
        let names = names(source, OPERATION)?;
        let mut tx = self.database.rows(OPERATION).await?;
        let before = sqlx::query!(
            "SELECT digest, generation, numbered, names FROM published WHERE document = $1",
            key
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        // What a program without numbers published is told now.
        let told = before
            .as_ref()
            .is_some_and(|row| row.digest == new && row.numbered == row.generation && row.names == names);
        let before = before.map(|row| row.digest).unwrap_or_default();
        if before != new {
            sqlx::query!(
                "INSERT INTO published (document, digest, generation, published_at) VALUES ($1, $2, 1, $3)
                 ON CONFLICT (document) DO UPDATE SET digest = excluded.digest,
                     generation = published.generation + 1, published_at = excluded.published_at",
                key,
                new,
                now
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
            sqlx::query!("DELETE FROM superseded WHERE document = $1 AND digest = $2", key, new)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        }
        let mut replaced = vec![before];
        replaced.extend(written.found.map(|digest| digest.to_string()));
        replaced.dedup();
        for old in replaced.into_iter().filter(|old| !old.is_empty() && *old != new) {
            sqlx::query!(
                "INSERT INTO superseded (document, digest, remove_at) VALUES ($1, $2, $3)
                 ON CONFLICT (document, digest) DO UPDATE SET remove_at = excluded.remove_at",
                key,
                old,
                remove_at
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        }
        if !told {
            // Locks the group or its members, and so comes before the intent: what people change takes them in this order, too.
            publications::keep(&mut tx, &claimed.document, source, OPERATION).await?;
        }
        finish(&mut tx, claimed, OPERATION).await?;
        let row = sqlx::query_as!(
            PublishedRow,
            "SELECT document, digest, generation, published_at FROM published WHERE document = $1",
            key
        )
        .fetch_one(&mut *tx)
        .await
        .during(OPERATION)?;
        if !told {
            number(&mut tx, &claimed.document, &names, OPERATION).await?;
        }
        tx.commit().await.during(OPERATION)?;
        row.published(OPERATION)
    }

    /// [`ground_control_domain::store::Outbox::document_removed`].
    pub(super) async fn mark_removed(&self, claimed: &Claimed) -> StoreResult<()> {
        const OPERATION: &str = "record a removed document";
        let key = claimed.document.to_string();
        let mut tx = self.database.rows(OPERATION).await?;
        let removed =
            sqlx::query!("UPDATE published SET digest = '' WHERE document = $1 AND digest <> ''", key)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        sqlx::query!("DELETE FROM superseded WHERE document = $1", key)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        finish(&mut tx, claimed, OPERATION).await?;
        if removed.rows_affected() > 0 {
            number(&mut tx, &claimed.document, "", OPERATION).await?;
        }
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Outbox::superseded`].
    pub(super) async fn list_superseded(&self, limit: u32, now: Timestamp) -> StoreResult<Vec<Superseded>> {
        const OPERATION: &str = "list superseded manifests";
        let (limit, now) = (i64::from(limit), millis(now));
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query!(
            "SELECT document, digest FROM superseded WHERE remove_at <= $1 ORDER BY remove_at LIMIT $2",
            now,
            limit
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(Superseded {
                document: read(OPERATION, &row.document)?,
                digest: read(OPERATION, &row.digest)?,
            })
        })
        .collect()
    }

    /// [`ground_control_domain::store::Outbox::superseded_removed`].
    pub(super) async fn forget_superseded(&self, gone: &Superseded) -> StoreResult<()> {
        const OPERATION: &str = "record a removed manifest";
        let (key, digest) = (gone.document.to_string(), gone.digest.to_string());
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM superseded WHERE document = $1 AND digest = $2", key, digest)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Outbox::published_after`].
    pub(super) async fn list_published(
        &self,
        after: Option<&DocumentKey>,
        limit: u32,
    ) -> StoreResult<Vec<(DocumentKey, Published)>> {
        const OPERATION: &str = "list published documents";
        let (after, limit) = (after.map(ToString::to_string).unwrap_or_default(), i64::from(limit));
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(
            PublishedRow,
            "SELECT document, digest, generation, published_at FROM published
             WHERE document > $1 AND digest <> '' ORDER BY document LIMIT $2",
            after,
            limit
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| Ok((read(OPERATION, &row.document)?, row.published(OPERATION)?)))
        .collect()
    }
}
