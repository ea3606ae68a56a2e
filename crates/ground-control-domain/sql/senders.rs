//! Who reports: what a batch of reports is decided by, read at once.

use std::collections::HashMap;

use ground_control_domain::heartbeat::{KeptReport, Sender};
use ground_control_domain::identity::IdentityRecord;
use ground_control_domain::satellite::Robot;
use ground_control_domain::secret::Hashed;
use ground_control_domain::{SatelliteId, StoreResult};
use sqlx::{QueryBuilder, Row as _};

use super::{During, SqlStore, among, read, time};
use crate::dialect::Driver;

impl SqlStore {
    /// [`ground_control_domain::store::Reports::senders`].
    pub(super) async fn look_up_senders(&self, names: &[String]) -> StoreResult<HashMap<String, Sender>> {
        const OPERATION: &str = "look up who reports";
        let mut senders = HashMap::with_capacity(names.len());
        if names.is_empty() {
            return Ok(senders);
        }
        let mut query = QueryBuilder::<Driver>::new(
            "SELECT s.id, s.name, s.region, s.state, s.identity_epoch, s.heartbeat_interval,
                    (k.previous_key IS NOT NULL OR EXISTS (
                         SELECT 1 FROM join_tokens t WHERE t.satellite_id = s.id AND t.closed_at IS NULL
                             AND t.claimed_at IS NOT NULL AND t.public_key = k.public_key)),
                    EXISTS (SELECT 1 FROM ztr_tokens t WHERE t.satellite_id = s.id AND t.claimed_at IS NOT NULL
                                AND t.closed_at IS NULL),
                    r.secret_hash, r.previous_secret_hash, r.rotated_at, h.content, h.inventory, h.images_hash,
                    h.nodes_digest
             FROM satellites s LEFT JOIN identity_keys k ON k.satellite_id = s.id
                  LEFT JOIN robots r ON r.satellite_id = s.id LEFT JOIN heartbeats h ON h.satellite_id = s.id
             WHERE s.state <> 'deleted' AND s.name IN (",
        );
        // Filled up to a few lengths with the last one, so that the statement is remembered.
        let length = names.len().next_power_of_two();
        let filled = names.iter().chain(names.iter().next_back().into_iter().cycle());
        among(&mut query, filled.take(length).cloned());
        let mut connection = self.database.read(OPERATION).await?;
        for row in query.build().fetch_all(&mut *connection).await.during(OPERATION)? {
            let text = |column: usize| row.try_get::<Option<String>, _>(column).during(OPERATION);
            let (id, name) = (SatelliteId::from(text(0)?.unwrap_or_default()), text(1)?.unwrap_or_default());
            let state = read(OPERATION, &text(3)?.unwrap_or_default())?;
            let secret_since = row.try_get::<Option<i64>, _>(10).during(OPERATION)?;
            let robot = Robot {
                satellite: id.clone(),
                satellite_name: name.clone(),
                state,
                secret: text(8)?.map(Hashed::from),
                previous_secret: text(9)?.map(Hashed::from),
                secret_since: secret_since.map(|since| time(OPERATION, since)).transpose()?,
            };
            let kept = match (text(11)?, text(12)?, text(13)?, text(14)?) {
                (Some(content), Some(inventory), Some(images_hash), Some(nodes)) => {
                    Some(KeptReport { content, inventory, images_hash, nodes })
                }
                _ => None,
            };
            let identity = IdentityRecord {
                satellite: id,
                name: name.clone(),
                region: text(2)?.unwrap_or_default(),
                state,
                epoch: row.try_get(4).during(OPERATION)?,
                awaits_use: row.try_get(6).during(OPERATION)?,
            };
            let sender = Sender {
                identity,
                robot,
                interval: text(5)?,
                open_token: row.try_get(7).during(OPERATION)?,
                kept,
            };
            senders.insert(name, sender);
        }
        Ok(senders)
    }
}
