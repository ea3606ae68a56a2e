//! The certificate authorities of the built-in authority.

use ground_control_domain::StoreResult;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::identity::AuthorityRecord;

use super::{During, SqlStore, millis, time};

impl SqlStore {
    /// [`ground_control_domain::store::Identities::authorities`].
    pub(super) async fn list_authorities(&self, trust_domain: &str) -> StoreResult<Vec<AuthorityRecord>> {
        const OPERATION: &str = "read the authorities";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query!(
            "SELECT id, trust_domain, certificate, sealed_key, created_at, signs_from, expires_at
             FROM authorities WHERE trust_domain = $1 ORDER BY signs_from",
            trust_domain
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(AuthorityRecord {
                id: row.id,
                trust_domain: row.trust_domain,
                certificate: row.certificate,
                sealed_key: row.sealed_key,
                created_at: time(OPERATION, row.created_at)?,
                signs_from: time(OPERATION, row.signs_from)?,
                expires_at: time(OPERATION, row.expires_at)?,
            })
        })
        .collect()
    }

    /// [`ground_control_domain::store::Identities::add_authority`].
    pub(super) async fn keep_authority(&self, record: AuthorityRecord) -> StoreResult<bool> {
        const OPERATION: &str = "keep an authority";
        let (created_at, signs_from, expires_at) =
            (millis(record.created_at), millis(record.signs_from), millis(record.expires_at));
        // Two replicas that look at the same moment mean the same authority, if some milliseconds apart.
        let nearby = expires_at.saturating_sub(signs_from).max(0) / 10;
        let (earliest, latest) = (signs_from.saturating_sub(nearby), signs_from.saturating_add(nearby));
        let mut tx = self.database.fleet(OPERATION).await?;
        let added = sqlx::query!(
            "INSERT INTO authorities (id, trust_domain, certificate, sealed_key, created_at, signs_from, expires_at)
             SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT),
                    CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT)
             WHERE NOT EXISTS (SELECT 1 FROM authorities a
                               WHERE a.trust_domain = $2 AND a.signs_from BETWEEN $8 AND $9)",
            record.id,
            record.trust_domain,
            record.certificate,
            record.sealed_key,
            created_at,
            signs_from,
            expires_at,
            earliest,
            latest
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if added.rows_affected() == 0 {
            return Ok(false);
        }
        let event = Event::new(Action::AuthorityCreated, "authority", &record.id)
            .with("trust_domain", record.trust_domain)
            .with("signs_from", record.signs_from.to_string())
            .with("expires_at", record.expires_at.to_string());
        self.commit(tx, &event, OPERATION).await?;
        Ok(true)
    }

    /// [`ground_control_domain::store::Identities::remove_authority`].
    pub(super) async fn forget_authority(&self, id: &str) -> StoreResult<()> {
        const OPERATION: &str = "forget an authority";
        let mut tx = self.database.rows(OPERATION).await?;
        let removed = sqlx::query!("DELETE FROM authorities WHERE id = $1", id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        if removed.rows_affected() == 0 {
            return Ok(());
        }
        self.commit(tx, &Event::new(Action::AuthorityRemoved, "authority", id), OPERATION).await
    }
}
