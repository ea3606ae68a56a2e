//! Changes that depend on what their author has seen.
//!
//! The version of what is addressed is found in the transaction that changes it, after the lock under which people's
//! changes stand in one line: nobody comes between the look and the change.

use ground_control_domain::version::{Target, Version};
use ground_control_domain::{Entity, StoreError, StoreResult, UserId};

use super::transaction::Writing;
use super::{During, SqlStore, configs, groups, satellites};
use crate::dialect::Connection;

impl SqlStore {
    /// A transaction that changes something that is there. Where it is not, that is for the change to say: it would be so
    /// without a condition, too (RFC 9110 section 13.2.1).
    pub(super) async fn change(
        &self,
        entity: Entity,
        name: &str,
        operation: &'static str,
    ) -> StoreResult<Writing> {
        let mut tx = self.database.fleet(operation).await?;
        let target = Target { entity, name };
        if let Some(condition) = &self.terms.condition
            && let Some(present) = version(&mut tx, target, operation).await?
            && !condition.is_met(Some(&present))
        {
            return Err(outdated(target));
        }
        Ok(tx)
    }

    /// A transaction that changes something, or makes it where it is not there.
    pub(super) async fn change_or_make(
        &self,
        entity: Entity,
        name: &str,
        operation: &'static str,
    ) -> StoreResult<Writing> {
        let mut tx = self.database.fleet(operation).await?;
        let target = Target { entity, name };
        if let Some(condition) = &self.terms.condition {
            let present = version(&mut tx, target, operation).await?;
            if !condition.is_met(present.as_ref()) {
                return Err(match present {
                    Some(_) => outdated(target),
                    None => {
                        StoreError::Outdated { message: format!("there is no {entity} {name:?} (any more)") }
                    }
                });
            }
        }
        Ok(tx)
    }

    /// A transaction that makes something, or changes what has no version.
    pub(super) async fn make(&self, operation: &'static str) -> StoreResult<Writing> {
        if self.terms.condition.is_some() {
            let message = "what this request changes has no version that it could depend on".to_owned();
            return Err(StoreError::Outdated { message });
        }
        self.database.fleet(operation).await
    }
}

fn outdated(Target { entity, name }: Target<'_>) -> StoreError {
    let message =
        format!("{entity} {name:?} was changed by somebody else meanwhile: read it again, and decide anew");
    StoreError::Outdated { message }
}

/// The version in which something is; `None` where it is not there, or is of a kind that has none.
async fn version(
    connection: &mut Connection,
    Target { entity, name }: Target<'_>,
    operation: &'static str,
) -> StoreResult<Option<Version>> {
    let found = match entity {
        Entity::Group => {
            return Ok(groups::load(connection, name, operation).await?.map(|group| group.version()));
        }
        Entity::Config => configs::load(connection, name, operation).await.map(|config| config.version()),
        Entity::Satellite => satellites::load(connection, name, operation).await.map(|one| one.version()),
        Entity::User => of_user(connection, name, operation).await,
        Entity::Session | Entity::Token | Entity::Revision => return Ok(None),
    };
    match found {
        Ok(version) => Ok(Some(version)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The version of an account.
pub(super) async fn of_user(
    connection: &mut Connection,
    username: &str,
    operation: &'static str,
) -> StoreResult<Version> {
    let row = sqlx::query!("SELECT id, role, updated_at FROM users WHERE username = $1", username)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .ok_or_else(|| StoreError::not_found(Entity::User, username))?;
    Ok(Version::of_user(&UserId::from(row.id), &row.role, row.updated_at))
}
