//! Webhook policies: which events of a project Harbor posts where.
//!
//! Deliveries are a hint and no more: deleting a tag raises none, a target that fails is tried three times within two minutes and
//! then never again, nothing is ordered or sent only once. Whoever is woken by one looks for himself.

use std::collections::BTreeSet;

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, segment};
use crate::error::{Error, ErrorKind};
use crate::send::Call;

/// Something was pushed: by tag, or by digest (which then stands as the tag).
pub const PUSH_ARTIFACT: &str = "PUSH_ARTIFACT";
/// An artifact was deleted. Names one of its tags at most: the digest is what counts.
pub const DELETE_ARTIFACT: &str = "DELETE_ARTIFACT";

/// Harbor's number of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyId(pub i64);

/// What a policy should be: one HTTP target, payloads in Harbor's default format, enabled.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// Its name, unique within the project.
    pub name: String,
    /// What people read beside it.
    pub description: String,
    /// Where Harbor posts to.
    pub address: String,
    /// What stands in `Authorization` of each delivery, word for word.
    pub auth_header: SecretString,
    /// Do not check the target's certificate.
    pub skip_cert_verify: bool,
    /// Which events, for example [`PUSH_ARTIFACT`].
    pub events: BTreeSet<String>,
}

/// A policy as Harbor shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct WebhookPolicy {
    /// Its id.
    pub id: PolicyId,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Whether it delivers.
    #[serde(default)]
    pub enabled: bool,
    #[serde(default)]
    event_types: Option<BTreeSet<String>>,
    #[serde(default)]
    targets: Option<Vec<Target>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    auth_header: Option<SecretString>,
    #[serde(default)]
    skip_cert_verify: bool,
    #[serde(default)]
    payload_format: String,
}

/// One delivery of a policy, or the try of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// `Success`, `Error`, `Running`, …
    pub status: String,
    /// When it began.
    #[serde(default)]
    pub start_time: Option<String>,
}

impl WebhookPolicy {
    /// Whether it does what the specification asks for, so that nothing has to be changed.
    pub fn is(&self, spec: &PolicySpec) -> bool {
        let [target] = self.targets.as_deref().unwrap_or_default() else { return false };
        let header = target.auth_header.as_ref().map_or("", |h| h.expose_secret());
        self.enabled
            && self.name == spec.name
            && self.event_types.as_ref() == Some(&spec.events)
            && target.kind == "http"
            && target.payload_format == "Default"
            && target.address == spec.address
            && target.skip_cert_verify == spec.skip_cert_verify
            && header == spec.auth_header.expose_secret()
    }

    /// The events that it delivers.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.event_types.iter().flatten().map(String::as_str)
    }
}

fn body(spec: &PolicySpec) -> serde_json::Value {
    json!({
        "name": spec.name,
        "description": spec.description,
        "enabled": true,
        "event_types": spec.events,
        "targets": [{
            "type": "http",
            "address": spec.address,
            "auth_header": spec.auth_header.expose_secret(),
            "skip_cert_verify": spec.skip_cert_verify,
            "payload_format": "Default",
        }],
    })
}

fn policies(project: &str) -> String {
    format!("/projects/{}/webhook/policies", segment(project))
}

impl Client {
    /// All policies of a project.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] where our login has no right to webhooks there.
    pub async fn webhook_policies(&self, project: &str) -> Result<Vec<WebhookPolicy>, Error> {
        let operation = format!("list the webhook policies of project {project}");
        self.list(&operation, &policies(project), |policy: &WebhookPolicy| policy.id.0).await
    }

    /// Makes a policy; gives its id. Not repeated where it may have happened.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where the project has one of this name.
    pub async fn create_webhook_policy(&self, project: &str, spec: &PolicySpec) -> Result<PolicyId, Error> {
        let operation = format!("create webhook policy {} of project {project}", spec.name);
        // Harbor takes an empty name, and then has a policy that nobody can find.
        if spec.name.is_empty() || spec.events.is_empty() {
            let text = "a webhook policy needs a name and events".to_owned();
            return Err(self.error(&operation, ErrorKind::Input(text)));
        }
        let call = Call::api(&operation, Method::POST, &policies(project)).body(&body(spec));
        let answer = self.send(&call).await?;
        self.created_id(&operation, &answer.headers).map(PolicyId)
    }

    /// Makes a policy what the specification says.
    pub async fn update_webhook_policy(
        &self,
        project: &str,
        id: PolicyId,
        spec: &PolicySpec,
    ) -> Result<(), Error> {
        let operation = format!("update webhook policy {} of project {project}", spec.name);
        let path = format!("{}/{}", policies(project), id.0);
        self.send(&Call::api(&operation, Method::PUT, &path).body(&body(spec))).await.map(drop)
    }

    /// Deletes a policy; `false` when it was gone. Harbor was seen to answer 412 soon after deliveries: that is waited out.
    ///
    /// # Errors
    /// [`ErrorKind::Precondition`] where it stays at 412.
    pub async fn delete_webhook_policy(&self, project: &str, id: PolicyId) -> Result<bool, Error> {
        let operation = format!("delete webhook policy {} of project {project}", id.0);
        let path = format!("{}/{}", policies(project), id.0);
        let mut failures = 0;
        loop {
            let error = match self.delete(&operation, &path).await {
                Err(e) if matches!(e.kind(), ErrorKind::Precondition(_)) => e,
                other => return other,
            };
            failures += 1;
            match self.inner.options.precondition_retry.delay(failures, None) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            }
        }
    }

    /// The latest deliveries of a policy, newest first, up to `count` (at most 100): whether Harbor reaches its target.
    pub async fn webhook_deliveries(
        &self,
        project: &str,
        id: PolicyId,
        count: u8,
    ) -> Result<Vec<Delivery>, Error> {
        let operation = format!("list the deliveries of webhook policy {} of project {project}", id.0);
        let count = count.clamp(1, 100);
        let path = format!("{}/{}/executions?page=1&page_size={count}", policies(project), id.0);
        let answer: Option<Vec<Delivery>> = self.json(&Call::api(&operation, Method::GET, &path)).await?;
        Ok(answer.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PolicySpec {
        PolicySpec {
            name: "gc".into(),
            description: "wakes Ground Control".into(),
            address: "https://gc.example.com/hooks/harbor".into(),
            auth_header: "hook-secret".into(),
            skip_cert_verify: false,
            events: [PUSH_ARTIFACT, DELETE_ARTIFACT].map(String::from).into(),
        }
    }

    /// As Harbor gives it back: in another order, `skip_cert_verify` left out where it is false.
    fn shown() -> serde_json::Value {
        json!({ "id": 1, "name": "gc", "enabled": true, "event_types": ["PUSH_ARTIFACT", "DELETE_ARTIFACT"], "project_id": 2,
            "targets": [{ "address": "https://gc.example.com/hooks/harbor", "auth_header": "hook-secret",
                "payload_format": "Default", "type": "http" }] })
    }

    #[test]
    fn a_policy_is_what_was_asked_for_or_not() {
        let policy = |value| serde_json::from_value::<WebhookPolicy>(value).unwrap();
        assert!(policy(shown()).is(&spec()));
        for (pointer, value) in [
            ("/enabled", json!(false)),
            ("/event_types", json!(["PUSH_ARTIFACT"])),
            ("/targets/0/address", json!("https://elsewhere/")),
            ("/targets/0/auth_header", json!("other")),
            ("/targets/0/payload_format", json!("CloudEvents")),
            ("/targets", json!([])),
            ("/targets", json!(null)),
        ] {
            let mut changed = shown();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert!(!policy(changed).is(&spec()), "{pointer}");
        }
        assert!(!format!("{:?} {:?}", policy(shown()), spec()).contains("hook-secret"));
    }
}
