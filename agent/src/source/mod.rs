//! Where desired state comes from. A source produces a [`Network`] and never touches the kernel.

mod balance;
pub(crate) mod file;
pub(crate) mod kubernetes;
mod values;

use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use lb_dataplane::status_file;
use tokio::sync::{mpsc, watch};

use crate::{
    cli::{self, SourceKind},
    health::Health,
    metrics::Metrics,
    model::Network,
};

/// What a source has to say: the network as it shall be from now on, or why that cannot be told (cause and cure).
pub(crate) type Update = Result<Told, String>;

/// The network as it shall be from now on.
pub(crate) struct Told {
    pub(crate) network: Network,
    /// What is wrong with the source, though this much is known.
    pub(crate) trouble: Option<String>,
    /// The changes that brought it about.
    pub(crate) causes: Vec<Cause>,
}

/// A change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    /// When this agent heard of it.
    pub(crate) heard: Instant,
    /// When it came about, if somebody noted it.
    pub(crate) triggered: Option<SystemTime>,
}

impl Cause {
    /// A change that was heard of now.
    pub(crate) fn now(triggered: Option<SystemTime>) -> Self {
        Self { heard: Instant::now(), triggered }
    }
}

/// Starts the source that `args` name: from now on it sends `updates`. Returns what it is.
pub(crate) async fn start(
    args: &cli::Run,
    metrics: &Metrics,
    health: &watch::Sender<Health>,
    updates: mpsc::Sender<Update>,
) -> Result<status_file::Source> {
    let named = args.file.node.clone();
    if args.source() != SourceKind::Kubernetes {
        let path = args.file.config().to_owned();
        tokio::spawn(file::run(path.clone(), named, updates));
        return Ok(status_file::Source::File { path });
    }
    let node = named
        .or_else(|| std::env::var("NODE_NAME").ok())
        .context("nobody says which of the cluster's nodes this is; start with --node or with NODE_NAME")?;
    let cluster = kubernetes::Cluster::find(&args.kubernetes, node).await?;
    let api_server = cluster.url().to_owned();
    tokio::spawn(kubernetes::report(cluster.client(), cluster.node().to_owned(), health.subscribe()));
    tokio::spawn(kubernetes::stand_in(health.subscribe()));
    tokio::spawn(kubernetes::run(cluster, metrics.clone(), updates));
    Ok(status_file::Source::Kubernetes { api_server })
}
