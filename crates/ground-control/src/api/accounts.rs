//! Accounts at the registry as people see them: what a satellite has there, and how far those of a group are. No secret is
//! told.

use axum::Json;
use axum::extract::State;
use fleet_protocol::api::{self, AccountState};

use super::error::ApiError;
use super::extract::Segment;
use super::state::{AppState, Viewer};
use crate::domain::harbor::{GroupAccounts, RobotRole, SiteRobot, SiteStatus};

/// The most failures that one answer names.
const MOST_FAILURES: u32 = 100;

fn state_of(status: &SiteStatus) -> AccountState {
    let any = |role| status.robots.iter().any(|robot| robot.role == role);
    if !status.admitted {
        let pending = status.robots.iter().any(|robot| robot.role != RobotRole::Removed);
        return if pending { AccountState::RemovalPending } else { AccountState::Removed };
    }
    if status.error.is_some() {
        AccountState::Failed
    } else if status.settled && (any(RobotRole::Current) || any(RobotRole::Prepared)) {
        AccountState::Ready
    } else {
        AccountState::Preparing
    }
}

fn account(robot: SiteRobot) -> api::RegistryAccount {
    api::RegistryAccount {
        role: robot.role.to_string(),
        username: robot.username,
        projects: robot.projects.into_iter().collect(),
        created_at: robot.created_at,
        expires_at: robot.expires_at,
        given_at: robot.given_at,
        used_at: robot.used_at,
    }
}

fn satellite(status: SiteStatus) -> api::SatelliteAccounts {
    api::SatelliteAccounts {
        state: state_of(&status),
        error: status.error,
        error_since: status.error_since,
        attempts: status.attempts,
        next_try: status.due_at,
        accounts: status.robots.into_iter().map(account).collect(),
    }
}

fn group(accounts: GroupAccounts) -> api::GroupAccounts {
    let failed = accounts.failures;
    api::GroupAccounts {
        projects: accounts.projects,
        held_back: accounts.held_back,
        satellites: accounts.satellites,
        ready: accounts.settled,
        waiting: accounts.satellites.saturating_sub(accounts.settled).saturating_sub(failed),
        failed,
        failures: accounts
            .failed
            .into_iter()
            .map(|failure| api::AccountFailure {
                satellite: failure.satellite,
                error: failure.error,
                since: failure.since,
                attempts: failure.attempts,
                next_try: failure.due_at,
            })
            .collect(),
    }
}

/// `GET /api/satellites/{s}/accounts`: what it has at Harbor, and what is wrong with it; empty where it is given none there.
pub(crate) async fn of_satellite(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Json<api::SatelliteAccounts>, ApiError> {
    let status = state.store.site_status(&name).await?.filter(|_| state.registry.keeper().is_some());
    Ok(Json(status.map_or_else(api::SatelliteAccounts::default, satellite)))
}

/// `GET /api/groups/{g}/accounts`: how many of its satellites may read at Harbor what it lists, and who not, and why.
pub(crate) async fn of_group(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Json<api::GroupAccounts>, ApiError> {
    let mut accounts = state.store.group_accounts(&name, MOST_FAILURES).await?;
    if state.registry.keeper().is_none() {
        // Nothing has to be done for them elsewhere.
        accounts = GroupAccounts {
            settled: accounts.satellites,
            projects: accounts.projects,
            satellites: accounts.satellites,
            ..GroupAccounts::default()
        };
    }
    Ok(Json(group(accounts)))
}
