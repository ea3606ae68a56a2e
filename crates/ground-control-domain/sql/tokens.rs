//! Tokens that people make for programs.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::Tokens;
use ground_control_domain::token::{ApiToken, MOST_TOKENS, NewToken, TokenKey};
use ground_control_domain::user::User;
use ground_control_domain::{Entity, Page, Paged, StoreError, StoreResult, TokenId, UserId};
use jiff::{SignedDuration, Timestamp};

use super::{During, SqlStore, count, millis, read, time, unless_taken, users};
use crate::dialect::Connection;

/// How exactly the last use of a token is known: a write for each use would be one for each request.
const NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);

struct Row {
    id: String,
    token_hash: String,
    name: String,
    scopes: String,
    created_at: i64,
    expires_at: i64,
    last_used_at: Option<i64>,
    user_id: String,
    username: String,
    role: String,
    user_created_at: i64,
}

impl Row {
    fn token(self, operation: &'static str) -> StoreResult<ApiToken> {
        Ok(ApiToken {
            id: TokenId::from(self.id),
            hash: Hashed::from(self.token_hash),
            owner: User {
                id: UserId::from(self.user_id),
                role: read(operation, &self.role)?,
                created_at: time(operation, self.user_created_at)?,
                username: self.username,
            },
            name: self.name,
            scopes: read(operation, &self.scopes)?,
            created_at: time(operation, self.created_at)?,
            expires_at: time(operation, self.expires_at)?,
            last_used_at: self.last_used_at.map(|at| time(operation, at)).transpose()?,
        })
    }
}

async fn by_id(
    connection: &mut Connection,
    id: &str,
    owner: &str,
    operation: &'static str,
) -> StoreResult<Option<ApiToken>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT t.id, t.token_hash, t.name, t.scopes, t.created_at, t.expires_at, t.last_used_at,
                u.id AS user_id, u.username, u.role, u.created_at AS user_created_at
         FROM api_tokens t JOIN users u ON u.id = t.user_id
         WHERE t.id = $1 AND ($2 = '' OR t.user_id = $2)",
        id,
        owner
    )
    .fetch_optional(connection)
    .await
    .during(operation)?;
    row.map(|row| row.token(operation)).transpose()
}

/// What happened to a token, by its owner's and its own name.
fn named(action: Action, token: &ApiToken) -> Event {
    Event::new(action, "token", &format!("{}/{}", token.owner.username, token.name))
        .with("id", token.id.as_str())
}

#[async_trait]
impl Tokens for SqlStore {
    async fn create_api_token(&self, token: NewToken, now: Timestamp) -> StoreResult<ApiToken> {
        const OPERATION: &str = "make an API token";
        let (id, owner) = (TokenId::generate(), token.owner.as_str());
        let (id_text, hash, scopes) = (id.as_str(), token.token.as_str(), token.scopes.to_string());
        let (created_at, expires_at) = (millis(now), millis(token.expires_at));
        // In one line with other changes of people, so that the bound holds for requests at the same moment.
        let mut tx = self.make(OPERATION).await?;
        let tokens =
            sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM api_tokens WHERE user_id = $1"#, owner)
                .fetch_one(&mut *tx)
                .await
                .during(OPERATION)?;
        if count(tokens) >= u64::from(MOST_TOKENS) {
            return Err(StoreError::Conflict {
                message: format!("there are {MOST_TOKENS} API tokens of this account, delete one first"),
            });
        }
        let made = sqlx::query!(
            "INSERT INTO api_tokens (id, token_hash, user_id, name, scopes, created_at, expires_at)
             SELECT $1, $2, id, $4, $5, $6, $7 FROM users WHERE id = $3",
            id_text,
            hash,
            owner,
            token.name,
            scopes,
            created_at,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .map_err(|error| unless_taken(error, OPERATION, || StoreError::exists(Entity::Token, &token.name)))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::not_found(Entity::User, owner));
        }
        let made = by_id(&mut tx, id_text, "", OPERATION)
            .await?
            .ok_or_else(|| StoreError::not_found(Entity::Token, id.as_str()))?;
        let event = named(Action::TokenCreated, &made)
            .with("scopes", made.scopes.to_string())
            .with("expires_at", made.expires_at.to_string());
        self.commit(tx, &event, OPERATION).await?;
        Ok(made)
    }

    async fn api_tokens(&self, owner: Option<&UserId>, page: Page) -> StoreResult<Paged<ApiToken>> {
        const OPERATION: &str = "list the API tokens";
        let owner = owner.map_or("", UserId::as_str);
        let (limit, offset) = (page.limit(), page.offset());
        let mut connection = self.database.snapshot(OPERATION).await?;
        let total = sqlx::query_scalar!(
            r#"SELECT COUNT(*) AS "n!: i64" FROM api_tokens WHERE $1 = '' OR user_id = $1"#,
            owner
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT t.id, t.token_hash, t.name, t.scopes, t.created_at, t.expires_at, t.last_used_at,
                    u.id AS user_id, u.username, u.role, u.created_at AS user_created_at
             FROM api_tokens t JOIN users u ON u.id = t.user_id
             WHERE $1 = '' OR t.user_id = $1
             ORDER BY u.username, t.name LIMIT $2 OFFSET $3",
            owner,
            limit,
            offset
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?;
        let items = rows.into_iter().map(|row| row.token(OPERATION)).collect::<StoreResult<_>>()?;
        Ok(Paged { items, total: count(total) })
    }

    async fn use_api_token(&self, key: TokenKey<'_>, now: Timestamp) -> StoreResult<Option<ApiToken>> {
        const OPERATION: &str = "look up an API token";
        let (hash, id) = match key {
            TokenKey::Hash(hash) => (hash.as_str(), ""),
            TokenKey::Id(id) => ("", id.as_str()),
        };
        let now_millis = millis(now);
        let row = {
            let mut connection = self.database.read(OPERATION).await?;
            sqlx::query_as!(
                Row,
                "SELECT t.id, t.token_hash, t.name, t.scopes, t.created_at, t.expires_at, t.last_used_at,
                        u.id AS user_id, u.username, u.role, u.created_at AS user_created_at
                 FROM api_tokens t JOIN users u ON u.id = t.user_id
                 WHERE (t.token_hash = $1 OR t.id = $2) AND t.expires_at > $3",
                hash,
                id,
                now_millis
            )
            .fetch_optional(&mut *connection)
            .await
            .during(OPERATION)?
        };
        let Some(token) = row.map(|row| row.token(OPERATION)).transpose()? else { return Ok(None) };
        if token.last_used_at.is_none_or(|last| now.duration_since(last) >= NOTED_EVERY) {
            let (id, before) = (token.id.as_str(), millis(now - NOTED_EVERY));
            let mut tx = self.database.rows(OPERATION).await?;
            // Of many uses at the same moment one is noted.
            sqlx::query!(
                "UPDATE api_tokens SET last_used_at = $2
                 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)",
                id,
                now_millis,
                before
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
            tx.commit().await.during(OPERATION)?;
        }
        Ok(Some(token))
    }

    async fn delete_api_token(&self, id: &TokenId, owner: Option<&UserId>) -> StoreResult<ApiToken> {
        const OPERATION: &str = "delete an API token";
        let (text, owner) = (id.as_str(), owner.map_or("", UserId::as_str));
        let mut tx = self.make(OPERATION).await?;
        let token = by_id(&mut tx, text, owner, OPERATION)
            .await?
            .ok_or_else(|| StoreError::not_found(Entity::Token, text))?;
        sqlx::query!("DELETE FROM api_tokens WHERE id = $1", text)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.tell(Change::Accounts);
        self.commit(tx, &named(Action::TokenDeleted, &token), OPERATION).await?;
        Ok(token)
    }

    async fn reset_password(&self, username: &str, password_hash: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "reset a password";
        let mut tx = self.change(Entity::User, username, OPERATION).await?;
        let user = users::replace_password(&mut tx, username, password_hash, now, OPERATION).await?;
        sqlx::query!("DELETE FROM api_tokens WHERE user_id = $1", user)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.tell(Change::Accounts);
        let event = Event::new(Action::UserPasswordSet, "user", username).with("api_tokens", "ended");
        self.commit(tx, &event, OPERATION).await
    }
}
