//! How far what is desired is at the satellites.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{As, DIGEST, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_followed_from_nothing_to_all() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let (name, secret) = server.robot("edge-01", &["east"]).await;
    server.satellite("edge-02", &["east"]).await;
    server.published().await;
    let rollout = async |query: &str| {
        server.admin("GET", &format!("/api/groups/east/rollout{query}"), None).await.expect(200)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while rollout("").await.body["settling"] == true {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = rollout("").await;
    assert_eq!(all.header("x-total-count"), "2");
    assert_eq!(
        all.body["totals"],
        json!({"wanted": 2, "current": 0, "fetching": 0, "failed": 0, "waiting": 0, "unreachable": 2})
    );
    assert!(all.body["digest"].is_string() && all.body["published_at"].is_string());
    assert_eq!(all.body["artifacts"], 1);
    assert_eq!(all.body["satellites"][0]["reason"], "the satellite was never heard of");

    let beat =
        async |body| server.send(As::Basic(&name, &secret), "POST", "/satellites/sync", Some(body)).await;
    let failed = json!([{"reference": "library/nginx:latest", "digest": DIGEST, "reason": "the disk is full",
        "since": "2026-11-01T10:00:00Z", "attempts": 2}]);
    beat(json!({"failed": failed})).await.expect(200);
    let some = rollout("?progress=failed").await;
    assert_eq!(
        (some.header("x-total-count"), &some.body["satellites"][0]["satellite"]),
        ("1", &json!("edge-01"))
    );
    assert_eq!(some.body["satellites"][0]["reason"], "library/nginx:latest: the disk is full");
    let artifacts =
        async || server.admin("GET", "/api/satellites/edge-01/artifacts", None).await.expect(200).body;
    let one = &artifacts().await[0];
    assert_eq!(
        (&one["state"], &one["reason"], &one["attempts"]),
        (&json!("failed"), &json!("the disk is full"), &json!(2))
    );

    let fetching =
        json!([{"reference": "library/nginx:latest", "digest": DIGEST, "bytes": 7, "total_bytes": 9}]);
    beat(json!({"fetching": fetching})).await.expect(200);
    let some = rollout("?progress=fetching&page_size=1").await;
    let one = &some.body["satellites"][0];
    assert_eq!((&one["bytes"], &one["total_bytes"]), (&json!(7), &json!(9)));
    let drifting = async |drift: bool| {
        let list = server.admin("GET", &format!("/api/satellites?drift={drift}"), None).await.expect(200);
        list.header("x-total-count").parse::<u32>().unwrap()
    };
    assert_eq!((drifting(true).await, drifting(false).await), (2, 0));

    let image =
        |digest: &str| json!({"reference": format!("h/library/nginx:latest@{digest}"), "size_bytes": 9});
    beat(json!({"cached_images": [image(DIGEST)]})).await.expect(200);
    assert_eq!(rollout("").await.body["totals"]["current"], 1);
    assert_eq!((drifting(true).await, drifting(false).await), (1, 1));
    assert_eq!(artifacts().await[0]["state"], "there");
    let other = DIGEST.replace('e', "0");
    beat(json!({"cached_images": [image(DIGEST), image(&other)]})).await.expect(200);
    let list = artifacts().await;
    assert_eq!((&list[1]["state"], &list[1]["group_name"]), (&json!("undesired"), &json!(null)));
    assert_eq!(drifting(true).await, 2);

    server.admin("GET", "/api/groups/west/rollout", None).await.expect(404);
    server.admin("GET", "/api/groups/east/rollout?progress=slow", None).await.expect(400);
    server.admin("GET", "/api/satellites/nobody/artifacts", None).await.expect(404);
    server.admin("GET", "/api/satellites?drift=maybe", None).await.expect(400);
}
