//! What the stand-in knows, who asks, and the way to the part that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use hyper::body::Bytes;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{BAD_GATEWAY, artifacts, projects, robots, system, webhooks};

/// What a browser would send back, and a client of the API never does.
pub(crate) const CSRF_TOKEN: &str = "c5f7";

/// A request with its body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query as they stand in the request line.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), text: String::new() }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self { text: format!("{value}\n"), ..Self::empty(status) }.header("Content-Type", "application/json")
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub(crate) fn bad(message: &str) -> Self {
        Self::error(400, "BAD_REQUEST", message)
    }

    pub(crate) fn missing(message: &str) -> Self {
        Self::error(404, "NOT_FOUND", message)
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::error(422, "UNPROCESSABLE_ENTITY", &format!("validation failure list:\n{message}"))
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Who asks, as far as Harbor knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    Admin,
    Robot(i64),
}

/// What is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// PostgreSQL: nobody is known any more.
    Database,
    /// The core: nginx alone answers.
    Core,
    /// Redis: the health check waits for it this long.
    Redis(Duration),
    /// The registry behind the core.
    Registry,
}

/// All that the stand-in knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) admin_password: String,
    pub(crate) projects: Vec<projects::Project>,
    pub(crate) robots: Vec<robots::Robot>,
    pub(crate) policies: Vec<webhooks::Policy>,
    pub(crate) repositories: Vec<artifacts::Repository>,
    pub(crate) outage: Option<Outage>,
    /// The health check still says what was so before the outage.
    pub(crate) stale_health: bool,
    /// How often the deletion of a policy is refused with 412.
    pub(crate) busy_policies: usize,
    /// Rights come in another order at each read.
    pub(crate) shuffle: bool,
    pub(crate) reads: usize,
    /// Robots that others delete, one after each page of a listing.
    pub(crate) vanishing: Vec<i64>,
    next: BTreeMap<&'static str, i64>,
}

impl Default for World {
    fn default() -> Self {
        let library = projects::Project { id: 1, name: "library".to_owned(), public: true };
        Self {
            now: "2026-11-21T09:21:00.000Z".parse().unwrap(),
            admin_password: "Harbor12345".to_owned(),
            projects: vec![library],
            robots: Vec::new(),
            policies: Vec::new(),
            repositories: Vec::new(),
            outage: None,
            stale_health: false,
            busy_policies: 0,
            shuffle: false,
            reads: 0,
            vanishing: Vec::new(),
            next: BTreeMap::from([("project", 1), ("robot", 0), ("policy", 0), ("secret", 0)]),
        }
    }
}

/// A request on its way: the path's segments, decoded, and the query.
pub(crate) struct Route<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) who: Who,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
}

impl World {
    /// The next number of a sequence. As in PostgreSQL, a number that a failed insert drew is gone.
    pub(crate) fn draw(&mut self, sequence: &'static str) -> i64 {
        let next = self.next.entry(sequence).or_default();
        *next += 1;
        *next
    }

    /// From now on numbers above this are drawn.
    pub(crate) fn drawn(&mut self, sequence: &'static str, last: i64) {
        self.next.insert(sequence, last);
    }

    pub(crate) fn delay(&self, asked: &Asked) -> Duration {
        match self.outage {
            Some(Outage::Redis(time)) if asked.target.ends_with("/health") => time,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn answer(&mut self, asked: &Asked) -> Answer {
        if self.outage == Some(Outage::Core) {
            let answer = Answer { text: BAD_GATEWAY.to_owned(), ..Answer::empty(502) };
            return answer.header("Content-Type", "text/html");
        }
        let mut answer = match self.csrf(asked) {
            Some(refused) => refused,
            None => self.route(asked),
        };
        if asked.method == Method::HEAD {
            answer.text.clear();
        }
        // The session that a client must not take up.
        answer.header("Set-Cookie", "sid=5e551; Path=/; HttpOnly")
    }

    /// A session cookie turns CSRF protection on for everything that changes something, also beside Basic.
    fn csrf(&self, asked: &Asked) -> Option<Answer> {
        let with_session =
            asked.headers.get_all("Cookie").iter().any(|c| c.to_str().unwrap().contains("sid="));
        if !with_session || matches!(asked.method, Method::GET | Method::HEAD) {
            return None;
        }
        let text = match asked.headers.get("X-Harbor-CSRF-Token") {
            Some(token) if token == CSRF_TOKEN => return None,
            Some(_) => "CSRF token invalid",
            None => "CSRF token not found in request",
        };
        Some(Answer::error(403, "FORBIDDEN", text).header("X-Harbor-Csrf-Token", CSRF_TOKEN))
    }

    fn route(&mut self, asked: &Asked) -> Answer {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        // The proxy before the core decodes once.
        let path = percent_decode_str(path).decode_utf8().unwrap().into_owned();
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let route = Route { asked, who: self.who(asked), path: path.clone(), query };
        if path == "/v2/" {
            return self.v2(&route);
        }
        let segments: Option<Vec<String>> = path.strip_prefix("/api/v2.0/").map(|rest| {
            rest.split('/').map(|s| percent_decode_str(s).decode_utf8().unwrap().into_owned()).collect()
        });
        let segments = segments.unwrap_or_default();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let database_down = self.outage == Some(Outage::Database);
        if database_down && asked.method == Method::POST {
            return Answer::error(500, "UNKNOWN", "internal server error");
        }
        if route.query.get("page_size").and_then(|s| s.parse::<u64>().ok()).is_some_and(|n| n > 100) {
            return Answer::invalid("page_size in query should be less than or equal to 100");
        }
        let answer = match segments.as_slice() {
            ["robots", rest @ ..] => self.robots(&route, rest),
            ["projects", project, "webhook", "policies", rest @ ..] => self.webhooks(&route, project, rest),
            ["projects", project, "repositories", rest @ ..] => self.artifacts(&route, project, rest),
            ["projects", rest @ ..] => self.projects(&route, rest),
            [one] => self.system(&route, one),
            _ => None,
        };
        answer.unwrap_or_else(|| Answer::missing(&format!("path {path} was not found")))
    }

    /// Wrong credentials make a nobody, not an error.
    pub(crate) fn who(&self, asked: &Asked) -> Who {
        if self.outage == Some(Outage::Database) {
            return Who::Nobody;
        }
        let Some((name, password)) = credentials(asked) else { return Who::Nobody };
        if name == "admin" && password == self.admin_password {
            return Who::Admin;
        }
        match self.robots.iter().find(|r| r.full_name() == name && r.secret == password) {
            Some(robot) if !robot.disabled && !robot.has_expired(self.now) => Who::Robot(robot.id),
            _ => Who::Nobody,
        }
    }

    /// Whether they may do it there: an answer that refuses, if not.
    pub(crate) fn refused(
        &self,
        who: &Who,
        kind: &str,
        namespace: &str,
        resource: &str,
        action: &str,
    ) -> Option<Answer> {
        let id = match who {
            Who::Admin => return None,
            Who::Nobody => return Some(Answer::error(401, "UNAUTHORIZED", "unauthorized")),
            Who::Robot(id) => id,
        };
        let robot = self.robots.iter().find(|r| r.id == *id).unwrap();
        if robot.may(kind, namespace, resource, action) {
            return None;
        }
        // Of the system's parts Harbor names who asked.
        let text =
            if kind == "system" && resource == "robot" { robot.full_name() } else { "forbidden".to_owned() };
        Some(Answer::error(403, "FORBIDDEN", &text))
    }

    fn v2(&self, route: &Route<'_>) -> Answer {
        let refuse = |challenge: &str| {
            Answer::error(401, "UNAUTHORIZED", "unauthorized: unauthorized")
                .header("Docker-Distribution-Api-Version", "registry/2.0")
                .header("Www-Authenticate", challenge)
        };
        match (&route.who, credentials(route.asked)) {
            (Who::Nobody, None) => refuse(&format!(
                r#"Bearer realm="http://{}/service/token",service="harbor-registry""#,
                system::HOST
            )),
            (Who::Nobody, Some(_)) => refuse(r#"Basic realm="harbor""#),
            _ => Answer::json(200, &json!({})).header("Docker-Distribution-Api-Version", "registry/2.0"),
        }
    }
}

pub(crate) fn credentials(asked: &Asked) -> Option<(String, String)> {
    let header = asked.headers.get("Authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(header).ok()?).ok()?;
    let (name, password) = pair.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

impl Route<'_> {
    /// The body as JSON, or 422 in the words of Harbor's router.
    pub(crate) fn body(&self, what: &str) -> Result<Value, Answer> {
        let content_type = self.asked.headers.get("Content-Type").map_or("", |v| v.to_str().unwrap());
        if self.asked.body.is_empty() {
            return Err(Answer::invalid(&format!("{what} in body is required")));
        }
        if !content_type.starts_with("application/json") {
            return Err(Answer::invalid(&format!(
                "unsupported media type {content_type:?}, only [application/json] are allowed"
            )));
        }
        serde_json::from_slice(&self.asked.body).map_err(|_| {
            let text = "invalid character 'n' looking for beginning of object key string";
            Answer::invalid(&format!("parsing {what} body from \"\" failed, because {text}"))
        })
    }

    /// One page of all, with the headers that tell of the others.
    pub(crate) fn page(&self, all: &[Value]) -> Answer {
        let number =
            |name: &str, default: usize| self.query.get(name).map_or(default, |v| v.parse().unwrap());
        let (page, size) = (number("page", 1), number("page_size", 10));
        let size = if size == 0 { all.len().max(1) } else { size };
        let start = (page - 1) * size;
        let shown: Vec<&Value> = all.iter().skip(start).take(size).collect();
        let link = |page: usize, relation: &str| {
            let mut query = self.query.clone();
            query.insert("page".to_owned(), page.to_string());
            let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
            // What the core saw is encoded once more for the proxy.
            let path = self.path.replace('%', "%25");
            format!("<{path}?{}>; rel=\"{relation}\"", query.join("&"))
        };
        let mut links = Vec::new();
        if page > 1 {
            links.push(link(page - 1, "prev"));
        }
        if start + size < all.len() {
            links.push(link(page + 1, "next"));
        }
        let answer = Answer::json(200, &json!(shown)).header("X-Total-Count", all.len().to_string());
        if links.is_empty() { answer } else { answer.header("Link", links.join(" , ")) }
    }
}

/// The rule for names of projects and robots.
pub(crate) fn is_name(text: &str) -> bool {
    let run =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split(['.', '_', '-']).all(run)
}
