//! Reports of satellites, as people read them.

use std::collections::HashMap;

use async_trait::async_trait;
use ground_control_domain::heartbeat::{
    CachedImage, Heartbeat, HeartbeatOutcome, HeartbeatRecord, Report, Sender,
};
use ground_control_domain::store::Reports;
use ground_control_domain::{Page, Paged, StoreResult};

use super::{During, SqlStore, count, read_json, satellites, time};
use crate::dialect::Connection;

impl SqlStore {
    /// [`ground_control_domain::store::Reports::latest_heartbeat`].
    pub(super) async fn latest(&self, name: &str) -> StoreResult<Option<Heartbeat>> {
        const OPERATION: &str = "read a satellite's report";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, _) = satellites::id_of(&mut snapshot, name, OPERATION).await?;
        let row = sqlx::query!("SELECT received_at, report FROM heartbeats WHERE satellite_id = $1", id)
            .fetch_optional(&mut *snapshot)
            .await
            .during(OPERATION)?;
        let Some(row) = row else { return Ok(None) };
        let cached_images = sqlx::query!(
            "SELECT reference, size_bytes FROM cached_images WHERE satellite_id = $1 ORDER BY reference",
            id
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| CachedImage { reference: row.reference, size_bytes: count(row.size_bytes) })
        .collect();
        let report: Report = read_json(OPERATION, &row.report)?;
        // Within the report they stand where an older program wrote it.
        let nodes = if report.nodes.is_empty() {
            sqlx::query_scalar!("SELECT nodes FROM cluster_nodes WHERE satellite_id = $1", id)
                .fetch_optional(&mut *snapshot)
                .await
                .during(OPERATION)?
                .map(|nodes| read_json(OPERATION, &nodes))
                .transpose()?
                .unwrap_or_default()
        } else {
            report.nodes
        };
        Ok(Some(Heartbeat {
            received_at: time(OPERATION, row.received_at)?,
            report: Report { cached_images, nodes, ..report },
        }))
    }

    /// [`ground_control_domain::store::Reports::heartbeat_history`].
    pub(super) async fn history(&self, name: &str) -> StoreResult<Vec<Heartbeat>> {
        const OPERATION: &str = "read a satellite's past reports";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, _) = satellites::id_of(&mut snapshot, name, OPERATION).await?;
        sqlx::query!(
            "SELECT received_at, report FROM heartbeat_history WHERE satellite_id = $1
             ORDER BY received_at DESC, slot DESC",
            id
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(Heartbeat {
                received_at: time(OPERATION, row.received_at)?,
                report: read_json(OPERATION, &row.report)?,
            })
        })
        .collect()
    }

    /// [`ground_control_domain::store::Reports::cached_images`].
    pub(super) async fn images(&self, name: &str, page: Page) -> StoreResult<Paged<CachedImage>> {
        const OPERATION: &str = "list a satellite's images";
        let (limit, offset) = (page.limit(), page.offset());
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, _) = satellites::id_of(&mut snapshot, name, OPERATION).await?;
        let total = sqlx::query_scalar!(
            r#"SELECT COUNT(*) AS "n!: i64" FROM cached_images WHERE satellite_id = $1"#,
            id
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let items = sqlx::query!(
            "SELECT reference, size_bytes FROM cached_images WHERE satellite_id = $1
             ORDER BY reference LIMIT $2 OFFSET $3",
            id,
            limit,
            offset
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| CachedImage { reference: row.reference, size_bytes: count(row.size_bytes) })
        .collect();
        Ok(Paged { items, total: count(total) })
    }
}

/// Forgets what a satellite holds.
pub(super) async fn forget(
    connection: &mut Connection,
    id: &str,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!("DELETE FROM cached_images WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!("DELETE FROM cluster_nodes WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!("DELETE FROM pending_artifacts WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!("DELETE FROM satellite_drift WHERE satellite_id = $1", id)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

#[async_trait]
impl Reports for SqlStore {
    async fn senders(&self, names: &[String]) -> StoreResult<HashMap<String, Sender>> {
        self.look_up_senders(names).await
    }

    async fn record_heartbeats(&self, batch: &[HeartbeatRecord]) -> StoreResult<Vec<HeartbeatOutcome>> {
        self.record(batch).await
    }

    async fn latest_heartbeat(&self, name: &str) -> StoreResult<Option<Heartbeat>> {
        self.latest(name).await
    }

    async fn latest_report(&self, name: &str) -> StoreResult<Option<Report>> {
        const OPERATION: &str = "read a satellite's report";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(
            "SELECT h.report FROM heartbeats h JOIN satellites s ON s.id = h.satellite_id
             WHERE s.name = $1 AND s.state <> 'deleted'",
            name
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?
        .map(|report| read_json(OPERATION, &report))
        .transpose()
    }

    async fn heartbeat_history(&self, name: &str) -> StoreResult<Vec<Heartbeat>> {
        self.history(name).await
    }

    async fn cached_images(&self, name: &str, page: Page) -> StoreResult<Paged<CachedImage>> {
        self.images(name, page).await
    }
}
