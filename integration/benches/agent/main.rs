//! What a node's agent costs and how fast it follows: `beelined` beside the real kube-proxy, in the same run, with a real API
//! server whose objects are simulated.

mod contender;
mod maps;
mod measure;
mod objects;
mod report;
mod rules;

use std::{fs, net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, builder::RangedI64ValueParser};
use integration::{
    ApiServer, Cluster,
    bench::{self, Output},
    callers,
    progress::Progress,
    sandbox,
};

use contender::{Beeline, KUBE_PROXY, KubeProxy};
use measure::{Effort, Lab};
use report::Report;

/// Measures, with a real API server and etcd, how long it takes from a request to the API server until the rule is in the
/// kernel, how much memory that takes, and how long it takes after a restart: beelined beside kube-proxy (nftables mode), each
/// on a node of its own, both of which see the same changes. Services have ten endpoints each, which are simulated.
#[derive(Debug, Parser)]
#[command(name = "hack/bench agent", max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    /// Services that are there while one changes, from few to many.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,1000,10000", value_parser = services())]
    services: Vec<u32>,

    /// Changes of each kind: services that come, and endpoints that are replaced.
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=200))]
    changes: u32,

    /// How often each is killed and started again.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    restarts: u32,

    #[command(flatten)]
    output: Output,
}

const AFTER_HELP: &str = "\
The same figures are left in target/bench/agent.json. It takes a quarter of an hour, most of which is pauses between changes:
kube-proxy writes once a second at most, and no change shall wait for the one before.";

/// So many have addresses of their own in the service prefix, and endpoints in the nodes' prefixes.
fn services() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=15_000)
}

fn main() -> ExitCode {
    bench::exit(run(Arguments::parse()))
}

fn run(mut arguments: Arguments) -> Result<()> {
    sandbox::enter()?;
    let load_before = load_average()?;
    let progress = Progress::new();
    progress.step("starting an API server");
    let cluster = Cluster::builder().nodes(1).without_agents().start()?;
    let address = Ipv4Addr::new(192, 168, 77, 30);
    let (_, dir) = sandbox::new_state_dir()?;
    let api = ApiServer::start(&cluster.outsider("api", address)?, address, &dir)?;
    let effort = Effort { changes: arguments.changes, restarts: arguments.restarts };
    arguments.services.sort_unstable();
    // From here on, this thread talks to the API server.
    api.machine().enter()?;
    let mut lab = lab(&cluster, &api)?;
    let sizes = arguments.services.iter();
    let measured: Vec<_> =
        sizes.map(|&services| lab.measure(services, effort, &progress)).collect::<Result<_>>()?;
    progress.done();
    let kube_proxy =
        report::KubeProxy { versions: versions(&cluster)?, configuration: lab.kube_proxy.configuration()? };
    arguments.output.tell("agent", &Report::new(&measured, kube_proxy, [load_before, load_average()?]))
}

/// A cluster with its nodes, and nothing else yet.
fn lab<'a>(cluster: &'a Cluster, api: &'a ApiServer) -> Result<Lab<'a>> {
    let admin = api.admin()?;
    let node = cluster.node(1)?;
    let (kube_proxy, address, pod_cidr) = KUBE_PROXY;
    let mut nodes = vec![
        objects::node(node.name(), node.address(), "10.244.1.0/24"),
        objects::node(kube_proxy, address, pod_cidr),
    ];
    nodes.extend(objects::nodes());
    admin.create(&nodes)?;
    Ok(Lab::new(admin, Beeline::new(cluster, api)?, KubeProxy::new(cluster, api)?))
}

/// Versions of kube-proxy and nft.
fn versions(cluster: &Cluster) -> Result<[String; 2]> {
    let kube = callers::kubernetes()?;
    let line = |text: String| text.trim().to_owned();
    let kube_proxy = cluster.node(1)?.exec(&format!("{} kube-proxy --version", kube.display()))?;
    Ok([line(kube_proxy).replace("Kubernetes", "kube-proxy"), line(cluster.node(1)?.exec("nft --version")?)])
}

/// The machine's load, over a minute.
fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read the load")?;
    text.split(' ').next().and_then(|load| load.parse().ok()).context("no load")
}
