//! Webhook policies at Harbor: one for each project that a group names, made, compared, repaired and removed.
//!
//! They make the sweep quick and are never needed: where our account may not make them, or Harbor does not reach us, the
//! timer finds everything.

use std::sync::Arc;
use std::time::Duration;

use harbor::{Client, DELETE_ARTIFACT, Error, PUSH_ARTIFACT, PolicySpec, WebhookPolicy};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::central::HarborRegistry;
use crate::domain::webhook::{ClaimedPolicy, PolicyOutcome, PolicyState, Wanted};
use crate::metrics::{Job, Metrics};
use crate::publish::chain;
use crate::store::SharedStore;

/// The name of our policy in every project.
pub const POLICY_NAME: &str = "harbor-satellite";
/// How often is looked for projects that came or went.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many policies one look takes.
const BATCH: usize = 16;
/// How long one policy may take.
const LONGEST: Duration = Duration::from_secs(45);
/// How long a claim holds, of one policy; a replica that dies in between is taken over after that.
const CLAIM: SignedDuration = SignedDuration::from_secs(60);
/// The first pause after a failure; it doubles up to the interval.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the policies; [`Policies::run`] is its task.
#[derive(Debug)]
pub struct Policies {
    store: SharedStore,
    harbor: Arc<HarborRegistry>,
    address: String,
    secret: SecretString,
    interval: Duration,
    metrics: Metrics,
}

impl Policies {
    /// Keeps policies that post to `address` with `secret` in `Authorization`; each is compared once in `interval`.
    pub fn new(
        store: SharedStore,
        harbor: Arc<HarborRegistry>,
        address: String,
        secret: SecretString,
        interval: Duration,
        metrics: Metrics,
    ) -> Self {
        Self { store, harbor, address, secret, interval, metrics }
    }

    /// Keeps them until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    /// Looks once at all that are due.
    pub async fn look(&self) {
        for _ in 0..BATCH {
            let now = Timestamp::now();
            // One at a time, so that no claim outlives what is done under it by much.
            let claimed = match self.store.claim_policies(1, now, now + CLAIM).await {
                Ok(mut claimed) => match claimed.pop() {
                    Some(claimed) => claimed,
                    None => return,
                },
                Err(error) => {
                    tracing::warn!(%error, "webhook policies not looked at, tried again later");
                    return;
                }
            };
            let run = self.metrics.job(Job::Webhooks);
            let outcome = tokio::time::timeout(LONGEST, self.keep(&claimed)).await.unwrap_or_else(|_| {
                PolicyOutcome::Failed(format!("no answer within {} s", LONGEST.as_secs()))
            });
            self.tell(&claimed, &outcome);
            run.ended(!matches!(outcome, PolicyOutcome::Failed(_)));
            let now = Timestamp::now();
            let next = now.checked_add(self.pause(&claimed, &outcome)).unwrap_or(Timestamp::MAX);
            if let Err(error) = self.store.policy_looked(&claimed, &outcome, now, next).await {
                // The claim runs out by itself; then it is looked at again.
                tracing::warn!(project = %claimed.project, %error, "remembering a webhook policy failed");
            }
        }
    }

    fn spec(&self) -> PolicySpec {
        PolicySpec {
            name: POLICY_NAME.to_owned(),
            description: "tells Ground Control of pushes and deletions".to_owned(),
            address: self.address.clone(),
            auth_header: self.secret.clone(),
            skip_cert_verify: false,
            events: [PUSH_ARTIFACT, DELETE_ARTIFACT].map(str::to_owned).into(),
        }
    }

    async fn keep(&self, claimed: &ClaimedPolicy) -> PolicyOutcome {
        let client = match self.harbor.login().client().await {
            Ok(client) => client,
            Err(error) => return PolicyOutcome::Failed(chain(&error)),
        };
        let project = claimed.project.as_str();
        let done = match claimed.wanted {
            Wanted::Kept => ensure(&client, project, &self.spec()).await,
            Wanted::Gone => remove(&client, project).await,
        };
        match done {
            Ok(outcome) => outcome,
            // A project that went took its policy along.
            Err(error) if error.is_not_found() && claimed.wanted == Wanted::Gone => PolicyOutcome::Gone,
            Err(error) if error.is_forbidden() => PolicyOutcome::Forbidden(chain(&error)),
            Err(error) => PolicyOutcome::Failed(chain(&error)),
        }
    }

    /// Once for each time that it becomes so.
    fn tell(&self, claimed: &ClaimedPolicy, outcome: &PolicyOutcome) {
        let project = claimed.project.as_str();
        match outcome {
            PolicyOutcome::Forbidden(reason) if claimed.state != PolicyState::Forbidden => {
                tracing::warn!(
                    project,
                    reason,
                    "our account may not make webhook policies, the project is swept"
                );
            }
            PolicyOutcome::Failed(reason) if claimed.state != PolicyState::Failed => {
                tracing::warn!(project, reason, "webhook policy not kept, tried again later");
            }
            PolicyOutcome::Kept(_) if claimed.state != PolicyState::Kept => {
                tracing::info!(project, "webhook policy kept");
            }
            PolicyOutcome::Gone => tracing::info!(project, "webhook policy removed"),
            _ => {}
        }
    }

    fn pause(&self, claimed: &ClaimedPolicy, outcome: &PolicyOutcome) -> SignedDuration {
        let pause = match outcome {
            PolicyOutcome::Failed(_) => {
                RETRY.saturating_mul(2_u32.saturating_pow(claimed.attempts.min(16))).min(self.interval)
            }
            _ => self.interval,
        };
        SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
    }
}

fn ours(policies: &[WebhookPolicy]) -> Option<&WebhookPolicy> {
    policies.iter().find(|policy| policy.name == POLICY_NAME)
}

/// Makes the policy what it should be, and believes it only after reading it back.
async fn ensure(client: &Client, project: &str, spec: &PolicySpec) -> Result<PolicyOutcome, Error> {
    let there = client.webhook_policies(project).await?;
    match ours(&there) {
        Some(policy) if policy.is(spec) => return Ok(PolicyOutcome::Kept(policy.id.0)),
        Some(policy) => client.update_webhook_policy(project, policy.id, spec).await?,
        None => match client.create_webhook_policy(project, spec).await {
            // Another replica was faster.
            Err(error) if error.is_conflict() => {}
            made => drop(made?),
        },
    }
    let there = client.webhook_policies(project).await?;
    Ok(match ours(&there) {
        Some(policy) if policy.is(spec) => PolicyOutcome::Kept(policy.id.0),
        _ => PolicyOutcome::Failed(format!(
            "Harbor does not show the webhook policy {POLICY_NAME} of project {project} as it was written"
        )),
    })
}

async fn remove(client: &Client, project: &str) -> Result<PolicyOutcome, Error> {
    let there = client.webhook_policies(project).await?;
    if let Some(policy) = ours(&there) {
        client.delete_webhook_policy(project, policy.id).await?;
    }
    Ok(PolicyOutcome::Gone)
}
