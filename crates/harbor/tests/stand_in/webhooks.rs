//! Webhook policies and their executions.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};

use super::Shared;
use super::world::{Answer, Route, World};

/// Posts to a target with its `Authorization`; whether that was answered with success.
pub(crate) type Deliver = Arc<dyn Fn(String, String, Value) -> BoxFuture<'static, bool> + Send + Sync>;

const EVENTS: [&str; 10] = [
    "PUSH_ARTIFACT",
    "PULL_ARTIFACT",
    "DELETE_ARTIFACT",
    "QUOTA_EXCEED",
    "QUOTA_WARNING",
    "SCANNING_FAILED",
    "SCANNING_STOPPED",
    "SCANNING_COMPLETED",
    "REPLICATION",
    "TAG_RETENTION",
];

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) id: i64,
    pub(crate) project: i64,
    /// As it is shown.
    pub(crate) shown: Value,
    pub(crate) executions: Vec<Value>,
}

impl World {
    pub(crate) fn webhooks(&mut self, route: &Route<'_>, project: &str, rest: &[&str]) -> Option<Answer> {
        Some(self.webhook_answer(route, project, rest)?.unwrap_or_else(|refused| refused))
    }

    fn webhook_answer(
        &mut self,
        route: &Route<'_>,
        project: &str,
        rest: &[&str],
    ) -> Option<Result<Answer, Answer>> {
        let method = &route.asked.method;
        let action = match (method, rest) {
            (&Method::GET, []) => "list",
            (&Method::POST, []) => "create",
            (&Method::GET, _) => "read",
            (&Method::PUT, _) => "update",
            (&Method::DELETE, _) => "delete",
            _ => return None,
        };
        if let Some(refused) = self.refused(&route.who, "project", project, "notification-policy", action) {
            return Some(Err(refused));
        }
        let project = match self.project(route, project) {
            Ok(project) => project.id,
            Err(refused) => return Some(Err(refused)),
        };
        Some(match (method, rest) {
            (&Method::GET, []) => {
                let mut all: Vec<&Policy> = self.policies.iter().filter(|p| p.project == project).collect();
                all.sort_by_key(|p| -p.id);
                let all: Vec<Value> = all.iter().map(|p| p.shown.clone()).collect();
                Ok(route.page(&all))
            }
            (&Method::POST, []) => self.create_policy(route, project),
            (_, [id, more @ ..]) => self.one_policy(route, project, id, more),
            _ => return None,
        })
    }

    fn create_policy(&mut self, route: &Route<'_>, project: i64) -> Result<Answer, Answer> {
        let body = checked(&route.body("policy")?)?;
        let id = self.draw("policy");
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if self.policies.iter().any(|p| p.project == project && p.shown["name"] == name) {
            let text = format!("notification policy named {name} already exists");
            return Err(Answer::error(409, "CONFLICT", &text));
        }
        let shown = shown(&body, id, project);
        self.policies.push(Policy { id, project, shown, executions: Vec::new() });
        let name = &self.projects.iter().find(|p| p.id == project).unwrap().name;
        Ok(Answer::empty(201).header("Location", format!("/api/v2.0/projects/{name}/webhook/policies/{id}")))
    }

    fn one_policy(
        &mut self,
        route: &Route<'_>,
        project: i64,
        id: &str,
        more: &[&str],
    ) -> Result<Answer, Answer> {
        let position = self.policies.iter().position(|p| p.project == project && p.id.to_string() == id);
        let Some(position) = position else {
            return Err(Answer::missing(&format!("notificationPolicy {id} not found")));
        };
        match (&route.asked.method, more) {
            (&Method::GET, []) => Ok(Answer::json(200, &self.policies[position].shown)),
            (&Method::GET, ["executions"]) => {
                let mut all = self.policies[position].executions.clone();
                if route.query.get("sort").is_some_and(|s| s == "id") {
                    all.sort_by_key(|e| e["id"].as_i64());
                }
                Ok(route.page(&all))
            }
            (&Method::PUT, []) => {
                let body = checked(&route.body("policy")?)?;
                self.policies[position].shown = shown(&body, self.policies[position].id, project);
                Ok(Answer::empty(200))
            }
            (&Method::DELETE, []) if self.busy_policies > 0 => {
                self.busy_policies -= 1;
                Err(Answer::error(412, "PRECONDITION", "the policy has executions that are running"))
            }
            (&Method::DELETE, []) => {
                self.policies.remove(position);
                Ok(Answer::empty(200))
            }
            _ => Err(Answer::missing(&format!("path {} was not found", route.path))),
        }
    }
}

fn checked(body: &Value) -> Result<Value, Answer> {
    let name = body["name"].as_str().unwrap_or_default();
    let targets = body["targets"].as_array().cloned().unwrap_or_default();
    if targets.is_empty() {
        return Err(Answer::bad(&format!("empty notification target with policy {name}")));
    }
    for target in &targets {
        let kind = target["type"].as_str().unwrap_or_default();
        if !matches!(kind, "http" | "slack") {
            return Err(Answer::bad(&format!("unsupported target type {kind} with policy {name}")));
        }
        let address = target["address"].as_str().unwrap_or_default();
        if address.contains(' ') {
            let text = format!("parse \"http://{address}\": invalid character \" \" in host name");
            return Err(Answer::bad(&text));
        }
        let format = target["payload_format"].as_str().unwrap_or("Default");
        if !matches!(format, "Default" | "CloudEvents") {
            return Err(Answer::bad(&format!("unsupported payload format type: {format}")));
        }
    }
    let events = body["event_types"].as_array().cloned().unwrap_or_default();
    if events.is_empty() {
        return Err(Answer::bad("empty event type"));
    }
    if let Some(unknown) = events.iter().map(|e| e.as_str().unwrap()).find(|e| !EVENTS.contains(e)) {
        return Err(Answer::bad(&format!("unsupported event type {unknown}")));
    }
    Ok(body.clone())
}

/// What is empty or false is left out.
fn shown(body: &Value, id: i64, project: i64) -> Value {
    let targets: Vec<Value> = body["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| {
            let mut shown = json!({ "type": target["type"], "address": target["address"],
            "payload_format": target["payload_format"].as_str().unwrap_or("Default") });
            if let Some(header) = target["auth_header"].as_str().filter(|h| !h.is_empty()) {
                shown["auth_header"] = json!(header);
            }
            if target["skip_cert_verify"] == true {
                shown["skip_cert_verify"] = json!(true);
            }
            shown
        })
        .collect();
    let mut shown = json!({ "id": id, "project_id": project, "name": body["name"],
        "enabled": body["enabled"].as_bool().unwrap_or(false), "event_types": body["event_types"], "targets": targets });
    if let Some(text) = body["description"].as_str().filter(|t| !t.is_empty()) {
        shown["description"] = json!(text);
    }
    shown
}

/// What was pushed is told to each policy of the project, in the background and once; how that ended is an execution.
#[allow(dead_code, reason = "only tests of whole programs push and have a target")]
pub(crate) fn tell(shared: &Arc<Mutex<Shared>>, repository: &str, reference: &str, digest: &str) {
    let (project, name) = repository.split_once('/').unwrap();
    let joint = if reference.contains(':') { '@' } else { ':' };
    let mut held = shared.lock().unwrap();
    let Some(deliver) = held.deliver.clone() else { return };
    let world = &mut held.world;
    let payload = json!({ "type": "PUSH_ARTIFACT", "occur_at": world.now.as_second(), "operator": "admin", "event_data": {
        "resources": [{ "digest": digest, "tag": reference, "resource_url": format!("{}/{repository}{joint}{reference}", super::system::HOST) }],
        "repository": { "date_created": world.now.as_second(), "name": name, "namespace": project,
            "repo_full_name": repository, "repo_type": "private" } } });
    let Some(id) = world.projects.iter().find(|p| p.name == project).map(|p| p.id) else { return };
    let wants = |p: &&Policy| {
        let events = p.shown["event_types"].as_array().unwrap();
        p.project == id && p.shown["enabled"] == true && events.iter().any(|e| e == "PUSH_ARTIFACT")
    };
    let wanted: Vec<(i64, Value)> =
        world.policies.iter().filter(wants).map(|p| (p.id, p.shown["targets"][0].clone())).collect();
    for (policy, target) in wanted {
        let execution = world.draw("execution");
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        let told = deliver(text("address"), text("auth_header"), payload.clone());
        let (shared, payload) = (shared.clone(), payload.to_string());
        tokio::spawn(async move {
            let status = if told.await { "Success" } else { "Error" };
            let mut shared = shared.lock().unwrap();
            if let Some(policy) = shared.world.policies.iter_mut().find(|p| p.id == policy) {
                // The latest first.
                policy.executions.insert(
                    0,
                    json!({ "id": execution, "status": status, "trigger": "EVENT",
                    "vendor_id": policy.id, "vendor_type": "WEBHOOK",
                    "extra_attrs": { "event_type": "PUSH_ARTIFACT", "payload": payload } }),
                );
            }
        });
    }
}
