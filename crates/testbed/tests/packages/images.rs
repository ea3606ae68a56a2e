//! Container images: pushed into our registry, replicated, pulled from a Satellite and run by real engines.

use std::time::Duration;

use testbed::docker::Docker;
use testbed::packages::Packages;
use testbed::podman::Podman;
use testbed::process::wait_for;
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{admin, files, skopeo};

const TAG: &str = "test";
const PROGRAMS: [&str; 2] = ["satellite", "ground-control"];

/// What makes a container as closed as an engine can.
const CLOSED: [&str; 6] =
    ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network=none"];

/// Our images at a site, as its Satellite serves them.
struct Served {
    site: Site,
    _satellite: Satellite,
    _world: World,
}

impl Served {
    async fn start() -> Self {
        let packages = Packages::find().unwrap();
        let world = World::start().await.unwrap();
        let central = world.place.url().trim_start_matches("http://").to_owned();
        let credentials = world.ground_control.as_ref().unwrap().credentials();
        let mut wanted = Vec::new();
        for program in PROGRAMS {
            let image = packages.image(program).unwrap();
            let (root, _) = image.image().unwrap();
            let repository = format!("shipped/{program}");
            skopeo::push(image.dir(), &central, &format!("{repository}:{TAG}"), &credentials).await.unwrap();
            wanted.push(admin::Wanted::new(&repository, TAG, root.digest));
        }
        world.admin.sync_group("shipped", &wanted).await.unwrap();
        let site = world.site("edge-01", &["shipped"], None).await.unwrap();
        let satellite = site.start().await.unwrap();
        for program in PROGRAMS {
            let (root, _) = packages.image(program).unwrap().image().unwrap();
            let limit = Duration::from_secs(60);
            site.wait_for_tag(&format!("shipped/{program}"), TAG, root.digest, limit).await.unwrap();
        }
        Self { site, _satellite: satellite, _world: world }
    }

    fn reference(&self, program: &str) -> String {
        format!("{}/shipped/{program}:{TAG}", self.site.address())
    }
}

/// The user ids of a process.
fn uids(pid: &str) -> String {
    let path = format!("/proc/{}/status", pid.trim());
    let status = String::from_utf8(files::read(path.as_ref()).unwrap()).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn docker_pulls_and_runs_them() {
    let served = Served::start().await;
    let docker = Docker::start().await.unwrap();
    for program in PROGRAMS {
        let reference = served.reference(program);
        let (root, _) = Packages::find().unwrap().image(program).unwrap().image().unwrap();
        assert_eq!(docker.pull(&reference).await.unwrap(), root.digest.to_string());
        let said = docker.run(&reference, &["--version"]).await.unwrap();
        assert!(said.starts_with(&format!("{program} ")), "{said}");
        let said = docker.run(&reference, &["--help"]).await.unwrap();
        assert!(said.contains("--log-level"), "{said}");
    }

    // The satellite serves in a box without anything, as nobody, and is asked how it is from outside.
    let image = served.reference("satellite");
    let run: Vec<&str> =
        ["run", "--detach", "--pull=never"].into_iter().chain(CLOSED).chain([image.as_str()]).collect();
    let container = docker.docker(&run).await.unwrap().trim().to_owned();
    let mut said = String::new();
    let asked = wait_for("the satellite in its container", Duration::from_secs(30), async || {
        let asked = docker.docker(&["exec", &container, "satellite", "status", "--json"]).await;
        match asked {
            Ok(answer) => Some(answer),
            Err(error) => {
                said = error.to_string();
                None
            }
        }
    });
    let status = asked.await;
    let logs = docker.docker(&["logs", &container]).await.unwrap_or_default();
    let status = status.unwrap_or_else(|error| panic!("{error}: {said}\n{logs}"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["registry"]["address"], "127.0.0.1:8585");
    let pid = docker.docker(&["inspect", "--format", "{{.State.Pid}}", &container]).await.unwrap();
    assert_eq!(uids(&pid), "65532\t65532\t65532\t65532");
    docker.docker(&["stop", "--time", "40", &container]).await.unwrap();
    let code = docker.docker(&["inspect", "--format", "{{.State.ExitCode}}", &container]).await.unwrap();
    assert_eq!(code.trim(), "0");
    docker.docker(&["rm", "--force", "--volumes", &container]).await.unwrap();

    // Ground Control does not start before it is told under which URL it is reached, and then does.
    let image = served.reference("ground-control");
    let run = |more: &'static [&'static str]| -> Vec<&str> {
        ["run", "--detach", "--pull=never"]
            .into_iter()
            .chain(CLOSED)
            .chain(more.iter().copied())
            .chain([image.as_str()])
            .collect()
    };
    let container = docker.docker(&run(&[])).await.unwrap().trim().to_owned();
    assert_eq!(docker.docker(&["wait", &container]).await.unwrap().trim(), "2");
    let container = docker
        .docker(&run(&["--env=USE_UNSECURE=true", "--env=PUBLIC_REGISTRY_URL=http://gc.test:8080"]))
        .await;
    let container = container.unwrap().trim().to_owned();
    let pid = docker.docker(&["inspect", "--format", "{{.State.Pid}}", &container]).await.unwrap();
    // Asked as an engine's health check asks: by the only program that is there.
    let ready = wait_for("Ground Control in its container", Duration::from_secs(30), async || {
        docker.docker(&["exec", &container, "ground-control", "health"]).await.ok()
    });
    if let Err(error) = ready.await {
        panic!("{error}: {:?}", docker.docker(&["logs", &container]).await);
    }
    assert_eq!(uids(&pid), "65532\t65532\t65532\t65532");
    docker.docker(&["stop", "--time", "40", &container]).await.unwrap();
    let code = docker.docker(&["inspect", "--format", "{{.State.ExitCode}}", &container]).await.unwrap();
    assert_eq!(code.trim(), "0");
    docker.docker(&["rm", "--force", "--volumes", &container]).await.unwrap();
}

#[tokio::test]
async fn podman_pulls_and_runs_them() {
    let served = Served::start().await;
    let podman = Podman::start().await.unwrap();
    podman.registry(&served.site.address(), None).unwrap();
    for program in PROGRAMS {
        let reference = served.reference(program);
        let (root, _) = Packages::find().unwrap().image(program).unwrap().image().unwrap();
        let pulled = podman.pull(&reference).await.unwrap();
        assert!(pulled.contains(&root.digest.to_string()), "{pulled}");
        let said = podman.run(&reference, &["--version"]).await.unwrap();
        assert!(said.starts_with(&format!("{program} ")), "{said}");
        let said = podman.run(&reference, &["--help"]).await.unwrap();
        assert!(said.contains("--log-level"), "{said}");
    }
    let image = served.reference("satellite");
    let run: Vec<&str> = ["run", "--detach", "--pull=never", "--rm"]
        .into_iter()
        .chain(CLOSED)
        .chain([image.as_str()])
        .collect();
    let container = podman.podman(&run).await.unwrap().trim().to_owned();
    let asked = wait_for("the satellite in its container", Duration::from_secs(30), async || {
        podman.podman(&["exec", &container, "satellite", "status", "--json"]).await.ok()
    });
    let status: serde_json::Value = serde_json::from_str(&asked.await.unwrap()).unwrap();
    assert_eq!(status["registry"]["address"], "127.0.0.1:8585");
    let pid = podman.podman(&["inspect", "--format", "{{.State.Pid}}", &container]).await.unwrap();
    assert_eq!(uids(&pid), "65532\t65532\t65532\t65532");
    podman.podman(&["stop", "--time", "40", &container]).await.unwrap();
}

#[tokio::test]
async fn every_image_is_one_program_and_says_what_it_is() {
    let packages = Packages::find().unwrap();
    for program in PROGRAMS {
        let source = format!("oci:{}", packages.image(program).unwrap().dir().display());
        let told = skopeo::skopeo(&["inspect", &source]).await.unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["Layers"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!((&told["Os"], &told["Architecture"]), (&"linux".into(), &"amd64".into()));
        assert_eq!(told["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
        let config = skopeo::skopeo(&["inspect", "--config", &source]).await.unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        let known = crate::settings::known(program).await;
        let environment = config["config"]["Env"].as_array().unwrap().clone();
        let names = environment.iter().map(|set| set.as_str().unwrap().split_once('=').unwrap().0);
        crate::settings::all_known("the image", names.filter(|name| *name != "PATH"), &known);
    }
}
