//! `cargo xtask demo`: the whole system on one machine, with real processes, on loopback.

mod content;
mod endpoints;
mod engines;
mod spiffe;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;
use testbed::admin::Wanted;
use testbed::ground_control::{self, ADMIN};
use testbed::image::Image;
use testbed::process::wait_for;
use testbed::registry::Registry;
use testbed::{files, satellite};

use crate::build;
use crate::error::{Error, Result};
use crate::progress::Step;

/// How the demo runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Exit after the check instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
    /// An image of your own instead of the one that is made: a folder in OCI layout or a reference in a registry.
    #[arg(long, value_name = "oci:DIR|docker://REF", value_parser = content::Source::parse)]
    image: Option<content::Source>,
}

/// The names of the demo.
const GROUP: &str = "edge";
const SATELLITE: &str = "edge-01";
const REGION: &str = "default";

/// Runs the demo.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let out = build::workspace().join("target/demo");
    endpoints::clear(&out)?;
    println!("building the programs (the first time takes some minutes)");
    let folder = build::programs(false)?;
    let scratch = files::scratch("demo")?;

    let step = Step::begin("the image");
    let made = content::image(arguments.image.as_ref(), &scratch.path().join("image"), &folder).await?;
    let (image, repository, tag) = (made.image, made.repository, made.tag);
    let graph = image.layout.graph(&image.root)?;
    step.done(format!(
        "{repository}:{tag}, {} manifests, {} blobs, {}, {} referrer(s), {}",
        graph.manifests.len(),
        graph.blobs.len(),
        megabytes(graph.blob_bytes()),
        image.referrers.len(),
        image.root.digest
    ));

    let step = Step::begin("Ground Control with its database, registry and certificate authority");
    let options =
        ground_control::Options { spiffe: true, programs: Some(folder.clone()), ..Default::default() };
    let place = ground_control::Place::new(&scratch.path().join("ground-control"), options)?;
    let ground_control = place.start().await?;
    let admin = ground_control.admin().await?;
    step.done(format!("{} for satellites, {} for people", place.spiffe_url(), place.url()));

    let step = Step::begin("pushing the image and what refers to it");
    ground_control.registry().push(&repository, &tag, &image).await?;
    step.done("");

    let step = Step::begin("a group that asks for it, an identity for a satellite");
    admin.sync_group(GROUP, &[Wanted::new(&repository, &tag, image.root.digest)]).await?;
    let registered = admin.register(SATELLITE, REGION, &[GROUP]).await?;
    let (spiffe_id, trust_bundle) = (registered.spiffe_id, registered.trust_bundle);
    step.done(&spiffe_id);

    let step = Step::begin("the satellite starts with two files: a join token and a trust bundle");
    let options = satellite::Options {
        ground_control_url: place.spiffe_url(),
        identity: Some(satellite::Identity::JoinToken {
            token: registered.join_token,
            trust_bundle: trust_bundle.clone(),
        }),
        environment: vec![
            ("STATE_REPLICATION_INTERVAL".into(), "@every 2s".into()),
            ("REGISTER_SATELLITE_INTERVAL".into(), "@every 2s".into()),
            ("HEARTBEAT_INTERVAL".into(), "@every 2s".into()),
        ],
        programs: Some(folder.clone()),
        ..satellite::Options::default()
    };
    let site = satellite::Site::new(&scratch.path().join("satellite"), options)?;
    let satellite = site.start().await?;
    step.done(site.url());

    let doors = spiffe::Doors { spiffe: place.spiffe_address(), web: ground_control.address().to_owned() };
    let step = Step::begin("the satellite pulls");
    let watch = spiffe::Watch::begin(satellite.process().id());
    replicate(&site, &step, &repository, &tag, &image, graph.blob_bytes()).await?;
    step.done("");
    spiffe::show(&site, &admin, SATELLITE, &spiffe_id).await?;
    spiffe::only_mutual_tls(&doors, watch, &trust_bundle).await?;
    compare(&site.registry(), &repository, &tag, &image, "digests on the satellite").await?;

    let engines = engines::start().await;
    let pull = engines::Pull {
        satellite: site.address(),
        central: place.spiffe_address(),
        repository: repository.clone(),
        tag: tag.clone(),
        digest: image.root.digest,
    };
    engines.pull_all(&pull).await?;

    let step = Step::begin("kill -9 of Ground Control and with it the central registry");
    ground_control.kill()?;
    if Registry::anonymous(&place.url()).ping().await.is_ok() {
        return Err(Error::Other(format!("something still answers at {}", place.url())));
    }
    step.done("nobody answers there any more");
    engines.forget_all().await?;
    compare(&site.registry(), &repository, &tag, &image, "digests with the cloud gone").await?;
    engines.pull_all(&pull).await?;
    drop(engines);

    let step = Step::begin("Ground Control again");
    let ground_control = place.start().await?;
    spiffe::heard_again(&admin, SATELLITE).await?;
    step.done("the satellite has found it by itself, with the same identity");

    let endpoints = endpoints::Endpoints {
        ground_control: place.url(),
        central_registry: place.url(),
        ground_control_for_satellites: place.spiffe_url(),
        satellite_spiffe_id: spiffe_id,
        satellite_registry: site.url(),
        satellite_socket: site.socket(),
        admin_user: ADMIN.to_owned(),
        admin_password_file: out.join("admin-password"),
        image: format!("{repository}:{tag}"),
        digest: image.root.digest,
        pids: [
            ("ground-control".to_owned(), ground_control.process().id()),
            ("satellite".to_owned(), satellite.process().id()),
        ]
        .into(),
    };
    endpoints.write(&out, place.password())?;
    if arguments.once {
        println!("\nthe image arrived whole, and stays with the cloud gone");
        return Ok(());
    }
    try_by_hand(&endpoints, &site, &folder, &out);
    std::future::pending().await
}

/// Waits until the tag is there and all that it names, and shows how far it is.
async fn replicate(
    site: &satellite::Site,
    step: &Step,
    repository: &str,
    tag: &str,
    image: &Image,
    total: u64,
) -> Result<()> {
    step.of_bytes(total);
    let limit = Duration::from_secs(120 + total / 1_000_000);
    let arrival = site.wait_for_tag(repository, tag, image.root.digest, limit);
    let watching = async {
        loop {
            step.at(files::disk_usage(&site.data_dir()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        arrived = arrival => arrived?,
        () = watching => {}
    }
    let registry = site.registry();
    let mut wanted: Vec<Digest> = image.referrers.iter().map(|referrer| referrer.digest).collect();
    wanted.sort();
    wait_for("the referrers on the satellite", Duration::from_secs(60), async || {
        let found = registry.referrers(repository, &image.root.digest).await.ok()?;
        wanted.iter().all(|digest| found.iter().any(|d| d.digest == *digest)).then_some(())
    })
    .await?;
    Ok(())
}

/// Reads everything from the satellite with a client of its own and compares each digest.
async fn compare(registry: &Registry, repository: &str, tag: &str, image: &Image, what: &str) -> Result<()> {
    let step = Step::begin(what);
    let found = registry.digest(repository, tag).await?;
    if found != Some(image.root.digest) {
        let found = found.map_or("nothing".to_owned(), |digest| digest.to_string());
        let text =
            format!("{repository}:{tag} is {found} on the satellite, {} was pushed", image.root.digest);
        return Err(Error::Other(text));
    }
    let graph = image.layout.graph(&image.root)?;
    let verified = registry.verify(repository, tag).await?.unwrap_or_default();
    if verified.manifests != graph.manifests.len() || verified.blobs != graph.blobs.len() {
        return Err(Error::Other(format!(
            "the satellite holds {} manifests and {} blobs, {} and {} were pushed",
            verified.manifests,
            verified.blobs,
            graph.manifests.len(),
            graph.blobs.len()
        )));
    }
    for referrer in &image.referrers {
        let digest = referrer.digest.to_string();
        if registry.verify(repository, &digest).await?.is_none() {
            return Err(Error::Other(format!("the referrer {digest} is not on the satellite")));
        }
    }
    step.done(format!("{} read and hashed, every digest as pushed", megabytes(verified.bytes)));
    Ok(())
}

fn try_by_hand(
    endpoints: &endpoints::Endpoints,
    site: &satellite::Site,
    folder: &std::path::Path,
    out: &std::path::Path,
) {
    let satellite = site.address();
    let image = &endpoints.image;
    let (repository, _) = image.rsplit_once(':').unwrap_or((image, ""));
    let pid = endpoints.pids.get("ground-control").copied().unwrap_or_default();
    let program = |name: &str| -> PathBuf { folder.join(name) };
    println!(
        "
Everything runs. Try by hand, in another terminal:

  # pull from the satellite
  skopeo inspect --tls-verify=false docker://{satellite}/{image}
  docker pull {satellite}/{image}
  podman pull --tls-verify=false {satellite}/{image}
  ctr images pull --plain-http {satellite}/{image}
  curl -s {url}/v2/{repository}/referrers/{digest}

  # ask the satellite
  {status} status --control-socket {socket}
  {status} images --control-socket {socket}

  # ask Ground Control ({gc}, user {user}, password in {password})
  {groundctl} login --server {gc} --username {user} --password-file {password}
  {groundctl} satellites list
  {groundctl} satellites get {name}
  {groundctl} spire status

  # end the cloud, and pull again
  kill -9 {pid}

All of this stands in {file}. Ctrl-C ends it.",
        url = endpoints.satellite_registry,
        digest = endpoints.digest,
        status = program("satellite").display(),
        socket = endpoints.satellite_socket.display(),
        gc = endpoints.ground_control,
        user = endpoints.admin_user,
        password = endpoints.admin_password_file.display(),
        groundctl = program("groundctl").display(),
        name = SATELLITE,
        file = out.join("endpoints.json").display(),
    );
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
