//! The list of metrics, made together with the metrics themselves so that the two cannot part.

use prometheus_client::registry::{Metric, Registry};

/// What a metric is, as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name as queries have it: counters end with `_total`, the build with `_info`, and a histogram `h` stands for
    /// `h_bucket`, `h_count` and `h_sum`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// Names of its labels, `le` of histograms left out.
    pub labels: &'static [&'static str],
    /// What it tells, without a full stop.
    pub help: &'static str,
}

/// Takes metrics as they are made.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    registry: Registry,
    described: Vec<Described>,
}

impl Catalogue {
    /// `name`: without the suffix that the format adds to counters and infos.
    pub(super) fn add<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        metric: M,
    ) -> M {
        self.fixed(name, labels, help, metric.clone());
        metric
    }

    /// One whose value never changes.
    pub(super) fn fixed(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        metric: impl Metric,
    ) {
        let kind = metric.metric_type().as_str().to_owned();
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        self.described.push(Described { name: format!("{name}{suffix}"), kind, labels, help });
        self.registry.register(name, help, metric);
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn described(&self) -> &[Described] {
        &self.described
    }
}
