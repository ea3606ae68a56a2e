//! Labels of satellites.

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::label::Labels;
use ground_control_domain::{Entity, StoreError, StoreResult, label};
use jiff::Timestamp;
use serde_json::Value;

use super::{During, SqlStore, harbor, millis, satellites, selection};
use crate::dialect::Connection;

/// The labels of one satellite.
pub(super) async fn of(
    connection: &mut Connection,
    satellite_id: &str,
    operation: &'static str,
) -> StoreResult<Labels> {
    let rows = sqlx::query!("SELECT name, value FROM satellite_labels WHERE satellite_id = $1", satellite_id)
        .fetch_all(connection)
        .await
        .during(operation)?;
    Ok(rows.into_iter().map(|row| (row.name, row.value)).collect())
}

/// Takes all labels away.
pub(super) async fn forget(
    connection: &mut Connection,
    satellite_id: &str,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!("DELETE FROM satellite_labels WHERE satellite_id = $1", satellite_id)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

impl SqlStore {
    /// [`ground_control_domain::store::Satellites::patch_labels`].
    pub(super) async fn label(
        &self,
        satellite: &str,
        patch: &Value,
        now: Timestamp,
    ) -> StoreResult<ground_control_domain::satellite::Satellite> {
        const OPERATION: &str = "label a satellite";
        let mut tx = self.change(Entity::Satellite, satellite, OPERATION).await?;
        let (id, _) = satellites::id_of(&mut tx, satellite, OPERATION).await?;
        let before = of(&mut tx, &id, OPERATION).await?;
        let after = label::patched(&before, patch).map_err(StoreError::invalid)?;
        if after == before {
            return satellites::load(&mut tx, satellite, OPERATION).await;
        }
        forget(&mut tx, &id, OPERATION).await?;
        for (name, value) in &after {
            sqlx::query!(
                "INSERT INTO satellite_labels (satellite_id, name, value, satellite) VALUES ($1, $2, $3, $4)",
                id,
                name,
                value,
                satellite
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        }
        let subject = (id.as_str(), satellite);
        selection::relabelled(&mut tx, subject, &after, now, OPERATION).await?;
        harbor::check_fixed(&mut tx, None, Some(&id), OPERATION).await?;
        let now = millis(now);
        sqlx::query!("UPDATE satellites SET updated_at = $1 WHERE id = $2", now, id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        let names: Vec<&String> = after.keys().chain(before.keys()).collect();
        let mut changed: Vec<String> =
            names.into_iter().filter(|name| after.get(*name) != before.get(*name)).cloned().collect();
        changed.sort();
        changed.dedup();
        let event = Event::new(Action::SatelliteLabelled, "satellite", satellite).with("changed", changed);
        let satellite = satellites::load(&mut tx, satellite, OPERATION).await?;
        self.commit(tx, &event, OPERATION).await?;
        Ok(satellite)
    }
}
