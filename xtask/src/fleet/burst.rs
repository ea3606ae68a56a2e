//! Heartbeats as fast as they go: satellites that wait for nothing but the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testbed::{Error, Result};
use tokio::task::JoinSet;

use super::Options;
use super::cloud::Cloud;
use super::connection::{Connection, Route, post};
use super::member::Member;
use super::satellite::report;
use super::stats::quantile;
use super::steady::milliseconds;
use super::world::Content;
use crate::bench::report::{Goal, Measure};
use crate::progress::Step;

/// Connections at most.
const CONNECTIONS: usize = 1000;
/// How long is measured, after a second that is not.
const LASTS: Duration = Duration::from_secs(10);

/// Runs as many satellites as there are connections, each with one heartbeat after the other.
pub(super) async fn burst(
    cloud: &Cloud,
    members: &[Arc<Member>],
    content: &Arc<Content>,
    options: &Options,
) -> Result<Vec<Measure>> {
    let step = Step::begin("heartbeats as fast as they go");
    let wait = options.wait;
    let (to, counted, ended) =
        (cloud.address()?, Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for (number, member) in members.iter().enumerate().take(CONNECTIONS) {
        let (member, content) = (Arc::clone(member), Arc::clone(content));
        let (counted, ended) = (Arc::clone(&counted), Arc::clone(&ended));
        tasks.spawn(async move {
            let failed =
                |error: std::io::Error| Error::Content(format!("satellite {number} in the burst: {error}"));
            let mut connection =
                Connection::open(Route::of(to, number), &member.tls).await.map_err(failed)?;
            let request = request(&member.name, wait, &content)?;
            let mut times = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let answer = connection.ask(&request).await.map_err(failed)?;
                answer
                    .success()
                    .map_err(|error| Error::Content(format!("a heartbeat in the burst: {error}")))?;
                times.push(begin.elapsed().as_secs_f32() * 1000.0);
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(times)
        });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (begin, before, cpu) = (Instant::now(), counted.load(Ordering::Relaxed), cloud.cpu()?);
    tokio::time::sleep(LASTS).await;
    let heartbeats = (counted.load(Ordering::Relaxed) - before) as f64;
    let (took, cpu) = (begin.elapsed().as_secs_f64(), cloud.cpu()? - cpu);
    ended.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for one in tasks.join_all().await {
        times.extend(one?);
    }
    step.done(format!("{heartbeats} in {took:.1} s"));
    let goal = options.full().then_some(Goal::AtLeast(5000.0));
    Ok(vec![
        Measure::alone("burst: heartbeats acknowledged", "1/s", heartbeats / took, goal),
        milliseconds("burst: p50", quantile(&mut times, 0.5), None),
        milliseconds("burst: p99", quantile(&mut times, 0.99), None),
        Measure::alone("burst: CPU of Ground Control for one", "ms", cpu * 1000.0 / heartbeats, None),
        Measure::alone("burst: CPU of Ground Control", "%", cpu / took * 100.0, None),
    ])
}

fn request(name: &str, wait: u32, content: &Content) -> Result<Vec<u8>> {
    let mut report = report(name, wait, content, false);
    report.inventory_digest.clone_from(&content.inventory);
    let body = serde_json::to_vec(&report).map_err(|error| Error::Content(error.to_string()))?;
    Ok(post("/satellites/sync", &body, None))
}
