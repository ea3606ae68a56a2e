//! Reports of satellites: written in batches with few statements, bounded, images only when their list has changed.
//!
//! A report that says nothing new is one row of one statement: when it came. What lists show as last seen is that row's
//! time; the satellite's own row is written only when its state or its interval changes, and by the look for silence.

use std::collections::{BTreeMap, HashMap};

use ground_control_domain::heartbeat::{
    self, HISTORY, HISTORY_EVERY, HeartbeatOutcome, HeartbeatRecord, Listed,
};
use ground_control_domain::satellite::{LifecycleEvent, SatelliteState};
use ground_control_domain::{StoreResult, silence};
use sqlx::{QueryBuilder, Row as _};

use super::{During, SqlStore, among, drift, json, millis, pieces, read, time};
use crate::dialect::{Connection, Driver};

const RECORD: &str = "record heartbeats";

/// What is there of a satellite that reports.
struct Known {
    state: SatelliteState,
    interval: Option<String>,
    rotated_at: Option<i64>,
    open_token: bool,
    kept: Option<Kept>,
}

/// What is there of its reports.
struct Kept {
    reports: i64,
    images_hash: String,
    inventory: String,
    content: String,
    taken: i64,
    taken_at: i64,
    nodes_digest: String,
}

/// A report as it is to be written.
struct Row {
    id: String,
    now: i64,
    reports: i64,
    report: String,
    images_hash: String,
    inventory: String,
    content: String,
    taken: i64,
    taken_at: i64,
    /// The place in the history, where it takes one.
    slot: Option<i64>,
    nodes_digest: String,
    /// The list of nodes, where it is to be written.
    nodes: Option<String>,
}

impl SqlStore {
    /// [`ground_control_domain::store::Reports::record_heartbeats`].
    pub(super) async fn record(&self, batch: &[HeartbeatRecord]) -> StoreResult<Vec<HeartbeatOutcome>> {
        let mut outcomes = vec![HeartbeatOutcome::Gone; batch.len()];
        if batch.is_empty() {
            return Ok(outcomes);
        }
        let mut tx = self.database.rows(RECORD).await?;
        let mut changed = Vec::new();
        for round in rounds(batch) {
            for some in pieces(&round) {
                changed.extend(record_some(&mut tx, batch, some, &mut outcomes).await?);
            }
        }
        drift::look_again(&mut tx, changed, RECORD).await?;
        tx.commit().await.during(RECORD)?;
        Ok(outcomes)
    }
}

/// Which reports are written together: no satellite twice, and in the same order everywhere, so that two replicas that record
/// the same satellites never wait for each other in a circle.
fn rounds(batch: &[HeartbeatRecord]) -> Vec<Vec<usize>> {
    let mut order: Vec<(&str, usize)> =
        batch.iter().enumerate().map(|(n, record)| (record.satellite.as_str(), n)).collect();
    order.sort_unstable();
    let (mut rounds, mut last, mut turn) = (Vec::<Vec<usize>>::new(), "", 0);
    for (satellite, n) in order {
        turn = if satellite == last { turn + 1 } else { 0 };
        last = satellite;
        match rounds.get_mut(turn) {
            Some(round) => round.push(n),
            None => rounds.push(vec![n]),
        }
    }
    rounds
}

/// Records some reports; the satellites whose artifacts are others than before.
async fn record_some(
    connection: &mut Connection,
    batch: &[HeartbeatRecord],
    some: &[usize],
    outcomes: &mut [HeartbeatOutcome],
) -> StoreResult<Vec<String>> {
    let records: Vec<(usize, &HeartbeatRecord)> =
        some.iter().filter_map(|n| Some((*n, batch.get(*n)?))).collect();
    let mut known = look_up(connection, &records).await?;
    let mut rows = Vec::with_capacity(records.len());
    let (mut relisted, mut changed) = (Vec::new(), Vec::new());
    for (n, record) in records {
        let Some(known) = known.remove(record.satellite.as_str()) else { continue };
        let outcome = admit(connection, record, &known).await?;
        if let Some(place) = outcomes.get_mut(n) {
            *place = outcome;
        }
        if !matches!(outcome, HeartbeatOutcome::Recorded { .. }) {
            continue;
        }
        if known.open_token {
            close_token(connection, record).await?;
        }
        let (row, listed, new) = row(record, known.kept)?;
        if listed {
            relisted.push(record);
        }
        if new {
            changed.push(record);
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    write(connection, &rows).await?;
    replace_images(connection, &relisted).await?;
    drift::replace_pending(connection, &changed, RECORD).await?;
    Ok(changed.into_iter().chain(relisted).map(|record| record.satellite.as_str().to_owned()).collect())
}

async fn look_up(
    connection: &mut Connection,
    records: &[(usize, &HeartbeatRecord)],
) -> StoreResult<HashMap<String, Known>> {
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT s.id, s.state, s.heartbeat_interval, r.rotated_at,
                EXISTS (SELECT 1 FROM ztr_tokens t WHERE t.satellite_id = s.id AND t.claimed_at IS NOT NULL
                            AND t.closed_at IS NULL),
                h.reports, h.images_hash, h.inventory, h.content, h.kept, h.kept_at, h.nodes_digest
         FROM satellites s LEFT JOIN robots r ON r.satellite_id = s.id
              LEFT JOIN heartbeats h ON h.satellite_id = s.id
         WHERE s.id IN (",
    );
    among(&mut query, records.iter().map(|(_, record)| record.satellite.as_str().to_owned()));
    let rows = query.build().fetch_all(&mut *connection).await.during(RECORD)?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let kept = match row.try_get::<Option<i64>, _>(5).during(RECORD)? {
            None => None,
            Some(reports) => Some(Kept {
                reports,
                images_hash: row.try_get(6).during(RECORD)?,
                inventory: row.try_get(7).during(RECORD)?,
                content: row.try_get(8).during(RECORD)?,
                taken: row.try_get(9).during(RECORD)?,
                taken_at: row.try_get(10).during(RECORD)?,
                nodes_digest: row.try_get(11).during(RECORD)?,
            }),
        };
        let state: String = row.try_get(1).during(RECORD)?;
        let found = Known {
            state: read(RECORD, &state)?,
            interval: row.try_get(2).during(RECORD)?,
            rotated_at: row.try_get(3).during(RECORD)?,
            open_token: row.try_get(4).during(RECORD)?,
            kept,
        };
        known.insert(row.try_get(0).during(RECORD)?, found);
    }
    Ok(known)
}

/// Decides whether the satellite may report, and moves it to the state that follows.
async fn admit(
    connection: &mut Connection,
    record: &HeartbeatRecord,
    known: &Known,
) -> StoreResult<HeartbeatOutcome> {
    let Some(next) = known.state.after(LifecycleEvent::Heartbeat) else {
        return Ok(refused(known.state));
    };
    let secret_rotated_at = known.rotated_at.map(|at| time(RECORD, at)).transpose()?;
    let recorded =
        HeartbeatOutcome::Recorded { first: known.state == SatelliteState::Pending, secret_rotated_at };
    let interval = record.interval().or(known.interval.as_deref());
    if next == known.state && interval == known.interval.as_deref() {
        return Ok(recorded);
    }
    let (id, now) = (record.satellite.as_str(), millis(record.received_at));
    let stale_at = millis(silence::stale_at(record.received_at, interval));
    let (before, after) = (known.state.as_str(), next.as_str());
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
    Ok(recorded)
}

fn refused(state: SatelliteState) -> HeartbeatOutcome {
    match state {
        SatelliteState::Deleted => HeartbeatOutcome::Gone,
        _ => HeartbeatOutcome::Refused,
    }
}

/// The first report ends the replay of the token that the satellite registered with.
async fn close_token(connection: &mut Connection, record: &HeartbeatRecord) -> StoreResult<()> {
    let (id, now) = (record.satellite.as_str(), millis(record.received_at));
    sqlx::query!(
        "UPDATE ztr_tokens SET closed_at = $1
         WHERE satellite_id = $2 AND claimed_at IS NOT NULL AND closed_at IS NULL",
        now,
        id
    )
    .execute(connection)
    .await
    .during(RECORD)
    .map(drop)
}

/// The row that follows from a report and from what is there; whether it brings another list of images; whether it says
/// anything new beside that.
fn row(record: &HeartbeatRecord, kept: Option<Kept>) -> StoreResult<(Row, bool, bool)> {
    let (now, content) = (millis(record.received_at), record.content());
    let new = kept.as_ref().is_none_or(|kept| kept.content != content);
    let Kept { reports, images_hash, inventory, taken, taken_at, nodes_digest, .. } =
        kept.unwrap_or_else(|| Kept {
            reports: -1,
            images_hash: heartbeat::fingerprint(&BTreeMap::new()),
            inventory: String::new(),
            content: String::new(),
            taken: 0,
            taken_at: i64::MIN,
            nodes_digest: String::new(),
        });
    let (images_hash, inventory, listed) = match record.listed(&inventory) {
        Listed::Here => {
            let hash = heartbeat::fingerprint(&record.images());
            let listed = hash != images_hash;
            (hash, record.report.inventory_digest.clone(), listed)
        }
        Listed::AsBefore | Listed::Missing => (images_hash, inventory, false),
    };
    let (nodes_digest, nodes) = record.nodes(&nodes_digest);
    let every = i64::try_from(HISTORY_EVERY.as_millis()).unwrap_or(i64::MAX);
    let due = new || now.saturating_sub(taken_at) >= every;
    let row = Row {
        id: record.satellite.as_str().to_owned(),
        now,
        reports: reports.wrapping_add(1),
        report: json(RECORD, &record.summary())?,
        images_hash,
        inventory,
        content,
        taken: if due { taken.wrapping_add(1) } else { taken },
        taken_at: if due { now } else { taken_at },
        slot: due.then(|| taken.rem_euclid(HISTORY)),
        nodes_digest,
        nodes: nodes.map(|nodes| json(RECORD, &nodes)).transpose()?,
    };
    Ok((row, listed, new))
}

async fn write(connection: &mut Connection, rows: &[Row]) -> StoreResult<()> {
    let mut query = QueryBuilder::<Driver>::new(
        "INSERT INTO heartbeats (satellite_id, received_at, reports, report, images_hash, inventory, content, kept,
             kept_at, nodes_digest) ",
    );
    query.push_values(rows, |mut values, row| {
        values
            .push_bind(row.id.clone())
            .push_bind(row.now)
            .push_bind(row.reports)
            .push_bind(row.report.clone());
        values.push_bind(row.images_hash.clone()).push_bind(row.inventory.clone());
        values.push_bind(row.content.clone()).push_bind(row.taken).push_bind(row.taken_at);
        values.push_bind(row.nodes_digest.clone());
    });
    query.push(
        " ON CONFLICT (satellite_id) DO UPDATE SET received_at = excluded.received_at,
             reports = excluded.reports, report = excluded.report, images_hash = excluded.images_hash,
             inventory = excluded.inventory, content = excluded.content, kept = excluded.kept,
             kept_at = excluded.kept_at, nodes_digest = excluded.nodes_digest",
    );
    query.build().execute(&mut *connection).await.during(RECORD)?;
    let taken: Vec<(&Row, i64)> = rows.iter().filter_map(|row| Some((row, row.slot?))).collect();
    for some in pieces(&taken) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO heartbeat_history (satellite_id, slot, received_at, report) ",
        );
        query.push_values(some, |mut values, (row, slot)| {
            values
                .push_bind(row.id.clone())
                .push_bind(*slot)
                .push_bind(row.now)
                .push_bind(row.report.clone());
        });
        query.push(
            " ON CONFLICT (satellite_id, slot) DO UPDATE SET
                 received_at = excluded.received_at, report = excluded.report",
        );
        query.build().execute(&mut *connection).await.during(RECORD)?;
    }
    write_nodes(connection, rows).await
}

async fn write_nodes(connection: &mut Connection, rows: &[Row]) -> StoreResult<()> {
    let listed: Vec<(&str, &str)> =
        rows.iter().filter_map(|row| Some((row.id.as_str(), row.nodes.as_deref()?))).collect();
    for some in pieces(&listed) {
        let mut query = QueryBuilder::<Driver>::new("INSERT INTO cluster_nodes (satellite_id, nodes) ");
        query.push_values(some, |mut values, (id, nodes)| {
            values.push_bind((*id).to_owned()).push_bind((*nodes).to_owned());
        });
        query.push(" ON CONFLICT (satellite_id) DO UPDATE SET nodes = excluded.nodes");
        query.build().execute(&mut *connection).await.during(RECORD)?;
    }
    Ok(())
}

/// Keeps the lists of images of some satellites: with few statements, as a fleet that comes back sends all of its lists at once.
async fn replace_images(connection: &mut Connection, records: &[&HeartbeatRecord]) -> StoreResult<()> {
    let ids: Vec<&str> = records.iter().map(|record| record.satellite.as_str()).collect();
    for some in pieces(&ids) {
        let mut query = QueryBuilder::<Driver>::new("DELETE FROM cached_images WHERE satellite_id IN (");
        among(&mut query, some.iter().map(|id| (*id).to_owned()));
        query.build().execute(&mut *connection).await.during(RECORD)?;
    }
    let images: Vec<(&str, &str, u64)> = records
        .iter()
        .flat_map(|record| {
            let images = record.images().into_iter();
            images.map(|(reference, image)| (record.satellite.as_str(), reference, image.size_bytes))
        })
        .collect();
    for some in pieces(&images) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO cached_images (satellite_id, reference, digest, size_bytes) ",
        );
        query.push_values(some, |mut values, (id, reference, size)| {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            values.push_bind((*id).to_owned()).push_bind((*reference).to_owned());
            values.push_bind(heartbeat::digest_of(reference).to_owned()).push_bind(size);
        });
        query.build().execute(&mut *connection).await.during(RECORD)?;
    }
    Ok(())
}
