//! From a change that a person makes to the satellites that it is for.

use std::time::{Duration, Instant};

use oci::Digest;
use testbed::admin::{Admin, Wanted};
use testbed::process::wait_for;
use testbed::{Error, Result};

use super::Options;
use super::cloud::Cloud;
use super::stats::quantile;
use super::steady::{everybody, milliseconds};
use super::world::{Told, World};
use crate::bench::report::{Goal, Measure};
use crate::progress::Step;

/// The group in which single satellites are put.
const CANARIES: &str = "canaries";
/// How many single satellites are changed, one after the other.
const SINGLES: usize = 100;
/// The longest that anybody is waited for.
const LIMIT: Duration = Duration::from_secs(120);

/// The artifacts of a group in this version: one image differs from version to version.
pub(super) fn artifacts(images: usize, version: u64) -> Vec<Wanted> {
    let digest = |number: usize| match number {
        0 => Digest::sha256(format!("image 0 of version {version}").as_bytes()),
        _ => Digest::sha256(format!("image {number}").as_bytes()),
    };
    (0..images)
        .map(|number| Wanted::new(&format!("fleet/image-{number}"), "latest", digest(number)))
        .collect()
}

/// One change for a single satellite after the other: from the acknowledged change to the answer.
pub(super) async fn single(
    admin: &Admin,
    world: &World,
    waiting: &[(usize, String)],
) -> Result<Vec<Measure>> {
    let step = Step::begin("changes for single satellites");
    step.of_pieces(SINGLES as u64);
    admin.sync_group(CANARIES, &artifacts(1, 1)).await?;
    let stride = (waiting.len() / SINGLES).max(1);
    let mut times = Vec::new();
    for (number, name) in waiting.iter().step_by(stride).take(SINGLES) {
        let before = world.told(*number).desired.state;
        let begin = Instant::now();
        admin.add_to_group(name, CANARIES).await?;
        let acknowledged = Instant::now();
        let told = wait_for("news of its change for a satellite", LIMIT, async || {
            let told = world.told(*number);
            told.at.filter(|at| *at > begin && told.desired.state != before)
        })
        .await?;
        times.push(told.saturating_duration_since(acknowledged).as_secs_f32() * 1000.0);
        step.at(times.len() as u64);
    }
    step.done(format!("{} satellites", times.len()));
    let goal = Some(Goal::AtMost(50.0));
    Ok(vec![
        milliseconds("one satellite changed: acknowledged to told, p50", quantile(&mut times, 0.5), None),
        milliseconds("one satellite changed: acknowledged to told, p99", quantile(&mut times, 0.99), goal),
    ])
}

/// A change of the group that all are in.
pub(super) async fn whole(
    cloud: &Cloud,
    admin: &Admin,
    world: &World,
    waiting: &[(usize, String)],
    options: &Options,
) -> Result<Vec<Measure>> {
    let step = Step::begin("a change in the group of all");
    step.of_pieces(waiting.len() as u64);
    // None is busy with the change before.
    everybody(world, Instant::now(), |_| {}).await?;
    cloud.published().await?;
    let document = |told: &Told| told.desired.groups.get(&world.group).copied();
    let before: Vec<Option<Digest>> =
        waiting.iter().map(|(number, _)| document(&world.told(*number))).collect();
    let written = published(cloud).await?;
    let cpu = cloud.cpu()?;
    let begin = Instant::now();
    admin.sync_group(&world.group, &artifacts(options.images, 2)).await?;
    let acknowledged = begin.elapsed();
    let all = wait_for("news of the group's change for every satellite", LIMIT, async || {
        let mut latest = begin;
        let mut done = 0;
        for ((number, _), before) in waiting.iter().zip(&before) {
            let told = world.told(*number);
            if let Some(at) = told.at.filter(|at| *at > begin && document(&told) != *before) {
                latest = latest.max(at);
                done += 1;
            }
        }
        step.at(done);
        tokio::time::sleep(Duration::from_millis(50)).await;
        (done == waiting.len() as u64).then(|| latest.duration_since(begin))
    })
    .await?;
    let cpu = cloud.cpu()? - cpu;
    let written = published(cloud).await? - written;
    step.done(format!("{} satellites", waiting.len()));
    let goal = |goal: Goal| options.full().then_some(goal);
    Ok(vec![
        Measure::alone(
            "group of all changed: request answered",
            "ms",
            acknowledged.as_secs_f64() * 1000.0,
            None,
        ),
        Measure::alone("group of all changed: state documents written", "", written, Some(Goal::AtMost(1.0))),
        Measure::alone(
            "group of all changed: all told after",
            "s",
            all.as_secs_f64(),
            goal(Goal::AtMost(5.0)),
        ),
        Measure::alone("group of all changed: CPU of Ground Control", "s", cpu, None),
    ])
}

/// State documents that were written so far.
async fn published(cloud: &Cloud) -> Result<f64> {
    const SERIES: &str = "ground_control_documents_total{outcome=\"published\"}";
    cloud.metrics().await?.get(SERIES).copied().ok_or_else(|| Error::Content(format!("no metric {SERIES}")))
}

/// Gives the fleet its group.
pub(super) async fn found(admin: &Admin, group: &str, images: usize) -> Result<()> {
    admin.sync_group(group, &artifacts(images, 1)).await
}
