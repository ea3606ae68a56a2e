//! The job of the heartbeat: report, follow what the answer tells, and do what it asks.

use std::time::Duration;

use fleet_protocol::heartbeat::REFRESH_CREDENTIALS;
use tokio::time::Instant;

use super::pace::{GAP, Pace};
use super::{Connection, Next, Shell, refusal_wait};
use crate::config::{Effective, IdentitySource};
use crate::credentials;
use crate::events::Event;
use crate::follow::{Heard, Position, Source};
use crate::ground_control::{Account, GroundControl, GroundControlError, HeartbeatTaken};
use crate::heartbeat::{self, ProcessMeter};
use crate::registration;
use crate::sealed::DeviceState;
use crate::standing::{Outcome, Standing};
use crate::status::FollowedBy;

/// What is kept from one heartbeat to the next.
#[derive(Debug, Default)]
pub(super) struct Beat {
    meter: ProcessMeter,
    connection: Connection,
    pace: Pace,
    /// When the last request was sent.
    sent: Option<Instant>,
    /// The digest of the list of images that the last answer told, by which its Ground Control knows the list.
    known_images: Option<String>,
    /// And that of the list of nodes.
    known_nodes: Option<String>,
    /// The last answer was of an older generation.
    older: bool,
    /// Fresh credentials are not asked for before this.
    no_refresh_before: Option<Instant>,
}

impl Beat {
    fn may_refresh(&self) -> bool {
        self.no_refresh_before.is_none_or(|at| at <= Instant::now())
    }
}

impl Shell {
    pub(super) async fn heartbeat(&self, beat: &mut Beat) -> Next {
        if let Some(sent) = beat.sent.filter(|_| beat.pace.waits()) {
            tokio::time::sleep_until(sent + GAP).await;
        }
        let state = self.vault.state();
        let config = self.config.current();
        let Some(registration) = &state.registration else { return Next::Park };
        let Some(url) = &config.ground_control_url else {
            let ((), moved) = self.follow.change(Position::alone);
            if moved {
                self.show_position(beat);
                self.wake_replication.notify_one();
            }
            return Next::Park;
        };
        let ground_control = match beat.connection.to(url, &config, &self.identity) {
            Ok(ground_control) => ground_control,
            Err(error) => {
                self.unheard(beat);
                return Next::failed(error.to_string(), None);
            }
        };
        let by_svid = self.identity.is_used();
        let account = if by_svid { Account::Svid } else { Account::Robot(&registration.auth) };
        let status = self.events.status();
        let told = heartbeat::Told {
            figures: beat.meter.read(config.metrics, &self.store),
            generation: self.follow.position().generation,
            registry_username: self.accepted.username(),
            known_images: beat.known_images.as_deref(),
            known_nodes: beat.known_nodes.as_deref(),
            fetching: status.transfers().fetching(),
        };
        let message = status.read(|status| heartbeat::compose(status, &config, told, jiff::Timestamp::now()));
        let busy = !message.fetching.is_empty();
        let mut wait = beat.pace.wait(&config.heartbeat_interval, busy, rand::random());
        if self.refusals.are_enough() && beat.may_refresh() {
            // Fresh credentials are asked for once this one is answered.
            wait = wait.map(|seconds| seconds.min(1));
        }
        let began = Instant::now();
        beat.sent = Some(began);
        let mut news = false;
        let ended = tokio::select! {
            biased;
            answer = ground_control.heartbeat(account, &message, wait) => Some(answer),
            () = async {
                self.wake_heartbeat.notified().await;
                news = true;
                tokio::time::sleep_until(began + beat.pace.report_after()).await;
            } => None,
        };
        match ended {
            // There is something new to tell.
            None => {
                beat.pace.gave_up();
                Next::After(Duration::ZERO)
            }
            Some(Ok(taken)) => {
                self.events.emit(Event::HeartbeatTaken);
                self.stands(Outcome::Taken, by_svid, &state, None);
                let events = taken.answer.events.clone();
                let next = self.heard(beat, taken, wait, began.elapsed());
                for what in &events {
                    self.events.emit(Event::Asked { what: what.clone() });
                }
                let asked = events.iter().any(|event| event == REFRESH_CREDENTIALS);
                // Credentials of one that returns come with its registration.
                if (asked || self.refusals.are_enough())
                    && self.standing.borrow().may_fetch()
                    && let Err(failed) = self.refresh(beat, &ground_control, account, &config).await
                {
                    return failed;
                }
                match next {
                    // What is new came while the request was under way.
                    None if news => Next::After(GAP),
                    None => Next::Again,
                    Some(after) => Next::After(after),
                }
            }
            Some(Err(error)) => {
                self.stands(Outcome::of_refusal(error.status()), by_svid, &state, Some(&error));
                let within = self.unheard(beat);
                Next::Failed { error: error.to_string(), not_before: error.retry_after(), within }
            }
        }
    }

    /// Follows what an answer tells. Tells how soon the next request follows; `None` leaves that to the schedule.
    fn heard(
        &self,
        beat: &mut Beat,
        taken: HeartbeatTaken,
        asked: Option<u32>,
        took: Duration,
    ) -> Option<Duration> {
        let HeartbeatTaken { answer, waits } = taken;
        beat.known_images = answer.inventory_digest;
        beat.known_nodes = answer.nodes_digest;
        let generation = answer.desired.as_ref().map(|desired| desired.generation);
        let (heard, moved) = self.follow.change(|position| position.answered(answer.desired));
        if heard == Heard::Older && !beat.older {
            let known = self.follow.position().generation;
            tracing::warn!(
                generation,
                known,
                "ground control tells an older generation than before, which is passed over"
            );
        }
        beat.older = heard == Heard::Older;
        let next = beat.pace.answered(heard, waits, asked, took, rand::random());
        self.show_position(beat);
        if moved {
            self.wake_replication.notify_one();
        }
        next
    }

    /// No answer came, or a refusal. Tells how soon it is tried again at the latest.
    fn unheard(&self, beat: &mut Beat) -> Option<Duration> {
        let ((), moved) = self.follow.change(Position::failed);
        let within = beat.pace.failed(rand::random());
        self.show_position(beat);
        if moved {
            tracing::warn!("ground control does not answer, the registry is looked at instead");
            self.wake_replication.notify_one();
        }
        within
    }

    fn show_position(&self, beat: &Beat) {
        let position = self.follow.position();
        let by = match position.source {
            Source::Registry => FollowedBy::Registry,
            Source::Kept => FollowedBy::Kept,
            Source::Answers(_) if beat.pace.waits() => FollowedBy::Waiting,
            Source::Answers(_) => FollowedBy::Interval,
        };
        let status = self.events.status();
        if status.read(|status| (status.follow.by, status.follow.generation) != (by, position.generation)) {
            status.update(|status| {
                if status.follow.by != by || status.follow.since.is_none() {
                    status.follow.since = Some(jiff::Timestamp::now());
                }
                status.follow.by = by;
                status.follow.generation = position.generation;
            });
        }
    }

    /// Notes how the satellite stands now, and tells a change.
    fn stands(
        &self,
        outcome: Outcome,
        by_svid: bool,
        state: &DeviceState,
        error: Option<&GroundControlError>,
    ) {
        let before = *self.standing.borrow();
        let now = before.after(outcome, by_svid);
        if now == before {
            return;
        }
        self.standing.send_replace(now);
        match now {
            Standing::Refused => {
                let said = error.map(ToString::to_string).unwrap_or_default();
                let then = match self.config.site().identity.source {
                    IdentitySource::Token => "once an administrator enabled it, give it the new token",
                    IdentitySource::Builtin { .. } => {
                        "once an administrator enabled or registered it, give it the new join token"
                    }
                    IdentitySource::WorkloadApi { .. } => {
                        "it comes back by itself once an administrator enables or registers it"
                    }
                };
                self.events.emit(Event::Refused { reason: format!("{said}; {then}") });
                self.wake_registration.notify_one();
                self.wake_replication.notify_one();
            }
            Standing::Returning => self.wake_registration.notify_one(),
            Standing::Good if !before.may_fetch() => {
                let name = state.registration.as_ref().and_then(registration::satellite_name);
                self.events.emit(Event::Registered { name });
                self.wake_replication.notify_one();
            }
            Standing::Good | Standing::Doubtful(_) => {}
        }
    }

    /// Asks for fresh credentials; `Err` is how the run ends that could not have them.
    async fn refresh(
        &self,
        beat: &mut Beat,
        ground_control: &GroundControl,
        account: Account<'_>,
        config: &Effective,
    ) -> Result<(), Next> {
        if !beat.may_refresh() {
            return Ok(());
        }
        let refreshed = credentials::refresh(ground_control, account, &self.vault, config, &self.identity);
        match refreshed.await {
            Ok(accepted) => {
                self.refusals.clear();
                if let Some(username) = accepted {
                    // What it was that the registry took is told soon: an older account can go then.
                    self.accepted.set(username);
                    self.wake_heartbeat.notify_one();
                }
                beat.no_refresh_before = None;
                self.wake_replication.notify_one();
                Ok(())
            }
            Err(error) => {
                let asked = error.retry_after();
                beat.no_refresh_before = Some(Instant::now() + asked.unwrap_or_else(|| refusal_wait(config)));
                // A deployed Ground Control does not know the question; ours may have none to give yet.
                if error.is_unsupported() || asked.is_some() {
                    tracing::debug!(%error, "credentials not renewed");
                    return Ok(());
                }
                Err(Next::failed(format!("credentials are not renewed: {error}"), None))
            }
        }
    }
}
