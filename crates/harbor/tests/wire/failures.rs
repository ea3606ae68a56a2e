//! Every failure at every call: each shows as what it is, and nothing is sent again that must not be.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use harbor::{
    Client, ClientOptions, Endpoint, Ensured, Error, ErrorKind, Lifetime, Login, Permissions, PolicyId,
    Robot, SecretCheck,
};
use oci::{Digest, RepositoryName};

use crate::stand_in::{BAD_GATEWAY, Fault, StandIn};
use crate::{client, harbor, new_robot, options, policy};

/// Things to call something on.
pub(crate) struct Things {
    robot: Robot,
    policy: PolicyId,
    repository: RepositoryName,
    digest: Digest,
}

type Run = for<'a> fn(&'a Client, &'a Things) -> BoxFuture<'a, Result<(), Error>>;

/// One call of one request.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Sent again after a failure of which nobody knows whether it was done.
    safe: bool,
    /// A 404 is the good answer "not there".
    absent: bool,
    /// What is in the body of a good answer is not read, or there is none.
    bodiless: bool,
    run: Run,
}

macro_rules! case {
    ($name:literal, $safe:literal, $absent:literal, $bodiless:literal, $run:expr) => {
        Case {
            name: $name,
            safe: $safe,
            absent: $absent,
            bodiless: $bodiless,
            run: |client, things| {
                let run: for<'a> fn(&'a Client, &'a Things) -> BoxFuture<'a, Result<(), Error>> = $run;
                run(client, things)
            },
        }
    };
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("health", true, false, false, |c, _| c.health().map(|r| r.map(drop)).boxed()),
        case!("system_info", true, false, false, |c, _| c.system_info().map(|r| r.map(drop)).boxed()),
        case!("project_exists", true, true, true, |c, _| c
            .project_exists("apps")
            .map(|r| r.map(drop))
            .boxed()),
        case!("project", true, false, false, |c, _| c.project("apps").map(|r| r.map(drop)).boxed()),
        case!("projects", true, false, false, |c, _| c.projects().map(|r| r.map(drop)).boxed()),
        case!("create_private_project", false, false, false, |c, _| {
            c.create_private_project("new").map(|r| r.map(drop)).boxed()
        }),
        case!("make_project_private", true, false, true, |c, _| c.make_project_private("library").boxed()),
        case!("create_robot", false, false, false, |c, _| {
            async { c.create_robot(&new_robot("edge-02")).await.map(drop) }.boxed()
        }),
        case!("find_robot", true, false, false, |c, _| {
            async { c.find_robot(&"edge-01".parse().unwrap()).await.map(drop) }.boxed()
        }),
        case!("robot", true, false, false, |c, t| c.robot(t.robot.id).map(|r| r.map(drop)).boxed()),
        case!("robots", true, false, false, |c, _| c.robots().map(|r| r.map(drop)).boxed()),
        case!("replace_permissions", true, false, true, |c, t| {
            async { c.replace_permissions(&t.robot, &Permissions::pull(["apps"])).await }.boxed()
        }),
        case!("set_lifetime", true, false, true, |c, t| c.set_lifetime(&t.robot, Lifetime::Days(60)).boxed()),
        case!("refresh_secret", false, false, false, |c, t| c
            .refresh_secret(t.robot.id)
            .map(|r| r.map(drop))
            .boxed()),
        case!("delete_robot", true, true, true, |c, t| c
            .delete_robot(t.robot.id)
            .map(|r| r.map(drop))
            .boxed()),
        case!("webhook_policies", true, false, false, |c, _| c
            .webhook_policies("satellite")
            .map(|r| r.map(drop))
            .boxed()),
        case!("create_webhook_policy", false, false, false, |c, _| {
            async { c.create_webhook_policy("apps", &policy()).await.map(drop) }.boxed()
        }),
        case!("update_webhook_policy", true, false, true, |c, t| {
            async { c.update_webhook_policy("satellite", t.policy, &policy()).await }.boxed()
        }),
        case!("delete_webhook_policy", true, true, true, |c, t| {
            c.delete_webhook_policy("satellite", t.policy).map(|r| r.map(drop)).boxed()
        }),
        case!("webhook_deliveries", true, false, false, |c, t| {
            c.webhook_deliveries("satellite", t.policy, 5).map(|r| r.map(drop)).boxed()
        }),
        case!("repositories", true, false, false, |c, _| c
            .repositories("satellite")
            .map(|r| r.map(drop))
            .boxed()),
        case!("artifacts", true, false, false, |c, t| c
            .artifacts(&t.repository)
            .map(|r| r.map(drop))
            .boxed()),
        case!("artifact", true, false, false, |c, t| c
            .artifact(&t.repository, "v1")
            .map(|r| r.map(drop))
            .boxed()),
        case!("delete_artifact", true, true, true, |c, t| {
            c.delete_artifact(&t.repository, &t.digest).map(|r| r.map(drop)).boxed()
        }),
        case!("delete_tag", true, true, true, |c, t| {
            c.delete_tag(&t.repository, &t.digest, "multi").map(|r| r.map(drop)).boxed()
        }),
        case!("delete_repository", true, true, true, |c, t| c
            .delete_repository(&t.repository)
            .map(|r| r.map(drop))
            .boxed()),
    ]
}

pub(crate) async fn things(stand_in: &StandIn, admin: &Client) -> Things {
    let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
    let robot = admin.robot(made.id).await.unwrap();
    let policy = admin.create_webhook_policy("satellite", &policy()).await.unwrap();
    let repository: RepositoryName = "satellite/edge/app".parse().unwrap();
    let digest = admin.artifact(&repository, "multi").await.unwrap().digest;
    stand_in.seen();
    Things { robot, policy, repository, digest }
}

impl Case {
    pub(crate) async fn run(&self, client: &Client, things: &Things) -> Result<(), Error> {
        (self.run)(client, things).await
    }
}

/// What a failure has to show as.
struct Failure {
    name: &'static str,
    fault: Fault,
    class: fn(&ErrorKind) -> bool,
    /// How often a safe and another call is sent.
    sent: [usize; 2],
    happened: bool,
}

fn failure(
    name: &'static str,
    fault: Fault,
    sent: [usize; 2],
    happened: bool,
    class: fn(&ErrorKind) -> bool,
) -> Failure {
    Failure { name, fault, class, sent, happened }
}

fn after(fault: Fault, seconds: u64) -> Fault {
    let Fault::Answer { status, page, body, .. } = fault else { panic!("no answer") };
    Fault::Answer { status, page, body, retry_after: Some(seconds) }
}

fn failures() -> Vec<Failure> {
    let unknown = || Fault::told(500, "UNKNOWN", "internal server error");
    let router = Fault::told(404, "NOT_FOUND", "path /api/v2.0/nothing was not found");
    let status = Fault::told;
    vec![
        failure("400", status(400, "BAD_REQUEST", "no"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Refused { status: 400, .. })
        }),
        failure("401", status(401, "UNAUTHORIZED", "unauthorized"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Unauthorized(_))
        }),
        failure("401 page", Fault::page(401, "<h1>401</h1>"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Unauthorized(_))
        }),
        failure("403", status(403, "FORBIDDEN", "forbidden"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Forbidden(_))
        }),
        failure("404", status(404, "NOT_FOUND", "x not found"), [1, 1], false, |k| {
            matches!(k, ErrorKind::NotFound(_))
        }),
        failure("404 page", Fault::page(404, "<h1>404</h1>"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Refused { status: 404, .. })
        }),
        failure("404 router", router, [1, 1], false, |k| matches!(k, ErrorKind::Refused { status: 404, .. })),
        failure("409", status(409, "CONFLICT", "exists"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Conflict(_))
        }),
        failure("412", status(412, "PRECONDITION", "busy"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Precondition(_))
        }),
        failure("422", status(422, "UNPROCESSABLE_ENTITY", "no"), [1, 1], false, |k| {
            matches!(k, ErrorKind::Refused { status: 422, .. })
        }),
        failure("308", Fault::page(308, ""), [1, 1], false, |k| {
            matches!(k, ErrorKind::Refused { status: 308, .. })
        }),
        failure("429", Fault::page(429, "<h1>slow down</h1>"), [3, 3], false, |k| {
            matches!(k, ErrorKind::Unavailable { status: 429, .. })
        }),
        failure("500", unknown(), [3, 1], true, |k| matches!(k, ErrorKind::Unavailable { status: 500, .. })),
        failure("500 done", Fault::Done(Box::new(unknown())), [3, 1], true, |k| {
            matches!(k, ErrorKind::Unavailable { status: 500, .. })
        }),
        failure("501", status(501, "X", "no"), [1, 1], true, |k| {
            matches!(k, ErrorKind::Unavailable { status: 501, .. })
        }),
        failure(
            "502",
            Fault::page(502, BAD_GATEWAY),
            [3, 1],
            true,
            |k| matches!(k, ErrorKind::Unavailable { status: 502, message, .. } if !message.contains('<')),
        ),
        failure(
            "503 for an hour",
            after(Fault::page(503, "later"), 3600),
            [1, 1],
            true,
            |k| matches!(k, ErrorKind::Unavailable { status: 503, retry_after: Some(t), .. } if t.as_secs() == 3600),
        ),
        failure("504 done", Fault::Done(Box::new(Fault::page(504, "late"))), [3, 1], true, |k| {
            matches!(k, ErrorKind::Unavailable { status: 504, .. })
        }),
        failure("200 page", Fault::page(200, "<h1>Welcome</h1>"), [1, 1], true, |k| {
            matches!(k, ErrorKind::Malformed(_))
        }),
        failure("200 broken", told_200("{\"id\":"), [1, 1], true, |k| matches!(k, ErrorKind::Malformed(_))),
        failure("200 senseless", told_200("42"), [1, 1], true, |k| matches!(k, ErrorKind::Malformed(_))),
        failure("200 endless", told_200(&" ".repeat(70_000)), [1, 1], true, |k| {
            matches!(k, ErrorKind::TooLarge(_))
        }),
        failure("cut", Fault::Cut { done: false }, [3, 1], true, |k| {
            matches!(k, ErrorKind::Unreachable { sent: true, .. })
        }),
        failure("cut, done", Fault::Cut { done: true }, [3, 1], true, |k| {
            matches!(k, ErrorKind::Unreachable { sent: true, .. })
        }),
        failure(
            "slow",
            Fault::Slow(Duration::from_secs(60)),
            [3, 1],
            true,
            |k| matches!(k, ErrorKind::Unreachable { sent: true, reason } if reason.contains("timed out")),
        ),
    ]
}

fn told_200(body: &str) -> Fault {
    Fault::Answer { status: 200, page: false, body: body.to_owned(), retry_after: None }
}

/// Little time only where time is what runs out: a busy machine is no failure.
fn limits(failure: &Failure) -> ClientOptions {
    let narrow = ClientOptions { max_body_bytes: 64 * 1024, ..options() };
    if !matches!(failure.fault, Fault::Slow(_)) {
        return narrow;
    }
    let time = Duration::from_millis(700);
    ClientOptions { request_timeout: time, health_timeout: time, ..narrow }
}

async fn inject(case: Case, failure: &Failure) {
    let told = format!("{} at {}", failure.name, case.name);
    let head = case.name == "project_exists";
    // An answer to HEAD has no body to be wrong.
    let unseen = (case.bodiless && matches!(failure.name, "200 broken" | "200 senseless"))
        || head && matches!(failure.name, "404 router" | "200 endless");
    let (stand_in, admin) = harbor().await;
    let things = things(&stand_in, &admin).await;
    let limited = client(&stand_in, "admin", "Harbor12345", limits(failure));
    stand_in.fail(failure.fault.clone(), 0, usize::MAX);
    let result = case.run(&limited, &things).await;
    let seen = stand_in.seen().len();
    if unseen || case.absent && failure.name == "404" {
        assert!(result.is_ok() && seen == 1, "{told}: {result:?}");
        return;
    }
    let error = result.expect_err(&told);
    assert!((failure.class)(error.kind()), "{told}: {error:?}");
    let patient = case.name == "delete_webhook_policy" && failure.name == "412";
    let expected = if patient { 3 } else { failure.sent[usize::from(!case.safe)] };
    assert_eq!(seen, expected, "{told}: {error:?}");
    assert_eq!(error.may_have_happened(), failure.happened, "{told}: {error:?}");
    assert!(
        !error.to_string().contains("Harbor12345") && !error.to_string().contains("hook-secret"),
        "{told}"
    );
}

#[tokio::test]
async fn every_failure_at_every_call() {
    for failure in failures() {
        join_all(cases().into_iter().map(|case| inject(case, &failure))).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for case in cases() {
        let (stand_in, admin) = harbor().await;
        let things = things(&stand_in, &admin).await;
        stand_in.fail(Fault::Half, 0, usize::MAX);
        let result = case.run(&admin, &things).await;
        if case.name == "project_exists" {
            continue;
        }
        let seen = stand_in.seen().len();
        // What was done the first time is not there the second time, which is as good.
        if case.absent && result.is_ok() {
            assert!(seen <= 2, "{}: {seen}", case.name);
            continue;
        }
        let error = result.expect_err(case.name);
        assert!(
            matches!(error.kind(), ErrorKind::Unreachable { sent: true, .. }),
            "{}: {error:?}",
            case.name
        );
        assert_eq!(seen, if case.safe { 3 } else { 1 }, "{}", case.name);
    }
}

#[tokio::test]
async fn one_failure_is_survived_where_that_is_safe() {
    for (fault, survived_by_all) in [
        (Fault::page(502, BAD_GATEWAY), false),
        (Fault::Cut { done: true }, false),
        (after(Fault::page(429, "slow down"), 0), true),
    ] {
        for case in cases() {
            let (stand_in, admin) = harbor().await;
            let things = things(&stand_in, &admin).await;
            stand_in.fail(fault.clone(), 0, 1);
            let result = case.run(&admin, &things).await;
            assert_eq!(
                result.is_ok(),
                case.safe || survived_by_all,
                "{fault:?} at {}: {result:?}",
                case.name
            );
            // The list of projects is followed by the question whether Harbor knew who asked.
            let more = usize::from(case.safe || survived_by_all) + usize::from(case.name == "projects");
            assert_eq!(stand_in.seen().len(), 1 + more, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn nobody_there_means_that_nothing_happened() {
    let (stand_in, admin) = harbor().await;
    let things = things(&stand_in, &admin).await;
    // A port that was just free: nothing listens there.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let endpoint: Endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
    let login = Login { username: "admin".to_owned(), password: "x".into() };
    let lonely = Client::new(&endpoint, &login, options()).unwrap();
    for case in cases() {
        let error = case.run(&lonely, &things).await.expect_err(case.name);
        assert!(
            matches!(error.kind(), ErrorKind::Unreachable { sent: false, .. }),
            "{}: {error:?}",
            case.name
        );
        assert!(error.is_transient() && !error.may_have_happened(), "{}", case.name);
    }
}

#[tokio::test]
async fn a_lost_robot_is_found_by_its_name() {
    let (stand_in, admin) = harbor().await;
    stand_in.fail(Fault::Cut { done: true }, 0, 1);
    let robot = new_robot("edge-01");
    let error = admin.create_robot(&robot).await.unwrap_err();
    assert!(error.may_have_happened());
    let lost = admin.find_robot(&robot.name).await.unwrap().unwrap();
    assert!(admin.delete_robot(lost.id).await.unwrap());
    admin.create_robot(&robot).await.unwrap();
}

#[tokio::test]
async fn a_project_is_private_in_the_end_wherever_it_failed() {
    for fault in [Fault::page(502, BAD_GATEWAY), Fault::Cut { done: true }, Fault::Cut { done: false }] {
        // HEAD, GET, PUT, GET of a public one; HEAD, POST of a new one.
        for (name, requests) in [("library", 4), ("new", 2)] {
            for failing in 0..requests {
                let (stand_in, admin) = harbor().await;
                stand_in.fail(fault.clone(), failing, 3);
                let error = admin.ensure_private_project(name).await.unwrap_err();
                assert!(error.is_transient(), "{name} {failing}: {error}");
                stand_in.fail(fault.clone(), 0, 0);
                let ensured = admin.ensure_private_project(name).await.unwrap();
                assert!(matches!(ensured, Ensured::Found | Ensured::MadePrivate | Ensured::Created));
                assert!(!admin.project(name).await.unwrap().is_public(), "{name} {failing}");
            }
        }
    }
}

#[tokio::test]
async fn no_failure_makes_a_good_secret_refused() {
    let refusing = Fault::told(401, "UNAUTHORIZED", "unauthorized");
    for fault in [Fault::page(502, BAD_GATEWAY), Fault::Cut { done: true }, refusing, Fault::page(200, "<p>")]
    {
        for (skip, times) in [(0, 1), (0, 2), (0, 3), (0, 9), (1, 1), (1, 9)] {
            let (stand_in, admin) = harbor().await;
            let made = admin.create_robot(&new_robot("edge-01")).await.unwrap();
            let login = Login { username: made.name.clone(), password: made.secret.clone() };
            stand_in.fail(fault.clone(), skip, times);
            let checked = admin.check_secret(&login).await;
            assert!(!matches!(checked, Ok(SecretCheck::Refused)), "{fault:?} {skip} {times}");
        }
    }
}
