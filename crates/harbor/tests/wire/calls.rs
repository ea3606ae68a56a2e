//! Every call of the client, and what it finds out about Harbor.

use std::io::Write;
use std::time::Duration;

use futures_util::future::join_all;
use harbor::{
    Access, Client, ClientOptions, DELETE_ARTIFACT, Endpoint, Ensured, ErrorKind, Expiry, Lifetime, Login,
    Permissions, PolicyId, RobotId, Scope, SecretCheck,
};
use jiff::SignedDuration;
use oci::{Digest, RepositoryName};
use secrecy::{ExposeSecret, SecretString};

use crate::stand_in::StandIn;
use crate::stand_in::world::Outage;
use crate::{client, harbor, new_robot, operator_rights, options, policy};

async fn check(client: &Client, name: &str, secret: &SecretString) -> SecretCheck {
    let login = Login { username: name.to_owned(), password: secret.clone() };
    client.check_secret(&login).await.unwrap()
}

#[tokio::test]
async fn a_robots_life() {
    let (stand_in, admin) = harbor().await;
    stand_in.world().shuffle = true;
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    assert_eq!(made.name, "robot$edge-01");
    assert_eq!(made.expiry, Lifetime::Days(30).expiry(made.created_at));
    assert_eq!(check(&admin, &made.name, &made.secret).await, SecretCheck::Accepted);

    let found = admin.find_robot(&"edge-01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found, admin.robot(made.id).await.unwrap(), "the order of rights differs from read to read");
    assert_eq!(found.permissions, Permissions::pull(["satellite"]));
    assert!(admin.find_robot(&"edge".parse().unwrap()).await.unwrap().is_none());

    let more = Permissions::pull(["satellite", "apps"]);
    admin.replace_permissions(&found, &more).await.unwrap();
    let changed = admin.robot(made.id).await.unwrap();
    assert_eq!(changed.permissions, more);
    assert_eq!((changed.expiry, changed.description.as_str()), (found.expiry, "of a site"));

    let fresh = admin.refresh_secret(made.id).await.unwrap();
    assert_eq!(check(&admin, &made.name, &made.secret).await, SecretCheck::Refused);
    assert_eq!(check(&admin, &made.name, &fresh).await, SecretCheck::Accepted);
    assert_eq!(admin.robot(made.id).await.unwrap().expiry, found.expiry, "a fresh secret moves no end");

    assert!(admin.delete_robot(made.id).await.unwrap());
    assert!(!admin.delete_robot(made.id).await.unwrap());
    assert!(admin.robot(made.id).await.unwrap_err().is_not_found());
    assert_eq!(check(&admin, &made.name, &fresh).await, SecretCheck::Refused);
    let again = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    assert_ne!(again.id, made.id, "a name is free again, a number never");
}

#[tokio::test]
async fn a_disabled_robot_stays_disabled_when_it_is_changed() {
    let (stand_in, admin) = harbor().await;
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    stand_in.world().robots[0].disabled = true;
    let robot = admin.robot(made.id).await.unwrap();
    admin.replace_permissions(&robot, &Permissions::pull(["apps"])).await.unwrap();
    assert!(admin.robot(made.id).await.unwrap().disabled);
}

#[tokio::test]
async fn durations_that_grow_keep_a_robot_alive() {
    let (stand_in, admin) = harbor().await;
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    let now = made.created_at + SignedDuration::from_hours(24 * 25);
    stand_in.world().now = now;
    let robot = admin.robot(made.id).await.unwrap();
    let longer = robot.lifetime.extended(robot.created_at, now, 30);
    assert!(longer >= Lifetime::Days(55));
    admin.set_lifetime(&robot, longer).await.unwrap();
    let extended = admin.robot(made.id).await.unwrap();
    assert_eq!(extended.expiry, longer.expiry(made.created_at));
    assert_eq!(extended.permissions, robot.permissions);
    assert!(extended.expiry.seconds_left(now).unwrap() >= 30 * 86_400);

    // A shorter one may end it at once; a longer one brings it back with the same secret.
    admin.set_lifetime(&extended, Lifetime::Days(5)).await.unwrap();
    let ended = admin.robot(made.id).await.unwrap();
    assert!(ended.expiry.has_passed(now));
    assert_eq!(check(&admin, &made.name, &made.secret).await, SecretCheck::Refused);
    let _fresh_secrets_do_not_help = admin.refresh_secret(made.id).await.unwrap();
    assert!(admin.robot(made.id).await.unwrap().expiry.has_passed(now));
    admin.set_lifetime(&ended, Lifetime::Never).await.unwrap();
    assert_eq!(admin.robot(made.id).await.unwrap().expiry, Expiry::Never);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let (stand_in, admin) = harbor().await;
    admin.create_robot(&new_robot("edge-01")).await.unwrap();
    assert!(admin.create_robot(&new_robot("edge-01")).await.unwrap_err().is_conflict());

    let mut unknown = new_robot("edge-02");
    unknown.permissions = Permissions::pull(["satellite", "nosuch"]);
    assert!(admin.create_robot(&unknown).await.unwrap_err().is_not_found());
    assert!(admin.find_robot(&unknown.name).await.unwrap().is_none());

    stand_in.seen();
    unknown.permissions = Permissions::default();
    let error = admin.create_robot(&unknown).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Input(_)), "{error}");
    assert!(stand_in.seen().is_empty(), "what Harbor refuses for sure is not sent");

    unknown.permissions.add(Scope::project("satellite"), Access::new("repository", "fly"));
    let error = admin.create_robot(&unknown).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Refused { status: 400, code: Some(code), .. } if code == "BAD_REQUEST")
    );
    assert!(error.to_string().contains("create robot edge-02 at http://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn six_at_once_make_one() {
    let (_stand_in, admin) = harbor().await;
    let robot = new_robot("race");
    let all = join_all((0..6).map(|_| admin.create_robot(&robot))).await;
    assert_eq!(all.iter().filter(|made| made.is_ok()).count(), 1);
    assert_eq!(all.iter().filter(|made| made.as_ref().is_err_and(|e| e.is_conflict())).count(), 5);
}

#[tokio::test]
async fn a_robot_as_operator() {
    let (stand_in, admin) = harbor().await;
    let other = admin.create_robot(&new_robot("of-another")).await.unwrap();
    let mut rights = new_robot("gc");
    rights.permissions = operator_rights();
    let made = admin.create_robot(&rights).await.unwrap();
    let operator = client(&stand_in, &made.name, made.secret.expose_secret(), options());

    assert!(operator.system_info().await.unwrap().is_authenticated());
    let child = operator.create_robot(&new_robot("edge-01")).await.unwrap();
    let robot = operator.robot(child.id).await.unwrap();
    assert!(
        operator.replace_permissions(&robot, &Permissions::pull(["apps"])).await.unwrap_err().is_forbidden()
    );
    assert!(operator.set_lifetime(&robot, Lifetime::Never).await.unwrap_err().is_forbidden());
    assert!(operator.refresh_secret(child.id).await.unwrap_err().is_forbidden());

    let mut beyond = new_robot("edge-02");
    beyond.permissions.add(Scope::project("satellite"), Access::new("tag", "delete"));
    assert!(operator.create_robot(&beyond).await.unwrap_err().is_forbidden());
    assert!(operator.create_webhook_policy("satellite", &policy()).await.unwrap_err().is_forbidden());
    assert_eq!(operator.ensure_private_project("by-robot").await.unwrap(), Ensured::Created);
    assert!(operator.delete_robot(other.id).await.unwrap(), "also one that it did not make");
    assert_eq!(operator.robots().await.unwrap().len(), 2);
}

#[tokio::test]
async fn projects_are_there_and_private() {
    let (stand_in, admin) = harbor().await;
    assert!(!admin.project_exists("states").await.unwrap());
    assert_eq!(admin.ensure_private_project("states").await.unwrap(), Ensured::Created);
    assert_eq!(admin.ensure_private_project("states").await.unwrap(), Ensured::Found);
    assert!(admin.project("library").await.unwrap().is_public());
    assert_eq!(admin.ensure_private_project("library").await.unwrap(), Ensured::MadePrivate);
    assert!(!admin.project("library").await.unwrap().is_public());
    assert!(admin.create_private_project("states").await.unwrap_err().is_conflict());
    assert!(admin.project("nosuch").await.unwrap_err().is_not_found());
    let names: Vec<String> = admin.projects().await.unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["apps", "library", "satellite", "states"]);

    // A name that is a number is not another project's number.
    let id = stand_in.world().projects.iter().find(|p| p.name == "apps").unwrap().id;
    assert_eq!(admin.ensure_private_project(&id.to_string()).await.unwrap(), Ensured::Created);
    assert_eq!(admin.project(&id.to_string()).await.unwrap().name, id.to_string());
}

#[tokio::test]
async fn a_webhook_policy_is_made_once_and_kept_right() {
    let (stand_in, admin) = harbor().await;
    assert!(admin.webhook_policies("satellite").await.unwrap().is_empty());
    let id = admin.create_webhook_policy("satellite", &policy()).await.unwrap();
    assert!(admin.create_webhook_policy("satellite", &policy()).await.unwrap_err().is_conflict());
    let listed = admin.webhook_policies("satellite").await.unwrap();
    assert!(listed.len() == 1 && listed[0].id == id && listed[0].is(&policy()));
    assert!(admin.webhook_policies("nosuch").await.unwrap_err().is_not_found());

    let mut fewer = policy();
    fewer.events = [DELETE_ARTIFACT.to_owned()].into();
    assert!(!listed[0].is(&fewer));
    admin.update_webhook_policy("satellite", id, &fewer).await.unwrap();
    let listed = admin.webhook_policies("satellite").await.unwrap();
    assert!(listed[0].is(&fewer));
    assert_eq!(listed[0].events().collect::<Vec<_>>(), [DELETE_ARTIFACT]);

    stand_in.world().policies[0].executions = vec![
        serde_json::json!({ "id": 2, "status": "Error", "start_time": "2026-11-21T09:24:13Z" }),
        serde_json::json!({ "id": 1, "status": "Success", "start_time": "2026-11-21T09:23:59Z" }),
    ];
    let deliveries = admin.webhook_deliveries("satellite", id, 1).await.unwrap();
    assert_eq!(deliveries.iter().map(|d| d.status.as_str()).collect::<Vec<_>>(), ["Error"]);

    stand_in.world().busy_policies = 2;
    assert!(admin.delete_webhook_policy("satellite", id).await.unwrap(), "412 is waited out");
    assert!(!admin.delete_webhook_policy("satellite", id).await.unwrap());
    let id = admin.create_webhook_policy("satellite", &policy()).await.unwrap();
    stand_in.world().busy_policies = 100;
    let error = admin.delete_webhook_policy("satellite", id).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Precondition(_)), "{error}");
    assert!(
        admin.update_webhook_policy("satellite", PolicyId(99), &policy()).await.unwrap_err().is_not_found()
    );
    let mut nameless = policy();
    nameless.name.clear();
    let error = admin.create_webhook_policy("satellite", &nameless).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Input(_)), "{error}");
}

#[tokio::test]
async fn artifacts_with_their_tags() {
    let (_stand_in, admin) = harbor().await;
    let repository: RepositoryName = "satellite/edge/app".parse().unwrap();
    let all = admin.artifacts(&repository).await.unwrap();
    let tags = |i: usize| all[i].tags.iter().map(|t| t.name.as_str()).collect::<Vec<_>>();
    assert_eq!(
        (0..4).map(tags).collect::<Vec<_>>(),
        [vec![], vec!["multi"], vec!["v2"], vec!["stable", "v1"]]
    );
    assert_eq!(all[1].children.len(), 2);
    assert!(all[1].created().is_none() && all[3].created().is_some());
    assert_eq!(all[3].push_time, "2026-11-21T09:22:39.996Z".parse().ok());
    let v1 = admin.artifact(&repository, "v1").await.unwrap();
    assert_eq!(v1, all[3]);
    assert_eq!(admin.artifact(&repository, &v1.digest.to_string()).await.unwrap(), v1);
    assert!(admin.artifact(&repository, "nosuch").await.unwrap_err().is_not_found());

    for unknown in ["satellite/nosuch", "nosuch/x"] {
        assert!(admin.artifacts(&unknown.parse().unwrap()).await.unwrap().is_empty(), "{unknown}");
    }
    let error = admin.artifacts(&"app".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Input(_)), "{error}");

    assert!(admin.delete_tag(&repository, &v1.digest, "stable").await.unwrap());
    assert!(!admin.delete_tag(&repository, &v1.digest, "stable").await.unwrap());
    let error = admin.delete_artifact(&repository, &v1.digest).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Precondition(_)), "an index holds it: {error}");
    assert!(admin.delete_artifact(&repository, &all[1].digest).await.unwrap());
    assert!(admin.delete_artifact(&repository, &v1.digest).await.unwrap());
    assert!(!admin.delete_artifact(&repository, &Digest::sha256(b"nothing")).await.unwrap());

    let listed = admin.repositories("satellite").await.unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].artifact_count), ("satellite/edge/app", 2));
    assert!(admin.delete_repository(&repository).await.unwrap());
    assert!(!admin.delete_repository(&repository).await.unwrap());
}

#[tokio::test]
async fn long_lists_come_whole_or_not_at_all() {
    let (stand_in, admin) = harbor().await;
    let made = admin.create_robot(&new_robot("first")).await.unwrap();
    let first = stand_in.world().robots[0].clone();
    for number in 100..349 {
        let robot =
            crate::stand_in::robots::Robot { id: number, name: format!("edge-{number}"), ..first.clone() };
        stand_in.world().robots.push(robot);
    }
    stand_in.seen();
    assert_eq!(admin.robots().await.unwrap().len(), 250);
    let paths: Vec<String> = stand_in.seen().into_iter().map(|s| s.path).collect();
    assert_eq!(paths.len(), 3);
    assert_eq!(paths[2], "/api/v2.0/robots?page=3&page_size=100");

    // One goes while the list is read: without a second reading another one would be hidden.
    stand_in.world().vanishing = vec![100];
    let read: Vec<RobotId> = admin.robots().await.unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(read.len(), 249);
    assert!(read.contains(&made.id) && !read.contains(&RobotId(100)));
    stand_in.world().vanishing = (101..140).collect();
    let error = admin.robots().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unstable) && error.is_transient(), "{error}");

    stand_in.world().vanishing.clear();
    let few = client(&stand_in, "admin", "Harbor12345", ClientOptions { max_list_entries: 150, ..options() });
    assert!(matches!(few.robots().await.unwrap_err().kind(), ErrorKind::TooLarge(_)));
}

#[tokio::test]
async fn a_session_is_never_taken_up() {
    let (stand_in, admin) = harbor().await;
    admin.health().await.unwrap();
    admin.system_info().await.unwrap();
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    admin.delete_robot(made.id).await.unwrap();
    let seen = stand_in.seen();
    let methods: Vec<&str> = seen.iter().map(|s| s.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET", "POST", "DELETE"]);
    assert!(seen.iter().all(|s| !s.headers.contains_key("cookie")));
    assert!(!seen[0].headers.contains_key("authorization"), "the health check needs no login");
    assert!(seen[1..].iter().all(|s| s.headers.contains_key("authorization")));
}

#[tokio::test]
async fn no_more_requests_at_once_than_allowed() {
    let (stand_in, _) = harbor().await;
    // The requests hold one permit for 20 ms each: five of them cannot be over sooner than after 100 ms.
    stand_in.world().outage = Some(Outage::Redis(Duration::from_millis(20)));
    let one = client(&stand_in, "admin", "Harbor12345", ClientOptions { max_in_flight: 1, ..options() });
    let begun = std::time::Instant::now();
    for result in join_all((0..5).map(|_| one.health())).await {
        result.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[test]
fn what_cannot_be_set_up_is_said() {
    let login = Login { username: "admin".to_owned(), password: "x".into() };
    let endpoint: Endpoint = "http://harbor.example.com".parse().unwrap();
    let error = Client::new(&endpoint, &login, ClientOptions::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Configuration(text) if text.contains("use https")), "{error}");
    let endpoint: Endpoint = "https://harbor.example.com".parse().unwrap();
    let mut with_ca = ClientOptions::default();
    with_ca.tls.ca_file = Some("/nowhere/ca.pem".into());
    let error = Client::new(&endpoint, &login, with_ca).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Configuration(text) if text.contains("/nowhere/ca.pem")),
        "{error}"
    );
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_its_file_only() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let stand_in = StandIn::start_tls(config).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(made.cert.pem().as_bytes()).unwrap();

    let mut trusting = options();
    trusting.tls.ca_file = Some(file.path().to_owned());
    let admin = client(&stand_in, "admin", "Harbor12345", trusting);
    assert_eq!(admin.ensure_private_project("satellite").await.unwrap(), Ensured::Created);
    assert!(admin.address().starts_with("https://"));

    stand_in.seen();
    let stranger = client(&stand_in, "admin", "Harbor12345", options());
    let error = stranger.create_private_project("apps").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unreachable { sent: false, .. }), "{error}");
    assert!(stand_in.seen().is_empty(), "no password goes to a stranger");
}
