//! Logins by OpenID Connect.

use ground_control::domain::external::{CliLogin, ExternalPerson, LOGINS_OF_A_SOURCE, NewCode, PendingLogin};
use ground_control::domain::user::{NewSession, NewUser, Role};
use ground_control::domain::{StoreError, UserId};
use ground_control::store::SharedStore;

use crate::fixture::{Fixture, at, hashed};

const ISSUER: &str = "https://id.example.com";

fn login(state: &str, browser: &str, source: &str, cli: Option<CliLogin>, ends: i64) -> PendingLogin {
    let (state, browser) = (hashed(state), hashed(browser));
    PendingLogin { state, browser, source: source.to_owned(), cli, expires_at: at(ends) }
}

fn person(subject: &str, name: &str, role: Role) -> ExternalPerson {
    ExternalPerson {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        name: Some(name.to_owned()),
        role,
    }
}

pub(crate) async fn a_login_is_taken_once_by_its_browser(fixture: Fixture) {
    let store = fixture.open().await;
    let cli = CliLogin { port: 40_000, challenge: "c".repeat(43), state: "s".repeat(16) };
    store.begin_login(login("a", "mine", "192.0.2.1", None, 600), at(0)).await.unwrap();
    store.begin_login(login("b", "mine", "192.0.2.1", Some(cli.clone()), 600), at(0)).await.unwrap();
    store.begin_login(login("c", "mine", "192.0.2.1", None, 600), at(0)).await.unwrap();

    let take = async |state: &str, browser: &str, now: i64| {
        store.take_login(&hashed(state), &hashed(browser), at(now)).await.unwrap()
    };
    assert_eq!(take("a", "theirs", 1).await, None);
    assert_eq!(take("unknown", "mine", 1).await, None);
    assert_eq!(take("a", "mine", 1).await, Some(None));
    assert_eq!(take("a", "mine", 1).await, None, "an answer that is sent twice is nobody's");
    assert_eq!(take("b", "mine", 599).await, Some(Some(cli)));
    assert_eq!(take("c", "mine", 600).await, None, "it has expired");
    store.purge_logins(at(600)).await.unwrap();
}

pub(crate) async fn logins_under_way_are_bounded(fixture: Fixture) {
    let store = fixture.open().await;
    store.begin_login(login("other", "b", "192.0.2.2", None, 600), at(0)).await.unwrap();
    for n in 0..=LOGINS_OF_A_SOURCE {
        store.begin_login(login(&format!("s{n}"), "b", "192.0.2.1", None, 600), at(n)).await.unwrap();
    }
    let take =
        async |state: &str| store.take_login(&hashed(state), &hashed("b"), at(200)).await.unwrap().is_some();
    assert!(!take("s0").await, "the oldest of the source made room");
    assert!(take("s1").await && take(&format!("s{LOGINS_OF_A_SOURCE}")).await);
    assert!(take("other").await, "a flood from elsewhere takes nobody's login away");
}

pub(crate) async fn a_person_is_an_issuer_and_a_subject(fixture: Fixture) {
    let store = fixture.open().await;
    let local = NewUser { username: "jane".into(), role: Role::Viewer, password_hash: "$argon2id$x".into() };
    let local = store.create_user(local, at(0)).await.unwrap();

    let jane = store.sign_in(person("1", "jane", Role::Admin), at(1)).await.unwrap();
    assert_ne!(jane.id, local.id);
    assert!(jane.username.starts_with("jane+"), "{}", jane.username);
    assert_eq!(jane.role, Role::Admin);
    assert_eq!(store.user("jane").await.unwrap().role, Role::Viewer);

    // The same person under another name, with another role; another one under the same name; another provider's.
    let renamed = store.sign_in(person("1", "jane.doe", Role::Viewer), at(2)).await.unwrap();
    assert_eq!((&renamed.id, &renamed.username, renamed.role), (&jane.id, &jane.username, Role::Viewer));
    assert_eq!(store.user(&jane.username).await.unwrap().role, Role::Viewer);
    let second = store.sign_in(person("2", "jane", Role::Viewer), at(2)).await.unwrap();
    let elsewhere =
        ExternalPerson { issuer: "https://other".to_owned(), ..person("1", "jane", Role::Viewer) };
    let third = store.sign_in(elsewhere, at(2)).await.unwrap();
    let names = [&local.username, &jane.username, &second.username, &third.username];
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
    assert_eq!(store.sign_in(person("3", "free", Role::Viewer), at(2)).await.unwrap().username, "free");

    // Nobody can give such an account a password, and none is its own.
    let refused = store.set_password("free", "$argon2id$y", at(3)).await;
    assert!(
        matches!(&refused, Err(StoreError::Conflict { message }) if message.contains(ISSUER)),
        "{refused:?}"
    );
    assert_eq!(store.credentials("free").await.unwrap().unwrap().password_hash, "!");
    store.set_password("jane", "$argon2id$z", at(3)).await.unwrap();

    // Deleted here they are made anew at their next login: the provider decides.
    store.delete_user("free", &local.id).await.unwrap();
    assert_eq!(store.sign_in(person("3", "free", Role::Viewer), at(4)).await.unwrap().username, "free");
}

pub(crate) async fn of_two_first_logins_at_once_one_account_is_made(fixture: Fixture) {
    let store = fixture.open().await;
    let sign_in = || {
        let store = SharedStore::clone(&store);
        tokio::spawn(async move { store.sign_in(person("1", "jane", Role::Viewer), at(1)).await.unwrap() })
    };
    let both = (sign_in(), sign_in());
    assert_eq!(both.0.await.unwrap().id, both.1.await.unwrap().id);
}

pub(crate) async fn an_administrator_with_a_password_stays(fixture: Fixture) {
    let store = fixture.open().await;
    let local = NewUser { username: "admin".into(), role: Role::SystemAdmin, password_hash: "$x".into() };
    let local = store.create_user(local, at(0)).await.unwrap();
    let external = store.sign_in(person("1", "jane", Role::SystemAdmin), at(1)).await.unwrap();
    let refused = store.delete_user("admin", &external.id).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "the provider may be away for ever: {refused:?}"
    );
    store.delete_user("jane", &local.id).await.unwrap();
}

pub(crate) async fn who_lost_every_role_loses_the_sessions(fixture: Fixture) {
    let store = fixture.open().await;
    let session = async |token: &str, user: &UserId| {
        let session = NewSession { token: hashed(token), user: user.clone(), expires_at: at(1000) };
        store.create_session(session, at(0)).await.unwrap();
    };
    let jane = store.sign_in(person("1", "jane", Role::Admin), at(1)).await.unwrap();
    let john = store.sign_in(person("2", "john", Role::Admin), at(1)).await.unwrap();
    session("janes", &jane.id).await;
    session("johns", &john.id).await;
    let code = NewCode { code: hashed("code"), user: jane.id, challenge: "c".into(), expires_at: at(60) };
    store.keep_code(code, at(1)).await.unwrap();
    store.turn_away(ISSUER, "1").await.unwrap();
    store.turn_away(ISSUER, "nobody").await.unwrap();
    assert!(store.session(&hashed("janes"), at(2)).await.unwrap().is_none());
    assert!(store.redeem_code(&hashed("code"), "c", at(2)).await.unwrap().is_none());
    assert!(store.session(&hashed("johns"), at(2)).await.unwrap().is_some());
}

pub(crate) async fn a_code_is_good_once_for_a_minute_and_for_its_challenge(fixture: Fixture) {
    let store = fixture.open().await;
    let jane = store.sign_in(person("1", "jane", Role::Admin), at(1)).await.unwrap();
    let keep = async |code: &str| {
        let kept = NewCode {
            code: hashed(code),
            user: jane.id.clone(),
            challenge: "mine".into(),
            expires_at: at(60),
        };
        store.keep_code(kept, at(0)).await.unwrap();
    };
    let redeem = async |code: &str, challenge: &str, now: i64| {
        store.redeem_code(&hashed(code), challenge, at(now)).await.unwrap()
    };
    keep("a").await;
    assert_eq!(redeem("a", "mine", 59).await, Some(jane.clone()));
    assert_eq!(redeem("a", "mine", 59).await, None, "used");
    keep("b").await;
    assert_eq!(redeem("b", "theirs", 1).await, None);
    assert_eq!(redeem("b", "mine", 1).await, None, "whoever guesses ends it");
    keep("c").await;
    assert_eq!(redeem("c", "mine", 60).await, None, "expired");
    keep("d").await;
    store.delete_user("jane", &UserId::from("somebody".to_owned())).await.unwrap();
    assert_eq!(redeem("d", "mine", 1).await, None, "the account is gone");
}
