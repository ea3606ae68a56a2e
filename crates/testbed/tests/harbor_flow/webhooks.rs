//! Webhook policies, and what Harbor delivers where it reaches this machine.

use testbed::harbor::Harbor;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// Where Harbor's webhooks are to go.
pub(super) struct Callback {
    url: String,
    /// Whether it was said that Harbor reaches it.
    certain: bool,
    forward: Option<JoinHandle<()>>,
}

impl Callback {
    /// Ground Control listens on loopback. Where this machine's name was given a port is opened there; else a Harbor on
    /// loopback may reach it, if it runs in no container, and any other is told a name that does not exist, which fails at once.
    pub(super) async fn new(harbor: &Harbor, ground_control: &str) -> testbed::Result<Self> {
        let Some(host) = harbor.callback_host() else {
            let url = if harbor.is_loopback() { ground_control } else { "http://ground-control.invalid" };
            return Ok(Self { url: url.to_owned(), certain: false, forward: None });
        };
        let failed = || testbed::Error::io("cannot listen for webhooks");
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        let target = ground_control.trim_start_matches("http://").to_owned();
        let forward = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let target = target.clone();
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        // Whoever ends it ends it for both.
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        Ok(Self { url: format!("http://{host}:{port}"), certain: true, forward: Some(forward) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(forward) = &self.forward {
            forward.abort();
        }
    }
}

/// The policies of the project that groups name: one of ours.
pub(super) async fn ours(cloud: &Cloud, project: &str) -> Vec<Value> {
    let all = cloud.run.harbor().policies(project).await.unwrap();
    all.into_iter().filter(|policy| policy["name"] == "harbor-satellite").collect()
}

/// One policy for each project that a group names, and none elsewhere.
pub(super) async fn policies_are_made(cloud: &Cloud) {
    let policy = cloud.until("a webhook policy", async || ours(cloud, &cloud.apps).await.pop()).await;
    let target = &policy["targets"][0];
    assert_eq!(target["address"], format!("{}/hooks/harbor", cloud.callback.url()), "{policy:#}");
    assert_eq!((&policy["enabled"], &target["type"]), (&json!(true), &json!("http")), "{policy:#}");
    assert!(target["auth_header"].as_str().is_some_and(|header| header.len() >= 16), "it has no secret");
    let events: BTreeSet<&str> =
        policy["event_types"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(events, BTreeSet::from(["DELETE_ARTIFACT", "PUSH_ARTIFACT"]));
    assert!(ours(cloud, &cloud.more).await.is_empty(), "no group names {} yet", cloud.more);
    step("a webhook policy is there for the project that groups name");
}

/// What was pushed since was told to Ground Control, where Harbor reaches it.
pub(super) async fn deliveries(cloud: &Cloud) {
    let policy = ours(cloud, &cloud.apps).await.pop().unwrap()["id"].as_i64().unwrap();
    let harbor = cloud.run.harbor();
    let arrived = wait_for("a delivery", LIMIT, async || {
        let all = harbor.deliveries(&cloud.apps, policy).await.unwrap();
        let is = |status: &str| all.iter().any(|one| one["status"] == status);
        // A target that cannot be reached is tried for two minutes, so that nobody waits for the end of that.
        match (is("Success"), is("Error")) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    });
    let arrived = arrived.await.unwrap_or(false);
    assert!(arrived || !cloud.callback.certain, "Harbor did not reach {}", cloud.callback.url());
    if arrived {
        step("webhooks arrive");
    } else {
        step(&format!(
            "NOT SHOWN: webhooks did not arrive, Harbor does not reach this machine ({} names it as Harbor sees it)",
            testbed::harbor::CALLBACK_HOST
        ));
    }
}
