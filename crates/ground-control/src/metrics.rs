//! What is counted and measured, and the one place that knows each name.
//!
//! Every metric is made in [`Metrics::default`], with its name, its labels and what it tells; [`Metrics::catalogue`] lists
//! them, and `docs/operations.md` has the same list as a table. Whoever counts calls a method here and knows no name.
//!
//! Labels come from small closed sets (states, jobs, route templates), never from what a request holds: a path may hold a
//! one-time token, and a value that a stranger chooses would let strangers fill the memory.

mod catalogue;
mod jobs;
mod limits;
mod process;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;

use self::catalogue::Catalogue;
use crate::audit::SinkStatus;
use crate::central::Compared;
use crate::domain::harbor::SiteCounts;
use crate::domain::rollout::Census;
use crate::publish;

pub use catalogue::Described;
pub use jobs::{Job, Run};
pub use limits::Limit;

/// The route of a request that no template matched.
pub(crate) const NO_ROUTE: &str = "(no such route)";

/// Names and values of a metric's labels.
type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Every metric of a running server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    all: Arc<Catalogue>,
    values: Arc<Values>,
}

#[derive(Debug)]
struct Values {
    requests: Family<Labels<3>, Counter>,
    request_seconds: Histograms<2>,
    requests_under_way: Gauge,
    refusals: Family<Labels<2>, Counter>,
    limits: limits::Limits,
    jobs: jobs::Jobs,
    documents: Family<Labels<1>, Counter>,
    waiting: Gauge,
    failing: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
    satellites: Family<Labels<1>, Gauge>,
    drifting: Family<Labels<1>, Gauge>,
    unresolved: Family<Labels<0>, Gauge>,
    waiting_polls: Gauge,
    sites: Family<Labels<1>, Gauge>,
    condemned_robots: Gauge,
    astray_robots: Family<Labels<1>, Gauge>,
    heartbeats: Counter,
    batch_size: Histogram,
    commit_seconds: Histogram,
    heartbeats_lost: Family<Labels<1>, Counter>,
    svid_seconds: Family<Labels<1>, Gauge>,
    audit_refusals_dropped: Counter,
    audit_lag: Family<Labels<1>, Gauge>,
    audit_lost: Family<Labels<1>, Counter>,
    audit_up: Family<Labels<1>, Gauge>,
    process: process::Process,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Catalogue::default();
        let values = Arc::new(Values::new(&mut all));
        Self { all: Arc::new(all), values }
    }
}

impl Values {
    fn new(all: &mut Catalogue) -> Self {
        all.fixed(
            "ground_control_build",
            &["version"],
            "The version that runs; the value is always 1",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let values = Self {
            requests: all.add(
                "ground_control_requests",
                &["method", "route", "status"],
                "Requests answered, by route template and class of status (2xx); those of SPIRE agents are not among them",
                Family::default(),
            ),
            request_seconds: all.add(
                "ground_control_request_duration_seconds",
                &["method", "route"],
                "From the head of a request to the head of its answer, without the time that a heartbeat asked to wait",
                Family::new_with_constructor(request_buckets),
            ),
            requests_under_way: all.add(
                "ground_control_requests_under_way",
                &[],
                "Requests whose answer has not begun",
                Gauge::default(),
            ),
            refusals: all.add(
                "ground_control_refusals",
                &["audience", "status"],
                "Answers 401, 403, 429 and 503, to people, satellites, clients of the registry (whose first request always \
                 gets a 401) and others",
                Family::default(),
            ),
            limits: limits::Limits::new(all),
            jobs: jobs::Jobs::new(all),
            documents: all.add(
                "ground_control_documents",
                &["outcome"],
                "Documents that the publisher worked on: published, unchanged, removed, failed",
                Family::default(),
            ),
            waiting: all.add(
                "ground_control_documents_waiting",
                &[],
                "Documents that wait to be published, those that failed included",
                Gauge::default(),
            ),
            failing: all.add(
                "ground_control_documents_failing",
                &[],
                "Documents that wait and have failed at least once",
                Gauge::default(),
            ),
            lag_seconds: all.add(
                "ground_control_publication_lag_seconds",
                &[],
                "Age of the oldest document that waits; 0 where none does",
                Gauge::default(),
            ),
            satellites: all.add(
                "ground_control_satellites",
                &["state"],
                "Satellites by state, at most ten seconds old; absent while the database does not answer",
                Family::default(),
            ),
            drifting: all.add(
                "ground_control_satellites_drifting",
                &["drift"],
                "Satellites (true) that lack an artifact they shall have or hold one that nobody wants, and the others; as old as \
                 the states",
                Family::default(),
            ),
            unresolved: all.add(
                "ground_control_artifacts_unresolved",
                &[],
                "Tags and rules of groups for which the registry has nothing or gives an error at present, so that what they \
                 stood for last stays; as old as the states",
                Family::default(),
            ),
            waiting_polls: all.add(
                "ground_control_waiting_polls",
                &[],
                "Satellites that wait here for a change; they are among the requests under way",
                Gauge::default(),
            ),
            sites: all.add(
                "ground_control_harbor_satellites",
                &["state"],
                "Satellites whose robots at Harbor are not as they should be: waiting (being worked on) or failed (tried again); \
                 absent without Harbor",
                Family::default(),
            ),
            condemned_robots: all.add(
                "ground_control_harbor_robots_condemned",
                &[],
                "Robots that are still to be deleted at Harbor, those of revoked satellites among them",
                Gauge::default(),
            ),
            astray_robots: all.add(
                "ground_control_harbor_robots_astray",
                &["kind"],
                "Robots that the last comparison with Harbor found deleted, disabled or recorded nowhere",
                Family::default(),
            ),
            heartbeats: all.add(
                "ground_control_heartbeats",
                &[],
                "Heartbeats committed",
                Counter::default(),
            ),
            batch_size: all.add(
                "ground_control_heartbeat_batch_size",
                &[],
                "Heartbeats that one commit took",
                Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            ),
            commit_seconds: all.add(
                "ground_control_heartbeat_commit_duration_seconds",
                &[],
                "How long one commit of heartbeats took",
                Histogram::new(exponential_buckets(0.001, 2.0, 13)),
            ),
            heartbeats_lost: all.add(
                "ground_control_heartbeats_lost",
                &["reason"],
                "Heartbeats that were refused because the queue was full, or not committed because the database failed",
                Family::default(),
            ),
            svid_seconds: all.add(
                "ground_control_svid_remaining_seconds",
                &["provider"],
                "Time until our own SVID ends; 0 where there is none at present, absent without SPIFFE",
                Family::default(),
            ),
            audit_refusals_dropped: all.add(
                "ground_control_audit_refusals_dropped",
                &[],
                "Refusals that have no row of their own in the audit, because too many different ones came at once",
                Counter::default(),
            ),
            audit_lag: all.add(
                "ground_control_audit_sink_lag_rows",
                &["sink"],
                "Rows of the audit that wait to be sent on",
                Family::default(),
            ),
            audit_lost: all.add(
                "ground_control_audit_sink_lost_rows",
                &["sink"],
                "Rows of the audit that were given up before they were sent on",
                Family::default(),
            ),
            audit_up: all.add(
                "ground_control_audit_sink_up",
                &["sink"],
                "Whether a sink of the audit takes rows: 1, or 0 while it is away",
                Family::default(),
            ),
            process: process::Process::new(all),
        };
        for reason in [Lost::QueueFull, Lost::Database] {
            let _ = values.heartbeats_lost.get_or_create(&[("reason", reason.label().into())]);
        }
        values
    }
}

/// Why a heartbeat is lost; the satellite sends the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    QueueFull,
    Database,
}

impl Lost {
    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Database => "database",
        }
    }
}

/// A request whose answer has not begun, until this is dropped: clients may go before it does.
#[derive(Debug)]
pub(crate) struct UnderWay(Metrics);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.values.requests_under_way.dec();
    }
}

impl Metrics {
    /// What there is to measure, in the order of a scrape.
    pub fn catalogue(&self) -> &[Described] {
        self.all.described()
    }

    /// All values now, in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// Where a value cannot be written, which none of ours is.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        self.values.process.look();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, self.all.registry())?;
        Ok(text)
    }

    /// A request came.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.values.requests_under_way.inc();
        UnderWay(self.clone())
    }

    /// A request of the route with this template was answered.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = ("method", Cow::Borrowed(method_label(method)));
        let template = ("route", Cow::Owned(route.to_owned()));
        self.values
            .request_seconds
            .get_or_create(&[method.clone(), template.clone()])
            .observe(took.as_secs_f64());
        self.values.requests.get_or_create(&[method, template, ("status", class(status).into())]).inc();
        if let Some(status) = refusal(status) {
            let labels = [("audience", audience(route).into()), ("status", status.into())];
            self.values.refusals.get_or_create(&labels).inc();
        }
    }

    /// A job begins; the answer is told how it ended.
    pub fn job(&self, job: Job) -> Run {
        Run::new(self.clone(), job)
    }

    /// So many heartbeats were committed at once.
    pub(crate) fn heartbeats_committed(&self, count: usize, took: Duration) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.values.heartbeats.inc_by(u64::from(count));
        self.values.batch_size.observe(f64::from(count));
        self.values.commit_seconds.observe(took.as_secs_f64());
    }

    /// So many heartbeats were not.
    pub(crate) fn heartbeats_lost(&self, count: usize, why: Lost) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.values.heartbeats_lost.get_or_create(&[("reason", why.label().into())]).inc_by(count);
    }

    /// How the publisher is doing.
    pub(crate) fn set_publisher(&self, status: &publish::Status, now: Timestamp) {
        let outcomes = [
            ("published", status.published),
            ("unchanged", status.unchanged),
            ("removed", status.removed),
            ("failed", status.failures),
        ];
        for (outcome, count) in outcomes {
            let counter = self.values.documents.get_or_create(&[("outcome", outcome.into())]);
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.values.waiting.set(signed(status.lag.waiting));
        self.values.failing.set(signed(status.lag.failing));
        let age = status.lag.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        self.values.lag_seconds.set(age.max(0.0));
    }

    /// How many satellites are in which state, and how many drift; `None` where nobody knows.
    pub(crate) fn set_satellites(&self, census: Option<&Census>) {
        let Some(census) = census else {
            self.values.satellites.clear();
            self.values.drifting.clear();
            return;
        };
        let all: u64 = census.states.iter().map(|(_, count)| count).sum();
        for (drift, count) in [("true", census.drifting), ("false", all.saturating_sub(census.drifting))] {
            self.values.drifting.get_or_create(&[("drift", drift.into())]).set(signed(count));
        }
        for (state, count) in &census.states {
            let gauge = self.values.satellites.get_or_create(&[("state", state.as_str().into())]);
            gauge.set(signed(*count));
        }
    }

    /// How many tags and rules of groups are unresolved; `None` where nobody knows.
    pub(crate) fn set_unresolved(&self, unresolved: Option<u64>) {
        match unresolved {
            Some(count) => {
                self.values.unresolved.get_or_create(&[]).set(signed(count));
            }
            None => self.values.unresolved.clear(),
        }
    }

    /// How many satellites wait for a change.
    pub(crate) fn set_waiting_polls(&self, waiting: usize) {
        self.values.waiting_polls.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// How the robots at Harbor are doing.
    pub(crate) fn set_sites(&self, counts: SiteCounts) {
        for (state, count) in [("waiting", counts.waiting), ("failed", counts.failed)] {
            self.values.sites.get_or_create(&[("state", state.into())]).set(signed(count));
        }
        self.values.condemned_robots.set(signed(counts.condemned));
    }

    /// How what is recorded of robots differs from Harbor's list.
    pub(crate) fn set_astray_robots(&self, compared: Compared) {
        let kinds = [("lost", compared.lost), ("disabled", compared.disabled), ("unknown", compared.unknown)];
        for (kind, count) in kinds {
            self.values.astray_robots.get_or_create(&[("kind", kind.into())]).set(signed(count));
        }
    }

    /// A refusal is only counted.
    pub(crate) fn refusal_dropped(&self) {
        self.values.audit_refusals_dropped.inc();
    }

    /// How a sink of the audit is doing.
    pub(crate) fn set_audit_sink(&self, status: &SinkStatus) {
        let labels = [("sink", Cow::Borrowed(status.sink))];
        self.values.audit_lag.get_or_create(&labels).set(signed(status.lag));
        self.values.audit_lost.get_or_create(&labels).inner().store(status.lost, Ordering::Relaxed);
        self.values.audit_up.get_or_create(&labels).set(i64::from(status.ok));
    }

    /// Until when our own SVID is good; `None` where there is none at present.
    pub(crate) fn set_svid(&self, provider: &'static str, ends: Option<Timestamp>, now: Timestamp) {
        let left = ends.map_or(0, |ends| ends.duration_since(now).as_secs());
        self.values.svid_seconds.get_or_create(&[("provider", provider.into())]).set(left);
    }
}

fn request_buckets() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The methods that a route knows; a stranger may send any other.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn refusal(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("401"),
        StatusCode::FORBIDDEN => Some("403"),
        StatusCode::TOO_MANY_REQUESTS => Some("429"),
        StatusCode::SERVICE_UNAVAILABLE => Some("503"),
        _ => None,
    }
}

fn audience(route: &str) -> &'static str {
    if route.starts_with("/satellites/") {
        "satellites"
    } else if route.starts_with("/api/") || route == "/login" {
        "people"
    } else if route.starts_with("/v2") || route == "/service/token" {
        "registry"
    } else {
        "others"
    }
}

#[cfg(test)]
mod tests;
