//! The flow of the live suite against the stand-in that is made of Harbor's recorded answers, with Debian's registry behind it:
//! so the flow itself runs everywhere. And what makes that flow safe to run at a Harbor that others use.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "harbor_flow/flow.rs"]
mod flow;
#[allow(dead_code, reason = "shared with the tests of Harbor's client, which use all of it")]
#[path = "../../harbor/tests/stand_in/server.rs"]
mod stand_in;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use testbed::docker_registry::DockerRegistry;
use testbed::harbor::{Harbor, Inventory, Record, Run};

use crate::stand_in::StandIn;
use crate::stand_in::projects::Project;

/// The stand-in, and the registry behind it.
struct Place {
    stand_in: StandIn,
    _registry: DockerRegistry,
}

impl Place {
    async fn start() -> Self {
        let registry = DockerRegistry::start().await.unwrap();
        let stand_in = StandIn::start().await;
        stand_in.world().now = Timestamp::now();
        let (http, url) = (testbed::registry::http_client(), registry.url());
        let client = http.clone();
        stand_in.put_before(Arc::new(move |request: http::Request<Bytes>| {
            let (http, url) = (client.clone(), url.clone());
            async move {
                let (head, body) = request.into_parts();
                let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
                // With its own Host, from which the registry makes the addresses of uploads.
                let sent =
                    http.request(head.method, format!("{url}{target}")).headers(head.headers).body(body);
                let answer = sent.send().await.unwrap();
                let mut response = http::Response::builder().status(answer.status());
                *response.headers_mut().unwrap() = answer.headers().clone();
                response.body(answer.bytes().await.unwrap()).unwrap()
            }
            .boxed()
        }));
        stand_in.deliver_with(Arc::new(move |address, secret, payload| {
            let sent = http.post(address).header("Authorization", secret).json(&payload).send();
            async move { sent.await.is_ok_and(|answer| answer.status().is_success()) }.boxed()
        }));
        // Something of other people's.
        stand_in.world().projects.push(Project { id: 900, name: "theirs".to_owned(), public: true });
        Self { stand_in, _registry: registry }
    }

    fn harbor(&self) -> Harbor {
        Harbor::new(&self.stand_in.url(), "admin", "Harbor12345").unwrap().calling_back("127.0.0.1")
    }

    async fn has(&self) -> Inventory {
        Inventory::take(&self.harbor()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_flow_at_the_stand_in() {
    let place = Place::start().await;
    let before = place.has().await;
    Run::guard(place.harbor(), flow::whole).await.unwrap();
    assert_eq!(place.has().await, before);
    assert_eq!(place.stand_in.world().repositories.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_project_of_documents_exists_nothing_is_changed() {
    let place = Place::start().await;
    place.stand_in.world().projects.push(Project { id: 901, name: "satellite".to_owned(), public: false });
    let before = place.has().await;
    place.stand_in.seen();
    let refused = Run::begin(place.harbor()).await.unwrap_err().to_string();
    assert!(refused.contains("`satellite` exists") && refused.contains("nothing was changed"), "{refused}");
    let changed = |seen: &stand_in::Seen| seen.method != "GET" && seen.method != "HEAD";
    assert!(!place.stand_in.seen().iter().any(changed));
    assert_eq!(place.has().await, before);
}

/// What a Ground Control makes, and what a person makes meanwhile.
async fn makes(run: &Run, stand_in: &StandIn) {
    let project = run.create_project("apps").await.unwrap();
    run.ground_control_begins().unwrap();
    let harbor = run.harbor();
    let access = serde_json::json!([{"resource": "repository", "action": "pull"}]);
    for (name, description) in [
        (run.name("edge-01"), "satellite x, made by Ground Control (1)"),
        ("hslive-theirs".to_owned(), "somebody's, who likes our names"),
        ("edge-01".to_owned(), "satellite edge-01, made by Ground Control (2)"),
    ] {
        let body = serde_json::json!({"name": name, "level": "system", "duration": -1, "description": description,
            "permissions": [{"kind": "project", "namespace": project, "access": access}]});
        harbor.done(reqwest::Method::POST, "/robots", Some(&body)).await.unwrap();
    }
    let id = stand_in.world().draw("project");
    stand_in.world().projects.push(Project { id, name: "satellite".to_owned(), public: false });
}

/// What is left when only the run's own is gone.
async fn only_others_are_left(place: &Place, mut before: Inventory) {
    let after = place.has().await;
    let theirs =
        after.robots.values().filter(|name| name.ends_with("theirs") || *name == "robot$edge-01").count();
    assert_eq!((theirs, after.robots.len()), (2, 2), "{after:?}");
    before.robots.clone_from(&after.robots);
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_leaves_nothing_of_the_run_and_takes_nothing_of_others() {
    let place = Arc::new(Place::start().await);
    let before = place.has().await;
    let there = Arc::clone(&place);
    let flow = async move |run: Arc<Run>, there: Arc<Place>| {
        makes(&run, &there.stand_in).await;
        panic!("in the middle of it");
    };
    let guarded = Run::guard(place.harbor(), |run| flow(run, there));
    assert!(std::panic::AssertUnwindSafe(guarded).catch_unwind().await.is_err());
    only_others_are_left(&place, before).await;
}

/// Killed, a process clears nothing away: its record is there, and the next run does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_run_left_is_cleared_away_by_the_next() {
    let place = Place::start().await;
    let before = place.has().await;
    let killed = Run::begin(place.harbor()).await.unwrap();
    makes(&killed, &place.stand_in).await;
    // While its process lives, nobody touches what is its.
    assert!(Run::begin(place.harbor()).await.unwrap_err().to_string().contains("`satellite` exists"));
    killed.abandon(u32::MAX).unwrap();
    let next = Run::begin(place.harbor()).await.unwrap();
    only_others_are_left(&place, before).await;
    assert!(Record::left(&place.stand_in.url()).is_empty());
    next.end().await.unwrap();
}
