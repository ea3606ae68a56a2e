//! A satellite's life as an administrator and its own silence change it.

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::identity::{self, Enabling};
use ground_control_domain::satellite::{LifecycleEvent, Satellite, SatelliteState};
use ground_control_domain::silence::{self, UNTOLD};
use ground_control_domain::{Entity, StoreError, StoreResult};
use jiff::{SignedDuration, Timestamp};

use super::{During, SqlStore, enrolment, harbor, millis, publications, satellites, time, withdrawals};
use crate::dialect::Connection;

/// How many satellites become stale in one transaction.
const BATCH: i64 = 256;
/// How long before its time a satellite is looked at, in milliseconds: an older program beside this one takes `stale_at` for a
/// fact, and looks every few seconds.
const AHEAD: i64 = 15_000;

impl SqlStore {
    /// [`ground_control_domain::store::Identities::revoke_satellite`].
    pub(super) async fn revoke(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        const OPERATION: &str = "revoke a satellite";
        let mut tx = self.change(Entity::Satellite, name, OPERATION).await?;
        let (id, state) = satellites::id_of(&mut tx, name, OPERATION).await?;
        let after = moved(name, state, LifecycleEvent::Revoke)?;
        if after == state {
            return satellites::load(&mut tx, name, OPERATION).await;
        }
        let now_millis = millis(now);
        set_state(&mut tx, &id, after, Some(identity::new_epoch()), now_millis, OPERATION).await?;
        close_tokens(&mut tx, &id, now_millis, OPERATION).await?;
        harbor::condemn_all(&mut tx, &id, now_millis, OPERATION).await?;
        withdrawals::begin(&mut tx, &id, now_millis, OPERATION).await?;
        let satellite = satellites::load(&mut tx, name, OPERATION).await?;
        publications::shut_out(&mut tx, &id, OPERATION).await?;
        tx.tell(Change::Satellite(name.to_owned()));
        let event = Event::new(Action::SatelliteRevoked, "satellite", name).with("was", state.as_str());
        self.commit(tx, &event, OPERATION).await?;
        Ok(satellite)
    }

    /// [`ground_control_domain::store::Identities::enable_satellite`].
    pub(super) async fn enable(&self, name: &str, how: Enabling, now: Timestamp) -> StoreResult<Satellite> {
        const OPERATION: &str = "enable a satellite";
        let mut tx = self.change(Entity::Satellite, name, OPERATION).await?;
        let (id, state) = satellites::id_of(&mut tx, name, OPERATION).await?;
        let after = moved(name, state, LifecycleEvent::Enable)?;
        let by = match &how {
            Enabling::Registration(_) => "registration",
            Enabling::Token { .. } => "token",
        };
        match how {
            Enabling::Registration(new) if new.name == name => {
                enrolment::register(&mut tx, &new, now, OPERATION).await?;
            }
            Enabling::Registration(new) => {
                return Err(StoreError::invalid(format!("{:?} is not the satellite {name:?}", new.name)));
            }
            Enabling::Token { token, expires_at } => {
                let now_millis = millis(now);
                set_state(&mut tx, &id, after, Some(identity::new_epoch()), now_millis, OPERATION).await?;
                begin_anew(&mut tx, &id, now_millis, OPERATION).await?;
                satellites::insert_token(&mut tx, &id, &token, now, expires_at, OPERATION).await?;
                satellites::changed(&mut tx, &id, name, now, OPERATION).await?;
            }
        }
        let satellite = satellites::load(&mut tx, name, OPERATION).await?;
        tx.tell(Change::Satellite(name.to_owned()));
        let event = Event::new(Action::SatelliteEnabled, "satellite", name).with("by", by);
        self.commit(tx, &event, OPERATION).await?;
        Ok(satellite)
    }

    /// [`ground_control_domain::store::Identities::approve_satellite`].
    pub(super) async fn approve(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        const OPERATION: &str = "approve a satellite";
        let mut tx = self.change(Entity::Satellite, name, OPERATION).await?;
        let (id, state) = satellites::id_of(&mut tx, name, OPERATION).await?;
        let after = moved(name, state, LifecycleEvent::Approve)?;
        set_state(&mut tx, &id, after, None, millis(now), OPERATION).await?;
        satellites::changed(&mut tx, &id, name, now, OPERATION).await?;
        let satellite = satellites::load(&mut tx, name, OPERATION).await?;
        self.commit(tx, &Event::new(Action::SatelliteApproved, "satellite", name), OPERATION).await?;
        Ok(satellite)
    }

    /// [`ground_control_domain::store::Identities::mark_stale`].
    ///
    /// Reports do not write the satellite's own row, so that its `stale_at` is only the time to look at it again.
    pub(super) async fn mark_silent(
        &self,
        now: Timestamp,
        threshold: Option<SignedDuration>,
    ) -> StoreResult<Vec<String>> {
        const OPERATION: &str = "find stale satellites";
        let (mut stale, mut after) = (Vec::new(), String::new());
        loop {
            let due = self.perhaps_silent(now, threshold, &after, OPERATION).await?;
            let found = due.len();
            let Some(last) = due.last() else { return Ok(stale) };
            after.clone_from(&last.id);
            let mut tx = self.database.rows(OPERATION).await?;
            for one in due {
                let heard = one.heard.map(|at| time(OPERATION, at)).transpose()?;
                let ends = match (heard, threshold) {
                    (None, _) => now,
                    (Some(heard), None) => silence::stale_at(heard, one.interval.as_deref()),
                    (Some(heard), Some(threshold)) => heard.checked_add(threshold).unwrap_or(Timestamp::MAX),
                };
                if ends > now {
                    look_later(&mut tx, &one, millis(ends), OPERATION).await?;
                } else if fall_silent(&mut tx, &one, OPERATION).await? {
                    stale.push(one.name);
                }
            }
            tx.commit().await.during(OPERATION)?;
            if found < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                return Ok(stale);
            }
        }
    }

    /// Satellites after `after` that may have been silent for too long, in the order in which reports lock them.
    async fn perhaps_silent(
        &self,
        now: Timestamp,
        threshold: Option<SignedDuration>,
        after: &str,
        operation: &'static str,
    ) -> StoreResult<Vec<Silent>> {
        let mut connection = self.database.read(operation).await?;
        let before =
            |silence: SignedDuration| now.checked_sub(silence).map_or(i64::MIN, Timestamp::as_millisecond);
        match threshold {
            Some(threshold) => {
                let heard = before(threshold);
                sqlx::query_as!(
                    Silent,
                    r#"SELECT s.id AS "id!", s.name AS "name!", s.heartbeat_interval AS "interval?",
                              COALESCE(h.received_at, s.last_seen) AS "heard?: i64"
                       FROM satellites s LEFT JOIN heartbeats h ON h.satellite_id = s.id
                       WHERE s.state = 'online' AND s.last_seen <= $1 AND s.id > $2 ORDER BY s.id LIMIT $3"#,
                    heard,
                    after,
                    BATCH
                )
                .fetch_all(&mut *connection)
                .await
                .during(operation)
            }
            None => {
                // What was recorded before there was an end to silence has none.
                let (soon, untold) = (millis(now).saturating_add(AHEAD), before(UNTOLD));
                sqlx::query_as!(
                    Silent,
                    r#"SELECT s.id AS "id!", s.name AS "name!", s.heartbeat_interval AS "interval?",
                              COALESCE(h.received_at, s.last_seen) AS "heard?: i64"
                       FROM satellites s LEFT JOIN heartbeats h ON h.satellite_id = s.id
                       WHERE s.state = 'online' AND s.id > $1
                           AND (s.stale_at <= $2 OR (s.stale_at IS NULL AND s.last_seen <= $3))
                       ORDER BY s.id LIMIT $4"#,
                    after,
                    soon,
                    untold,
                    BATCH
                )
                .fetch_all(&mut *connection)
                .await
                .during(operation)
            }
        }
    }
}

/// A satellite that may have been silent for too long.
struct Silent {
    id: String,
    name: String,
    interval: Option<String>,
    heard: Option<i64>,
}

/// It was heard of: the next look is at `ends`.
async fn look_later(
    connection: &mut Connection,
    one: &Silent,
    ends: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE satellites SET last_seen = $1, stale_at = $2
         WHERE id = $3 AND state = 'online' AND (stale_at IS NULL OR stale_at <> $2)",
        one.heard,
        ends,
        one.id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// It is stale, unless it was heard of since; whether it is so by this.
async fn fall_silent(
    connection: &mut Connection,
    one: &Silent,
    operation: &'static str,
) -> StoreResult<bool> {
    let moved = sqlx::query!(
        "UPDATE satellites SET state = 'stale', last_seen = $1
         WHERE id = $2 AND state = 'online' AND NOT EXISTS (
             SELECT 1 FROM heartbeats h WHERE h.satellite_id = satellites.id AND h.received_at > $1)",
        one.heard,
        one.id
    )
    .execute(connection)
    .await
    .during(operation)?;
    Ok(moved.rows_affected() > 0)
}

/// The state after `event`, or why there is none.
fn moved(name: &str, state: SatelliteState, event: LifecycleEvent) -> StoreResult<SatelliteState> {
    state.after(event).ok_or_else(|| {
        let wanted = match event {
            LifecycleEvent::Enable => "only a revoked satellite can be enabled",
            LifecycleEvent::Approve => "only a satellite that waits for approval can be approved",
            _ => "that is not possible now",
        };
        StoreError::Conflict { message: format!("satellite {name:?} is {state}: {wanted}") }
    })
}

async fn set_state(
    connection: &mut Connection,
    id: &str,
    state: SatelliteState,
    epoch: Option<i64>,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let state = state.as_str();
    sqlx::query!(
        "UPDATE satellites SET state = $1, identity_epoch = COALESCE($2, identity_epoch), stale_at = NULL,
             updated_at = $3
         WHERE id = $4",
        state,
        epoch,
        now,
        id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Closes every token of a satellite: none is answered any more.
pub(super) async fn close_tokens(
    connection: &mut Connection,
    id: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE ztr_tokens SET closed_at = $1 WHERE satellite_id = $2 AND closed_at IS NULL",
        now,
        id
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    sqlx::query!(
        "UPDATE join_tokens SET closed_at = $1 WHERE satellite_id = $2 AND closed_at IS NULL",
        now,
        id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Forgets the keys and the robot of a satellite.
pub(super) async fn forget_credentials(
    connection: &mut Connection,
    id: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!("DELETE FROM identity_keys WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!("DELETE FROM robots WHERE satellite_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    harbor::forget_removed(connection, id, operation).await?;
    harbor::condemn_all(connection, id, now, operation).await
}

/// A revoked satellite is let in again: nothing that it held before is good, and its banned agents may attest anew.
pub(super) async fn begin_anew(
    connection: &mut Connection,
    id: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    close_tokens(connection, id, now, operation).await?;
    forget_credentials(connection, id, now, operation).await?;
    sqlx::query!(
        "DELETE FROM node_agents WHERE banned_at IS NOT NULL AND satellite_id IN (
             SELECT r.satellite_id FROM registrations r
             WHERE r.parent_id = (SELECT parent_id FROM registrations WHERE satellite_id = $1))",
        id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
