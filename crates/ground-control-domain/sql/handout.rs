//! Robots of Harbor on their way to a satellite: which one it is given, and which ones end.

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::harbor::{HandOut, HandedOut, Wish};
use ground_control_domain::satellite::SatelliteState;
use ground_control_domain::secret::Hashed;
use ground_control_domain::ztr::{ClaimDecision, ClaimRefusal, Claimant};
use ground_control_domain::{SatelliteId, StoreResult};
use jiff::Timestamp;

use super::registration::{self, Decided};
use super::{During, SqlStore, harbor, millis, read, satellites};
use crate::dialect::Connection;

/// A robot that could be handed out.
struct Ready {
    id: String,
    username: Option<String>,
    sealed_secret: Option<String>,
}

impl Ready {
    fn handed_out(self, satellite_name: String, again: bool) -> Option<HandedOut> {
        Some(HandedOut {
            robot: self.id,
            satellite_name,
            username: self.username?,
            sealed_secret: self.sealed_secret?,
            again,
        })
    }
}

/// The robot that was made last and never handed out.
async fn prepared(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<Option<Ready>> {
    sqlx::query_as!(
        Ready,
        r#"SELECT id AS "id!", username AS "username?", sealed_secret AS "sealed_secret?" FROM harbor_robots
           WHERE satellite_id = $1 AND role = 'prepared' AND NOT gone AND sealed_secret IS NOT NULL
           ORDER BY begun_at DESC LIMIT 1"#,
        satellite
    )
    .fetch_optional(connection)
    .await
    .during(operation)
}

/// The robot that was handed out last and never seen in use.
async fn unused(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<Option<Ready>> {
    sqlx::query_as!(
        Ready,
        r#"SELECT id AS "id!", username AS "username?", sealed_secret AS "sealed_secret?" FROM harbor_robots
           WHERE satellite_id = $1 AND role = 'current' AND NOT gone AND used_at IS NULL
               AND sealed_secret IS NOT NULL"#,
        satellite
    )
    .fetch_optional(connection)
    .await
    .during(operation)
}

/// What the audit tells of a robot that is handed out.
fn handed(action: Action, out: &HandedOut) -> Event {
    Event::new(action, "satellite", &out.satellite_name)
        .with("account", out.username.as_str())
        .with("again", out.again)
}

/// What becomes of the robots that were handed out before.
enum Before<'a> {
    /// They end: another device may have them.
    Ends,
    /// This one stays good until the new one is used.
    Stays(&'a str),
    /// The one seen in use last does.
    LastUsed,
}

/// Makes a prepared robot the current one.
async fn hand_out(
    connection: &mut Connection,
    satellite: &str,
    robot: &str,
    before: Before<'_>,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let stays = match before {
        Before::Ends => None,
        Before::Stays(robot) => Some(robot.to_owned()),
        Before::LastUsed => {
            sqlx::query_scalar!(
                "SELECT id FROM harbor_robots WHERE satellite_id = $1 AND role IN ('current', 'retiring')
                 ORDER BY CASE WHEN used_at IS NULL THEN 1 ELSE 0 END, CASE WHEN role = 'current' THEN 0 ELSE 1 END
                 LIMIT 1",
                satellite
            )
            .fetch_optional(&mut *connection)
            .await
            .during(operation)?
        }
    };
    sqlx::query!(
        "UPDATE harbor_robots SET sealed_secret = NULL,
             role = CASE WHEN id = $1 THEN 'retiring' ELSE 'condemned' END
         WHERE satellite_id = $2 AND role IN ('current', 'retiring')",
        stays,
        satellite
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    sqlx::query!("UPDATE harbor_robots SET role = 'current', given_at = $1 WHERE id = $2", now, robot)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    sqlx::query!("UPDATE harbor_sites SET wants_fresh = FALSE WHERE satellite_id = $1", satellite)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    harbor::asked(connection, satellite, now, operation).await
}

impl SqlStore {
    /// [`ground_control_domain::store::SiteRobots::claim_robot`].
    pub(super) async fn hand_out_for_token(
        &self,
        token: &Hashed,
        claimant: &Claimant,
        now: Timestamp,
    ) -> StoreResult<Result<HandOut, ClaimRefusal>> {
        const OPERATION: &str = "claim a registration token for a robot";
        if !self.knows_token(token, OPERATION).await? {
            return Ok(Err(ClaimRefusal::Unknown));
        }
        let now_millis = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        let Decided { satellite, satellite_name, decision } =
            match registration::decide_claim(&mut tx, token, claimant, now, OPERATION).await? {
                Ok(decided) => decided,
                Err(refusal) => return Ok(Err(refusal)),
            };
        let again = decision != ClaimDecision::First;
        // Surely the same device: an answer that was lost is given once more.
        if decision == (ClaimDecision::Again { keep_previous: true })
            && let Some(ready) = unused(&mut tx, &satellite, OPERATION).await?
            && let Some(out) = ready.handed_out(satellite_name.clone(), again)
        {
            self.commit(tx, &handed(Action::SatelliteClaimed, &out), OPERATION).await?;
            return Ok(Ok(HandOut::Given(out)));
        }
        let ready = prepared(&mut tx, &satellite, OPERATION).await?;
        let Some(out) = ready.and_then(|ready| ready.handed_out(satellite_name, again)) else {
            // Nothing of this is kept: the token is as it was.
            drop(tx);
            self.ask_for_robot(&satellite, now_millis, OPERATION).await?;
            return Ok(Ok(HandOut::NotReady));
        };
        if decision == ClaimDecision::First {
            registration::bind(&mut tx, token, claimant, now_millis, OPERATION).await?;
        }
        let before = match decision {
            ClaimDecision::Again { keep_previous: true } => Before::LastUsed,
            _ => Before::Ends,
        };
        hand_out(&mut tx, &satellite, &out.robot, before, now_millis, OPERATION).await?;
        self.commit(tx, &handed(Action::SatelliteClaimed, &out), OPERATION).await?;
        Ok(Ok(HandOut::Given(out)))
    }

    /// [`ground_control_domain::store::SiteRobots::grant_robot`].
    pub(super) async fn hand_out_for_identity(
        &self,
        satellite: &SatelliteId,
        wish: Wish,
        now: Timestamp,
    ) -> StoreResult<HandOut> {
        const OPERATION: &str = "hand out a robot";
        let (id, now_millis) = (satellite.as_str(), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        let Some(locked) = satellites::lock(&mut tx, id, OPERATION).await? else {
            return Ok(HandOut::NotAdmitted);
        };
        if !read::<SatelliteState>(OPERATION, &locked.state)?.admits() {
            return Ok(HandOut::NotAdmitted);
        }
        if wish == Wish::Registration
            && let Some(ready) = unused(&mut tx, id, OPERATION).await?
            && let Some(out) = ready.handed_out(locked.name.clone(), true)
        {
            self.commit(tx, &handed(Action::SatelliteCredentialsIssued, &out), OPERATION).await?;
            return Ok(HandOut::Given(out));
        }
        let ready = prepared(&mut tx, id, OPERATION).await?;
        let Some(out) = ready.and_then(|ready| ready.handed_out(locked.name, false)) else {
            drop(tx);
            self.ask_for_robot(id, now_millis, OPERATION).await?;
            return Ok(HandOut::NotReady);
        };
        hand_out(&mut tx, id, &out.robot, Before::LastUsed, now_millis, OPERATION).await?;
        self.commit(tx, &handed(Action::SatelliteCredentialsIssued, &out), OPERATION).await?;
        Ok(HandOut::Given(out))
    }

    /// [`ground_control_domain::store::SiteRobots::rotate_robot`].
    pub(super) async fn hand_out_for_secret(
        &self,
        satellite: &SatelliteId,
        presented: &Hashed,
        now: Timestamp,
    ) -> StoreResult<HandOut> {
        const OPERATION: &str = "rotate a robot";
        let (id, now_millis, presented) = (satellite.as_str(), millis(now), presented.as_str());
        let mut tx = self.database.rows(OPERATION).await?;
        let Some(locked) = satellites::lock(&mut tx, id, OPERATION).await? else {
            return Ok(HandOut::Outdated);
        };
        if !read::<SatelliteState>(OPERATION, &locked.state)?.admits() {
            return Ok(HandOut::NotAdmitted);
        }
        let shown = sqlx::query_scalar!(
            "SELECT id FROM harbor_robots
             WHERE satellite_id = $1 AND secret_hash = $2 AND role IN ('current', 'retiring')",
            id,
            presented
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        let Some(shown) = shown else { return Ok(HandOut::Outdated) };
        let ready = prepared(&mut tx, id, OPERATION).await?;
        let Some(out) = ready.and_then(|ready| ready.handed_out(locked.name, false)) else {
            drop(tx);
            self.ask_for_robot(id, now_millis, OPERATION).await?;
            return Ok(HandOut::NotReady);
        };
        hand_out(&mut tx, id, &out.robot, Before::Stays(&shown), now_millis, OPERATION).await?;
        self.commit(tx, &handed(Action::SatelliteCredentialsIssued, &out), OPERATION).await?;
        Ok(HandOut::Given(out))
    }

    /// Somebody waits for a robot of the satellite; who waits already asks once.
    async fn ask_for_robot(&self, satellite: &str, now: i64, operation: &'static str) -> StoreResult<()> {
        let mut tx = self.database.rows(operation).await?;
        sqlx::query!(
            "INSERT INTO harbor_sites (satellite_id, due_at, wants_fresh) VALUES ($1, $2, TRUE)
             ON CONFLICT (satellite_id) DO UPDATE SET asked = harbor_sites.asked + 1, due_at = excluded.due_at,
                 wants_fresh = TRUE
             WHERE NOT harbor_sites.wants_fresh",
            satellite,
            now
        )
        .execute(&mut *tx)
        .await
        .during(operation)?;
        tx.commit().await.during(operation)
    }
}
