//! No secret that a run made is anywhere but where it belongs.

use testbed::secrets::Secrets;

use crate::support::{arrives, builtin, publish, reaches};

#[tokio::test]
async fn no_secret_is_found_where_none_may_be() {
    let world = builtin().await;
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    let mut secrets = Secrets::default();
    secrets.add("the administrator's password", world.place.password());

    // One identity by a join token, which is replaced once; one satellite by a registration token.
    let first = world.admin.register("edge-01", "default", &["one"]).await.unwrap();
    secrets.add("an unused join token", &first.join_token);
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    reaches(&world, "edge-01", "online").await;
    let token = String::from_utf8(testbed::files::read(&site.join_token_file()).unwrap()).unwrap();
    secrets.add("the join token", token.trim());
    let ztr_token = world.admin.create_satellite("edge-03", &["one"]).await.unwrap();
    secrets.add("a registration token", &ztr_token);

    // A token of a person, made and used.
    let wish = serde_json::json!({"name": "ci", "scopes": ["read"]});
    let made = world.admin.call(reqwest::Method::POST, "/api/tokens", Some(&wish)).await.unwrap();
    let api_token = made["token"].as_str().unwrap();
    secrets.add("an API token", api_token);
    let url = format!("{}/api/groups", world.place.url());
    let groups = testbed::registry::http_client().get(&url).bearer_auth(api_token).send().await.unwrap();
    assert_eq!(groups.status().as_u16(), 200);

    // Another key of the same identity, by hand: what the answers hold is known then.
    let second = world.admin.register("edge-02", "default", &["one"]).await.unwrap();
    secrets.add("the join token of another", &second.join_token);
    let mut hand = crate::support::Hand::new(world.place.spiffe_url(), &second);
    assert_eq!(hand.attest(&second.join_token).await, 200);
    let url = format!("{}/satellites/spiffe-ztr", world.place.spiffe_url());
    let answer = hand.client().get(&url).send().await.unwrap().bytes().await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    secrets.add("a robot's secret", answer["auth"]["password"].as_str().unwrap());
    let body: String = hand.key.to_pem().lines().filter(|line| !line.starts_with('-')).collect();
    secrets.add("a private key", &body);

    // A restart, a revocation and a deletion write logs, too.
    satellite.stop().await.unwrap();
    let satellite = site.start().await.unwrap();
    world.admin.revoke("edge-02").await.unwrap();
    let enabled = world.admin.enable("edge-02").await.unwrap();
    secrets.add("the join token after enabling", enabled["join_token"].as_str().unwrap());
    world.admin.delete_satellite("edge-03").await.unwrap();
    reaches(&world, "edge-01", "online").await;

    let ground_control = world.ground_control.as_ref().unwrap().process().id();
    let mut found = Vec::new();
    // What the test handed to the satellite is the one file of its folder that may hold it.
    found.extend(secrets.in_files(site.config_dir().parent().unwrap(), &[site.join_token_file()]));
    found.extend(secrets.in_files(&world.place.log(), &[]));
    // Ground Control seals or hashes whatever it keeps; its own key is the one that opens them.
    let key = world.place.data_dir().join("secret.key");
    found.extend(secrets.in_files(&world.place.data_dir(), &[key]));
    for pid in [satellite.process().id(), ground_control] {
        found.extend(secrets.in_arguments(pid));
    }
    found.extend(secrets.in_environment(satellite.process().id()));
    assert_eq!(found, Vec::<String>::new());
    assert!(secrets.len() >= 14);

    // Nobody dumps the memory in which they are.
    for pid in [satellite.process().id(), ground_control] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
}
