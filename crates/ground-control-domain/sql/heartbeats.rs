//! Reports of satellites: written in batches, bounded, images only when their list has changed.

use ground_control_domain::heartbeat::{
    self, CachedImage, HISTORY, Heartbeat, HeartbeatOutcome, HeartbeatRecord, Report,
};
use ground_control_domain::satellite::{LifecycleEvent, SatelliteState};
use ground_control_domain::{Page, Paged, StoreResult, silence};

use super::{During, SqlStore, count, json, millis, read, read_json, satellites, time};
use crate::dialect::Connection;

const RECORD: &str = "record heartbeats";

impl SqlStore {
    /// [`ground_control_domain::store::Satellites::record_heartbeats`].
    pub(super) async fn record(&self, batch: &[HeartbeatRecord]) -> StoreResult<Vec<HeartbeatOutcome>> {
        let mut outcomes = vec![HeartbeatOutcome::Gone; batch.len()];
        // The same order everywhere: two replicas that record the same satellites never wait for each other in a circle.
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by(|a, b| {
            let key = |n: &usize| batch.get(*n).map(|record| record.satellite.as_str());
            key(a).cmp(&key(b))
        });
        let mut tx = self.database.rows(RECORD).await?;
        for n in order {
            if let (Some(record), Some(outcome)) = (batch.get(n), outcomes.get_mut(n)) {
                *outcome = record_one(&mut tx, record).await?;
            }
        }
        tx.commit().await.during(RECORD)?;
        Ok(outcomes)
    }

    /// [`ground_control_domain::store::Satellites::latest_heartbeat`].
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
        Ok(Some(Heartbeat {
            received_at: time(OPERATION, row.received_at)?,
            report: Report { cached_images, ..report },
        }))
    }

    /// [`ground_control_domain::store::Satellites::heartbeat_history`].
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

    /// [`ground_control_domain::store::Satellites::cached_images`].
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

async fn record_one(connection: &mut Connection, record: &HeartbeatRecord) -> StoreResult<HeartbeatOutcome> {
    let id = record.satellite.as_str();
    let known = sqlx::query!(
        r#"SELECT s.state AS "state!", s.heartbeat_interval AS "interval?", r.rotated_at AS "rotated_at?"
           FROM satellites s LEFT JOIN robots r ON r.satellite_id = s.id WHERE s.id = $1"#,
        id
    )
    .fetch_optional(&mut *connection)
    .await
    .during(RECORD)?;
    let Some(known) = known else { return Ok(HeartbeatOutcome::Gone) };
    let state: SatelliteState = read(RECORD, &known.state)?;
    let Some(next) = state.after(LifecycleEvent::Heartbeat) else {
        return Ok(refused(state));
    };

    let (now, interval) = (millis(record.received_at), record.interval().or(known.interval.as_deref()));
    let stale_at = millis(silence::stale_at(record.received_at, interval));
    let (before, after) = (state.as_str(), next.as_str());
    // Only from the state that was decided on: a revocation that came between is not undone.
    let moved = sqlx::query!(
        "UPDATE satellites SET state = $1, last_seen = $2, heartbeat_interval = $3, stale_at = $4
         WHERE id = $5 AND state = $6",
        after,
        now,
        interval,
        stale_at,
        id,
        before
    )
    .execute(&mut *connection)
    .await
    .during(RECORD)?;
    if moved.rows_affected() == 0 {
        let state = sqlx::query_scalar!("SELECT state FROM satellites WHERE id = $1", id)
            .fetch_one(&mut *connection)
            .await
            .during(RECORD)?;
        let state: SatelliteState = read(RECORD, &state)?;
        if !state.admits() {
            return Ok(refused(state));
        }
    }
    sqlx::query!(
        "UPDATE ztr_tokens SET closed_at = $1
         WHERE satellite_id = $2 AND claimed_at IS NOT NULL AND closed_at IS NULL",
        now,
        id
    )
    .execute(&mut *connection)
    .await
    .during(RECORD)?;
    keep(connection, record, id, now).await?;
    let secret_rotated_at = known.rotated_at.map(|at| time(RECORD, at)).transpose()?;
    Ok(HeartbeatOutcome::Recorded { first: state == SatelliteState::Pending, secret_rotated_at })
}

fn refused(state: SatelliteState) -> HeartbeatOutcome {
    match state {
        SatelliteState::Deleted => HeartbeatOutcome::Gone,
        _ => HeartbeatOutcome::Refused,
    }
}

async fn keep(connection: &mut Connection, record: &HeartbeatRecord, id: &str, now: i64) -> StoreResult<()> {
    let report = json(RECORD, &record.summary())?;
    let images = record.images();
    let images_hash = heartbeat::fingerprint(&images);
    let kept = sqlx::query!("SELECT reports, images_hash FROM heartbeats WHERE satellite_id = $1", id)
        .fetch_optional(&mut *connection)
        .await
        .during(RECORD)?;
    let (reports, same_images) = match kept {
        Some(row) => (row.reports.wrapping_add(1), row.images_hash == images_hash),
        None => (0, false),
    };
    sqlx::query!(
        "INSERT INTO heartbeats (satellite_id, received_at, reports, report, images_hash)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (satellite_id) DO UPDATE SET received_at = excluded.received_at,
             reports = excluded.reports, report = excluded.report, images_hash = excluded.images_hash",
        id,
        now,
        reports,
        report,
        images_hash
    )
    .execute(&mut *connection)
    .await
    .during(RECORD)?;
    let slot = reports.rem_euclid(HISTORY);
    sqlx::query!(
        "INSERT INTO heartbeat_history (satellite_id, slot, received_at, report) VALUES ($1, $2, $3, $4)
         ON CONFLICT (satellite_id, slot) DO UPDATE SET
             received_at = excluded.received_at, report = excluded.report",
        id,
        slot,
        now,
        report
    )
    .execute(&mut *connection)
    .await
    .during(RECORD)?;
    if same_images {
        return Ok(());
    }
    sqlx::query!("DELETE FROM cached_images WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(RECORD)?;
    for (reference, image) in images {
        let (digest, size) =
            (heartbeat::digest_of(reference), i64::try_from(image.size_bytes).unwrap_or(i64::MAX));
        sqlx::query!(
            "INSERT INTO cached_images (satellite_id, reference, digest, size_bytes) VALUES ($1, $2, $3, $4)",
            id,
            reference,
            digest,
            size
        )
        .execute(&mut *connection)
        .await
        .during(RECORD)?;
    }
    Ok(())
}
