//! `apply`, `diff` and `export` against the built Ground Control.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testbed::files;
use testbed::world::World;

use crate::operator::{Operator, operator, text};

const FLEET: &str = r#"
version: 1
configs:
  slow-link:
    app_config: {log_level: warn, heartbeat_interval: "@every 5s"}
---
groups:
  shops:
    selector: env=prod
    artifacts:
    - {repository: library/nginx, tag: ["1.10", stable]}
    - {repository: shop/app, match: {semver: ^1.2}, keep: 2, platforms: [linux/arm64]}
  depots:
    artifacts: []
---
satellites:
  edge-01: {labels: {env: prod, rack: "7"}, config: slow-link, groups: [depots]}
  edge-02: {labels: {}, groups: [shops]}
"#;

impl Operator {
    /// The changes of a plan, each as `create satellite edge-01`.
    fn plan(&self, arguments: &[&str]) -> Vec<String> {
        let plan = self.run(&[&["--output", "json"], arguments].concat());
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let change = |one: &Value| [text(&one["action"]), text(&one["kind"]), text(&one["name"])].join(" ");
        plan["changes"].as_array().unwrap().iter().map(change).collect()
    }

    fn groups_of(&self, satellite: &str) -> Value {
        self.json(&["satellites", "get", satellite])["groups"].clone()
    }
}

#[tokio::test]
async fn a_declared_fleet_is_made_kept_and_exported() {
    let dir = files::scratch("groundctl-fleet").unwrap();
    let (ground_control, operator) = operator(dir.path()).await;
    operator.logs_in(ground_control.password());
    let file = operator.file("fleet.yaml", FLEET);
    let tokens = operator.home.join("tokens");

    // New satellites need a place for their tokens; until there is one, nothing is changed.
    let said = operator.fails(2, &["apply", "-f", &file]);
    assert!(said.contains("--token-dir") && said.contains("2 satellite(s)"), "{said}");
    assert_eq!(operator.json(&["groups", "list"]), json!([]));
    let expected = [
        "create config slow-link",
        "create group depots",
        "create group shops",
        "create satellite edge-01",
        "create satellite edge-02",
    ];
    assert_eq!(operator.plan(&["apply", "-f", &file, "--dry-run"]), expected);
    assert_eq!(operator.plan(&["diff", "-f", &file]), expected);
    assert_eq!(operator.run(&["diff", "-f", &file]).status.code(), Some(1));
    assert_eq!(operator.json(&["groups", "list"]), json!([]));

    let said = operator.does(&["apply", "-f", &file, "--token-dir", text(&tokens)]);
    assert!(said.contains("Plan: 5 to create, 0 to change, 0 to delete."), "{said}");
    for satellite in ["edge-01", "edge-02"] {
        let token = tokens.join(satellite);
        assert_eq!(token.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let token = String::from_utf8(files::read(&token).unwrap()).unwrap();
        assert!(token.len() == 32 && !said.contains(&token), "{said}");
    }
    assert_eq!(tokens.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(operator.groups_of("edge-01"), json!(["depots", "shops"]), "by name, and by label");
    assert_eq!(operator.groups_of("edge-02"), json!(["shops"]));
    assert_eq!(operator.json(&["satellites", "get", "edge-01"])["config_name"], "slow-link");

    // Once more changes nothing, and says so.
    assert!(operator.does(&["apply", "-f", &file]).contains("Nothing to change"));
    assert_eq!(operator.json(&["groups", "revisions", "shops"]).as_array().unwrap().len(), 1);
    assert_eq!(operator.does(&["diff", "-f", &file, "--prune"]), "");

    // What is exported changes nothing, exports as the same text, and holds no token.
    let export = operator.does(&["export"]);
    let exported = operator.file("export.yaml", &export);
    assert_eq!(operator.plan(&["diff", "-f", &exported, "--prune"]), Vec::<String>::new());
    assert_eq!(operator.does(&["export"]), export);
    assert!(export.contains("'1.10'") || export.contains("\"1.10\""), "{export}");
    assert!(!operator.does(&["export", "--only", "groups"]).contains("satellites:"));
    let token = String::from_utf8(files::read(&tokens.join("edge-01")).unwrap()).unwrap();
    assert!(!export.contains(&token));
    let as_json = operator.file("export.json", &operator.does(&["--output", "json", "export"]));
    assert_eq!(operator.run(&["diff", "-f", &as_json]).status.code(), Some(0));

    changed_by_hand_and_put_right(&operator, &exported);
    ground_control.stop().await.unwrap();
}

fn changed_by_hand_and_put_right(operator: &Operator, exported: &str) {
    operator.does(&["satellites", "label", "edge-01", "env-"]);
    operator.does(&["groups", "remove", "depots", "edge-01"]);
    operator.does(&["configs", "assign", "default", "edge-01"]);
    let patch = operator.file("patch.json", r#"{"app_config":{"log_level":null,"use_unsecure":true}}"#);
    operator.does(&["configs", "patch", "slow-link", "-f", &patch]);
    let other = operator.file("group.yaml", "group: shops\nartifacts:\n- {repository: a/b, tag: t}\n");
    operator.does(&["groups", "apply", "-f", &other]);
    operator.does(&["groups", "select", "depots", "tier"]);
    operator.does(&["satellites", "create", "edge-03", "--group", "depots"]);
    let extra = operator.file("extra.yaml", "group: extra\nartifacts: []\n");
    operator.does(&["groups", "apply", "-f", &extra]);

    let shown = operator.run(&["diff", "-f", exported]);
    assert_eq!(shown.status.code(), Some(1));
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in [
        "~ config slow-link",
        "    + app_config.log_level: \"warn\"",
        "    - app_config.use_unsecure: true",
        "    - a/b t",
        "    - selector tier in ()",
        "~ satellite edge-01",
        "    + label env=prod",
        "    ~ config default → config slow-link",
        "    + group depots",
    ] {
        let line = line.replace("tier in ()", "tier");
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains("edge-03") && !shown.contains("extra"), "{shown}");
    operator.does(&["apply", "-f", exported]);
    assert_eq!(operator.run(&["diff", "-f", exported]).status.code(), Some(0));

    // What is beside the file goes only where that was asked for, and is listed before.
    operator.does(&["satellites", "get", "edge-03"]);
    let expected = ["delete satellite edge-03", "delete group extra"];
    assert_eq!(operator.plan(&["apply", "-f", exported, "--prune", "--dry-run"]), expected);
    operator.does(&["apply", "-f", exported, "--prune"]);
    operator.fails(3, &["satellites", "get", "edge-03"]);
    operator.fails(3, &["groups", "get", "extra"]);
    assert_eq!(operator.does(&["diff", "-f", exported, "--prune"]), "");
    // Only of kinds that it has a section of.
    let groups = operator.file("groups.yaml", "groups: {}\n");
    assert_eq!(
        operator.plan(&["diff", "-f", &groups, "--prune"]),
        ["delete group depots", "delete group shops"]
    );
    assert_eq!(operator.json(&["satellites", "list"]).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_not_right_changes_nothing_and_what_fails_is_told() {
    let dir = files::scratch("groundctl-fleet").unwrap();
    let (ground_control, operator) = operator(dir.path()).await;
    operator.logs_in(ground_control.password());
    for (content, words) in [
        ("groups:\n  good: {}\n  bad: {artefacts: []}\n", ["groups.bad.artefacts", "line 3"]),
        (
            "groups:\n  good: {}\nsatellites:\n  a: {config: none}\n",
            ["satellites.a.config", "no config none"],
        ),
        ("groups:\n  good: {}\n  good: {}\n", ["duplicate", "line 3"]),
        (
            "groups:\n  good: {artifacts: [{repository: a/b, tag: 1.10}]}\n",
            ["groups.good.artifacts[0].tag", "quotes"],
        ),
    ] {
        let file = operator.file("bad.yaml", content);
        let said = operator.fails(2, &["apply", "-f", &file]);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(operator.fails(2, &["diff", "-f", &file]), said);
    }
    let good = operator.file("good.yaml", "groups:\n  good: {}\n");
    let again = operator.file("again.yaml", "groups:\n  good: {}\n");
    assert!(operator.fails(2, &["apply", "-f", &good, "-f", &again]).contains("declared in"));
    assert_eq!(operator.json(&["groups", "list"]), json!([]));

    // A request that Ground Control refuses ends it: what was done and what was not is told.
    operator.does(&["satellites", "create", "edge-01"]);
    let password = operator.file("reader", "Correct-Horse-8");
    operator.does(&["users", "create", "bob", "--role", "admin", "--password-file", &password]);
    let bob = Operator { home: dir.path().join("bob"), server: operator.server.clone() };
    files::create_dir(&bob.home).unwrap();
    bob.does(&["login", "--username", "bob", "--password-file", &password]);
    let fleet = bob.file("fleet.yaml", "groups: {kept: {}, more: {}}\nsatellites: {}\n");
    bob.does(&["apply", "-f", &good]);
    let run = bob.run(&["apply", "-f", &fleet, "--prune"]);
    let (said, shown) = (String::from_utf8_lossy(&run.stderr), String::from_utf8_lossy(&run.stdout));
    assert_eq!(run.status.code(), Some(4), "only a system_admin deletes groups: {said}");
    assert!(said.contains("3 of 4 changes were made") && said.contains("delete group good"), "{said}");
    assert!(
        shown.contains("done: delete satellite edge-01") && shown.contains("not done: delete group good"),
        "{shown}"
    );
    assert_eq!(operator.does(&["apply", "-f", &fleet, "--prune"]).matches("done: ").count(), 1);
    let away = Operator { home: operator.home.clone(), server: "http://127.0.0.1:9".to_owned() };
    let output = std::process::Command::new(testbed::binaries::find("groundctl", None).unwrap())
        .args(["diff", "-f", &good])
        .env_clear()
        .env("HOME", &away.home)
        .env("GROUNDCTL_SERVER", &away.server)
        .env("GROUNDCTL_TOKEN", "x")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "no answer is no difference");
    ground_control.stop().await.unwrap();
}

// The command line is waited for in this thread, and the proxy works in others.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_loses_no_token() {
    let world = World::start().await.unwrap();
    let proxy = world.proxy().await.unwrap();
    let home = world.dir().join("home");
    files::create_dir(&home).unwrap();
    let operator = Operator { home, server: proxy.url() };
    operator.logs_in(world.place.password());
    proxy.cut("/api/satellites", 5, 1);
    let created = operator.json(&["satellites", "create", "edge-01"]);
    assert_eq!(created["token"].as_str().map(str::len), Some(32));
    let asked = proxy.exchanges().into_iter().filter(|one| one.path.ends_with("/api/satellites")).count();
    assert_eq!(asked, 2, "the answer was cut off, and asked for again");
    let made = operator.json(&["audit", "--action", "satellite.created"]);
    assert_eq!(made.as_array().unwrap().len(), 1, "{made}");
}
