//! How a satellite comes by its identity: an administrator registers it, or it introduces itself.

use fleet_protocol::{Region, SatelliteName};
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::document::DocumentKey;
use ground_control_domain::identity::{self, AutoRegister, AutoRegistered, NewRegistration};
use ground_control_domain::satellite::{LifecycleEvent, Satellite, SatelliteState};
use ground_control_domain::{Entity, StoreError, StoreResult};
use jiff::{SignedDuration, Timestamp};

use super::satellites::{self, NewRow};
use super::{During, SqlStore, configs, groups, json, lifecycle, millis, outbox, read};
use crate::dialect::Connection;

/// How long a closed join token is remembered, so that a replay is told that it was used.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The satellite that has the name already.
struct Known {
    id: String,
    region: String,
    state: SatelliteState,
    epoch: i64,
}

/// What a registration names, found.
struct Wanted {
    known: Option<Known>,
    groups: Vec<String>,
    /// `None`: stays as it is.
    config: Option<String>,
}

impl SqlStore {
    /// [`ground_control_domain::store::Identities::register_identity`].
    pub(super) async fn enrol(
        &self,
        new: &NewRegistration,
        now: Timestamp,
    ) -> StoreResult<(Satellite, bool)> {
        const OPERATION: &str = "register a satellite's identity";
        let mut tx = self.change_or_make(Entity::Satellite, &new.name, OPERATION).await?;
        let is_new = register(&mut tx, new, now, OPERATION).await?;
        let satellite = satellites::load(&mut tx, &new.name, OPERATION).await?;
        let event = Event::new(Action::SatelliteRegistered, "satellite", &new.name)
            .with("new", is_new)
            .with("region", new.region.as_str())
            .with("groups", new.groups.clone())
            .with("attestation", new.method.as_str());
        self.commit(tx, &event, OPERATION).await?;
        Ok((satellite, is_new))
    }

    /// [`ground_control_domain::store::Identities::check_registration`].
    pub(super) async fn check_enrolment(&self, new: &NewRegistration) -> StoreResult<()> {
        const OPERATION: &str = "check a satellite's registration";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        wanted(&mut snapshot, new, OPERATION).await.map(drop)
    }

    /// [`ground_control_domain::store::Identities::auto_register`].
    pub(super) async fn introduce(
        &self,
        name: &str,
        region: &str,
        policy: AutoRegister,
        now: Timestamp,
    ) -> StoreResult<AutoRegistered> {
        const OPERATION: &str = "register a satellite that introduced itself";
        let state = match policy {
            AutoRegister::Allow => SatelliteState::Pending,
            AutoRegister::Approve => SatelliteState::AwaitingApproval,
            AutoRegister::Deny => return Err(StoreError::invalid("no satellite registers itself here")),
        };
        check_name(name, region)?;
        let mut tx = self.database.fleet(OPERATION).await?;
        // Deleted ones count: such a name comes back by an administrator only.
        let taken = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM satellites WHERE name = $1) AS "taken!: bool""#,
            name
        )
        .fetch_one(&mut *tx)
        .await
        .during(OPERATION)?;
        if taken {
            return Ok(AutoRegistered::Exists);
        }
        let config =
            configs::id_of(&mut tx, ground_control_domain::config::DEFAULT_CONFIG, OPERATION).await?;
        satellites::insert(&mut tx, &NewRow { name, region, state, config_id: &config }, now, OPERATION)
            .await?;
        outbox::enqueue(&mut tx, &DocumentKey::satellite(name), now, OPERATION).await?;
        let satellite = satellites::load(&mut tx, name, OPERATION).await?;
        let event = Event::new(Action::SatelliteIntroduced, "satellite", name)
            .with("region", region)
            .with("state", state.as_str());
        self.commit(tx, &event, OPERATION).await?;
        Ok(AutoRegistered::Created(satellite))
    }
}

fn check_name(name: &str, region: &str) -> StoreResult<()> {
    SatelliteName::new(name).map_err(|error| StoreError::invalid(error.to_string()))?;
    Region::new(region).map_err(|error| StoreError::invalid(error.to_string()))?;
    Ok(())
}

/// Finds what a registration names; the error says why it would be refused.
async fn wanted(
    connection: &mut Connection,
    new: &NewRegistration,
    operation: &'static str,
) -> StoreResult<Wanted> {
    let known = sqlx::query!(
        "SELECT id, region, state, identity_epoch FROM satellites WHERE name = $1 AND state <> 'deleted'",
        new.name
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?
    .map(|row| {
        let state = read(operation, &row.state)?;
        StoreResult::Ok(Known { id: row.id, region: row.region, state, epoch: row.identity_epoch })
    })
    .transpose()?;
    match &known {
        None => check_name(&new.name, &new.region)?,
        Some(known) if known.region != new.region => {
            return Err(StoreError::Conflict {
                message: format!(
                    "satellite {:?} belongs to region {:?}; the same name in region {:?} would be another identity",
                    new.name, known.region, new.region
                ),
            });
        }
        Some(_) => {}
    }
    let config = match (&new.config_name, &known) {
        (Some(name), _) => Some(configs::id_of(connection, name, operation).await?),
        (None, None) => {
            Some(configs::id_of(connection, ground_control_domain::config::DEFAULT_CONFIG, operation).await?)
        }
        (None, Some(_)) => None,
    };
    let mut found = Vec::with_capacity(new.groups.len());
    for group in &new.groups {
        found.push(groups::id_of(connection, group, operation).await?);
    }
    Ok(Wanted { known, groups: found, config })
}

/// Registers within the caller's transaction; tells whether the satellite is new.
pub(super) async fn register(
    connection: &mut Connection,
    new: &NewRegistration,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<bool> {
    let now_millis = millis(now);
    let wanted = wanted(connection, new, operation).await?;
    let is_new = wanted.known.is_none();
    let id = match wanted.known {
        None => {
            let config_id = wanted.config.as_deref().unwrap_or_default();
            let row =
                NewRow { name: &new.name, region: &new.region, state: SatelliteState::Pending, config_id };
            satellites::insert(connection, &row, now, operation).await?.as_str().to_owned()
        }
        Some(known) => {
            bring_up_to_date(connection, &known, wanted.config.as_deref(), now_millis, operation).await?;
            known.id
        }
    };
    for group in &wanted.groups {
        satellites::join(connection, &id, group, now, operation).await?;
    }
    take_over(connection, new, operation).await?;
    record(connection, &id, new, now_millis, operation).await?;
    replace_token(connection, &id, new, now, operation).await?;
    outbox::enqueue(connection, &DocumentKey::satellite(&new.name), now, operation).await?;
    Ok(is_new)
}

/// A known satellite is registered again: one that was refused until now begins anew, another goes on as it is.
async fn bring_up_to_date(
    connection: &mut Connection,
    known: &Known,
    config: Option<&str>,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let back = known.state.after(LifecycleEvent::Enable);
    let state = back.or_else(|| known.state.after(LifecycleEvent::Approve)).unwrap_or(known.state).as_str();
    let epoch = if back.is_some() || known.epoch == 0 { identity::new_epoch() } else { known.epoch };
    sqlx::query!(
        "UPDATE satellites SET state = $1, identity_epoch = $2, config_id = COALESCE($3, config_id), updated_at = $4
         WHERE id = $5",
        state,
        epoch,
        config,
        now,
        known.id
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    if back.is_some() {
        lifecycle::begin_anew(connection, &known.id, now, operation).await?;
    }
    Ok(())
}

/// The same identity was deleted before: what was to be withdrawn of it is this registration's now.
async fn take_over(
    connection: &mut Connection,
    new: &NewRegistration,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE registrations SET withdraw_at = NULL WHERE withdraw_at IS NOT NULL AND satellite_id IN (
             SELECT id FROM satellites WHERE name = $1 AND region = $2 AND state = 'deleted')",
        new.name,
        new.region
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

async fn record(
    connection: &mut Connection,
    id: &str,
    new: &NewRegistration,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let (method, selectors) = (new.method.as_str(), json(operation, &new.selectors)?);
    sqlx::query!(
        "INSERT INTO registrations (satellite_id, attestation_method, parent_id, selectors, updated_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (satellite_id) DO UPDATE SET
             attestation_method = excluded.attestation_method, parent_id = excluded.parent_id,
             selectors = excluded.selectors, updated_at = excluded.updated_at, active = TRUE,
             withdraw_at = NULL, withdraw_attempts = 0, withdraw_error = NULL",
        id,
        method,
        new.parent_id,
        selectors,
        now
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Voids the join tokens that nobody claimed, and keeps the new one. What was claimed goes on until its SVID is used.
async fn replace_token(
    connection: &mut Connection,
    id: &str,
    new: &NewRegistration,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (now_millis, forgotten) = (millis(now), millis(now - REMEMBERED));
    sqlx::query!(
        "UPDATE join_tokens SET closed_at = $1 WHERE satellite_id = $2 AND claimed_at IS NULL AND closed_at IS NULL",
        now_millis,
        id
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    sqlx::query!("DELETE FROM join_tokens WHERE satellite_id = $1 AND closed_at < $2", id, forgotten)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    let Some((token, expires_at)) = &new.join_token else { return Ok(()) };
    let (token, expires_at) = (token.as_str(), millis(*expires_at));
    sqlx::query!(
        "INSERT INTO join_tokens (token_hash, satellite_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        token,
        id,
        now_millis,
        expires_at
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
