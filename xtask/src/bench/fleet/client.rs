//! A whole fleet at the same moment: handshakes, and a heartbeat of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_protocol::Heartbeat;
use fleet_protocol::heartbeat::CachedImage;
use testbed::{Error, Result};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::fleet::connection::{Connection, Route, post};
use crate::fleet::member::Member;

/// Images that each heartbeat tells of.
const IMAGES: usize = 20;
/// The longest that a satellite waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The heartbeat of a satellite that always lists its images.
fn heartbeat(name: &str) -> Result<Vec<u8>> {
    let image = |number: usize| CachedImage {
        reference: format!("registry.example.com/bench/image-{number}:latest@sha256:{}", "a".repeat(64)),
        size_bytes: 50_000_000,
    };
    let body = serde_json::to_vec(&Heartbeat {
        name: name.to_owned(),
        activity: "idle".to_owned(),
        state_report_interval: "@every 00h00m30s".to_owned(),
        image_count: IMAGES as u64,
        cached_images: (0..IMAGES).map(image).collect(),
        ..Heartbeat::default()
    })
    .map_err(|error| wrong(&error))?;
    Ok(post("/satellites/sync", &body, None))
}

/// A connection after its first heartbeat.
pub(super) struct Connected {
    /// From the first byte to the end of the handshake, as the client sees it.
    pub(super) handshake: Duration,
    /// From the first byte to the answer.
    pub(super) took: Duration,
    connection: Connection,
    request: Vec<u8>,
}

impl Connected {
    /// Connects every satellite at the same moment, each with a heartbeat.
    pub(super) async fn all(to: SocketAddr, members: &Arc<Vec<Member>>) -> Result<Vec<Self>> {
        Self::at_once(to, members, true).await
    }

    /// Connects every satellite at the same moment, and no more than that.
    pub(super) async fn handshakes(to: SocketAddr, members: &Arc<Vec<Member>>) -> Result<()> {
        Self::at_once(to, members, false).await.map(drop)
    }

    async fn at_once(to: SocketAddr, members: &Arc<Vec<Member>>, heartbeat: bool) -> Result<Vec<Self>> {
        let barrier = Arc::new(Barrier::new(members.len()));
        let mut tasks = JoinSet::new();
        for number in 0..members.len() {
            let (barrier, members) = (Arc::clone(&barrier), Arc::clone(members));
            tasks.spawn(async move {
                barrier.wait().await;
                let member = members.get(number).ok_or_else(|| wrong(&"no such satellite"))?;
                tokio::time::timeout(PATIENCE, Self::one(Route::of(to, number), member, heartbeat))
                    .await
                    .map_err(|_| wrong(&"a satellite waited too long for its answer"))?
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    async fn one(route: Route, member: &Member, heartbeat: bool) -> Result<Self> {
        let request = self::heartbeat(&member.name)?;
        let begin = Instant::now();
        let failed = Error::io(format!("{} cannot connect", member.name));
        let connection = Connection::open(route, &member.tls).await.map_err(failed)?;
        let handshake = begin.elapsed();
        let mut connected = Self { handshake, took: handshake, connection, request };
        if heartbeat {
            connected.heartbeat().await?;
            connected.took = begin.elapsed();
        }
        Ok(connected)
    }

    /// Sends a heartbeat and waits until it is accepted.
    pub(super) async fn heartbeat(&mut self) -> Result<()> {
        let answer = self.connection.ask(&self.request).await;
        answer.map_err(|error| wrong(&error))?.success().map(drop).map_err(|error| wrong(&error))
    }
}

fn wrong(reason: &dyn std::fmt::Display) -> Error {
    Error::Content(format!("1,000 satellites: {reason}"))
}
