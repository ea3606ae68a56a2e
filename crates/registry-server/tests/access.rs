//! The policy decides: who is asked for credentials, who is refused, who sees what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "common/registry.rs"]
mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Registry;
use http::HeaderValue;
use http::request::Parts;
use oci::{Digest, RepositoryName};
use registry_server::{
    AccessPolicy, Action, Authentication, Caller, Decision, Demand, Event, EventKind, FullAccess, Namespaces,
    Observer, Options, Places, Refusal,
};
use reqwest::{Client, Method, Response};

/// Names are the whole credential: `Authorization: <name>`.
struct ByName;

struct Named(String);

impl AccessPolicy for ByName {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> Authentication<'a> {
        let name = head.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        match name.as_deref() {
            Some("wrong") => Authentication::Ready(Err(Refusal::Unauthenticated)),
            Some("revoked") => {
                Authentication::Ready(Err(Refusal::Denied("revoked: enable it again".to_owned())))
            }
            Some("hasty") => Authentication::Ready(Err(Refusal::TooManyRequests(Duration::from_secs(7)))),
            Some("unlucky") => {
                Authentication::Ready(Err(Refusal::Unavailable("the database is down".to_owned())))
            }
            _ => Authentication::later(async move {
                tokio::task::yield_now().await;
                Ok(Arc::new(Named(name.unwrap_or_default())) as Arc<dyn Caller>)
            }),
        }
    }

    fn challenge(&self, demands: &[Demand<'_>]) -> HeaderValue {
        let scopes: Vec<String> = demands
            .iter()
            .filter_map(|demand| {
                Some(format!("repository:{}:{:?}", demand.repository?, demand.action).to_lowercase())
            })
            .collect();
        format!("Bearer realm=\"https://registry.example/token\",scope=\"{}\"", scopes.join(" "))
            .parse()
            .unwrap()
    }
}

impl Caller for Named {
    fn decide(&self, action: Action, repository: Option<&RepositoryName>) -> Decision {
        match (self.0.as_str(), action) {
            ("admin", _) => Decision::Allow,
            ("", _) => Decision::Challenge,
            (_, Action::Probe | Action::Catalog) => Decision::Allow,
            // Everybody else pulls, and pushes to, what begins with their name.
            (name, Action::Pull | Action::Push) => match repository {
                Some(repository) if repository.as_str().starts_with(name) => Decision::Allow,
                Some(repository) if repository.as_str().starts_with("hidden") => Decision::NotFound,
                _ => Decision::Deny,
            },
            (_, Action::Delete) => Decision::Deny,
        }
    }

    fn name(&self) -> &str {
        &self.0
    }
}

async fn send(registry: &Registry, method: Method, path: &str, name: Option<&str>) -> Response {
    let mut request =
        Client::builder().no_proxy().build().unwrap().request(method, format!("{}{path}", registry.url()));
    if let Some(name) = name {
        request = request.header("authorization", name);
    }
    request.body("").send().await.unwrap()
}

async fn code(response: Response) -> String {
    let json: serde_json::Value = response.json().await.unwrap();
    json["errors"][0]["code"].as_str().unwrap().to_owned()
}

async fn push(registry: &Registry, repository: &str, content: &'static str) -> Digest {
    let digest = Digest::sha256(content.as_bytes());
    let answer = Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("{}/v2/{repository}/blobs/uploads/?digest={digest}", registry.url()))
        .header("authorization", "admin")
        .body(content)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    digest
}

#[tokio::test]
async fn every_answer_of_the_policy_has_its_status() {
    let registry = Registry::start(ByName, Options::default()).await;
    let cases = [
        (Method::GET, "/v2/", None, 401, "UNAUTHORIZED"),
        (Method::GET, "/v2/", Some("wrong"), 401, "UNAUTHORIZED"),
        (Method::GET, "/v2/", Some("revoked"), 403, "DENIED"),
        (Method::GET, "/v2/", Some("hasty"), 429, "TOOMANYREQUESTS"),
        (Method::GET, "/v2/", Some("unlucky"), 503, "UNAVAILABLE"),
        (Method::GET, "/v2/alice/x/manifests/latest", None, 401, "UNAUTHORIZED"),
        (Method::GET, "/v2/alice/x/manifests/latest", Some("alice"), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, "/v2/alice/x/manifests/latest", Some("bob"), 403, "DENIED"),
        (Method::GET, "/v2/hidden/x/manifests/latest", Some("bob"), 404, "NAME_UNKNOWN"),
        (Method::GET, "/v2/alice/x/tags/list", Some("bob"), 403, "DENIED"),
        (Method::DELETE, "/v2/alice/x/manifests/latest", Some("alice"), 403, "DENIED"),
        (Method::POST, "/v2/alice/x/blobs/uploads/", Some("bob"), 403, "DENIED"),
        (Method::PUT, "/v2/alice/x/manifests/latest", None, 401, "UNAUTHORIZED"),
    ];
    for (method, path, name, status, expected) in cases {
        let answer = send(&registry, method.clone(), path, name).await;
        assert_eq!(answer.status(), status, "{method} {path} {name:?}");
        assert_eq!(
            answer.headers().contains_key("www-authenticate"),
            status == 401,
            "{method} {path} {name:?}"
        );
        if status == 429 {
            assert_eq!(answer.headers()["retry-after"], "7");
        }
        assert_eq!(code(answer).await, expected, "{method} {path} {name:?}");
    }
    let answer = send(&registry, Method::GET, "/v2/", Some("alice")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["docker-distribution-api-version"], "registry/2.0");
    let head = send(&registry, Method::HEAD, "/v2/alice/x/manifests/latest", None).await;
    assert_eq!((head.status().as_u16(), head.headers().contains_key("www-authenticate")), (401, true));
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_challenge_covers_all_that_a_request_needs() {
    let registry = Registry::start(ByName, Options::default()).await;
    let digest = Digest::sha256(b"");
    let path = format!("/v2/a/x/blobs/uploads/?mount={digest}&from=b/y");
    let answer = send(&registry, Method::POST, &path, None).await;
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("repository:a/x:push repository:a/x:pull repository:b/y:pull"), "{challenge}");
}

#[tokio::test]
async fn a_mount_needs_pull_in_its_source() {
    let registry = Registry::start(ByName, Options::default()).await;
    let digest = push(&registry, "bob/private", "bob's").await;
    for query in [format!("mount={digest}&from=bob/private"), format!("mount={digest}")] {
        let answer =
            send(&registry, Method::POST, &format!("/v2/alice/x/blobs/uploads/?{query}"), Some("alice"))
                .await;
        assert_eq!(answer.status(), 202, "{query}");
        let look = send(&registry, Method::GET, &format!("/v2/alice/x/blobs/{digest}"), Some("alice")).await;
        assert_eq!(look.status(), 404, "{query}");
    }
    push(&registry, "alice/public", "bob's").await;
    let answer =
        send(&registry, Method::POST, &format!("/v2/alice/x/blobs/uploads/?mount={digest}"), Some("alice"))
            .await;
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn the_catalog_holds_what_the_caller_may_pull() {
    let registry = Registry::start(ByName, Options::default()).await;
    for repository in ["alice/a", "alice/b", "bob/a", "alice/c", "bob/b"] {
        let manifest =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let answer = Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .put(format!("{}/v2/{repository}/manifests/latest", registry.url()))
            .header("authorization", "admin")
            .header("content-type", oci::media_type::OCI_INDEX)
            .body(manifest)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
    }
    let answer = send(&registry, Method::GET, "/v2/_catalog", Some("bob")).await;
    let json: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(json, serde_json::json!({"repositories": ["bob/a", "bob/b"]}));
    let answer = send(&registry, Method::GET, "/v2/_catalog?n=2", Some("alice")).await;
    assert_eq!(answer.headers()["link"], "</v2/_catalog?n=2&last=alice/b>; rel=\"next\"");
    let json: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(json, serde_json::json!({"repositories": ["alice/a", "alice/b"]}));
    assert_eq!(send(&registry, Method::GET, "/v2/_catalog", None).await.status(), 401);
}

#[tokio::test]
async fn namespaces_are_answered_only_where_they_are_ours() {
    let namespaces = Namespaces::default();
    let options = Options { namespaces: namespaces.clone(), ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    let digest = push(&registry, "library/x", "content").await;
    let path = format!("/v2/library/x/blobs/{digest}?ns=docker.io");
    assert_eq!(code(send(&registry, Method::GET, &path, None).await).await, "NAME_UNKNOWN");
    namespaces.replace(["docker.io"]);
    let answer = send(&registry, Method::GET, &path, None).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["oci-namespace"], "docker.io");
    let other = path.replace("docker.io", "quay.io");
    assert_eq!(send(&registry, Method::GET, &other, None).await.status(), 404);
}

#[tokio::test]
async fn what_another_host_holds_is_below_its_name() {
    let namespaces = Namespaces::default();
    let prefixes = vec![("docker.io".to_owned(), String::new())];
    namespaces.map(Places { prefixes, others: true, reserved: vec!["dev".to_owned()], ..Places::default() });
    let options = Options { namespaces, ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    let own = push(&registry, "library/x", "own").await;
    let quays = push(&registry, "quay.io/library/x", "quay's").await;
    let pushed = push(&registry, "dev/x", "pushed here").await;
    for (digest, host, status) in [
        (&own, "docker.io", 200),
        (&quays, "docker.io", 404),
        (&quays, "quay.io", 200),
        (&own, "quay.io", 404),
        (&own, "quay.io:5000", 404),
    ] {
        let path = format!("/v2/library/x/blobs/{digest}?ns={host}");
        assert_eq!(send(&registry, Method::GET, &path, None).await.status(), status, "{path}");
    }
    for (path, status) in [
        ("/v2/?ns=quay.io".to_owned(), 200),
        ("/v2/_catalog?ns=quay.io".to_owned(), 404),
        (format!("/v2/library/x/blobs/{quays}?ns=quay.io&ns=docker.io"), 400),
        (format!("/v2/quay.io/library/x/blobs/{quays}?ns=docker.io"), 404),
        (format!("/v2/quay.io/library/x/blobs/{quays}"), 200),
        (format!("/v2/dev/x/blobs/{pushed}"), 200),
        (format!("/v2/dev/x/blobs/{pushed}?ns=docker.io"), 404),
    ] {
        assert_eq!(send(&registry, Method::GET, &path, None).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_listener_of_one_host_answers_for_it_alone() {
    let namespaces = Namespaces::default();
    let prefixes = vec![("docker.io".to_owned(), "hub".to_owned())];
    namespaces.map(Places { prefixes, ..Places::default() });
    let assumed_namespace = Some("docker.io".to_owned());
    let options = Options { namespaces, assumed_namespace, ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    // What is pushed there is docker.io's, too.
    let digest = push(&registry, "library/x", "hub's").await;
    for (path, status) in [
        ("/v2/".to_owned(), 200),
        (format!("/v2/library/x/blobs/{digest}"), 200),
        (format!("/v2/library/x/blobs/{digest}?ns=docker.io"), 200),
        (format!("/v2/library/x/blobs/{digest}?ns=quay.io"), 404),
        (format!("/v2/hub/library/x/blobs/{digest}"), 404),
        ("/v2/_catalog".to_owned(), 404),
    ] {
        let answer = send(&registry, Method::GET, &path, None).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers().contains_key("oci-namespace"), path.ends_with("ns=docker.io"), "{path}");
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn observe(&self, event: &Event<'_>) {
        let line = format!("{:?} {} {} {}", event.kind, event.repository, event.bytes, event.caller);
        assert!(event.digest.is_some() || event.kind == EventKind::ManifestMissed);
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn the_observer_is_told() {
    let seen = Arc::new(Seen::default());
    let options = Options { observer: Some(seen.clone()), ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    let digest = push(&registry, "a", "content").await;
    send(&registry, Method::GET, &format!("/v2/a/blobs/{digest}"), None).await.bytes().await.unwrap();
    send(&registry, Method::GET, "/v2/a/manifests/missing", None).await;
    send(&registry, Method::GET, &format!("/v2/b/blobs/{digest}"), None).await;
    send(&registry, Method::DELETE, &format!("/v2/a/blobs/{digest}"), None).await;
    assert_eq!(
        *seen.0.lock().unwrap(),
        [
            "BlobPushed a 7 anyone",
            "BlobPulled a 7 anyone",
            "ManifestMissed a 0 anyone",
            "BlobMissed b 0 anyone",
            "BlobDeleted a 0 anyone",
        ]
    );
}
