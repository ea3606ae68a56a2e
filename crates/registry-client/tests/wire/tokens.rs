//! Who is told what: tokens, passwords, redirects, plain HTTP.

use crate::hostile::{Hostile, Reply, Request};
use crate::setup::{client, client_as, options};
use base64::Engine as _;
use oci::{Digest, Reference, RepositoryName};
use registry_client::{Client, ClientOptions, Credentials, ErrorKind, Fault};

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn latest() -> Reference {
    "latest".parse().unwrap()
}

fn basic(username: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    format!("Basic {pair}")
}

fn challenge(request: &Request, realm: &str) -> Reply {
    let repository = request.path().trim_start_matches("/v2/").split("/manifests").next().unwrap();
    let value =
        format!(r#"Bearer realm="{realm}",service="harbor-registry",scope="repository:{repository}:pull""#);
    Reply::json(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized: unauthorized"}]}"#)
        .header("Www-Authenticate", &value)
}

fn host(request: &Request) -> String {
    format!("http://{}", request.header("host").unwrap())
}

/// A registry and its token service on one address, as Harbor's: the n-th token is `t<n>`, and `good` says
/// which are taken.
async fn harbor(good: impl Fn(&str) -> bool + Send + Sync + 'static, expires_in: u32) -> Hostile {
    let tokens = std::sync::atomic::AtomicU32::new(0);
    Hostile::start(move |request, _| {
        if request.path() == "/service/token" {
            let n = tokens.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            return Reply::json(
                200,
                &format!(r#"{{"token":"t{n}","access_token":"","expires_in":{expires_in}}}"#),
            );
        }
        match request.header("authorization").and_then(|a| a.strip_prefix("Bearer ")) {
            Some(token) if good(token) => Reply::json(200, MANIFEST),
            _ => challenge(request, &format!("{}/service/token", host(request))),
        }
    })
    .await
}

#[tokio::test]
async fn one_token_serves_a_repository_and_the_next_needs_no_refusal() {
    let server = harbor(|_| true, 1800).await;
    let client = client_as(&server.url(), "robot$edge", "secret");
    for name in ["a/b", "a/b", "c"] {
        client.manifest(&repository(name), &latest()).await.unwrap();
    }
    assert_eq!(
        server.lines(),
        [
            "GET /v2/a/b/manifests/latest",
            "GET /service/token?service=harbor-registry&scope=repository%3Aa%2Fb%3Apull",
            "GET /v2/a/b/manifests/latest",
            "GET /v2/a/b/manifests/latest",
            "GET /service/token?service=harbor-registry&scope=repository%3Ac%3Apull",
            "GET /v2/c/manifests/latest",
        ]
    );
    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(requests[1].header("authorization"), Some(basic("robot$edge", "secret").as_str()));
    assert_eq!(requests[2].header("authorization"), Some("Bearer t1"));
    assert_eq!(requests[5].header("authorization"), Some("Bearer t2"));
    assert!(requests.iter().all(|r| !r.target.contains("ns=")));
    assert_eq!(client.requests(), 6);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = harbor(|token| token != "t1", 1800).await;
    let client = client_as(&server.url(), "u", "p");
    client.manifest(&repository("a"), &latest()).await.unwrap_err();
    client.manifest(&repository("a"), &latest()).await.unwrap();

    let server = harbor(|_| false, 1800).await;
    let error = client_as(&server.url(), "u", "p").manifest(&repository("a"), &latest()).await.unwrap_err();
    assert!(error.is_unauthorized() && !error.is_retryable(), "{error}");
    assert_eq!(error.fault(), Fault::Credentials);
    assert!(error.to_string().contains("UNAUTHORIZED"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_expired_token_is_not_sent() {
    let server = harbor(|_| true, 1).await;
    let client = client(&server.url());
    client.manifest(&repository("a"), &latest()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    client.manifest(&repository("a"), &latest()).await.unwrap();
    let sent: Vec<_> =
        server.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [None, None, Some("Bearer t1".to_owned()), None, Some("Bearer t2".to_owned())]);
}

#[tokio::test]
async fn many_requests_at_once_share_one_token() {
    let server = harbor(|_| true, 1800).await;
    let client = client(&server.url());
    client.manifest(&repository("warm"), &latest()).await.unwrap();
    let all = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.manifest(&repository("a"), &latest()).await.map(drop) })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(server.lines().iter().filter(|l| l.starts_with("GET /service/token")).count(), 2);
}

#[tokio::test]
async fn new_credentials_forget_old_tokens() {
    let server = harbor(|_| true, 1800).await;
    let client = client_as(&server.url(), "u", "old");
    client.manifest(&repository("a"), &latest()).await.unwrap();
    client.clone().set_credentials(Credentials::basic("u", "new"));
    client.manifest(&repository("a"), &latest()).await.unwrap();
    let last_token = server.requests().into_iter().rfind(|r| r.path() == "/service/token").unwrap();
    assert_eq!(last_token.header("authorization"), Some(basic("u", "new").as_str()));
}

#[tokio::test]
async fn basic_challenge() {
    let good = basic("u", "p");
    let server = Hostile::start(move |request, _| match request.header("authorization") {
        Some(sent) if sent == good => Reply::json(200, MANIFEST),
        _ => Reply::status(401).header("WWW-Authenticate", r#"Basic realm="harbor""#),
    })
    .await;
    let client = client_as(&server.url(), "u", "p");
    client.manifest(&repository("a"), &latest()).await.unwrap();
    client.manifest(&repository("b"), &latest()).await.unwrap();
    assert_eq!(server.requests().len(), 3, "what the registry wants is remembered");
    assert!(client.check_credentials().await.unwrap());
    assert!(!client_as(&server.url(), "u", "wrong").check_credentials().await.unwrap());
    let error = crate::setup::client(&server.url()).ping().await.unwrap_err();
    assert!(error.is_unauthorized());
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_password() {
    let thief = Hostile::start(|_, _| Reply::json(200, r#"{"token":"x"}"#)).await;
    // Another host by name: the registry is on 127.0.0.1, plain.
    let realm = format!("http://thief.invalid:{}/token", thief.address.port());
    let server = Hostile::start(move |request, _| challenge(request, &realm)).await;
    let error = client_as(&server.url(), "u", "p").manifest(&repository("a"), &latest()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Realm { .. }), "{error}");
    assert!(thief.requests().is_empty());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_token_service_that_redirects_is_not_followed() {
    let thief = Hostile::start(|_, _| Reply::json(200, r#"{"token":"x"}"#)).await;
    let target = thief.url();
    let server = Hostile::start(move |request, _| match request.path() {
        "/token" => Reply::status(307).header("Location", &target),
        _ => challenge(request, &format!("{}/token", host(request))),
    })
    .await;
    let error = client_as(&server.url(), "u", "p").manifest(&repository("a"), &latest()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Token(_)), "{error}");
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn token_services_that_misbehave() {
    for (reply, retryable) in [
        (r#"{"token":""}"#.to_owned(), false),
        ("<html>login</html>".to_owned(), false),
        ("x".repeat(300 * 1024), false),
    ] {
        let server = Hostile::start(move |request, _| match request.path() {
            "/token" => Reply::status(200).body(&reply),
            _ => challenge(request, &format!("{}/token", host(request))),
        })
        .await;
        let error = client(&server.url()).manifest(&repository("a"), &latest()).await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{error}");
    }
}

#[tokio::test]
async fn redirected_blobs_are_fetched_without_authorization() {
    let content = b"layer".to_vec();
    let storage = {
        let content = content.clone();
        Hostile::start(move |request, _| Reply::blob(request, &content)).await
    };
    let target = format!("{}/bucket/x?signature=s3cr3t", storage.url());
    let good = basic("u", "p");
    let server = Hostile::start(move |request, _| match request.header("authorization") {
        Some(sent) if sent == good => Reply::status(307).header("Location", &target),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let digest = Digest::sha256(&content);
    let client = client_as(&server.url(), "u", "p");
    let mut body = client.blob(&repository("a"), &digest, 2).await.unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), &content[2..]);
    assert!(body.chunk().await.unwrap().is_none());
    let asked = &storage.requests()[0];
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("range"), Some("bytes=2-"));
}

#[tokio::test]
async fn redirects_end() {
    let server = Hostile::start(|request, n| {
        Reply::status(302).header("Location", &format!("{}/again/{n}", host(request)))
    })
    .await;
    let error = client(&server.url()).blob(&repository("a"), &Digest::sha256(b""), 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Malformed(_)), "{error}");
    assert_eq!(server.requests().len(), 6);

    let server =
        Hostile::start(|_, _| Reply::status(302).header("Location", "http://far.invalid/blob")).await;
    let error = client(&server.url()).blob(&repository("a"), &Digest::sha256(b""), 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PlainHttp(_)), "{error}");
}

#[test]
fn plain_http_beyond_loopback_needs_permission() {
    let endpoint: registry_client::Endpoint = "http://registry.example.com".parse().unwrap();
    let error = Client::new(endpoint.clone(), options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PlainHttp(_)));
    assert!(error.to_string().contains("USE_UNSECURE"), "{error}");
    Client::new(endpoint, ClientOptions { allow_plain_http: true, ..options() }).unwrap();
    Client::new("http://localhost:5000".parse().unwrap(), options()).unwrap();
}
