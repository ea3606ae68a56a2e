//! Accounts, sessions and lockout.

use std::time::Duration;

use ground_control::domain::user::{LockoutPolicy, NewSession, NewUser, Role};
use ground_control::domain::{StoreError, UserId};
use ground_control::store::SharedStore;

use crate::fixture::{Fixture, at, hashed, page};

const POLICY: LockoutPolicy = LockoutPolicy { attempts: 5, duration: Duration::from_secs(300) };

fn new_user(name: &str, role: Role) -> NewUser {
    NewUser { username: name.into(), role, password_hash: format!("$argon2id$of {name}") }
}

async fn session(store: &SharedStore, token: &str, user: &UserId, seconds: i64) {
    let session = NewSession { token: hashed(token), user: user.clone(), expires_at: at(seconds) };
    store.create_session(session, at(0)).await.unwrap();
}

pub(crate) async fn accounts_are_managed(fixture: Fixture) {
    let store = fixture.open().await;
    assert!(!store.has_users().await.unwrap());
    for (n, role) in [Role::SystemAdmin, Role::Admin, Role::Viewer].into_iter().enumerate() {
        let user = store.create_user(new_user(&format!("user-{n}"), role), at(n as i64)).await.unwrap();
        assert_eq!((user.role, user.created_at), (role, at(n as i64)));
        assert_eq!(store.user(&user.username).await.unwrap(), user);
    }
    assert!(store.has_users().await.unwrap());
    let again = store.create_user(new_user("user-1", Role::Viewer), at(9)).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    assert_eq!(store.user("user-1").await.unwrap().role, Role::Admin);

    let second = store.users(page(2, 2)).await.unwrap();
    assert_eq!((second.total, second.items.len()), (3, 1));
    assert_eq!(second.items[0].username, "user-2");
    assert!(store.users(page(3, 2)).await.unwrap().items.is_empty());

    let credentials = store.credentials("user-2").await.unwrap().unwrap();
    assert_eq!(credentials.password_hash, "$argon2id$of user-2");
    assert!(!format!("{credentials:?}").contains("argon2id"));
    assert!(store.credentials("nobody").await.unwrap().is_none());
    assert!(matches!(store.user("nobody").await, Err(StoreError::NotFound { .. })));

    session(&store, "s", &credentials.user.id, 100).await;
    store.set_password("user-2", "$argon2id$new", at(10)).await.unwrap();
    assert_eq!(store.credentials("user-2").await.unwrap().unwrap().password_hash, "$argon2id$new");
    assert!(store.session(&hashed("s"), at(10)).await.unwrap().is_none());
    assert!(matches!(store.set_password("nobody", "x", at(10)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn the_last_system_admin_and_oneself_stay(fixture: Fixture) {
    let store = fixture.open().await;
    let root = store.create_user(new_user("root", Role::SystemAdmin), at(0)).await.unwrap();
    let admin = store.create_user(new_user("admin", Role::Admin), at(0)).await.unwrap();
    assert!(matches!(store.delete_user("root", &root.id).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(store.delete_user("root", &admin.id).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(store.delete_user("nobody", &root.id).await, Err(StoreError::NotFound { .. })));
    session(&store, "s", &admin.id, 100).await;
    store.delete_user("admin", &root.id).await.unwrap();
    assert!(store.session(&hashed("s"), at(1)).await.unwrap().is_none());

    // Two system administrators who delete each other at the same time: one stays.
    let other = store.create_user(new_user("other", Role::SystemAdmin), at(0)).await.unwrap();
    let (a, b) = tokio::join!(store.delete_user("root", &other.id), store.delete_user("other", &root.id));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(store.users(page(1, 10)).await.unwrap().total, 1);
}

pub(crate) async fn the_first_account_is_made_once(fixture: Fixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let (a, b) = tokio::join!(
        one.bootstrap_user(new_user("admin", Role::SystemAdmin), at(0)),
        two.bootstrap_user(new_user("admin", Role::SystemAdmin), at(0)),
    );
    assert!(a.unwrap() != b.unwrap());
    assert_eq!(one.users(page(1, 10)).await.unwrap().total, 1);
}

pub(crate) async fn sessions_end(fixture: Fixture) {
    let store = fixture.open().await;
    let user = store.create_user(new_user("admin", Role::Admin), at(0)).await.unwrap();
    session(&store, "short", &user.id, 10).await;
    session(&store, "long", &user.id, 100).await;
    let found = store.session(&hashed("short"), at(9)).await.unwrap().unwrap();
    assert_eq!((found.user, found.expires_at), (user.clone(), at(10)));
    assert!(store.session(&hashed("short"), at(10)).await.unwrap().is_none());
    assert!(store.session(&hashed("other"), at(1)).await.unwrap().is_none());
    store.purge_expired(POLICY, at(50)).await.unwrap();
    // Even seen from before its end it is gone: it was removed, not hidden.
    assert!(store.session(&hashed("short"), at(1)).await.unwrap().is_none());
    store.end_session(&hashed("long")).await.unwrap();
    store.end_session(&hashed("long")).await.unwrap();
    assert!(store.session(&hashed("long"), at(1)).await.unwrap().is_none());

    let nobody = NewSession { token: hashed("x"), user: UserId::generate(), expires_at: at(10) };
    assert!(matches!(store.create_session(nobody, at(0)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn failed_logins_add_up(fixture: Fixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    assert_eq!(one.login_failures("admin").await.unwrap(), None);
    let failures = (0..4).map(|n| {
        let store = if n % 2 == 0 { &one } else { &two };
        store.record_login_failure("admin", POLICY, at(n))
    });
    for failure in futures_util::future::join_all(failures).await {
        assert_eq!(failure.unwrap().locked_until, None);
    }
    let state = one.login_failures("admin").await.unwrap().unwrap();
    assert_eq!(state.count, 4);
    let locked = two.record_login_failure("admin", POLICY, at(4)).await.unwrap();
    assert!(locked.locked(at(5)) && locked.locked(at(303)) && !locked.locked(at(304)));
    assert_eq!(one.login_failures("other").await.unwrap(), None);

    one.purge_expired(POLICY, at(303)).await.unwrap();
    assert!(one.login_failures("admin").await.unwrap().is_some());
    one.purge_expired(POLICY, at(400)).await.unwrap();
    assert_eq!(one.login_failures("admin").await.unwrap(), None);

    one.record_login_failure("admin", POLICY, at(500)).await.unwrap();
    two.clear_login_failures("admin").await.unwrap();
    assert_eq!(one.login_failures("admin").await.unwrap(), None);
}
