//! The audit: who changed what, and who was refused.
//!
//! A change's row is written in the transaction of the change, by the store: [`crate::Store::acting_for`] gives a store
//! that writes on behalf of an [`Actor`]. Refusals change nothing; they are folded in memory and written in bulk
//! ([`Refusal`]).
//!
//! What is written is a closed set of words ([`Action`], [`Outcome`], [`ActorKind`], [`Authentication`]); what is read
//! ([`Entry`]) is text, because a newer program may have written it.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use fleet_protocol::api::AuditEntry as Entry;

/// The longest details, in bytes of JSON; what is longer is left out, and that is said.
pub const MAX_DETAILS: usize = 4096;
/// The longest name of an actor or a subject, in characters. Who fails to log in may claim any.
pub const MAX_NAME: usize = 256;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in the database, in answers and in what is sent on.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What kind of thing acts.
    ActorKind {
        /// A person, by password or session.
        User = "user",
        /// A program, by an API token.
        Token = "token",
        /// A satellite, or the agent that serves it.
        Satellite = "satellite",
        /// Something that calls one of our hooks.
        Hook = "hook",
        /// Ground Control itself.
        System = "system",
        /// Nobody who has shown who they are; the name is what they claimed.
        Anonymous = "anonymous",
    }
}

words! {
    /// With what the actor showed who it is.
    Authentication {
        /// With nothing: Ground Control itself, and whoever was refused for that.
        None = "none",
        /// The account's password.
        Password = "password",
        /// A session.
        Session = "session",
        /// A session that an OpenID provider vouched for.
        Oidc = "oidc",
        /// An API token.
        ApiToken = "api_token",
        /// An X.509-SVID.
        Svid = "svid",
        /// The secret of a satellite's registry account.
        RobotSecret = "robot_secret",
        /// A one-time registration token.
        RegistrationToken = "registration_token",
        /// A one-time join token.
        JoinToken = "join_token",
        /// The key of the SVID before.
        SvidKey = "svid_key",
        /// The secret of a hook.
        HookSecret = "hook_secret",
    }
}

words! {
    /// How it ended.
    Outcome {
        /// The change is made.
        Done = "done",
        /// Nothing was changed.
        Refused = "refused",
    }
}

words! {
    /// What was done, or asked for.
    Action {
        /// An account was made.
        UserCreated = "user.created",
        /// An account was deleted.
        UserDeleted = "user.deleted",
        /// An account's password was set; its sessions ended.
        UserPasswordSet = "user.password_set",
        /// An account was given another role.
        UserRoleSet = "user.role_set",
        /// The identity provider gives somebody no role any more: their sessions and API tokens ended.
        UserTurnedAway = "user.turned_away",
        /// An API token was made.
        TokenCreated = "token.created",
        /// An API token was deleted.
        TokenDeleted = "token.deleted",
        /// A session was opened.
        UserLoggedIn = "user.logged_in",
        /// A session was ended.
        UserLoggedOut = "user.logged_out",
        /// A configuration was made.
        ConfigCreated = "config.created",
        /// A configuration was changed.
        ConfigChanged = "config.changed",
        /// A configuration was deleted.
        ConfigDeleted = "config.deleted",
        /// A group's list was replaced.
        GroupSynced = "group.synced",
        /// A group was given an earlier list.
        GroupRestored = "group.restored",
        /// A group's selector was set or taken away.
        GroupSelectorSet = "group.selector_set",
        /// What a replication adapter pushed was merged into a group's list.
        GroupReplicated = "group.replicated",
        /// A group's adapter was given a secret of its own; one that it had before is worth nothing.
        GroupReplicationSecretSet = "group.replication_secret_set",
        /// The secret of a group's adapter was taken away.
        GroupReplicationSecretRemoved = "group.replication_secret_removed",
        /// A group was deleted.
        GroupDeleted = "group.deleted",
        /// A satellite was made, with a one-time token.
        SatelliteCreated = "satellite.created",
        /// A satellite was given an identity, or its registration was brought up to date.
        SatelliteRegistered = "satellite.registered",
        /// A satellite that nobody registered made itself known by its identity.
        SatelliteIntroduced = "satellite.introduced",
        /// A one-time token was claimed; the satellite's first credentials were handed out.
        SatelliteClaimed = "satellite.claimed",
        /// Registry credentials were handed out.
        SatelliteCredentialsIssued = "satellite.credentials_issued",
        /// An SVID was issued for a join token.
        SatelliteAttested = "satellite.attested",
        /// An SVID was issued for the one before.
        SatelliteRenewed = "satellite.renewed",
        /// The node agent that serves a satellite was given a new SVID.
        AgentRenewed = "agent.renewed",
        /// A satellite's labels were changed.
        SatelliteLabelled = "satellite.labelled",
        /// A satellite was put into a group.
        SatelliteJoinedGroup = "satellite.joined_group",
        /// A satellite was taken out of a group.
        SatelliteLeftGroup = "satellite.left_group",
        /// A satellite was given another configuration.
        SatelliteConfigAssigned = "satellite.config_assigned",
        /// A satellite was shut out.
        SatelliteRevoked = "satellite.revoked",
        /// A satellite that was shut out was let in again.
        SatelliteEnabled = "satellite.enabled",
        /// A satellite that introduced itself was let in.
        SatelliteApproved = "satellite.approved",
        /// A satellite was deleted.
        SatelliteDeleted = "satellite.deleted",
        /// The built-in authority made a certificate authority.
        AuthorityCreated = "authority.created",
        /// The built-in authority forgot a certificate authority.
        AuthorityRemoved = "authority.removed",
        /// Documents name the central registry by another URL.
        RegistryUrlChanged = "registry.url_changed",
        /// All documents are written again.
        DocumentsRepublished = "documents.republished",
        /// What tags and rules of groups stand for in a repository is another manifest than before.
        RepositoryMoved = "repository.moved",
        /// The built-in registry gave up content that nothing names any more.
        GarbageCollected = "registry.garbage_collected",
        /// The database was put back from a backup, and its epoch raised.
        DatabaseRestored = "database.restored",
        /// A request that is none of the above.
        Requested = "request",
        /// Refusals that no row tells of, because too many different ones came at once.
        AuditDropped = "audit.dropped",
    }
}

/// Who acts, and by what it is found again in logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What kind of thing it is.
    pub kind: ActorKind,
    /// Its name: a user name, a satellite's name, …; empty where nothing is known.
    pub name: String,
    /// The address that the request came from.
    pub source: Option<IpAddr>,
    /// `X-Request-ID` of the request.
    pub request_id: Option<String>,
    /// With what it showed who it is.
    pub authenticated_by: Authentication,
}

impl Actor {
    /// One without a request. Its name is cut where it is too long, and holds no control characters.
    pub fn new(kind: ActorKind, name: impl AsRef<str>, authenticated_by: Authentication) -> Self {
        Self { kind, name: shown(name.as_ref()), source: None, request_id: None, authenticated_by }
    }

    /// Ground Control itself.
    pub fn system() -> Self {
        Self::new(ActorKind::System, "ground-control", Authentication::None)
    }

    /// With where the request came from and what it is called.
    #[must_use]
    pub fn with_request(self, source: IpAddr, request_id: Option<&str>) -> Self {
        Self { source: Some(source), request_id: request_id.map(ToOwned::to_owned), ..self }
    }
}

/// A text that somebody else chose, as a row holds it: bounded, and nothing that would break a line.
fn shown(text: &str) -> String {
    text.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What was done to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// To what: `satellite/edge-01`.
    pub subject: String,
    /// What more there is to say. Never a secret: whoever writes here names values that are none.
    details: Map<String, Value>,
}

impl Event {
    /// `kind` and `name` of what it is done to make the subject.
    pub fn new(action: Action, kind: &str, name: &str) -> Self {
        Self::on(action, &format!("{kind}/{name}"))
    }

    /// With a subject that is no named thing.
    pub fn on(action: Action, subject: &str) -> Self {
        Self { action, subject: shown(subject), details: Map::new() }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The details as JSON of at most [`MAX_DETAILS`] bytes.
    pub fn details(&self) -> String {
        let text = Value::Object(self.details.clone()).to_string();
        if text.len() <= MAX_DETAILS { text } else { format!("{{\"omitted_bytes\":{}}}", text.len()) }
    }
}

/// One that was refused, as often as it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who asked.
    pub actor: Actor,
    /// What for.
    pub event: Event,
    /// How often.
    pub count: u64,
}

/// Which rows are asked for; what is not said chooses all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The actor's name.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what.
    pub subject: Option<String>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}

/// From where rows are read, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFrom {
    /// The newest first, below this number where there is one.
    Before(Option<u64>),
    /// In their order, above this number.
    After(u64),
}

/// How far a sink has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkCursor {
    /// The last row that need not be sent again.
    pub sequence: u64,
    /// Rows that were gone, or too many, before they were sent.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_differ() {
        let actions: HashSet<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(actions.len(), Action::ALL.len());
    }

    #[test]
    fn what_strangers_choose_is_bounded_and_breaks_no_line() {
        let actor = Actor::new(ActorKind::Anonymous, "a\nb\u{7f}".repeat(1000), Authentication::None);
        assert_eq!(actor.name.chars().count(), MAX_NAME);
        assert!(!actor.name.contains(char::is_control));
        assert!(Event::new(Action::GroupSynced, "group", &"x".repeat(10_000)).subject.len() <= MAX_NAME);
    }

    #[test]
    fn details_are_bounded_json() {
        let event = Event::new(Action::GroupSynced, "group", "web").with("added", 3);
        assert_eq!(event.details(), r#"{"added":3}"#);
        let long = event.with("text", "x".repeat(MAX_DETAILS));
        assert!(long.details().len() < 100);
        assert!(serde_json::from_str::<Value>(&long.details()).unwrap()["omitted_bytes"].is_u64());
    }
}
