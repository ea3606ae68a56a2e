//! Groups, configs and satellites as people work with them.

use serde_json::{Value, json};

use crate::support::{As, DIGEST, Server};

/// A group as people set it, without what its list stands for at this moment.
async fn shown(server: &Server, name: &str) -> Value {
    let mut group = server.admin("GET", &format!("/api/groups/{name}"), None).await.expect(200).body;
    group.as_object_mut().unwrap().remove("resolutions").unwrap();
    group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_replaced_and_ours_is_its_registry() {
    let server = Server::start().await;
    assert_eq!(server.admin("GET", "/api/groups", None).await.expect(200).body, json!([]));
    let sync = async |artifacts: Value| {
        let body = json!({"group": "east", "registry": "https://elsewhere", "artifacts": artifacts});
        server.admin("POST", "/api/groups/sync", Some(body)).await.expect(200).body
    };
    let made = sync(json!([
        {"repository": "library/nginx", "tag": "latest", "digest": DIGEST, "type": "image", "labels": null},
        {"repository": "apps/shop/web", "tag": ["1", "1.2"], "digest": DIGEST, "labels": ["x"], "deleted": true},
    ]))
    .await;
    assert_eq!(made["group_name"], "east");
    assert_eq!(made["registry_url"], json!(server.running.public_url));
    assert_eq!(made["projects"], json!(["apps", "library"]));
    assert_eq!(made["artifacts"][0]["tag"], json!(["latest"]));
    assert_eq!(made["artifacts"][1]["deleted"], true);
    assert_eq!(shown(&server, "east").await, made);
    let replaced = sync(json!([])).await;
    assert_eq!((&replaced["artifacts"], &replaced["id"]), (&json!([]), &made["id"]));
    assert_eq!(server.admin("GET", "/api/groups", None).await.body.as_array().unwrap().len(), 1);
    assert_eq!(server.admin("DELETE", "/api/groups/east", None).await.expect(200).body, json!({}));
    server.admin("GET", "/api/groups/east", None).await.expect(404);
    server.admin("DELETE", "/api/groups/east", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_back_to_an_earlier_revision() {
    let server = Server::start().await;
    server.person("adam", "admin").await;
    server.person("vera", "viewer").await;
    let adam = As::Basic("adam", crate::support::ADMIN_PASSWORD);
    let sync = async |tag: &str| {
        let body = json!({"group": "east", "artifacts": [{"repository": "library/nginx", "tag": tag}]});
        server.send(adam, "POST", "/api/groups/sync", Some(body)).await.expect(200)
    };
    sync("1").await;
    sync("2").await;
    sync("2").await;
    let list = server.admin("GET", "/api/groups/east/revisions?page_size=1", None).await.expect(200);
    assert_eq!(list.header("x-total-count"), "2");
    assert!(list.header("link").starts_with("</api/groups/east/revisions?page=2&page_size=1>"));
    let latest = &list.body[0];
    assert_eq!(
        (&latest["number"], &latest["author"], &latest["changed"]),
        (&json!(2), &json!("adam"), &json!(1))
    );
    assert_eq!((&latest["restored_from"], latest.get("artifacts")), (&Value::Null, None));
    let one = server.admin("GET", "/api/groups/east/revisions/2", None).await.expect(200).body;
    let change = &one["difference"]["changed"][0];
    assert_eq!((&change["from"]["tag"], &change["to"]["tag"]), (&json!(["1"]), &json!(["2"])));
    assert_eq!(one["artifacts"][0]["tag"], json!(["2"]));

    let path = "/api/groups/east/revisions/1/restore";
    let vera = As::Basic("vera", crate::support::ADMIN_PASSWORD);
    server.send(vera, "POST", path, None).await.expect(403);
    let restored = server.admin("POST", path, None).await.expect(200).body;
    assert_eq!((&restored["number"], &restored["restored_from"]), (&json!(3), &json!(1)));
    assert_eq!(restored["author"], "admin");
    // It is published as any other change is.
    server.published().await;
    let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
    assert_eq!(group["artifacts"], restored["artifacts"]);
    assert_eq!(server.admin("POST", path, None).await.expect(200).body, restored);
    for missing in
        ["/api/groups/east/revisions/9", "/api/groups/west/revisions/1", "/api/groups/west/revisions"]
    {
        server.admin("GET", missing, None).await.expect(404);
    }
    server.admin("GET", "/api/groups/east/revisions/first", None).await.expect(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn satellites_join_and_leave_groups_as_often_as_one_likes() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    server.satellite("edge-01", &[]).await;
    let member = json!({"satellite": "edge-01", "group": "east"});
    let groups = async || server.admin("GET", "/api/satellites/edge-01", None).await.body["groups"].clone();
    for method in ["POST", "POST", "DELETE", "DELETE", "POST"] {
        let answer = server.admin(method, "/api/groups/satellite", Some(member.clone())).await.expect(200);
        assert!(answer.body["message"].is_string());
        assert_eq!(groups().await, if method == "POST" { json!(["east"]) } else { json!([]) });
    }
    let members = server.admin("GET", "/api/groups/east/satellites", None).await.expect(200).body;
    assert_eq!(members[0]["name"], "edge-01");
    server.admin("GET", "/api/groups/west/satellites", None).await.expect(404);
    for body in
        [json!({"satellite": "nobody", "group": "east"}), json!({"satellite": "edge-01", "group": "west"})]
    {
        server.admin("POST", "/api/groups/satellite", Some(body)).await.expect(404);
    }
    server.admin("DELETE", "/api/groups/east", None).await.expect(200);
    assert_eq!(groups().await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configs_are_made_patched_assigned_and_kept_while_in_use() {
    let server = Server::start().await;
    let first = server.admin("GET", "/api/configs", None).await.expect(200).body;
    assert_eq!(first[0]["config_name"], "default");
    let config = json!({"app_config": {"log_level": "debug", "use_unsecure": true, "heartbeat_interval": "@every 00h01m00s"}});
    let body = json!({"config_name": "slow", "registry": "https://elsewhere", "config": config});
    let made = server.admin("POST", "/api/configs", Some(body.clone())).await.expect(201).body;
    assert_eq!(made["registry_url"], json!(server.running.public_url));
    assert_eq!(made["config"], config);
    server.admin("POST", "/api/configs", Some(body)).await.expect(409);

    // A merge patch sets false and empty, and removes by null.
    let patch = json!({"app_config": {"use_unsecure": false, "log_level": null}});
    let patched = server.admin("PATCH", "/api/configs/slow", Some(patch)).await.expect(200).body;
    assert_eq!(
        patched["config"],
        json!({"app_config": {"use_unsecure": false, "heartbeat_interval": "@every 00h01m00s"}})
    );
    let bad = json!({"app_config": {"heartbeat_interval": "soon"}});
    let refused = server.admin("PATCH", "/api/configs/slow", Some(bad.clone())).await.expect(400);
    assert!(refused.body["message"].as_str().unwrap().contains("heartbeat_interval"), "{refused:?}");
    assert_eq!(server.admin("GET", "/api/configs/slow", None).await.body["config"], patched["config"]);
    let bad = json!({"config_name": "bad", "config": bad});
    server.admin("POST", "/api/configs", Some(bad)).await.expect(400);

    server.satellite("edge-01", &[]).await;
    let config_of =
        async || server.admin("GET", "/api/satellites/edge-01", None).await.body["config_name"].clone();
    assert_eq!(config_of().await, "default");
    let assign = json!({"satellite": "edge-01", "config_name": "slow"});
    assert_eq!(
        server.admin("POST", "/api/configs/satellite", Some(assign)).await.expect(200).body,
        json!({})
    );
    assert_eq!(config_of().await, "slow");
    server.admin("DELETE", "/api/configs/slow", None).await.expect(400);
    let assign = json!({"satellite": "edge-01", "config_name": "nothing"});
    server.admin("POST", "/api/configs/satellite", Some(assign)).await.expect(404);
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    assert_eq!(server.admin("DELETE", "/api/configs/slow", None).await.expect(200).body, json!({}));
    server.admin("GET", "/api/configs/slow", None).await.expect(404);
    server.admin("PATCH", "/api/configs/slow", Some(json!({}))).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn satellites_are_made_listed_and_deleted() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    for n in 0..5 {
        server.satellite(&format!("edge-{n:02}"), &["east", "east"]).await;
    }
    let one = server.admin("GET", "/api/satellites/edge-03", None).await.expect(200).body;
    let keys: Vec<&String> = one.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "config_name",
            "created_at",
            "groups",
            "heartbeat_interval",
            "id",
            "labels",
            "last_seen",
            "name",
            "region",
            "spiffe_id",
            "state",
            "updated_at"
        ]
    );
    assert_eq!((&one["state"], &one["region"]), (&json!("pending"), &json!("default")));
    assert_eq!((&one["groups"], &one["last_seen"]), (&json!(["east"]), &Value::Null));

    let page = server.admin("GET", "/api/satellites?page=2&page_size=2", None).await.expect(200);
    let names: Vec<&str> =
        page.body.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["edge-02", "edge-03"]);
    assert_eq!(page.header("x-total-count"), "5");
    assert_eq!(
        page.header("link"),
        "</api/satellites?page=1&page_size=2>; rel=\"prev\", </api/satellites?page=3&page_size=2>; rel=\"next\""
    );
    let beyond = server.admin("GET", "/api/satellites?page=9", None).await.expect(200);
    assert_eq!((&beyond.body, beyond.header("x-total-count")), (&json!([]), "5"));
    for empty in ["/api/satellites/active", "/api/satellites/stale", "/api/satellites/edge-01/images"] {
        assert_eq!(server.admin("GET", empty, None).await.expect(200).body, json!([]), "{empty}");
    }

    let again = json!({"name": "edge-01"});
    server.admin("POST", "/api/satellites", Some(again)).await.expect(409);
    let lost = json!({"name": "edge-09", "groups": ["west"]});
    server.admin("POST", "/api/satellites", Some(lost)).await.expect(404);
    let lost = json!({"name": "edge-09", "config_name": "nothing"});
    server.admin("POST", "/api/satellites", Some(lost)).await.expect(404);
    assert_eq!(server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200).body, json!({}));
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(404);
    server.admin("GET", "/api/satellites/edge-01/status", None).await.expect(404);
    server.admin("GET", "/api/satellites/edge-01/images", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn satellites_are_labelled_and_found_by_label() {
    let server = Server::start().await;
    server.person("vera", "viewer").await;
    server.group("east", "library/nginx").await;
    for n in 0..5 {
        let name = format!("edge-{n:02}");
        server.satellite(&name, if n < 2 { &["east"] } else { &[] }).await;
        let path = format!("/api/satellites/{name}/labels");
        let patch = json!({"env": if n < 4 { "prod" } else { "test" }, "example.com/rack": n.to_string()});
        let labelled = server.admin("PATCH", &path, Some(patch.clone())).await.expect(200).body;
        assert_eq!((&labelled["labels"], &labelled["name"]), (&patch, &json!(name)));
    }
    let path = "/api/satellites/edge-00/labels";
    let patched = server.admin("PATCH", path, Some(json!({"env": null, "new": ""}))).await.expect(200).body;
    assert_eq!(patched["labels"], json!({"example.com/rack": "0", "new": ""}));
    assert_eq!(server.admin("GET", "/api/satellites/edge-00", None).await.body["labels"], patched["labels"]);
    for bad in [json!({"env": 1}), json!({"no good": "x"}), json!({"env": "no good"})] {
        let refused = server.admin("PATCH", path, Some(bad)).await.expect(400);
        assert!(refused.body["message"].as_str().unwrap().contains("label"), "{refused:?}");
    }
    server.admin("PATCH", path, Some(json!([]))).await.expect(400);
    let vera = As::Basic("vera", crate::support::ADMIN_PASSWORD);
    server.send(vera, "PATCH", path, Some(json!({"env": "x"}))).await.expect(403);

    let found = async |query: &str| {
        let answer = server.send(vera, "GET", query, None).await.expect(200);
        let names: Vec<String> =
            answer.body.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), answer.header("x-total-count").to_owned())
    };
    let told = |names: &str, total: &str| (names.to_owned(), total.to_owned());
    assert_eq!(found("/api/satellites?label=env%3Dprod&page_size=2").await, told("edge-01 edge-02", "3"));
    assert_eq!(found("/api/satellites?label=env%21%3Dprod").await, told("edge-00 edge-04", "2"));
    let racks = "/api/satellites?label=env&label=example.com/rack+notin+(1,4)";
    assert_eq!(found(racks).await, told("edge-02 edge-03", "2"));
    assert_eq!(found("/api/satellites?group=east&label=env").await, told("edge-01", "1"));
    assert_eq!(found("/api/groups/east/satellites?label=!env").await, told("edge-00", "1"));
    assert_eq!(found("/api/satellites?region=elsewhere").await, told("", "0"));
    assert_eq!(found("/api/satellites?region=default&state=pending&page_size=1").await, told("edge-00", "5"));
    assert_eq!(found("/api/satellites?state=revoked").await, told("", "0"));
    let first = server.admin("GET", "/api/satellites?page_size=2&label=env%3Dprod", None).await.expect(200);
    assert_eq!(first.header("link"), "</api/satellites?label=env%3Dprod&page=2&page_size=2>; rel=\"next\"");
    for bad in ["label=a%20b", "state=gone", "state=online&state=stale"] {
        server.admin("GET", &format!("/api/satellites?{bad}"), None).await.expect(400);
    }
    server.admin("GET", "/api/satellites/active?state=stale", None).await.expect(400);
    server.admin("GET", "/api/groups/east/satellites?group=west", None).await.expect(400);
    server.admin("PATCH", "/api/satellites/nobody/labels", Some(json!({}))).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_chooses_its_satellites_by_label() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    server.satellite("edge-01", &[]).await;
    let label = async |env: Value| {
        let patch = json!({"env": env});
        server.admin("PATCH", "/api/satellites/edge-01/labels", Some(patch)).await.expect(200).body["groups"]
            .clone()
    };
    let select = async |selector: Value| {
        server.admin("PUT", "/api/groups/east/selector", Some(json!({"selector": selector}))).await
    };
    assert_eq!(label(json!("prod")).await, json!([]));
    let group = select(json!(" env = prod ")).await.expect(200).body;
    assert_eq!(group["selector"], "env in (prod)");
    assert_eq!(shown(&server, "east").await, group);
    let members = server.admin("GET", "/api/groups/east/satellites", None).await.expect(200);
    assert_eq!((&members.body[0]["name"], members.header("x-total-count")), (&json!("edge-01"), "1"));
    let member = json!({"satellite": "edge-01", "group": "east"});
    let refused = server.admin("DELETE", "/api/groups/satellite", Some(member)).await.expect(409);
    assert!(refused.body["message"].as_str().unwrap().contains("selector"), "{refused:?}");
    assert_eq!(label(json!("test")).await, json!([]));
    assert_eq!(label(json!("prod")).await, json!(["east"]));
    // A new list leaves the selector as it is.
    server.group("east", "library/alpine").await;
    assert_eq!(server.admin("GET", "/api/groups/east", None).await.body["selector"], "env in (prod)");
    server.published().await;
    for bad in ["env=a b", "!env", "env!=prod"] {
        select(json!(bad)).await.expect(400);
    }
    assert_eq!(select(Value::Null).await.expect(200).body["selector"], Value::Null);
    assert_eq!(server.admin("GET", "/api/satellites/edge-01", None).await.body["groups"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_taken_or_made() {
    let server = Server::start().await;
    let ask = async |id: Option<&str>| {
        let mut request = server.client.get(server.url("/ping"));
        if let Some(id) = id {
            request = request.header("X-Request-ID", id);
        }
        let answer = request.send().await.unwrap();
        answer.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("deploy-1.2_3")).await, "deploy-1.2_3");
    let (a, b) = (ask(None).await, ask(Some("not good")).await);
    assert!(a != b && a.len() == 32 && b.len() == 32, "{a} {b}");
    let refused = server.send(As::Nobody, "GET", "/nothing", None).await.expect(404);
    assert_eq!(refused.header("x-request-id").len(), 32);
}
