//! How far what is desired is at the satellites, as people read it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleet_protocol::api;
use http::request::Parts;
use url::form_urlencoded::parse;

use super::error::ApiError;
use super::extract::{Page, Segment, page_headers, paged};
use super::state::{AppState, Viewer};
use crate::domain::document::DocumentKey;
use crate::domain::heartbeat::Report;
use crate::domain::rollout::{Member, Progress, SatelliteArtifact};

/// `GET /api/groups/{g}/rollout`: totals, and a page of the satellites; `?progress=failed` chooses among them.
pub(crate) async fn of_group(
    State(state): State<AppState>,
    _: Viewer,
    Segment(group): Segment,
    page: Page,
    parts: Parts,
) -> Result<Response, ApiError> {
    let progress = chosen(parts.uri.query().unwrap_or(""))?;
    let mut rollout = state.store.rollout(&group, progress, page.into()).await?;
    let published = state.store.published(&DocumentKey::group(&group)).await?;
    let totals = rollout.totals;
    let path = match progress {
        None => format!("/api/groups/{group}/rollout"),
        Some(progress) => format!("/api/groups/{group}/rollout?progress={progress}"),
    };
    let headers = page_headers(&path, page, rollout.members.total);
    let members = std::mem::take(&mut rollout.members.items);
    let body = api::Rollout {
        group_name: group,
        digest: published.as_ref().map(|published| published.digest.to_string()),
        published_at: published.map(|published| published.published_at),
        artifacts: rollout.digests.len() as u64,
        settling: rollout.settling,
        totals: api::RolloutTotals {
            wanted: totals.wanted(),
            current: totals.current,
            fetching: totals.fetching,
            failed: totals.failed,
            waiting: totals.waiting,
            unreachable: totals.unreachable,
        },
        satellites: members.into_iter().map(|member| member_view(member, &rollout.digests)).collect(),
    };
    let mut response = Json(body).into_response();
    response.headers_mut().extend(headers);
    Ok(response)
}

fn chosen(query: &str) -> Result<Option<Progress>, ApiError> {
    let mut progress = None;
    for (_, value) in parse(query.as_bytes()).filter(|(name, value)| name == "progress" && !value.is_empty())
    {
        let read = value.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "{value:?} is no progress of a rollout: use current, fetching, failed, waiting or unreachable"
            ))
        })?;
        if progress.replace(read).is_some() {
            return Err(ApiError::bad_request("progress is given twice"));
        }
    }
    Ok(progress)
}

fn member_view(member: Member, digests: &std::collections::BTreeSet<String>) -> api::RolloutSatellite {
    let reason = member.reason(digests);
    api::RolloutSatellite {
        state: member.state.lifecycle().unwrap_or(api::SatelliteLifecycle::Revoked),
        progress: match member.progress {
            Progress::Current => api::RolloutProgress::Current,
            Progress::Fetching => api::RolloutProgress::Fetching,
            Progress::Failed => api::RolloutProgress::Failed,
            Progress::Waiting => api::RolloutProgress::Waiting,
            Progress::Unreachable => api::RolloutProgress::Unreachable,
        },
        reason: reason.text,
        since: reason.since,
        bytes: reason.bytes,
        total_bytes: reason.total_bytes,
        last_seen: member.last_seen,
        satellite: member.satellite,
    }
}

/// `GET /api/satellites/{s}/artifacts`: what it shall have, and then what it holds and nobody wants.
pub(crate) async fn of_satellite(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
    page: Page,
) -> Result<Response, ApiError> {
    let list = state.store.satellite_artifacts(&name, page.into()).await?;
    let report = state.store.latest_report(&name).await?.unwrap_or_default();
    let path = format!("/api/satellites/{name}/artifacts");
    Ok(paged(&path, page, list.map(|artifact| artifact_view(artifact, &report))))
}

fn artifact_view(artifact: SatelliteArtifact, report: &Report) -> api::SatelliteArtifact {
    let is = |digest: Option<&oci::Digest>| digest.map(ToString::to_string) == artifact.digest;
    let wanted = artifact.group.is_some() && !artifact.there && artifact.digest.is_some();
    let failed = report.failed.iter().find(|one| wanted && is(one.digest.as_ref()));
    let fetching = report.fetching.iter().find(|one| wanted && is(one.digest.as_ref()));
    let state = match (&artifact.group, artifact.there, failed, fetching) {
        (None, ..) => api::ArtifactState::Undesired,
        (_, true, ..) => api::ArtifactState::There,
        (_, _, Some(_), _) => api::ArtifactState::Failed,
        (_, _, _, Some(_)) => api::ArtifactState::Fetching,
        _ if artifact.digest.is_none() => api::ArtifactState::Unresolved,
        _ => api::ArtifactState::Wanted,
    };
    let fetching = fetching.filter(|_| failed.is_none());
    api::SatelliteArtifact {
        state,
        bytes: fetching.map(|one| one.bytes),
        total_bytes: fetching.map(|one| one.total_bytes).filter(|total| *total > 0),
        reason: failed.map(|one| one.reason.clone()),
        since: failed.map(|one| one.since),
        attempts: failed.map(|one| one.attempts),
        group_name: artifact.group,
        repository: artifact.repository,
        tag: artifact.tags,
        digest: artifact.digest,
    }
}
