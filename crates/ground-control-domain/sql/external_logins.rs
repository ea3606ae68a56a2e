//! Logins by OpenID Connect.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::change::Change;
use ground_control_domain::external::{
    CliLogin, ExternalPerson, LOGINS, LOGINS_OF_A_SOURCE, NewCode, PendingLogin,
};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::ExternalLogins;
use ground_control_domain::user::{NO_PASSWORD, NewUser, Role, User};
use ground_control_domain::{StoreError, StoreResult};
use jiff::Timestamp;

use super::transaction::Writing;
use super::users::{Row, insert};
use super::{During, SqlStore, millis};
use crate::dialect::Connection;

#[async_trait]
impl ExternalLogins for SqlStore {
    async fn begin_login(&self, login: PendingLogin, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "begin a login";
        let (state, browser) = (login.state.as_str(), login.browser.as_str());
        let port = login.cli.as_ref().map(|cli| i64::from(cli.port));
        let challenge = login.cli.as_ref().map(|cli| cli.challenge.as_str());
        let cli_state = login.cli.as_ref().map(|cli| cli.state.as_str());
        let (created_at, expires_at) = (millis(now), millis(login.expires_at));
        let (of_the_source, of_all) = (LOGINS_OF_A_SOURCE - 1, LOGINS - 1);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "DELETE FROM oidc_logins WHERE expires_at <= $1 OR state_hash IN (
                 SELECT l.state_hash FROM oidc_logins l WHERE l.source = $2
                 ORDER BY l.created_at DESC LIMIT 1000 OFFSET $3)",
            created_at,
            login.source,
            of_the_source
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "DELETE FROM oidc_logins WHERE state_hash IN (
                 SELECT l.state_hash FROM oidc_logins l ORDER BY l.created_at DESC LIMIT 1000 OFFSET $1)",
            of_all
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "INSERT INTO oidc_logins
                 (state_hash, browser_hash, source, cli_port, cli_challenge, cli_state, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            state,
            browser,
            login.source,
            port,
            challenge,
            cli_state,
            created_at,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn take_login(
        &self,
        state: &Hashed,
        browser: &Hashed,
        now: Timestamp,
    ) -> StoreResult<Option<Option<CliLogin>>> {
        const OPERATION: &str = "take a login";
        let (state, browser, now) = (state.as_str(), browser.as_str(), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        let row = sqlx::query!(
            r#"DELETE FROM oidc_logins WHERE state_hash = $1 AND browser_hash = $2 AND expires_at > $3
               RETURNING cli_port AS "cli_port?", cli_challenge AS "cli_challenge?", cli_state AS "cli_state?""#,
            state,
            browser,
            now
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        let Some(row) = row else { return Ok(None) };
        let (Some(port), Some(challenge), Some(state)) = (row.cli_port, row.cli_challenge, row.cli_state)
        else {
            return Ok(Some(None));
        };
        let port = u16::try_from(port).map_err(|error| StoreError::corrupt(OPERATION, error))?;
        Ok(Some(Some(CliLogin { port, challenge, state })))
    }

    async fn sign_in(&self, person: ExternalPerson, now: Timestamp) -> StoreResult<User> {
        const OPERATION: &str = "sign somebody in";
        // Most have been here before: a login locks their own rows and wakes nobody.
        let mut tx = self.database.rows(OPERATION).await?;
        if let Some((user, before)) = again(&mut tx, &person, now, OPERATION).await? {
            tx.tell(Change::Accounts);
            self.signed_in(tx, &user, before, OPERATION).await?;
            return Ok(user);
        }
        drop(tx);
        let mut tx = self.database.fleet(OPERATION).await?;
        // Of two first logins at once the second one is none any more.
        let (user, before) = match again(&mut tx, &person, now, OPERATION).await? {
            Some(known) => known,
            None => {
                let user = first_login(&mut tx, &person, now, OPERATION).await?;
                tx.tell(Change::Accounts);
                let event = Event::new(Action::UserCreated, "user", &user.username)
                    .with("role", user.role.as_str())
                    .with("issuer", person.issuer.as_str());
                self.commit(tx, &event, OPERATION).await?;
                return Ok(user);
            }
        };
        tx.tell(Change::Accounts);
        self.signed_in(tx, &user, before, OPERATION).await?;
        Ok(user)
    }

    async fn turn_away(&self, issuer: &str, subject: &str) -> StoreResult<()> {
        const OPERATION: &str = "end somebody's sessions";
        let mut tx = self.database.rows(OPERATION).await?;
        let sessions = sqlx::query!(
            "DELETE FROM sessions WHERE user_id IN (
                 SELECT i.user_id FROM user_identities i WHERE i.issuer = $1 AND i.subject = $2)",
            issuer,
            subject
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let tokens = sqlx::query!(
            "DELETE FROM api_tokens WHERE user_id IN (
                 SELECT i.user_id FROM user_identities i WHERE i.issuer = $1 AND i.subject = $2)",
            issuer,
            subject
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "DELETE FROM oidc_codes WHERE user_id IN (
                 SELECT i.user_id FROM user_identities i WHERE i.issuer = $1 AND i.subject = $2)",
            issuer,
            subject
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.tell(Change::Accounts);
        if sessions.rows_affected() + tokens.rows_affected() == 0 {
            return tx.commit().await.during(OPERATION);
        }
        let event = Event::new(Action::UserTurnedAway, "identity", subject)
            .with("issuer", issuer)
            .with("sessions", sessions.rows_affected())
            .with("api_tokens", tokens.rows_affected());
        self.commit(tx, &event, OPERATION).await
    }

    async fn keep_code(&self, code: NewCode, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "keep a login code";
        let (hash, user) = (code.code.as_str(), code.user.as_str());
        let (now, expires_at) = (millis(now), millis(code.expires_at));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM oidc_codes WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        sqlx::query!(
            "INSERT INTO oidc_codes (code_hash, user_id, challenge, expires_at) VALUES ($1, $2, $3, $4)",
            hash,
            user,
            code.challenge,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn redeem_code(&self, code: &Hashed, challenge: &str, now: Timestamp) -> StoreResult<Option<User>> {
        const OPERATION: &str = "redeem a login code";
        let (hash, now) = (code.as_str(), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        let row = sqlx::query!(
            r#"DELETE FROM oidc_codes WHERE code_hash = $1
               RETURNING user_id AS "user_id!", challenge AS "challenge!", expires_at AS "expires_at!""#,
            hash
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        let Some(row) = row else { return Ok(None) };
        let user = sqlx::query_as!(
            Row,
            "SELECT id, username, role, created_at FROM users WHERE id = $1",
            row.user_id
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        // Compared in constant time.
        let same = Hashed::from(row.challenge) == Hashed::from(challenge.to_owned());
        let good = row.expires_at > now && same;
        user.filter(|_| good).map(|user| user.user(OPERATION)).transpose()
    }

    async fn purge_logins(&self, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "remove logins that have expired";
        let now = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM oidc_logins WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        sqlx::query!("DELETE FROM oidc_codes WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}

impl SqlStore {
    /// Commits a login, which is a change where it brings another role.
    async fn signed_in(
        &self,
        tx: Writing,
        user: &User,
        before: Role,
        operation: &'static str,
    ) -> StoreResult<()> {
        if user.role == before {
            return tx.commit().await.during(operation);
        }
        let event = Event::new(Action::UserRoleSet, "user", &user.username)
            .with("from", before.as_str())
            .with("to", user.role.as_str());
        self.commit(tx, &event, operation).await
    }
}

/// The account of whoever was here before, with the role of today, and the role that it had.
async fn again(
    connection: &mut Connection,
    person: &ExternalPerson,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<Option<(User, Role)>> {
    let known = sqlx::query_as!(
        Row,
        "SELECT u.id, u.username, u.role, u.created_at
         FROM user_identities i JOIN users u ON u.id = i.user_id
         WHERE i.issuer = $1 AND i.subject = $2",
        person.issuer,
        person.subject
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?;
    let Some(known) = known else { return Ok(None) };
    let mut user = known.user(operation)?;
    let (id, role, at) = (user.id.as_str(), person.role.as_str(), millis(now));
    sqlx::query!("UPDATE users SET role = $2, updated_at = $3 WHERE id = $1 AND role <> $2", id, role, at)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!(
        "UPDATE user_identities SET last_login_at = $3 WHERE issuer = $1 AND subject = $2",
        person.issuer,
        person.subject,
        at
    )
    .execute(connection)
    .await
    .during(operation)?;
    let before = std::mem::replace(&mut user.role, person.role);
    Ok(Some((user, before)))
}

/// Makes the account, under the first of its names that nobody has.
async fn first_login(
    connection: &mut Connection,
    person: &ExternalPerson,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<User> {
    let mut free = None;
    for name in person.account_names() {
        let taken =
            sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM users WHERE username = $1"#, name)
                .fetch_one(&mut *connection)
                .await
                .during(operation)?;
        if taken == 0 {
            free = Some(name);
            break;
        }
    }
    let username = free.ok_or_else(|| StoreError::Conflict {
        message: "every name that the account could have is taken".to_owned(),
    })?;
    let new = NewUser { username, role: person.role, password_hash: NO_PASSWORD.to_owned() };
    let user = insert(&mut *connection, &new, now, operation).await?;
    let (id, at) = (user.id.as_str(), millis(now));
    sqlx::query!(
        "INSERT INTO user_identities (issuer, subject, user_id, created_at, last_login_at)
         VALUES ($1, $2, $3, $4, $4)",
        person.issuer,
        person.subject,
        id,
        at
    )
    .execute(connection)
    .await
    .during(operation)?;
    Ok(user)
}
