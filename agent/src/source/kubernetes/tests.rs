//! From objects as the API server writes them to the network that they make, event by event.

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::runtime::watcher::Event;
use lb_dataplane::desired::{
    self, Affinity, BackendState, DEFAULT_AFFINITY_TIMEOUT, DEFAULT_FLOW_TTL, WithoutBackends,
};
use serde_json::{Value, json};

mod policies;
mod room;

use super::{health_checks::HealthCheck, problems::Problems, state::State};
use crate::{metrics::Metrics, model::Network};

/// A cluster whose objects a test sends.
struct Cluster {
    state: State,
    metrics: Metrics,
}

fn node(name: &str, address: &str, pod_cidr: &str) -> Value {
    json!({
        "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "podCIDR": pod_cidr, "podCIDRs": [pod_cidr, "fd00:10:244:1::/64"] },
        "status": { "addresses": [
            { "type": "Hostname", "address": name },
            { "type": "ExternalIP", "address": "203.0.113.9" },
            { "type": "InternalIP", "address": address },
        ] },
    })
}

fn service(name: &str, vip: &str, ports: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "type": "ClusterIP", "clusterIP": vip, "clusterIPs": [vip], "ports": ports },
    })
}

fn slice(name: &str, service: &str, ports: &Value, endpoints: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

fn http() -> Value {
    json!([{ "name": "http", "port": 80, "targetPort": 8080 }])
}

/// Two nodes and `default/echo`, at 10.96.0.10:80 with the endpoint 10.244.1.5:8080.
fn cluster() -> Cluster {
    let metrics = Metrics::new("/nonexistent".as_ref());
    let problems = Problems::new(metrics.clone());
    let mut cluster = Cluster { state: State::new("node1".into(), problems), metrics };
    cluster.list_nodes(&[
        node("node1", "192.0.2.1", "10.244.1.0/24"),
        node("node2", "192.0.2.2", "10.244.2.0/24"),
    ]);
    cluster.list_services(&[service("echo", "10.96.0.10", &http())]);
    let ports = json!([{ "name": "http", "port": 8080 }]);
    cluster.list_slices(&[slice("echo-1", "echo", &ports, &json!([{ "addresses": ["10.244.1.5"] }]))]);
    cluster
}

fn told(backend: &desired::Backend) -> String {
    match backend.state {
        BackendState::Ready => backend.to_string(),
        BackendState::Draining => format!("({backend})"),
    }
}

fn read<K: serde::de::DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap()
}

impl Cluster {
    fn list_nodes(&mut self, nodes: &[Value]) {
        self.state.node(Event::Init);
        for node in nodes {
            self.state.node(Event::InitApply(read(node)));
        }
        self.state.node(Event::InitDone);
    }

    fn list_services(&mut self, services: &[Value]) {
        self.state.service(Event::Init);
        for service in services {
            self.state.service(Event::InitApply(read(service)));
        }
        self.state.service(Event::InitDone);
    }

    fn list_slices(&mut self, slices: &[Value]) {
        self.state.slice(Event::Init);
        for slice in slices {
            self.state.slice(Event::InitApply(read(slice)));
        }
        self.state.slice(Event::InitDone);
    }

    fn apply_node(&mut self, object: &Value) {
        self.state.node(Event::Apply(read::<Node>(object)));
    }

    fn apply_service(&mut self, object: &Value) {
        self.state.service(Event::Apply(read::<Service>(object)));
    }

    fn delete_service(&mut self, object: &Value) {
        self.state.service(Event::Delete(read::<Service>(object)));
    }

    fn apply_slice(&mut self, object: &Value) {
        self.state.slice(Event::Apply(read::<EndpointSlice>(object)));
    }

    fn delete_slice(&mut self, object: &Value) {
        self.state.slice(Event::Delete(read::<EndpointSlice>(object)));
    }

    fn network(&mut self) -> Network {
        self.state.network().unwrap()
    }

    /// Each health check as `port service endpoints`.
    fn health_checks(&mut self) -> Vec<String> {
        self.network();
        let line =
            |(port, check): (_, &HealthCheck)| format!("{port} {} {}", check.service, check.local_endpoints);
        self.state.health_checks().map(line).collect()
    }

    /// Each service as `name frontends -> backends`, those that only keep their flows in brackets; `-x` if it drops what it
    /// has no backend for.
    fn services(&mut self) -> Vec<String> {
        let line = |service: &desired::Service| {
            let frontends: Vec<_> = service.all_frontends().map(ToString::to_string).collect();
            let backends: Vec<_> = service.backends.iter().map(told).collect();
            let without = if service.without_backends == WithoutBackends::Drop { "-x" } else { "->" };
            format!("{} {} {without} {}", service.name, frontends.join(" "), backends.join(" "))
                .trim_end()
                .to_owned()
        };
        self.network().services.iter().map(|service| line(service)).collect()
    }

    /// How many parts of objects are left out for `reason`.
    fn rejected(&self, kind: &str, reason: &str) -> u32 {
        let text = self.metrics.text().unwrap();
        let name = format!("beeline_rejected{{kind=\"{kind}\",reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }
}

const ECHO: &str = "default/echo:http 10.96.0.10:80/tcp -> 10.244.1.5:8080";

#[test]
fn nodes_services_and_slices_make_a_network() {
    let mut cluster = cluster();
    let network = cluster.network();
    assert_eq!(network.node.name, "node1");
    assert_eq!(network.node.address.to_string(), "192.0.2.1");
    assert!(network.node.pod_cidrs.contains(&"10.244.1.0/24".parse().unwrap()));
    let [peer] = &network.peers[..] else { panic!("one peer") };
    assert_eq!((peer.name.as_str(), peer.address.to_string().as_str()), ("node2", "192.0.2.2"));
    assert_eq!(cluster.services(), [ECHO]);
    let [echo] = &network.services[..] else { panic!("one service") };
    assert_eq!((echo.affinity, echo.flow_ttl, echo.dsr), (Affinity::None, DEFAULT_FLOW_TTL, true));
}

#[test]
fn nothing_is_whole_before_every_list_is() {
    let metrics = Metrics::new("/nonexistent".as_ref());
    let mut state = State::new("node1".into(), Problems::new(metrics));
    state.node(Event::Init);
    state.node(Event::InitDone);
    state.service(Event::Init);
    state.service(Event::InitDone);
    state.slice(Event::Init);
    assert!(!state.is_complete());
    state.slice(Event::InitDone);
    assert!(state.is_complete());
}

#[test]
fn a_list_that_is_read_again_takes_nothing_away_before_its_end() {
    let mut cluster = cluster();
    let before = cluster.network();
    cluster.state.slice(Event::Init);
    assert_eq!(cluster.network(), before);
    let ports = json!([{ "name": "http", "port": 8080 }]);
    let other = slice("echo-2", "echo", &ports, &json!([{ "addresses": ["10.244.2.7"] }]));
    cluster.state.slice(Event::InitApply(read(&other)));
    assert_eq!(cluster.services(), [format!("{ECHO} 10.244.2.7:8080")]);
    cluster.state.slice(Event::InitDone);
    assert_eq!(cluster.services(), ["default/echo:http 10.96.0.10:80/tcp -> 10.244.2.7:8080"]);
}

#[test]
fn what_did_not_change_stays_the_very_same() {
    let mut cluster = cluster();
    let other = service("other", "10.96.0.11", &json!([{ "port": 53, "protocol": "UDP" }]));
    cluster.apply_service(&other);
    let before = cluster.network();
    let changes = cluster.state.changes();
    cluster.apply_service(&other);
    cluster.apply_node(&node("node2", "192.0.2.2", "10.244.2.0/24"));
    assert_eq!(cluster.state.changes(), changes, "nothing to do");

    cluster.apply_slice(&slice("echo-1", "echo", &json!([]), &json!([])));
    let after = cluster.network();
    assert!(!std::sync::Arc::ptr_eq(&before.services[0], &after.services[0]));
    assert!(std::sync::Arc::ptr_eq(&before.services[1], &after.services[1]));
}

#[test]
fn several_slices_add_up_and_an_endpoint_in_two_of_them_is_one() {
    let mut cluster = cluster();
    let ports = json!([{ "name": "http", "port": 8080 }]);
    let endpoints = json!([{ "addresses": ["10.244.2.7"] }, { "addresses": ["10.244.1.5"] }]);
    let second = slice("echo-2", "echo", &ports, &endpoints);
    cluster.apply_slice(&second);
    assert_eq!(cluster.services(), [format!("{ECHO} 10.244.2.7:8080")]);
    cluster.delete_slice(&second);
    assert_eq!(cluster.services(), [ECHO]);
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut cluster = cluster();
    cluster.apply_service(&service("other", "10.96.0.11", &http()));
    let ports = json!([{ "name": "http", "port": 8080 }]);
    cluster.apply_slice(&slice("echo-1", "other", &ports, &json!([{ "addresses": ["10.244.1.5"] }])));
    assert_eq!(
        cluster.services(),
        ["default/echo:http 10.96.0.10:80/tcp ->", "default/other:http 10.96.0.11:80/tcp -> 10.244.1.5:8080"]
    );
}

#[test]
fn ports_are_matched_by_name_and_protocol_and_may_differ_between_slices() {
    let mut cluster = cluster();
    let ports = json!([
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
    ]);
    cluster.apply_service(&service("echo", "10.96.0.10", &ports));
    for (name, port, address) in [("echo-1", 5353, "10.244.1.5"), ("echo-2", 53, "10.244.2.7")] {
        let ports = json!([
            { "name": "dns", "port": port, "protocol": "UDP" },
            { "name": "dns-tcp", "port": port, "protocol": "TCP" },
            { "name": "any" },
        ]);
        cluster.apply_slice(&slice(name, "echo", &ports, &json!([{ "addresses": [address] }])));
    }
    let backends = "-> 10.244.1.5:5353 10.244.2.7:53";
    assert_eq!(
        cluster.services(),
        [
            format!("default/echo:dns 10.96.0.10:53/udp {backends}"),
            format!("default/echo:dns-tcp 10.96.0.10:53/tcp {backends}"),
        ]
    );
}

#[test]
fn only_ready_endpoints_are_asked_and_those_that_end_if_no_other_is_left() {
    let endpoint = |address: &str, ready, serving, terminating| {
        let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
        json!({ "addresses": [address], "conditions": conditions })
    };
    let starting = endpoint("10.244.1.1", false, false, false);
    let ready = endpoint("10.244.1.2", true, true, false);
    let ending = endpoint("10.244.1.3", false, true, true);
    let ended = endpoint("10.244.1.4", false, false, true);
    let unknown = json!({ "addresses": ["10.244.1.5"], "conditions": {} });
    let mut cluster = cluster();
    let ports = json!([{ "name": "http", "port": 8080 }]);
    for (endpoints, expected) in [
        (
            json!([starting, ready, ending, ended, unknown]),
            " (10.244.1.1:8080) 10.244.1.2:8080 (10.244.1.3:8080) (10.244.1.4:8080) 10.244.1.5:8080",
        ),
        (json!([starting, ending, ended]), " (10.244.1.1:8080) 10.244.1.3:8080 (10.244.1.4:8080)"),
        (json!([starting, ended]), " (10.244.1.1:8080) (10.244.1.4:8080)"),
    ] {
        cluster.apply_slice(&slice("echo-1", "echo", &ports, &endpoints));
        assert_eq!(cluster.services(), [format!("default/echo:http 10.96.0.10:80/tcp ->{expected}")]);
    }
}

#[test]
fn headless_services_and_external_names_are_nobodys_frontends() {
    let mut cluster = cluster();
    cluster.apply_service(&service("echo", "None", &http()));
    assert!(cluster.services().is_empty());
    let mut external = service("echo", "10.96.0.10", &http());
    cluster.apply_service(&external);
    assert_eq!(cluster.services(), [ECHO], "the slices were kept");
    external["spec"]["type"] = "ExternalName".into();
    cluster.apply_service(&external);
    assert!(cluster.services().is_empty());
}

#[test]
fn affinity_and_annotations_are_read() {
    let mut cluster = cluster();
    let mut object = service("echo", "10.96.0.10", &http());
    object["spec"]["sessionAffinity"] = "ClientIP".into();
    object["metadata"]["annotations"] = json!({ "beeline/dsr": "false", "beeline/flow-ttl": "5m" });
    cluster.apply_service(&object);
    let network = cluster.network();
    let echo = &network.services[0];
    assert_eq!(
        (echo.affinity, echo.flow_ttl.as_secs(), echo.dsr),
        (Affinity::ClientIp { timeout: DEFAULT_AFFINITY_TIMEOUT }, 300, false)
    );

    object["metadata"]["annotations"] = json!({ "beeline/dsr": "no", "beeline/flow-ttl": "5" });
    cluster.apply_service(&object);
    let network = cluster.network();
    let echo = &network.services[0];
    assert_eq!((echo.flow_ttl, echo.dsr), (DEFAULT_FLOW_TTL, true));
    assert_eq!(cluster.rejected("Service", "annotation"), 2);
}

#[test]
fn a_bad_part_is_left_out_and_counted_and_disturbs_nothing_else() {
    let mut cluster = cluster();
    let ports = json!([
        { "name": "http", "port": 80 }, { "name": "zero", "port": 0 }, { "name": "many", "port": 65_536 },
        { "name": "other", "port": 90, "protocol": "ICMP" },
    ]);
    cluster.apply_service(&service("echo", "10.96.0.10", &ports));
    let endpoints = json!([
        { "addresses": ["10.244.1.5"] }, { "addresses": ["10.244.1.500"] }, { "addresses": ["127.0.0.1"] },
        { "addresses": ["0.0.0.0"] }, { "addresses": ["224.0.0.1"] }, { "addresses": ["255.255.255.255"] },
        { "addresses": [] },
    ]);
    let ports = json!([{ "name": "http", "port": 8080 }, { "name": "zero", "port": 0 }]);
    cluster.apply_slice(&slice("echo-1", "echo", &ports, &endpoints));
    assert_eq!(cluster.services(), [ECHO]);
    assert_eq!(cluster.rejected("Service", "port"), 2);
    assert_eq!(cluster.rejected("Service", "protocol"), 1);
    assert_eq!(cluster.rejected("EndpointSlice", "address"), 5);
    assert_eq!(cluster.rejected("EndpointSlice", "port"), 1);

    cluster.apply_service(&service("bad", "10.96.0", &http()));
    assert_eq!(cluster.rejected("Service", "address"), 1);
    assert_eq!(cluster.services(), [ECHO]);

    cluster.list_services(&[service("echo", "10.96.0.10", &http())]);
    cluster.list_slices(&[]);
    for (kind, reason) in
        [("Service", "port"), ("Service", "address"), ("EndpointSlice", "address"), ("EndpointSlice", "port")]
    {
        assert_eq!(cluster.rejected(kind, reason), 0, "{kind} {reason}: all is well again");
    }
}

#[test]
fn a_frontend_is_the_older_services_and_the_younger_gets_it_when_that_goes() {
    let mut cluster = cluster();
    let mut younger = service("younger", "10.96.0.10", &http());
    younger["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
    cluster.apply_service(&younger);
    assert_eq!(cluster.services(), [ECHO]);
    assert_eq!(cluster.rejected("Service", "taken"), 1);

    let mut older = service("older", "10.96.0.10", &http());
    older["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
    cluster.apply_service(&older);
    assert_eq!(cluster.services(), ["default/older:http 10.96.0.10:80/tcp ->"]);
    assert_eq!(cluster.rejected("Service", "taken"), 2);

    cluster.delete_service(&older);
    assert_eq!(cluster.services(), [ECHO]);
    cluster.apply_service(&service("echo", "10.96.0.12", &http()));
    assert_eq!(
        cluster.services(),
        [
            "default/echo:http 10.96.0.12:80/tcp -> 10.244.1.5:8080",
            "default/younger:http 10.96.0.10:80/tcp ->"
        ]
    );
    assert_eq!(cluster.rejected("Service", "taken"), 0);

    let twice = json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 80 }]);
    cluster.apply_service(&service("echo", "10.96.0.12", &twice));
    assert_eq!(cluster.services().len(), 2, "the second one has no frontend left");
    assert_eq!(cluster.rejected("Service", "taken"), 1);
}

#[test]
fn no_vip_may_be_a_nodes_or_a_pods() {
    let mut cluster = cluster();
    for vip in ["192.0.2.2", "10.244.2.9"] {
        cluster.apply_service(&service("bad", vip, &http()));
        assert_eq!(cluster.services(), [ECHO], "{vip}");
        assert_eq!(cluster.rejected("Service", "taken"), 1);
    }
    cluster.list_nodes(&[node("node1", "192.0.2.1", "10.244.1.0/24")]);
    assert_eq!(cluster.services().len(), 2, "the node that stood in the way is gone");
    assert_eq!(cluster.rejected("Service", "taken"), 0);
}

#[test]
fn nodes_come_change_and_go() {
    let mut cluster = cluster();
    cluster.apply_node(&node("node3", "192.0.2.3", "10.244.3.0/24"));
    cluster.apply_node(&node("node2", "192.0.2.22", "10.244.2.0/24"));
    let peers = |network: Network| -> Vec<_> {
        network.peers.iter().map(|peer| format!("{} {}", peer.name, peer.address)).collect()
    };
    assert_eq!(peers(cluster.network()), ["node2 192.0.2.22", "node3 192.0.2.3"]);
    cluster.list_nodes(&[node("node1", "192.0.2.1", "10.244.1.0/24")]);
    assert_eq!(peers(cluster.network()), Vec::<String>::new());

    let mut joining = node("node4", "192.0.2.4", "10.244.4.0/24");
    joining["spec"] = json!({});
    cluster.apply_node(&joining);
    assert_eq!(peers(cluster.network()), Vec::<String>::new(), "it has no pods yet");
}

#[test]
fn a_node_that_takes_anothers_place_is_left_out() {
    let mut cluster = cluster();
    for (address, cidr) in
        [("192.0.2.2", "10.244.9.0/24"), ("192.0.2.9", "10.244.0.0/16"), ("10.244.2.1", "10.244.9.0/24")]
    {
        let mut bad = node("bad", address, cidr);
        bad["spec"]["podCIDRs"] = json!([cidr]);
        bad["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
        cluster.apply_node(&bad);
        let peers: Vec<_> = cluster.network().peers.into_iter().map(|peer| peer.name).collect();
        assert_eq!(peers, ["node2"], "{address} {cidr}");
        assert!(cluster.rejected("Node", "taken") > 0, "{address} {cidr}");
    }
}

#[test]
fn a_node_that_cannot_be_one_yet_says_why() {
    let mut cluster = cluster();
    for (change, expected) in [
        (json!({ "metadata": { "name": "node9" } }), "the cluster has no node `node1`"),
        (json!({ "spec": {} }), "has no pod prefix"),
        (json!({ "status": {} }), "has no IPv4 address of type InternalIP"),
    ] {
        let mut object = node("node1", "192.0.2.1", "10.244.1.0/24");
        for (key, value) in change.as_object().unwrap() {
            object[key] = value.clone();
        }
        cluster.list_nodes(&[object]);
        let error = cluster.state.network().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
