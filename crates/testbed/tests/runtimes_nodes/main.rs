//! Node agents on a containerd with its CRI plugin (Debian's 1.6): what groups say is what a node holds, pinned; what was
//! there before stays; what left goes with everything that only it held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod cluster;
#[path = "../runtimes/engines.rs"]
#[allow(dead_code, reason = "of the engines a node has one")]
mod engines;
mod flow;
mod kept;
#[path = "../runtimes/scene.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod scene;

use testbed::machine;

#[tokio::test]
async fn a_node_holds_what_its_groups_say() {
    flow::comes_and_goes(None, "1.6").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_in_a_pull_knows_afterwards_what_is_its_own() {
    flow::killed_in_a_pull(None).await;
}

#[tokio::test]
async fn with_the_site_away_everything_stays_as_it_is() {
    flow::site_away(None).await;
}

#[test]
fn an_agent_keeps_the_mirrors_of_its_node() {
    let result = machine::alone("an_agent_keeps_the_mirrors_of_its_node", async |machine| {
        kept::peer_satellite_upstream(machine, false).await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
