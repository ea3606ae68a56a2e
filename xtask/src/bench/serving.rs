//! Requests per second and bytes per second, beside docker-registry and nginx, by wrk with 16 connections.

use std::process::Command;

use testbed::docker_registry::DockerRegistry;
use testbed::nginx::Nginx;
use testbed::registry::Registry;
use testbed::{Error, Result, command, image};

use super::Peer;
use super::report::{Goal, Measure, median};
use super::site::{Cloud, REPOSITORY, TAG};

const ROUNDS: usize = 3;
const SECONDS: u32 = 5;
const CONNECTIONS: u32 = 16;
/// About a megabyte, once it is packed as a layer.
const BLOB: usize = 1_000_000;

/// Somebody who serves the same content.
struct Server {
    name: String,
    manifest: String,
    blob: String,
    goals: (Option<Goal>, Option<Goal>),
}

/// Manifests and 1 MB blobs: ours beside each peer, in interleaved rounds.
pub(super) async fn serving(peers: &[Peer]) -> Result<Vec<Measure>> {
    command::need("wrk", "wrk")?;
    let cloud = Cloud::start().await?;
    let image = image::random(&cloud.dir().join("image"), 2, &[BLOB])?;
    cloud.publish("bench", REPOSITORY, &image).await?;
    let (site, satellite) = cloud.filled("bench-serving", &["bench"], &image).await?;
    let (manifest, parsed) = image.layout.manifest(&image.root)?;
    let layer = parsed.layers.first().ok_or_else(|| Error::Content("the image has no layer".to_owned()))?;
    let size = layer.size as f64;

    let nginx = Nginx::start().await?;
    nginx.put("manifest", &manifest)?;
    nginx.put("blob", &image.layout.read(&layer.digest)?)?;
    let docker_registry = DockerRegistry::start().await?;
    docker_registry.registry().push(REPOSITORY, TAG, &image).await?;

    let registry = |name: &str, url: &str, goals| Server {
        name: name.to_owned(),
        manifest: format!("{url}/v2/{REPOSITORY}/manifests/{TAG}"),
        blob: format!("{url}/v2/{REPOSITORY}/blobs/{}", layer.digest),
        goals,
    };
    let mut servers = vec![
        registry("satellite", &site.url(), (None, None)),
        registry(
            "docker-registry",
            &docker_registry.url(),
            (Some(Goal::AtLeast(15.0)), Some(Goal::AtLeast(3.0))),
        ),
        Server {
            name: "nginx (1 worker)".to_owned(),
            manifest: format!("{}/manifest", nginx.url()),
            blob: format!("{}/blob", nginx.url()),
            goals: (Some(Goal::AtLeast(0.4)), Some(Goal::AtLeast(1.0))),
        },
    ];
    for peer in peers {
        Registry::anonymous(&peer.url).push(REPOSITORY, TAG, &image).await?;
        servers.push(registry(&peer.name, &peer.url, (None, None)));
    }

    let mut manifests = vec![Vec::new(); servers.len()];
    let mut blobs = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (number, server) in servers.iter().enumerate() {
            manifests[number].push(requests_per_second(&server.manifest).await?);
            blobs[number].push(requests_per_second(&server.blob).await? * size / 1e6);
        }
    }
    satellite.stop().await?;

    let manifests: Vec<f64> = manifests.into_iter().map(median).collect();
    let blobs: Vec<f64> = blobs.into_iter().map(median).collect();
    let rows = |name: &str, unit, figures: &[f64], goal: fn(&Server) -> Option<Goal>| -> Vec<Measure> {
        servers
            .iter()
            .zip(figures)
            .skip(1)
            .map(|(server, peer)| {
                Measure::beside(name, unit, figures[0], (&server.name, *peer), goal(server))
            })
            .collect()
    };
    let mut measures = rows("manifest GET", "req/s", &manifests, |server| server.goals.0);
    measures.extend(rows("1 MB blob GET", "MB/s", &blobs, |server| server.goals.1));
    Ok(measures)
}

async fn requests_per_second(url: &str) -> Result<f64> {
    let accept = format!("Accept: {}", oci::media_type::MANIFESTS.join(", "));
    let mut wrk = Command::new("wrk");
    wrk.args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "-H", &accept, url]);
    let said = command::run(wrk).await?;
    if said.contains("Non-2xx") {
        return Err(Error::Content(format!("{url} answered with errors under load:\n{said}")));
    }
    said.lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"))
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| Error::Content(format!("wrk said nothing of its requests:\n{said}")))
}
