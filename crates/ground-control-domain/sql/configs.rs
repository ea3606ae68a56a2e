//! Named configurations.

use async_trait::async_trait;
use fleet_protocol::ConfigName;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::config::{self, Config, DEFAULT_CONFIG};
use ground_control_domain::document::DocumentKey;
use ground_control_domain::store::Configs;
use ground_control_domain::{ConfigId, Entity, Page, Paged, StoreError, StoreResult};
use jiff::Timestamp;
use serde_json::Value;

use super::{During, SqlStore, count, json, millis, outbox, read_json, time, unless_taken};
use crate::dialect::Connection;

struct Row {
    id: String,
    name: String,
    document: String,
    created_at: i64,
    updated_at: i64,
}

impl Row {
    fn config(self, operation: &'static str) -> StoreResult<Config> {
        Ok(Config {
            document: read_json(operation, &self.document)?,
            id: ConfigId::from(self.id),
            name: self.name,
            created_at: time(operation, self.created_at)?,
            updated_at: time(operation, self.updated_at)?,
        })
    }
}

pub(super) async fn load(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<Config> {
    sqlx::query_as!(
        Row,
        "SELECT id, name, document, created_at, updated_at FROM configs WHERE name = $1",
        name
    )
    .fetch_optional(connection)
    .await
    .during(operation)?
    .ok_or_else(|| StoreError::not_found(Entity::Config, name))?
    .config(operation)
}

/// The identifier of the configuration called `name`.
pub(super) async fn id_of(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<String> {
    sqlx::query_scalar!("SELECT id FROM configs WHERE name = $1", name)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .ok_or_else(|| StoreError::not_found(Entity::Config, name))
}

/// The settings that a merge patch names, without their values.
fn named(patch: &Value) -> Vec<String> {
    let keys = |value: &Value| value.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
    let mut names = Vec::new();
    for section in keys(patch).unwrap_or_default() {
        match keys(&patch[&section]).filter(|keys| !keys.is_empty()) {
            Some(keys) => names.extend(keys.iter().map(|key| format!("{section}.{key}"))),
            None => names.push(section),
        }
    }
    names
}

#[async_trait]
impl Configs for SqlStore {
    async fn ensure_default_config(&self, now: Timestamp) -> StoreResult<bool> {
        match self.create_config(DEFAULT_CONFIG, fleet_protocol::config::default_document(), now).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_config(&self, name: &str, document: Value, now: Timestamp) -> StoreResult<Config> {
        const OPERATION: &str = "create a config";
        ConfigName::new(name).map_err(|error| StoreError::invalid(error.to_string()))?;
        config::check(&document).map_err(StoreError::invalid)?;
        let (id, now_millis, text) = (ConfigId::generate(), millis(now), json(OPERATION, &document)?);
        let id_text = id.as_str();
        let mut tx = self.make(OPERATION).await?;
        sqlx::query!(
            "INSERT INTO configs (id, name, document, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
            id_text,
            name,
            text,
            now_millis
        )
        .execute(&mut *tx)
        .await
        .map_err(|error| unless_taken(error, OPERATION, || StoreError::exists(Entity::Config, name)))?;
        outbox::enqueue(&mut tx, &DocumentKey::config(name), now, OPERATION).await?;
        self.commit(tx, &Event::new(Action::ConfigCreated, "config", name), OPERATION).await?;
        let created_at = time(OPERATION, now_millis)?;
        Ok(Config { id, name: name.to_owned(), document, created_at, updated_at: created_at })
    }

    async fn patch_config(&self, name: &str, patch: Value, now: Timestamp) -> StoreResult<Config> {
        const OPERATION: &str = "change a config";
        if !patch.is_object() {
            return Err(StoreError::invalid("a merge patch of a config is a JSON object"));
        }
        let mut tx = self.change(Entity::Config, name, OPERATION).await?;
        let before = load(&mut tx, name, OPERATION).await?;
        let document = config::merge_patch(before.document.clone(), &patch);
        if document == before.document {
            return Ok(before);
        }
        config::check(&document).map_err(StoreError::invalid)?;
        let (now_millis, text, id) = (millis(now), json(OPERATION, &document)?, before.id.as_str());
        sqlx::query!("UPDATE configs SET document = $1, updated_at = $2 WHERE id = $3", text, now_millis, id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        outbox::enqueue(&mut tx, &DocumentKey::config(name), now, OPERATION).await?;
        let event = Event::new(Action::ConfigChanged, "config", name).with("changed", named(&patch));
        self.commit(tx, &event, OPERATION).await?;
        Ok(Config { document, updated_at: time(OPERATION, now_millis)?, ..before })
    }

    async fn delete_config(&self, name: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "delete a config";
        if name == DEFAULT_CONFIG {
            return Err(StoreError::invalid(
                "config \"default\" is what a satellite has where none is named, and has to stay",
            ));
        }
        let mut tx = self.change(Entity::Config, name, OPERATION).await?;
        let id = id_of(&mut tx, name, OPERATION).await?;
        let users =
            sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM satellites WHERE config_id = $1"#, id)
                .fetch_one(&mut *tx)
                .await
                .during(OPERATION)?;
        if users > 0 {
            return Err(StoreError::invalid(format!(
                "config {name:?} is in use by {users} satellite(s): give them another one first"
            )));
        }
        sqlx::query!("DELETE FROM configs WHERE id = $1", id).execute(&mut *tx).await.during(OPERATION)?;
        outbox::enqueue(&mut tx, &DocumentKey::config(name), now, OPERATION).await?;
        self.commit(tx, &Event::new(Action::ConfigDeleted, "config", name), OPERATION).await
    }

    async fn config(&self, name: &str) -> StoreResult<Config> {
        const OPERATION: &str = "look up a config";
        let mut connection = self.database.read(OPERATION).await?;
        load(&mut connection, name, OPERATION).await
    }

    async fn configs(&self, page: Page) -> StoreResult<Paged<Config>> {
        const OPERATION: &str = "list the configs";
        let (limit, offset) = (page.limit(), page.offset());
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let total = sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM configs"#)
            .fetch_one(&mut *snapshot)
            .await
            .during(OPERATION)?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, name, document, created_at, updated_at FROM configs ORDER BY name LIMIT $1 OFFSET $2",
            limit,
            offset
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let items = rows.into_iter().map(|row| row.config(OPERATION)).collect::<StoreResult<_>>()?;
        Ok(Paged { items, total: count(total) })
    }
}
