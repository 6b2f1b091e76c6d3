//! The Kubernetes source: nodes, services and endpoint slices, listed once and watched from then on.
//!
//! Nothing is told before all lists are complete, and the last state that was told stays when the API server is gone:
//! an agent that starts without it leaves the maps as it finds them.

mod client;
mod connection;
mod health_checks;
mod nodes;
mod objects;
mod prefixes;
mod problems;
mod report;
mod services;
mod stand_in;
mod state;
mod store;
mod watch;

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use futures_util::StreamExt;
use kube::{Client, runtime::watcher::Event};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::{
    connection::Connection,
    health_checks::HealthChecks,
    objects::Slice,
    problems::{Kind, Problems},
    state::State,
    watch::News,
};
use super::{Cause, Told, Update};
use crate::{cli, metrics::Metrics};

pub(crate) use report::run as report;
pub(crate) use stand_in::serve as stand_in;

/// How long to wait for what comes with a change: a service and its slices are written one after the other.
const SETTLE: Duration = Duration::from_millis(4);
/// Causes that are remembered for measuring: a list may bring 10,000s of changes at once.
const CAUSES: usize = 1_024;

/// A cluster, as one of its nodes sees it.
pub(crate) struct Cluster {
    client: Client,
    url: String,
    node: String,
}

impl Cluster {
    /// Finds out how to reach the API server; it need not be there.
    pub(crate) async fn find(args: &cli::Kubernetes, node: String) -> Result<Self> {
        let (client, url) = client::connect(args).await?;
        Ok(Self { client, url, node })
    }

    /// Where the API server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// For what is told to the API server.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Sends what the cluster wants, now and whenever it wants something else, until nobody listens.
pub(crate) async fn run(cluster: Cluster, metrics: Metrics, updates: mpsc::Sender<Update>) {
    let mut news = pin!(watch::all(&cluster.client));
    let mut watcher = Watcher {
        state: State::new(cluster.node, Problems::new(metrics.clone())),
        connection: Connection::new(cluster.url),
        metrics,
        health_checks: HealthChecks::default(),
        due: None,
        causes: vec![],
    };
    let mut clock = interval(connection::ASK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // While an update waits to be taken, more changes may join the next one.
        let due = watcher.due;
        let room = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
            updates.reserve().await
        };
        tokio::select! {
            room = room => match room {
                Ok(room) => room.send(watcher.update()),
                Err(_) => return,
            },
            Some(news) = news.next() => watcher.take(news),
            _ = clock.tick(), if watcher.connection.is_silent() => {
                if watcher.connection.ask(&cluster.client).await {
                    watcher.recovered();
                }
            }
        }
    }
}

/// What the loop works on.
struct Watcher {
    state: State,
    connection: Connection,
    metrics: Metrics,
    health_checks: HealthChecks,
    /// When there is something to be told.
    due: Option<Instant>,
    /// The changes since something was last told.
    causes: Vec<Cause>,
}

impl Watcher {
    fn take(&mut self, news: News) {
        let before = (self.state.is_complete(), self.state.changes());
        let (kind, cause) = match news {
            News::Node(event) => {
                let cause = cause(&event, |_| None);
                self.state.node(event);
                (Kind::Node, cause)
            }
            News::Service(event) => {
                let cause = cause(&event, |_| None);
                self.state.service(event);
                (Kind::Service, cause)
            }
            News::Slice(event) => {
                let cause = cause(&event, Slice::triggered);
                self.state.slice(event);
                (Kind::EndpointSlice, cause)
            }
            News::Failed(kind, error) => return self.failed(kind, error),
        };
        if self.connection.works(kind) {
            self.recovered();
        }
        if !self.state.is_complete() || before == (true, self.state.changes()) {
            return;
        }
        self.due.get_or_insert_with(|| Instant::now() + SETTLE);
        if self.causes.len() < CAUSES {
            self.causes.extend(cause);
        }
    }

    fn failed(&mut self, kind: Kind, error: kube::runtime::watcher::Error) {
        self.metrics.watch_error(kind.name());
        tracing::debug!(kind = kind.name(), %error, "watch");
        if self.connection.failed(kind, error) {
            self.due.get_or_insert_with(Instant::now);
        }
    }

    /// The trouble is over.
    fn recovered(&mut self) {
        tracing::info!("the API server can be heard again");
        if self.state.is_complete() {
            self.due.get_or_insert_with(Instant::now);
        }
    }

    /// What there is to say now.
    fn update(&mut self) -> Update {
        self.due = None;
        let trouble = self.connection.trouble();
        self.metrics.source_up(trouble.is_none());
        if !self.state.is_complete() {
            return Err(trouble.unwrap_or_else(|| "the API server has not told all yet".to_owned()));
        }
        let network = self.state.network()?;
        self.health_checks.set(self.state.health_checks());
        Ok(Told { network, trouble, causes: std::mem::take(&mut self.causes) })
    }
}

/// The change that `event` tells. Lists are none: nobody knows when what they tell came about.
fn cause<K>(event: &Event<K>, triggered: impl Fn(&K) -> Option<SystemTime>) -> Option<Cause> {
    match event {
        Event::Apply(object) => Some(Cause::now(triggered(object))),
        Event::Delete(_) => Some(Cause::now(None)),
        Event::Init | Event::InitApply(_) | Event::InitDone => None,
    }
}

#[cfg(test)]
mod tests;
