use http::Method;
use registry_server::listen::{self, Limits};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::node_agent::site::{Site as Asking, SiteError, Way};
use crate::site::plan::{Key, Named};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Served {
    site: Site,
    way: Way,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

async fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    blob_store::durable::write_file(&token_file, TOKEN.as_bytes(), 0o600).unwrap();
    let stop = CancellationToken::new();
    let site = Site::new(token_file.clone(), stop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(listen::serve(listener, None, routes(site.clone()), Limits::default(), stopped));
    let way = Way { url, token_file, ca: None };
    Served { site, way, folder, stop }
}

fn offer(name: &str) -> (Key, Named) {
    let digest = format!("sha256:{}", "0".repeat(64));
    (("a".parse().unwrap(), "1".parse().unwrap()), Named { name: name.to_owned(), also: Vec::new(), digest })
}

#[tokio::test]
async fn an_agent_hears_of_a_change_at_once() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let served = served().await;
    let asking = Asking::new(served.way.clone()).unwrap();
    let (plan, etag) = asking.plan(None).await.unwrap().unwrap();
    assert!(plan.images.is_empty() && !plan.whole);
    let waiting = tokio::spawn(async move { asking.plan(Some(&etag)).await });
    served.site.plan().offer([offer("q.io/a:1")]);
    let (plan, _) = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(plan.images[0].name, "q.io/a:1");
}

#[tokio::test]
async fn who_waits_is_answered_at_the_end() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let served = served().await;
    let asking = Asking::new(served.way.clone()).unwrap();
    let (_, etag) = asking.plan(None).await.unwrap().unwrap();
    let waiting = tokio::spawn(async move { asking.plan(Some(&etag)).await });
    served.stop.cancel();
    // The same plan, or a connection that is gone: not a wait of a minute.
    let answered = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
    assert!(!matches!(answered, Ok(Some(_))), "{answered:?}");
}

#[tokio::test]
async fn the_token_opens_these_routes_and_nothing_else_does() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let served = served().await;
    let http = Client::new();
    let at = |path: &str| format!("{}{}", served.way.url, path.trim_start_matches('/'));
    for wrong in [None, Some("Bearer "), Some("Bearer 0123456789abcdef"), Some("Basic MDEyMzQ1"), Some(TOKEN)]
    {
        for (method, path) in [(Method::GET, "/site/v1/plan"), (Method::PUT, "/site/v1/nodes/n1")] {
            let mut call = http.request(method, at(path)).body("{");
            if let Some(wrong) = wrong {
                call = call.header(AUTHORIZATION, wrong);
            }
            assert_eq!(call.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
        }
    }
    // Another token is taken without a restart.
    let file = served.folder.path().join("token");
    blob_store::durable::write_file(&file, b"another-token-of-the-site", 0o600).unwrap();
    let old = http.get(at("/site/v1/plan")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(old.status(), StatusCode::UNAUTHORIZED);
    assert!(Asking::new(served.way.clone()).unwrap().plan(None).await.is_ok());
    blob_store::durable::write_file(&file, b"short", 0o600).unwrap();
    let broken = http.get(at("/site/v1/plan")).bearer_auth("short").send().await.unwrap();
    assert_eq!(broken.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn reports_are_checked_and_kept() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let served = served().await;
    let asking = Asking::new(served.way.clone()).unwrap();
    let report = NodeReport { runtime: "containerd".to_owned(), ..NodeReport::default() };
    asking.report("n1", &report).await.unwrap();
    let listed = served.site.nodes().list(Timestamp::now());
    assert_eq!((listed[0].name.as_str(), listed[0].runtime.as_str()), ("n1", "containerd"));
    let refused = asking.report("n%201", &report).await.unwrap_err();
    assert!(matches!(refused, SiteError::Refused { status: StatusCode::BAD_REQUEST, .. }), "{refused}");
    let http = Client::new();
    for (body, status) in [
        ("{}".to_owned(), StatusCode::BAD_REQUEST),
        ("x".repeat(LARGEST_REPORT + 1), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let url = format!("{}site/v1/nodes/n2", served.way.url);
        let call = http.put(url).bearer_auth(TOKEN).body(body);
        assert_eq!(call.send().await.unwrap().status(), status);
    }
    assert_eq!(served.site.nodes().list(Timestamp::now()).len(), 1);
}
