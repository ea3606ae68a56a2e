//! Robots at Harbor as they are recorded: who is due, which robot is handed out, and which ones end.

use std::collections::BTreeSet;

use ground_control::domain::SatelliteId;
use ground_control::domain::StoreError;
use ground_control::domain::harbor::{Account, GroupTurn, HandOut, HandedOut, MadeRobot, RobotRole, Wish};
use ground_control::domain::satellite::SatelliteState;
use ground_control::domain::ztr::ClaimRefusal;
use ground_control::store::SharedStore;
use jiff::SignedDuration;

use crate::fixture::{Fixture, artifacts, at, by_nonce, by_source, group, hashed, satellite};

/// Makes what is begun, as a keeper would; its secret is called like `secret`.
async fn make(store: &SharedStore, satellite: &SatelliteId, secret: &str, projects: &[&str]) {
    store.begin_robot(satellite, 0, secret, at(5)).await.unwrap();
    let begun = store.robots_of(satellite).await.unwrap();
    let begun = begun.iter().find(|robot| robot.role == RobotRole::Making).unwrap();
    let made = MadeRobot {
        harbor_id: 1,
        username: format!("robot${secret}"),
        sealed_secret: format!("sealed {secret}"),
        secret: hashed(secret),
        projects: projects.iter().map(|name| (*name).to_owned()).collect(),
        created_at: at(5),
        expires_at: Some(at(1_000_000)),
    };
    store.robot_made(&begun.id, made).await.unwrap();
}

async fn roles(store: &SharedStore, satellite: &SatelliteId) -> Vec<(String, RobotRole)> {
    let robots = store.robots_of(satellite).await.unwrap();
    let mut all: Vec<_> = robots.into_iter().map(|r| (r.username.unwrap_or_default(), r.role)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn given(out: HandOut) -> HandedOut {
    match out {
        HandOut::Given(out) => out,
        other => panic!("{other:?}"),
    }
}

async fn takes(store: &SharedStore, secret: &str) -> Option<SatelliteState> {
    let username = format!("robot${secret}");
    store.robot_account(&username, &hashed(secret)).await.unwrap().map(|robot| robot.state)
}

pub(crate) async fn a_site_is_claimed_once_and_settles(fixture: Fixture) {
    let store = fixture.ready().await;
    let id = satellite(&store, "edge-01", &[]).await.id;
    assert_eq!(store.adopt_sites(at(10)).await.unwrap(), 1);
    assert_eq!(store.adopt_sites(at(10)).await.unwrap(), 0);
    let until = at(10) + SignedDuration::from_secs(60);
    assert_eq!(store.due_sites(10, at(10), until).await.unwrap(), std::slice::from_ref(&id));
    assert!(store.due_sites(10, at(11), until).await.unwrap().is_empty(), "somebody has it");
    // Whoever has it goes on holding it; who holds it no more does not get it back.
    let longer = until + SignedDuration::from_secs(60);
    store.hold_site(&id, until, longer).await.unwrap();
    store.hold_site(&id, until, longer + SignedDuration::from_secs(60)).await.unwrap();
    assert!(store.due_sites(10, until, longer).await.unwrap().is_empty(), "it is held");
    assert_eq!(store.due_sites(10, longer, longer).await.unwrap(), std::slice::from_ref(&id));
    let site = store.site(&id).await.unwrap().unwrap();
    assert!(site.admitted && site.token_only && site.robots.is_empty());
    assert_eq!(site.wanted, BTreeSet::from(["satellite".to_owned()]));

    // What is asked for while somebody works on it is not swallowed.
    store.ask_site("edge-01", "one", at(12)).await.unwrap();
    store.ask_site("edge-01", "one", at(13)).await.unwrap();
    store.site_settled(&site, Some(at(500))).await.unwrap();
    store.hold_site(&id, longer, at(1_000)).await.unwrap();
    assert!(!store.site_status("edge-01").await.unwrap().unwrap().settled);
    assert_eq!(store.due_sites(10, at(14), at(60)).await.unwrap(), std::slice::from_ref(&id));
    let site = store.site(&id).await.unwrap().unwrap();
    store.site_failed(&site, "no such project", true, at(15), at(30)).await.unwrap();
    let counts = store.site_counts().await.unwrap();
    assert_eq!((counts.waiting, counts.failed, counts.condemned), (0, 1, 0));
    assert!(store.due_sites(10, at(29), at(60)).await.unwrap().is_empty());
    assert_eq!(store.due_sites(10, at(30), at(60)).await.unwrap(), std::slice::from_ref(&id));
    store.site_settled(&site, Some(at(500))).await.unwrap();
    let status = store.site_status("edge-01").await.unwrap().unwrap();
    assert!(status.settled && status.error.is_none() && status.due_at == Some(at(500)));
    assert!(store.due_sites(10, at(499), at(600)).await.unwrap().is_empty());
    assert_eq!(store.due_sites(10, at(500), at(600)).await.unwrap(), [id]);
}

pub(crate) async fn a_token_is_spent_only_for_a_robot_that_is_ready(fixture: Fixture) {
    let store = fixture.ready().await;
    let id = satellite(&store, "edge-01", &[]).await.id;
    let token = hashed("token of edge-01");
    let claim = async |claimant, seconds| store.claim_robot(&token, &claimant, at(seconds)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(claim(by_nonce("n"), 10).await, Ok(HandOut::NotReady));
    }
    assert!(store.site(&id).await.unwrap().unwrap().wants_fresh);
    let unknown = store.claim_robot(&hashed("guessed"), &by_nonce("n"), at(10)).await.unwrap();
    assert_eq!(unknown, Err(ClaimRefusal::Unknown));
    make(&store, &id, "one", &[]).await;
    // Another device than the one that was put off: the token is nobody's yet.
    let first = given(claim(by_nonce("m"), 20).await.unwrap());
    assert_eq!((first.username.as_str(), first.sealed_secret.as_str()), ("robot$one", "sealed one"));
    assert!(!first.again && !store.site(&id).await.unwrap().unwrap().wants_fresh);
    assert_eq!(claim(by_nonce("n"), 21).await, Err(ClaimRefusal::Used));
    let again = given(claim(by_nonce("m"), 22).await.unwrap());
    assert_eq!((again.robot, again.again), (first.robot.clone(), true));
    assert_eq!(takes(&store, "one").await, Some(SatelliteState::Pending));
    // Once it was seen in use its secret is kept no more.
    store.robot_in_use(&id, &first.robot, at(30)).await.unwrap();
    assert_eq!(claim(by_nonce("m"), 31).await, Ok(HandOut::NotReady));
    assert_eq!(takes(&store, "one").await, Some(SatelliteState::Pending), "and is good as before");
}

pub(crate) async fn a_source_that_asks_again_gets_another_robot(fixture: Fixture) {
    let store = fixture.ready().await;
    let id = satellite(&store, "edge-01", &[]).await.id;
    let token = hashed("token of edge-01");
    let claim = async || store.claim_robot(&token, &by_source("192.0.2.1"), at(20)).await.unwrap();
    make(&store, &id, "one", &[]).await;
    given(claim().await.unwrap());
    assert_eq!(claim().await, Ok(HandOut::NotReady), "two devices never share one");
    make(&store, &id, "two", &[]).await;
    given(claim().await.unwrap());
    let expected =
        [("robot$one".to_owned(), RobotRole::Condemned), ("robot$two".to_owned(), RobotRole::Current)];
    assert_eq!(roles(&store, &id).await, expected);
    assert_eq!((takes(&store, "one").await, takes(&store, "two").await.is_some()), (None, true));
}

pub(crate) async fn the_one_before_is_good_until_the_next_is_used(fixture: Fixture) {
    let store = fixture.ready().await;
    let id = satellite(&store, "edge-01", &[]).await.id;
    make(&store, &id, "one", &[]).await;
    let one = given(store.grant_robot(&id, Wish::Registration, at(20)).await.unwrap());
    let same = given(store.grant_robot(&id, Wish::Registration, at(21)).await.unwrap());
    assert_eq!(one.robot, same.robot, "a lost answer costs nothing");
    assert_eq!(store.grant_robot(&id, Wish::Renewal, at(22)).await.unwrap(), HandOut::NotReady);
    store.robot_in_use(&id, &one.robot, at(23)).await.unwrap();
    make(&store, &id, "two", &[]).await;
    let two = given(store.rotate_robot(&id, &hashed("one"), at(24)).await.unwrap());
    assert!(takes(&store, "one").await.is_some() && takes(&store, "two").await.is_some());
    // The answer was lost: who shows the first has it still, and what nobody used goes.
    make(&store, &id, "three", &[]).await;
    let three = given(store.rotate_robot(&id, &hashed("one"), at(25)).await.unwrap());
    assert_eq!(
        roles(&store, &id).await,
        [
            ("robot$one".to_owned(), RobotRole::Retiring),
            ("robot$three".to_owned(), RobotRole::Current),
            ("robot$two".to_owned(), RobotRole::Condemned),
        ]
    );
    let outdated = store.rotate_robot(&id, &hashed("two"), at(26)).await.unwrap();
    assert_eq!(outdated, HandOut::Outdated);
    store.robot_in_use(&id, &two.robot, at(27)).await.unwrap();
    store.robot_in_use(&id, &one.robot, at(27)).await.unwrap();
    assert!(takes(&store, "one").await.is_some(), "the one before was used, not the new one");
    store.robot_in_use(&id, &three.robot, at(28)).await.unwrap();
    assert!(takes(&store, "one").await.is_none() && takes(&store, "three").await.is_some());
    assert!(store.site(&id).await.unwrap().unwrap().in_role(RobotRole::Condemned).count() == 2);
}

pub(crate) async fn who_is_shut_out_loses_every_robot(fixture: Fixture) {
    let store = fixture.ready().await;
    let id = satellite(&store, "edge-01", &[]).await.id;
    store.adopt_sites(at(5)).await.unwrap();
    make(&store, &id, "one", &[]).await;
    let one = given(store.grant_robot(&id, Wish::Registration, at(20)).await.unwrap());
    make(&store, &id, "two", &[]).await;
    store.begin_robot(&id, 1, "three", at(21)).await.unwrap();
    store.revoke_satellite("edge-01", at(30)).await.unwrap();
    assert!(store.due_sites(10, at(30), at(90)).await.unwrap().contains(&id));
    assert_eq!(takes(&store, "one").await, Some(SatelliteState::Revoked), "known, and refused");
    assert_eq!(takes(&store, "two").await, None, "never handed out");
    assert_eq!(store.site_counts().await.unwrap().condemned, 2);
    let grant = store.grant_robot(&id, Wish::Registration, at(31)).await.unwrap();
    assert_eq!(grant, HandOut::NotAdmitted);
    // What was being made at that moment is not to be handed out either.
    let making = store.site(&id).await.unwrap().unwrap();
    let making = making.in_role(RobotRole::Making).next().unwrap().id.clone();
    let made = MadeRobot {
        harbor_id: 3,
        username: "robot$three".into(),
        sealed_secret: "sealed".into(),
        secret: hashed("three"),
        projects: BTreeSet::new(),
        created_at: at(30),
        expires_at: None,
    };
    store.robot_made(&making, made).await.unwrap();
    for robot in store.robots_of(&id).await.unwrap() {
        assert_eq!(robot.role, RobotRole::Condemned);
        store.robot_removed(&robot.id).await.unwrap();
    }
    let left = store.robots_of(&id).await.unwrap();
    assert_eq!((left.len(), left[0].id.as_str(), left[0].role), (1, one.robot.as_str(), RobotRole::Removed));
    assert_eq!(takes(&store, "one").await, Some(SatelliteState::Revoked));
    store.delete_satellite("edge-01", at(40)).await.unwrap();
    assert!(store.robots_of(&id).await.unwrap().is_empty());
}

pub(crate) async fn a_group_waits_for_the_robots_of_a_new_project(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "apps/web").await;
    let id = satellite(&store, "edge-01", &["east"]).await.id;
    let other = satellite(&store, "edge-02", &["east"]).await.id;
    let turn = async |seconds| store.group_turn("east", at(seconds)).await.unwrap();
    let settle = async |id: &SatelliteId| {
        let site = store.site(id).await.unwrap().unwrap();
        assert!(site.wanted.contains("satellite"));
        store.site_settled(&site, None).await.unwrap();
    };
    assert_eq!(turn(10).await, GroupTurn::Waits(2));
    settle(&id).await;
    assert_eq!(turn(11).await, GroupTurn::Waits(1));
    // One that failed by name is waited for no more.
    let site = store.site(&other).await.unwrap().unwrap();
    store.site_failed(&site, "refused", true, at(12), at(99)).await.unwrap();
    let accounts = store.group_accounts("east", 10).await.unwrap();
    assert!(accounts.held_back && accounts.settled == 1 && accounts.failures == 1);
    assert_eq!(
        (accounts.failed[0].satellite.as_str(), accounts.failed[0].error.as_str()),
        ("edge-02", "refused")
    );
    assert_eq!(turn(13).await, GroupTurn::Now);
    assert!(!store.group_accounts("east", 10).await.unwrap().held_back);
    settle(&other).await;
    // The same project again asks nobody, one less does not hold anything back.
    group(&store, "east", "apps/other").await;
    assert_eq!(turn(20).await, GroupTurn::Now);
    assert!(store.due_sites(10, at(20), at(30)).await.unwrap().is_empty());
    let both = artifacts(serde_json::json!([
        {"repository": "apps/web", "tag": ["1"]}, {"repository": "library/nginx", "tag": ["1"]},
    ]));
    store.sync_group("east", both, "ann", at(30)).await.unwrap();
    assert_eq!(turn(30).await, GroupTurn::Waits(2));
    for id in [&id, &other] {
        settle(id).await;
    }
    assert_eq!(turn(31).await, GroupTurn::Now);
    group(&store, "east", "apps/web").await;
    assert_eq!(turn(40).await, GroupTurn::Now);
    assert_eq!(store.due_sites(10, at(40), at(50)).await.unwrap().len(), 2);
    assert_eq!(store.group_turn("nobody's", at(41)).await.unwrap(), GroupTurn::Now);
}

pub(crate) async fn a_satellite_waits_for_a_robot_that_lacks_a_project(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "apps/web").await;
    let id = satellite(&store, "edge-01", &["east"]).await.id;
    store.adopt_sites(at(10)).await.unwrap();
    assert!(!store.site_waits("edge-01").await.unwrap(), "it has no robot that could read anything");
    make(&store, &id, "one", &["satellite"]).await;
    assert!(store.site_waits("edge-01").await.unwrap());
    // What failed holds up nobody.
    let site = store.site(&id).await.unwrap().unwrap();
    store.site_failed(&site, "no such project", true, at(15), at(30)).await.unwrap();
    assert!(!store.site_waits("edge-01").await.unwrap());
    store.ask_site("edge-01", "again", at(16)).await.unwrap();
    assert!(store.site_waits("edge-01").await.unwrap());
    let robot = store.robots_of(&id).await.unwrap().remove(0);
    let both = ["apps", "satellite"].map(str::to_owned).into();
    store.robot_permitted(&robot.id, &both).await.unwrap();
    assert!(!store.site_waits("edge-01").await.unwrap());
    assert!(!store.site_waits("nobody").await.unwrap());

    let known = store.known_robots("", 10).await.unwrap();
    assert_eq!((known.len(), known[0].harbor_id, known[0].satellite_name.as_str()), (1, 1, "edge-01"));
    assert_eq!((known[0].role, known[0].gone, &known[0].satellite), (RobotRole::Prepared, false, &id));
    assert!(store.known_robots(&known[0].id, 10).await.unwrap().is_empty());
    store.robot_gone(&robot.id).await.unwrap();
    assert!(store.known_robots("", 10).await.unwrap()[0].gone);
}

pub(crate) async fn what_cannot_be_given_a_project_is_refused_one(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "east", "apps/web").await;
    group(&store, "west", "library/nginx").await;
    let id = satellite(&store, "edge-01", &["east"]).await.id;
    make(&store, &id, "one", &["apps", "satellite"]).await;
    given(store.grant_robot(&id, Wish::Registration, at(20)).await.unwrap());
    assert_eq!(store.harbor_account("robot$gc").await.unwrap(), None);
    store.set_harbor_account(Some(("robot$gc", Account::Robot))).await.unwrap();
    assert_eq!(store.harbor_account("robot$gc").await.unwrap(), Some(Account::Robot));
    assert_eq!(store.harbor_account("admin").await.unwrap(), None, "learnt of another login");

    let refused = store.join_group("edge-01", "west", at(30)).await.unwrap_err();
    let StoreError::Conflict { message } = refused else { panic!("{refused}") };
    assert!(message.contains("edge-01") && message.contains("library"), "{message}");
    assert_eq!(store.satellite("edge-01").await.unwrap().groups, ["east"]);
    let list = || artifacts(serde_json::json!([{"repository": "library/x", "tag": ["1"]}]));
    let refused = store.sync_group("east", list(), "ann", at(31)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    assert_eq!(store.group("east").await.unwrap().projects(), ["apps"]);
    // A user may change robots.
    store.set_harbor_account(Some(("admin", Account::User))).await.unwrap();
    store.sync_group("east", list(), "ann", at(32)).await.unwrap();
    store.set_harbor_account(None).await.unwrap();
    assert_eq!(store.harbor_account("admin").await.unwrap(), None);
}
