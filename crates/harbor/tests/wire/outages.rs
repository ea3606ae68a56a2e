//! Outages as they were recorded: what the client says while a part of Harbor is down.

use std::time::Duration;

use harbor::{ClientOptions, ErrorKind, Login, SecretCheck};

use crate::failures::{cases, things};
use crate::stand_in::world::Outage;
use crate::{client, harbor, new_robot, options};

#[tokio::test]
async fn without_its_database_harbor_knows_nobody() {
    let (stand_in, admin) = harbor().await;
    let things = things(&stand_in, &admin).await;
    let made = admin.create_robot(&new_robot("edge-02")).await.unwrap();
    stand_in.world().outage = Some(Outage::Database);
    stand_in.world().stale_health = true;
    assert!(admin.health().await.unwrap().is_good(), "the health check is late");
    stand_in.world().stale_health = false;
    let health = admin.health().await.unwrap();
    assert_eq!(health.failing().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["database"]);
    assert!(health.failing().all(|c| c.error.is_some()));
    assert!(!admin.system_info().await.unwrap().is_authenticated());

    for case in cases() {
        let result = case.run(&admin, &things).await;
        if matches!(case.name, "health" | "system_info") {
            result.unwrap();
            continue;
        }
        let error = result.expect_err(case.name);
        assert!(error.may_be_outage(), "{}: {error:?}", case.name);
        assert!(
            matches!(error.kind(), ErrorKind::Unauthorized(_) | ErrorKind::Unavailable { status: 500, .. }),
            "{}: {error:?}",
            case.name
        );
    }
    let login = Login { username: made.name, password: made.secret };
    let error = admin.check_secret(&login).await.unwrap_err();
    assert!(error.is_unauthorized(), "no verdict on a good secret: {error}");
    stand_in.world().outage = None;
    assert_eq!(admin.check_secret(&login).await.unwrap(), SecretCheck::Accepted);
}

#[tokio::test]
async fn a_wrong_password_of_our_own_says_nothing_of_others() {
    let (stand_in, admin) = harbor().await;
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    let stranger = client(&stand_in, "admin", "Wrong12345", options());
    assert!(!stranger.system_info().await.unwrap().is_authenticated());
    let wrong = Login { username: made.name.clone(), password: "Wrong12345".into() };
    assert!(stranger.check_secret(&wrong).await.unwrap_err().is_unauthorized());
    let good = Login { username: made.name, password: made.secret };
    assert_eq!(stranger.check_secret(&good).await.unwrap(), SecretCheck::Accepted);
    assert_eq!(admin.check_secret(&wrong).await.unwrap(), SecretCheck::Refused);
}

#[tokio::test]
async fn without_its_core_harbor_is_a_page() {
    let (stand_in, admin) = harbor().await;
    let things = things(&stand_in, &admin).await;
    stand_in.world().outage = Some(Outage::Core);
    for case in cases() {
        let error = case.run(&admin, &things).await.expect_err(case.name);
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable { status: 502, .. }),
            "{}: {error:?}",
            case.name
        );
        let page = case.name != "project_exists";
        assert_eq!(error.to_string().contains("502 Bad Gateway"), page, "{}: {error}", case.name);
    }
}

#[tokio::test]
async fn the_health_check_has_a_time_of_its_own() {
    let (stand_in, _) = harbor().await;
    stand_in.world().outage = Some(Outage::Redis(Duration::from_millis(400)));
    let patient = ClientOptions { request_timeout: Duration::from_millis(100), ..options() };
    let health = client(&stand_in, "admin", "Harbor12345", patient.clone()).health().await.unwrap();
    // The job service is down, too, and is not needed.
    assert_eq!(health.failing().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["redis"]);
    let hurried = ClientOptions { health_timeout: Duration::from_millis(100), ..patient };
    let error = client(&stand_in, "admin", "Harbor12345", hurried).health().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn without_its_registry_robots_are_still_made() {
    let (stand_in, admin) = harbor().await;
    stand_in.world().outage = Some(Outage::Registry);
    assert!(!admin.health().await.unwrap().is_good());
    admin.create_robot(&new_robot("edge-01")).await.unwrap();
}
