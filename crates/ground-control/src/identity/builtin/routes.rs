//! Attestation and renewal over HTTP.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use fleet_protocol::attestation::{AttestRequest, RenewRequest, RenewalNonce, SvidAnswer};
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;

use super::{Authority, IssueError};
use crate::api::{ApiError, Body, unnamed_satellite};
use crate::domain::audit::Authentication;
use crate::domain::identity::IssueRefusal;

/// Where there is a built-in authority, it.
type Maybe = Extension<Option<Arc<Authority>>>;

/// `POST /satellites/attest`, `GET` and `POST /satellites/renew`; without an authority they say that there is none (404).
pub fn routes<S: Clone + Send + Sync + 'static>(authority: Option<Arc<Authority>>) -> Router<S> {
    Router::new()
        .route("/satellites/attest", post(attest))
        .route("/satellites/renew", get(nonce).post(renew))
        .layer(Extension(authority))
}

fn there(Extension(authority): Maybe) -> Result<Arc<Authority>, ApiError> {
    authority.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "there is no built-in authority here; the satellite's identity comes from its SPIRE agent",
        )
    })
}

async fn attest(
    authority: Maybe,
    parts: Parts,
    Body(request): Body<AttestRequest>,
) -> Result<Json<SvidAnswer>, ApiError> {
    let by = unnamed_satellite(&parts.extensions, Authentication::JoinToken);
    Ok(Json(there(authority)?.attest(&request, by, Timestamp::now()).await?))
}

async fn nonce(authority: Maybe) -> Result<Json<RenewalNonce>, ApiError> {
    Ok(Json(there(authority)?.nonce(Timestamp::now()).await?))
}

async fn renew(
    authority: Maybe,
    parts: Parts,
    Body(request): Body<RenewRequest>,
) -> Result<Json<SvidAnswer>, ApiError> {
    let by = unnamed_satellite(&parts.extensions, Authentication::SvidKey);
    Ok(Json(there(authority)?.renew(&request, by, Timestamp::now()).await?))
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Request(what) => Self::bad_request(what),
            IssueError::Refused(refusal) => {
                tracing::info!(reason = %refusal, "no svid issued");
                let text = refusal.to_string();
                match refusal {
                    IssueRefusal::Unknown => {
                        Self::bad_request(format!("{text}; register the satellite anew"))
                    }
                    IssueRefusal::Expired | IssueRefusal::Used => {
                        Self::unauthorized_because(format!("{text}; register the satellite anew"))
                    }
                    IssueRefusal::Nonce | IssueRefusal::Key => Self::unauthorized_because(text),
                    IssueRefusal::NotAdmitted => Self::forbidden(format!("{text}; ask an administrator")),
                }
            }
            IssueError::Store(error) => error.into(),
            IssueError::Authority(error) => Self::internal(error),
        }
    }
}
