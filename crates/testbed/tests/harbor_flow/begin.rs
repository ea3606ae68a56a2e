//! The beginning: Ground Control beside Harbor, groups of every kind, three satellites.

use testbed::clock::Clock;
use testbed::harbor::STATE_PROJECT;

use super::*;

/// The images that are there at the beginning.
pub(super) struct Images {
    stable: Image,
    pinned: Image,
    versions: [Image; 2],
}

/// A Ground Control whose registry is this Harbor.
pub(super) async fn cloud(run: Arc<Run>) -> Cloud {
    let apps = run.create_project("apps").await.unwrap();
    let more = run.create_project("more").await.unwrap();
    let mut environment = run.harbor().variables();
    // So short that the next act lets them live longer, and a sweep that a test can wait for.
    environment.push(("ROBOT_DURATION_DAYS".to_owned(), "1".to_owned()));
    environment.push(("SWEEP_INTERVAL".to_owned(), "3s".to_owned()));
    let clock = Clock::new().unwrap();
    let options = ground_control::Options {
        spiffe: true,
        environment,
        clock: Some(clock.clone()),
        ..Default::default()
    };
    run.ground_control_begins().unwrap();
    let mut callback = None;
    let world = World::start_prepared(options, async |place| {
        let made = Callback::new(run.harbor(), &place.url()).await?;
        place.set("HARBOR_WEBHOOK_URL", made.url());
        callback = Some(made);
        Ok(())
    })
    .await
    .unwrap();
    Cloud { run, world, clock, callback: callback.unwrap(), apps, more }
}

/// The project of state documents was made, and is private.
pub(super) async fn project_is_private(cloud: &Cloud) {
    let harbor = cloud.run.harbor();
    let project = cloud
        .until("the project of state documents", async || harbor.project(STATE_PROJECT).await.unwrap())
        .await;
    assert_eq!(project["metadata"]["public"], "false", "{project:#}");
    // Its number is recorded from here on.
    cloud.run.look().await.unwrap();
    step("the project of state documents is there, and private");
}

/// Groups by tag, by digest and by rule.
pub(super) async fn publish(cloud: &Cloud) -> Images {
    let images = Images {
        stable: cloud.push(&cloud.app("tool"), "stable", 1).await,
        pinned: cloud.push(&cloud.app("nested/pinned"), "v1", 2).await,
        versions: [
            cloud.push(&cloud.app("web"), "1.0.0", 3).await,
            cloud.push(&cloud.app("web"), "1.1.0", 4).await,
        ],
    };
    cloud.group(&cloud.name("tags"), json!([{"repository": cloud.app("tool"), "tag": ["stable"]}])).await;
    cloud
        .group(
            &cloud.name("pinned"),
            json!([{"repository": cloud.app("nested/pinned"), "tag": ["v1"], "digest": images.pinned.root.digest}]),
        )
        .await;
    cloud
        .group(
            &cloud.name("rules"),
            json!([{"repository": cloud.app("web"), "match": {"semver": "^1"}, "platforms": [], "keep": 2}]),
        )
        .await;
    images
}

async fn edge(name: String, site: testbed::Result<Site>) -> Edge {
    let site = site.unwrap();
    let satellite = site.start().await.unwrap();
    Edge { name, site, satellite }
}

fn environment(cloud: &Cloud) -> Vec<(String, String)> {
    cloud.run.harbor().satellite_variables()
}

/// Zero-touch registration by a one-time token.
pub(super) async fn site_by_token(cloud: &Cloud) -> Edge {
    let name = cloud.name("token");
    let groups = [cloud.name("tags"), cloud.name("pinned")];
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let environment = environment(cloud);
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut site = cloud.world.site_with(&name, &groups, None, &environment).await.unwrap();
    site.set_ground_control_url(cloud.world.place.url());
    edge(name, Ok(site)).await
}

/// Zero-touch registration by an SVID of the built-in authority.
pub(super) async fn site_by_svid(cloud: &Cloud) -> Edge {
    let name = cloud.name("svid");
    let groups = [cloud.name("pinned"), cloud.name("rules")];
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let environment = environment(cloud);
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    edge(name.clone(), cloud.world.site_with_svid(&name, "default", &groups, &environment).await).await
}

/// A satellite whose part the test plays, so that it sees its secrets.
pub(super) async fn site_by_hand(cloud: &Cloud) -> Hand {
    let (name, group) = (cloud.name("hand"), cloud.name("pinned"));
    let token = cloud.world.admin.create_satellite(&name, &[&group]).await.unwrap();
    let mut hand = Hand::new(cloud.world.place.url(), name);
    hand.register(&token).await;
    assert!(cloud.takes(hand.account()).await, "Harbor does not take what was handed out");
    hand.reports().await;
    hand
}

/// Replication onto the satellites' disks, and pulls from their registries.
pub(super) async fn images_arrive(cloud: &Cloud, by_token: &Edge, by_svid: &Edge, images: &Images) {
    by_token.has(&cloud.app("tool"), "stable", &images.stable).await;
    by_token.has(&cloud.app("nested/pinned"), "v1", &images.pinned).await;
    by_svid.has(&cloud.app("nested/pinned"), "v1", &images.pinned).await;
    by_svid.has(&cloud.app("web"), "1.0.0", &images.versions[0]).await;
    by_svid.has(&cloud.app("web"), "1.1.0", &images.versions[1]).await;
    for edge in [by_token, by_svid] {
        cloud
            .until("a heartbeat", async || {
                (cloud.get(&format!("/api/satellites/{}", edge.name)).await["state"] == "online")
                    .then_some(())
            })
            .await;
    }
    step("sites by token and by SVID have what their groups name by tag, digest and rule");
}

/// One robot each, with the projects of all groups and that of the documents, and an end.
pub(super) async fn robots_have_their_projects(cloud: &Cloud, satellites: &[&str]) {
    for satellite in satellites {
        let robot = cloud.until("a robot", async || cloud.robot(satellite).await).await;
        assert_eq!(projects(&robot), set(&[&cloud.apps, STATE_PROJECT]), "{robot:#}");
        assert_eq!(robot["duration"], 1, "{robot:#}");
        assert_eq!(cloud.robots_of(satellite).await, 1);
    }
    step("each has one robot with the projects of its groups");
}
