//! What `runtimes_nodes` shows, with containerd 2.2, where CRI's list tells what is pinned.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

#[path = "../runtimes_nodes/cluster.rs"]
mod cluster;
#[path = "../runtimes/engines.rs"]
#[allow(dead_code, reason = "of the engines a node has one")]
mod engines;
#[path = "../runtimes_nodes/flow.rs"]
mod flow;
#[path = "../runtimes_nodes/kept.rs"]
mod kept;
#[path = "../runtimes/scene.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod scene;

use std::path::PathBuf;

use testbed::{go_programs, machine};

fn programs() -> Option<PathBuf> {
    Some(go_programs::CONTAINERD.folder().unwrap_or_else(|error| panic!("{error}")))
}

#[tokio::test]
async fn a_node_holds_what_its_groups_say() {
    flow::comes_and_goes(programs(), "2.2").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_in_a_pull_knows_afterwards_what_is_its_own() {
    flow::killed_in_a_pull(programs()).await;
}

#[tokio::test]
async fn with_the_site_away_everything_stays_as_it_is() {
    flow::site_away(programs()).await;
}

#[test]
fn an_agent_keeps_the_mirrors_of_its_node() {
    let programs: Vec<PathBuf> = programs().into_iter().collect();
    let result = machine::alone_with("an_agent_keeps_the_mirrors_of_its_node", &programs, async |machine| {
        kept::peer_satellite_upstream(machine, true).await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
