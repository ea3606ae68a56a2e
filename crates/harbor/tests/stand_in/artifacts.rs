//! Repositories, artifacts and tags.

use http::Method;
use serde_json::{Value, json};

use super::world::{Answer, Route, World};

#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) id: i64,
    pub(crate) project: String,
    pub(crate) project_id: i64,
    /// Below the project.
    pub(crate) name: String,
    /// As they are shown, with their tags.
    pub(crate) artifacts: Vec<Value>,
}

impl Repository {
    fn full_name(&self) -> String {
        format!("{}/{}", self.project, self.name)
    }

    fn shown(&self) -> Value {
        json!({ "id": self.id, "name": self.full_name(), "artifact_count": self.artifacts.len(),
            "project_id": self.project_id })
    }

    /// By tag or digest.
    fn position(&self, reference: &str) -> Option<usize> {
        self.artifacts
            .iter()
            .position(|a| a["digest"] == reference || tags(a).iter().any(|t| t["name"] == reference))
    }
}

fn tags(artifact: &Value) -> Vec<Value> {
    artifact["tags"].as_array().cloned().unwrap_or_default()
}

impl World {
    pub(crate) fn artifacts(&mut self, route: &Route<'_>, project: &str, rest: &[&str]) -> Option<Answer> {
        let method = &route.asked.method;
        let (resource, action) = match (method, rest) {
            (&Method::GET, []) => ("repository", "list"),
            (&Method::GET, [_]) => ("repository", "read"),
            (&Method::DELETE, [_]) => ("repository", "delete"),
            (&Method::GET, [_, "artifacts"]) => ("artifact", "list"),
            (&Method::GET, [_, "artifacts", _]) => ("artifact", "read"),
            (&Method::DELETE, [_, "artifacts", _]) => ("artifact", "delete"),
            (&Method::GET, [_, "artifacts", _, "tags"]) => ("tag", "list"),
            (&Method::DELETE, [_, "artifacts", _, "tags", _]) => ("tag", "delete"),
            _ => return None,
        };
        if let Some(refused) = self.refused(&route.who, "project", project, resource, action) {
            return Some(refused);
        }
        if rest.is_empty() {
            let all: Vec<Value> =
                self.repositories.iter().filter(|r| r.project == project).map(Repository::shown).collect();
            return Some(route.page(&all));
        }
        let place = self.repositories.iter().position(|r| r.project == project && r.name == rest[0]);
        let Some(place) = place else {
            // Of an unknown repository, and of an unknown project, there is an empty list.
            let listing = matches!(rest, [_, "artifacts"]);
            let text = format!("repository {project}/{} not found", rest[0]);
            return Some(if listing { route.page(&[]) } else { Answer::missing(&text) });
        };
        Some(match (method, rest) {
            (&Method::GET, [_]) => Answer::json(200, &self.repositories[place].shown()),
            (&Method::DELETE, [_]) => {
                self.repositories.remove(place);
                Answer::empty(200)
            }
            (_, [_, "artifacts"]) => list(route, &self.repositories[place]),
            (_, [_, "artifacts", reference, more @ ..]) => {
                one(route, &mut self.repositories[place], reference, more)
            }
            _ => return None,
        })
    }
}

fn list(route: &Route<'_>, repository: &Repository) -> Answer {
    let mut all = repository.artifacts.clone();
    if let Some((_, value)) = route.query.get("q").and_then(|q| q.split_once("tags=")) {
        if value.starts_with('[') {
            let text = "the value of \"tags\" query can only be fuzzy match value or exact match value";
            return Answer::bad(text);
        }
        all.retain(|a| tags(a).iter().any(|t| t["name"] == value));
    }
    all.sort_by_key(|a| std::cmp::Reverse(a["push_time"].as_str().unwrap().to_owned()));
    route.page(&all)
}

fn one(route: &Route<'_>, repository: &mut Repository, reference: &str, more: &[&str]) -> Answer {
    let joint = if reference.contains(':') { '@' } else { ':' };
    let Some(position) = repository.position(reference) else {
        return Answer::missing(&format!("artifact {}{joint}{reference} not found", repository.full_name()));
    };
    let artifact = &mut repository.artifacts[position];
    let mut kept = tags(artifact);
    match (&route.asked.method, more) {
        (&Method::GET, []) => Answer::json(200, artifact),
        (&Method::GET, _) => route.page(&kept),
        (_, []) => {
            let digest = artifact["digest"].clone();
            let held = |a: &Value| {
                a["references"].as_array().is_some_and(|all| all.iter().any(|r| r["child_digest"] == digest))
            };
            if repository.artifacts.iter().any(held) {
                let text = "the deleting artifact is referenced by others";
                return Answer::error(412, "VIOLATE_FOREIGN_KEY_CONSTRAINT", text);
            }
            repository.artifacts.remove(position);
            Answer::empty(200)
        }
        (_, [_, tag]) => {
            let before = kept.len();
            kept.retain(|t| t["name"] != *tag);
            if kept.len() == before {
                return Answer::missing(&format!("tag {tag} attached to artifact not found"));
            }
            artifact["tags"] = if kept.is_empty() { Value::Null } else { json!(kept) };
            Answer::empty(200)
        }
        _ => Answer::missing(&format!("path {} was not found", route.path)),
    }
}
