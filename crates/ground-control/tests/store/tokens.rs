//! API tokens, and limits that all replicas share.

use std::time::Duration;

use fleet_protocol::api::Scope;
use ground_control::domain::limit::Rate;
use ground_control::domain::token::{ApiToken, MOST_TOKENS, NewToken, Scopes, TokenKey};
use ground_control::domain::user::{LockoutPolicy, NewUser, Role, User};
use ground_control::domain::{StoreError, StoreResult, TokenId, UserId};
use ground_control::store::SharedStore;

use crate::fixture::{Fixture, at, hashed, page};

async fn user(store: &SharedStore, name: &str, role: Role) -> User {
    let user = NewUser { username: name.into(), role, password_hash: "$argon2id$".into() };
    store.create_user(user, at(0)).await.unwrap()
}

async fn make(store: &SharedStore, owner: &UserId, name: &str, ends: i64) -> StoreResult<ApiToken> {
    let token = NewToken {
        token: hashed(&format!("{owner} {name}")),
        owner: owner.clone(),
        name: name.into(),
        scopes: Scopes::new(vec![Scope::RegistryPull, Scope::Read]).unwrap(),
        expires_at: at(ends),
    };
    store.create_api_token(token, at(1)).await
}

async fn shown(store: &SharedStore, owner: &UserId, name: &str, second: i64) -> Option<ApiToken> {
    store.use_api_token(TokenKey::Hash(&hashed(&format!("{owner} {name}"))), at(second)).await.unwrap()
}

pub(crate) async fn tokens_are_made_used_and_deleted(fixture: Fixture) {
    let store = fixture.open().await;
    let (vera, adam) = (user(&store, "vera", Role::Viewer).await, user(&store, "adam", Role::Admin).await);
    let made = make(&store, &vera.id, "ci", 1000).await.unwrap();
    assert_eq!((made.owner.clone(), made.created_at, made.expires_at), (vera.clone(), at(1), at(1000)));
    assert_eq!((made.scopes.to_string().as_str(), made.last_used_at), ("read registry:pull", None));
    assert!(matches!(make(&store, &vera.id, "ci", 1000).await, Err(StoreError::Conflict { .. })));
    let others = make(&store, &adam.id, "ci", 1000).await.unwrap();
    assert!(matches!(make(&store, &UserId::generate(), "x", 9).await, Err(StoreError::NotFound { .. })));

    let used = shown(&store, &vera.id, "ci", 10).await.unwrap();
    assert_eq!((used.id.clone(), used.owner.role), (made.id.clone(), Role::Viewer));
    assert_eq!(used.hash, hashed(&format!("{} ci", vera.id)));
    assert_eq!(store.use_api_token(TokenKey::Id(&made.id), at(11)).await.unwrap().unwrap().id, made.id);
    assert!(store.use_api_token(TokenKey::Hash(&hashed("")), at(11)).await.unwrap().is_none());
    assert!(
        store.use_api_token(TokenKey::Id(&TokenId::from(String::new())), at(11)).await.unwrap().is_none()
    );
    // The last use is known to the minute, and not written more often.
    let last = async |second| {
        shown(&store, &vera.id, "ci", second).await;
        store.api_tokens(Some(&vera.id), page(1, 10)).await.unwrap().items[0].last_used_at
    };
    assert_eq!([last(69).await, last(70).await, last(100).await], [Some(at(10)), Some(at(70)), Some(at(70))]);

    // What the owner is at that moment counts.
    store.set_role("vera", Role::Admin, at(80)).await.unwrap();
    assert_eq!(shown(&store, &vera.id, "ci", 90).await.unwrap().owner.role, Role::Admin);
    assert!(shown(&store, &vera.id, "ci", 1000).await.is_none(), "it has ended");

    let all = store.api_tokens(None, page(1, 10)).await.unwrap();
    let owners: Vec<&str> = all.items.iter().map(|token| token.owner.username.as_str()).collect();
    assert_eq!((owners, all.total), (vec!["adam", "vera"], 2));
    assert_eq!(store.api_tokens(Some(&adam.id), page(1, 10)).await.unwrap().items[0].id, others.id);
    assert!(matches!(
        store.delete_api_token(&made.id, Some(&adam.id)).await,
        Err(StoreError::NotFound { .. })
    ));
    store.delete_api_token(&made.id, Some(&vera.id)).await.unwrap();
    assert!(shown(&store, &vera.id, "ci", 90).await.is_none());
    store.delete_api_token(&others.id, None).await.unwrap();
    assert!(matches!(store.delete_api_token(&others.id, None).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn tokens_end_with_their_owner_and_are_bounded(fixture: Fixture) {
    let store = fixture.open().await;
    let root = user(&store, "root", Role::SystemAdmin).await;
    let vera = user(&store, "vera", Role::Viewer).await;
    make(&store, &vera.id, "ci", 1000).await.unwrap();
    store.set_password("vera", "$argon2id$own", at(5)).await.unwrap();
    assert!(shown(&store, &vera.id, "ci", 6).await.is_some());
    store.reset_password("vera", "$argon2id$reset", at(7)).await.unwrap();
    assert!(shown(&store, &vera.id, "ci", 8).await.is_none());
    assert_eq!(store.credentials("vera").await.unwrap().unwrap().password_hash, "$argon2id$reset");
    assert!(matches!(store.reset_password("nobody", "x", at(7)).await, Err(StoreError::NotFound { .. })));

    for n in 0..MOST_TOKENS {
        make(&store, &vera.id, &format!("t{n}"), 1000).await.unwrap();
    }
    assert!(matches!(make(&store, &vera.id, "more", 1000).await, Err(StoreError::Conflict { .. })));
    make(&store, &root.id, "more", 1000).await.unwrap();
    store.delete_user("vera", &root.id).await.unwrap();
    assert!(shown(&store, &vera.id, "t1", 9).await.is_none());
    assert_eq!(store.api_tokens(None, page(1, 10)).await.unwrap().total, 1);

    // Shown for a month after their end, and then removed.
    let policy = LockoutPolicy { attempts: 5, duration: Duration::from_secs(300) };
    let month = 30 * 24 * 3600;
    store.purge_expired(policy, at(1000 + month - 1)).await.unwrap();
    assert_eq!(store.api_tokens(None, page(1, 10)).await.unwrap().total, 1);
    store.purge_expired(policy, at(1000 + month)).await.unwrap();
    assert_eq!(store.api_tokens(None, page(1, 10)).await.unwrap().total, 0);
}

pub(crate) async fn the_last_system_admin_keeps_that_role(fixture: Fixture) {
    let store = fixture.open().await;
    user(&store, "root", Role::SystemAdmin).await;
    assert!(matches!(store.set_role("root", Role::Admin, at(1)).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.set_role("root", Role::SystemAdmin, at(1)).await.unwrap().role, Role::SystemAdmin);
    assert!(matches!(store.set_role("nobody", Role::Admin, at(1)).await, Err(StoreError::NotFound { .. })));
    user(&store, "other", Role::SystemAdmin).await;
    let (a, b) = tokio::join!(
        store.set_role("root", Role::Viewer, at(2)),
        store.set_role("other", Role::Viewer, at(2))
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
}

pub(crate) async fn replicas_share_limits_and_the_key(fixture: Fixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let rate = Rate { burst: 6, every: Duration::from_secs(10) };
    let takes = (0..10).map(|n| if n % 2 == 0 { &one } else { &two }.take("a", rate, at(0)));
    let taken = futures_util::future::join_all(takes).await;
    assert_eq!(taken.into_iter().filter(|taken| taken.as_ref().unwrap().is_ok()).count(), 6);
    assert_eq!(one.take("a", rate, at(4)).await.unwrap(), Err(Duration::from_secs(6)));
    assert_eq!(two.exhausted("a", rate, at(4)).await.unwrap(), Some(Duration::from_secs(6)));
    assert_eq!(two.exhausted("b", rate, at(4)).await.unwrap(), None);
    assert_eq!(two.take("a", rate, at(10)).await.unwrap(), Ok(()));
    // One that is whole again is forgotten.
    let policy = LockoutPolicy { attempts: 5, duration: Duration::from_secs(300) };
    one.purge_expired(policy, at(69)).await.unwrap();
    assert!(one.exhausted("a", rate, at(10)).await.unwrap().is_some());
    one.purge_expired(policy, at(70)).await.unwrap();
    assert!(one.exhausted("a", rate, at(10)).await.unwrap().is_none());

    let (a, b) = tokio::join!(one.key_check("key of one"), two.key_check("key of two"));
    assert_eq!(a.unwrap(), b.unwrap());
}
