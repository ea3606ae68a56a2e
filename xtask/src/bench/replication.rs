//! Durable replication of a 1 GB image, beside `skopeo copy` into a folder, which syncs nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use testbed::proxy::Proxy;
use testbed::{Error, Result, command, image};

use super::report::{Goal, Measure, median};
use super::site::{Cloud, REPOSITORY, TAG};

const ROUNDS: usize = 3;
const LAYERS: [usize; 8] = [134_000_000; 8];

/// Wall time, CPU, and bytes asked from upstream.
pub(super) async fn replication() -> Result<Vec<Measure>> {
    command::need("skopeo", "skopeo")?;
    let cloud = Cloud::start().await?;
    let image = image::random(&cloud.dir().join("image"), 5, &LAYERS)?;
    cloud.publish("bench", REPOSITORY, &image).await?;
    let (mut ours, mut peers) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..ROUNDS {
        let (wall, cpu) = by_satellite(&cloud, &image, round).await?;
        ours.0.push(wall);
        ours.1.push(cpu);
        let (wall, cpu) = by_skopeo(&cloud, round).await?;
        peers.0.push(wall);
        peers.1.push(cpu);
    }
    let skopeo = "skopeo copy";
    Ok(vec![
        Measure::beside(
            "replicate 1 GB, wall",
            "s",
            median(ours.0),
            (skopeo, median(peers.0)),
            Some(Goal::AtMost(0.85)),
        ),
        Measure::beside(
            "replicate 1 GB, CPU",
            "s",
            median(ours.1),
            (skopeo, median(peers.1)),
            Some(Goal::AtMost(0.6)),
        ),
        bytes_asked(&cloud).await?,
    ])
}

async fn by_satellite(cloud: &Cloud, image: &image::Image, round: usize) -> Result<(f64, f64)> {
    let site = cloud.site(&format!("bench-replication-{round}"), &["bench"], None).await?;
    let begin = Instant::now();
    let satellite = site.spawn()?;
    site.wait_for_tag(REPOSITORY, TAG, image.root.digest, Duration::from_secs(300)).await?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = satellite
        .process()
        .cpu_seconds()
        .ok_or_else(|| Error::Content("the satellite's CPU cannot be read".to_owned()))?;
    satellite.stop().await?;
    remove(&site.data_dir())?;
    Ok((wall, cpu))
}

async fn by_skopeo(cloud: &Cloud, round: usize) -> Result<(f64, f64)> {
    let folder = cloud.dir().join(format!("skopeo-{round}"));
    let source = format!("docker://{}/{REPOSITORY}:{TAG}", cloud.ground_control.address());
    // The shell's `times` tells the CPU of what it ran: the second line is the children's.
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            r#"skopeo copy --quiet --src-tls-verify=false --src-creds "$CREDENTIALS" "$0" "dir:$1" && times"#,
        ])
        .arg(&source)
        .arg(&folder)
        .env("CREDENTIALS", cloud.ground_control.credentials());
    let begin = Instant::now();
    let said = command::run(shell).await?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = said
        .lines()
        .last()
        .map(|line| line.split_whitespace().filter_map(shell_seconds).sum::<f64>())
        .ok_or_else(|| Error::Content(format!("the shell told no times:\n{said}")))?;
    remove(&folder)?;
    Ok((wall, cpu))
}

/// Reads `1m2.345s`.
fn shell_seconds(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

/// Bytes of blobs that a satellite asks for, to those that there are: an image, and a second one that shares all layers
/// but one with it.
async fn bytes_asked(cloud: &Cloud) -> Result<Measure> {
    let layers = (0..4).map(|seed| image::random_layer(100 + seed, 4_000_000)).collect::<Result<Vec<_>>>()?;
    let first = image::of_layers(&cloud.dir().join("first"), 1, &layers[..3])?;
    let second = image::of_layers(&cloud.dir().join("second"), 2, &layers[1..])?;
    cloud.publish("first", "bench/first", &first).await?;
    cloud.publish("second", "bench/second", &second).await?;
    let proxy = Proxy::start(cloud.ground_control.url()).await?;
    let site = cloud.site("bench-bytes", &["first", "second"], Some(proxy.url())).await?;
    let satellite = site.spawn()?;
    for (repository, image) in [("bench/first", &first), ("bench/second", &second)] {
        site.wait_for_tag(repository, TAG, image.root.digest, Duration::from_secs(120)).await?;
    }
    satellite.stop().await?;
    let mut unique = std::collections::BTreeMap::new();
    for image in [&first, &second] {
        let (_, manifest) = image.layout.manifest(&image.root)?;
        unique.extend(manifest.blobs().map(|blob| (blob.digest.to_string(), blob.size)));
    }
    let total: u64 = unique.values().sum();
    let asked: u64 = proxy
        .blob_reads()
        .iter()
        .filter(|read| read.blob().is_some_and(|digest| unique.contains_key(digest)))
        .map(|read| read.promised.unwrap_or(read.sent))
        .sum();
    Ok(Measure::alone(
        "bytes asked from upstream / unique bytes",
        "",
        asked as f64 / total as f64,
        Some(Goal::AtMost(1.0)),
    ))
}

fn remove(folder: &std::path::Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(Error::io(format!("cannot remove {}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_shell() {
        assert_eq!(shell_seconds("1m2.5s"), Some(62.5));
        assert_eq!(shell_seconds("x"), None);
    }
}
