//! The whole way of a fleet beside a Harbor, in the order of the design documents: projects, robots, documents, groups that
//! follow the registry, sites that pull, other projects, other secrets, the end of a satellite. What it needs it makes under
//! names of its own, so that it runs beside whatever else is there.

mod accounts;
mod begin;
mod end;
mod follow;
mod hand;
mod webhooks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testbed::clock::Clock;
use testbed::harbor::Run;
use testbed::image::{self, Image};
use testbed::layout::Layout;
use testbed::process::wait_for;
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{files, ground_control};

use self::hand::Hand;
use self::webhooks::Callback;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(180);

/// A Ground Control beside the Harbor, and what was made so far.
struct Cloud {
    run: Arc<Run>,
    world: World,
    /// By which the programs go: it is moved instead of waited for.
    clock: Clock,
    callback: Callback,
    /// The project of most images.
    apps: String,
    /// The project that comes later.
    more: String,
}

/// A satellite's program and its place.
struct Edge {
    name: String,
    site: Site,
    satellite: Satellite,
}

/// Everything, one act after the other.
pub(crate) async fn whole(run: Arc<Run>) {
    let version = run.harbor().version().await.unwrap();
    step(&format!("Harbor {version} at {}", run.harbor().url()));
    let mut cloud = begin::cloud(run).await;
    begin::project_is_private(&cloud).await;

    let images = begin::publish(&cloud).await;
    let by_token = begin::site_by_token(&cloud).await;
    let by_svid = begin::site_by_svid(&cloud).await;
    let mut hand = begin::site_by_hand(&cloud).await;
    begin::images_arrive(&cloud, &by_token, &by_svid, &images).await;
    begin::robots_have_their_projects(&cloud, &[&by_token.name, &by_svid.name, hand.name()]).await;

    webhooks::policies_are_made(&cloud).await;
    follow::a_moved_tag_arrives(&cloud, &by_token).await;
    follow::a_rule_takes_what_is_new(&cloud, &by_svid).await;
    webhooks::deliveries(&cloud).await;
    follow::an_adapter_adds(&cloud, &by_token).await;

    accounts::longer_lives_and_another_project(&mut cloud, &[&by_token, &by_svid], &hand).await;
    accounts::a_robot_that_somebody_deleted_is_replaced(&cloud, &by_token).await;
    accounts::a_rotation_is_a_second_robot(&cloud, &mut hand).await;
    accounts::a_revocation_ends_at_both(&cloud, &mut hand).await;
    accounts::a_revoked_site_goes_on_serving(&cloud, &by_svid).await;

    end::superseded_documents_are_pruned(&cloud).await;
    end::what_is_deleted_goes(&cloud, hand.name(), &by_token, &by_svid).await;
    by_token.satellite.stop().await.unwrap();
    by_svid.satellite.stop().await.unwrap();
    end::stop(cloud).await;
}

fn step(what: &str) {
    println!("   {what}");
}

impl Cloud {
    fn name(&self, what: &str) -> String {
        self.run.name(what)
    }

    fn app(&self, repository: &str) -> String {
        format!("{}/{repository}", self.apps)
    }

    /// An index of two platforms with something that refers to it, as signatures do.
    fn image(&self, seed: u64) -> Image {
        let layout = Layout::create(&self.world.dir().join(format!("image-{seed}"))).unwrap();
        let children = ["amd64", "arm64"].map(|architecture| {
            let number = seed * 10 + u64::from(architecture == "arm64");
            let layer = image::random_layer(number, 30_000).unwrap();
            image::manifest(&layout, architecture, &[layer], &json!({"Labels": {"seed": seed.to_string()}}))
                .unwrap()
        });
        let root = image::index(&layout, &children).unwrap();
        let content = format!("a signature of {}", root.digest);
        let referrer = image::referrer(&layout, &root, image::SIGNATURE_TYPE, content.as_bytes()).unwrap();
        Image { layout, root, referrers: vec![referrer] }
    }

    /// Pushes a new image as people do.
    async fn push(&self, repository: &str, tag: &str, seed: u64) -> Image {
        let image = self.image(seed);
        self.run.harbor().registry().unwrap().push(repository, tag, &image).await.unwrap();
        image
    }

    /// Replaces the list of a group.
    async fn group(&self, group: &str, artifacts: Value) {
        let body = json!({"group": group, "registry": "", "artifacts": artifacts});
        self.world.admin.call(Method::POST, "/api/groups/sync", Some(&body)).await.unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        self.world.admin.call(Method::GET, path, None).await.unwrap()
    }

    /// The satellite's robot as Harbor shows it; `None` while there is none that was handed out.
    async fn robot(&self, satellite: &str) -> Option<Value> {
        let shown = self.get(&format!("/api/satellites/{satellite}/accounts")).await;
        let accounts = shown["accounts"].as_array().cloned().unwrap_or_default();
        let username = accounts.iter().find(|account| account["role"] == "current")?["username"].clone();
        self.run.robots().await.unwrap().into_iter().find(|robot| robot["name"] == username)
    }

    /// How many robots of a satellite Harbor has.
    async fn robots_of(&self, satellite: &str) -> usize {
        let robots = self.run.robots().await.unwrap();
        let described = format!("satellite {satellite}, ");
        let is_its =
            |robot: &&Value| robot["description"].as_str().is_some_and(|d| d.starts_with(&described));
        robots.iter().filter(is_its).count()
    }

    /// Whether Harbor lets these credentials in.
    async fn takes(&self, account: &(String, String)) -> bool {
        let registry = self.run.harbor().registry_as(&account.0, &account.1).unwrap();
        registry.ping().await.unwrap() == reqwest::StatusCode::OK
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&files::read(&self.world.place.log()).unwrap()).into_owned()
    }

    /// Waits, and shows Ground Control's log where it was in vain.
    async fn until<T>(&self, what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
        match wait_for(what, LIMIT, probe).await {
            Ok(value) => value,
            Err(error) => panic!("{error}; the end of Ground Control's log:\n{}", self.log_end()),
        }
    }

    fn log_end(&self) -> String {
        files::tail(&self.world.place.log(), 60)
    }
}

impl Edge {
    /// Waits for a tag, reads every byte below it, and finds what refers to it.
    async fn has(&self, repository: &str, tag: &str, image: &Image) {
        self.site.wait_for_tag(repository, tag, image.root.digest, LIMIT).await.unwrap();
        self.holds(repository, tag, image).await;
    }

    async fn holds(&self, repository: &str, reference: &str, image: &Image) {
        let registry = self.site.registry();
        let verified = registry.verify(repository, reference).await.unwrap().unwrap();
        assert_eq!(verified.manifests, 3, "the index and both platforms of {repository}:{reference}");
        let referrers = wait_for("what refers to it", LIMIT, async || {
            let found = registry.referrers(repository, &image.root.digest).await.ok()?;
            (found.len() == image.referrers.len()).then_some(found)
        });
        assert_eq!(referrers.await.unwrap()[0].digest, image.referrers[0].digest);
    }
}

/// The projects of a robot. It may pull there, and nothing else.
fn projects(robot: &Value) -> BTreeSet<String> {
    let allowed = |access: &Value| {
        let all = access.as_array().unwrap().iter();
        all.map(|one| format!("{}:{}", one["resource"].as_str().unwrap(), one["action"].as_str().unwrap()))
            .collect()
    };
    let pull: BTreeSet<String> =
        ["repository:pull", "repository:read", "artifact:read"].map(String::from).into();
    let permissions = robot["permissions"].as_array().unwrap().iter();
    permissions
        .map(|permission| {
            let has: BTreeSet<String> = allowed(&permission["access"]);
            assert_eq!((&has, &permission["kind"]), (&pull, &json!("project")), "{robot:#}");
            permission["namespace"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
