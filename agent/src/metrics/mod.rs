//! Metrics for Prometheus: what the agent counts and measures itself, and what it reads from the maps when asked.

mod counters;
mod server;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use lb_dataplane::{Pins, status_file::Counts};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use crate::source::Cause;

pub(crate) use server::serve;

/// All that is measured. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    peers: Gauge,
    services: Gauge,
    frontends: Gauge,
    backends: Gauge,
    passes: Family<Outcome, Counter>,
    pass_duration: Histogram,
    programming: Histogram,
    programming_since_trigger: Histogram,
    rejected: Family<Rejected, Gauge>,
    watch_errors: Family<Kind, Counter>,
    source_up: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Metrics {
    /// Nothing is counted yet. Counters of the programs are read from the maps in `pins`.
    pub(crate) fn new(pins: &Path) -> Self {
        let mut registry = Registry::with_prefix("beeline");
        let r = &mut registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("agent", "The agent", version);
        r.register_collector(Box::new(counters::Counters::new(Pins::new(pins.to_owned()))));
        // From a millisecond to half a minute.
        let durations = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let inner = Inner {
            peers: metric(r, "peers", "Other nodes, as applied", Gauge::default()),
            services: metric(r, "services", "Services, as applied", Gauge::default()),
            frontends: metric(r, "frontends", "Frontends over all services, as applied", Gauge::default()),
            backends: metric(r, "backends", "Backends over all services, as applied", Gauge::default()),
            passes: metric(r, "passes", "Passes of the reconciler, by how they ended", Family::default()),
            pass_duration: metric(
                r,
                "pass_duration_seconds",
                "Time that a pass of the reconciler took that had something to do",
                durations(),
            ),
            programming: metric(
                r,
                "network_programming_duration_seconds",
                "Time from hearing of a change (from the API server, or of the file) until the maps say so",
                durations(),
            ),
            programming_since_trigger: metric(
                r,
                "network_programming_since_trigger_seconds",
                "Time from the change of a pod or service that the controllers noted until the maps say so",
                durations(),
            ),
            rejected: metric(
                r,
                "rejected",
                "Parts of objects that are left out because they make no sense, by kind and reason; the log says which",
                Family::default(),
            ),
            watch_errors: metric(
                r,
                "kubernetes_watch_errors",
                "Failures to list or watch objects, by kind",
                Family::default(),
            ),
            source_up: metric(
                r,
                "source_up",
                "1 if the source of the configuration can be read",
                Gauge::default(),
            ),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// A pass ended well, and had something to do.
    pub(crate) fn applied(&self, counts: &Counts, took: Duration) {
        let inner = &*self.0;
        for (gauge, count) in [
            (&inner.peers, counts.peers),
            (&inner.services, counts.services),
            (&inner.frontends, counts.frontends),
            (&inner.backends, counts.backends),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        inner.pass_duration.observe(took.as_secs_f64());
    }

    /// What `causes` brought about is in the maps now.
    pub(crate) fn programmed(&self, causes: &[Cause]) {
        let inner = &*self.0;
        for cause in causes {
            inner.programming.observe(cause.heard.elapsed().as_secs_f64());
            if let Some(elapsed) = cause.triggered.and_then(|triggered| triggered.elapsed().ok()) {
                inner.programming_since_trigger.observe(elapsed.as_secs_f64());
            }
        }
    }

    /// A pass ended.
    pub(crate) fn passed(&self, good: bool) {
        let outcome = if good { "good" } else { "failed" };
        self.0.passes.get_or_create(&Outcome { outcome }).inc();
    }

    /// So many parts more (or less) of objects of `kind` are left out for `reason`.
    pub(crate) fn rejected(&self, kind: &'static str, reason: &'static str, more: i64) {
        self.0.rejected.get_or_create(&Rejected { kind, reason }).inc_by(more);
    }

    /// Objects of `kind` could not be listed or watched.
    pub(crate) fn watch_error(&self, kind: &'static str) {
        self.0.watch_errors.get_or_create(&Kind { kind }).inc();
    }

    /// Whether the source can be read.
    pub(crate) fn source_up(&self, up: bool) {
        self.0.source_up.set(up.into());
    }

    /// All of it, in the text format of `OpenMetrics`.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// Registers `metric`, and returns it.
fn metric<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}
