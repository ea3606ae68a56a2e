//! A satellite's life: introduced, heard of, silent, revoked, let in again, deleted; and the secrets that come and go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::spiffe::{Fleet, Peer, credentials};
use crate::support::{Answer, As, Server};

async fn state(server: &Server, name: &str) -> Value {
    server.admin("GET", &format!("/api/satellites/{name}"), None).await.expect(200).body["state"].clone()
}

/// Waits until the satellite is in this state.
async fn becomes(server: &Server, name: &str, wanted: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let state = state(server, name).await;
        if state == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is {state} and not {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn sync(server: &Server, robot: &(String, String)) -> Answer {
    server.send(As::Basic(&robot.0, &robot.1), "POST", "/satellites/sync", Some(json!({}))).await
}

async fn introduce(peer: &Peer) -> Answer {
    peer.ask("GET", "/satellites/spiffe-ztr", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_makes_stale_and_a_heartbeat_online_again() {
    let fleet = Fleet::start(&[("STALE_THRESHOLD", "1s")]).await;
    let (server, peer) = (&fleet.server, fleet.peer(Some(&fleet.svid("edge-01"))));
    introduce(&peer).await.expect(200);
    assert_eq!(state(server, "edge-01").await, "pending");
    peer.heartbeat().await.expect(200);
    becomes(server, "edge-01", "stale").await;
    let list = server.admin("GET", "/api/satellites/stale", None).await.expect(200).body;
    assert_eq!(list[0]["name"], "edge-01");
    let seen = server.admin("GET", "/api/satellites/edge-01", None).await.body;
    assert_eq!(seen["spiffe_id"], "spiffe://harbor-satellite.local/satellite/region/default/edge-01");
    peer.heartbeat().await.expect(200);
    assert_eq!(state(server, "edge-01").await, "online");
    assert_eq!(server.admin("GET", "/api/satellites/active", None).await.body[0]["name"], "edge-01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_silence_is_says_the_satellite_itself() {
    let fleet = Fleet::start(&[]).await;
    let (server, quick) = (&fleet.server, fleet.peer(Some(&fleet.svid("edge-01"))));
    introduce(&quick).await.expect(200);
    let report = json!({"state_report_interval": "@every 00h00m01s"});
    quick.ask("POST", "/satellites/sync", Some(report)).await.expect(200);
    fleet.introduce("edge-02").await;
    fleet.peer(Some(&fleet.svid("edge-02"))).heartbeat().await.expect(200);
    becomes(server, "edge-01", "stale").await;
    assert_eq!(state(server, "edge-02").await, "online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_satellite_is_refused_everywhere_at_once_and_comes_back_by_an_administrator() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let peer = fleet.peer(Some(&fleet.svid("edge-01")));
    let robot = credentials(&introduce(&peer).await.expect(200));
    peer.heartbeat().await.expect(200);
    let basic = As::Basic(&robot.0, &robot.1);
    let token = server.send(basic, "GET", "/service/token", None).await.expect(200).body["token"].clone();
    let bearer = As::Session(token.as_str().unwrap());
    for who in [basic, bearer] {
        server.send(who, "GET", "/v2/", None).await.expect(200);
    }

    server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    assert_eq!(state(server, "edge-01").await, "revoked");
    // Over the connection that stands, and over a new one.
    for peer in [&peer, &fleet.peer(Some(&fleet.svid("edge-01")))] {
        peer.heartbeat().await.expect(403);
        introduce(peer).await.expect(403);
        peer.ask("POST", "/satellites/credentials", None).await.expect(403);
    }
    sync(server, &robot).await.expect(403);
    server.send(basic, "POST", "/satellites/credentials", None).await.expect(403);
    for who in [basic, bearer] {
        let refused = server.send(who, "GET", "/v2/", None).await.expect(403);
        assert_eq!(refused.body["errors"][0]["code"], "DENIED");
    }
    server.send(basic, "GET", "/service/token", None).await.expect(403);
    server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);

    let enabled = server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    assert_eq!(state(server, "edge-01").await, "pending");
    server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(409);
    sync(server, &robot).await.expect(401);
    server.send(bearer, "GET", "/v2/", None).await.expect(401);
    let fresh = server.register(enabled.body["token"].as_str().unwrap()).await;
    assert_ne!(fresh.1, robot.1);
    sync(server, &fresh).await.expect(200);
    peer.heartbeat().await.expect(200);
    assert_eq!(state(server, "edge-01").await, "online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_name_comes_back_only_by_an_administrator() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let peer = fleet.peer(Some(&fleet.svid("edge-01")));
    let robot = credentials(&introduce(&peer).await.expect(200));
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    peer.heartbeat().await.expect(401);
    introduce(&peer).await.expect(401);
    peer.ask("POST", "/satellites/credentials", None).await.expect(401);
    sync(server, &robot).await.expect(401);
    server.admin("GET", "/api/satellites/edge-01", None).await.expect(404);
    server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(404);

    server.satellite("edge-01", &[]).await;
    let again = credentials(&introduce(&peer).await.expect(200));
    sync(server, &robot).await.expect(401);
    sync(server, &again).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_taken_in_without_groups_and_only_in_their_own_region() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let of = |path: &str| fleet.peer(Some(&fleet.authority.issue(path).unwrap()));
    let peer = of("/satellite/region/us-east/edge-01");
    // Nothing but registration makes a name known.
    peer.heartbeat().await.expect(401);
    peer.ask("POST", "/satellites/credentials", None).await.expect(401);
    server.admin("GET", "/api/satellites/edge-01", None).await.expect(404);
    let answer = introduce(&peer).await.expect(200);
    let url = &server.running.public_url;
    assert!(url.starts_with("https://"), "{url}");
    assert_eq!(answer.body["auth"]["url"], json!(url));
    assert_eq!(answer.body["state"], json!(format!("{url}/satellite/satellite-state/edge-01/state:latest")));
    let known = server.admin("GET", "/api/satellites/edge-01", None).await.expect(200).body;
    assert_eq!((&known["region"], &known["groups"]), (&json!("us-east"), &json!([])));
    assert_eq!(known["config_name"], "default");

    for elsewhere in ["/satellite/region/us-west/edge-01", "/satellite/edge-01"] {
        introduce(&of(elsewhere)).await.expect(403);
        of(elsewhere).heartbeat().await.expect(403);
    }
    // The older form of the identity is the region `default`.
    introduce(&of("/satellite/edge-02")).await.expect(200);
    of("/satellite/region/default/edge-02").heartbeat().await.expect(200);
    for nobody in
        ["/gc/main", "/agent/edge-01", "/satellite/region/us-east/Edge", "/anything", "/satellite/stale"]
    {
        introduce(&of(nobody)).await.expect(403);
    }
    of("/agent/edge-01").heartbeat().await.expect(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_wait_for_approval_where_that_is_the_policy() {
    let fleet = Fleet::start(&[("AUTO_REGISTER", "approve")]).await;
    let (server, peer) = (&fleet.server, fleet.peer(Some(&fleet.svid("edge-01"))));
    introduce(&peer).await.expect(403);
    introduce(&peer).await.expect(403);
    peer.heartbeat().await.expect(403);
    assert_eq!(state(server, "edge-01").await, "awaiting_approval");
    server.admin("POST", "/api/satellites/edge-01/approve", None).await.expect(200);
    server.admin("POST", "/api/satellites/edge-01/approve", None).await.expect(409);
    assert_eq!(state(server, "edge-01").await, "pending");
    introduce(&peer).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_where_that_is_the_policy_and_the_known_are_not() {
    let fleet = Fleet::start(&[("AUTO_REGISTER", "deny")]).await;
    let (server, peer) = (&fleet.server, fleet.peer(Some(&fleet.svid("edge-01"))));
    introduce(&peer).await.expect(403);
    server.admin("GET", "/api/satellites/edge-01", None).await.expect(404);
    server.satellite("edge-01", &[]).await;
    introduce(&peer).await.expect(200);
    peer.heartbeat().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_good_until_the_one_after_it_is_used() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let peer = fleet.peer(Some(&fleet.svid("edge-01")));
    let renew = async |who: As<'_>| server.send(who, "POST", "/satellites/credentials", None).await;
    let first = credentials(&introduce(&peer).await.expect(200));
    sync(server, &first).await.expect(200);

    let second = credentials(&renew(As::Basic(&first.0, &first.1)).await.expect(200));
    assert_ne!(first.1, second.1);
    // The answer was lost: it is asked for again with what is at hand.
    sync(server, &first).await.expect(200);
    let third = credentials(&renew(As::Basic(&first.0, &first.1)).await.expect(200));
    sync(server, &third).await.expect(200);
    for old in [&first, &second] {
        sync(server, old).await.expect(401);
        renew(As::Basic(&old.0, &old.1)).await.expect(401);
    }
    renew(As::Nobody).await.expect(401);

    // By the SVID it is the same, and registering again harms what is in use no more.
    let fourth = credentials(&peer.ask("POST", "/satellites/credentials", None).await.expect(200));
    sync(server, &third).await.expect(200);
    let fifth = credentials(&introduce(&peer).await.expect(200));
    sync(server, &third).await.expect(200);
    sync(server, &fifth).await.expect(200);
    for old in [&third, &fourth] {
        sync(server, old).await.expect(401);
    }
}

/// Both ways of the heartbeat ask for fresh credentials where the secret is old, or there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_missing_secrets_are_asked_to_be_renewed() {
    let fleet = Fleet::start(&[("ROBOT_DURATION_DAYS", "7")]).await;
    let server = &fleet.server;
    let peer = fleet.peer(Some(&fleet.svid("edge-01")));
    let refresh = json!(["refresh_credentials"]);
    server.satellite("edge-01", &[]).await;
    assert_eq!(peer.heartbeat().await.expect(200).body["events"], refresh);
    let robot = credentials(&peer.ask("POST", "/satellites/credentials", None).await.expect(200));
    assert_eq!(peer.heartbeat().await.expect(200).body["events"], json!(null));
    assert_eq!(sync(server, &robot).await.expect(200).body["events"], json!(null));

    let file = server.dir.path().join("ground-control.db");
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let week_ago = jiff::Timestamp::now().as_millisecond() - 7 * 86_400_000;
    sqlx::query("UPDATE robots SET rotated_at = $1").bind(week_ago).execute(&database).await.unwrap();
    assert_eq!(peer.heartbeat().await.expect(200).body["events"], refresh);
    assert_eq!(sync(server, &robot).await.expect(200).body["events"], refresh);
    peer.ask("POST", "/satellites/credentials", None).await.expect(200);
    assert_eq!(sync(server, &robot).await.expect(200).body["events"], json!(null));
}

/// Where a request brings a certificate and a secret, the certificate decides; people's routes look at the login alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_comes_before_the_secret_and_means_nothing_to_people() {
    let fleet = Fleet::start(&[]).await;
    let first = fleet.introduce("edge-01").await;
    fleet.introduce("edge-02").await;
    let second = fleet.peer(Some(&fleet.svid("edge-02")));
    let both = As::Basic(&first.0, &first.1);
    second
        .send(both, "POST", "/satellites/sync", Some(json!({"name": "edge-01"})))
        .await
        .unwrap()
        .expect(200);
    assert_eq!(state(&fleet.server, "edge-01").await, "pending");
    assert_eq!(state(&fleet.server, "edge-02").await, "online");
    let renewed = second.send(both, "POST", "/satellites/credentials", None).await.unwrap().expect(200);
    assert_eq!(credentials(&renewed).0, "robot$edge-02");
    fleet.server.admin("POST", "/api/satellites/edge-02/revoke", None).await.expect(200);
    second.send(both, "POST", "/satellites/sync", Some(json!({}))).await.unwrap().expect(403);

    let admin = As::Session(&fleet.server.admin);
    second.send(admin, "GET", "/api/users", None).await.unwrap().expect(200);
    second.send(both, "GET", "/v2/", None).await.unwrap().expect(200);
}
