//! What is followed by Ground Control's answers, with a Ground Control that knows of desired digests and of waiting, or does
//! not, or fails in the middle.

use std::time::{Duration, Instant};

use fleet_protocol::desired::Desired;
use oci::Digest;
use satellite::config::Layer;
use satellite::site::nodes::NodeStatus;
use satellite::status::FollowedBy;
use serde_json::{Value, json};

use crate::fleet::{Edge, Registry, entry};
use crate::ground_control::{Kind, StandIn};

const STATE: &str = "satellite/satellite-state/edge-01/state";

/// A registry, and a Ground Control that tells what is published there.
struct World {
    registry: Registry,
    cloud: StandIn,
}

impl World {
    async fn start() -> Self {
        let registry = Registry::start().await;
        let cloud = StandIn::start(Kind::Ours, &registry.url, &registry.state_url()).await;
        cloud.change(|book| book.knows_waiting = true);
        Self { registry, cloud }
    }

    fn layer(&self) -> Layer {
        Layer {
            ground_control_url: Some(self.cloud.url.clone()),
            heartbeat_interval: Some("@every 1s".parse().unwrap()),
            state_replication_interval: Some("@every 1s".parse().unwrap()),
            ..Layer::default()
        }
    }

    /// A satellite that is registered and whose waits are long.
    async fn edge(&self) -> Edge {
        let layer = Layer { heartbeat_interval: Some("@every 60s".parse().unwrap()), ..self.layer() };
        self.edge_with(layer).await
    }

    async fn edge_with(&self, layer: Layer) -> Edge {
        let edge = Edge::open(tempfile::tempdir().unwrap(), layer);
        edge.register(&self.registry).await;
        edge.vault
            .update(|state| {
                let auth = &mut state.registration.as_mut().unwrap().auth;
                auth.password = crate::ground_control::ROBOT_SECRET.into();
            })
            .await
            .unwrap();
        edge.start()
    }

    /// Tells what is published now.
    fn tell(&self, generation: u64, groups: &[&str]) {
        let groups = groups.iter().map(|group| {
            let digest = self.registry.tag_of(&format!("satellite/group-state/{group}/state"), "latest");
            ((*group).to_owned(), digest.unwrap())
        });
        self.say(Desired {
            generation,
            state: self.registry.tag_of(STATE, "latest"),
            config: None,
            groups: groups.collect(),
        });
    }

    fn say(&self, desired: Desired) {
        self.cloud.change(|book| book.desired = Some(serde_json::to_value(desired).unwrap()));
    }
}

async fn waits(edge: &Edge, world: &World) {
    edge.until("a request that waits", |status| {
        status.follow.by == FollowedBy::Waiting && world.cloud.read(|book| book.waiting == 1)
    })
    .await;
}

/// Runs turns of the replication and tells what they asked the registry for.
async fn asked_in_turns(edge: &Edge, world: &World) -> Vec<String> {
    edge.turn().await;
    world.registry.requests();
    for _ in 0..3 {
        edge.turn().await;
    }
    world.registry.requests()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_wakes_it_and_only_what_differs_is_fetched_by_digest() {
    let world = World::start().await;
    let registry = &world.registry;
    let old = registry.image("library/app", Some("1"), "old").await;
    let other = registry.image("library/other", Some("1"), "other").await;
    registry.publish_group("one", json!([entry("library/app", &["1"], &old)])).await;
    registry.publish_group("two", json!([entry("library/other", &["1"], &other)])).await;
    registry.publish_satellite(&["one", "two"], None).await;
    world.tell(5, &["one", "two"]);
    let edge = world.edge().await;
    edge.converged(2).await;
    waits(&edge, &world).await;
    let asked = asked_in_turns(&edge, &world).await;
    assert!(asked.is_empty(), "an idle satellite asks the registry for nothing: {asked:?}");

    let new = registry.image("library/app", Some("1"), "new").await;
    let document = registry.publish_group("one", json!([entry("library/app", &["1"], &new)])).await;
    registry.requests();
    let began = Instant::now();
    world.tell(6, &["one", "two"]);
    edge.until("the new version", |_| edge.tag_of("library/app", "1") == Some(new.digest)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}, with waits of a minute", began.elapsed());
    let asked = registry.requests();
    let documents: Vec<&String> = asked.iter().filter(|request| request.contains("/satellite/")).collect();
    let manifest = format!("GET /v2/satellite/group-state/one/state/manifests/{document}");
    assert_eq!(documents[0], &manifest);
    assert_eq!(documents.len(), 2, "a manifest and its layer: {documents:?}");
    assert!(!asked.iter().any(|request| request.starts_with("HEAD")), "{asked:?}");
    edge.until("the generation", |status| status.follow.generation == 6).await;
    edge.until("the generation in a heartbeat", |_| {
        world.cloud.read(|book| book.heartbeats.iter().any(|heartbeat| heartbeat["generation"] == 6))
    })
    .await;
    let most = world.cloud.read(|book| book.preferences.iter().flatten().cloned().collect::<Vec<_>>());
    assert_eq!(most[0], "wait=1", "the first one asks how things stand");
    assert!(most.iter().any(|wait| wait.len() == "wait=48".len()), "{most:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_it_keeps_its_interval_and_follows_the_answers() {
    let world = World::start().await;
    world.cloud.change(|book| book.knows_waiting = false);
    let image = world.registry.image("library/app", Some("1"), "app").await;
    world.registry.publish_group("one", json!([entry("library/app", &["1"], &image)])).await;
    world.registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;
    let status = edge.until("answers", |status| status.follow.by == FollowedBy::Interval).await;
    assert_eq!(status.follow.generation, 1);
    assert!(asked_in_turns(&edge, &world).await.is_empty());
    let status = edge.until("the next run", |status| status.schedulers["heartbeat"].next_run.is_some()).await;
    assert_eq!(status.schedulers["heartbeat"].last_error, None);

    // A deployed one tells nothing: the registry is looked at again, and no wish is sent any more.
    world.cloud.change(|book| book.desired = None);
    edge.until("the registry", |status| status.follow.by == FollowedBy::Registry).await;
    assert!(!asked_in_turns(&edge, &world).await.is_empty());
    world.cloud.change(|book| book.preferences.clear());
    edge.until("more heartbeats", |_| world.cloud.read(|book| book.preferences.len() >= 2)).await;
    assert!(world.cloud.read(|book| book.preferences.iter().all(Option::is_none)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_generation_is_passed_over_also_after_a_restart() {
    let world = World::start().await;
    let registry = &world.registry;
    let old = registry.image("library/app", None, "old").await;
    let before = registry.publish_group("one", json!([entry("library/app", &["1"], &old)])).await;
    let state = registry.publish_satellite(&["one"], None).await;
    let new = registry.image("library/app", None, "new").await;
    registry.publish_group("one", json!([entry("library/app", &["1"], &new)])).await;
    world.tell(9, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;
    assert_eq!(edge.tag_of("library/app", "1"), Some(new.digest));

    let groups = [("one".to_owned(), before)].into();
    world.say(Desired { generation: 8, state: Some(state), config: None, groups });
    let beats = world.cloud.heartbeats().len();
    edge.until("more heartbeats", |_| world.cloud.heartbeats().len() > beats + 2).await;
    edge.turn().await;
    assert_eq!(edge.tag_of("library/app", "1"), Some(new.digest));

    let edge = edge.restart(world.layer()).await;
    let beats = world.cloud.heartbeats().len();
    let status =
        edge.until("heartbeats after the restart", |_| world.cloud.heartbeats().len() > beats + 2).await;
    assert_eq!((status.follow.by, status.follow.generation), (FollowedBy::Kept, 9));
    assert_eq!(world.cloud.heartbeats().last().unwrap()["generation"], 9);
    edge.turn().await;
    assert_eq!(edge.tag_of("library/app", "1"), Some(new.digest));

    let groups = [("one".to_owned(), before)].into();
    world.say(Desired { generation: 9, state: Some(state), config: None, groups });
    edge.until("an equal generation", |_| edge.tag_of("library/app", "1") == Some(old.digest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_failed_heartbeats_lead_to_the_registry_and_an_answer_leads_back() {
    let world = World::start().await;
    let registry = &world.registry;
    let old = registry.image("library/app", None, "old").await;
    registry.publish_group("one", json!([entry("library/app", &["1"], &old)])).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;
    waits(&edge, &world).await;

    let unavailable = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    world.cloud.change(|book| book.heartbeat_answer = Some((unavailable, String::new())));
    let new = registry.image("library/app", None, "new").await;
    registry.publish_group("one", json!([entry("library/app", &["1"], &new)])).await;
    let status = edge.until("polling", |status| status.follow.by == FollowedBy::Registry).await;
    assert!(status.schedulers["heartbeat"].failures_in_a_row >= 2, "{:?}", status.schedulers);
    edge.until("the new version by its tag", |_| edge.tag_of("library/app", "1") == Some(new.digest)).await;

    world.tell(2, &["one"]);
    world.cloud.change(|book| book.heartbeat_answer = None);
    edge.until("waiting again", |status| {
        (status.follow.by, status.follow.generation) == (FollowedBy::Waiting, 2)
    })
    .await;
    assert!(asked_in_turns(&edge, &world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_wait_is_taken_up_again_soon() {
    let world = World::start().await;
    world.registry.publish_satellite(&[], None).await;
    world.tell(1, &[]);
    let edge = world.edge().await;
    waits(&edge, &world).await;
    // The one that waits ends with a change, and the next one is cut.
    let began = Instant::now();
    world.cloud.change(|book| book.cut = 1);
    world.tell(2, &[]);
    edge.until("the cut", |_| world.cloud.read(|book| book.cut == 0)).await;
    waits(&edge, &world).await;
    assert!(began.elapsed() < Duration::from_secs(30), "with an interval of a minute: {:?}", began.elapsed());
    let status = edge.board.snapshot();
    assert_eq!(status.follow.generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_here_is_told_while_a_request_waits_over_one_connection() {
    let world = World::start().await;
    let image = world.registry.image("library/app", Some("1"), "app").await;
    world.registry.publish_group("one", json!([])).await;
    world.registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    world.cloud.change(|book| book.knows_inventory = true);
    let edge = world.edge().await;
    edge.converged(0).await;
    waits(&edge, &world).await;

    world.registry.publish_group("one", json!([entry("library/app", &["1"], &image)])).await;
    world.tell(2, &["one"]);
    edge.until("the image in a heartbeat", |_| {
        assert!(world.cloud.read(|book| book.waiting <= 1), "one request at a time");
        world.cloud.heartbeats().iter().any(|heartbeat| heartbeat["image_count"] == 1)
    })
    .await;
    let heartbeats = world.cloud.heartbeats();
    let first = heartbeats.iter().position(|heartbeat| heartbeat["image_count"] == 1).unwrap();
    assert_eq!(heartbeats[first]["cached_images"].as_array().unwrap().len(), 1, "a new list is told");
    assert_eq!(heartbeats[first]["registry_username"], "robot$edge-01");

    // A list that Ground Control knows is not told again.
    world.tell(3, &["one"]);
    edge.until("another heartbeat", |_| world.cloud.heartbeats().len() > first + 1).await;
    let last = world.cloud.heartbeats().pop().unwrap();
    assert_eq!(last["inventory_digest"], heartbeats[first]["inventory_digest"]);
    assert_eq!((last["cached_images"].clone(), last["image_count"].clone()), (json!([]), json!(1)));
    // Until it says that it holds another one.
    world.cloud.change(|book| book.knows_inventory = false);
    world.tell(4, &["one"]);
    let lists = |heartbeat: &Value| {
        heartbeat["generation"] == 4
            && heartbeat["cached_images"].as_array().is_some_and(|list| list.len() == 1)
    };
    edge.until("the list again", |_| world.cloud.heartbeats().iter().any(lists)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_ground_control_knows_are_told_by_a_digest() {
    let world = World::start().await;
    world.registry.publish_satellite(&[], None).await;
    world.tell(1, &[]);
    world.cloud.change(|book| book.knows_inventory = true);
    let edge = world.edge().await;
    waits(&edge, &world).await;
    let nodes = |count: usize| -> Vec<NodeStatus> {
        let node = |n| NodeStatus {
            name: format!("n{n}"),
            seen_at: jiff::Timestamp::now(),
            ..NodeStatus::default()
        };
        (0..count).map(node).collect()
    };
    let mut generation = 1;
    // The first heartbeat with another generation, told by the one before it.
    let mut next = async || {
        generation += 1;
        world.tell(generation, &[]);
        let is = |heartbeat: &&Value| heartbeat["generation"] == generation;
        edge.until("a heartbeat", |_| world.cloud.heartbeats().iter().any(|heartbeat| is(&heartbeat))).await;
        let heartbeats = world.cloud.heartbeats();
        let heartbeat = heartbeats.iter().find(is).unwrap();
        let listed = heartbeat["nodes"].as_array().map_or(0, Vec::len);
        (listed, heartbeat["nodes_digest"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(next().await, (0, String::new()));
    edge.board.update(|status| status.nodes = nodes(2));
    let (listed, two) = next().await;
    assert_eq!(listed, 2, "a new list is told");
    assert_eq!(next().await, (0, two.clone()));
    edge.board.update(|status| status.nodes = nodes(3));
    let (listed, three) = next().await;
    assert!(listed == 3 && three != two, "{listed}");
    assert_eq!(next().await, (0, three.clone()));
    // One that knows of no such thing gets them whole, and again.
    world.cloud.change(|book| book.knows_inventory = false);
    next().await;
    assert_eq!(next().await, (3, three.clone()));
    assert_eq!(next().await, (3, three));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_published_yet_stays_as_it_is() {
    let world = World::start().await;
    let registry = &world.registry;
    let app = registry.image("library/app", None, "app").await;
    let more = registry.image("library/more", None, "more").await;
    registry.publish_group("one", json!([entry("library/app", &["1"], &app)])).await;
    registry.publish_group("two", json!([entry("library/more", &["1"], &more)])).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;

    // A group that joins and is not published, and one whose document is not told any more.
    registry.publish_satellite(&["one", "two"], None).await;
    world.tell(2, &[]);
    let status = edge.until("two groups", |status| status.desired.groups.len() == 2).await;
    assert!(!status.desired.whole, "nothing is removed while not all is known");
    let error = status.desired.groups[1].error.clone().unwrap();
    assert!(error.contains("not published yet"), "{error}");
    assert_eq!(edge.tag_of("library/app", "1"), Some(app.digest));
    assert!(asked_in_turns(&edge, &world).await.is_empty());

    world.tell(3, &["one", "two"]);
    edge.converged(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_without_a_digest_is_asked_for_once_in_a_while() {
    let world = World::start().await;
    let registry = &world.registry;
    let first = registry.image("library/edge", Some("edge"), "first").await;
    let unpinned = json!([{"repository": "library/edge", "tag": "edge", "type": "image"}]);
    registry.publish_group("one", unpinned).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;
    waits(&edge, &world).await;
    let second: Digest = registry.image("library/edge", Some("edge"), "second").await.digest;
    assert!(asked_in_turns(&edge, &world).await.is_empty(), "not before the interval has passed");
    assert_eq!(edge.tag_of("library/edge", "edge"), Some(first.digest));
    // A new document is a reason to ask.
    registry
        .publish_group(
            "one",
            json!([{"repository": "library/edge", "tag": ["edge", "edge"], "type": "image"}]),
        )
        .await;
    world.tell(2, &["one"]);
    edge.until("the second", |_| edge.tag_of("library/edge", "edge") == Some(second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_looked_for_when_what_stands_for_them_changes() {
    let world = World::start().await;
    let registry = &world.registry;
    let image = registry.image("library/app", Some("1"), "app").await;
    let with = |seed: &[u8]| {
        let mut entry = entry("library/app", &["1"], &image);
        entry["referrers"] = json!(Digest::sha256(seed));
        json!([entry])
    };
    registry.publish_group("one", with(b"none")).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let layer = Layer { referrer_interval: Some(Duration::from_millis(1)), ..world.layer() };
    let edge = world.edge_with(layer.clone()).await;
    edge.converged(1).await;
    let kind = oci::media_type::OCI_MANIFEST;
    let signature = registry.referrer("library/app", &image, kind, "late").await;
    assert!(asked_in_turns(&edge, &world).await.is_empty(), "however short the interval is");

    let edge = edge.restart(layer).await;
    edge.converged(1).await;
    assert!(asked_in_turns(&edge, &world).await.is_empty(), "nor after a restart");
    assert!(!edge.has("library/app", &signature.digest));

    registry.publish_group("one", with(b"one")).await;
    world.tell(2, &["one"]);
    edge.until("the signature", |_| edge.has("library/app", &signature.digest)).await;
    assert!(asked_in_turns(&edge, &world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_of_an_artifact_narrow_what_is_taken_of_it() {
    let world = World::start().await;
    let registry = &world.registry;
    let amd64 = registry.image("library/multi", None, "amd64").await;
    let arm64 = registry.image("library/multi", None, "arm64").await;
    let index = registry.index("library/multi", Some("1"), &[(&amd64, "amd64"), (&arm64, "arm64")]).await;
    let mut narrow = entry("library/multi", &["1"], &index);
    narrow["platforms"] = json!(["linux/arm64"]);
    registry.publish_group("one", json!([narrow])).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    edge.converged(1).await;
    assert!(edge.has("library/multi", &index.digest) && edge.has("library/multi", &arm64.digest));
    assert!(!edge.has("library/multi", &amd64.digest));

    // Another group wants all of it.
    registry.publish_group("two", json!([entry("library/multi", &["1"], &index)])).await;
    registry.publish_satellite(&["one", "two"], None).await;
    world.tell(2, &["one", "two"]);
    edge.until("the other platform", |_| edge.has("library/multi", &amd64.digest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_told_with_its_bytes() {
    let world = World::start().await;
    let registry = &world.registry;
    let image = registry.image("library/app", Some("1"), "app").await;
    let last = image.layers[1].to_string();
    registry.fault(|faults| faults.held.push(last));
    registry.publish_group("one", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["one"], None).await;
    world.tell(1, &["one"]);
    let edge = world.edge_with(world.layer()).await;
    let told = |heartbeat: &Value| {
        let fetching = &heartbeat["fetching"][0];
        fetching["digest"] == json!(image.digest)
            && fetching["reference"].as_str().is_some_and(|name| name.ends_with("library/app:1"))
            && fetching["bytes"].as_u64().is_some_and(|bytes| bytes >= 4096)
            && fetching["bytes"].as_u64() < fetching["total_bytes"].as_u64()
    };
    edge.until("the heartbeat", |_| world.cloud.heartbeats().iter().any(told)).await;
    registry.fault(|faults| faults.held.clear());
    edge.converged(1).await;
    assert!(edge.board.transfers().fetching().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_is_tried_and_told_though_nothing_is_fetched() {
    let world = World::start().await;
    world.registry.publish_satellite(&[], None).await;
    world.tell(1, &[]);
    let edge = world.edge().await;
    waits(&edge, &world).await;
    edge.vault
        .update(|state| "robot$edge-01b".clone_into(&mut state.registration.as_mut().unwrap().auth.username))
        .await
        .unwrap();
    edge.turn().await;
    edge.turn().await;
    let named = |heartbeat: &Value| heartbeat["registry_username"] == "robot$edge-01b";
    edge.until("its name in a heartbeat", |_| world.cloud.heartbeats().iter().any(named)).await;
    assert!(world.registry.requests().iter().any(|asked| asked == "GET /v2/"));
}
