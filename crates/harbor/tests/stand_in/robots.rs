//! Robots: the rule for names, what is refused and in which words, and the arithmetic of their end.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::world::{Answer, Route, Who, World, is_name};

/// What a robot may be given by project, and for the system. `robot:update` is not among it.
const PROJECT: &[(&str, &[&str])] = &[
    ("repository", &["read", "update", "delete", "list", "pull", "push"]),
    ("artifact", &["read", "create", "delete", "list"]),
    ("tag", &["create", "delete", "list"]),
    ("project", &["read", "update", "delete"]),
    ("notification-policy", &["create", "read", "update", "delete", "list"]),
];
const SYSTEM: &[(&str, &[&str])] =
    &[("robot", &["create", "read", "list", "delete"]), ("project", &["create", "list"])];

#[derive(Clone, Debug)]
pub(crate) struct Robot {
    pub(crate) id: i64,
    /// Without prefix.
    pub(crate) name: String,
    /// The project of one that is not of system level.
    pub(crate) project: Option<String>,
    pub(crate) secret: String,
    pub(crate) created: Timestamp,
    pub(crate) duration: i64,
    pub(crate) expires_at: i64,
    pub(crate) disabled: bool,
    pub(crate) description: String,
    /// As it was given.
    pub(crate) permissions: Vec<Value>,
    pub(crate) creator: Who,
}

impl Robot {
    pub(crate) fn full_name(&self) -> String {
        match &self.project {
            Some(project) => format!("robot${project}+{}", self.name),
            None => format!("robot${}", self.name),
        }
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at != -1 && self.expires_at <= now.as_second()
    }

    fn level(&self) -> &'static str {
        if self.project.is_some() { "project" } else { "system" }
    }

    pub(crate) fn may(&self, kind: &str, namespace: &str, resource: &str, action: &str) -> bool {
        let held = |p: &Value| {
            p["kind"] == kind && (p["namespace"] == namespace || kind == "project" && p["namespace"] == "*")
        };
        let right = json!({ "resource": resource, "action": action });
        self.permissions.iter().any(|p| held(p) && p["access"].as_array().unwrap().contains(&right))
    }

    fn shown(&self, turn: usize) -> Value {
        let mut permissions = self.permissions.clone();
        for permission in &mut permissions {
            let access = permission["access"].as_array_mut().unwrap();
            let length = access.len();
            access.rotate_left(turn % length);
        }
        let (creator, kind) = match self.creator {
            Who::Robot(id) => (id, "robot"),
            _ => (1, "local"),
        };
        let mut shown = json!({
            "id": self.id, "name": self.full_name(), "level": self.level(), "duration": self.duration,
            "creation_time": format!("{:.3}", self.created), "expires_at": self.expires_at, "disable": self.disabled,
            "editable": true, "creator_ref": creator, "creator_type": kind, "permissions": permissions,
        });
        if !self.description.is_empty() {
            shown["description"] = json!(self.description);
        }
        shown
    }
}

/// To the second, counted from the creation.
fn expiry(created: Timestamp, duration: i64) -> i64 {
    if duration == -1 { -1 } else { created.as_second() + duration * 86_400 }
}

impl World {
    pub(crate) fn robots(&mut self, route: &Route<'_>, rest: &[&str]) -> Option<Answer> {
        let answer = match (&route.asked.method, rest) {
            (&Method::GET, []) => self.list_robots(route),
            (&Method::POST, []) => self.create_robot(route),
            (_, [id]) => self.one_robot(route, id),
            _ => return None,
        };
        Some(answer.unwrap_or_else(|refused| refused))
    }

    fn list_robots(&mut self, route: &Route<'_>) -> Result<Answer, Answer> {
        if let Some(refused) = self.refused(&route.who, "system", "/", "robot", "list") {
            return Err(refused);
        }
        let (mut level, mut project, mut name) = ("system", None, None);
        for part in route.query.get("q").iter().flat_map(|q| q.split(',')) {
            match part.split_once('=') {
                Some(("name", value)) => name = Some(value),
                Some(("Level", value)) => level = value,
                Some(("ProjectID", value)) => project = value.parse::<i64>().ok(),
                _ => {
                    let text = "the query string must contain \"=\" and the key/value cannot be empty";
                    return Err(Answer::bad(text));
                }
            }
        }
        if !matches!(level, "system" | "project") {
            return Err(Answer::bad("bad request error level input"));
        }
        if level == "project" && project.is_none() {
            return Err(Answer::bad("must with project ID when to query project robots"));
        }
        let project = self.projects.iter().find(|p| Some(p.id) == project).map(|p| p.name.clone());
        let wanted = |robot: &&Robot| {
            robot.project == project
                && name.is_none_or(|name| match name.strip_prefix('~') {
                    Some(part) => robot.name.contains(part),
                    None => robot.name == name,
                })
        };
        let mut all: Vec<&Robot> = self.robots.iter().filter(wanted).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.reads += 1;
        let turn = if self.shuffle { self.reads } else { 0 };
        let shown: Vec<Value> = all.iter().map(|r| r.shown(turn)).collect();
        if let Some(gone) = self.vanishing.pop() {
            self.robots.retain(|r| r.id != gone);
        }
        Ok(route.page(&shown))
    }

    fn create_robot(&mut self, route: &Route<'_>) -> Result<Answer, Answer> {
        let body = route.body("robot")?;
        if body["duration"].is_string() {
            let text = "parsing robot body from \"\" failed, because json: cannot unmarshal string into Go struct field RobotCreate.duration of type int64";
            return Err(Answer::invalid(text));
        }
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(Answer::bad("robot name is not in lower case or contains illegal characters"));
        }
        let level = body["level"].as_str().unwrap_or_default();
        let duration = body["duration"].as_i64().unwrap_or(0);
        let permissions = validated(duration, level, &body)?;
        let project = (level == "project").then(|| permissions[0]["namespace"].as_str().unwrap().to_owned());
        if let Some(refused) = self.refused(&route.who, "system", "/", "robot", "create") {
            return Err(refused);
        }
        check_rights(&permissions)?;
        self.check_scope(&route.who, &permissions)?;
        if name.len() > 255 {
            return Err(Answer::error(500, "UNKNOWN", "internal server error"));
        }
        let id = self.draw("robot");
        if self.robots.iter().any(|r| r.name == name && r.project == project) {
            let scope =
                project.and_then(|name| self.projects.iter().find(|p| p.name == name)).map_or(0, |p| p.id);
            let text = format!("robot account {scope}:{name} already exists");
            return Err(Answer::error(409, "CONFLICT", &text));
        }
        self.check_projects(&permissions)?;
        let secret = self.fresh_secret();
        let robot = Robot {
            id,
            name,
            project,
            secret: secret.clone(),
            created: self.now,
            duration,
            expires_at: expiry(self.now, duration),
            // `disable` and `secret` of the body are ignored here.
            disabled: false,
            description: body["description"].as_str().unwrap_or_default().to_owned(),
            permissions,
            creator: route.who.clone(),
        };
        let answer = json!({ "id": id, "name": robot.full_name(), "secret": secret,
            "creation_time": format!("{:.3}", robot.created), "expires_at": robot.expires_at });
        self.robots.push(robot);
        Ok(Answer::json(201, &answer).header("Location", format!("/api/v2.0/robots/{id}")))
    }

    fn one_robot(&mut self, route: &Route<'_>, id: &str) -> Result<Answer, Answer> {
        let method = route.asked.method.clone();
        let body = match method {
            Method::PUT => route.body("robot")?,
            Method::PATCH => route.body("robotSec")?,
            _ => Value::Null,
        };
        let Ok(number) = id.parse::<i64>() else {
            return Err(Answer::invalid(&format!("robot_id in path must be of type int64: {id:?}")));
        };
        let position = self.robots.iter().position(|r| r.id == number);
        let action = match method {
            Method::GET => "read",
            Method::DELETE => "delete",
            _ => "update",
        };
        let refused = self.refused(&route.who, "system", "/", "robot", action);
        // Nobody is told first; of a robot that is not there everybody else is told that.
        if let Some(refused) = refused.filter(|_| position.is_some() || route.who == Who::Nobody) {
            return Err(refused);
        }
        let Some(position) = position else {
            return Err(Answer::missing(&format!("robot {number} not found")));
        };
        match method {
            Method::GET => {
                self.reads += 1;
                let turn = if self.shuffle { self.reads } else { 0 };
                Ok(Answer::json(200, &self.robots[position].shown(turn)))
            }
            Method::DELETE => {
                self.robots.remove(position);
                Ok(Answer::empty(200))
            }
            Method::PATCH => self.patch_robot(position, body["secret"].as_str().unwrap_or_default()),
            _ => self.put_robot(position, &body),
        }
    }

    fn patch_robot(&mut self, position: usize, secret: &str) -> Result<Answer, Answer> {
        if secret.is_empty() {
            let fresh = self.fresh_secret();
            self.robots[position].secret.clone_from(&fresh);
            return Ok(Answer::json(200, &json!({ "secret": fresh })));
        }
        let has = |kind: fn(&u8) -> bool| secret.as_bytes().iter().any(kind);
        let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
        if !(8..=128).contains(&secret.len()) || !mixed {
            return Err(Answer::bad(
                "the secret must be 8-128, inclusively, characters long with at least 1 uppercase letter, 1 lowercase letter and 1 number",
            ));
        }
        self.robots[position].secret = secret.to_owned();
        Ok(Answer::json(200, &json!({})))
    }

    fn put_robot(&mut self, position: usize, body: &Value) -> Result<Answer, Answer> {
        let robot = self.robots[position].clone();
        // Left out, the duration stays.
        let duration = body["duration"].as_i64().unwrap_or(robot.duration);
        let level = body["level"].as_str().unwrap_or_default();
        let permissions = validated(duration, level, body)?;
        if level != robot.level() || body["name"] != robot.full_name() {
            return Err(Answer::bad("cannot update the level or name of robot"));
        }
        check_rights(&permissions)?;
        self.check_projects(&permissions)?;
        let changed = &mut self.robots[position];
        if duration != changed.duration {
            changed.duration = duration;
            changed.expires_at = expiry(changed.created, duration);
        }
        changed.permissions = permissions;
        changed.disabled = body["disable"].as_bool().unwrap_or(false);
        changed.description = body["description"].as_str().unwrap_or_default().to_owned();
        Ok(Answer::empty(200))
    }

    fn fresh_secret(&mut self) -> String {
        format!("Secret{:026}", self.draw("secret"))
    }

    fn check_projects(&self, permissions: &[Value]) -> Result<(), Answer> {
        for permission in permissions.iter().filter(|p| p["kind"] == "project" && p["namespace"] != "*") {
            let name = permission["namespace"].as_str().unwrap_or_default();
            if !self.projects.iter().any(|p| p.name == name) {
                return Err(Answer::missing(&format!("project {name} not found")));
            }
        }
        Ok(())
    }

    /// A robot gives no rights that it does not have.
    fn check_scope(&self, who: &Who, permissions: &[Value]) -> Result<(), Answer> {
        let Who::Robot(id) = who else { return Ok(()) };
        let robot = self.robots.iter().find(|r| r.id == *id).unwrap();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let within = permissions.iter().all(|p| {
            p["access"].as_array().unwrap().iter().all(|a| {
                robot.may(
                    &text(&p["kind"]),
                    &text(&p["namespace"]),
                    &text(&a["resource"]),
                    &text(&a["action"]),
                )
            })
        });
        let refused = format!(
            "permission scope is invalid. It must be equal to or more restrictive than the creator robot's permissions: {}",
            robot.full_name()
        );
        if within { Ok(()) } else { Err(Answer::error(403, "DENIED", &refused)) }
    }
}

fn validated(duration: i64, level: &str, body: &Value) -> Result<Vec<Value>, Answer> {
    if duration != -1 && !(1..i64::from(i32::MAX)).contains(&duration) {
        return Err(Answer::bad(&format!(
            "bad request error duration input: {duration}, duration must be either -1(Never) or a positive integer"
        )));
    }
    if !matches!(level, "system" | "project") {
        return Err(Answer::bad(&format!("bad request error level input: {level}")));
    }
    let permissions = body["permissions"].as_array().cloned().unwrap_or_default();
    if permissions.is_empty() {
        return Err(Answer::bad("bad request empty permission"));
    }
    if permissions.iter().any(|p| p["access"].as_array().is_none_or(Vec::is_empty)) {
        return Err(Answer::bad("bad request empty access"));
    }
    if level == "project" && permissions.len() > 1 {
        return Err(Answer::bad("bad request permission"));
    }
    // One project twice becomes one.
    let mut merged: Vec<Value> = Vec::new();
    for permission in permissions {
        let same =
            |p: &&mut Value| p["kind"] == permission["kind"] && p["namespace"] == permission["namespace"];
        match merged.iter_mut().find(same) {
            Some(kept) => {
                let more = permission["access"].as_array().unwrap().iter().cloned();
                kept["access"].as_array_mut().unwrap().extend(more);
            }
            None => merged.push(permission),
        }
    }
    Ok(merged)
}

fn check_rights(permissions: &[Value]) -> Result<(), Answer> {
    for permission in permissions {
        let kind = permission["kind"].as_str().unwrap_or_default();
        let known = match kind {
            "project" => PROJECT,
            "system" => SYSTEM,
            _ => return Err(Answer::bad(&format!("bad request permission level: {kind}"))),
        };
        for access in permission["access"].as_array().unwrap() {
            let (resource, action) =
                (access["resource"].as_str().unwrap(), access["action"].as_str().unwrap());
            if !known.iter().any(|(r, actions)| *r == resource && actions.contains(&action)) {
                return Err(Answer::bad(&format!("bad request permission: {resource}:{action}")));
            }
        }
    }
    Ok(())
}
