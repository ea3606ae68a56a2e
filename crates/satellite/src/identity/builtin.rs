//! An X.509-SVID of the authority that is built into Ground Control: attested to with a join token, renewed at half its
//! life, kept sealed.
//!
//! A lost answer must brick nothing, so each key is on the disk before Ground Control hears of it, and stays there until
//! there is an SVID for it. The claim of a join token is bound to the key: asked again with it, it is answered again.
//! A renewal that got no answer is asked for again, with a fresh nonce, signed by the key of the SVID that is held.
//!
//! All of it goes over TLS that shows no certificate of ours: an SVID that expired while the site was cut off renews, as
//! long as Ground Control's grace lasts. A refusal takes nothing away. It is told, asked again slowly, and a new join
//! token is taken without a restart.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_protocol::attestation::{AttestRequest, RenewRequest, SvidAnswer, renewal_message};
use identity::key::{Csr, KeyPair};
use identity::{IdentityKeeper, Svid, TrustBundle};
use jiff::Timestamp;
use oci::{Algorithm, Digest};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::time::Instant;

use super::step::{self, Held, Step, View};
use super::{ALPN, anchors, expected};
use crate::config::{ExpectedServer, LiveConfig, Shared};
use crate::events::{Event, Events};
use crate::ground_control::{GroundControl, GroundControlError};
use crate::schedulers::{failure_delay, refusal_wait};
use crate::sealed::{HeldIdentity, Joining, Renewing, SealError, Vault};

/// How often the file with the join token is looked at, and the clock.
const LOOK: Duration = Duration::from_secs(3);
/// A join token is a few dozen characters.
const MAX_TOKEN: u64 = 4096;

/// What an agent works with.
pub(crate) struct Parts {
    pub(crate) join_token_file: Option<PathBuf>,
    pub(crate) trust_bundle_file: Option<PathBuf>,
    pub(crate) expected: ExpectedServer,
    pub(crate) config: LiveConfig,
    pub(crate) vault: Vault,
    pub(crate) keeper: IdentityKeeper,
    /// A join token that was handed over on the status socket.
    pub(crate) token: watch::Receiver<Option<SecretString>>,
    pub(crate) events: Events,
}

/// Why there is no (new) SVID.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}; a join token is good once and not for long: make a new one at ground control")]
    TokenRefused(GroundControlError),
    #[error(
        "{0}; what is held stays in use while it is good, and a new join token from ground control brings a new SVID"
    )]
    RenewalRefused(GroundControlError),
    #[error(transparent)]
    GroundControl(#[from] GroundControlError),
    #[error("the SVID cannot be kept on disk: {0}")]
    NotKept(#[from] SealError),
    #[error("{0}")]
    Other(String),
}

impl Trouble {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TokenRefused(error) | Self::RenewalRefused(error) | Self::GroundControl(error) => {
                error.retry_after()
            }
            Self::NotKept(_) | Self::Other(_) => None,
        }
    }
}

/// Keeps the SVID for as long as it is polled.
pub(crate) async fn run(parts: Parts) {
    let mut agent = Agent {
        parts,
        held: None,
        refused_token: None,
        refused_until: None,
        renewal_refused: false,
        renewal_waits: None,
        failures: 0,
        not_before: None,
        asked_for_token: false,
    };
    agent.load();
    let mut configs = agent.parts.config.subscribe();
    loop {
        agent.turn().await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = agent.parts.token.changed() => {
                if changed.is_err() {
                    // Nobody hands over tokens any more; the file still may.
                    tokio::time::sleep(LOOK).await;
                }
            }
            _ = configs.changed() => agent.not_before = None,
        }
    }
}

struct Agent {
    parts: Parts,
    held: Option<Holding>,
    refused_token: Option<String>,
    refused_until: Option<Instant>,
    renewal_refused: bool,
    renewal_waits: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    asked_for_token: bool,
}

/// The SVID in use.
struct Holding {
    svid: Svid,
    renew_at: Timestamp,
    token: String,
}

impl Agent {
    /// Puts what was kept in force again.
    fn load(&mut self) {
        let state = self.parts.vault.state();
        let Some(kept) = &state.identity else { return };
        if let Err(why) = self.take(kept) {
            self.trouble(format!("the SVID that was kept cannot be used: {why}"));
        }
    }

    fn take(&mut self, kept: &HeldIdentity) -> Result<(), String> {
        let (svid, bundle) = read(&kept.svid, kept.key.expose_secret(), &kept.trust_bundle)
            .map_err(|error| error.to_string())?;
        if !svid.leaf().is_expired(Timestamp::now()) {
            self.parts.keeper.set(svid.clone(), bundle);
        }
        let renew_at = svid.renew_at(rand::random());
        self.held = Some(Holding { svid, renew_at, token: kept.join_token_sha256.clone() });
        Ok(())
    }

    async fn turn(&mut self) {
        let now = Timestamp::now();
        if let Some(held) = &self.held
            && held.svid.leaf().is_expired(now)
            && self.parts.keeper.current().is_some()
        {
            self.parts.keeper.withdraw();
            self.trouble(format!(
                "the SVID expired at {}, it is still to be renewed",
                held.svid.leaf().not_after
            ));
        }
        if self.not_before.is_some_and(|at| at > Instant::now()) && !self.has_new_token() {
            return;
        }
        let token = self.token();
        let sha = token.as_ref().map(fingerprint);
        let waits = |until: Option<Instant>| until.is_some_and(|at| at > Instant::now());
        let view = View {
            held: self.held.as_ref().map(|held| Held {
                token: &held.token,
                renew_at: held.renew_at,
                refused: self.renewal_refused,
            }),
            token: sha.as_deref(),
            refused_token: self.refused_token.as_deref(),
            renewal_waits: waits(self.renewal_waits),
            token_waits: waits(self.refused_until),
        };
        let step = step::next(&view, now);
        let config = self.parts.config.current();
        let outcome = match (step, token, sha) {
            (Step::Attest, Some(token), Some(sha)) => self.attest(&config, token, sha).await,
            (Step::Renew, ..) => self.renew(&config).await,
            (Step::NeedsToken, ..) => {
                self.ask_for_token();
                return;
            }
            _ => return,
        };
        self.note(outcome, &config);
    }

    fn note(&mut self, outcome: Result<(), Trouble>, config: &Shared) {
        let Err(trouble) = outcome else {
            self.failures = 0;
            self.not_before = None;
            self.asked_for_token = false;
            return;
        };
        let slow = trouble.retry_after().unwrap_or_default().max(refusal_wait(config));
        match &trouble {
            Trouble::TokenRefused(_) => self.refused_until = Some(Instant::now() + slow),
            Trouble::RenewalRefused(_) => {
                self.renewal_refused = true;
                self.renewal_waits = Some(Instant::now() + slow);
            }
            _ => {
                self.failures = self.failures.saturating_add(1);
                let wait = failure_delay(&config.register_satellite_interval, self.failures);
                self.not_before = Some(Instant::now() + wait.max(trouble.retry_after().unwrap_or_default()));
            }
        }
        let until = self.held.as_ref().map(|held| held.svid.leaf().not_after);
        self.trouble(match until {
            Some(at) if at < Timestamp::now() => {
                format!("the SVID expired at {at} and is not renewed: {trouble}")
            }
            Some(at) => format!("the SVID, good until {at}, is not renewed: {trouble}"),
            None => trouble.to_string(),
        });
    }

    fn trouble(&self, what: String) {
        // A site without a network says the same for weeks.
        if self.parts.events.status().read(|status| status.identity.problem.as_ref() == Some(&what)) {
            return;
        }
        self.parts.events.emit(Event::IdentityTrouble { what });
    }

    fn ask_for_token(&mut self) {
        // Said once; a token that was refused has said more already.
        if self.asked_for_token || self.refused_token.is_some() {
            return;
        }
        self.asked_for_token = true;
        let place = match &self.parts.join_token_file {
            Some(path) => format!("{} (JOIN_TOKEN_FILE)", path.display()),
            None => "the file that JOIN_TOKEN_FILE names".to_owned(),
        };
        self.trouble(format!(
            "this satellite holds no SVID and no join token: make one at ground control and put it into {place}"
        ));
    }

    /// The join token that was handed over, else that of the file.
    fn token(&self) -> Option<SecretString> {
        let spent = |token: &SecretString| {
            let sha = fingerprint(token);
            self.held.as_ref().is_some_and(|held| held.token == sha)
                || self.refused_token.as_ref() == Some(&sha)
        };
        let handed = self.parts.token.borrow().clone();
        let file = self.parts.join_token_file.as_deref().and_then(read_token);
        match (handed, file) {
            (Some(handed), Some(file)) if spent(&handed) && !spent(&file) => Some(file),
            (Some(handed), _) => Some(handed),
            (None, file) => file,
        }
    }

    /// Whether there is a join token that was never tried: it waits for no backoff.
    fn has_new_token(&self) -> bool {
        let tried = self.parts.vault.state().joining.as_ref().map(|joining| joining.token_sha256.clone());
        let held = self.held.as_ref().map(|held| &held.token);
        self.token().map(|token| fingerprint(&token)).is_some_and(|sha| {
            tried.as_ref() != Some(&sha) && held != Some(&sha) && self.refused_token.as_ref() != Some(&sha)
        })
    }

    async fn attest(&mut self, config: &Shared, token: SecretString, sha: String) -> Result<(), Trouble> {
        let ground_control = self.ground_control(config)?;
        let known = self.parts.vault.state().joining.clone();
        let key = match known.filter(|joining| joining.token_sha256 == sha) {
            Some(joining) => key(&joining.key)?,
            None => {
                let (key, pem) = new_key()?;
                let joining = Joining { token_sha256: sha.clone(), key: pem };
                self.parts.vault.update(move |state| state.joining = Some(joining)).await?;
                key
            }
        };
        let csr = key.csr_pem(None).map_err(other)?;
        let answer =
            ground_control.attest(&AttestRequest { join_token: token, csr }).await.map_err(|error| {
                match error.status() {
                    Some(400 | 401 | 403) => {
                        self.refused_token = Some(sha.clone());
                        Trouble::TokenRefused(error)
                    }
                    _ => Trouble::GroundControl(error),
                }
            })?;
        let kept = self.accept(&answer, &key, sha)?;
        let stored = kept.clone();
        self.parts
            .vault
            .update(move |state| {
                state.identity = Some(stored);
                state.joining = None;
                state.renewing = None;
                // Whoever was made anew, or enabled again, has new credentials waiting.
                state.registered_as = None;
            })
            .await?;
        (self.refused_token, self.refused_until) = (None, None);
        self.in_force(&kept, "attested")
    }

    async fn renew(&mut self, config: &Shared) -> Result<(), Trouble> {
        let state = self.parts.vault.state();
        let Some(kept) = state.identity.clone() else { return Ok(()) };
        let Some(id) = self.held.as_ref().map(|held| held.svid.id().clone()) else { return Ok(()) };
        let old = key(&kept.key)?;
        let ground_control = self.ground_control(config)?;
        let new = match &state.renewing {
            Some(renewing) => key(&renewing.key)?,
            None => {
                let (key, pem) = new_key()?;
                self.parts.vault.update(move |state| state.renewing = Some(Renewing { key: pem })).await?;
                key
            }
        };
        let csr = new.csr_pem(Some(&id)).map_err(other)?;
        let der = STANDARD.encode(Csr::from_pem(&csr).map_err(other)?.der);
        let refused = |error: GroundControlError| match error.status() {
            Some(400 | 401 | 403) => Trouble::RenewalRefused(error),
            _ => Trouble::GroundControl(error),
        };
        let nonce = ground_control.renewal_nonce().await.map_err(refused)?.nonce;
        let message = renewal_message(&id.to_string(), &nonce, &der);
        let signature = STANDARD.encode(old.sign(message.as_bytes()).map_err(other)?);
        let request = RenewRequest { csr, spiffe_id: id.to_string(), nonce, signature };
        let answer = ground_control.renew(&request).await.map_err(refused)?;
        let kept = self.accept(&answer, &new, kept.join_token_sha256)?;
        let stored = kept.clone();
        self.parts
            .vault
            .update(move |state| {
                state.identity = Some(stored);
                state.renewing = None;
            })
            .await?;
        self.in_force(&kept, "renewed")
    }

    /// What is kept of an answer, once it is seen to be good.
    fn accept(&self, answer: &SvidAnswer, key: &KeyPair, token: String) -> Result<HeldIdentity, Trouble> {
        let pem = key.to_pem();
        let (svid, _) = read(&answer.svid, &pem, &answer.trust_bundle).map_err(|error| {
            Trouble::Other(format!("ground control sent an SVID that cannot be used: {error}"))
        })?;
        if svid.leaf().is_expired(Timestamp::now()) {
            return Err(Trouble::Other(format!(
                "ground control sent an SVID that expired at {}: check the clocks",
                svid.leaf().not_after
            )));
        }
        Ok(HeldIdentity {
            key: SecretString::from(pem.as_str()),
            svid: answer.svid.clone(),
            trust_bundle: answer.trust_bundle.clone(),
            join_token_sha256: token,
            issued_at: Timestamp::now(),
        })
    }

    fn in_force(&mut self, kept: &HeldIdentity, how: &'static str) -> Result<(), Trouble> {
        (self.renewal_refused, self.renewal_waits) = (false, None);
        self.take(kept).map_err(Trouble::Other)?;
        tracing::info!(how, "SVID issued by ground control's authority");
        Ok(())
    }

    /// A client that shows no certificate, and takes Ground Control by the bundle that is held or that of the site's file.
    fn ground_control(&self, config: &Shared) -> Result<GroundControl, Trouble> {
        let url = config.ground_control_url.as_ref().ok_or_else(|| {
            Trouble::Other("no ground control is configured: set GROUND_CONTROL_URL".to_owned())
        })?;
        let file = self
            .parts
            .trust_bundle_file
            .as_deref()
            .ok_or_else(|| "TRUST_BUNDLE_FILE is unset".to_owned())
            .and_then(|path| anchors::from_file(path, &self.parts.expected));
        let state = self.parts.vault.state();
        let held = self.held.as_ref().zip(state.identity.as_ref()).and_then(|(held, kept)| {
            TrustBundle::from_pem(held.svid.id().trust_domain().clone(), &kept.trust_bundle).ok()
        });
        let bundle = match (held, file) {
            (Some(held), file) => anchors::joined(held, file.ok()),
            (None, file) => file.map_err(Trouble::Other)?,
        };
        let expected = expected(&self.parts.expected, &bundle.trust_domain);
        let tls = identity::tls::bootstrap_client_config(bundle, expected, ALPN).map_err(other)?;
        Ok(GroundControl::over(url, tls)?)
    }
}

fn other(error: impl std::fmt::Display) -> Trouble {
    Trouble::Other(error.to_string())
}

fn key(pem: &SecretString) -> Result<KeyPair, Trouble> {
    KeyPair::from_pem(pem.expose_secret()).map_err(other)
}

fn new_key() -> Result<(KeyPair, SecretString), Trouble> {
    let key = KeyPair::generate().map_err(other)?;
    let pem = SecretString::from(key.to_pem().as_str());
    Ok((key, pem))
}

fn read(svid: &str, key: &str, bundle: &str) -> Result<(Svid, TrustBundle), identity::SvidError> {
    let svid = Svid::from_pem(svid, key)?;
    let bundle = TrustBundle::from_pem(svid.id().trust_domain().clone(), bundle)?;
    Ok((svid, bundle))
}

fn fingerprint(token: &SecretString) -> String {
    Digest::of(Algorithm::Sha256, token.expose_secret().as_bytes()).hex()
}

/// The join token in a file; `None` where there is none (yet, or any more).
fn read_token(path: &std::path::Path) -> Option<SecretString> {
    let mut text = zeroize::Zeroizing::new(String::new());
    std::fs::File::open(path).ok()?.take(MAX_TOKEN).read_to_string(&mut text).ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| SecretString::from(token))
}

/// Keeps what is secret apart from what is shown.
impl std::fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agent").field("failures", &self.failures).finish_non_exhaustive()
    }
}
