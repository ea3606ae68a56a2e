//! Limits, lockouts, and where requests come from.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::spiffe::{Fleet, TRUST_DOMAIN};
use crate::support::{ADMIN_PASSWORD, Answer, As, Server, answer, config};

const BEHIND: &[(&str, &str)] = &[("TRUSTED_PROXIES", "127.0.0.0/8,::1")];

/// A login as a proxy passes it on.
async fn login_from(server: &Server, source: &str, name: &str, password: &str) -> Answer {
    let request = server.client.post(server.url("/login")).header("X-Forwarded-For", source);
    answer(request.json(&json!({"username": name, "password": password})).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_locks_out_others() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), BEHIND).await;
    for (n, source) in ["203.0.113.9", "2001:db8:1:2::9"].into_iter().enumerate() {
        for _ in 0..5 {
            login_from(&server, source, "admin", "wrong").await.expect(401);
        }
        let locked = login_from(&server, source, "admin", ADMIN_PASSWORD).await.expect(429);
        assert!((1..=301).contains(&locked.header("retry-after").parse::<u64>().unwrap()));
        // The person who has that name comes from elsewhere, and another person from there.
        login_from(&server, "198.51.100.1", "admin", ADMIN_PASSWORD).await.expect(200);
        let other = format!("other-{n}");
        server.person(&other, "viewer").await;
        login_from(&server, source, &other, ADMIN_PASSWORD).await.expect(200);
    }
    // One device has a whole /64; the next one is somebody else.
    login_from(&server, "2001:db8:1:2:ffff::1", "admin", ADMIN_PASSWORD).await.expect(429);
    login_from(&server, "2001:db8:1:3::9", "admin", ADMIN_PASSWORD).await.expect(200);
    login_from(&server, "[::ffff:203.0.113.9]:4711", "admin", ADMIN_PASSWORD).await.expect(429);
    // Nor does a lock touch a session, and what that session does with a password of its own.
    let change = json!({"current_password": ADMIN_PASSWORD, "new_password": "Harbor54321"});
    let request = server.client.patch(server.url("/api/users/password")).bearer_auth(&server.admin);
    let changed = request.header("X-Forwarded-For", "203.0.113.9").json(&change).send().await.unwrap();
    assert_eq!(changed.status(), 204);
}

/// A lock is the database's: another server on it knows of it, and so does the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_no_lock() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), BEHIND).await;
    for _ in 0..5 {
        login_from(&server, "203.0.113.9", "admin", "wrong").await.expect(401);
    }
    let server = Server::start_in(server.stop().await, BEHIND).await;
    login_from(&server, "203.0.113.9", "admin", ADMIN_PASSWORD).await.expect(429);
    login_from(&server, "203.0.113.10", "admin", ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_trusted_proxy_cannot_say_where_a_request_comes_from() {
    let server = Server::start().await;
    for n in 0..5 {
        login_from(&server, &format!("203.0.113.{n}"), "admin", "wrong").await.expect(401);
    }
    login_from(&server, "203.0.113.77", "admin", "wrong").await.expect(429);
}

/// Failed logins under ever other names are bound to their source, too; those from elsewhere are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_tries_many_names_is_refused() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), BEHIND).await;
    let mut refused = false;
    for n in 0..250 {
        let answer = login_from(&server, "203.0.113.9", &format!("name-{n}"), "wrong").await;
        refused = answer.status == 429;
        if refused {
            assert!((1..=3).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
            break;
        }
        answer.expect(401);
    }
    assert!(refused);
    login_from(&server, "198.51.100.1", "admin", ADMIN_PASSWORD).await.expect(200);
    server.admin("GET", "/api/groups", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_its_share_and_no_other_s() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), &[("API_RATE_LIMIT", "1")]).await;
    let vera = server.person("vera", "viewer").await;
    let mut refused = None;
    for _ in 0..100 {
        let answer = server.send(As::Session(&vera), "GET", "/api/groups", None).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(refused.unwrap().header("retry-after"), "1");
    server.admin("GET", "/api/groups", None).await.expect(200);
}

/// Registrations that fail hold up neither logins nor heartbeats, and registrations from elsewhere succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_registrations_are_bound_to_their_source() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), BEHIND).await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    let token = server.satellite("edge-02", &[]).await;
    let claim = async |token: &str| {
        let body = json!({"token": token, "nonce": "0123456789abcdef0123456789abcdef"});
        let request =
            server.client.post(server.url("/satellites/ztr")).header("X-Forwarded-For", "203.0.113.9");
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    // Eight at once: one after the other might be no more, on a busy machine, than what is given back meanwhile.
    let (mut failed, mut refused) = (0, false);
    while !refused {
        let answers = futures_util::future::join_all((0..8).map(|_| claim("no token"))).await;
        let (late, wrong): (Vec<u16>, Vec<u16>) = answers.into_iter().partition(|status| *status == 429);
        assert!(wrong.iter().all(|status| *status == 400), "{wrong:?}");
        (failed, refused) = (failed + wrong.len(), !late.is_empty());
        assert!(failed < 20_000, "never refused");
    }
    assert!(failed >= 2000, "a site of hundreds has to come back: {failed}");
    login_from(&server, "203.0.113.9", "admin", ADMIN_PASSWORD).await.expect(200);
    let request = server.client.post(server.url("/satellites/sync")).header("X-Forwarded-For", "203.0.113.9");
    let heartbeat = request.basic_auth(&name, Some(&secret)).json(&json!({})).send().await.unwrap();
    assert_eq!(heartbeat.status(), 200);
    server.register(&token).await;
}

/// mTLS behind a proxy that passes bytes on: the source is the one that it tells, the satellite the one of the certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_stands_in_front_of_mtls() {
    let fleet = Fleet::start(BEHIND).await;
    let svid = fleet.svid("edge-01");
    let peer = fleet.peer(Some(&svid));
    peer.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);

    let trust_domain = TRUST_DOMAIN.parse().unwrap();
    let bundle = identity::TrustBundle::from_pem(trust_domain, &fleet.authority.bundle_pem()).unwrap();
    let expected =
        identity::tls::Expected::Exactly("spiffe://harbor-satellite.local/gc/main".parse().unwrap());
    let mut tls = identity::tls::bootstrap_client_config(bundle, expected, &[b"http/1.1"]).unwrap();
    tls.client_auth_cert_resolver = crate::spiffe::shows(&svid);
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let ask = async |front: &[u8], request: String| {
        let mut stream = TcpStream::connect(fleet.server.running.address).await.unwrap();
        stream.write_all(front).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = tls.connect(name, stream).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&all).into_owned())
    };
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let front = |last: u8| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        bytes.extend([203, 0, 113, last, 127, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb]);
        bytes
    };
    let heartbeat = ask(&front(9), post("/satellites/sync", json!({}))).await.unwrap();
    assert!(heartbeat.starts_with("HTTP/1.1 200 "), "{heartbeat}");
    let login = |password: &str| post("/login", json!({"username": "admin", "password": password}));
    for _ in 0..5 {
        let wrong = ask(&front(9), login("wrong")).await.unwrap();
        assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
    }
    for (front, expected) in [(front(9), "429"), (front(10), "200"), (Vec::new(), "200")] {
        let answer = ask(&front, login(ADMIN_PASSWORD)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{answer}");
    }
    // Something that is no such header, where one begins.
    assert!(ask(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00", login(ADMIN_PASSWORD)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_key_is_noticed_at_the_start() {
    let server = Server::start().await;
    let dir = server.stop().await;
    let other = tempfile::tempdir().unwrap();
    let key = other.path().join("key");
    let file = std::fs::File::create(&key).unwrap();
    std::io::Write::write_all(&mut &file, b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n").unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let variables = [("SECRET_KEY_FILE", key.to_str().unwrap())];
    let error = ground_control::server::start(&config(&dir, &variables)).await.unwrap_err().to_string();
    assert!(error.starts_with("SECRET_KEY_FILE: ") && error.contains("not the one"), "{error}");
    // With its own key it starts as ever.
    Server::start_in(dir, &[]).await;
}
