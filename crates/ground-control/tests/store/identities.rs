//! How satellites come by an identity, and what an SVID is compared with.

use ground_control::domain::identity::{AutoRegister, AutoRegistered, NameRecord, NewRegistration};
use ground_control::domain::satellite::{Satellite, SatelliteState, SecretMatch};
use ground_control::domain::{Entity, StoreError};
use ground_control::store::SharedStore;

use crate::fixture::{
    Fixture, agent_of, at, attest, by_nonce, claim, enrolled, group, hashed, known, published, registration,
    satellite,
};

pub(crate) async fn a_registration_is_whole_or_not_there(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    published(&store, at(1)).await;
    let wanted = registration("edge-01", "token", 2);
    for (wrong, entity) in [
        (
            NewRegistration { groups: vec!["us-east".into(), "nowhere".into()], ..wanted.clone() },
            Entity::Group,
        ),
        (NewRegistration { config_name: Some("nothing".into()), ..wanted.clone() }, Entity::Config),
    ] {
        let refused = |error| matches!(error, StoreError::NotFound { entity: e, .. } if e == entity);
        assert!(store.check_registration(&wrong).await.is_err_and(refused));
        assert!(store.register_identity(wrong, at(2)).await.is_err_and(refused));
    }
    for name in ["", "Edge", "nul\0", "a--b", &"x".repeat(64)] {
        let wrong = NewRegistration { name: name.into(), ..wanted.clone() };
        assert!(
            matches!(store.check_registration(&wrong).await, Err(StoreError::Invalid { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.register_identity(wrong, at(2)).await, Err(StoreError::Invalid { .. })),
            "{name:?}"
        );
    }
    let wrong = NewRegistration { region: "US".into(), ..wanted.clone() };
    assert!(matches!(store.register_identity(wrong, at(2)).await, Err(StoreError::Invalid { .. })));
    assert_eq!(store.name_record("edge-01").await.unwrap(), NameRecord::Unknown);
    assert!(published(&store, at(2)).await.is_empty());

    store.check_registration(&wanted).await.unwrap();
    assert_eq!(store.name_record("edge-01").await.unwrap(), NameRecord::Unknown);
    let wanted = NewRegistration { groups: vec!["us-east".into()], ..wanted };
    let (made, is_new) = store.register_identity(wanted, at(3)).await.unwrap();
    assert!(is_new);
    assert_eq!((made.state, made.region.as_str()), (SatelliteState::Pending, "default"));
    assert_eq!((made.groups.as_slice(), made.config_name.as_str()), (&["us-east".to_owned()][..], "default"));
    assert_eq!(published(&store, at(3)).await, ["satellite/edge-01"]);
    let kept = store.registration("edge-01").await.unwrap().unwrap();
    assert_eq!((&kept.satellite, kept.name.as_str()), (&made.id, "edge-01"));
    assert_eq!((kept.parent_id, kept.selectors), (agent_of("edge-01"), vec!["unix:uid:0".to_owned()]));
    assert!(store.robot("edge-01").await.unwrap().unwrap().secret.is_none());
}

pub(crate) async fn a_registration_is_repeated_without_harm(fixture: Fixture) {
    let store = fixture.ready().await;
    for name in ["us-east", "us-west"] {
        group(&store, name, "library/nginx").await;
    }
    store.create_config("slow", serde_json::json!({}), at(1)).await.unwrap();
    let first = NewRegistration {
        groups: vec!["us-east".into()],
        config_name: Some("slow".into()),
        ..registration("edge-01", "token", 2)
    };
    let (made, _) = store.register_identity(first, at(2)).await.unwrap();
    attest(&store, "token", "key", 3).await.unwrap();
    store.identity_used(&made.id, "key", at(4)).await.unwrap();
    assert!(store.grant_secret(&made.id, &hashed("secret"), at(4)).await.unwrap());
    let before = known(&store, "edge-01").await;

    let again = NewRegistration {
        groups: vec!["us-west".into()],
        parent_id: agent_of("another"),
        selectors: Vec::new(),
        ..registration("edge-01", "second token", 5)
    };
    let (same, is_new) = store.register_identity(again, at(5)).await.unwrap();
    assert!(!is_new);
    // What works goes on: identity, key, robot; what is asked for is added.
    assert_eq!((&same.id, same.config_name.as_str()), (&made.id, "slow"));
    assert_eq!(same.groups, ["us-east", "us-west"]);
    assert_eq!(known(&store, "edge-01").await, before);
    assert_eq!(store.renewal_record("edge-01").await.unwrap().unwrap().keys, ["key"]);
    assert!(store.robot("edge-01").await.unwrap().unwrap().secret.is_some());
    let kept = store.registration("edge-01").await.unwrap().unwrap();
    assert_eq!((kept.parent_id, kept.selectors.len()), (agent_of("another"), 0));

    let another_config = NewRegistration {
        config_name: Some("default".into()),
        join_token: None,
        ..registration("edge-01", "", 6)
    };
    let (changed, _) = store.register_identity(another_config, at(6)).await.unwrap();
    assert_eq!(changed.config_name, "default");
    assert_eq!(store.registration("edge-02").await.unwrap(), None);
}

pub(crate) async fn a_name_belongs_to_one_region(fixture: Fixture) {
    let store = fixture.ready().await;
    enrolled(&store, "edge-01", "token", 1).await;
    let elsewhere = NewRegistration { region: "us-east".into(), ..registration("edge-01", "other", 2) };
    assert!(matches!(store.check_registration(&elsewhere).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(
        store.register_identity(elsewhere.clone(), at(2)).await,
        Err(StoreError::Conflict { .. })
    ));
    // The token of the registration that stands is still good.
    attest(&store, "token", "key", 3).await.unwrap();
    // By an administrator's word a deleted name may begin anew anywhere.
    store.delete_satellite("edge-01", at(4)).await.unwrap();
    let (made, is_new) = store.register_identity(elsewhere, at(5)).await.unwrap();
    assert!(is_new && made.region == "us-east");
}

pub(crate) async fn what_was_there_before_gets_an_epoch(fixture: Fixture) {
    let store = fixture.ready().await;
    // As a program writes it that knows nothing of identities.
    fixture
        .execute(
            "INSERT INTO satellites (id, name, region, state, config_id, created_at, updated_at)
             SELECT 'an-old-row', 'edge-01', 'default', 'online', id, 1, 1 FROM configs",
        )
        .await;
    assert_eq!(known(&store, "edge-01").await.epoch, 0);
    let same = enrolled(&store, "edge-01", "token", 1).await;
    assert_eq!((same.id.as_str(), same.state), ("an-old-row", SatelliteState::Online));
    let record = known(&store, "edge-01").await;
    assert!(record.epoch > 0);
    assert_eq!(attest(&store, "token", "key", 2).await.unwrap().epoch, record.epoch);
    // Every new satellite has one of its own, whoever makes it.
    satellite(&store, "edge-02", &[]).await;
    let other = known(&store, "edge-02").await.epoch;
    assert!(other > 0 && other != record.epoch);
}

async fn introduce(store: &SharedStore, name: &str, policy: AutoRegister) -> Option<Satellite> {
    match store.auto_register(name, "us-east", policy, at(1)).await.unwrap() {
        AutoRegistered::Created(satellite) => Some(satellite),
        AutoRegistered::Exists => None,
    }
}

pub(crate) async fn a_name_introduces_itself_once(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = introduce(&store, "edge-01", AutoRegister::Allow).await.unwrap();
    assert_eq!((made.state, made.region.as_str()), (SatelliteState::Pending, "us-east"));
    assert_eq!((made.groups.len(), made.config_name.as_str()), (0, "default"));
    assert!(known(&store, "edge-01").await.epoch > 0);
    assert_eq!(store.registration("edge-01").await.unwrap(), None);
    assert_eq!(published(&store, at(2)).await, ["satellite/edge-01"]);
    assert!(introduce(&store, "edge-01", AutoRegister::Allow).await.is_none());

    // What was revoked or deleted does not come back by itself.
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    assert!(introduce(&store, "edge-01", AutoRegister::Allow).await.is_none());
    store.delete_satellite("edge-01", at(4)).await.unwrap();
    assert!(introduce(&store, "edge-01", AutoRegister::Allow).await.is_none());
    assert_eq!(store.name_record("edge-01").await.unwrap(), NameRecord::Deleted);

    let denied = store.auto_register("edge-02", "default", AutoRegister::Deny, at(5)).await;
    assert!(matches!(denied, Err(StoreError::Invalid { .. })));
    for (name, region) in [("Edge", "default"), ("edge", "no region"), ("nul\0", "default")] {
        let wrong = store.auto_register(name, region, AutoRegister::Allow, at(5)).await;
        assert!(matches!(wrong, Err(StoreError::Invalid { .. })), "{name:?} {region:?}");
    }

    let other = fixture.open().await;
    for n in 0..10 {
        let name = format!("at-once-{n}");
        let (a, b) = tokio::join!(
            introduce(&store, &name, AutoRegister::Allow),
            introduce(&other, &name, AutoRegister::Approve)
        );
        assert!(a.is_some() != b.is_some(), "{a:?} {b:?}");
    }
}

pub(crate) async fn who_waits_for_approval_gets_nothing(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = introduce(&store, "edge-01", AutoRegister::Approve).await.unwrap();
    assert_eq!(made.state, SatelliteState::AwaitingApproval);
    assert!(store.pullable(&made.id).await.unwrap().is_empty());
    assert!(!store.grant_secret(&made.id, &hashed("secret"), at(2)).await.unwrap());
    assert!(store.robot("edge-01").await.unwrap().unwrap().secret.is_none());
    published(&store, at(2)).await;

    let approved = store.approve_satellite("edge-01", at(3)).await.unwrap();
    assert_eq!(approved.state, SatelliteState::Pending);
    assert!(!store.pullable(&made.id).await.unwrap().is_empty());
    assert!(store.grant_secret(&made.id, &hashed("secret"), at(3)).await.unwrap());
    assert_eq!(published(&store, at(3)).await, ["satellite/edge-01"]);
    assert!(matches!(store.approve_satellite("edge-01", at(4)).await, Err(StoreError::Conflict { .. })));

    // An administrator's registration is an approval, too.
    introduce(&store, "edge-02", AutoRegister::Approve).await.unwrap();
    let new = NewRegistration { region: "us-east".into(), ..registration("edge-02", "token", 5) };
    assert_eq!(store.register_identity(new, at(5)).await.unwrap().0.state, SatelliteState::Pending);
    assert!(matches!(store.approve_satellite("edge-03", at(5)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn what_is_known_of_a_name(fixture: Fixture) {
    let store = fixture.ready().await;
    for name in ["edge-01", "", "%", "é", "'; DROP TABLE satellites; --"] {
        assert_eq!(store.name_record(name).await.unwrap(), NameRecord::Unknown, "{name:?}");
    }
    let made = enrolled(&store, "edge-01", "token", 1).await;
    let record = known(&store, "edge-01").await;
    assert_eq!(
        (&record.satellite, record.name.as_str(), record.region.as_str()),
        (&made.id, "edge-01", "default")
    );
    assert!(!record.awaits_use);

    attest(&store, "token", "key", 2).await.unwrap();
    assert!(known(&store, "edge-01").await.awaits_use);
    store.identity_used(&made.id, "another key", at(3)).await.unwrap();
    assert!(known(&store, "edge-01").await.awaits_use);
    store.identity_used(&made.id, "key", at(3)).await.unwrap();
    assert!(!known(&store, "edge-01").await.awaits_use);

    // Whoever has the name now counts, whatever others had it before.
    for n in 0..3 {
        store.delete_satellite("edge-01", at(10 + n)).await.unwrap();
        assert_eq!(store.name_record("edge-01").await.unwrap(), NameRecord::Deleted);
        let next = enrolled(&store, "edge-01", &format!("token {n}"), 10 + n).await;
        let now = known(&store, "edge-01").await;
        assert!(now.satellite == next.id && now.epoch != record.epoch);
    }
}

pub(crate) async fn a_granted_secret_replaces_only_lost_ones(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 1).await;
    let matches = async |secret: &str| store.robot("edge-01").await.unwrap().unwrap().check(&hashed(secret));
    let grant =
        async |secret: &str, now| store.grant_secret(&made.id, &hashed(secret), at(now)).await.unwrap();
    assert!(grant("one", 2).await);
    assert_eq!(matches("one").await, Some(SecretMatch::Current { previous_kept: false }));
    // Two answers are lost: the one in use stays.
    assert!(grant("two", 3).await && grant("three", 4).await);
    assert_eq!(matches("one").await, Some(SecretMatch::Previous));
    assert_eq!(matches("two").await, None);
    store.robot_secret_used(&made.id, &hashed("three")).await.unwrap();
    assert_eq!(matches("three").await, Some(SecretMatch::Current { previous_kept: false }));
    assert_eq!(matches("one").await, None);

    // A token satellite keeps what it claimed until the new one is used.
    let claimed = satellite(&store, "edge-02", &[]).await;
    claim(&store, "edge-02", by_nonce("n"), "claimed", at(2)).await.unwrap();
    assert!(store.grant_secret(&claimed.id, &hashed("granted"), at(3)).await.unwrap());
    let robot = store.robot("edge-02").await.unwrap().unwrap();
    assert_eq!(robot.check(&hashed("claimed")), Some(SecretMatch::Previous));

    store.revoke_satellite("edge-01", at(5)).await.unwrap();
    assert!(!grant("four", 6).await);
    store.delete_satellite("edge-01", at(7)).await.unwrap();
    assert!(!grant("five", 8).await);
    assert!(store.robot("edge-01").await.unwrap().is_none());
}
