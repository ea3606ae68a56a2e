//! Logins by OpenID Connect against a provider that does wrong on demand. A real one is in the suite `browser`.

mod provider;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use self::provider::{Provider, SECRET};
use crate::support::{ADMIN_PASSWORD, Answer, As, Server, answer};

struct World {
    server: Server,
    provider: Provider,
}

/// A browser, as far as cookies go.
#[derive(Debug, Default, Clone)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    fn take(&mut self, answer: &Answer) {
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(
                line.ends_with("; Secure; HttpOnly; SameSite=Lax") && line.contains("; Path=/;"),
                "{line}"
            );
            assert!(!line.to_lowercase().contains("domain"), "{line}");
            let (name, rest) = line.split_once('=').unwrap();
            assert!(name.starts_with("__Host-"), "{line}");
            if line.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
        }
    }

    fn header(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn signed_in(&self) -> bool {
        self.0.contains_key("__Host-ground-control")
    }
}

const LOGIN: &str = "/auth/oidc/login";

impl World {
    async fn start() -> Self {
        crate::support::provider();
        let provider = Provider::start().await;
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("client-secret");
        testbed::files::write(&secret, format!("{SECRET}\n")).unwrap();
        let settings = [
            ("OIDC_ISSUER", provider.issuer.as_str()),
            ("OIDC_CLIENT_ID", "gc"),
            ("OIDC_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
            ("OIDC_ROLE_MAP", "platform-admins=system_admin,ops=admin,everyone=viewer"),
            ("PUBLIC_URL", "https://gc.example.com/"),
        ];
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        let server = Server::start_with(dir, &settings, client).await;
        Self { server, provider }
    }

    async fn ask(&self, jar: &mut Jar, method: &str, path: &str, csrf: Option<&str>) -> Answer {
        let request = self.server.client.request(method.parse().unwrap(), self.server.url(path));
        let mut request = request.header("cookie", jar.header());
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf);
        }
        let answer = answer(request.send().await.unwrap()).await;
        jar.take(&answer);
        answer
    }

    /// Goes to the provider and comes back with its answer, which is not yet given.
    async fn began(&self, jar: &mut Jar, path: &str) -> String {
        let to_provider = self.ask(jar, "GET", path, None).await.expect(303);
        let location = Url::parse(to_provider.header("location")).unwrap();
        assert!(location.as_str().starts_with(&format!("{}/auth?", self.provider.issuer)), "{location}");
        let uri = location.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
        assert_eq!(uri, "https://gc.example.com/auth/oidc/callback", "never from the Host header");
        self.provider.consent(&location)
    }

    async fn back(&self, jar: &mut Jar, answer: &str) -> Answer {
        self.ask(jar, "GET", &format!("/auth/oidc/callback?{answer}"), None).await
    }

    async fn login(&self, jar: &mut Jar) -> Answer {
        let answer = self.began(jar, LOGIN).await;
        self.back(jar, &answer).await
    }

    /// Who the browser's session is of: name and role.
    async fn whoami(&self, jar: &mut Jar) -> (String, String) {
        let body = self.ask(jar, "GET", "/auth/session", None).await.expect(200).body;
        (body["username"].as_str().unwrap().to_owned(), body["role"].as_str().unwrap().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_gives_a_session_with_the_role_of_the_claim() {
    let world = World::start().await;
    let start = world.server.running.state.store.audit_end().await.unwrap();
    for (groups, role) in [
        (json!(["ops", "everyone"]), "admin"),
        (json!("everyone"), "viewer"),
        (json!(["everyone", "platform-admins", 7]), "system_admin"),
    ] {
        world.provider.claims(json!({ "groups": groups }));
        let mut jar = Jar::default();
        let answer = world.login(&mut jar).await.expect(303);
        assert_eq!(answer.header("location"), "/auth/signed-in");
        assert!(jar.signed_in());
        assert_eq!(world.whoami(&mut jar).await, ("jane".to_owned(), role.to_owned()));
    }
    let all = world.server.admin("GET", "/api/users", None).await.expect(200);
    assert_eq!(all.header("x-total-count"), "2", "one person is one account");
    let told = world.server.admin("GET", &format!("/api/audit?after={start}"), None).await.expect(200).body;
    let told: Vec<(&str, &str)> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["actor"].as_str().unwrap()))
        .collect();
    let by_jane = |action| (action, "jane");
    let expected = [
        "user.created",
        "user.logged_in",
        "user.role_set",
        "user.logged_in",
        "user.role_set",
        "user.logged_in",
    ];
    assert_eq!(told, expected.map(by_jane));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_cookie_need_the_token_of_the_session() {
    let world = World::start().await;
    let (mut jar, mut other) = (Jar::default(), Jar::default());
    world.login(&mut jar).await.expect(303);
    world.login(&mut other).await.expect(303);
    let csrf = async |jar: &mut Jar| {
        let own = world.ask(jar, "GET", "/auth/session", None).await.expect(200);
        own.body["csrf_token"].as_str().unwrap().to_owned()
    };
    let (token, foreign) = (csrf(&mut jar).await, csrf(&mut other).await);
    assert_ne!(token, foreign);
    for bad in [None, Some(""), Some("0"), Some(foreign.as_str())] {
        let refused = world.ask(&mut jar, "POST", "/api/logout", bad).await.expect(403);
        assert!(refused.body["message"].as_str().unwrap().contains("X-CSRF-Token"), "{:?}", refused.body);
    }
    world.ask(&mut jar, "GET", "/api/groups", None).await.expect(200);
    // A header that speaks for itself needs no token and leaves the cookie unseen.
    let basic = world.server.client.post(world.server.url("/api/logout")).header("cookie", jar.header());
    assert_eq!(basic.basic_auth("admin", Some(ADMIN_PASSWORD)).send().await.unwrap().status(), 204);
    world.ask(&mut jar, "GET", "/api/groups", None).await.expect(200);

    let kept = jar.clone();
    world.ask(&mut jar, "POST", "/api/logout", Some(&token)).await.expect(204);
    assert!(!jar.signed_in(), "the cookie is taken away");
    world.ask(&mut kept.clone(), "GET", "/api/groups", None).await.expect(401);
    world.ask(&mut other, "GET", "/api/groups", None).await.expect(200);
    let bearer = world.server.send(As::Session(&world.server.admin), "GET", "/auth/session", None).await;
    assert_eq!(bearer.expect(200).body, json!({"username": "admin", "role": "system_admin"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_once_and_in_the_browser_that_asked() {
    let world = World::start().await;
    let (mut mine, mut theirs) = (Jar::default(), Jar::default());
    let answer = world.began(&mut mine, LOGIN).await;
    world.back(&mut Jar::default(), &answer).await.expect(400);
    world.began(&mut theirs, LOGIN).await;
    world.back(&mut theirs, &answer).await.expect(400);
    // A second tab of the same browser harms the first one not.
    let second = world.began(&mut mine, LOGIN).await;
    world.back(&mut mine, &answer).await.expect(303);
    world.back(&mut mine, &answer).await.expect(400);
    world.back(&mut mine, &second).await.expect(303);
    for bad in ["", "state=x&code=y", "code=y", &format!("{answer}&code=again")] {
        let refused = world.back(&mut mine, bad).await.expect(400);
        assert!(refused.header("content-type").starts_with("text/html"), "{bad}");
        assert!(refused.header("content-security-policy").starts_with("default-src 'none'"));
    }
    assert!(!theirs.signed_in());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_to_be_trusted_opens_nothing() {
    let world = World::start().await;
    let now = jiff::Timestamp::now().as_second();
    for claims in [
        json!({"iss": "https://evil.example"}),
        json!({"aud": "other"}),
        json!({"aud": ["gc", "other"]}),
        json!({"azp": "other"}),
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"exp": now - 600}),
        json!({"iat": now - 7200}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": "é"}),
        json!({"sub": "x".repeat(256)}),
    ] {
        world.provider.claims(claims.clone());
        let mut jar = Jar::default();
        let refused = world.login(&mut jar).await;
        assert_eq!(refused.status, 403, "{claims}");
        assert!(!jar.signed_in(), "{claims}");
    }
    world.provider.claims(json!({}));
    // RFC 9207: this provider says who it is, each time.
    for change in [
        |answer: &str| answer.split("&iss=").next().unwrap().to_owned(),
        |answer: &str| answer.replace("127.0.0.1", "127.0.0.2"),
    ] {
        let mut jar = Jar::default();
        let answer = change(&world.began(&mut jar, LOGIN).await);
        world.back(&mut jar, &answer).await.expect(403);
    }
    // A code that the provider does not know.
    let mut jar = Jar::default();
    let answer = world.began(&mut jar, LOGIN).await.replace("code=code-", "code=foreign-");
    world.back(&mut jar, &answer).await.expect(403);
    assert!(!jar.signed_in());
    let all = world.server.admin("GET", "/api/users", None).await.expect(200);
    assert_eq!(all.header("x-total-count"), "1", "nobody was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_role_is_refused_and_loses_what_was_open() {
    let world = World::start().await;
    let mut before = Jar::default();
    world.login(&mut before).await.expect(303);
    for groups in [json!([]), json!(["Ops"]), json!({"ops": true}), Value::Null] {
        world.provider.claims(json!({ "groups": groups }));
        world.provider.behave(|behaviour| behaviour.userinfo = json!({"sub": "1"}));
        let mut jar = Jar::default();
        let refused = world.login(&mut jar).await.expect(403);
        assert!(refused.header("content-type").starts_with("text/html"));
        assert!(!jar.signed_in());
    }
    world.ask(&mut before, "GET", "/auth/session", None).await.expect(401);
    let error = "state={s}&error=access_denied&error_description=%3Cscript%3E";
    let mut jar = Jar::default();
    let answer = world.began(&mut jar, LOGIN).await;
    let state = answer.split('&').next().unwrap().trim_start_matches("state=");
    let issuer: String = url::form_urlencoded::byte_serialize(world.provider.issuer.as_bytes()).collect();
    let refused = world.back(&mut jar, &format!("{}&iss={issuer}", error.replace("{s}", state))).await;
    refused.expect(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_id_token_lacks_is_asked_of_the_user_information() {
    let world = World::start().await;
    world.provider.claims(json!({"groups": null}));
    world
        .provider
        .behave(|behaviour| behaviour.userinfo = json!({"sub": "1", "groups": ["platform-admins"]}));
    let mut jar = Jar::default();
    world.login(&mut jar).await.expect(303);
    assert_eq!(world.whoami(&mut jar).await.1, "system_admin");
    world
        .provider
        .behave(|behaviour| behaviour.userinfo = json!({"sub": "2", "groups": ["platform-admins"]}));
    world.login(&mut Jar::default()).await.expect(403);
    world.provider.claims(json!({"groups": ["everyone"]}));
    let mut jar = Jar::default();
    world.login(&mut jar).await.expect(303);
    assert_eq!(world.whoami(&mut jar).await.1, "viewer", "the signed token comes first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_nobodys_proof() {
    let world = World::start().await;
    world.provider.claims(json!({"preferred_username": "admin", "groups": ["everyone"]}));
    let mut jar = Jar::default();
    world.login(&mut jar).await.expect(303);
    let (name, role) = world.whoami(&mut jar).await;
    assert!(name.starts_with("admin+") && role == "viewer", "{name} {role}");
    let admin = world.server.admin("GET", "/api/users/admin", None).await.expect(200);
    assert_eq!(admin.body["role"], "system_admin");
    // There is no password, and none can be given.
    for password in ["", "!", ADMIN_PASSWORD] {
        world.server.send(As::Basic(&name, password), "GET", "/api/groups", None).await.expect(401);
    }
    let path = format!("/api/users/{name}/password");
    let set =
        world.server.admin("PATCH", &path, Some(json!({"new_password": ADMIN_PASSWORD}))).await.expect(409);
    assert!(set.body["message"].as_str().unwrap().contains(&world.provider.issuer), "{:?}", set.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_found_and_one_that_never_comes_is_not_looked_for_for_ever() {
    let world = World::start().await;
    world.login(&mut Jar::default()).await.expect(303);
    world.provider.behave(|behaviour| behaviour.key = "second".to_owned());
    world.login(&mut Jar::default()).await.expect(303);
    // The same name, and another key behind it.
    world.provider.behave(|behaviour| behaviour.key = "third".to_owned());
    world.login(&mut Jar::default()).await.expect(303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_away_ends_no_start_and_no_other_login() {
    let world = World::start().await;
    world.provider.behave(|behaviour| behaviour.down = true);
    let page = world.ask(&mut Jar::default(), "GET", LOGIN, None).await.expect(503);
    assert!(page.header("content-type").starts_with("text/html"));
    world.server.login("admin", ADMIN_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_begins_logins_without_end_waits() {
    let world = World::start().await;
    let mut jar = Jar::default();
    let mut answers = Vec::new();
    for _ in 0..130 {
        answers.push(world.ask(&mut jar, "GET", LOGIN, None).await.status.as_u16());
    }
    assert!(answers.contains(&303) && answers.contains(&429), "{answers:?}");
    world.server.login("admin", ADMIN_PASSWORD).await;
}

/// What never was a login costs its source something, and nobody who is logged in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_worth_nothing_are_bounded() {
    let world = World::start().await;
    let mut signed_in = Jar::default();
    world.login(&mut signed_in).await.expect(303);
    let mut refused = None;
    for _ in 0..300 {
        let answer = world.ask(&mut Jar::default(), "GET", "/auth/oidc/callback?state=x&code=y", None).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.expect(400);
    }
    assert!(!refused.unwrap().header("retry-after").is_empty());
    let exchange = json!({"code": "x", "code_verifier": "y"});
    let answer = world.server.send(As::Nobody, "POST", "/auth/oidc/token", Some(exchange)).await;
    assert!(matches!(answer.status.as_u16(), 401 | 429), "{answer:?}");
    world.whoami(&mut signed_in).await;
    world.server.login("admin", ADMIN_PASSWORD).await;
}

/// What a command line sends its browser to.
fn cli_query(verifier: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let redirect = "http%3A%2F%2F127.0.0.1%3A40123%2Fcallback";
    format!(
        "{LOGIN}?redirect_uri={redirect}&state=0123456789abcdef&code_challenge={challenge}&code_challenge_method=S256"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_gets_a_code_in_the_url_and_its_session_by_post() {
    let world = World::start().await;
    let exchange = async |code: &str, verifier: &str| {
        let body = json!({"code": code, "code_verifier": verifier});
        world.server.send(As::Nobody, "POST", "/auth/oidc/token", Some(body)).await
    };
    let code = async || {
        let mut jar = Jar::default();
        let answer = world.began(&mut jar, &cli_query("verifier")).await;
        let back = world.back(&mut jar, &answer).await.expect(303);
        assert!(!jar.signed_in(), "the session is the command line's, not the browser's");
        let location = Url::parse(back.header("location")).unwrap();
        assert!(location.as_str().starts_with("http://127.0.0.1:40123/callback?code="), "{location}");
        let query: BTreeMap<String, String> = location.query_pairs().into_owned().collect();
        assert_eq!(query["state"], "0123456789abcdef");
        assert_eq!(query["iss"], "https://gc.example.com");
        query["code"].clone()
    };
    let first = code().await;
    let before = world.server.running.state.store.audit_end().await.unwrap();
    let session = exchange(&first, "verifier").await.expect(200).body;
    let path = format!("/api/audit?after={before}");
    let told = world.server.admin("GET", &path, None).await.expect(200).body;
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!((&told[0]["action"], &told[0]["actor"]), (&json!("user.logged_in"), &json!("jane")));
    assert_eq!(told[0]["authenticated_by"], "oidc");
    assert_eq!((&session["username"], &session["role"]), (&json!("jane"), &json!("admin")));
    let token = session["token"].as_str().unwrap();
    world.server.send(As::Session(token), "GET", "/api/groups", None).await.expect(200);
    world.server.send(As::Session(token), "POST", "/api/logout", None).await.expect(204);
    exchange(&first, "verifier").await.expect(401);
    let second = code().await;
    exchange(&second, "another").await.expect(401);
    exchange(&second, "verifier").await.expect(401);
    exchange("", "").await.expect(401);

    world.provider.claims(json!({"groups": []}));
    let mut jar = Jar::default();
    let answer = world.began(&mut jar, &cli_query("verifier")).await;
    let back = world.back(&mut jar, &answer).await.expect(303);
    assert!(
        back.header("location").contains("/callback?error=access_denied&state="),
        "{}",
        back.header("location")
    );

    for bad in [
        cli_query("verifier").replace("127.0.0.1", "192.0.2.1"),
        cli_query("verifier").replace("callback", "elsewhere"),
        cli_query("verifier").replace("S256", "plain"),
        format!("{LOGIN}?redirect_uri=https%3A%2F%2Fevil.example%2Fcallback"),
    ] {
        world.ask(&mut Jar::default(), "GET", &bad, None).await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_who_they_are_and_signs_out() {
    let world = World::start().await;
    let mut jar = Jar::default();
    world.ask(&mut jar, "GET", "/auth/signed-in", None).await.expect(401);
    world.provider.claims(json!({"preferred_username": "<b>jane</b>"}));
    world.login(&mut jar).await.expect(303);
    let page = async || {
        let request = world.server.client.get(world.server.url("/auth/signed-in"));
        request.header("cookie", jar.header()).send().await.unwrap().text().await.unwrap()
    };
    let html = page().await;
    assert!(html.contains("b-jane--b") && html.contains(">admin<") && !html.contains("<b>"), "{html}");
    let csrf =
        html.split("name=\"csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let post = async |body: String| {
        let request = world.server.client.post(world.server.url("/auth/logout"));
        request.header("cookie", jar.header()).body(body).send().await.unwrap().status()
    };
    assert_eq!(post("csrf_token=wrong".to_owned()).await, 403);
    assert_eq!(post(String::new()).await, 403);
    assert_eq!(post(format!("csrf_token={csrf}")).await, 200);
    assert_eq!(post(format!("csrf_token={csrf}")).await, 401);
}
