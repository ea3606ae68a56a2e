//! The job of registration: by a one-time token, or by an SVID.

use std::time::Duration;

use identity::Current;
use secrecy::SecretString;
use url::Url;

use super::{Connection, Next, Shell, refusal_wait};
use crate::config::Shared;
use crate::events::Event;
use crate::follow::Position;
use crate::ground_control::GroundControl;
use crate::registration::{self, RegistrationError};
use crate::sealed::DeviceState;
use crate::standing::Standing;

impl Shell {
    pub(super) async fn register(&self, connection: &mut Connection) -> Next {
        let state = self.vault.state();
        let config = self.config.current();
        if self.identity.is_used() {
            return self.register_by_svid(&state, &config, connection).await;
        }
        let token = self.token.borrow().clone();
        // What was taken over from a deployed satellite is good as it is, until Ground Control says otherwise.
        let taken_over = state.registration.is_some() && state.claim.is_none();
        let needs_token = taken_over && token.is_some() && !self.standing.borrow().may_fetch();
        if !needs_token && !registration::is_due(&state, token.as_ref()) {
            return Next::Done;
        }
        let Some(url) = &config.ground_control_url else { return self.no_ground_control() };
        let Some(token) = token else {
            self.events.emit(Event::NotConfigured {
                what: "this satellite holds no credentials and no token: make a token at ground control and start it with TOKEN"
                    .to_owned(),
            });
            return Next::Park;
        };
        self.register_by_token(&state, &config, url, &token).await
    }

    async fn register_by_token(
        &self,
        state: &DeviceState,
        config: &Shared,
        url: &Url,
        token: &SecretString,
    ) -> Next {
        let ground_control = match GroundControl::new(url, &config.tls, config.use_unsecure) {
            Ok(ground_control) => ground_control,
            Err(error) => return Next::failed(error.to_string(), None),
        };
        match registration::register(&ground_control, token, &self.vault).await {
            Ok(answer) => self.registered(&answer),
            Err(error) => {
                let mut not_before = error.retry_after();
                if let RegistrationError::TokenRefused(_) = error {
                    match &state.registration {
                        None => self.events.emit(Event::TokenRefused { reason: error.to_string() }),
                        // What is held may be good all the same.
                        Some(_) => self.events.status().warn(format!("the new token was not taken: {error}")),
                    }
                    not_before = Some(slowly(not_before, config));
                }
                Next::failed(error.to_string(), not_before)
            }
        }
    }

    /// Due where nothing is held, where what is held was given to somebody else (another SPIFFE ID, a token), and where
    /// Ground Control refused this satellite: whoever enabled it again made its old credentials void.
    async fn register_by_svid(
        &self,
        state: &DeviceState,
        config: &Shared,
        connection: &mut Connection,
    ) -> Next {
        let Some(url) = &config.ground_control_url else { return self.no_ground_control() };
        let Some(current) = self.identity.current() else {
            // What is wrong stands in the identity's own status; it wakes this when it is there.
            return if state.registration.is_some() { Next::Done } else { Next::Park };
        };
        let Current { svid, .. } = &*current;
        let id = svid.id().to_string();
        let held = state.registration.is_some() && state.registered_as.as_ref() == Some(&id);
        if held && !self.standing.borrow().wants_registration() {
            return Next::Done;
        }
        let ground_control = match connection.to(url, config, &self.identity) {
            Ok(ground_control) => ground_control,
            Err(error) => return Next::failed(error.to_string(), None),
        };
        match registration::register_by_svid(&ground_control, id, &self.vault).await {
            Ok(answer) => self.registered(&answer),
            Err(error) => {
                let mut not_before = error.retry_after();
                if let RegistrationError::Refused(_) = error {
                    self.events.emit(Event::Refused { reason: error.to_string() });
                    not_before = Some(slowly(not_before, config));
                }
                Next::failed(error.to_string(), not_before)
            }
        }
    }

    fn registered(&self, answer: &fleet_protocol::registration::StateConfig) -> Next {
        self.standing.send_replace(Standing::Good);
        self.refusals.clear();
        self.follow.change(Position::registered);
        self.events.emit(Event::Registered { name: registration::satellite_name(answer) });
        self.wake_replication.notify_one();
        self.wake_heartbeat.notify_one();
        Next::Done
    }

    fn no_ground_control(&self) -> Next {
        self.events.emit(Event::NotConfigured {
            what: "no ground control is configured: set GROUND_CONTROL_URL".to_owned(),
        });
        Next::Park
    }
}

fn slowly(asked: Option<Duration>, config: &Shared) -> Duration {
    asked.unwrap_or_default().max(refusal_wait(config))
}
