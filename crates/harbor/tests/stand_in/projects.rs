//! Projects.

use http::Method;
use serde_json::{Value, json};

use super::world::{Answer, Route, Who, World, is_name};

#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) public: bool,
}

impl Project {
    fn shown(&self, repositories: usize) -> Value {
        json!({ "project_id": self.id, "name": self.name, "repo_count": repositories,
            "metadata": { "public": self.public.to_string() } })
    }
}

impl World {
    /// By name, or by number where the name looks like one and the request does not say that it is a name.
    pub(crate) fn project(&self, route: &Route<'_>, text: &str) -> Result<Project, Answer> {
        let by_name = route.asked.headers.get("X-Is-Resource-Name").is_some_and(|v| v == "true");
        let id = text.parse::<i64>().ok().filter(|_| !by_name);
        let found = self.projects.iter().find(|p| id.map_or(p.name == text, |id| p.id == id));
        found.cloned().ok_or_else(|| Answer::missing(&format!("project {text} not found")))
    }

    pub(crate) fn projects(&mut self, route: &Route<'_>, rest: &[&str]) -> Option<Answer> {
        Some(match (&route.asked.method, rest) {
            (&Method::HEAD, []) => self.head_project(route),
            (&Method::GET, []) => self.list_projects(route),
            (&Method::POST, []) => self.create_project(route).unwrap_or_else(|refused| refused),
            (_, []) => {
                let text = format!("method {} is not allowed, but [HEAD,POST,GET] are", route.asked.method);
                Answer::error(405, "METHOD_NOT_ALLOWED", &text)
            }
            (_, [name]) => self.one_project(route, name).unwrap_or_else(|refused| refused),
            _ => return None,
        })
    }

    fn head_project(&self, route: &Route<'_>) -> Answer {
        let name = route.query.get("project_name").map_or("", String::as_str);
        match route.who {
            Who::Nobody => Answer::empty(401),
            _ if self.projects.iter().any(|p| p.name == name) => Answer::empty(200),
            _ => Answer::empty(404),
        }
    }

    fn list_projects(&self, route: &Route<'_>) -> Answer {
        let name = route.query.get("name").map_or("", String::as_str);
        let mut all: Vec<&Project> = self
            .projects
            .iter()
            .filter(|p| p.name.contains(name) && (p.public || route.who != Who::Nobody))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let shown: Vec<Value> = all.iter().map(|p| p.shown(self.repository_count(&p.name))).collect();
        route.page(&shown)
    }

    fn repository_count(&self, project: &str) -> usize {
        self.repositories.iter().filter(|r| r.project == project).count()
    }

    fn create_project(&mut self, route: &Route<'_>) -> Result<Answer, Answer> {
        let body = route.body("project")?;
        let name = body["project_name"].as_str().unwrap_or_default().to_owned();
        let public = public_of(&body)?.unwrap_or(false);
        if name.chars().count() > 255 {
            let text = "validation failure list:\nproject_name in body should be at most 255 chars long";
            return Err(Answer::invalid(text));
        }
        if let Some(refused) = self.refused(&route.who, "system", "/", "project", "create") {
            return Err(refused);
        }
        if !is_name(&name) {
            return Err(Answer::bad("project name is not in lower case or contains illegal characters"));
        }
        let id = self.draw("project");
        if self.projects.iter().any(|p| p.name == name) {
            let text = format!("The project named {name} already exists");
            return Err(Answer::error(409, "CONFLICT", &text));
        }
        let by_name = route.asked.headers.contains_key("X-Resource-Name-In-Location");
        let place = if by_name { name.clone() } else { id.to_string() };
        self.projects.push(Project { id, name, public });
        Ok(Answer::empty(201).header("Location", format!("/api/v2.0/projects/{place}")))
    }

    fn one_project(&mut self, route: &Route<'_>, name: &str) -> Result<Answer, Answer> {
        let action = match route.asked.method {
            Method::GET => "read",
            Method::PUT => "update",
            _ => "delete",
        };
        if let Some(refused) = self.refused(&route.who, "project", name, "project", action) {
            return Err(refused);
        }
        let project = self.project(route, name)?;
        match route.asked.method {
            Method::GET => Ok(Answer::json(200, &project.shown(self.repository_count(&project.name)))),
            Method::PUT => {
                let body = route.body("project")?;
                let public = public_of(&body)?;
                let kept = self.projects.iter_mut().find(|p| p.id == project.id).unwrap();
                kept.public = public.unwrap_or(kept.public);
                Ok(Answer::empty(200))
            }
            _ if self.repository_count(&project.name) > 0 => {
                let text = "the project contains repositories, can not be deleted";
                Err(Answer::error(412, "PRECONDITION", text))
            }
            _ => {
                self.projects.retain(|p| p.id != project.id);
                self.policies.retain(|p| p.project != project.id);
                Ok(Answer::empty(200))
            }
        }
    }
}

fn public_of(body: &Value) -> Result<Option<bool>, Answer> {
    match &body["metadata"]["public"] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text == "true")),
        _ => Err(Answer::invalid(
            "parsing project body from \"\" failed, because json: cannot unmarshal bool into Go struct field ProjectMetadata.metadata.public of type string",
        )),
    }
}
