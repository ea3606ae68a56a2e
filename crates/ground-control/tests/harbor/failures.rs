//! Every failure at every call of a site's whole life: once it is over, Harbor has what it should, and nothing besides.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use ground_control::auth::{Robots, Seal, ServerKey};
use ground_control::central::{HarborLogin, Keeper, KeeperOptions};
use ground_control::config::{HarborConfig, HarborPassword};
use ground_control::domain::SatelliteId;
use ground_control::domain::harbor::{GroupTurn, HandOut, HandedOut, Wish};
use ground_control::domain::satellite::NewSatellite;
use ground_control::domain::secret::{HashKey, Purpose};
use ground_control::store::{self, Location, SharedStore};
use harbor::{ClientOptions, RetryPolicy};
use jiff::{SignedDuration, Timestamp};

use crate::stand_in::{BAD_GATEWAY, Fault, StandIn};
use crate::{PASSWORD, projects};

/// How a call can go wrong, done or not.
fn faults() -> Vec<(&'static str, Fault)> {
    let done = |fault| Fault::Done(Box::new(fault));
    vec![
        ("cut off", Fault::Cut { done: false }),
        ("cut off after it was done", Fault::Cut { done: true }),
        ("half an answer", Fault::Half),
        ("too late", Fault::Slow(Duration::from_millis(400))),
        ("401", Fault::told(401, "UNAUTHORIZED", "unauthorized")),
        ("403", Fault::told(403, "FORBIDDEN", "forbidden")),
        ("409", Fault::told(409, "CONFLICT", "robot account 0:edge-01 already exists")),
        ("412", Fault::told(412, "PRECONDITION", "precondition failed")),
        ("500", Fault::told(500, "UNKNOWN", "internal server error")),
        ("500 after it was done", done(Fault::told(500, "UNKNOWN", "internal server error"))),
        ("502", Fault::page(502, BAD_GATEWAY)),
        ("502 after it was done", done(Fault::page(502, BAD_GATEWAY))),
        ("a page", Fault::page(200, "<html>login</html>")),
    ]
}

pub(crate) struct Bench {
    pub(crate) stand_in: StandIn,
    pub(crate) store: SharedStore,
    pub(crate) keeper: Keeper,
    pub(crate) satellite: SatelliteId,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        crate::support::provider();
        let stand_in = StandIn::start().await;
        stand_in.world().now = Timestamp::now();
        for (id, name) in [(7, "satellite"), (8, "apps")] {
            let project = crate::stand_in::projects::Project { id, name: name.to_owned(), public: false };
            stand_in.world().projects.push(project);
        }
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite { file: dir.path().join("gc.db") };
        let store = store::open(&location).await.unwrap();
        let now = Timestamp::now();
        store.ensure_default_config(now).await.unwrap();
        group(&store, &["apps/web"]).await;
        let key = HashKey::new([7; 32]);
        let new = NewSatellite {
            name: "edge-01".into(),
            region: "default".into(),
            groups: vec!["east".into()],
            config_name: "default".into(),
            token: key.hash(Purpose::ZtrToken, "token"),
            token_expires_at: now + SignedDuration::from_hours(1),
        };
        let satellite = store.create_satellite(new, now).await.unwrap().id;
        let config = HarborConfig {
            endpoint: stand_in.url().parse().unwrap(),
            username: "admin".into(),
            password: HarborPassword::Given(PASSWORD.into()),
            ca_file: None,
            allow_plain_http: false,
            skip_health_check: true,
            webhook_url: None,
        };
        let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let options = ClientOptions {
            retry: once,
            precondition_retry: once,
            request_timeout: Duration::from_millis(200),
            ..ClientOptions::default()
        };
        let login = Arc::new(HarborLogin::open_with(&config, options).await.unwrap());
        let seal = Seal::new(&ServerKey::open(None, dir.path(), true).unwrap(), "harbor-robots");
        let robots = Robots::new(Arc::clone(&store), Arc::new(key)).at_harbor(true);
        let options = KeeperOptions {
            retry: Duration::from_millis(1),
            retry_max: Duration::from_millis(2),
            ..KeeperOptions::new(30)
        };
        let (keeper, _) = Keeper::new(Arc::clone(&store), login, robots, seal, options);
        Self { stand_in, store, keeper, satellite, _dir: dir }
    }

    /// Looks until nothing is left to do.
    pub(crate) async fn settle(&self) {
        for _ in 0..50 {
            self.keeper.look().await.unwrap();
            let status = self.store.site_status("edge-01").await.unwrap().unwrap();
            if status.settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        panic!("{:?}", self.store.site_status("edge-01").await.unwrap());
    }

    pub(crate) async fn renewed(&self) -> HandedOut {
        for _ in 0..5 {
            let now = Timestamp::now();
            match self.store.grant_robot(&self.satellite, Wish::Renewal, now).await.unwrap() {
                HandOut::Given(out) => return out,
                HandOut::NotReady => self.settle().await,
                other => panic!("{other:?}"),
            }
        }
        panic!("no robot was ever ready");
    }

    /// The life of a site: made, given another project, rotated, and shut out.
    async fn live(&self, what: &str) {
        self.settle().await;
        let first = self.renewed().await;
        self.store.robot_in_use(&self.satellite, &first.robot, Timestamp::now()).await.unwrap();
        group(&self.store, &["apps/web", "library/nginx"]).await;
        self.store.group_turn("east", Timestamp::now()).await.unwrap();
        self.settle().await;
        let turn = self.store.group_turn("east", Timestamp::now()).await.unwrap();
        assert_eq!(turn, GroupTurn::Now, "{what}");
        self.has(&[&first], &["apps", "library", "satellite"], what);
        let second = self.renewed().await;
        self.settle().await;
        self.has(&[&first, &second], &["apps", "library", "satellite"], what);
        self.store.robot_in_use(&self.satellite, &second.robot, Timestamp::now()).await.unwrap();
        self.settle().await;
        self.has(&[&second], &["apps", "library", "satellite"], what);
        self.store.revoke_satellite("edge-01", Timestamp::now()).await.unwrap();
        self.settle().await;
        self.has(&[], &[], what);
    }

    /// Whether Harbor has these robots, with these projects, and no other.
    #[track_caller]
    pub(crate) fn has(&self, robots: &[&HandedOut], wanted: &[&str], what: &str) {
        let world = self.stand_in.world();
        let mut names: Vec<_> = world.robots.iter().map(|robot| robot.full_name()).collect();
        let mut expected: Vec<_> = robots.iter().map(|robot| robot.username.clone()).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{what}");
        for robot in &world.robots {
            let has = robot.permissions.iter().map(|p| p["namespace"].as_str().unwrap().to_owned()).collect();
            assert_eq!(projects(wanted), has, "{what}");
        }
    }
}

async fn group(store: &SharedStore, repositories: &[&str]) {
    let list = repositories.iter().map(|name| serde_json::json!({"repository": name, "tag": ["latest"]}));
    let list = serde_json::from_value(list.collect()).unwrap();
    store.sync_group("east", list, "ann", Timestamp::now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_at_every_call_is_made_up_for() {
    let bench = Bench::start().await;
    bench.live("without a failure").await;
    let calls = bench.stand_in.seen().len();
    assert!(calls > 8, "{calls} calls");
    let all = faults().into_iter().flat_map(|fault| (0..calls).map(move |call| (fault.clone(), call)));
    let mut runs = futures_util::stream::iter(all)
        .map(|((name, fault), call)| async move {
            let bench = Bench::start().await;
            bench.stand_in.fail(fault, call, 1);
            bench.live(&format!("{name} at call {call}")).await;
        })
        .buffer_unordered(8);
    while runs.next().await.is_some() {}
}

/// A failure that lasts changes nothing for the satellite, and the end is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_lasts_takes_nothing_away() {
    for (name, fault) in faults() {
        if matches!(fault, Fault::Slow(_)) {
            continue;
        }
        let bench = Bench::start().await;
        bench.settle().await;
        let robot = bench.renewed().await;
        bench.settle().await;
        bench.store.robot_in_use(&bench.satellite, &robot.robot, Timestamp::now()).await.unwrap();
        group(&bench.store, &["library/nginx"]).await;
        bench.store.group_turn("east", Timestamp::now()).await.unwrap();
        bench.stand_in.fail(fault, 0, 1_000_000);
        for _ in 0..8 {
            bench.keeper.look().await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let robots = bench.store.robots_of(&bench.satellite).await.unwrap();
        assert!(robots.iter().any(|kept| kept.id == robot.robot && kept.is_live()), "{name}: {robots:?}");
        bench.stand_in.fail(Fault::Half, 0, 0);
        bench.settle().await;
        bench.has(&[&robot], &["library", "satellite"], name);
    }
}
