//! The figures: of each size the time until a change is in the kernel, the time after a restart, and memory.

use std::fmt;

use integration::bench::{Row, percentile};
use serde::Serialize;
use serde_json::Value;

use crate::{contender::Memory, measure::Measured, objects::ENDPOINTS};

/// All figures of a run. Of each pair, the first is Beeline's and the second kube-proxy's; ratios below 1 are in Beeline's
/// favour.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    contenders: [&'static str; 2],
    endpoints_per_service: u32,
    sizes: Vec<Size>,
    /// What kube-proxy was.
    kube_proxy: KubeProxy,
    /// Of the machine, over a minute: at the start, and at the end.
    load_average: [f64; 2],
}

/// What kube-proxy was.
#[derive(Debug, Serialize)]
pub(crate) struct KubeProxy {
    /// Versions of it and of the `nft` that it runs.
    pub(crate) versions: [String; 2],
    /// What it says of its own configuration.
    pub(crate) configuration: Value,
}

#[derive(Debug, Serialize)]
struct Size {
    services: u32,
    changes: [Row; 2],
    /// From the start of the process until the last change is in the kernel.
    restart: Row,
    /// MiB.
    memory: [Memory; 2],
    /// The API server's own part in the change of an endpoint.
    request_p50_ms: f64,
    /// What the agent says of itself: from hearing of a change until the maps say so, on average.
    own_mean_ms: f64,
}

impl Report {
    pub(crate) fn new(measured: &[Measured], kube_proxy: KubeProxy, load_average: [f64; 2]) -> Self {
        Self {
            contenders: ["beelined", "kube-proxy"],
            endpoints_per_service: ENDPOINTS,
            sizes: measured.iter().map(Size::new).collect(),
            kube_proxy,
            load_average,
        }
    }
}

impl Size {
    fn new(measured: &Measured) -> Self {
        Self {
            services: measured.services,
            changes: [
                Row::new("a service comes", &measured.new_service),
                Row::new("one endpoint changes", &measured.endpoint),
            ],
            restart: Row::new("restart", &measured.restart),
            memory: measured.memory,
            request_p50_ms: percentile(&measured.request, 50),
            own_mean_ms: measured.own_mean.as_secs_f64() * 1e3,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, other] = self.contenders;
        for size in &self.sizes {
            let (services, endpoints) = (size.services, size.services * self.endpoints_per_service);
            writeln!(f, "{services} services, {endpoints} endpoints")?;
            writeln!(f, "  {:29}  {ours:^17}  {other:^17}  {:^13}", "", "ratio")?;
            writeln!(
                f,
                "  {:29}  {:>8} {:>8}  {:>8} {:>8}  {:>6} {:>6}",
                "milliseconds", "p50", "p99", "p50", "p99", "p50", "p99"
            )?;
            size.changes.iter().chain([&size.restart]).try_for_each(|row| write_row(row, f))?;
            let [ours, other] = size.memory;
            for (what, of) in [
                ("RSS, MiB", (|memory| memory.rss) as fn(Memory) -> f64),
                ("  of which anonymous", |memory| memory.anonymous),
                ("  at most, since the start", |memory| memory.peak),
            ] {
                let (ours, other) = (of(ours), of(other));
                writeln!(f, "  {what:29}  {ours:17.1}  {other:17.1}  {:13.2}", ours / other)?;
            }
            writeln!(
                f,
                "  (the API server's answer to an endpoint's change: {:.1} ms; beelined's own mean: {:.1} ms)\n",
                size.request_p50_ms, size.own_mean_ms
            )?;
        }
        let KubeProxy { versions: [version, nft], configuration } = &self.kube_proxy;
        let [before, after] = self.load_average;
        writeln!(
            f,
            "From just before the (last) request to the API server until the rule is in the kernel; restart: from the start\n\
             of the process until a service is served that came meanwhile. {version} with {nft}, mode\n\
             nftables, defaults: {configuration}.\n\
             Load average {before} at the start, {after} at the end."
        )
    }
}

fn write_row(row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Row { what, samples, p50_ms: [p50, other_p50], p99_ms: [p99, other_p99], p50_ratio, p99_ratio } = row;
    let what = format!("{what} (n = {samples})");
    writeln!(
        f,
        "  {what:29}  {p50:8.1} {p99:8.1}  {other_p50:8.1} {other_p99:8.1}  {p50_ratio:6.3} {p99_ratio:6.3}"
    )
}
