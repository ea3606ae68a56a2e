//! Webhook policies, and what Harbor delivers where it reaches this machine.

use testbed::harbor::Harbor;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// Where Harbor's webhooks are to go.
pub(super) struct Callback {
    url: String,
    reachable: bool,
    forward: Option<JoinHandle<()>>,
}

impl Callback {
    /// Ground Control listens on loopback: a Harbor that is there, too, reaches it; any other over a port that is opened where
    /// this machine's name was given; else a name that does not exist is what fails at once.
    pub(super) async fn new(harbor: &Harbor, ground_control: &str) -> testbed::Result<Self> {
        if harbor.is_loopback() {
            return Ok(Self { url: ground_control.to_owned(), reachable: true, forward: None });
        }
        let Some(host) = harbor.callback_host() else {
            return Ok(Self {
                url: "http://ground-control.invalid".to_owned(),
                reachable: false,
                forward: None,
            });
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
        Ok(Self { url: format!("http://{host}:{port}"), reachable: true, forward: Some(forward) })
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
    if !cloud.callback.reachable {
        step(&format!(
            "NOT SHOWN: deliveries of webhooks. Harbor does not reach this machine; {} names it as Harbor sees it",
            testbed::harbor::CALLBACK_HOST
        ));
        return;
    }
    let policy = ours(cloud, &cloud.apps).await.pop().unwrap()["id"].as_i64().unwrap();
    let harbor = cloud.run.harbor();
    let ended = async || {
        let all = harbor.deliveries(&cloud.apps, policy).await.unwrap();
        let done = |one: &&Value| one["status"] == "Success" || one["status"] == "Error";
        let latest = all.iter().find(done)?;
        Some(latest["status"].as_str().unwrap().to_owned())
    };
    let status = cloud.until("the end of a delivery", ended).await;
    if harbor.is_loopback() || harbor.callback_host().is_some() {
        assert_eq!(status, "Success", "Harbor did not reach {}", cloud.callback.url());
    }
    step("webhooks arrive");
}
