//! People's accounts, sessions and lockout.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::Users;
use ground_control_domain::user::{
    LockoutPolicy, LoginFailures, NewSession, NewUser, Role, Session, User, UserCredentials,
};
use ground_control_domain::version::Version;
use ground_control_domain::{Entity, Page, Paged, StoreError, StoreResult, UserId};
use jiff::Timestamp;

use super::{During, SqlStore, count, millis, read, time, unless_taken, versions};
use crate::dialect::Connection;

/// For how long an API token that has ended stands in the lists, in milliseconds.
const ENDED_TOKENS_SHOWN: i64 = 30 * 24 * 3600 * 1000;

pub(super) struct Row {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) role: String,
    pub(super) created_at: i64,
}

impl Row {
    pub(super) fn user(self, operation: &'static str) -> StoreResult<User> {
        Ok(User {
            id: UserId::from(self.id),
            role: read(operation, &self.role)?,
            created_at: time(operation, self.created_at)?,
            username: self.username,
        })
    }
}

pub(super) async fn insert(
    connection: &mut Connection,
    new: &NewUser,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<User> {
    let id = UserId::generate();
    let (id_text, role, created_at) = (id.as_str(), new.role.as_str(), millis(now));
    sqlx::query!(
        "INSERT INTO users (id, username, role, password_hash, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $5)",
        id_text,
        new.username,
        role,
        new.password_hash,
        created_at
    )
    .execute(connection)
    .await
    .map_err(|error| unless_taken(error, operation, || StoreError::exists(Entity::User, &new.username)))?;
    Ok(User { id, username: new.username.clone(), role: new.role, created_at: time(operation, created_at)? })
}

fn created(user: &User) -> Event {
    Event::new(Action::UserCreated, "user", &user.username).with("role", user.role.as_str())
}

#[async_trait]
impl Users for SqlStore {
    async fn create_user(&self, user: NewUser, now: Timestamp) -> StoreResult<User> {
        const OPERATION: &str = "create a user";
        let mut tx = self.make(OPERATION).await?;
        let user = insert(&mut tx, &user, now, OPERATION).await?;
        self.commit(tx, &created(&user), OPERATION).await?;
        Ok(user)
    }

    async fn bootstrap_user(&self, user: NewUser, now: Timestamp) -> StoreResult<bool> {
        const OPERATION: &str = "create the first user";
        let mut tx = self.database.fleet(OPERATION).await?;
        let users = sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM users"#)
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?;
        if users > 0 {
            return Ok(false);
        }
        let user = insert(&mut tx, &user, now, OPERATION).await?;
        self.commit(tx, &created(&user), OPERATION).await?;
        Ok(true)
    }

    async fn has_users(&self) -> StoreResult<bool> {
        const OPERATION: &str = "look for users";
        let mut connection = self.database.read(OPERATION).await?;
        let users = sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM users"#)
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
        Ok(users > 0)
    }

    async fn user(&self, username: &str) -> StoreResult<User> {
        const OPERATION: &str = "look up a user";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(Row, "SELECT id, username, role, created_at FROM users WHERE username = $1", username)
            .fetch_optional(&mut *connection)
            .await
            .during(OPERATION)?
            .ok_or_else(|| StoreError::not_found(Entity::User, username))?
            .user(OPERATION)
    }

    async fn user_version(&self, username: &str) -> StoreResult<Version> {
        const OPERATION: &str = "look up a user's version";
        let mut connection = self.database.read(OPERATION).await?;
        versions::of_user(&mut connection, username, OPERATION).await
    }

    async fn users(&self, page: Page) -> StoreResult<Paged<User>> {
        const OPERATION: &str = "list the users";
        let mut connection = self.database.snapshot(OPERATION).await?;
        let total = sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM users"#)
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
        let (limit, offset) = (page.limit(), page.offset());
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, username, role, created_at FROM users ORDER BY username LIMIT $1 OFFSET $2",
            limit,
            offset
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?;
        let items = rows.into_iter().map(|row| row.user(OPERATION)).collect::<StoreResult<_>>()?;
        Ok(Paged { items, total: count(total) })
    }

    async fn credentials(&self, username: &str) -> StoreResult<Option<UserCredentials>> {
        const OPERATION: &str = "look up a user";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            "SELECT id, username, role, created_at, password_hash FROM users WHERE username = $1",
            username
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        row.map(|row| {
            let user = Row { id: row.id, username: row.username, role: row.role, created_at: row.created_at };
            Ok(UserCredentials { user: user.user(OPERATION)?, password_hash: row.password_hash })
        })
        .transpose()
    }

    async fn delete_user(&self, username: &str, actor: &UserId) -> StoreResult<()> {
        const OPERATION: &str = "delete a user";
        let mut tx = self.change(Entity::User, username, OPERATION).await?;
        let row = sqlx::query!("SELECT id, role FROM users WHERE username = $1", username)
            .fetch_optional(&mut *tx)
            .await
            .during(OPERATION)?
            .ok_or_else(|| StoreError::not_found(Entity::User, username))?;
        if row.id == actor.as_str() {
            return Err(StoreError::Conflict { message: "nobody can delete their own account".to_owned() });
        }
        another_system_admin(&mut tx, username, &row.role, OPERATION).await?;
        sqlx::query!("DELETE FROM users WHERE id = $1", row.id).execute(&mut *tx).await.during(OPERATION)?;
        tx.tell(Change::Accounts);
        self.commit(tx, &Event::new(Action::UserDeleted, "user", username), OPERATION).await
    }

    async fn set_role(&self, username: &str, role: Role, now: Timestamp) -> StoreResult<User> {
        const OPERATION: &str = "change a role";
        let (updated_at, text) = (millis(now), role.as_str());
        let mut tx = self.change(Entity::User, username, OPERATION).await?;
        let row = sqlx::query_as!(
            Row,
            "SELECT id, username, role, created_at FROM users WHERE username = $1",
            username
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?
        .ok_or_else(|| StoreError::not_found(Entity::User, username))?;
        only_here(&mut tx, username, "its role follows from what it is there", OPERATION).await?;
        if row.role == text {
            return row.user(OPERATION);
        }
        if role != Role::SystemAdmin {
            another_system_admin(&mut tx, username, &row.role, OPERATION).await?;
        }
        sqlx::query!("UPDATE users SET role = $1, updated_at = $2 WHERE id = $3", text, updated_at, row.id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.tell(Change::Accounts);
        let event = Event::new(Action::UserRoleSet, "user", username)
            .with("from", row.role.as_str())
            .with("to", role.as_str());
        self.commit(tx, &event, OPERATION).await?;
        Ok(User { role, ..row.user(OPERATION)? })
    }

    async fn set_password(&self, username: &str, password_hash: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "set a password";
        let mut tx = self.change(Entity::User, username, OPERATION).await?;
        replace_password(&mut tx, username, password_hash, now, OPERATION).await?;
        tx.tell(Change::Accounts);
        self.commit(tx, &Event::new(Action::UserPasswordSet, "user", username), OPERATION).await
    }

    async fn create_session(&self, session: NewSession, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "open a session";
        let (token, user) = (session.token.as_str(), session.user.as_str());
        let (created_at, expires_at) = (millis(now), millis(session.expires_at));
        let mut tx = self.database.rows(OPERATION).await?;
        let opened = sqlx::query!(
            "INSERT INTO sessions (token_hash, user_id, created_at, expires_at)
             SELECT $1, id, $3, $4 FROM users WHERE id = $2",
            token,
            user,
            created_at,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if opened.rows_affected() == 0 {
            return Err(StoreError::not_found(Entity::User, user));
        }
        let username = sqlx::query_scalar!("SELECT username FROM users WHERE id = $1", user)
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?;
        let event = Event::new(Action::UserLoggedIn, "user", &username);
        let event = event.with("expires_at", session.expires_at.to_string());
        self.commit(tx, &event, OPERATION).await
    }

    async fn session(&self, token: &Hashed, now: Timestamp) -> StoreResult<Option<Session>> {
        const OPERATION: &str = "look up a session";
        let (token, now) = (token.as_str(), millis(now));
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            "SELECT u.id, u.username, u.role, u.created_at, s.expires_at
             FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.token_hash = $1 AND s.expires_at > $2",
            token,
            now
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        row.map(|row| {
            let user = Row { id: row.id, username: row.username, role: row.role, created_at: row.created_at };
            Ok(Session { user: user.user(OPERATION)?, expires_at: time(OPERATION, row.expires_at)? })
        })
        .transpose()
    }

    async fn end_session(&self, token: &Hashed) -> StoreResult<()> {
        const OPERATION: &str = "end a session";
        let token = token.as_str();
        let mut tx = self.database.rows(OPERATION).await?;
        let ended = sqlx::query_scalar!(
            r#"DELETE FROM sessions WHERE token_hash = $1 RETURNING user_id AS "user_id!""#,
            token
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        let Some(user) = ended else { return Ok(()) };
        let username = sqlx::query_scalar!("SELECT username FROM users WHERE id = $1", user)
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?;
        self.commit(tx, &Event::new(Action::UserLoggedOut, "user", &username), OPERATION).await
    }

    async fn login_failures(&self, subject: &str) -> StoreResult<Option<LoginFailures>> {
        const OPERATION: &str = "look up failed logins";
        let mut connection = self.database.read(OPERATION).await?;
        failures(&mut connection, subject, OPERATION).await
    }

    async fn record_login_failure(
        &self,
        subject: &str,
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> StoreResult<LoginFailures> {
        const OPERATION: &str = "record a failed login";
        let now_millis = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        // The row is there and ours before it is read: of two failures at once none is lost.
        sqlx::query!(
            "INSERT INTO login_failures (subject, failures, last_at, locked_until) VALUES ($1, 0, $2, NULL)
             ON CONFLICT (subject) DO UPDATE SET failures = login_failures.failures",
            subject,
            now_millis
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let previous = failures(&mut tx, subject, OPERATION).await?;
        let next = LoginFailures::after_failure(previous, now, policy);
        let (failed, locked_until) = (i64::from(next.count), next.locked_until.map(millis));
        sqlx::query!(
            "UPDATE login_failures SET failures = $2, last_at = $3, locked_until = $4 WHERE subject = $1",
            subject,
            failed,
            now_millis,
            locked_until
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(next)
    }

    async fn clear_login_failures(&self, subject: &str) -> StoreResult<()> {
        const OPERATION: &str = "forget failed logins";
        if self.login_failures(subject).await?.is_none() {
            return Ok(());
        }
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM login_failures WHERE subject = $1", subject)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn purge_expired(&self, policy: LockoutPolicy, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "remove what has expired";
        let now = millis(now);
        let forgotten = now.saturating_sub(i64::try_from(policy.duration.as_millis()).unwrap_or(i64::MAX));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        sqlx::query!(
            "DELETE FROM login_failures
             WHERE last_at <= $1 AND (locked_until IS NULL OR locked_until <= $2)",
            forgotten,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        // Ended tokens are shown for a while: whoever looks for the reason of a 401 finds it in the list.
        let shown = now.saturating_sub(ENDED_TOKENS_SHOWN);
        sqlx::query!("DELETE FROM api_tokens WHERE expires_at <= $1", shown)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        sqlx::query!("DELETE FROM rate_limits WHERE whole_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}

/// That this account, whose role is `role`, is not the last that administers people.
async fn another_system_admin(
    connection: &mut Connection,
    username: &str,
    role: &str,
    operation: &'static str,
) -> StoreResult<()> {
    let system_admin = Role::SystemAdmin.as_str();
    if role != system_admin {
        return Ok(());
    }
    // Those of an identity provider do not count: it may take the role from all of them, and it may be away.
    let others = sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "n!: i64" FROM users u WHERE u.role = $1 AND u.username <> $2
           AND NOT EXISTS (SELECT 1 FROM user_identities i WHERE i.user_id = u.id)"#,
        system_admin,
        username
    )
    .fetch_one(connection)
    .await
    .during(operation)?;
    if others == 0 {
        return Err(StoreError::Conflict {
            message: format!("{username:?} is the last system_admin with a password and has to stay one"),
        });
    }
    Ok(())
}

/// `Conflict` for the account of somebody whom an identity provider knows.
async fn only_here(
    connection: &mut Connection,
    username: &str,
    consequence: &str,
    operation: &'static str,
) -> StoreResult<()> {
    let issuer = sqlx::query_scalar!(
        "SELECT i.issuer FROM user_identities i JOIN users u ON u.id = i.user_id WHERE u.username = $1",
        username
    )
    .fetch_optional(connection)
    .await
    .during(operation)?;
    match issuer {
        None => Ok(()),
        Some(issuer) => {
            Err(StoreError::Conflict { message: format!("{username:?} logs in at {issuer}: {consequence}") })
        }
    }
}

/// Sets a password and ends all sessions of that account, whose identifier it answers.
pub(super) async fn replace_password(
    connection: &mut Connection,
    username: &str,
    password_hash: &str,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<String> {
    only_here(connection, username, "it has no password here", operation).await?;
    let updated_at = millis(now);
    let id = sqlx::query_scalar!(
        r#"UPDATE users SET password_hash = $1, updated_at = $2 WHERE username = $3 RETURNING id AS "id!""#,
        password_hash,
        updated_at,
        username
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?
    .ok_or_else(|| StoreError::not_found(Entity::User, username))?;
    sqlx::query!("DELETE FROM sessions WHERE user_id = $1", id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    Ok(id)
}

async fn failures(
    connection: &mut Connection,
    subject: &str,
    operation: &'static str,
) -> StoreResult<Option<LoginFailures>> {
    let row = sqlx::query!(
        "SELECT failures, last_at, locked_until FROM login_failures WHERE subject = $1",
        subject
    )
    .fetch_optional(connection)
    .await
    .during(operation)?;
    row.filter(|row| row.failures > 0)
        .map(|row| {
            Ok(LoginFailures {
                count: u32::try_from(row.failures).unwrap_or(u32::MAX),
                last_at: time(operation, row.last_at)?,
                locked_until: row.locked_until.map(|at| time(operation, at)).transpose()?,
            })
        })
        .transpose()
}
