//! Named configurations of satellites.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /api/configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Config {
    pub id: String,
    pub config_name: String,
    pub registry_url: String,
    pub config: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST /api/configs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewConfig {
    /// Its name.
    pub config_name: String,
    /// Taken and passed over: Ground Control writes its own.
    #[serde(default)]
    pub registry: Option<String>,
    /// The document.
    pub config: Value,
}

/// `POST /api/configs/satellite`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ConfigAssignment {
    pub satellite: String,
    pub config_name: String,
}
