//! A window of the fleet's life: what it costs Ground Control, and how long its answers take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testbed::process::wait_for;
use testbed::{Error, Result};
use tokio::time::sleep;

use super::Options;
use super::cloud::Cloud;
use super::stats::{Of, Window};
use super::world::{Order, World};
use crate::bench::report::{Goal, Measure};
use crate::progress::Step;

/// How often memory is read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The fleet comes up, each satellite at its time within the interval, and settles.
pub(super) async fn come_up(cloud: &Cloud, world: &World, options: &Options) -> Result<Vec<Measure>> {
    let step = Step::begin("the fleet connects");
    step.of_pieces(options.satellites as u64);
    cloud.forget_peak()?;
    world.stats.open();
    world.orders.send_replace(Order { up: true, ..Order::default() });
    everybody(world, Instant::now(), |answered| step.at(answered as u64)).await?;
    cloud.published().await?;
    let mut window = world.stats.close();
    step.done(format!("{} handshakes", window.count(Of::Connected)));
    Ok(vec![
        milliseconds("handshake while the fleet connects, p99", window.quantile(Of::Connected, 0.99), None),
        Measure::alone("failures while the fleet connects", "", window.failed() as f64, None),
    ])
}

/// Waits until every satellite that is not cut off was answered after `since`.
pub(super) async fn everybody(world: &World, since: Instant, progress: impl Fn(usize)) -> Result<()> {
    let limit = world.interval() * 4 + Duration::from_secs(120);
    wait_for("an answer to every satellite", limit, async || {
        sleep(Duration::from_millis(100)).await;
        let (mut all, mut answered) = (0, 0);
        for told in world.all_told() {
            all += 1;
            answered += usize::from(told.answered.is_some_and(|at| at > since));
        }
        progress(answered);
        (all == answered).then_some(())
    })
    .await
}

/// What a window without anything special comes to.
pub(super) async fn steady(cloud: &Cloud, world: &World, options: &Options) -> Result<Vec<Measure>> {
    let step = Step::begin(format!("a steady window of {} s", options.window));
    let (window, used) = watch(cloud, world, options.window, &step).await?;
    step.done(format!("{} heartbeats", window.heartbeats));
    Ok(figures("steady", window, &used, options.full()))
}

/// A window in which connections break, satellites start anew, and a part is cut off and comes back at once.
pub(super) async fn churn(cloud: &Cloud, world: &Arc<World>, options: &Options) -> Result<Vec<Measure>> {
    let step = Step::begin(format!(
        "a window of {} s with {} % churn a minute and {} % cut off in its middle",
        options.window, options.churn, options.partition
    ));
    let script = {
        let (world, third, churn) =
            (Arc::clone(world), Duration::from_secs(options.window) / 3, options.churn);
        tokio::spawn(async move {
            world.orders.send_replace(Order { up: true, churn, partition: false });
            sleep(third).await;
            world.orders.send_replace(Order { up: true, churn, partition: true });
            sleep(third).await;
            world.orders.send_replace(Order { up: true, churn, partition: false });
        })
    };
    let watched = watch(cloud, world, options.window, &step).await;
    script.await.map_err(|error| Error::Content(error.to_string()))?;
    world.orders.send_replace(Order { up: true, ..Order::default() });
    let (mut window, used) = watched?;
    let reconnected = window.count(Of::Connected);
    step.done(format!("{} heartbeats, {reconnected} new connections", window.heartbeats));
    let handshakes = window.quantile(Of::Connected, 0.99);
    everybody(world, Instant::now(), |_| {}).await?;
    let mut measures = figures("churn", window, &used, false);
    measures.push(Measure::alone("churn: new connections", "", reconnected as f64, None));
    measures.push(milliseconds("churn: handshake, p99", handshakes, None));
    Ok(measures)
}

/// What a window cost Ground Control.
struct Used {
    /// Percent of one core.
    cpu: f64,
    /// Bytes, on average.
    resident: f64,
    /// Bytes since the fleet began to connect.
    peak: f64,
}

async fn watch(cloud: &Cloud, world: &World, seconds: u64, step: &Step) -> Result<(Window, Used)> {
    step.of_pieces(seconds);
    world.stats.open();
    let (begin, cpu) = (Instant::now(), cloud.cpu()?);
    let (mut resident, mut reads) = (0.0, 0.0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        sleep(READ_EVERY).await;
        resident += cloud.resident()? as f64;
        reads += 1.0;
        step.at(begin.elapsed().as_secs());
    }
    let cpu = (cloud.cpu()? - cpu) / begin.elapsed().as_secs_f64() * 100.0;
    let used = Used { cpu, resident: resident / reads, peak: cloud.peak()? as f64 };
    Ok((world.stats.close(), used))
}

fn figures(what: &str, mut window: Window, used: &Used, full: bool) -> Vec<Measure> {
    let goal = |goal: Goal| full.then_some(goal);
    for (reason, times) in &window.failures {
        eprintln!("  {what}: failed {times} times: {reason}");
    }
    let name = |of: &str| format!("{what}: {of}");
    let acknowledged = [0.5, 0.99].map(|part| window.quantile(Of::Acknowledged, part));
    let late = [0.5, 0.99].map(|part| window.quantile(Of::Late, part));
    vec![
        Measure::alone(&name("heartbeats"), "", window.heartbeats as f64, None),
        Measure::alone(&name("failures"), "", window.failed() as f64, goal(Goal::AtMost(0.0))),
        Measure::alone(&name("CPU of Ground Control"), "%", used.cpu, goal(Goal::AtMost(50.0))),
        Measure::alone(&name("RSS of Ground Control"), "MB", used.resident / 1e6, goal(Goal::AtMost(280.0))),
        Measure::alone(
            &name("RSS of Ground Control, peak since the fleet came"),
            "MB",
            used.peak / 1e6,
            goal(Goal::AtMost(280.0)),
        ),
        milliseconds(&name("body sent to acknowledged, p50"), acknowledged[0], None),
        milliseconds(&name("body sent to acknowledged, p99"), acknowledged[1], goal(Goal::AtMost(50.0))),
        milliseconds(&name("end of wait to answer, p50"), late[0], None),
        milliseconds(&name("end of wait to answer, p99"), late[1], goal(Goal::AtMost(50.0))),
    ]
}

/// A time; where nobody saw one it is no number, and the goal is missed.
pub(super) fn milliseconds(name: &str, time: Option<f64>, goal: Option<Goal>) -> Measure {
    Measure::alone(name, "ms", time.unwrap_or(f64::NAN), goal)
}
