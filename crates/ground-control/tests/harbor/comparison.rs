//! What somebody did to robots at Harbor by hand is found, and made up for or shown.

use ground_control::central::Compared;
use jiff::{SignedDuration, Timestamp};

use crate::failures::Bench;
use crate::stand_in::Fault;
use crate::stand_in::world::Outage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_somebody_deleted_is_made_anew() {
    let bench = Bench::start().await;
    bench.settle().await;
    let robot = bench.renewed().await;
    bench.store.robot_in_use(&bench.satellite, &robot.robot, Timestamp::now()).await.unwrap();
    bench.settle().await;
    let comparison = bench.keeper.comparison();
    assert_eq!(comparison.look().await.unwrap(), Compared::default());

    // A list that cannot be had, or is empty because nobody is known, says nothing.
    let robots = std::mem::take(&mut bench.stand_in.world().robots);
    bench.stand_in.world().outage = Some(Outage::Database);
    comparison.look().await.unwrap_err();
    bench.stand_in.world().outage = None;
    bench.stand_in.world().robots = robots;
    bench.settle().await;
    bench.has(&[&robot], &["apps", "satellite"], "after an outage");
    assert_eq!(comparison.look().await.unwrap(), Compared::default());

    // One page may miss what another has: only what Harbor says not to know by itself is gone.
    bench.stand_in.fail(
        Fault::Answer { status: 200, page: false, body: "[]".to_owned(), retry_after: None },
        0,
        1,
    );
    assert_eq!(comparison.look().await.unwrap().lost, 0);

    bench.stand_in.world().robots.clear();
    assert_eq!(comparison.look().await.unwrap(), Compared { lost: 1, ..Compared::default() });
    assert_eq!(comparison.look().await.unwrap(), Compared::default(), "it is found once");
    bench.settle().await;
    let second = bench.renewed().await;
    bench.store.robot_in_use(&bench.satellite, &second.robot, Timestamp::now()).await.unwrap();
    bench.settle().await;
    bench.has(&[&second], &["apps", "satellite"], "made anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_disabled_or_unknown_is_left_alone_and_counted() {
    let bench = Bench::start().await;
    bench.settle().await;
    bench.renewed().await;
    bench.settle().await;
    {
        let mut world = bench.stand_in.world();
        world.robots[0].disabled = true;
        let mut other = world.robots[0].clone();
        other.id = 4711;
        other.name = "edge-77".to_owned();
        other.disabled = false;
        other.created = Timestamp::now() - SignedDuration::from_hours(1);
        world.robots.push(other.clone());
        other.id = 4712;
        other.name = "theirs".to_owned();
        other.description = "somebody's".to_owned();
        world.robots.push(other);
    }
    let before = bench.stand_in.world().robots.len();
    let compared = bench.keeper.comparison().look().await.unwrap();
    assert_eq!(compared, Compared { lost: 0, disabled: 1, unknown: 1 });
    bench.settle().await;
    assert_eq!(bench.stand_in.world().robots.len(), before);
}
