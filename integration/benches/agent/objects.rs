//! The simulated cluster: nodes whose pods are nowhere, services with ten endpoints each, and what is changed of them. The
//! API server cannot tell them from real ones.

use std::net::Ipv4Addr;

use integration::api_server::{NODES, SERVICES, SLICES};
use serde_json::{Value, json};

/// Endpoints behind each service.
pub(crate) const ENDPOINTS: u32 = 10;
/// Nodes that the endpoints are spread over.
const NODES_BEHIND: u32 = 8;
/// Where a service is found, and its endpoints behind it.
pub(crate) const PORT: u16 = 80;
const TARGET: u16 = 8080;
/// Endpoints from here on are nobody's before something changes.
const SPARE: u32 = 200_000;

/// A node with the prefix of its pods.
pub(crate) fn node(name: &str, address: Ipv4Addr, pod_cidr: &str) -> (&'static str, Value) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "spec": { "podCIDR": pod_cidr, "podCIDRs": [pod_cidr] },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
    });
    (NODES, node)
}

/// The nodes that the endpoints are on.
pub(crate) fn nodes() -> impl Iterator<Item = (&'static str, Value)> {
    (0..NODES_BEHIND).map(|n| {
        let [.., last] = (100 + n).to_be_bytes();
        node(&node_name(n), Ipv4Addr::new(192, 168, 77, last), &format!("10.{}.0.0/16", 128 + n))
    })
}

fn node_name(n: u32) -> String {
    format!("simulated{n}")
}

/// An endpoint, by its number among all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint(u32);

impl Endpoint {
    /// One that no service has at first.
    pub(crate) fn spare(n: u32) -> Self {
        Self(SPARE + n)
    }

    fn address(self) -> Ipv4Addr {
        // No pod gets the first two addresses of a node's prefix.
        Ipv4Addr::from_bits(((0x0a80 + self.0 % NODES_BEHIND) << 16) + 2 + self.0 / NODES_BEHIND)
    }

    /// As nftables keeps it, in network byte order: the address and the port behind the service's, in words of 32 bits.
    pub(crate) fn in_rules(self) -> [u8; 8] {
        let ([a, b, c, d], [high, low]) = (self.address().octets(), TARGET.to_be_bytes());
        [a, b, c, d, high, low, 0, 0]
    }

    /// As the controller of endpoint slices writes it.
    fn object(self) -> Value {
        let name = format!("web-6f9c7d5b8d-{:05x}", self.0);
        json!({
            "addresses": [self.address()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": node_name(self.0 % NODES_BEHIND),
            "zone": "zone-a",
            "targetRef": {
                "kind": "Pod", "namespace": "default", "name": name,
                "uid": format!("5b1f1b1e-9d0c-4f5e-8a55-{:012x}", self.0),
            },
        })
    }
}

/// A service, by its number among all.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    n: u32,
    endpoints: Vec<Endpoint>,
}

impl Service {
    /// Service `n` as it is at first.
    pub(crate) fn new(n: u32) -> Self {
        Self { n, endpoints: (0..ENDPOINTS).map(|at| Endpoint(n * ENDPOINTS + at)).collect() }
    }

    /// Puts `endpoint` in the place of another, chosen by `turn`.
    pub(crate) fn replace(&mut self, turn: u32, endpoint: Endpoint) {
        self.endpoints[(turn % ENDPOINTS) as usize] = endpoint;
    }

    pub(crate) fn name(&self) -> String {
        format!("service-{}", self.n)
    }

    pub(crate) fn vip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a60_0100 + self.n)
    }

    /// Its last endpoint.
    pub(crate) fn last(&self) -> Option<Endpoint> {
        self.endpoints.last().copied()
    }

    /// Where it is, and where its slice is.
    pub(crate) fn paths(&self) -> [String; 2] {
        [format!("{SERVICES}/{}", self.name()), format!("{SLICES}/{}", self.name())]
    }

    /// It, to be created.
    pub(crate) fn object(&self) -> (&'static str, Value) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": self.name(), "labels": { "app": "web" } },
            "spec": {
                "clusterIP": self.vip(), "selector": { "app": "web", "service": self.name() },
                "ports": [{ "name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET }],
            },
        });
        (SERVICES, service)
    }

    /// Its slice, to be created.
    pub(crate) fn slice(&self) -> (&'static str, Value) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": self.name(), "labels": {
                "app": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": self.name(),
            } },
            "ports": [{ "name": "http", "protocol": "TCP", "port": TARGET }],
            "endpoints": self.endpoints_object(),
        });
        (SLICES, slice)
    }

    /// What to change of its slice, so that it has the endpoints that it has now.
    pub(crate) fn patch(&self) -> Value {
        json!({ "endpoints": self.endpoints_object() })
    }

    fn endpoints_object(&self) -> Value {
        self.endpoints.iter().map(|endpoint| endpoint.object()).collect()
    }
}
