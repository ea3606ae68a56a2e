//! Accounts of satellites at a registry that makes them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a satellite's accounts at the registry are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It is given none of its own there, or is not known there yet.
    #[default]
    None,
    /// They are as they should be.
    Ready,
    /// They are being made or changed.
    Preparing,
    /// That failed, and is tried again.
    Failed,
    /// It is refused here already, and its accounts there are still to be deleted.
    RemovalPending,
    /// They are deleted.
    Removed,
}

/// An account at the registry, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAccount {
    /// `making`, `prepared` (not handed out yet), `current`, `retiring` (good until the current one is seen in use),
    /// `condemned` (to be deleted) or `removed`.
    pub role: String,
    /// The name that the registry gave it.
    pub username: Option<String>,
    /// The projects that it may read.
    pub projects: Vec<String>,
    /// When the registry made it.
    pub created_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was handed out.
    pub given_at: Option<Timestamp>,
    /// When it was first seen in use.
    pub used_at: Option<Timestamp>,
}

/// `GET /api/satellites/{s}/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SatelliteAccounts {
    /// How they are doing.
    pub state: AccountState,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Since when it fails.
    pub error_since: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// When it is tried, or looked at, again.
    pub next_try: Option<Timestamp>,
    /// The latest first.
    pub accounts: Vec<RegistryAccount>,
}

/// A satellite whose accounts are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFailure {
    /// Its name.
    pub satellite: String,
    /// Why.
    pub error: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

/// `GET /api/groups/{g}/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAccounts {
    /// The projects that its list names.
    pub projects: Vec<String>,
    /// Whether the group's document is held back until every satellite may read them or has failed.
    pub held_back: bool,
    /// Its satellites that are let in.
    pub satellites: u64,
    /// Those whose accounts are as they should be.
    pub ready: u64,
    /// Those that are being worked on.
    pub waiting: u64,
    /// Those that failed, and are tried again.
    pub failed: u64,
    /// The first hundred of these.
    pub failures: Vec<AccountFailure>,
}
