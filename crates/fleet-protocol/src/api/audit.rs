//! `GET /api/audit`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A row of the audit. Its words are a closed set for whoever writes them; a reader meets new ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number: later rows have greater ones, and none is seen before one with a smaller number.
    pub sequence: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What was done, or asked for: `group.synced`.
    pub action: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// To what: `satellite/edge-01`.
    pub subject: String,
    /// What kind of thing acted: `user`, `token`, `satellite`, `hook`, `system`, `anonymous`.
    pub actor_kind: String,
    /// Its name; what an `anonymous` one claimed, if anything.
    pub actor: String,
    /// The address that the request came from; empty where there was none.
    pub source: String,
    /// `X-Request-ID` of the request; empty where there was none.
    pub request_id: String,
    /// With what the actor showed who it is: `session`, `svid`, …
    pub authenticated_by: String,
    /// How many equal ones it stands for; more than one for refusals only.
    pub count: u64,
    /// What more there is to say.
    pub details: Value,
}
