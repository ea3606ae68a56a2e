//! Node agents on a containerd with its CRI plugin (Debian's 1.6): what groups say is what a node holds, pinned; what was
//! there before stays; what left goes with everything that only it held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod cluster;
mod flow;

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
