//! From the start of the program to the first manifest that it serves.

use std::time::{Duration, Instant};

use testbed::{Error, Result, image};

use super::report::{Goal, Measure, median};
use super::site::{Cloud, REPOSITORY, TAG};

const ROUNDS: usize = 9;

/// The median of several starts after `kill -9`, on a store that holds an image.
pub(super) async fn start_to_first_manifest() -> Result<Measure> {
    let cloud = Cloud::start().await?;
    let image = image::random(&cloud.dir().join("image"), 1, &[100_000, 100_000])?;
    cloud.publish("bench", REPOSITORY, &image).await?;
    let (site, satellite) = cloud.filled("bench-start", &["bench"], &image).await?;
    satellite.kill()?;
    let url = format!("{}/v2/{REPOSITORY}/manifests/{TAG}", site.url());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let client = testbed::registry::http_client();
        let begin = Instant::now();
        let satellite = site.spawn()?;
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if begin.elapsed() > Duration::from_secs(10) {
                return Err(Error::Content("the satellite serves no manifest within 10 s".to_owned()));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        satellite.kill()?;
    }
    Ok(Measure::alone("start to first manifest served", "ms", median(times), Some(Goal::AtMost(30.0))))
}
