//! The two listeners, side by side: what each shows, serves and names.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testbed::authority::Authority;
use testbed::workload_api::WorkloadApi;

use crate::spiffe::{Fleet, TRUST_DOMAIN, peer};
use crate::support::{ADMIN_PASSWORD, As, Server};

/// Everything that the challenge of `/v2/` says but its scope.
fn realm(header: &str) -> String {
    header.split("realm=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_names_its_own_token_service_and_both_know_the_same_tokens() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let web = server.running.web.clone().unwrap();
    assert!(web.url.starts_with("http://127.0.0.1:"), "{web:?}");
    assert!(server.running.public_url.starts_with("https://127.0.0.1:"));
    let plain = fleet.peer(None);
    let mtls = plain.ask("GET", "/v2/", None).await.expect(401);
    assert_eq!(
        realm(mtls.header("www-authenticate")),
        format!("{}/service/token", server.running.public_url)
    );
    let open = server.send(As::Nobody, "GET", "/v2/", None).await.expect(401);
    assert_eq!(realm(open.header("www-authenticate")), format!("{}/service/token", web.url));

    let admin = As::Basic("admin", ADMIN_PASSWORD);
    let token =
        plain.send(admin, "GET", "/service/token", None).await.unwrap().expect(200).body["token"].clone();
    server.send(As::Session(token.as_str().unwrap()), "GET", "/v2/", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_without_spiffe_get_all_but_what_only_an_identity_leads_to() {
    let fleet = Fleet::start(&[("WEB_PUBLIC_URL", "https://gc.example.com/")]).await;
    let server = &fleet.server;
    for (method, path) in [
        ("GET", "/satellites/spiffe-ztr"),
        ("POST", "/satellites/attest"),
        ("GET", "/satellites/renew"),
        ("POST", "/satellites/renew"),
    ] {
        server.send(As::Nobody, method, path, None).await.expect(404);
    }
    let (name, secret) = server.robot("edge-01", &[]).await;
    let robot = As::Basic(&name, &secret);
    server.send(robot, "POST", "/satellites/sync", Some(json!({}))).await.expect(200);
    server.send(robot, "POST", "/satellites/credentials", None).await.expect(200);
    let challenge = server.client.get(format!("http://{}/v2/", server.running.web.as_ref().unwrap().address));
    let challenge = challenge.send().await.unwrap();
    assert_eq!(
        realm(challenge.headers()["www-authenticate"].to_str().unwrap()),
        "https://gc.example.com/service/token"
    );
    let status = server.admin("GET", "/api/spire/status", None).await.expect(200).body;
    assert_eq!(
        status,
        json!({"enabled": true, "trust_domain": TRUST_DOMAIN, "provider": "static", "connected": false})
    );
    // Nobody here makes identities.
    let body = json!({"satellite_name": "edge-02"});
    server.admin("POST", "/api/satellites/register", Some(body)).await.expect(503);
    server.admin("GET", "/api/satellites/edge-02", None).await.expect(404);
}

/// What the authorities of `TLS_CA_FILE` vouch for is no SVID, whatever name it carries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_on_the_second_listener_names_no_satellite() {
    let web = Authority::new("web.example").unwrap();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |name: &str, text: &str| {
        std::io::Write::write_all(&mut std::fs::File::create(path(name)).unwrap(), text.as_bytes()).unwrap();
        path(name)
    };
    let (certificate, key) = (write("tls.pem", &own.pem()), write("tls.key", &key.serialize_pem()));
    let authorities = write("clients.pem", &web.bundle_pem());
    let mut wish = web.wish("/satellite/region/default/edge-01");
    wish.uris = vec![format!("spiffe://{TRUST_DOMAIN}/satellite/region/default/edge-01")];
    let svid = web.issue_as(&wish).unwrap();

    crate::support::provider();
    let root = reqwest::Certificate::from_pem(own.pem().as_bytes()).unwrap();
    let identity = format!("{}{}", svid.certificate_pem(), svid.key_pem());
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap())
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let trusting =
        [("TLS_CERT_FILE", certificate.as_str()), ("TLS_KEY_FILE", &key), ("TLS_CA_FILE", &authorities)];
    let fleet = Fleet::start_with(client.clone(), &trusting).await;
    fleet.introduce("edge-01").await;
    let web_url = fleet.server.running.web.as_ref().unwrap().url.clone();
    assert!(web_url.starts_with("https://"), "{web_url}");
    let status = async |path: &str| {
        client.post(format!("{web_url}{path}")).json(&json!({})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/satellites/sync").await, 401);
    assert_eq!(status("/satellites/credentials").await, 401);
}

/// The agent may come later than the server, and go: until it is there nobody is served under the SVID, and everybody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_waits_for_its_identity_and_serves_the_others_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let endpoint = format!("unix://{}", socket.display());
    let authority = Authority::new(TRUST_DOMAIN).unwrap();
    let variables = [
        ("SPIFFE_SERVER_ENABLED", "true"),
        ("SPIFFE_ENDPOINT_SOCKET", endpoint.as_str()),
        ("WEB_LISTEN", "127.0.0.1:0"),
    ];
    let server = Server::start_in(tempfile::tempdir().unwrap(), &variables).await;
    let satellite = authority.issue("/satellite/region/default/edge-01").unwrap();
    let ask = async || {
        let peer = peer(&server, &authority.bundle_pem(), Some(&satellite));
        peer.send(As::Nobody, "GET", "/satellites/spiffe-ztr", None).await
    };
    server.send(As::Nobody, "GET", "/health", None).await.expect(200);
    assert!(ask().await.is_err(), "there is nothing to show yet");

    let agent = WorkloadApi::serving(Path::new(&socket), &authority, "/gc/main").await.unwrap();
    let mut own = server.running.state.identities.as_ref().unwrap().own.clone();
    tokio::time::timeout(Duration::from_secs(20), own.ready()).await.unwrap().unwrap();
    ask().await.unwrap().expect(200);

    agent.withdraw();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while ask().await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the identity was withdrawn");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let health = server.send(As::Nobody, "GET", "/health", None).await.expect(200);
    assert_eq!(health.body, json!({"status": "healthy"}));
}
