//! Resident memory of the satellite: idle, and while it replicates 2 GB and 50 clients pull.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testbed::process::wait_for;
use testbed::{Error, Result, image};

use super::report::{Goal, Measure};
use super::site::{Cloud, REPOSITORY, TAG, peak_bytes};

const CLIENTS: usize = 50;
const SECOND_REPOSITORY: &str = "bench/large";

/// Idle, then under load.
pub(super) async fn memory() -> Result<Vec<Measure>> {
    let cloud = Cloud::start().await?;
    let small = image::random(&cloud.dir().join("small"), 3, &[8_000_000; 4])?;
    cloud.publish("bench", REPOSITORY, &small).await?;
    let (site, satellite) = cloud.filled("bench-memory", &["bench"], &small).await?;

    // Idle is what stays after a whole round of every scheduler.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let pid = satellite.process().id();
    let idle = satellite
        .process()
        .resident_bytes()
        .ok_or_else(|| Error::Content("the satellite's memory cannot be read".to_owned()))?;

    let large = image::random(&cloud.dir().join("large"), 4, &[250_000_000; 8])?;
    let ended = Arc::new(AtomicBool::new(false));
    let (_, manifest) = small.layout.manifest(&small.root)?;
    let urls: Arc<Vec<String>> = Arc::new(
        manifest
            .layers
            .iter()
            .map(|layer| format!("{}/v2/{REPOSITORY}/blobs/{}", site.url(), layer.digest))
            .collect(),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (ended, urls) = (Arc::clone(&ended), Arc::clone(&urls));
            tokio::spawn(async move { pull_again_and_again(number, &urls, &ended).await })
        })
        .collect();
    cloud.publish("large", SECOND_REPOSITORY, &large).await?;
    cloud.join("bench-memory", "large").await?;
    let registry = site.registry();
    wait_for("the replication of 2 GB", Duration::from_secs(300), async || {
        let found = registry.digest(SECOND_REPOSITORY, TAG).await.ok().flatten();
        (found == Some(large.root.digest)).then_some(())
    })
    .await?;
    let peak = peak_bytes(pid)?;
    ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.map_err(|error| Error::Content(error.to_string()))??;
    }
    Ok(vec![
        Measure::alone("satellite RSS, idle", "MB", idle as f64 / 1e6, Some(Goal::AtMost(12.0))),
        Measure::alone(
            "satellite RSS, peak: 2 GB in, 50 clients",
            "MB",
            peak as f64 / 1e6,
            Some(Goal::AtMost(48.0)),
        ),
    ])
}

async fn pull_again_and_again(number: usize, urls: &[String], ended: &AtomicBool) -> Result<()> {
    let client = testbed::registry::http_client();
    for round in number.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let url = &urls[round % urls.len()];
        let broken = |source| Error::Request { method: "GET".to_owned(), url: url.clone(), source };
        let mut answer = client.get(url).send().await.map_err(broken)?.error_for_status().map_err(broken)?;
        while answer.chunk().await.map_err(broken)?.is_some() {}
    }
    Ok(())
}
