//! What is done again and again beside serving: how often, how long, with what success.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::Catalogue;
use super::{Histograms, Labels, Metrics};

/// A job in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Brings documents into the registry.
    Publisher,
    /// Looks for satellites that have fallen silent.
    Stale,
    /// Removes what revoked and deleted satellites were registered as.
    Withdrawal,
    /// Removes from the registry's store what nothing names.
    Garbage,
    /// Removes ended sessions and old failures.
    Purge,
    /// Looks after the certificate authorities.
    Authority,
    /// Sees to the robots at Harbor.
    Robots,
    /// Compares the robots with Harbor's list.
    Comparison,
    /// Looks up in the registry what groups list.
    Sweep,
    /// Keeps the webhook policies at Harbor.
    Webhooks,
    /// Looks at the members of groups whose lists were published.
    Rollouts,
}

impl Job {
    /// Every job.
    pub const ALL: [Self; 11] = [
        Self::Publisher,
        Self::Stale,
        Self::Withdrawal,
        Self::Garbage,
        Self::Purge,
        Self::Authority,
        Self::Robots,
        Self::Comparison,
        Self::Sweep,
        Self::Webhooks,
        Self::Rollouts,
    ];

    /// The value of the label `job`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Stale => "stale",
            Self::Withdrawal => "withdrawal",
            Self::Garbage => "garbage",
            Self::Purge => "purge",
            Self::Authority => "authority",
            Self::Robots => "robots",
            Self::Comparison => "comparison",
            Self::Sweep => "sweep",
            Self::Webhooks => "webhooks",
            Self::Rollouts => "rollouts",
        }
    }

    /// A trace for one run of it.
    pub(crate) fn span(self) -> tracing::Span {
        tracing::info_span!("job", trace_id = %otlp::TraceId::generate(), job = self.label())
    }

    fn labels(self) -> Labels<1> {
        [("job", self.label().into())]
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    runs: Family<Labels<1>, Counter>,
    failures: Family<Labels<1>, Counter>,
    seconds: Histograms<1>,
    succeeded: Family<Labels<1>, Gauge<f64, AtomicU64>>,
}

impl Jobs {
    pub(super) fn new(all: &mut Catalogue) -> Self {
        let jobs = Self {
            runs: all.add(
                "ground_control_job_runs",
                &["job"],
                "Runs of a job in the background that came to an end",
                Family::default(),
            ),
            failures: all.add(
                "ground_control_job_failures",
                &["job"],
                "Those among the runs that failed; the next one tries again",
                Family::default(),
            ),
            seconds: all.add(
                "ground_control_job_duration_seconds",
                &["job"],
                "How long a run took",
                Family::new_with_constructor(buckets),
            ),
            succeeded: all.add(
                "ground_control_job_last_success_timestamp_seconds",
                &["job"],
                "Unix time of the last run without a failure; absent before the first",
                Family::default(),
            ),
        };
        // A failure of the first run is a step from 0 to 1, which alerts see only where the 0 was there.
        for job in Job::ALL {
            let _ = jobs.runs.get_or_create(&job.labels());
            let _ = jobs.failures.get_or_create(&job.labels());
        }
        jobs
    }
}

fn buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0])
}

/// A run of a job; what is dropped without an end is not counted.
#[derive(Debug)]
#[must_use]
pub struct Run {
    metrics: Metrics,
    job: Job,
    since: Instant,
}

impl Run {
    pub(super) fn new(metrics: Metrics, job: Job) -> Self {
        Self { metrics, job, since: Instant::now() }
    }

    /// It came to its end, with success or without.
    pub fn ended(self, succeeded: bool) {
        let (jobs, labels) = (&self.metrics.values.jobs, self.job.labels());
        jobs.runs.get_or_create(&labels).inc();
        jobs.seconds.get_or_create(&labels).observe(self.since.elapsed().as_secs_f64());
        if succeeded {
            jobs.succeeded.get_or_create(&labels).set(Timestamp::now().as_duration().as_secs_f64());
        } else {
            jobs.failures.get_or_create(&labels).inc();
        }
    }
}
