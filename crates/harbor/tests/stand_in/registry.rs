//! The registry's side of a Harbor: tokens that name what their bearer may, given to anybody, and a registry behind them that
//! knows no accounts. What is pushed is an artifact of the API's, too, and what the API deletes goes.

#![allow(dead_code, reason = "only tests of whole programs push and pull")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::artifacts::Repository;
use super::world::{Answer, Asked, Outage, Who, World, credentials};
use super::{BAD_GATEWAY, Shared};

/// A registry without accounts of its own.
pub(crate) type Behind = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// What bearers of tokens may: repository and action.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    given: HashMap<String, Vec<(String, String)>>,
    /// What refers to something: repository, subject, and the descriptor that is listed.
    referring: Vec<(String, String, Value)>,
}

/// Whether a request is one for the registry and not for the API.
pub(crate) fn is_registrys(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    path.starts_with("/v2/") && path != "/v2/" || path == "/service/token"
}

fn may(world: &World, who: &Who, repository: &str, action: &str) -> bool {
    let project = repository.split('/').next().unwrap_or_default();
    match who {
        Who::Nobody => false,
        Who::Admin => true,
        Who::Robot(id) => world.robots.iter().find(|r| r.id == *id).is_some_and(|robot| {
            let resource = if action == "delete" { "artifact" } else { "repository" };
            robot.may("project", project, resource, action)
        }),
    }
}

fn token(shared: &mut Shared, asked: &Asked) -> Answer {
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let who = shared.world.who(asked);
    let mut allowed = Vec::new();
    for (name, scope) in url::form_urlencoded::parse(query.as_bytes()).into_owned() {
        let parts: Vec<&str> = scope.splitn(3, ':').collect();
        let (true, ["repository", repository, actions]) = (name == "scope", parts.as_slice()) else {
            continue;
        };
        for action in actions.split(',').filter(|action| may(&shared.world, &who, repository, action)) {
            allowed.push(((*repository).to_owned(), action.to_owned()));
        }
    }
    // To a wrong secret, too: a token without rights.
    let token = format!("token-{}", shared.tokens.given.len());
    shared.tokens.given.insert(token.clone(), allowed);
    Answer::json(200, &json!({ "token": token, "access_token": "", "expires_in": 1800 }))
}

/// Repository, rest of the path, and the action that it takes.
fn parts(method: &Method, path: &str) -> Option<(String, String, &'static str)> {
    let path = path.strip_prefix("/v2/")?;
    let at = ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
        .iter()
        .filter_map(|part| path.find(part))
        .min()?;
    let action = match *method {
        Method::GET | Method::HEAD => "pull",
        Method::DELETE => "delete",
        _ => "push",
    };
    Some((path[..at].to_owned(), path[at + 1..].to_owned(), action))
}

fn refused(shared: &Shared, asked: &Asked, repository: &str, action: &str) -> Option<Answer> {
    let text = |name: &str| asked.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let refuse = |challenge: &str| {
        Answer::error(401, "UNAUTHORIZED", "unauthorized to access repository")
            .header("Docker-Distribution-Api-Version", "registry/2.0")
            .header("Www-Authenticate", challenge)
    };
    let bearer = format!(
        r#"Bearer realm="http://{}/service/token",service="harbor-registry",scope="repository:{repository}:{action}""#,
        text("Host")
    );
    if let Some(token) = text("Authorization").strip_prefix("Bearer ") {
        let Some(allowed) = shared.tokens.given.get(token) else {
            return Some(refuse(r#"Basic realm="harbor""#));
        };
        let holds = allowed.iter().any(|(r, a)| r == repository && a == action);
        return (!holds).then(|| refuse(&bearer));
    }
    let who = shared.world.who(asked);
    match (who, credentials(asked)) {
        (Who::Nobody, None) => Some(refuse(&bearer)),
        (Who::Nobody, Some(_)) => Some(refuse(r#"Basic realm="harbor""#)),
        (who, _) if may(&shared.world, &who, repository, action) => None,
        _ => Some(refuse(&bearer)),
    }
}

/// Answers a request for the registry.
pub(crate) async fn serve(shared: &Arc<Mutex<Shared>>, asked: Asked) -> Response<Bytes> {
    let path = asked.target.split('?').next().unwrap_or_default().to_owned();
    let (behind, parts) = {
        let mut shared = shared.lock().unwrap();
        if shared.world.outage == Some(Outage::Core) {
            let answer = Answer { text: BAD_GATEWAY.to_owned(), ..Answer::empty(502) };
            return whole(answer.header("Content-Type", "text/html"));
        }
        if path == "/service/token" {
            return whole(token(&mut shared, &asked));
        }
        let Some(parts) = parts(&asked.method, &path) else {
            return whole(Answer::missing("page not found"));
        };
        if let Some(refused) = refused(&shared, &asked, &parts.0, parts.2) {
            return whole(refused);
        }
        if !shared.world.projects.iter().any(|p| parts.0.split('/').next() == Some(&p.name)) {
            return whole(Answer::missing("project not found"));
        }
        (shared.behind.clone().expect("a registry behind this Harbor"), parts)
    };
    let mut request = Request::builder().method(asked.method.clone()).uri(&asked.target);
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != "authorization") {
        request = request.header(name, value);
    }
    let answer = behind(request.body(asked.body.clone()).unwrap()).await;
    if answer.status() == 404
        && let Some(subject) = parts.1.strip_prefix("referrers/")
    {
        // Harbor answers this itself, whatever the registry behind it knows.
        return whole(referrers(&shared.lock().unwrap().tokens, &parts.0, subject));
    }
    let pushed = asked.method == Method::PUT && parts.1.starts_with("manifests/") && answer.status() == 201;
    if let (true, Some(digest)) = (pushed, answer.headers().get("Docker-Content-Digest")) {
        let reference = parts.1.trim_start_matches("manifests/");
        let digest = digest.to_str().unwrap();
        keep(&mut shared.lock().unwrap().world, &parts.0, reference, digest);
        refer(&mut shared.lock().unwrap().tokens, &parts.0, digest, &asked.body);
        super::webhooks::tell(shared, &parts.0, reference, digest);
    }
    answer
}

fn whole(answer: Answer) -> Response<Bytes> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    builder.body(Bytes::from(answer.text)).unwrap()
}

/// What was pushed is an artifact, and the tag is taken from the one that had it.
fn keep(world: &mut World, repository: &str, reference: &str, digest: &str) {
    let (project, name) = repository.split_once('/').unwrap();
    let id = world.draw("artifact");
    let now = world.now.to_string();
    let place = world.repositories.iter().position(|r| r.project == project && r.name == name);
    let place = place.unwrap_or_else(|| {
        let project_id = world.projects.iter().find(|p| p.name == project).unwrap().id;
        let number = world.draw("repository");
        world.repositories.push(Repository {
            id: number,
            project: project.to_owned(),
            project_id,
            name: name.to_owned(),
            artifacts: Vec::new(),
        });
        world.repositories.len() - 1
    });
    let artifacts = &mut world.repositories[place].artifacts;
    if !artifacts.iter().any(|a| a["digest"] == digest) {
        artifacts
            .push(json!({ "id": id, "digest": digest, "type": "IMAGE", "push_time": now, "tags": null }));
    }
    if reference.contains(':') {
        return;
    }
    for artifact in artifacts {
        let mut tags = artifact["tags"].as_array().cloned().unwrap_or_default();
        tags.retain(|t| t["name"] != reference);
        if artifact["digest"] == digest {
            tags.push(json!({ "name": reference, "push_time": now, "immutable": false }));
        }
        artifact["tags"] = if tags.is_empty() { Value::Null } else { json!(tags) };
    }
}

/// Repository and digest of all that there is.
pub(crate) fn held(world: &World) -> Vec<(String, String)> {
    let all = world.repositories.iter();
    all.flat_map(|r| {
        let name = format!("{}/{}", r.project, r.name);
        r.artifacts.iter().map(move |a| (name.clone(), a["digest"].as_str().unwrap_or_default().to_owned()))
    })
    .collect()
}

/// What the API deleted goes from the registry behind, too.
pub(crate) async fn remove(behind: &Behind, gone: Vec<(String, String)>) {
    for (repository, digest) in gone {
        let request =
            Request::builder().method(Method::DELETE).uri(format!("/v2/{repository}/manifests/{digest}"));
        behind(request.body(Bytes::new()).unwrap()).await;
    }
}

/// Remembers what a pushed manifest refers to.
fn refer(tokens: &mut Tokens, repository: &str, digest: &str, manifest: &[u8]) {
    let size = manifest.len();
    let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else { return };
    let Some(subject) = manifest["subject"]["digest"].as_str() else { return };
    let mut descriptor = json!({ "mediaType": manifest["mediaType"], "digest": digest, "size": size,
        "artifactType": manifest["artifactType"] });
    if manifest["annotations"].is_object() {
        descriptor["annotations"] = manifest["annotations"].clone();
    }
    tokens.referring.push((repository.to_owned(), subject.to_owned(), descriptor));
}

fn referrers(tokens: &Tokens, repository: &str, subject: &str) -> Answer {
    let its = tokens.referring.iter().filter(|(name, of, _)| name == repository && of == subject);
    let all: Vec<&Value> = its.map(|(_, _, descriptor)| descriptor).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all });
    Answer { text: index.to_string(), ..Answer::empty(200) }
        .header("Content-Type", "application/vnd.oci.image.index.v1+json")
}
