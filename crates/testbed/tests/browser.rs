//! People of a real OpenID provider log in with a real browser at the built Ground Control.
//!
//! The provider is `localhost`, Ground Control `127.0.0.1`: to the browser two sites, so that cookies are sent, or kept back,
//! as they are in the world.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::browser::{Browser, Cookie};
use testbed::ground_control::{self, ADMIN, GroundControl};
use testbed::openid_provider::{self, CLIENT_ID, OpenIdProvider};
use testbed::process::wait_for;
use testbed::secrets::Secrets;
use testbed::{binaries, files};

const SESSION: &str = "__Host-ground-control";
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    dir: TempDir,
    provider_place: openid_provider::Place,
    provider: Option<OpenIdProvider>,
    ground_control: GroundControl,
    browser: Browser,
}

/// Ground Control's own port is known before it starts: the provider is told where answers go.
async fn world(algorithm: &str, claims: &str) -> World {
    let dir = files::scratch("browser").unwrap();
    let mut place =
        ground_control::Place::new(&dir.path().join("cloud"), ground_control::Options::default()).unwrap();
    let callback = format!("{}/auth/oidc/callback", place.url());
    let mut provider_place = openid_provider::Place::new(&dir.path().join("provider"), &callback)
        .unwrap()
        .person("s-1", "sonja", &["everyone", "platform-admins"])
        .person("a-1", "anton", &["ops", "everyone"])
        .person("v-1", "vera", &["everyone"])
        .person("n-1", "norbert", &["strangers"])
        .person("l-1", ADMIN, &["everyone"]);
    provider_place.set("ALGORITHM", algorithm);
    provider_place.set("CLAIMS", claims);
    let secret = dir.path().join("client-secret");
    files::write_private(&secret, provider_place.secret()).unwrap();
    for (name, value) in [
        ("OIDC_ISSUER", provider_place.issuer()),
        ("OIDC_CLIENT_ID", CLIENT_ID.to_owned()),
        ("OIDC_CLIENT_SECRET_FILE", secret.to_str().unwrap().to_owned()),
        ("OIDC_ROLE_MAP", "platform-admins=system_admin,ops=admin,everyone=viewer".to_owned()),
        ("PUBLIC_URL", place.url()),
    ] {
        place.set(name, value);
    }
    // It starts with the provider away.
    let ground_control = place.start().await.unwrap();
    let (provider, browser) = tokio::join!(provider_place.start(), Browser::start());
    World {
        dir,
        provider_place,
        provider: Some(provider.unwrap()),
        ground_control,
        browser: browser.unwrap(),
    }
}

impl World {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ground_control.url())
    }

    /// A browser without any session goes to the login, and the person says at the provider who they are.
    async fn log_in(&self, subject: &str) {
        self.browser.forget().await.unwrap();
        self.browser.open(&self.url("/auth/oidc/login")).await.unwrap();
        self.say(subject, "login").await;
    }

    async fn say(&self, subject: &str, outcome: &str) {
        self.browser.fill("input[name=subject]", subject).await.unwrap();
        self.browser.click(&format!("button[value={outcome}]")).await.unwrap();
    }

    async fn title(&self) -> String {
        self.browser.text("h1").await.unwrap()
    }

    /// What a page of ours would ask: status and body.
    async fn fetch(&self, method: &str, path: &str, csrf: Option<&str>, body: Option<Value>) -> (u64, Value) {
        let mut headers = json!({"content-type": "application/json"});
        if let Some(csrf) = csrf {
            headers["x-csrf-token"] = json!(csrf);
        }
        let mut options = json!({"method": method, "headers": headers});
        if let Some(body) = body {
            options["body"] = json!(body.to_string());
        }
        // The pages let no script connect anywhere; the API's own document, which is no page, does.
        self.browser.open(&self.url("/openapi.json")).await.unwrap();
        let script = format!(
            "return fetch({}, {options}).then(async answer => [answer.status, await answer.text()])",
            json!(path)
        );
        let answer = self.browser.run(&script).await.unwrap();
        let text = answer[1].as_str().unwrap_or_default();
        (answer[0].as_u64().unwrap(), serde_json::from_str(text).unwrap_or(Value::Null))
    }

    async fn csrf(&self) -> String {
        let (status, own) = self.fetch("GET", "/auth/session", None, None).await;
        assert_eq!(status, 200, "{own}");
        own["csrf_token"].as_str().unwrap().to_owned()
    }

    async fn session_cookie(&self) -> Option<Cookie> {
        self.browser.cookies().await.unwrap().into_iter().find(|cookie| cookie.name == SESSION)
    }

    /// Ends everything, and looks for what a login knew where it may not be.
    async fn end(self, mut secrets: Secrets) {
        secrets.add("the client's secret", self.provider_place.secret());
        let cloud = self.dir.path().join("cloud");
        let mut found = secrets.in_files(&cloud.join("ground-control.log"), &[]);
        found.extend(secrets.in_files(&cloud.join("data"), &[cloud.join("data/secret.key")]));
        found.extend(secrets.in_arguments(self.ground_control.process().id()));
        assert_eq!(found, Vec::<String>::new());
        self.browser.close().await.unwrap();
        self.ground_control.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_get_the_role_of_their_groups_and_change_things_with_a_token_only() {
    let (world, mut secrets) = (world("RS256", "userinfo").await, Secrets::default());
    for (subject, name, role) in
        [("s-1", "sonja", "system_admin"), ("a-1", "anton", "admin"), ("v-1", "vera", "viewer")]
    {
        world.log_in(subject).await;
        assert_eq!(world.title().await, "You are signed in", "{}", world.browser.page().await.unwrap());
        assert_eq!(world.browser.text("#signed-in-as").await.unwrap(), name);
        assert_eq!(world.browser.text("#role").await.unwrap(), role);
        assert_eq!(world.browser.url().await.unwrap(), world.url("/auth/signed-in"));

        let cookies = world.browser.cookies().await.unwrap();
        let session = cookies.iter().find(|cookie| cookie.name == SESSION).unwrap();
        assert!(session.secure && session.http_only, "{session:?}");
        assert_eq!((session.path.as_str(), session.same_site.as_str()), ("/", "Lax"));
        assert_eq!(session.domain, "127.0.0.1");
        assert!(cookies.iter().all(|cookie| cookie.http_only && cookie.secure), "{cookies:?}");

        let group = json!({"group": format!("of-{name}"), "artifacts": []});
        let change = async |csrf: Option<&str>| {
            world.fetch("POST", "/api/groups/sync", csrf, Some(group.clone())).await.0
        };
        let csrf = world.csrf().await;
        secrets.add("a CSRF token", &csrf);
        secrets.add("a session", &session.value);
        assert_eq!(change(None).await, 403);
        assert_eq!(change(Some("0")).await, 403);
        assert_eq!(change(Some(&csrf)).await, if role == "viewer" { 403 } else { 200 });
        assert_eq!(world.fetch("GET", "/api/groups", None, None).await.0, 200);
        let (status, _) = world.fetch("GET", "/api/users", None, None).await;
        assert_eq!(status, if role == "viewer" { 403 } else { 200 });
        assert_eq!(world.browser.run("return document.cookie").await.unwrap(), "", "no script sees a cookie");
    }

    // The button of the page ends the session.
    let kept = world.session_cookie().await.unwrap().value;
    world.browser.open(&world.url("/auth/signed-in")).await.unwrap();
    world.browser.click("form button").await.unwrap();
    assert_eq!(world.title().await, "You are signed out");
    assert_eq!(world.session_cookie().await, None);
    let client = testbed::registry::http_client();
    let after = client.get(world.url("/api/groups")).header("cookie", format!("{SESSION}={kept}"));
    assert_eq!(after.send().await.unwrap().status(), 401);
    world.end(secrets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_come_in_is_told_so_on_a_page() {
    let world = world("ES256", "id_token").await;
    world.log_in("n-1").await;
    assert_eq!(world.title().await, "You have no role here");
    assert_eq!(world.browser.text("#subject").await.unwrap(), "n-1");
    assert_eq!(world.session_cookie().await, None);

    // Whoever gives up at the provider.
    world.browser.forget().await.unwrap();
    world.browser.open(&world.url("/auth/oidc/login")).await.unwrap();
    world.say("v-1", "abort").await;
    assert_eq!(world.title().await, "You are not signed in");
    assert_eq!(world.browser.text("#error").await.unwrap(), "access_denied");

    // The same name as a local account is another person.
    world.log_in("l-1").await;
    let name = world.browser.text("#signed-in-as").await.unwrap();
    assert!(name.starts_with("admin+"), "{name}");
    assert_eq!(world.browser.text("#role").await.unwrap(), "viewer");
    let (status, users) = world.fetch("GET", "/api/groups", None, None).await;
    assert_eq!(status, 200, "{users}");

    // An answer is good once: the same URL again, and in a browser that did not ask.
    world.browser.forget().await.unwrap();
    world.browser.open(&world.url("/auth/oidc/login")).await.unwrap();
    let interaction = world.browser.url().await.unwrap();
    let client = testbed::registry::http_client();
    let foreign = client.get(world.url("/auth/oidc/login")).send().await.unwrap();
    let location = foreign.headers()["location"].to_str().unwrap().to_owned();
    let state = location.split("&state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    assert!(interaction.starts_with(&world.provider_place.issuer()), "{interaction}");
    world.say("v-1", "login").await;
    assert_eq!(world.title().await, "You are signed in");
    let issuer = world.provider_place.issuer().replace(':', "%3A").replace('/', "%2F");
    world
        .browser
        .open(&world.url(&format!("/auth/oidc/callback?state={state}&code=stolen&iss={issuer}")))
        .await
        .unwrap();
    assert_eq!(world.title().await, "This login is not known");

    // What was refused is in the log, and no secret with it.
    let log = files::read(&world.dir.path().join("cloud/ground-control.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("belongs to no login of this browser"), "{log}");
    let mut secrets = Secrets::default();
    secrets.add("a state", &state);
    world.end(secrets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_changes_its_keys_goes_away_and_comes_back() {
    let mut world = world("EdDSA", "id_token").await;
    world.log_in("v-1").await;
    assert_eq!(world.browser.text("#role").await.unwrap(), "viewer");

    // Every start of the provider has keys of its own. Its word of today counts, and the account stays the same.
    world.provider.take().unwrap().stop().unwrap();
    world.provider_place.set_groups("v-1", &["ops"]);
    world.provider_place.set("ALGORITHM", "RS256");
    world.provider = Some(world.provider_place.start().await.unwrap());
    world.log_in("v-1").await;
    assert_eq!(world.browser.text("#signed-in-as").await.unwrap(), "vera");
    assert_eq!(world.browser.text("#role").await.unwrap(), "admin");

    // Away between the person's word and the exchange of the code.
    let session = world.session_cookie().await.unwrap().value;
    let client = testbed::registry::http_client();
    let begun = client.get(world.url("/auth/oidc/login")).send().await.unwrap();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let state = location.split("&state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    world.provider.take().unwrap().stop().unwrap();
    let issuer = world.provider_place.issuer().replace(':', "%3A").replace('/', "%2F");
    let back = world.url(&format!("/auth/oidc/callback?state={state}&code=x&iss={issuer}"));
    let answer = client.get(back).header("cookie", cookie).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let page = answer.text().await.unwrap();
    assert!(page.contains("The identity provider is of no help now"), "{page}");
    assert!(page.contains("groundctl login"), "{page}");

    // Sessions and accounts with a password go on.
    let own = client.get(world.url("/auth/session")).header("cookie", format!("{SESSION}={session}"));
    assert_eq!(own.send().await.unwrap().status(), 200);
    world.ground_control.admin().await.unwrap();

    // A Ground Control that never heard of the provider starts nevertheless, and says on a page what is wrong.
    let place = ground_control::Place::new(
        &world.dir.path().join("second"),
        ground_control::Options {
            environment: vec![
                ("OIDC_ISSUER".into(), world.provider_place.issuer()),
                ("OIDC_CLIENT_ID".into(), CLIENT_ID.into()),
                (
                    "OIDC_CLIENT_SECRET_FILE".into(),
                    world.dir.path().join("client-secret").display().to_string(),
                ),
                ("OIDC_ROLE_MAP".into(), "everyone=viewer".into()),
                ("PUBLIC_URL".into(), "https://gc.example.com".into()),
            ],
            ..ground_control::Options::default()
        },
    )
    .unwrap();
    let second = place.start().await.unwrap();
    world.browser.open(&format!("{}/auth/oidc/login", second.url())).await.unwrap();
    assert_eq!(world.title().await, "The identity provider is of no help now");
    second.admin().await.unwrap();
    second.stop().await.unwrap();

    world.provider = Some(world.provider_place.start().await.unwrap());
    world.log_in("s-1").await;
    assert_eq!(world.browser.text("#role").await.unwrap(), "system_admin");
    world.end(Secrets::default()).await;
}

/// A command line with a home of its own, whose browser is a program that notes the URL.
struct Operator<'a> {
    home: &'a Path,
    server: &'a str,
}

impl Operator<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::find("groundctl", None).unwrap());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home)
            .env("BROWSER", self.home.join("browser"))
            .env("GROUNDCTL_SERVER", self.server);
        command
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groundctl_logs_in_through_the_browser() {
    let world = world("RS256", "userinfo").await;
    let home = world.dir.path().join("home");
    files::create_dir(&home).unwrap();
    let opener = format!(
        "#!/bin/sh\nprintf %s \"$1\" >\"{0}/url.new\"\nmv \"{0}/url.new\" \"{0}/url\"\n",
        home.display()
    );
    files::write(&home.join("browser"), opener).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.join("browser"), mode).unwrap();
    let operator = Operator { home: &home, server: world.ground_control.url() };

    let login = testbed::process::Process::spawn(
        "groundctl",
        operator.command(&["login", "--oidc"]),
        &home.join("log"),
    );
    let login = login.unwrap();
    let url = wait_for("the URL in the browser", LIMIT, async || {
        String::from_utf8(files::read(&home.join("url")).ok()?).ok()
    });
    let url = url.await.unwrap();
    assert!(url.starts_with(&world.url("/auth/oidc/login?redirect_uri=")), "{url}");
    world.browser.forget().await.unwrap();
    world.browser.open(&url).await.unwrap();
    world.say("a-1", "login").await;
    let shown = world.browser.text("#outcome").await.unwrap();
    assert!(shown.starts_with("You are signed in"), "{shown}");
    let landed = world.browser.url().await.unwrap();
    assert!(landed.starts_with("http://127.0.0.1:") && landed.contains("/callback?code="), "{landed}");
    assert_eq!(world.session_cookie().await, None, "the session is the command line's alone");
    assert!(login.ended(LIMIT).await.unwrap().success());
    let log = String::from_utf8(files::read(&home.join("log")).unwrap()).unwrap();
    assert!(log.contains("as anton (admin)"), "{log}");

    let kept = String::from_utf8(files::read(&home.join(".config/groundctl/session.json")).unwrap()).unwrap();
    let token = serde_json::from_str::<Value>(&kept).unwrap()["token"].as_str().unwrap().to_owned();
    assert!(!landed.contains(&token) && !log.contains(&token), "no token is in a URL or on the screen");
    let groups = testbed::command::output(operator.command(&["groups", "list"])).await.unwrap();
    assert!(groups.status.success(), "{groups:?}");
    // What the browser's address bar still shows is used up, and was never good without the verifier.
    let code = landed.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let client = testbed::registry::http_client();
    let again =
        client.post(world.url("/auth/oidc/token")).json(&json!({"code": code, "code_verifier": "guess"}));
    assert_eq!(again.send().await.unwrap().status(), 401);

    // Without a browser the URL is printed; who has no role is told so on both sides.
    let log = home.join("refused");
    let refused = operator.command(&["login", "--oidc", "--no-browser"]);
    let refused = testbed::process::Process::spawn("groundctl", refused, &log).unwrap();
    let url = wait_for("the URL on the screen", LIMIT, async || {
        let said = String::from_utf8(files::read(&log).ok()?).ok()?;
        said.lines()
            .map(str::trim)
            .find(|line| line.starts_with("http://") && line.contains("code_challenge_method"))
            .map(str::to_owned)
    });
    let url = url.await.unwrap();
    world.browser.forget().await.unwrap();
    world.browser.open(&url).await.unwrap();
    world.say("n-1", "login").await;
    let shown = world.browser.text("#outcome").await.unwrap();
    assert!(shown.starts_with("You are not signed in"), "{shown}");
    assert_eq!(refused.ended(LIMIT).await.unwrap().code(), Some(4));

    let out = testbed::command::output(operator.command(&["logout"])).await.unwrap();
    assert!(out.status.success(), "{out:?}");
    let after = client.get(world.url("/api/groups")).bearer_auth(&token);
    assert_eq!(after.send().await.unwrap().status(), 401);
    let mut secrets = Secrets::default();
    secrets.add("the command line's session", &token);
    secrets.add("a code", code);
    world.end(secrets).await;
}
