//! What services and endpoints say of where requests may come from and go to.

use serde_json::{Value, json};

use super::{Cluster, ECHO, cluster, http, node, service, slice};

/// `default/echo` with what `more` says in its spec, and a node port.
fn node_port(more: &Value) -> Value {
    let ports = json!([{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30_080 }]);
    let mut object = service("echo", "10.96.0.10", &ports);
    object["spec"]["type"] = "NodePort".into();
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

/// An endpoint on a node.
fn on(node: &str, address: &str) -> Value {
    json!({ "addresses": [address], "nodeName": node })
}

/// The endpoints of `default/echo`.
fn set_endpoints(cluster: &mut Cluster, endpoints: &Value) {
    let ports = json!([{ "name": "http", "port": 8080 }]);
    cluster.apply_slice(&slice("echo-1", "echo", &ports, endpoints));
}

#[test]
fn a_node_port_is_at_every_nodes_address_and_follows_the_nodes() {
    let mut cluster = cluster();
    cluster.apply_service(&node_port(&json!({})));
    let expected = |nodes: &str| format!("default/echo:http 10.96.0.10:80/tcp {nodes} -> 10.244.1.5:8080");
    assert_eq!(
        cluster.services(),
        [expected("169.254.1.2:30080/tcp 192.0.2.1:30080/tcp 192.0.2.2:30080/tcp")]
    );
    cluster.apply_node(&node("node3", "192.0.2.3", "10.244.3.0/24"));
    assert_eq!(
        cluster.services(),
        [expected("169.254.1.2:30080/tcp 192.0.2.1:30080/tcp 192.0.2.2:30080/tcp 192.0.2.3:30080/tcp")]
    );
    cluster.list_nodes(&[node("node1", "192.0.2.11", "10.244.1.0/24")]);
    assert_eq!(cluster.services(), [expected("169.254.1.2:30080/tcp 192.0.2.11:30080/tcp")]);
    cluster.apply_service(&service("echo", "10.96.0.10", &http()));
    assert_eq!(cluster.services(), [ECHO], "the type has changed");
}

#[test]
fn a_local_node_port_leads_to_the_endpoints_of_the_node_that_is_asked() {
    let mut cluster = cluster();
    cluster.apply_service(&node_port(&json!({ "externalTrafficPolicy": "Local" })));
    cluster.apply_node(&node("node3", "192.0.2.3", "10.244.3.0/24"));
    set_endpoints(&mut cluster, &json!([on("node2", "10.244.2.7")]));
    assert_eq!(
        cluster.services(),
        [
            "default/echo:http 10.96.0.10:80/tcp 169.254.1.2:30080/tcp 192.0.2.1:30080/tcp -> 10.244.2.7:8080",
            "default/echo:http@node2 192.0.2.2:30080/tcp -> 10.244.2.7:8080",
            "default/echo:http@nowhere 169.254.1.3:30080/tcp 192.0.2.3:30080/tcp -x",
        ]
    );
    set_endpoints(&mut cluster, &json!([]));
    let all = "169.254.1.2:30080/tcp 192.0.2.1:30080/tcp 192.0.2.2:30080/tcp 192.0.2.3:30080/tcp";
    assert_eq!(cluster.services(), [format!("default/echo:http 10.96.0.10:80/tcp {all} ->")]);
}

#[test]
fn a_local_cluster_ip_rejects_on_nodes_without_an_endpoint() {
    let mut cluster = cluster();
    let mut object = service("echo", "10.96.0.10", &http());
    object["spec"]["internalTrafficPolicy"] = "Local".into();
    cluster.apply_service(&object);
    set_endpoints(&mut cluster, &json!([on("node1", "10.244.1.5"), on("node2", "10.244.2.7")]));
    assert_eq!(cluster.services(), [format!("{ECHO} (10.244.2.7:8080)")]);
    set_endpoints(&mut cluster, &json!([on("node2", "10.244.2.7")]));
    assert_eq!(cluster.services(), ["default/echo:http 10.96.0.10:80/tcp -> (10.244.2.7:8080)"]);
}

#[test]
fn external_addresses_are_frontends_too_but_not_those_of_proxies() {
    let mut cluster = cluster();
    let mut object = node_port(&json!({ "type": "LoadBalancer", "externalIPs": ["203.0.113.9", "fd00::9"] }));
    object["status"] = json!({ "loadBalancer": { "ingress": [
        { "ip": "203.0.113.7", "ipMode": "VIP" },
        { "ip": "203.0.113.8", "ipMode": "Proxy" },
        { "ip": "203.0.113.9" },
        { "hostname": "lb.example" },
    ] } });
    cluster.apply_service(&object);
    // What is both is the load balancer's.
    let expected = "default/echo:http 10.96.0.10:80/tcp 169.254.1.2:30080/tcp 192.0.2.1:30080/tcp 192.0.2.2:30080/tcp \
                    203.0.113.7:80/tcp 203.0.113.9:80/tcp -> 10.244.1.5:8080";
    assert_eq!(cluster.services(), [expected]);

    // From inside, they are short-circuited: any endpoint will do.
    object["spec"]["externalTrafficPolicy"] = "Local".into();
    cluster.apply_service(&object);
    set_endpoints(&mut cluster, &json!([on("node2", "10.244.2.7")]));
    assert_eq!(
        cluster.services()[0],
        "default/echo:http 10.96.0.10:80/tcp 169.254.1.2:30080/tcp 192.0.2.1:30080/tcp 203.0.113.7:80/tcp 203.0.113.9:80/tcp \
         -> 10.244.2.7:8080"
    );
}

#[test]
fn source_ranges_are_read_and_those_that_make_no_sense_are_named_and_left_out() {
    let mut cluster = cluster();
    let ranges = json!(["10.244.1.0/24", " 203.0.113.77/24 ", "192.0.2.1/33", "everybody", "fd00::/8"]);
    let mut object = node_port(&json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ranges }));
    object["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
    cluster.apply_service(&object);
    let ranges = |cluster: &mut Cluster| -> Vec<String> {
        cluster.network().services[0].source_ranges.iter().map(ToString::to_string).collect()
    };
    assert_eq!(ranges(&mut cluster), ["10.244.1.0/24", "203.0.113.0/24", "fd00::/8"]);
    assert_eq!(cluster.rejected("Service", "address"), 2);
    assert!(cluster.services()[0].ends_with("203.0.113.7:80/tcp -> 10.244.1.5:8080"));

    // This node's own processes ask from its address in the overlay.
    object["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
    cluster.apply_service(&object);
    assert_eq!(ranges(&mut cluster), ["10.244.1.1/32", "192.0.2.0/24"]);
    assert_eq!(cluster.rejected("Service", "address"), 0);
    object["spec"]["loadBalancerSourceRanges"] = json!([]);
    cluster.apply_service(&object);
    assert!(ranges(&mut cluster).is_empty());
}

#[test]
fn an_external_address_may_be_a_nodes_and_not_a_pods() {
    let mut cluster = cluster();
    let external = |ips: &Value| {
        let mut object = service("echo", "10.96.0.10", &http());
        object["spec"]["externalIPs"] = ips.clone();
        object
    };
    cluster.apply_service(&external(&json!(["192.0.2.2", "10.244.1.9", "bad"])));
    assert_eq!(
        cluster.services(),
        ["default/echo:http 10.96.0.10:80/tcp 192.0.2.2:80/tcp -> 10.244.1.5:8080"]
    );
    assert_eq!((cluster.rejected("Service", "taken"), cluster.rejected("Service", "address")), (1, 1));

    // Two services at one external address: the older one has it, until it goes.
    let mut younger = service("younger", "10.96.0.11", &http());
    younger["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
    younger["spec"]["externalIPs"] = json!(["192.0.2.2"]);
    cluster.apply_service(&younger);
    assert_eq!(cluster.services()[1], "default/younger:http 10.96.0.11:80/tcp ->");
    cluster.apply_service(&service("echo", "10.96.0.10", &http()));
    assert_eq!(cluster.services()[1], "default/younger:http 10.96.0.11:80/tcp 192.0.2.2:80/tcp ->");
}

#[test]
fn hints_of_zones_and_nodes_are_followed_where_this_node_is() {
    let mut cluster = cluster();
    let mut here = node("node1", "192.0.2.1", "10.244.1.0/24");
    here["metadata"]["labels"] = json!({ "topology.kubernetes.io/zone": "x" });
    cluster.apply_node(&here);
    let hinted = |address: &str, zone: &str, node: Option<&str>| {
        let mut hints = json!({ "forZones": [{ "name": zone }] });
        if let Some(node) = node {
            hints["forNodes"] = json!([{ "name": node }]);
        }
        json!({ "addresses": [address], "hints": hints })
    };
    let zones = json!([hinted("10.244.1.5", "x", None), hinted("10.244.2.7", "y", None)]);
    set_endpoints(&mut cluster, &zones);
    assert_eq!(cluster.services(), [format!("{ECHO} (10.244.2.7:8080)")]);

    let nodes = [hinted("10.244.1.5", "x", Some("node2")), hinted("10.244.1.6", "x", Some("node1"))];
    set_endpoints(&mut cluster, &json!(nodes));
    let nearest = "default/echo:http 10.96.0.10:80/tcp -> (10.244.1.5:8080) 10.244.1.6:8080";
    assert_eq!(cluster.services(), [nearest]);

    // The node moves, or says no more where it is.
    set_endpoints(&mut cluster, &zones);
    here["metadata"]["labels"] = json!({ "topology.kubernetes.io/zone": "y" });
    cluster.apply_node(&here);
    let other = "default/echo:http 10.96.0.10:80/tcp -> (10.244.1.5:8080) 10.244.2.7:8080";
    assert_eq!(cluster.services(), [other]);
    cluster.apply_node(&node("node1", "192.0.2.1", "10.244.1.0/24"));
    assert_eq!(cluster.services(), [format!("{ECHO} 10.244.2.7:8080")]);
}

#[test]
fn addresses_that_are_published_before_they_are_ready_are_ready() {
    // So the controller writes what publishNotReadyAddresses asks for.
    let mut cluster = cluster();
    let conditions = json!({ "ready": true, "serving": false, "terminating": true });
    set_endpoints(&mut cluster, &json!([{ "addresses": ["10.244.1.5"], "conditions": conditions }]));
    assert_eq!(cluster.services(), [ECHO]);
}

#[test]
fn a_hosts_own_endpoint_is_at_the_nodes_address() {
    let mut cluster = cluster();
    set_endpoints(&mut cluster, &json!([on("node2", "192.0.2.2")]));
    assert_eq!(cluster.services(), ["default/echo:http 10.96.0.10:80/tcp -> 192.0.2.2:8080"]);
}

#[test]
fn stream_control_is_a_protocol_like_others() {
    let mut cluster = cluster();
    let ports = json!([{ "name": "sctp", "port": 90, "protocol": "SCTP" }]);
    cluster.apply_service(&service("echo", "10.96.0.10", &ports));
    let ports = json!([{ "name": "sctp", "port": 9090, "protocol": "SCTP" }]);
    cluster.apply_slice(&slice("echo-1", "echo", &ports, &json!([on("node1", "10.244.1.5")])));
    assert_eq!(cluster.services(), ["default/echo:sctp 10.96.0.10:90/sctp -> 10.244.1.5:9090"]);
}

#[test]
fn a_bad_node_port_is_left_out_and_its_service_stays() {
    let mut cluster = cluster();
    let ports = json!([
        { "name": "http", "port": 80 }, { "name": "bad", "port": 81, "nodePort": 70_000 },
    ]);
    cluster.apply_service(&service("echo", "10.96.0.10", &ports));
    assert_eq!(cluster.services(), [ECHO]);
    assert_eq!(cluster.rejected("Service", "port"), 1);
}

#[test]
fn load_balancers_are_told_which_nodes_have_ready_endpoints() {
    let mut cluster = cluster();
    let local =
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31_234 });
    cluster.apply_service(&node_port(&local));
    let ending = json!({ "addresses": ["10.244.1.6"], "nodeName": "node1",
        "conditions": { "ready": false, "serving": true, "terminating": true } });
    set_endpoints(&mut cluster, &json!([on("node1", "10.244.1.5"), on("node2", "10.244.2.7"), ending]));
    assert_eq!(cluster.health_checks(), ["31234 default/echo 1"]);
    set_endpoints(&mut cluster, &json!([on("node2", "10.244.2.7"), ending]));
    assert_eq!(cluster.health_checks(), ["31234 default/echo 0"], "one that ends takes nothing new");
    cluster.apply_service(&node_port(&json!({ "healthCheckNodePort": 31_234 })));
    assert!(cluster.health_checks().is_empty(), "with the policy Cluster, every node will do");
}
