//! The stand-in is asked what Harbor 2.15.2 was asked, in the same order, and has to answer the same: status, headers that
//! matter, and the whole body but for secrets and the clock of what has no end.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;

use crate::stand_in::artifacts::Repository;
use crate::stand_in::steady;
use crate::stand_in::world::{Answer, Asked, CSRF_TOKEN, Outage, World};

pub(crate) fn recording(name: &str) -> Value {
    let path = format!("{}/tests/recordings/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn repository(value: &Value) -> Repository {
    Repository {
        id: value["id"].as_i64().unwrap(),
        project_id: 2,
        project: value["project"].as_str().unwrap().to_owned(),
        name: value["name"].as_str().unwrap().to_owned(),
        artifacts: value["artifacts"].as_array().unwrap().clone(),
    }
}

/// What was done to Harbor beside its API.
fn prepare(world: &mut World, step: &Value) {
    let (kind, value) = step.as_object().unwrap().iter().next().unwrap();
    let number = |value: &Value| value.as_i64().unwrap();
    match kind.as_str() {
        "age" => {
            let robot = world.robots.iter_mut().find(|r| r.id == number(&value[0])).unwrap();
            let seconds = number(&value[1]) * 86_400;
            robot.created -= jiff::SignedDuration::from_secs(seconds);
            robot.expires_at -= seconds;
        }
        "delete_robot" => world.robots.retain(|r| r.id != number(value)),
        "drawn" => world.drawn("robot", number(&value[1])),
        "executions" => {
            let policy = world.policies.iter_mut().find(|p| p.id == number(&value[0])).unwrap();
            policy.executions = value[1].as_array().unwrap().clone();
        }
        "repository" => world.repositories.push(repository(value)),
        "outage" | "stale_health" => {
            world.outage = match step["outage"].as_str() {
                Some("database") => Some(Outage::Database),
                Some("core") => Some(Outage::Core),
                Some("redis") => Some(Outage::Redis(Duration::ZERO)),
                Some("registry") => Some(Outage::Registry),
                _ => None,
            };
            world.stale_health = step["stale_health"] == true;
        }
        other => panic!("{other} is not known"),
    }
}

/// The secret that the recording masks, by who asks: `robot$edge-01, old secret`.
fn authorization(world: &World, who: &str) -> Option<String> {
    let (name, note) = who.split_once(", ").unwrap_or((who, ""));
    if name == "anonymous" {
        return None;
    }
    let stale = note.contains("old") || note.contains("wrong") || note.contains("deleted");
    let secret = match name {
        _ if stale => "Wrong12345".to_owned(),
        "admin" => world.admin_password.clone(),
        robot => world.robots.iter().find(|r| r.full_name() == robot).unwrap().secret.clone(),
    };
    Some(format!("Basic {}", STANDARD.encode(format!("{name}:{secret}"))))
}

/// A secret of the length that the recording tells, mixed as it tells.
fn unmasked(body: &Value) -> String {
    let mut body = body.clone();
    if let Some(masked) = body["secret"].as_str().and_then(|s| s.strip_prefix("<secret, ")) {
        let length: usize = masked.split(' ').next().unwrap().parse().unwrap();
        let start = if masked.contains("not mixed") { "aa" } else { "Aa1" };
        body["secret"] = Value::from(format!("{start:x<length$}"));
    }
    body.to_string()
}

fn asked(world: &World, request: &Value) -> Asked {
    let mut headers = HeaderMap::new();
    let mut body = String::new();
    if let Some(json) = request.get("body") {
        headers.insert("content-type", "application/json".parse().unwrap());
        body = unmasked(json);
    }
    if let Some(text) = request["text"].as_str() {
        body = text.to_owned();
    }
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().replace("<the token>", CSRF_TOKEN);
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    if let Some(header) = authorization(world, request["as"].as_str().unwrap()) {
        headers.insert("authorization", header.parse().unwrap());
    }
    Asked {
        method: request["method"].as_str().unwrap().parse::<Method>().unwrap(),
        target: request["path"].as_str().unwrap().to_owned(),
        headers,
        body: body.into(),
    }
}

/// What differs, in words.
fn differences(given: &Answer, recorded: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if u64::from(given.status) != recorded["status"].as_u64().unwrap() {
        all.push(format!("status {} instead of {}: {}", given.status, recorded["status"], given.text));
    }
    for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
        let given = given.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        if given != value.as_str() {
            all.push(format!("{name} is {given:?} instead of {value}"));
        }
    }
    if let Some(expected) = recorded.get("json") {
        let given = serde_json::from_str::<Value>(&given.text).unwrap_or(Value::Null);
        if steady(&given) != steady(expected) {
            all.push(format!("the body is\n  {}\ninstead of\n  {}", steady(&given), steady(expected)));
        }
    } else if given.text != recorded["text"].as_str().unwrap_or_default() {
        all.push(format!("the body is {:?} instead of {}", given.text, recorded["text"]));
    }
    all
}

#[test]
fn the_stand_in_answers_as_harbor_did() {
    let mut world = World::default();
    let (mut count, mut wrong) = (0, Vec::new());
    for file in [
        "01-system.json",
        "02-projects.json",
        "03-robots.json",
        "04-robot-expiry.json",
        "05-robot-operator.json",
        "06-webhooks.json",
        "07-artifacts.json",
        "08-robot-without-rights.json",
        "09-outages.json",
    ] {
        for exchange in recording(file)["exchanges"].as_array().unwrap() {
            for step in exchange["before"].as_array().into_iter().flatten() {
                prepare(&mut world, step);
            }
            // A robot's end is counted from its creation: both are compared, so Harbor's clock is the recorded one.
            let recorded = &exchange["answer"];
            if let Some(time) =
                recorded["json"]["creation_time"].as_str().filter(|_| recorded["status"] == 201)
            {
                world.now = time.parse().unwrap();
            }
            let asked = asked(&world, &exchange["request"]);
            let answer = world.answer(&asked);
            let differing = differences(&answer, recorded);
            if !differing.is_empty() {
                wrong.push(format!("{file}: {}: {}", exchange["name"], differing.join("; ")));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 200, "{count}");
}
