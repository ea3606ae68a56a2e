//! The end: nothing is left at Harbor that Ground Control made, except the project and the config's document.

use testbed::harbor::STATE_PROJECT;

use super::*;

/// How long a superseded manifest stays, for satellites that are reading it, and a little more.
const GRACE: Duration = Duration::from_secs(11 * 60);

/// Of each document there is one manifest, though many were written.
pub(super) async fn superseded_documents_are_pruned(cloud: &Cloud) {
    cloud.clock.advance(GRACE).unwrap();
    let harbor = cloud.run.harbor();
    for group in ["tags", "pinned", "rules"] {
        let repository = format!("{STATE_PROJECT}/group-state/{}/state", cloud.name(group));
        let one = async || {
            let artifacts = harbor.artifacts(&repository).await.unwrap();
            (artifacts.len() == 1 && artifacts[0]["tags"][0]["name"] == "latest").then_some(())
        };
        cloud.until(&format!("one manifest in {repository}"), one).await;
    }
    step("superseded documents are pruned");
}

/// Satellites and groups are deleted: their robots, documents and policies go.
pub(super) async fn what_is_deleted_goes(cloud: &Cloud, hand: &str, by_token: &Edge, by_svid: &Edge) {
    let admin = &cloud.world.admin;
    for name in [hand, &by_token.name, &by_svid.name] {
        admin.delete_satellite(name).await.unwrap();
    }
    for group in ["tags", "pinned", "rules"] {
        admin.delete_group(&cloud.name(group)).await.unwrap();
    }
    let harbor = cloud.run.harbor();
    cloud.until("the robots' end", async || cloud.run.robots().await.unwrap().is_empty().then_some(())).await;
    cloud
        .until("the documents' end", async || {
            let left = harbor.repositories(STATE_PROJECT).await.unwrap();
            let config = |name: &String| name.starts_with("satellite/config-state/");
            left.iter().all(config).then_some(())
        })
        .await;
    for project in [&cloud.apps, &cloud.more] {
        cloud
            .until("the policies' end", async || {
                webhooks::ours(cloud, project).await.is_empty().then_some(())
            })
            .await;
    }
    step("robots, documents and policies of what is deleted are gone");
}

/// Ground Control ends before what it made is cleared away.
pub(super) async fn stop(cloud: Cloud) {
    let Cloud { run, mut world, .. } = cloud;
    run.look().await.unwrap();
    world.ground_control.take().unwrap().stop().await.unwrap();
}
