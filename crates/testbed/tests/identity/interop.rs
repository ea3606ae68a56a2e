//! go-spiffe as the judge: of the Workload API stand-in that other tests rely on, and of our own mTLS as a client and as
//! a server, each through a rotation of SVIDs and authorities.

use std::time::Duration;

use identity::tls::Expected;
use identity::{Identity, IdentityKeeper, workload_api};
use serde_json::Value;
use testbed::authority::Authority;
use testbed::files;
use testbed::go_peer::{GoPeer, Source};
use testbed::process::wait_for;
use testbed::workload_api::WorkloadApi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(30);
const DOMAIN: &str = "harbor-satellite.local";
const OURS: &str = "/satellite/region/default/edge-01";
const GO: &str = "/gc/main";

fn id(path: &str) -> String {
    format!("spiffe://{DOMAIN}{path}")
}

/// The handle that the product keeps on what a Workload API hands out.
async fn follow(api: &WorkloadApi) -> Identity {
    let (keeper, mut identity) = identity::identity();
    spawn_follower(keeper, api);
    tokio::time::timeout(LIMIT, identity.ready()).await.unwrap().unwrap();
    identity
}

fn spawn_follower(keeper: IdentityKeeper, api: &WorkloadApi) {
    let endpoint = api.endpoint().parse().unwrap();
    tokio::spawn(workload_api::follow(keeper, endpoint, workload_api::Wanted::First));
}

fn serial(svid: &testbed::authority::IssuedSvid) -> String {
    let der = svid.certificate.as_slice().into();
    let leaf = identity::Leaf::parse(&der).unwrap();
    let hex: String = leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.trim_start_matches('0').to_owned()
}

#[tokio::test]
async fn go_spiffe_follows_the_stand_in_through_a_rotation() {
    let dir = files::scratch("interop").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    let api = WorkloadApi::serving(&dir.path().join("a.sock"), &authority, OURS).await.unwrap();
    let mut watch = GoPeer::watch(&api.endpoint()).await.unwrap();
    let first = watch.line().await.unwrap();
    assert_eq!((first["id"].as_str(), first["authorities"].as_u64()), (Some(id(OURS).as_str()), Some(1)));
    assert_eq!(first["serial"], serial(&api.handed().unwrap().svid), "{first}");

    authority.rotate().unwrap();
    api.issue(&authority, OURS).unwrap();
    let second = watch.line().await.unwrap();
    assert_eq!(second["authorities"], 2, "{second}");
    assert_eq!(second["serial"], serial(&api.handed().unwrap().svid), "{second}");

    api.withdraw();
    let denied = watch.line().await.unwrap();
    assert!(denied["error"].as_str().unwrap().contains("PermissionDenied"), "{denied}");
    assert_eq!(api.unguarded(), 0);
}

#[tokio::test]
async fn the_stand_in_refuses_calls_without_the_security_header() {
    let dir = files::scratch("interop").unwrap();
    let authority = Authority::new(DOMAIN).unwrap();
    let api = WorkloadApi::serving(&dir.path().join("a.sock"), &authority, OURS).await.unwrap();
    // One empty message: not compressed, of no length.
    let message = dir.path().join("message");
    files::write(&message, [0; 5]).unwrap();
    let mut curl = std::process::Command::new(testbed::command::need("curl", "curl").unwrap());
    curl.args(["-s", "-i", "-m", "10", "--http2-prior-knowledge", "--unix-socket"]).arg(api.socket());
    curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary"]);
    curl.arg(format!("@{}", message.display())).arg("http://localhost/SpiffeWorkloadAPI/FetchX509SVID");
    let said = testbed::command::output(curl).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("grpc-status: 3"), "{said}");
    assert_eq!(api.unguarded(), 1);
}

/// A server of the product's TLS that says to each client who it is.
async fn serve(identity: &Identity) -> String {
    let config = identity::tls::server_config(identity, &[b"http/1.1"]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let peer = stream.get_ref().1.peer_certificates().map(|chain| {
                    identity::tls::peer(chain)
                        .map_or_else(|error| error.to_string(), |leaf| leaf.id.to_string())
                });
                let body = peer.unwrap_or_else(|| "nobody".into());
                let mut request = vec![0; 8192];
                let _ = stream.read(&mut request).await;
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("https://{address}/")
}

#[tokio::test]
async fn go_spiffe_as_a_client_of_our_server_through_a_rotation() {
    let dir = files::scratch("interop").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    let server_api = WorkloadApi::serving(&dir.path().join("s.sock"), &authority, GO).await.unwrap();
    let client_api = WorkloadApi::serving(&dir.path().join("c.sock"), &authority, OURS).await.unwrap();
    let ours = follow(&server_api).await;
    let url = serve(&ours).await;
    let socket = client_api.endpoint();
    let source = Source::Socket(&socket);
    let mut client = GoPeer::client(&source, &url, &id(GO)).await.unwrap();

    let answer = client.request().await.unwrap();
    assert_eq!(
        (answer["status"].as_u64(), answer["body"].as_str()),
        (Some(200), Some(id(OURS).as_str())),
        "{answer}"
    );
    assert_eq!(answer["version"], "TLS 1.3");

    // The next authority: first in both bundles, then it signs for the client, then for the server, then the old one is
    // forgotten. No request fails at any time.
    let old = (client_api.handed().unwrap().svid, server_api.handed().unwrap().svid);
    authority.rotate().unwrap();
    client_api.hand(old.0, &authority);
    server_api.hand(old.1, &authority);
    good(&mut client).await;
    client_api.issue(&authority, OURS).unwrap();
    good(&mut client).await;
    server_api.issue(&authority, GO).unwrap();
    let fresh = serial(&server_api.handed().unwrap().svid);
    wait_for("the server's new SVID", LIMIT, async || {
        (good(&mut client).await["peer_serial"] == fresh).then_some(())
    })
    .await
    .unwrap();
    authority.forget_old();
    for (api, path) in [(&client_api, OURS), (&server_api, GO)] {
        api.issue(&authority, path).unwrap();
    }
    let fresh = serial(&server_api.handed().unwrap().svid);
    wait_for("the end of the old authority", LIMIT, async || {
        (good(&mut client).await["peer_serial"] == fresh).then_some(())
    })
    .await
    .unwrap();

    // Another server than the one that was asked for is refused by the judge, a foreign client by us.
    let mut picky = GoPeer::client(&source, &url, &id("/gc/other")).await.unwrap();
    assert!(picky.request().await.unwrap()["error"].as_str().unwrap().contains("unexpected ID"));
    let foreign = Authority::new(DOMAIN).unwrap();
    let foreign_api = WorkloadApi::start(&dir.path().join("f.sock")).await.unwrap();
    // It trusts our authority, and is of another one of the same name.
    foreign_api.hand(foreign.issue(OURS).unwrap(), &authority);
    let foreign_socket = foreign_api.endpoint();
    let mut foreigner = GoPeer::client(&Source::Socket(&foreign_socket), &url, &id(GO)).await.unwrap();
    let refused = foreigner.request().await.unwrap();
    assert!(refused["status"].is_null() && !refused["error"].is_null(), "{refused}");

    // Withdrawn: the server fails closed.
    server_api.withdraw();
    wait_for("a closed server", LIMIT, async || {
        let answer = client.request().await.unwrap();
        (!answer["error"].is_null()).then_some(())
    })
    .await
    .unwrap();
}

async fn good(client: &mut GoPeer) -> Value {
    let answer = client.request().await.unwrap();
    assert_eq!(answer["status"], 200, "{answer}");
    answer
}

#[tokio::test]
async fn go_spiffe_as_a_server_for_our_client_through_a_rotation() {
    let dir = files::scratch("interop").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    let server_api = WorkloadApi::serving(&dir.path().join("s.sock"), &authority, GO).await.unwrap();
    let client_api = WorkloadApi::serving(&dir.path().join("c.sock"), &authority, OURS).await.unwrap();
    let ours = follow(&client_api).await;
    let socket = server_api.endpoint();
    let (mut server, address) = GoPeer::server(&Source::Socket(&socket), &id(OURS)).await.unwrap();
    let _ = rustls_provider();
    let client = |expected: Expected| {
        let tls = identity::tls::client_config(&ours, expected, &[b"h2", b"http/1.1"]).unwrap();
        reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap()
    };
    let right = client(Expected::Exactly(id(GO).parse().unwrap()));
    let url = format!("https://{address}/satellites/spiffe-ztr");
    let ask = async || right.get(&url).send().await.map(|answer| answer.status().as_u16());
    assert_eq!(ask().await.unwrap(), 200);
    let seen = server.line().await.unwrap();
    assert_eq!(
        (seen["peer_id"].as_str(), seen["path"].as_str()),
        (Some(id(OURS).as_str()), Some("/satellites/spiffe-ztr"))
    );

    let old = (client_api.handed().unwrap().svid, server_api.handed().unwrap().svid);
    authority.rotate().unwrap();
    client_api.hand(old.0, &authority);
    server_api.hand(old.1, &authority);
    assert_eq!(ask().await.unwrap(), 200);
    server.line().await.unwrap();
    for (api, path) in [(&server_api, GO), (&client_api, OURS)] {
        api.issue(&authority, path).unwrap();
    }
    let fresh = (serial(&client_api.handed().unwrap().svid), serial(&server_api.handed().unwrap().svid));
    wait_for("both new SVIDs in one request", LIMIT, async || {
        assert_eq!(ask().await.unwrap(), 200, "a request failed during the rotation");
        let seen = server.line().await.unwrap();
        (seen["peer_serial"] == fresh.0 && seen["serial"] == fresh.1).then_some(())
    })
    .await
    .unwrap();

    // We refuse a server with another name, and show nothing once the identity is withdrawn.
    let wrong = client(Expected::Exactly(id("/gc/other").parse().unwrap()));
    assert!(wrong.get(&url).send().await.is_err());
    client_api.withdraw();
    wait_for("the withdrawal", LIMIT, async || ours.current().is_none().then_some(())).await.unwrap();
    assert!(ask().await.is_err());
}

/// Everything that makes TLS needs a provider in the process.
fn rustls_provider() -> reqwest::Client {
    testbed::registry::http_client()
}

/// The built Ground Control with its own authority, and SVIDs of it in files.
#[tokio::test]
async fn go_spiffe_as_a_client_of_the_built_ground_control() {
    let world = crate::support::builtin().await;
    let url = format!("{}/satellites/spiffe-ztr", world.place.spiffe_url());
    let folder = world.dir().join("go");
    let mut seen = Vec::new();
    let mut client = None;
    // The second time with another key: what the client shows is what lies in the files then.
    for _ in 0..2 {
        let registered = world.admin.register("edge-01", "default", &[]).await.unwrap();
        let mut hand = crate::support::Hand::new(world.place.spiffe_url(), &registered);
        assert_eq!(hand.attest(&registered.join_token).await, 200);
        files::write(&folder.join("svid.pem"), hand.svid.as_deref().unwrap()).unwrap();
        files::write_private(&folder.join("key.pem"), hand.key.to_pem().as_str()).unwrap();
        files::write(&folder.join("bundle.pem"), &hand.bundle).unwrap();
        if client.is_none() {
            client = Some(GoPeer::client(&Source::Files(&folder), &url, &id(GO)).await.unwrap());
        }
        let answer = good(client.as_mut().unwrap()).await;
        assert_eq!(
            (answer["id"].as_str(), answer["peer_id"].as_str()),
            (Some(id(OURS).as_str()), Some(id(GO).as_str()))
        );
        assert_eq!(answer["version"], "TLS 1.3");
        assert!(answer["body"].as_str().unwrap().contains("robot$edge-01"), "{}", answer["status"]);
        seen.push(answer["serial"].clone());
    }
    assert_ne!(seen[0], seen[1]);
    world.admin.revoke("edge-01").await.unwrap();
    assert_eq!(client.unwrap().request().await.unwrap()["status"], 403);
}

/// The built satellite takes go-spiffe for its Ground Control, as far as registration, and shows what it has then.
#[tokio::test]
async fn go_spiffe_as_a_server_for_the_built_satellite() {
    let dir = files::scratch("interop").unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    let server_api = WorkloadApi::serving(&dir.path().join("s.sock"), &authority, GO).await.unwrap();
    let client_api = WorkloadApi::serving(&dir.path().join("c.sock"), &authority, OURS).await.unwrap();
    let socket = server_api.endpoint();
    let (mut server, address) = GoPeer::server(&Source::Socket(&socket), &id(OURS)).await.unwrap();
    let options = testbed::satellite::Options {
        ground_control_url: format!("https://{address}"),
        identity: Some(testbed::satellite::Identity::WorkloadApi { socket: client_api.socket().to_owned() }),
        environment: vec![("REGISTER_SATELLITE_INTERVAL".into(), "@every 1s".into())],
        ..Default::default()
    };
    let site = testbed::satellite::Site::new(&dir.path().join("edge"), options).unwrap();
    let _satellite = site.start().await.unwrap();
    let seen = server.line().await.unwrap();
    assert_eq!(
        (seen["method"].as_str(), seen["path"].as_str()),
        (Some("GET"), Some("/satellites/spiffe-ztr")),
        "{seen}"
    );
    assert_eq!(seen["peer_id"], id(OURS), "{seen}");

    let old = (client_api.handed().unwrap().svid, server_api.handed().unwrap().svid);
    authority.rotate().unwrap();
    client_api.hand(old.0, &authority);
    server_api.hand(old.1, &authority);
    for (api, path) in [(&server_api, GO), (&client_api, OURS)] {
        api.issue(&authority, path).unwrap();
    }
    let fresh = serial(&client_api.handed().unwrap().svid);
    wait_for("a request with the new SVID", LIMIT, async || {
        (server.line().await.unwrap()["peer_serial"] == fresh).then_some(())
    })
    .await
    .unwrap();
}
