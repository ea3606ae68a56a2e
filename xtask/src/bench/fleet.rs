//! A fleet that comes back at once: every satellite with an SVID of its own makes a handshake and sends a heartbeat.
//!
//! The satellites are clients in this process, on the same cores as the server: what they cost is in the times, and not in
//! the server's CPU.

mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use testbed::ground_control::{self, GroundControl, Place};
use testbed::process::wait_for;
use testbed::{Error, Result, files};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use self::client::Connected;
use super::report::{Goal, Measure, median};
use super::site::peak_bytes;
use crate::fleet::allow_descriptors;
use crate::fleet::member::{self, Member};

/// How many satellites there are.
const SATELLITES: usize = 1000;
const ROUNDS: usize = 3;

/// What one round came to.
struct Round {
    /// From the first byte of a connection to the answer to the heartbeat, in milliseconds, sorted.
    times: Vec<f64>,
    /// The part of it that the handshakes took, in milliseconds, sorted.
    handshakes: Vec<f64>,
    /// The server's CPU, in seconds: as many handshakes alone, then as many heartbeats on open connections.
    cpu: (f64, f64),
}

/// Times, CPU, memory and commits of 1,000 handshakes and heartbeats at the same time.
pub(super) async fn fleet() -> Result<Vec<Measure>> {
    allow_descriptors(SATELLITES)?;
    let dir = files::scratch("bench-fleet")?;
    let options = ground_control::Options { spiffe: true, ..Default::default() };
    let mut place = Place::new(&dir.path().join("cloud"), options)?;
    let ground_control = place.start().await?;
    let address: SocketAddr =
        place.spiffe_address().parse().map_err(|error| Error::Content(format!("{error}")))?;
    let names = (0..SATELLITES).map(|number| format!("bench-{number:04}")).collect();
    let members = Arc::new(
        member::enrol(&ground_control, address, names, (|_| "default".to_owned(), &[]), || {}).await?,
    );
    quiet(&ground_control).await?;

    let mut rounds = Vec::new();
    forget_peak(&ground_control)?;
    for _ in 0..ROUNDS {
        rounds.push(round(&ground_control, address, &members).await?);
        quiet(&ground_control).await?;
    }
    let peak = peak_bytes(ground_control.process().id())?;
    ground_control.stop().await?;

    // Commits are counted in the log, whose lines would be a part of the times.
    place.set("LOG_LEVEL", "debug");
    let ground_control = place.start().await?;
    quiet(&ground_control).await?;
    let before = commits(&place);
    drop(Connected::all(address, &members).await?);
    let commits = commits(&place) - before;
    ground_control.stop().await?;

    let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part).collect());
    let per_satellite = |seconds: f64| seconds * 1000.0 / SATELLITES as f64;
    let name = |what: &str| format!("{SATELLITES} handshakes + heartbeats at once, {what}");
    Ok(vec![
        Measure::alone(&name("p50"), "ms", of(|round| quantile(&round.times, 0.5)), None),
        Measure::alone(
            &name("p99"),
            "ms",
            of(|round| quantile(&round.times, 0.99)),
            Some(Goal::AtMost(1000.0)),
        ),
        Measure::alone(
            &name("p99 of the handshakes"),
            "ms",
            of(|round| quantile(&round.handshakes, 0.99)),
            None,
        ),
        Measure::alone(&name("commits"), "", commits as f64, Some(Goal::AtMost(SATELLITES as f64 / 10.0))),
        Measure::alone(
            "server CPU of one mTLS handshake",
            "ms",
            per_satellite(of(|round| round.cpu.0)),
            None,
        ),
        Measure::alone("server CPU of one heartbeat", "ms", per_satellite(of(|round| round.cpu.1)), None),
        Measure::alone(
            &format!("Ground Control RSS, peak: {SATELLITES} connections"),
            "MB",
            peak as f64 / 1e6,
            None,
        ),
    ])
}

async fn round(
    ground_control: &GroundControl,
    address: SocketAddr,
    members: &Arc<Vec<Member>>,
) -> Result<Round> {
    let connected = Connected::all(address, members).await?;
    let sorted = |part: fn(&Connected) -> Duration| {
        let mut times: Vec<f64> = connected.iter().map(|one| part(one).as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (times, handshakes) = (sorted(|one| one.took), sorted(|one| one.handshake));

    let start = cpu(ground_control)?;
    let connected = again(connected).await?;
    let heartbeats = cpu(ground_control)? - start;
    drop(connected);
    quiet(ground_control).await?;
    let start = cpu(ground_control)?;
    Connected::handshakes(address, members).await?;
    quiet(ground_control).await?;
    let cpu = (cpu(ground_control)? - start, heartbeats);
    Ok(Round { times, handshakes, cpu })
}

/// A heartbeat of every satellite on its open connection.
async fn again(connected: Vec<Connected>) -> Result<Vec<Connected>> {
    let mut tasks = JoinSet::new();
    let barrier = Arc::new(Barrier::new(SATELLITES));
    for mut connected in connected {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            barrier.wait().await;
            connected.heartbeat().await.map(|()| connected)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Waits until the server has nothing left to do of what came before.
async fn quiet(ground_control: &GroundControl) -> Result<()> {
    let mut before = f64::INFINITY;
    wait_for("an idle Ground Control", Duration::from_secs(300), async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = cpu(ground_control).ok()?;
        let used = now - before;
        before = now;
        (0.0..0.03).contains(&used).then_some(())
    })
    .await
}

fn cpu(ground_control: &GroundControl) -> Result<f64> {
    ground_control
        .process()
        .cpu_seconds()
        .ok_or_else(|| Error::Content("Ground Control's CPU cannot be read".to_owned()))
}

/// Begins a new high-water mark of resident memory: the set-up is not what is measured.
fn forget_peak(ground_control: &GroundControl) -> Result<()> {
    let path = format!("/proc/{}/clear_refs", ground_control.process().id());
    files::write(path.as_ref(), "5")
}

/// How often heartbeats were committed, as the log tells.
fn commits(place: &Place) -> usize {
    let log = std::fs::read_to_string(place.log()).unwrap_or_default();
    log.lines().filter(|line| line.contains("heartbeats committed")).count()
}

/// The value below which this part of the sorted values lies.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (500.0, 990.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
