//! Secrets of replication adapters, and what comes with them.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::group::Artifact;
use ground_control_domain::replication::{self, Replicated, ReplicationSecret};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::Replication;
use ground_control_domain::{Entity, StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, groups, millis, revisions, time};

#[async_trait]
impl Replication for SqlStore {
    async fn set_replication_secret(
        &self,
        group: &str,
        secret: &Hashed,
        by: &str,
        now: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "give a group a replication secret";
        let (hash, now) = (secret.as_str(), millis(now));
        let mut tx = self.change(Entity::Group, group, OPERATION).await?;
        let id = groups::id_of(&mut tx, group, OPERATION).await?;
        sqlx::query!(
            "INSERT INTO replication_secrets (group_id, secret_hash, created_at, created_by) VALUES ($1, $2, $3, $4)
             ON CONFLICT (group_id) DO UPDATE SET secret_hash = excluded.secret_hash,
                 created_at = excluded.created_at, created_by = excluded.created_by, used_at = NULL",
            id,
            hash,
            now,
            by
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let event = Event::new(Action::GroupReplicationSecretSet, "group", group);
        self.commit(tx, &event, OPERATION).await
    }

    async fn remove_replication_secret(&self, group: &str) -> StoreResult<bool> {
        const OPERATION: &str = "take a group's replication secret away";
        let mut tx = self.change(Entity::Group, group, OPERATION).await?;
        let id = groups::id_of(&mut tx, group, OPERATION).await?;
        let gone = sqlx::query!("DELETE FROM replication_secrets WHERE group_id = $1", id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        if gone.rows_affected() == 0 {
            return Ok(false);
        }
        let event = Event::new(Action::GroupReplicationSecretRemoved, "group", group);
        self.commit(tx, &event, OPERATION).await?;
        Ok(true)
    }

    async fn replication_secret(&self, group: &str) -> StoreResult<Option<ReplicationSecret>> {
        const OPERATION: &str = "look up a group's replication secret";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT r.created_at AS "created_at!", r.created_by AS "created_by!", r.used_at AS "used_at?"
               FROM replication_secrets r JOIN artifact_groups g ON g.id = r.group_id WHERE g.name = $1"#,
            group
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        row.map(|row| {
            Ok(ReplicationSecret {
                created_at: time(OPERATION, row.created_at)?,
                created_by: row.created_by,
                used_at: row.used_at.map(|at| time(OPERATION, at)).transpose()?,
            })
        })
        .transpose()
    }

    async fn knows_replication_secret(&self, secret: &Hashed) -> StoreResult<bool> {
        const OPERATION: &str = "look up a replication secret";
        let hash = secret.as_str();
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM replication_secrets WHERE secret_hash = $1) AS "known!: bool""#,
            hash
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)
    }

    async fn replicate(
        &self,
        secret: &Hashed,
        named: &str,
        artifacts: Vec<Artifact>,
        now: Timestamp,
    ) -> StoreResult<Replicated> {
        const OPERATION: &str = "merge what an adapter told";
        let hash = secret.as_str();
        let mut tx = self.database.fleet(OPERATION).await?;
        let name = sqlx::query_scalar!(
            "SELECT g.name FROM replication_secrets r JOIN artifact_groups g ON g.id = r.group_id
             WHERE r.secret_hash = $1",
            hash
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        let Some(name) = name else { return Ok(Replicated::Unknown) };
        if !named.is_empty() && named != name {
            return Ok(Replicated::OtherGroup(name));
        }
        let before = groups::load(&mut tx, &name, OPERATION)
            .await?
            .ok_or_else(|| StoreError::corrupt(OPERATION, "a secret without its group"))?;
        let list = replication::merge(&before.artifacts, &artifacts);
        let unchanged = before.artifacts == list;
        let by = revisions::Origin { author: replication::AUTHOR, restored_from: None };
        let group = groups::replace(&mut tx, &name, Some(before), list, &by, now, OPERATION).await?;
        let used_at = millis(now);
        sqlx::query!("UPDATE replication_secrets SET used_at = $1 WHERE secret_hash = $2", used_at, hash)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        if unchanged {
            tx.commit().await.during(OPERATION)?;
        } else {
            let made = revisions::latest(&mut tx, group.id.as_str(), OPERATION).await?.revision;
            let event = groups::revised(Event::new(Action::GroupReplicated, "group", &name), &made);
            self.commit(tx, &event, OPERATION).await?;
        }
        Ok(Replicated::Merged(Box::new(group)))
    }
}
