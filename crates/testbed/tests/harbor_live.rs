//! A real Harbor, named by `HARBOR_TEST_URL`, `HARBOR_TEST_USERNAME` and `HARBOR_TEST_PASSWORD`. What the flow makes there it
//! deletes again, and nothing else; where the project of state documents exists it does not run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program: what fails ends the test"
)]

#[path = "harbor_flow/flow.rs"]
mod flow;

use testbed::harbor::{Harbor, Run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_flow_at_a_real_harbor() {
    Run::guard(Harbor::from_environment().unwrap(), flow::whole).await.unwrap();
}
