//! Everything that happens at the edge, as one typed stream.
//!
//! [`Events::emit`] is the only way in. The log and the status read each event at once and in order; whoever else wants
//! to know subscribes. A subscriber that is too slow loses the oldest events and is told so: it never holds up the work.

use std::time::Duration;

use jiff::Timestamp;
use oci::{Digest, RepositoryName, Tag};
use tokio::sync::broadcast;

use crate::status::{
    ConfigStatus, RefusedConfig, Registration, RegistrationState, SchedulerStatus, Status, StatusBoard,
};

/// How many events a slow subscriber may be behind.
const BACKLOG: usize = 256;

/// One of the satellite's schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheduler {
    /// Asks Ground Control for credentials until it has them.
    Registration,
    /// Reads the desired state and makes it so.
    Replication,
    /// Reports.
    Heartbeat,
}

impl Scheduler {
    /// The name in status and log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::Replication => "replication",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A scheduler knows when it runs next.
    Scheduled {
        /// Which one.
        scheduler: Scheduler,
        /// The schedule in force.
        schedule: String,
        /// When it runs.
        next: Timestamp,
    },
    /// A scheduler's job began.
    Started {
        /// Which one.
        scheduler: Scheduler,
    },
    /// A scheduler's job ended.
    Finished {
        /// Which one.
        scheduler: Scheduler,
        /// How long it took.
        took: Duration,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// A scheduler has nothing left to do.
    Retired {
        /// Which one.
        scheduler: Scheduler,
    },
    /// Registration cannot begin: something is not configured.
    NotConfigured {
        /// What to do.
        what: String,
    },
    /// Credentials are held (from now, or from a former run).
    Registered {
        /// The satellite's name, as far as the answer tells it.
        name: Option<String>,
    },
    /// Ground Control refused the token.
    TokenRefused {
        /// What it said.
        reason: String,
    },
    /// Ground Control refuses this satellite: it is revoked, deleted, or waits for approval.
    Refused {
        /// What it said, and what to do.
        reason: String,
    },
    /// An SVID is in use.
    IdentityHeld {
        /// Its SPIFFE ID.
        id: String,
        /// Its end.
        expires_at: Timestamp,
        /// Authorities in the trust bundle.
        authorities: usize,
    },
    /// There is no SVID, or it is not renewed.
    IdentityTrouble {
        /// Why, and what to do.
        what: String,
    },
    /// The desired state was read, wholly or in part.
    DesiredRead {
        /// Digest of the satellite state in force.
        state: Option<Digest>,
        /// Groups in it.
        groups: usize,
        /// Every document could be read.
        whole: bool,
    },
    /// A document could not be read; its last content stays in force.
    DocumentUnreadable {
        /// Where it is.
        url: String,
        /// Why.
        reason: String,
    },
    /// A remote config came into force.
    ConfigTaken {
        /// Digest of its document.
        digest: Digest,
        /// Settings that changed at once.
        live: Vec<String>,
        /// Settings that wait for a restart.
        restart: Vec<String>,
        /// What is not honoured.
        warnings: Vec<String>,
    },
    /// A remote config was refused; the last good one stays.
    ConfigRefused {
        /// Digest of its document, where it could be read.
        digest: Option<Digest>,
        /// Why.
        reason: String,
    },
    /// An artifact is whole here.
    Replicated {
        /// The repository.
        repository: RepositoryName,
        /// The digest.
        digest: Digest,
        /// Bytes that came from upstream.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A tag moved to a whole artifact.
    TagSet {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// Where it pointed before.
        from: Option<Digest>,
        /// Where it points now.
        to: Digest,
    },
    /// A tag or a manifest was removed.
    Removed {
        /// The repository.
        repository: RepositoryName,
        /// `:tag` or `@digest`.
        what: String,
    },
    /// Something was brought from here to a further destination.
    Delivered {
        /// That destination.
        destination: String,
        /// What.
        reference: String,
    },
    /// Something was removed from a further destination.
    Withdrawn {
        /// That destination.
        destination: String,
        /// What.
        reference: String,
    },
    /// An artifact could not be brought here, or something could not be removed.
    Failed {
        /// `host/repository[:tag|@digest]`.
        reference: String,
        /// What failed and why.
        reason: String,
        /// Tries so far.
        attempts: u32,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// What had failed is in order.
    Recovered {
        /// `host/repository[:tag|@digest]`.
        reference: String,
    },
    /// Groups ask two digests for one tag (told when it begins).
    TagConflict {
        /// `repository:tag`.
        reference: String,
        /// The digests.
        digests: Vec<Digest>,
    },
    /// What the groups want is here.
    Converged {
        /// Artifacts held.
        artifacts: usize,
    },
    /// Ground Control took a heartbeat.
    HeartbeatTaken,
    /// Ground Control asks for something in its answer to a heartbeat.
    Asked {
        /// The name of what it asks for.
        what: String,
    },
}

/// The stream of events. Clones share it.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    status: StatusBoard,
}

impl Events {
    /// A stream whose first reader is `status`.
    #[must_use]
    pub fn new(status: StatusBoard) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), status }
    }

    /// The status that the events are written into.
    #[must_use]
    pub fn status(&self) -> &StatusBoard {
        &self.status
    }

    /// Everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Tells everybody.
    pub fn emit(&self, event: Event) {
        log(&event);
        self.status.update(|status| apply(status, &event));
        // Nobody listening is no fault.
        let _ = self.sender.send(event);
    }
}

fn log(event: &Event) {
    match event {
        Event::Scheduled { scheduler, schedule, next } => {
            tracing::debug!(scheduler = scheduler.name(), %schedule, %next, "next run");
        }
        Event::Started { scheduler } => tracing::debug!(scheduler = scheduler.name(), "run begins"),
        Event::Finished { scheduler, took, error: Some(error) } => {
            tracing::warn!(scheduler = scheduler.name(), took_ms = millis(*took), %error, "run failed");
        }
        Event::Finished { scheduler, took, error: None } => {
            tracing::debug!(scheduler = scheduler.name(), took_ms = millis(*took), "run done");
        }
        Event::Retired { scheduler } => {
            tracing::info!(scheduler = scheduler.name(), "scheduler has done its work")
        }
        Event::NotConfigured { what } => tracing::warn!(%what, "not registered"),
        Event::Registered { name } => {
            tracing::info!(name = name.as_deref().unwrap_or("(not told)"), "registered with ground control");
        }
        Event::TokenRefused { reason } => tracing::error!(
            %reason,
            "ground control refuses the token: make a new one there and start the satellite with it, what is held is \
             served meanwhile"
        ),
        Event::Refused { reason } => {
            tracing::error!(%reason, "ground control refuses this satellite, what is held is served meanwhile");
        }
        Event::IdentityHeld { id, expires_at, authorities } => {
            tracing::info!(spiffe_id = %id, %expires_at, authorities, "SVID in use");
        }
        Event::IdentityTrouble { what } => tracing::warn!(%what, "identity"),
        Event::DesiredRead { state, groups, whole } => {
            tracing::debug!(state = state.map(tracing::field::display), groups, whole, "desired state read");
        }
        Event::DocumentUnreadable { url, reason } => {
            tracing::warn!(%url, %reason, "document cannot be read, its last content stays in force");
        }
        Event::ConfigTaken { digest, live, restart, warnings } => {
            tracing::info!(%digest, ?live, ?restart, "remote config in force");
            for warning in warnings {
                tracing::warn!(%warning, "remote config");
            }
        }
        Event::ConfigRefused { reason, .. } => {
            tracing::error!(%reason, "remote config refused, the last good one stays");
        }
        Event::Replicated { repository, digest, bytes, took } => {
            tracing::info!(%repository, %digest, bytes, took_ms = millis(*took), "artifact is whole");
        }
        Event::TagSet { repository, tag, from, to } => {
            tracing::info!(%repository, %tag, from = from.map(tracing::field::display), %to, "tag set");
        }
        Event::Removed { repository, what } => tracing::info!(%repository, %what, "removed"),
        Event::Delivered { reference, .. } => tracing::info!(%reference, "delivered"),
        Event::Withdrawn { destination, reference } => {
            tracing::info!(%destination, %reference, "withdrawn");
        }
        Event::Failed { reference, reason, attempts, retry_in } => {
            tracing::warn!(%reference, %reason, attempts, retry_in_s = retry_in.as_secs(), "artifact failed");
        }
        Event::Recovered { reference } => tracing::info!(%reference, "in order again"),
        Event::TagConflict { reference, digests } => {
            let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
            tracing::warn!(%reference, ?digests, "groups ask different digests for one tag, it stays as it is");
        }
        Event::Converged { artifacts } => {
            tracing::info!(artifacts, "the satellite holds what its groups want")
        }
        Event::HeartbeatTaken => tracing::debug!("heartbeat taken"),
        Event::Asked { what } => tracing::info!(%what, "ground control asks"),
    }
}

fn apply(status: &mut Status, event: &Event) {
    let now = Timestamp::now();
    match event {
        Event::Scheduled { scheduler, schedule, next } => {
            let entry = entry(status, *scheduler);
            entry.schedule.clone_from(schedule);
            entry.next_run = Some(*next);
            entry.done = false;
        }
        Event::Started { scheduler } => {
            let entry = entry(status, *scheduler);
            entry.running = true;
            entry.last_run = Some(now);
            entry.runs += 1;
        }
        Event::Finished { scheduler, took, error } => {
            let entry = entry(status, *scheduler);
            entry.running = false;
            entry.last_duration_ms = Some(millis(*took));
            entry.failures_in_a_row =
                if error.is_some() { entry.failures_in_a_row.saturating_add(1) } else { 0 };
            entry.last_error.clone_from(error);
        }
        Event::Retired { scheduler } => {
            let entry = entry(status, *scheduler);
            entry.done = true;
            entry.running = false;
            entry.next_run = None;
        }
        Event::NotConfigured { what } => {
            enter(&mut status.registration, RegistrationState::NotConfigured, Some(what.clone()), now);
        }
        Event::Registered { name } => {
            if name.is_some() {
                status.name.clone_from(name);
            }
            enter(&mut status.registration, RegistrationState::Registered, None, now);
        }
        Event::TokenRefused { reason } | Event::Refused { reason } => {
            enter(&mut status.registration, RegistrationState::Refused, Some(reason.clone()), now);
        }
        Event::IdentityHeld { id, expires_at, authorities } => {
            let identity = &mut status.identity;
            identity.spiffe_id = Some(id.clone());
            identity.expires_at = Some(*expires_at);
            identity.authorities = *authorities as u64;
            identity.taken_at = Some(now);
            (identity.problem, identity.problem_since) = (None, None);
        }
        Event::IdentityTrouble { what } => {
            let identity = &mut status.identity;
            identity.problem_since = identity.problem_since.or(Some(now));
            identity.problem = Some(what.clone());
        }
        Event::ConfigTaken { digest, restart, warnings, .. } => {
            status.config = ConfigStatus {
                digest: Some(digest.to_string()),
                applied_at: Some(now),
                refused: None,
                restart_needed: restart.clone(),
                warnings: warnings.clone(),
            };
        }
        Event::ConfigRefused { digest, reason } => {
            let digest = digest.map(|digest| digest.to_string());
            let since = status
                .config
                .refused
                .as_ref()
                .filter(|refused| refused.digest == digest)
                .and_then(|refused| refused.since)
                .or(Some(now));
            status.config.refused = Some(RefusedConfig { digest, reason: reason.clone(), since });
        }
        Event::DesiredRead { .. }
        | Event::DocumentUnreadable { .. }
        | Event::Replicated { .. }
        | Event::TagSet { .. }
        | Event::Removed { .. }
        | Event::Delivered { .. }
        | Event::Withdrawn { .. }
        | Event::Failed { .. }
        | Event::Recovered { .. }
        | Event::TagConflict { .. }
        | Event::Converged { .. }
        | Event::HeartbeatTaken
        | Event::Asked { .. } => {}
    }
}

fn entry(status: &mut Status, scheduler: Scheduler) -> &mut SchedulerStatus {
    status.schedulers.entry(scheduler.name().to_owned()).or_default()
}

fn enter(registration: &mut Registration, state: RegistrationState, message: Option<String>, now: Timestamp) {
    if registration.state != state || registration.since.is_none() {
        registration.since = Some(now);
    }
    registration.state = state;
    registration.message = message;
}

/// Milliseconds for figures that people read.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_is_counted_and_a_good_one_clears_it() {
        let events = Events::new(StatusBoard::default());
        for error in [Some("no route".to_owned()), Some("no route".to_owned()), None] {
            events.emit(Event::Started { scheduler: Scheduler::Heartbeat });
            events.emit(Event::Finished {
                scheduler: Scheduler::Heartbeat,
                took: Duration::from_millis(5),
                error,
            });
            let entry = events.status().read(|status| status.schedulers["heartbeat"].clone());
            assert!(!entry.running);
            assert_eq!(entry.last_error.is_some(), entry.failures_in_a_row > 0);
        }
        let entry = events.status().read(|status| status.schedulers["heartbeat"].clone());
        assert_eq!((entry.runs, entry.failures_in_a_row, entry.last_duration_ms), (3, 0, Some(5)));
    }

    #[test]
    fn a_refusal_keeps_the_time_at_which_it_began() {
        let events = Events::new(StatusBoard::default());
        events.emit(Event::TokenRefused { reason: "used".to_owned() });
        let first = events.status().read(|status| status.registration.since);
        events.emit(Event::TokenRefused { reason: "expired".to_owned() });
        let registration = events.status().read(|status| status.registration.clone());
        assert_eq!(registration.since, first);
        assert_eq!(registration.message.as_deref(), Some("expired"));
        assert_eq!(registration.state, RegistrationState::Refused);
    }

    #[tokio::test]
    async fn a_slow_subscriber_holds_up_nobody() {
        let events = Events::new(StatusBoard::default());
        let mut receiver = events.subscribe();
        for _ in 0..2 * BACKLOG {
            events.emit(Event::HeartbeatTaken);
        }
        assert!(matches!(receiver.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
        assert!(matches!(receiver.recv().await, Ok(Event::HeartbeatTaken)));
    }
}
