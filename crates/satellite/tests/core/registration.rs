//! Registration and heartbeats, with our Ground Control and with a deployed one.

use satellite::config::Layer;
use satellite::status::RegistrationState;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::fleet::{Edge, Registry, entry};
use crate::ground_control::{Kind, ROBOT_SECRET, StandIn};

fn towards(ground_control: &StandIn) -> Layer {
    Layer {
        ground_control_url: Some(ground_control.url.clone()),
        register_satellite_interval: Some("@every 1s".parse().unwrap()),
        heartbeat_interval: Some("@every 1s".parse().unwrap()),
        ..Layer::default()
    }
}

async fn fleet(kind: Kind) -> (Registry, StandIn) {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    let lost = registry.image("library/lost", Some("1"), "lost").await;
    registry
        .publish_group(
            "g1",
            json!([entry("library/app", &["1"], &image), entry("library/lost", &["1"], &lost)]),
        )
        .await;
    registry.fault(|faults| faults.missing.push("library/lost".to_owned()));
    registry.publish_satellite(&["g1"], None).await;
    let ground_control = StandIn::start(kind, &registry.url, &registry.state_url()).await;
    (registry, ground_control)
}

fn with_token(ground_control: &StandIn, token: &str) -> Edge {
    let edge = Edge::open(tempfile::tempdir().unwrap(), towards(ground_control));
    edge.token.send_replace(Some(SecretString::from(token.to_owned())));
    edge.start()
}

async fn heartbeat_where(edge: &Edge, ground_control: &StandIn, so: impl Fn(&Value) -> bool) -> Value {
    edge.until("a heartbeat", |_| ground_control.heartbeats().iter().any(&so)).await;
    ground_control.heartbeats().into_iter().rev().find(so).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_with_the_same_nonce() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    ground_control.book.lock().unwrap().lose_answers = 1;
    let mut edge = with_token(&ground_control, &ground_control.token());
    edge.until("the first try", |_| !ground_control.asked().is_empty()).await;
    // The power goes before the answer is there; the nonce is on the disk.
    let dir = edge.stop().await;
    let edge = Edge::open(dir, towards(&ground_control));
    edge.token.send_replace(Some(SecretString::from(ground_control.token())));
    let edge = edge.start();
    let status =
        edge.until("registration", |status| status.registration.state == RegistrationState::Registered).await;
    assert_eq!(status.name.as_deref(), Some("edge-01"));
    let nonces: Vec<Value> = ground_control.asked().iter().map(|asked| asked["nonce"].clone()).collect();
    assert!(nonces.len() >= 2 && nonces.iter().all(|nonce| *nonce == nonces[0]), "{nonces:?}");
    assert_eq!(nonces[0].as_str().unwrap().len(), 32);
    let kept = edge.vault.state().registration.clone().unwrap();
    assert_eq!(kept.auth.password.expose_secret(), ROBOT_SECRET);
    assert!(edge.vault.state().claim.as_ref().unwrap().nonce.is_empty(), "the claim is done");

    // Replication follows at once, registration has done its work.
    edge.until("the image", |status| status.images.len() == 1).await;
    let status = edge
        .until("retirement", |status| status.schedulers.get("registration").is_some_and(|entry| entry.done))
        .await;
    assert_eq!(status.schedulers["registration"].last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_says_what_is_here_and_what_failed() {
    let (registry, ground_control) = fleet(Kind::Ours).await;
    let edge = with_token(&ground_control, &ground_control.token());
    let heartbeat = heartbeat_where(&edge, &ground_control, |heartbeat| {
        heartbeat["image_count"] == 1 && heartbeat["failed"].is_array()
    })
    .await;
    let digest = registry.tag_of("library/app", "1").unwrap();
    let host = registry.url.trim_start_matches("http://");
    assert_eq!(heartbeat["name"], "edge-01");
    assert_eq!(heartbeat["cached_images"][0]["reference"], format!("{host}/library/app:1@{digest}"));
    assert!(heartbeat["cached_images"][0]["size_bytes"].as_u64().unwrap() > 4096);
    assert_eq!(heartbeat["failed"][0]["reference"], format!("{host}/library/lost:1"));
    assert!(heartbeat["failed"][0]["reason"].as_str().unwrap().contains("404"), "{heartbeat}");
    assert!(heartbeat["failed"][0]["since"].is_string());
    assert_eq!(heartbeat["state_report_interval"], "@every 1s");
    assert!(heartbeat["latest_state_digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(heartbeat["memory_used_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(heartbeat["storage_used_bytes"].as_u64().unwrap() > 4096);
    assert!(heartbeat["cpu_percent"].is_number() && heartbeat["last_sync_duration_ms"].is_number());
    assert!(heartbeat["activity"].is_string() && heartbeat["request_created_time"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_ground_control_is_spoken_to_in_its_own_form() {
    let (_registry, ground_control) = fleet(Kind::Deployed).await;
    let edge = with_token(&ground_control, &ground_control.token());
    edge.until("registration", |status| status.registration.state == RegistrationState::Registered).await;
    assert_eq!(ground_control.asked(), [json!({"path": ground_control.token()})]);
    edge.until("the image", |status| status.images.len() == 1).await;
    heartbeat_where(&edge, &ground_control, |heartbeat| heartbeat["image_count"] == 1).await;
    let status = edge.until("a good heartbeat", |status| {
        status.schedulers.get("heartbeat").is_some_and(|entry| entry.last_duration_ms.is_some())
    });
    assert_eq!(status.await.schedulers["heartbeat"].last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_said_clearly_and_a_new_one_is_taken_without_a_restart() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    ground_control.book.lock().unwrap().bound_nonce = Some("somebody else's".to_owned());
    let edge = with_token(&ground_control, &ground_control.token());
    let status =
        edge.until("the refusal", |status| status.registration.state == RegistrationState::Refused).await;
    let message = status.registration.message.unwrap();
    assert!(message.contains("the token was used") && message.contains("make a new one"), "{message}");
    assert!(!message.contains(&ground_control.token()), "a token is a secret");
    let entry = edge
        .until("the next try", |status| {
            status.schedulers.get("registration").is_some_and(|entry| entry.next_run.is_some())
        })
        .await;
    assert!(!entry.schedulers["registration"].done, "it goes on trying");

    let new = "ffffffffffffffffffffffffffffffff";
    {
        let mut book = ground_control.book.lock().unwrap();
        new.clone_into(&mut book.token);
        book.bound_nonce = None;
    }
    edge.token.send_replace(Some(SecretString::from(new)));
    edge.until("registration", |status| status.registration.state == RegistrationState::Registered).await;
    edge.until("the image", |status| status.images.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_heartbeat_never_throws_credentials_away() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    let edge = with_token(&ground_control, &ground_control.token());
    heartbeat_where(&edge, &ground_control, |_| true).await;
    ground_control.book.lock().unwrap().heartbeat_answer =
        Some((axum::http::StatusCode::UNAUTHORIZED, "the database is away".to_owned()));
    let status = edge
        .until("a failed heartbeat", |status| {
            status.schedulers.get("heartbeat").is_some_and(|entry| entry.last_error.is_some())
        })
        .await;
    let error = status.schedulers["heartbeat"].last_error.clone().unwrap();
    assert!(error.contains("401") && error.contains("the database is away"), "{error}");
    assert!(!error.contains(ROBOT_SECRET));
    assert_eq!(status.registration.state, RegistrationState::Registered);
    assert!(edge.vault.state().registration.is_some());
    ground_control.book.lock().unwrap().heartbeat_answer =
        Some((axum::http::StatusCode::OK, r#"{"events":[],"new":1}"#.to_owned()));
    edge.until("a good heartbeat", |status| {
        status.schedulers.get("heartbeat").is_some_and(|entry| entry.last_error.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_says_so_and_waits() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    let edge = Edge::open(tempfile::tempdir().unwrap(), towards(&ground_control)).start();
    let status =
        edge.until("the word", |status| status.registration.state == RegistrationState::NotConfigured).await;
    assert!(status.registration.message.unwrap().contains("TOKEN"));
    edge.token.send_replace(Some(SecretString::from(ground_control.token())));
    edge.until("registration", |status| status.registration.state == RegistrationState::Registered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_renews_the_registration_and_a_bad_one_costs_nothing() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    let mut edge = with_token(&ground_control, &ground_control.token());
    edge.until("registration", |status| {
        status.schedulers.get("registration").is_some_and(|entry| entry.done)
    })
    .await;
    let dir = edge.stop().await;

    let edge = Edge::open(dir, towards(&ground_control));
    edge.token.send_replace(Some(SecretString::from("unknown".to_owned())));
    let mut edge = edge.start();
    let status = edge.until("the refusal", |status| !status.warnings.is_empty()).await;
    assert!(status.warnings[0].contains("unknown token"), "{:?}", status.warnings);
    assert_eq!(status.registration.state, RegistrationState::Registered);
    edge.until("the image", |status| status.images.len() == 1).await;
    let dir = edge.stop().await;

    let before = ground_control.asked().len();
    {
        let mut book = ground_control.book.lock().unwrap();
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee".clone_into(&mut book.token);
        book.bound_nonce = None;
    }
    edge = Edge::open(dir, towards(&ground_control));
    edge.token.send_replace(Some(SecretString::from(ground_control.token())));
    let edge = edge.start();
    edge.until("registration", |status| {
        status.schedulers.get("registration").is_some_and(|entry| entry.done)
    })
    .await;
    assert_eq!(ground_control.asked().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_account_gets_fresh_credentials_when_the_heartbeat_says_so() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    ground_control.book.lock().unwrap().heartbeat_answer =
        Some((axum::http::StatusCode::OK, r#"{"events":["refresh_credentials"]}"#.to_owned()));
    let edge = with_token(&ground_control, &ground_control.token());
    edge.until("fresh credentials", |_| {
        let state = edge.vault.state();
        let held = state.registration.as_ref().map(|held| held.auth.password.expose_secret());
        held == Some("fresh-secret")
    })
    .await;
    heartbeat_where(&edge, &ground_control, |heartbeat| heartbeat["image_count"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_robot_account_stops_fetching_until_it_is_taken_again() {
    let (registry, ground_control) = fleet(Kind::Ours).await;
    let edge = with_token(&ground_control, &ground_control.token());
    edge.until("the image", |status| status.images.len() == 1).await;
    ground_control.book.lock().unwrap().heartbeat_answer =
        Some((axum::http::StatusCode::FORBIDDEN, r#"{"message":"revoked","code":403}"#.to_owned()));
    let status =
        edge.until("the refusal", |status| status.registration.state == RegistrationState::Refused).await;
    assert!(status.registration.message.unwrap().contains("revoked"));
    let pause = |status: &satellite::status::Status| status.activity.contains("nothing new is fetched");
    edge.until("the pause", pause).await;
    assert!(edge.vault.state().registration.is_some() && edge.tag_of("library/app", "1").is_some());
    let next = registry.image("library/app", Some("2"), "next").await;
    registry.publish_group("g1", json!([entry("library/app", &["2"], &next)])).await;
    ground_control.book.lock().unwrap().heartbeat_answer = None;
    edge.until("registration", |status| status.registration.state == RegistrationState::Registered).await;
    edge.until("the next version", |_| edge.tag_of("library/app", "2").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_is_taken_long_after_registration_was_done() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    let edge = with_token(&ground_control, &ground_control.token());
    edge.until("registration", |status| {
        status.schedulers.get("registration").is_some_and(|entry| entry.done)
    })
    .await;
    let before = ground_control.asked().len();
    {
        let mut book = ground_control.book.lock().unwrap();
        "dddddddddddddddddddddddddddddddd".clone_into(&mut book.token);
        book.bound_nonce = None;
    }
    edge.token.send_replace(Some(SecretString::from(ground_control.token())));
    edge.until("the new token's claim", |_| ground_control.asked().len() > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_there_yet_is_waited_for() {
    let (_registry, ground_control) = fleet(Kind::Ours).await;
    ground_control.change(|book| book.not_yet = 2);
    let edge = with_token(&ground_control, &ground_control.token());
    let status = edge
        .until("registration", |status| {
            assert_ne!(status.registration.state, RegistrationState::Refused);
            status.registration.state == RegistrationState::Registered
        })
        .await;
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);
    let asked = ground_control.asked();
    assert!(asked.len() >= 3 && asked.iter().all(|question| *question == asked[0]), "{asked:?}");

    // Fresh credentials that are not there yet are no failure of the heartbeat.
    edge.until("a good heartbeat", |_| !ground_control.heartbeats().is_empty()).await;
    ground_control.change(|book| {
        book.not_yet = 1;
        let answer = r#"{"events":["refresh_credentials"]}"#.to_owned();
        book.heartbeat_answer = Some((axum::http::StatusCode::OK, answer));
    });
    edge.until("fresh credentials", |status| {
        assert_eq!(status.schedulers["heartbeat"].last_error, None);
        let state = edge.vault.state();
        state.registration.as_ref().is_some_and(|held| held.auth.password.expose_secret() == "fresh-secret")
    })
    .await;
}
