//! Webhook policies: by which a registry tells what happens in the projects that groups name.

use jiff::Timestamp;

/// What the policy of a project is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is to be there: groups name the project.
    Kept,
    /// It is to go: none does any more.
    Gone,
}

/// How the policy of a project stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyState {
    /// Nobody has been to the registry yet.
    Pending,
    /// It was there, as it should be, when somebody looked last.
    Kept,
    /// Our account may not make policies: the project is swept.
    Forbidden,
    /// The last try failed; it is repeated.
    Failed,
}

impl PolicyState {
    /// The name in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Kept => "kept",
            Self::Forbidden => "forbidden",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for PolicyState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Pending, Self::Kept, Self::Forbidden, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no state of a webhook policy"))
    }
}

/// A project whose policy is to be looked at, claimed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedPolicy {
    /// The project.
    pub project: String,
    /// What its policy is to become.
    pub wanted: Wanted,
    /// The registry's number of it, where we made one.
    pub policy: Option<i64>,
    /// How it stood.
    pub state: PolicyState,
    /// Tries that failed since the last good one.
    pub attempts: u32,
}

/// How a look at a policy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// It is there as it should be, under this number.
    Kept(i64),
    /// It is gone.
    Gone,
    /// Our account may not do that.
    Forbidden(String),
    /// It failed.
    Failed(String),
}

/// How the policies of all projects stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// Projects with a policy as it should be.
    pub kept: u64,
    /// Projects where our account may not make one.
    pub forbidden: u64,
    /// Projects where it has not come to that yet, or failed.
    pub pending: u64,
    /// The last reason why one is not as it should be.
    pub reason: Option<String>,
    /// When somebody looked last.
    pub checked_at: Option<Timestamp>,
}
