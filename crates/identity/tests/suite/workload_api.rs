//! An identity from the Workload API: live, held while the agent is away, and gone when it says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use identity::tls::{client_config, server_config};
use identity::workload_api::{Endpoint, Wanted, follow};
use identity::{Current, Identity, identity};
use tempfile::TempDir;
use tokio::task::AbortHandle;

use crate::agent::{Agent, Says, X509Svid};
use crate::ca::{Ca, EDGE, GC, Spec, Validity, bundle};
use crate::handshake::{ALPN, exactly, meet};

/// Long enough for any machine; what is waited for comes as soon as it is there.
const LONG: Duration = Duration::from_secs(30);

/// A follower that ends with the test.
struct Follower {
    identity: Identity,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    fn of(endpoint: &str, wanted: Wanted) -> Self {
        let (keeper, identity) = identity();
        let endpoint: Endpoint = endpoint.parse().unwrap();
        Self { identity, task: tokio::spawn(follow(keeper, endpoint, wanted)).abort_handle() }
    }

    /// Waits until what is held is so.
    async fn until(&mut self, is_so: impl Fn(Option<&Current>) -> bool) -> Option<Arc<Current>> {
        tokio::time::timeout(LONG, async {
            loop {
                let current = self.identity.current();
                if is_so(current.as_deref()) {
                    return current;
                }
                assert!(self.identity.changed().await, "the follower ended");
            }
        })
        .await
        .expect("what is held never became so")
    }

    async fn ready(&mut self) -> Arc<Current> {
        self.until(|current| current.is_some()).await.unwrap()
    }

    async fn withdrawn(&mut self) {
        self.until(|current| current.is_none()).await;
    }
}

struct Socket {
    _folder: TempDir,
    path: PathBuf,
}

impl Socket {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("agent.sock"), _folder: folder }
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// An agent on the socket, in the place of one that has ended.
    fn agent(&self, says: Says) -> Agent {
        if self.path.try_exists().unwrap() {
            std::fs::remove_file(&self.path).unwrap();
        }
        Agent::on_socket(&self.path, says)
    }
}

fn svid(ca: &Ca, id: &str, roots: &[&Ca]) -> X509Svid {
    X509Svid::new(id, &ca.issue(&Spec::of(&[id])), &bundle(roots))
}

fn one(ca: &Ca, id: &str) -> Says {
    Says::Svids(vec![svid(ca, id, &[ca])])
}

#[tokio::test]
async fn svid_and_bundle_come_and_rotate_while_a_configuration_lives() {
    let (socket, old, new) = (Socket::new(), Ca::root(), Ca::root());
    let agent = socket.agent(one(&old, EDGE));
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    let first = follower.ready().await;
    assert_eq!(first.svid.id().to_string(), EDGE);
    assert_eq!(first.bundle, bundle(&[&old]));

    let (gc_keeper, gc) = identity();
    gc_keeper.set(old.svid(GC), bundle(&[&old, &new]));
    let server = server_config(&gc, ALPN).unwrap();
    let client = client_config(&follower.identity, exactly(GC), ALPN).unwrap();
    meet(&server, &client).await.ok(Some(EDGE), GC);

    agent.says(Says::Svids(vec![svid(&old, EDGE, &[&old, &new])]));
    follower.until(|current| current.is_some_and(|current| current.bundle.authorities.len() == 2)).await;
    gc_keeper.set(new.svid(GC), bundle(&[&old, &new]));
    meet(&server, &client).await.ok(Some(EDGE), GC);

    agent.says(one(&new, EDGE));
    let last =
        follower.until(|current| current.is_some_and(|current| current.bundle.authorities.len() == 1)).await;
    assert_eq!(last.unwrap().bundle, bundle(&[&new]));
    gc_keeper.set(new.svid(GC), bundle(&[&new]));
    meet(&server, &client).await.ok(Some(EDGE), GC);
}

#[tokio::test]
async fn a_denied_identity_is_withdrawn_and_comes_back_by_itself() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let agent = socket.agent(one(&ca, EDGE));
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    follower.ready().await;
    agent.says(Says::Denied);
    follower.withdrawn().await;
    agent.says(one(&ca, EDGE));
    follower.ready().await;
    // An answer without any SVID says the same.
    agent.says(Says::Svids(vec![]));
    follower.withdrawn().await;
    agent.says(one(&ca, EDGE));
    follower.ready().await;
}

#[tokio::test]
async fn who_was_never_anybody_becomes_somebody_without_a_restart() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let agent = socket.agent(Says::Denied);
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    agent.says(one(&ca, EDGE));
    assert_eq!(follower.ready().await.svid.id().to_string(), EDGE);
}

#[tokio::test]
async fn an_agent_may_come_late_go_and_come_back() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    let agent = socket.agent(one(&ca, EDGE));
    let first = follower.ready().await;
    agent.stop().await;
    let agent = socket.agent(one(&ca, EDGE));
    let fresh = |current: Option<&Current>| {
        // Held all the time: there is no moment without an identity.
        let current = current.expect("withdrawn while the agent was away");
        current.svid.leaf().serial != first.svid.leaf().serial
    };
    follower.until(fresh).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_held_ends_when_it_expires() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let short = ca.issue(&Spec { validity: Validity(-60, 3), ..Spec::of(&[EDGE]) });
    let agent = socket.agent(Says::Svids(vec![X509Svid::new(EDGE, &short, &bundle(&[&ca]))]));
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    let held = follower.ready().await;
    agent.stop().await;
    follower.withdrawn().await;
    assert!(held.svid.leaf().is_expired(jiff::Timestamp::now()), "not a second too early");
    let _agent = socket.agent(one(&ca, EDGE));
    follower.ready().await;
}

#[tokio::test]
async fn an_unusable_update_changes_nothing() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let mut agent = socket.agent(one(&ca, EDGE));
    let mut follower = Follower::of(&socket.endpoint(), Wanted::First);
    follower.ready().await;
    let good = svid(&ca, EDGE, &[&ca]);
    let unusable = [
        X509Svid { x509_svid: vec![1, 2, 3], ..good.clone() },
        X509Svid { x509_svid_key: svid(&ca, EDGE, &[&ca]).x509_svid_key, ..good.clone() },
        X509Svid { bundle: vec![], ..good.clone() },
        X509Svid::new(
            EDGE,
            &ca.issue(&Spec { validity: crate::ca::EXPIRED, ..Spec::of(&[EDGE]) }),
            &bundle(&[&ca]),
        ),
    ];
    for bad in unusable {
        let held = ca.issue(&Spec::of(&[EDGE]));
        agent.says(Says::Svids(vec![X509Svid::new(EDGE, &held, &bundle(&[&ca]))]));
        let is_held = |current: Option<&Current>| current.unwrap().svid.chain() == held.chain;
        follower.until(is_held).await;
        agent.says(Says::Svids(vec![bad]));
        // The second stream from now on is opened only after the bad update was read.
        tokio::time::timeout(LONG, agent.asked_again(2)).await.unwrap();
        assert!(is_held(follower.identity.current().as_deref()));
    }
}

#[tokio::test]
async fn among_several_the_wanted_one_is_ours() {
    let (socket, ca) = (Socket::new(), Ca::root());
    let other = "spiffe://harbor-satellite.local/printer";
    let all = [other, EDGE, GC].map(|id| svid(&ca, id, &[&ca]));
    let agent = socket.agent(Says::Svids(all.to_vec()));
    for (wanted, id) in [(Wanted::First, other), (Wanted::Satellite, EDGE), (Wanted::GroundControl, GC)] {
        let mut follower = Follower::of(&socket.endpoint(), wanted);
        assert_eq!(follower.ready().await.svid.id().to_string(), id);
    }
    agent.says(Says::Svids(vec![all[0].clone()]));
    let mut follower = Follower::of(&socket.endpoint(), Wanted::Satellite);
    assert_eq!(follower.ready().await.svid.id().to_string(), other, "the only one there is");
}

#[tokio::test]
async fn an_agent_may_listen_on_a_port() {
    let ca = Ca::root();
    let (_agent, endpoint) = Agent::on_port(one(&ca, EDGE)).await;
    assert_eq!(Follower::of(&endpoint, Wanted::First).ready().await.svid.id().to_string(), EDGE);
}

#[test]
fn addresses_are_read_as_the_specification_writes_them() {
    for good in ["unix:///run/agent.sock", "unix:/run/agent.sock", "tcp://127.0.0.1:8081", "tcp://[::1]:8081"]
    {
        assert!(good.parse::<Endpoint>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "/run/agent.sock",
        "unix://run/agent.sock",
        "unix:///",
        "tcp://localhost:1",
        "tcp://127.0.0.1",
        "http://127.0.0.1:1",
    ] {
        let error = bad.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains("use unix:///path"), "{error}");
    }
}
