//! Satellites and what people change about them.

use async_trait::async_trait;
use fleet_protocol::{Region, SatelliteName};
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::document::{DocumentKey, DocumentKind};
use ground_control_domain::identity;
use ground_control_domain::label::Labels;
use ground_control_domain::satellite::{
    LifecycleEvent, NewSatellite, Robot, Satellite, SatelliteFilter, SatelliteState,
};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::{RotateSecret, Satellites};
use ground_control_domain::ztr::{ClaimAttempt, ClaimGrant, ClaimRefusal};
use ground_control_domain::{Entity, Page, Paged, SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    During, SqlStore, configs, groups, harbor, labels, lifecycle, listing, millis, outbox, publications,
    read, reports, time, unless_taken, withdrawals,
};
use crate::dialect::Connection;

/// A satellite's row, without what stands in rows of its own.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) state: String,
    pub(super) config_name: Option<String>,
    pub(super) heartbeat_interval: Option<String>,
    pub(super) last_seen: Option<i64>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl Row {
    pub(super) fn satellite(
        self,
        groups: Vec<String>,
        labels: Labels,
        operation: &'static str,
    ) -> StoreResult<Satellite> {
        Ok(Satellite {
            state: read(operation, &self.state)?,
            last_seen: self.last_seen.map(|at| time(operation, at)).transpose()?,
            created_at: time(operation, self.created_at)?,
            updated_at: time(operation, self.updated_at)?,
            id: SatelliteId::from(self.id),
            name: self.name,
            region: self.region,
            groups,
            labels,
            config_name: self.config_name.unwrap_or_default(),
            heartbeat_interval: self.heartbeat_interval,
        })
    }
}

/// The identifier and state of the satellite called `name`, unless deleted.
pub(super) async fn id_of(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<(String, SatelliteState)> {
    let row = sqlx::query!("SELECT id, state FROM satellites WHERE name = $1 AND state <> 'deleted'", name)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .ok_or_else(|| StoreError::not_found(Entity::Satellite, name))?;
    Ok((row.id, read(operation, &row.state)?))
}

pub(super) async fn load(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<Satellite> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT s.id, s.name, s.region, s.state, c.name AS "config_name?", s.heartbeat_interval,
                  COALESCE(h.received_at, s.last_seen) AS "last_seen?: i64", s.created_at, s.updated_at
           FROM satellites s LEFT JOIN configs c ON c.id = s.config_id
                LEFT JOIN heartbeats h ON h.satellite_id = s.id
           WHERE s.name = $1 AND s.state <> 'deleted'"#,
        name
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?
    .ok_or_else(|| StoreError::not_found(Entity::Satellite, name))?;
    let mut groups = sqlx::query_scalar!(
        "SELECT g.name FROM group_members m JOIN artifact_groups g ON g.id = m.group_id
         WHERE m.satellite_id = $1",
        row.id
    )
    .fetch_all(&mut *connection)
    .await
    .during(operation)?;
    groups.sort();
    let labels = labels::of(connection, &row.id, operation).await?;
    row.satellite(groups, labels, operation)
}

/// A satellite's row to be made.
pub(super) struct NewRow<'a> {
    pub(super) name: &'a str,
    pub(super) region: &'a str,
    pub(super) state: SatelliteState,
    pub(super) config_id: &'a str,
}

/// Makes a satellite, with an epoch that no SVID was issued in. `Conflict` where the name is in use.
pub(super) async fn insert(
    connection: &mut Connection,
    new: &NewRow<'_>,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<SatelliteId> {
    let (id, now, epoch) = (SatelliteId::generate(), millis(now), identity::new_epoch());
    let (id_text, state) = (id.as_str(), new.state.as_str());
    sqlx::query!(
        "INSERT INTO satellites (id, name, region, state, config_id, created_at, updated_at, identity_epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        id_text,
        new.name,
        new.region,
        state,
        new.config_id,
        now,
        epoch
    )
    .execute(connection)
    .await
    .map_err(|error| unless_taken(error, operation, || StoreError::exists(Entity::Satellite, new.name)))?;
    Ok(id)
}

/// Keeps a registration token.
pub(super) async fn insert_token(
    connection: &mut Connection,
    satellite_id: &str,
    token: &Hashed,
    now: Timestamp,
    expires_at: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (token, now, expires_at) = (token.as_str(), millis(now), millis(expires_at));
    sqlx::query!(
        "INSERT INTO ztr_tokens (token_hash, satellite_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        token,
        satellite_id,
        now,
        expires_at
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// A satellite whose row is locked.
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) state: String,
    pub(super) epoch: i64,
}

/// Locks a satellite's row for the rest of the transaction and tells how it stands then: who revokes or deletes it comes
/// before or after, never between.
pub(super) async fn lock(
    connection: &mut Connection,
    id: &str,
    operation: &'static str,
) -> StoreResult<Option<Locked>> {
    sqlx::query_as!(
        Locked,
        r#"UPDATE satellites SET state = state WHERE id = $1
           RETURNING name AS "name!", region AS "region!", state AS "state!", identity_epoch AS "epoch!""#,
        id
    )
    .fetch_optional(connection)
    .await
    .during(operation)
}

/// A person changed the satellite: its document is to be written again.
pub(super) async fn changed(
    connection: &mut Connection,
    id: &str,
    name: &str,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let now_millis = millis(now);
    sqlx::query!("UPDATE satellites SET updated_at = $1 WHERE id = $2", now_millis, id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    outbox::enqueue(connection, &DocumentKey::satellite(name), now, operation).await
}

pub(super) async fn join(
    connection: &mut Connection,
    satellite_id: &str,
    group_id: &str,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<bool> {
    let now = millis(now);
    let joined = sqlx::query!(
        "INSERT INTO group_members (satellite_id, group_id, joined_at, satellite)
         VALUES ($1, $2, $3, (SELECT s.name FROM satellites s WHERE s.id = $1))
         ON CONFLICT (satellite_id, group_id) DO UPDATE SET named = TRUE WHERE NOT group_members.named",
        satellite_id,
        group_id,
        now
    )
    .execute(connection)
    .await
    .during(operation)?;
    Ok(joined.rows_affected() > 0)
}

#[async_trait]
impl Satellites for SqlStore {
    async fn create_satellite(&self, new: NewSatellite, now: Timestamp) -> StoreResult<Satellite> {
        const OPERATION: &str = "create a satellite";
        SatelliteName::new(&new.name).map_err(|error| StoreError::invalid(error.to_string()))?;
        Region::new(&new.region).map_err(|error| StoreError::invalid(error.to_string()))?;
        let mut tx = self.make(OPERATION).await?;
        let config_id = configs::id_of(&mut tx, &new.config_name, OPERATION).await?;
        let (name, region, state) = (new.name.as_str(), new.region.as_str(), SatelliteState::Pending);
        let row = NewRow { name, region, state, config_id: &config_id };
        let id = insert(&mut tx, &row, now, OPERATION).await?;
        for group in &new.groups {
            let group_id = groups::id_of(&mut tx, group, OPERATION).await?;
            join(&mut tx, id.as_str(), &group_id, now, OPERATION).await?;
        }
        insert_token(&mut tx, id.as_str(), &new.token, now, new.token_expires_at, OPERATION).await?;
        outbox::enqueue(&mut tx, &DocumentKey::satellite(&new.name), now, OPERATION).await?;
        let satellite = load(&mut tx, &new.name, OPERATION).await?;
        let event = Event::new(Action::SatelliteCreated, "satellite", &new.name)
            .with("groups", new.groups)
            .with("config", new.config_name);
        self.commit(tx, &event, OPERATION).await?;
        Ok(satellite)
    }

    async fn satellite(&self, name: &str) -> StoreResult<Satellite> {
        const OPERATION: &str = "look up a satellite";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        load(&mut snapshot, name, OPERATION).await
    }

    async fn satellites(&self, filter: SatelliteFilter, page: Page) -> StoreResult<Paged<Satellite>> {
        const OPERATION: &str = "list the satellites";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        listing::page(&mut snapshot, &filter, page, OPERATION).await
    }

    async fn patch_labels(&self, satellite: &str, patch: &Value, now: Timestamp) -> StoreResult<Satellite> {
        self.label(satellite, patch, now).await
    }

    async fn delete_satellite(&self, name: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "delete a satellite";
        let now_millis = millis(now);
        let mut tx = self.change(Entity::Satellite, name, OPERATION).await?;
        let (id, state) = id_of(&mut tx, name, OPERATION).await?;
        let deleted = state.after(LifecycleEvent::Delete).unwrap_or(SatelliteState::Deleted).as_str();
        sqlx::query!(
            "UPDATE satellites SET state = $1, config_id = NULL, updated_at = $2, deleted_at = $2 WHERE id = $3",
            deleted,
            now_millis,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        lifecycle::close_tokens(&mut tx, &id, now_millis, OPERATION).await?;
        lifecycle::forget_credentials(&mut tx, &id, now_millis, OPERATION).await?;
        withdrawals::begin(&mut tx, &id, now_millis, OPERATION).await?;
        sqlx::query!("DELETE FROM group_members WHERE satellite_id = $1", id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        labels::forget(&mut tx, &id, OPERATION).await?;
        reports::forget(&mut tx, &id, OPERATION).await?;
        outbox::enqueue(&mut tx, &DocumentKey::satellite(name), now, OPERATION).await?;
        publications::shut_out(&mut tx, &id, OPERATION).await?;
        tx.tell(Change::Satellite(name.to_owned()));
        self.commit(tx, &Event::new(Action::SatelliteDeleted, "satellite", name), OPERATION).await
    }

    async fn join_group(&self, satellite: &str, group: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "put a satellite into a group";
        let mut tx = self.change(Entity::Satellite, satellite, OPERATION).await?;
        let (id, _) = id_of(&mut tx, satellite, OPERATION).await?;
        let group_id = groups::id_of(&mut tx, group, OPERATION).await?;
        if !join(&mut tx, &id, &group_id, now, OPERATION).await? {
            return Ok(());
        }
        harbor::check_fixed(&mut tx, None, Some(&id), OPERATION).await?;
        changed(&mut tx, &id, satellite, now, OPERATION).await?;
        let event = Event::new(Action::SatelliteJoinedGroup, "satellite", satellite).with("group", group);
        self.commit(tx, &event, OPERATION).await
    }

    async fn leave_group(&self, satellite: &str, group: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "take a satellite out of a group";
        let mut tx = self.change(Entity::Satellite, satellite, OPERATION).await?;
        let (id, _) = id_of(&mut tx, satellite, OPERATION).await?;
        let group_id = groups::id_of(&mut tx, group, OPERATION).await?;
        let chosen = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM group_members WHERE satellite_id = $1 AND group_id = $2 AND selected)
                   AS "chosen!: bool""#,
            id,
            group_id
        )
        .fetch_one(&mut *tx)
        .await
        .during(OPERATION)?;
        if chosen {
            return Err(StoreError::Conflict {
                message: format!(
                    "satellite {satellite:?} is in group {group:?} by the group's selector: change its labels or the selector"
                ),
            });
        }
        let left =
            sqlx::query!("DELETE FROM group_members WHERE satellite_id = $1 AND group_id = $2", id, group_id)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        if left.rows_affected() == 0 {
            return Ok(());
        }
        changed(&mut tx, &id, satellite, now, OPERATION).await?;
        let event = Event::new(Action::SatelliteLeftGroup, "satellite", satellite).with("group", group);
        self.commit(tx, &event, OPERATION).await
    }

    async fn assign_config(&self, satellite: &str, config: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "give a satellite a config";
        let mut tx = self.change(Entity::Satellite, satellite, OPERATION).await?;
        let (id, _) = id_of(&mut tx, satellite, OPERATION).await?;
        let config_id = configs::id_of(&mut tx, config, OPERATION).await?;
        let assigned = sqlx::query!(
            "UPDATE satellites SET config_id = $1 WHERE id = $2 AND (config_id IS NULL OR config_id <> $1)",
            config_id,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if assigned.rows_affected() == 0 {
            return Ok(());
        }
        changed(&mut tx, &id, satellite, now, OPERATION).await?;
        let event =
            Event::new(Action::SatelliteConfigAssigned, "satellite", satellite).with("config", config);
        self.commit(tx, &event, OPERATION).await
    }

    async fn claim_token(
        &self,
        attempt: ClaimAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<ClaimGrant, ClaimRefusal>> {
        self.claim(attempt, now).await
    }

    async fn robot(&self, satellite: &str) -> StoreResult<Option<Robot>> {
        self.find_robot(satellite).await
    }

    async fn rotate_secret(&self, rotate: RotateSecret, now: Timestamp) -> StoreResult<bool> {
        self.rotate(rotate, now).await
    }

    async fn robot_secret_used(&self, satellite: &SatelliteId, secret: &Hashed) -> StoreResult<()> {
        self.drop_previous_secret(satellite, secret).await
    }

    async fn pullable(&self, satellite: &SatelliteId) -> StoreResult<Vec<String>> {
        const OPERATION: &str = "list what a satellite may pull";
        let id = satellite.as_str();
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT s.name AS "name!", s.state AS "state!", c.name AS "config?"
               FROM satellites s LEFT JOIN configs c ON c.id = s.config_id WHERE s.id = $1"#,
            id
        )
        .fetch_optional(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let Some(row) = row else { return Ok(Vec::new()) };
        if !read::<SatelliteState>(OPERATION, &row.state)?.admits() {
            return Ok(Vec::new());
        }
        let mut repositories = sqlx::query_scalar!(
            "SELECT DISTINCT a.repository FROM group_members m JOIN group_artifacts a ON a.group_id = m.group_id
             WHERE m.satellite_id = $1 AND NOT a.deleted",
            id
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let groups = sqlx::query_scalar!(
            "SELECT g.name FROM group_members m JOIN artifact_groups g ON g.id = m.group_id
             WHERE m.satellite_id = $1",
            id
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        repositories.push(DocumentKey::satellite(row.name).repository());
        repositories.extend(row.config.map(|config| DocumentKey::config(config).repository()));
        repositories.extend(
            groups.into_iter().map(|name| DocumentKey { kind: DocumentKind::Group, name }.repository()),
        );
        repositories.sort();
        repositories.dedup();
        Ok(repositories)
    }
}
