//! Spans of the program as spans of a trace: a layer that takes them as they end, and a task that sends them.
//!
//! A span takes part where it says so, by a field `trace_id`, or where one around it does. `span_id` and `parent_id` are
//! taken where they are given (what came with a request, or goes out with one), and made otherwise; `otel.kind` names what
//! it does (`server`, `client`), and `otel.sampled = false` leaves it and all within it out. All other fields become attributes: they are the ones that stand in the log, too, and
//! hold no secrets for the same reason.
//!
//! Nothing waits for the collector: what does not fit into the queue is dropped and counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::context::{SpanId, TraceId};
use crate::export::Exporter;
use crate::messages::{
    ExportTraceServiceRequest, InstrumentationScope, KIND_CLIENT, KIND_INTERNAL, KIND_SERVER, KeyValue,
    Resource, ResourceSpans, STATUS_ERROR, ScopeSpans, Span, Status, Value,
};

/// Spans that wait to be sent.
const QUEUE: usize = 4096;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(2);
/// The longest text of an attribute, in characters.
const LONGEST: usize = 256;
/// Attributes of one span.
const MOST_ATTRIBUTES: usize = 32;

/// The two ends: the layer for the subscriber, and what sends.
pub fn spans() -> (SpanLayer, SpanExport) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    (SpanLayer { queue, dropped: Arc::clone(&dropped) }, SpanExport { waiting, dropped })
}

/// Takes spans as they end.
#[derive(Debug)]
pub struct SpanLayer {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

/// Sends them.
#[derive(Debug)]
pub struct SpanExport {
    waiting: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
}

/// What is kept of a span until it ends.
struct Taken {
    span: Span,
    trace: TraceId,
}

/// Whether spans of this process are taken, so that whoever asks others may name its trace.
pub fn is_traced() -> bool {
    tracing::dispatcher::get_default(|dispatch| dispatch.downcast_ref::<SpanLayer>().is_some())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Fields {
    trace: Option<TraceId>,
    span: Option<SpanId>,
    parent: Option<SpanId>,
    kind: i32,
    unsampled: bool,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value) {
        let text = || match &value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        match field.name() {
            "trace_id" => self.trace = TraceId::parse(text()),
            "span_id" => self.span = SpanId::parse(text()),
            "parent_id" => self.parent = SpanId::parse(text()),
            "otel.sampled" => self.unsampled = value == Value::Truth(false),
            "otel.kind" => {
                self.kind = match text() {
                    "server" => KIND_SERVER,
                    "client" => KIND_CLIENT,
                    _ => KIND_INTERNAL,
                };
            }
            name if self.attributes.len() < MOST_ATTRIBUTES => {
                self.attributes.push(KeyValue::of(name, value))
            }
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::Text(format!("{value:?}").chars().take(LONGEST).collect()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::Text(value.chars().take(LONGEST).collect()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::Number(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::Truth(value));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields { kind: KIND_INTERNAL, ..Fields::default() };
        attributes.record(&mut fields);
        if fields.unsampled {
            return;
        }
        let around = span.scope().skip(1).find_map(|parent| {
            let extensions = parent.extensions();
            let taken = extensions.get::<Taken>()?;
            Some((taken.trace, taken.span.span_id.clone()))
        });
        let (trace, parent) = match (fields.trace, around) {
            (Some(trace), _) => (trace, fields.parent.map(SpanId::to_vec).unwrap_or_default()),
            (None, Some(around)) => around,
            (None, None) => return,
        };
        let taken = Span {
            trace_id: trace.to_vec(),
            span_id: fields.span.unwrap_or_else(SpanId::generate).to_vec(),
            parent_span_id: parent,
            name: span.name().to_owned(),
            kind: fields.kind,
            start_time_unix_nano: now(),
            end_time_unix_nano: 0,
            attributes: fields.attributes,
            status: None,
        };
        span.extensions_mut().insert(Taken { span: taken, trace });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(taken) = span.extensions_mut().get_mut::<Taken>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            let room = MOST_ATTRIBUTES.saturating_sub(taken.span.attributes.len());
            taken.span.attributes.extend(fields.attributes.into_iter().take(room));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        let Some(span) = context.event_span(event) else { return };
        if let Some(taken) = span.extensions_mut().get_mut::<Taken>() {
            taken.span.status = Some(Status { code: STATUS_ERROR });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(mut taken) = span.extensions_mut().remove::<Taken>() else { return };
        taken.span.end_time_unix_nano = now();
        if self.queue.try_send(taken.span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SpanExport {
    /// Sends what comes until `stop`, and then what is left. A batch that the collector does not take is dropped: spans are
    /// worth no memory.
    pub async fn run(mut self, exporter: Exporter, resource: Resource, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut failing = false;
        loop {
            let gathered = tokio::select! {
                n = self.waiting.recv_many(&mut batch, BATCH) => n,
                () = stop.cancelled() => 0,
            };
            if gathered > 0 && !stop.is_cancelled() {
                // A moment for others to come along.
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = stop.cancelled() => {}
                }
            }
            while batch.len() < BATCH
                && let Ok(span) = self.waiting.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let spans = std::mem::take(&mut batch);
            let count = spans.len();
            let request = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: Some(resource.clone()),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(InstrumentationScope {
                            name: env!("CARGO_PKG_NAME").to_owned(),
                            version: env!("CARGO_PKG_VERSION").to_owned(),
                        }),
                        spans,
                    }],
                }],
            };
            match exporter.send("/v1/traces", &request).await {
                Ok(()) => failing = false,
                Err(error) => {
                    self.dropped.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
                    // Once for each outage: the program has other things to say.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "spans not sent, they are dropped until the collector answers");
                    }
                }
            }
        }
    }

    /// Spans that were dropped so far, shared with what runs.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Judge;
    use prost::Message as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::TraceContext;

    fn ended(work: impl FnOnce()) -> Vec<Span> {
        let (layer, mut export) = spans();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let mut all = Vec::new();
        while let Ok(span) = export.waiting.try_recv() {
            all.push(span);
        }
        all
    }

    #[test]
    fn spans_of_a_trace_hang_together() {
        let came = TraceContext::root(true);
        let own = came.child();
        let all = ended(|| {
            let span = tracing::info_span!(
                "request",
                otel.kind = "server",
                trace_id = %own.trace,
                span_id = %own.span,
                parent_id = %came.span,
                route = "/api/groups",
                status = tracing::field::Empty,
            );
            assert!(is_traced());
            let _entered = span.enter();
            tracing::info_span!("inner", count = 3).in_scope(|| tracing::error!("broken"));
            span.record("status", 500);
        });
        let [inner, outer] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((outer.trace_id.clone(), outer.span_id.clone()), (own.trace.to_vec(), own.span.to_vec()));
        assert_eq!((outer.parent_span_id.clone(), outer.kind), (came.span.to_vec(), KIND_SERVER));
        assert_eq!(
            outer.attributes,
            [KeyValue::text("route", "/api/groups"), KeyValue::number("status", 500)]
        );
        assert_eq!((&inner.trace_id, &inner.parent_span_id), (&outer.trace_id, &outer.span_id));
        assert_eq!((inner.status.clone(), outer.status.clone()), (Some(Status { code: STATUS_ERROR }), None));
        assert!(outer.start_time_unix_nano <= inner.start_time_unix_nano);
    }

    #[test]
    fn what_belongs_to_no_trace_is_not_taken() {
        let unsampled = ended(|| {
            let context = TraceContext::root(false);
            let span = tracing::info_span!("job", trace_id = %context.trace, otel.sampled = context.sampled);
            span.in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
        });
        assert_eq!(unsampled, []);
        assert_eq!(ended(|| tracing::info_span!("job", trace_id = "nonsense").in_scope(|| ())), []);
    }

    #[test]
    fn a_queue_that_is_full_holds_nobody_up() {
        let (layer, export) = spans();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let context = TraceContext::root(true);
            for _ in 0..QUEUE + 10 {
                tracing::info_span!("job", trace_id = %context.trace).in_scope(|| ());
            }
        });
        assert_eq!(export.dropped().load(Ordering::Relaxed), 10);
    }

    /// The messages of OpenTelemetry's own SDK read ours.
    #[test]
    fn a_collector_reads_what_is_written() {
        let context = TraceContext::root(true);
        let spans = ended(|| {
            tracing::info_span!("job", trace_id = %context.trace, job = "publisher").in_scope(|| ());
        });
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource::service("ground-control", "1.0", "a")),
                scope_spans: vec![ScopeSpans { scope: None, spans }],
            }],
        };
        let read = Judge::decode(request.encode_to_vec().as_slice()).unwrap();
        let sender = &read.resource_spans[0];
        assert_eq!(sender.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let span = &sender.scope_spans[0].spans[0];
        assert_eq!(
            (span.name.as_str(), span.kind, span.trace_id.clone()),
            ("job", 1, context.trace.to_vec())
        );
        assert_eq!(span.attributes[0].key, "job");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 1 << 60);
    }
}
