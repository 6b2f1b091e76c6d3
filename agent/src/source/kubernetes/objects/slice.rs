//! An endpoint slice: some of a service's endpoints of one family, and their ports.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::discovery::v1 as api;

use super::{Name, Names, Port, Problem, good, values};
use crate::source::balance::{Condition, Hints};

/// Names the service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// When the pods or the service changed that made the controller write the slice anew; kube-proxy measures from it.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// An `EndpointSlice`, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The service it belongs to.
    pub(crate) service: Name,
    /// Ports behind the service's, by name.
    pub(crate) ports: Box<[Port]>,
    /// Its endpoints.
    pub(crate) endpoints: Box<[Endpoint]>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its address.
    pub(crate) address: IpAddr,
    /// How far along it is.
    pub(crate) condition: Condition,
    /// The node that it is on.
    pub(crate) node: Option<Name>,
    /// Whom it is meant for, if it is not meant for all.
    pub(crate) hints: Option<Arc<Hints>>,
}

impl Slice {
    /// How many addresses of `slices` are ready on `node`.
    pub(crate) fn ready_on(slices: &[&Self], node: &str) -> usize {
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            endpoint.condition == Condition::Ready && endpoint.node.as_deref() == Some(node)
        });
        ready.map(|endpoint| endpoint.address).collect::<BTreeSet<_>>().len()
    }

    /// What is used of `object`; `None` if it belongs to no service, or holds no IP addresses.
    pub(crate) fn read(
        object: api::EndpointSlice,
        names: &mut Names,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let metadata = object.metadata;
        let service = metadata.labels.as_ref()?.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
        if object.address_type == "FQDN" {
            return None;
        }
        let service = format!("{}/{service}", metadata.namespace.as_deref().unwrap_or_default()).into();
        let ports = object.ports.unwrap_or_default().into_iter();
        Some(Self {
            service,
            // A port without a number stands for all of them, which no service port can lead to.
            ports: ports
                .filter_map(|port| {
                    let name = names.get(&port.name.unwrap_or_default());
                    good(Port::read(name, port.port?, port.protocol.as_deref()), problems)
                })
                .collect(),
            endpoints: object
                .endpoints
                .unwrap_or_default()
                .iter()
                .filter_map(|endpoint| good(read_endpoint(endpoint, names), problems)?)
                .collect(),
        })
    }

    /// When what `object` tells came about, if it says so.
    pub(crate) fn triggered(object: &api::EndpointSlice) -> Option<SystemTime> {
        let text = object.metadata.annotations.as_ref()?.get(TRIGGER_TIME)?;
        let time = humantime::parse_rfc3339(text).ok()?;
        // The controller writes it once for a change and keeps it: an old one is of another change.
        (time.elapsed().ok()? < Duration::from_mins(1)).then_some(time)
    }
}

/// `None` if it has no address (yet). Conditions as the API defines them: unknown means ready, and serving is like ready
/// for pods that terminate.
fn read_endpoint(endpoint: &api::Endpoint, names: &mut Names) -> Result<Option<Endpoint>, Problem> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let condition = match (ready, serving && terminating) {
        (true, _) => Condition::Ready,
        (false, true) => Condition::Ending,
        (false, false) => Condition::Unready,
    };
    // All addresses of an endpoint are the same one: the API tells consumers to take the first.
    let Some(address) = endpoint.addresses.first() else {
        return Ok(None);
    };
    let node = endpoint.node_name.as_deref().map(|node| names.get(node));
    Ok(Some(Endpoint { address: values::address(address)?, condition, node, hints: hints(endpoint, names) }))
}

fn hints(endpoint: &api::Endpoint, names: &mut Names) -> Option<Arc<Hints>> {
    let hints = endpoint.hints.as_ref()?;
    let zones = hints.for_zones.iter().flatten().map(|zone| names.get(&zone.name)).collect();
    let nodes = hints.for_nodes.iter().flatten().map(|node| names.get(&node.name)).collect();
    let hints = Hints { zones, nodes };
    (hints != Hints::default()).then(|| Arc::new(hints))
}
