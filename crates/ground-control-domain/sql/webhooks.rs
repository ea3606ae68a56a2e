//! Webhook policies of the projects that groups name.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::store::Webhooks;
use ground_control_domain::webhook::{ClaimedPolicy, PolicyOutcome, PolicyState, PolicySummary, Wanted};
use jiff::Timestamp;

use super::{During, SqlStore, millis, read, time};
use crate::dialect::Connection;

/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 1000;

/// The projects that groups name.
async fn named(connection: &mut Connection, operation: &'static str) -> StoreResult<BTreeSet<String>> {
    let repositories = sqlx::query_scalar!("SELECT DISTINCT repository FROM group_artifacts")
        .fetch_all(connection)
        .await
        .during(operation)?;
    let project = |name: String| name.split_once('/').map(|(project, _)| project.to_owned());
    Ok(repositories.into_iter().filter_map(project).collect())
}

struct Row {
    project: String,
    policy_id: Option<i64>,
    state: String,
    attempts: i64,
    due_at: i64,
    claimed_until: i64,
}

async fn rows(connection: &mut Connection, operation: &'static str) -> StoreResult<Vec<Row>> {
    sqlx::query_as!(
        Row,
        "SELECT project, policy_id, state, attempts, due_at, claimed_until FROM webhook_policies ORDER BY project"
    )
    .fetch_all(connection)
    .await
    .during(operation)
}

#[async_trait]
impl Webhooks for SqlStore {
    async fn claim_policies(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<ClaimedPolicy>> {
        const OPERATION: &str = "claim webhook policies to look at";
        let (now, until) = (millis(now), millis(until));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let mut wanted = named(&mut snapshot, OPERATION).await?;
        let known = rows(&mut snapshot, OPERATION).await?;
        drop(snapshot);
        let mut due = Vec::new();
        for row in known {
            let kept = wanted.remove(&row.project);
            // What no group names any more does not wait for its time.
            if row.claimed_until <= now && (row.due_at <= now || (!kept && row.attempts == 0)) {
                due.push((row.project, if kept { Wanted::Kept } else { Wanted::Gone }));
            }
        }
        due.extend(wanted.into_iter().map(|project| (project, Wanted::Kept)));
        if due.is_empty() {
            return Ok(Vec::new());
        }
        // In one order, so that nobody waits in a circle.
        due.truncate(limit);
        due.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut tx = self.database.rows(OPERATION).await?;
        let mut claimed = Vec::with_capacity(due.len());
        for (project, wanted) in due {
            let state = PolicyState::Pending.as_str();
            let row = sqlx::query_as!(
                Row,
                "INSERT INTO webhook_policies (project, state, due_at, claimed_until, attempts)
                 VALUES ($1, $2, $3, $4, 0)
                 ON CONFLICT (project) DO UPDATE SET claimed_until = excluded.claimed_until
                     WHERE webhook_policies.claimed_until <= $3
                 RETURNING project, policy_id, state, attempts, due_at, claimed_until",
                project,
                state,
                now,
                until
            )
            .fetch_optional(&mut *tx)
            .await
            .during(OPERATION)?;
            let Some(row) = row else { continue };
            claimed.push(ClaimedPolicy {
                project: row.project,
                wanted,
                policy: row.policy_id,
                state: read(OPERATION, &row.state)?,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            });
        }
        tx.commit().await.during(OPERATION)?;
        Ok(claimed)
    }

    async fn policy_looked(
        &self,
        claimed: &ClaimedPolicy,
        outcome: &PolicyOutcome,
        now: Timestamp,
        next: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "remember how a webhook policy stands";
        let project = claimed.project.as_str();
        let (now, next) = (millis(now), millis(next));
        let mut tx = self.database.rows(OPERATION).await?;
        let (state, policy, reason) = match outcome {
            PolicyOutcome::Gone => {
                sqlx::query!("DELETE FROM webhook_policies WHERE project = $1", project)
                    .execute(&mut *tx)
                    .await
                    .during(OPERATION)?;
                return tx.commit().await.during(OPERATION);
            }
            PolicyOutcome::Kept(policy) => (PolicyState::Kept, Some(*policy), None),
            PolicyOutcome::Forbidden(reason) => (PolicyState::Forbidden, claimed.policy, Some(reason)),
            PolicyOutcome::Failed(reason) => (PolicyState::Failed, claimed.policy, Some(reason)),
        };
        let failed = reason.is_some();
        let reason: Option<String> =
            reason.map(|text| text.chars().filter(|c| *c != '\0').take(MAX_REASON).collect());
        let state = state.as_str();
        sqlx::query!(
            "UPDATE webhook_policies SET policy_id = $1, state = $2, reason = $3, due_at = $4, claimed_until = 0,
                 attempts = CASE WHEN $5 THEN attempts + 1 ELSE 0 END, checked_at = $6
             WHERE project = $7",
            policy,
            state,
            reason,
            next,
            failed,
            now,
            project
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn policies(&self) -> StoreResult<PolicySummary> {
        const OPERATION: &str = "look up how webhook policies stand";
        let mut connection = self.database.read(OPERATION).await?;
        let rows = sqlx::query!(
            "SELECT state, reason, checked_at FROM webhook_policies ORDER BY checked_at, project"
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?;
        let mut summary = PolicySummary::default();
        for row in rows {
            match read::<PolicyState>(OPERATION, &row.state)? {
                PolicyState::Kept => summary.kept += 1,
                PolicyState::Forbidden => summary.forbidden += 1,
                PolicyState::Pending | PolicyState::Failed => summary.pending += 1,
            }
            summary.reason = row.reason.or(summary.reason);
            let checked_at = row.checked_at.map(|at| time(OPERATION, at)).transpose()?;
            summary.checked_at = summary.checked_at.max(checked_at);
        }
        Ok(summary)
    }
}
