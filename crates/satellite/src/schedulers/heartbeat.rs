//! The job of the heartbeat: report, and do what the answer asks.

use fleet_protocol::heartbeat::REFRESH_CREDENTIALS;
use tokio::time::Instant;

use super::{Connection, Next, Shell, refusal_wait};
use crate::config::{Effective, IdentitySource};
use crate::credentials;
use crate::events::Event;
use crate::ground_control::{Account, GroundControl, GroundControlError};
use crate::heartbeat::{self, ProcessMeter};
use crate::registration;
use crate::sealed::DeviceState;
use crate::standing::{Outcome, Standing};

/// What is kept from one heartbeat to the next.
#[derive(Debug, Default)]
pub(super) struct Beat {
    meter: ProcessMeter,
    connection: Connection,
    /// Fresh credentials are not asked for before this.
    no_refresh_before: Option<Instant>,
}

impl Shell {
    pub(super) async fn heartbeat(&self, beat: &mut Beat) -> Next {
        let state = self.vault.state();
        let config = self.config.current();
        let (Some(registration), Some(url)) = (&state.registration, &config.ground_control_url) else {
            return Next::Park;
        };
        let ground_control = match beat.connection.to(url, &config, &self.identity) {
            Ok(ground_control) => ground_control,
            Err(error) => return Next::Failed { error: error.to_string(), not_before: None },
        };
        let by_svid = self.identity.is_used();
        let account = if by_svid { Account::Svid } else { Account::Robot(&registration.auth) };
        let figures = beat.meter.read(config.metrics, &self.store);
        let message = self
            .events
            .status()
            .read(|status| heartbeat::compose(status, &config, figures, jiff::Timestamp::now()));
        match ground_control.heartbeat(account, &message).await {
            Ok(answer) => {
                self.events.emit(Event::HeartbeatTaken);
                self.stands(Outcome::Taken, by_svid, &state, None);
                for what in &answer.events {
                    self.events.emit(Event::Asked { what: what.clone() });
                }
                let asked = answer.events.iter().any(|event| event == REFRESH_CREDENTIALS);
                // Credentials of one that returns come with its registration.
                if (asked || self.refusals.are_enough()) && self.standing.borrow().may_fetch() {
                    return self.refresh(beat, &ground_control, account, &config).await;
                }
                Next::Again
            }
            Err(error) => {
                self.stands(Outcome::of_refusal(error.status()), by_svid, &state, Some(&error));
                Next::Failed { error: error.to_string(), not_before: error.retry_after() }
            }
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

    async fn refresh(
        &self,
        beat: &mut Beat,
        ground_control: &GroundControl,
        account: Account<'_>,
        config: &Effective,
    ) -> Next {
        if beat.no_refresh_before.is_some_and(|at| at > Instant::now()) {
            return Next::Again;
        }
        let refreshed = credentials::refresh(ground_control, account, &self.vault, config, &self.identity);
        match refreshed.await {
            Ok(()) => {
                self.refusals.clear();
                beat.no_refresh_before = None;
                self.wake_replication.notify_one();
                Next::Again
            }
            Err(error) => {
                beat.no_refresh_before = Some(Instant::now() + refusal_wait(config));
                if error.is_unsupported() {
                    tracing::debug!(%error, "credentials not renewed");
                    return Next::Again;
                }
                Next::Failed { error: format!("credentials are not renewed: {error}"), not_before: None }
            }
        }
    }
}
