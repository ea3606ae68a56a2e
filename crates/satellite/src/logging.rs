//! The log: JSON lines or text on the standard error, at a level that can change while the program runs.

use std::io::{self, IsTerminal as _};

use otlp::SpanExport;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::config::LogLevel;

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub struct LogControl {
    handle: reload::Handle<Targets, Registry>,
}

impl LogControl {
    /// From now on, log at `level`.
    pub fn set(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and then nobody reads the log.
        drop(self.handle.reload(targets(level)));
    }
}

/// Starts the log. `json` overrides the choice by terminal. Where there are `traces`, spans go to what is returned beside it,
/// whatever the log's level.
#[must_use]
pub fn start(json: Option<bool>, level: LogLevel, traces: bool) -> (LogControl, Option<SpanExport>) {
    let terminal = io::stderr().is_terminal();
    let (filter, handle) = reload::Layer::new(targets(level));
    let output = if json.unwrap_or(!terminal) {
        fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(io::stderr).boxed()
    } else {
        fmt::layer().with_ansi(terminal).with_target(false).with_writer(io::stderr).boxed()
    };
    // Fails when a log was started before, which only tests in one process do.
    let own = |metadata: &tracing::Metadata<'_>| {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("satellite")
    };
    let (layer, export) = traces.then(otlp::spans).unzip();
    let layer = layer.map(|layer| layer.with_filter(filter_fn(own)));
    drop(tracing_subscriber::registry().with(output.with_filter(filter)).with(layer).try_init());
    (LogControl { handle }, export)
}

/// Libraries say little below warnings that helps a person; with `trace` they say everything.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let theirs = if level == LogLevel::Trace { LevelFilter::TRACE } else { ours.min(LevelFilter::WARN) };
    [
        "satellite",
        "blob_store",
        "registry_server",
        "registry_client",
        "transfer",
        "fleet_protocol",
        "identity",
        "oci",
    ]
    .into_iter()
    .fold(Targets::new().with_default(theirs), |targets, ours_too| targets.with_target(ours_too, ours))
}
