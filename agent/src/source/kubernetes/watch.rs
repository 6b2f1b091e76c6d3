//! The streams of objects: what is listed and watched, and how patiently.

use std::{fmt::Debug, time::Duration};

use backon::ExponentialBuilder;
use futures_util::{Stream, StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        utils::ResetTimerBackoff,
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::problems::Kind;

/// How long one watch lasts before it is begun anew where it ended.
pub(super) const WATCH: Duration = Duration::from_mins(2);
/// Objects in one page of a list: what is not yet trimmed is held in memory.
const PAGE: u32 = 250;
/// How long to wait after a failure: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Services that another proxy has been asked to care for, and their slices.
const NOT_OURS: &str = "service.kubernetes.io/service-proxy-name";
/// Slices and services without an address of their own.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What comes from the API server.
#[allow(clippy::large_enum_variant, reason = "only one of them is under way at a time")]
pub(super) enum News {
    Node(Event<Node>),
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    /// Objects of a kind cannot be had at the moment; it is tried again.
    Failed(Kind, watcher::Error),
}

/// All objects that matter, and every change of them. It never ends.
pub(super) fn all(client: &Client) -> impl Stream<Item = News> + Send + use<> {
    let timeout = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    let config = watcher::Config::default().page_size(PAGE).timeout(timeout);
    let services = config.clone().labels(&format!("!{NOT_OURS},!{HEADLESS}"));
    stream::select(
        one(client, config, Kind::Node, News::Node),
        stream::select(
            one(client, services.clone(), Kind::Service, News::Service),
            one(client, services, Kind::EndpointSlice, News::Slice),
        ),
    )
}

/// The objects of one kind.
fn one<K>(
    client: &Client,
    config: watcher::Config,
    kind: Kind,
    news: fn(Event<K>) -> News,
) -> impl Stream<Item = News> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let [min, max] = BACK_OFF;
    let delays = ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .with_jitter()
        .without_max_times();
    let back_off = ResetTimerBackoff::new(ExponentialBackoff::from(delays), WATCH);
    watcher(Api::<K>::all(client.clone()), config)
        .backoff(back_off)
        .map(move |event| event.map_or_else(|error| News::Failed(kind, error), news))
        .boxed()
}
