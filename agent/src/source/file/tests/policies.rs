//! What a file says of where requests may come from and go to, and what it comes to.

use lb_dataplane::desired::{BackendState, Service, WithoutBackends};

use super::{parse, problems};

/// Three nodes in two zones; the service is told by each test, from line 7 on.
const NODES: &str = "node: a
nodes:
  - { name: a, address: 192.0.2.1, podCidrs: [10.1.0.0/16], zone: x }
  - { name: b, address: 192.0.2.2, podCidrs: [10.2.0.0/16], zone: x }
  - { name: c, address: 192.0.2.3, podCidrs: [10.3.0.0/16], zone: y }
services:
  - { name: echo, frontends: [{ vip: 10.96.0.10, port: 80 }],
";

fn file(rest: &str) -> String {
    format!("{NODES}      {rest} }}\n")
}

/// Each service as `name frontends -> backends`, those that only keep their flows in brackets; `-x` if it drops what it has
/// no backend for.
fn made(rest: &str) -> Vec<String> {
    let line = |service: &Service| {
        let mut words = vec![service.name.clone()];
        words.extend(service.all_frontends().map(|frontend| frontend.vip.to_string()));
        words.extend(service.source_ranges.iter().map(|range| format!("<{range}")));
        let drops = service.without_backends == WithoutBackends::Drop;
        words.push(if drops { "-x" } else { "->" }.into());
        words.extend(service.backends.iter().map(|backend| match backend.state {
            BackendState::Ready => backend.address.to_string(),
            BackendState::Draining => format!("({})", backend.address),
        }));
        words.join(" ")
    };
    parse(&file(rest), None).unwrap().services.iter().map(|service| line(service)).collect()
}

#[test]
fn each_policy_can_be_said() {
    let pods = "backends: [{ address: 10.1.0.5, port: 80 }, { address: 10.2.0.5, port: 80 }, { address: 10.3.0.5, port: 80 }]";
    let b = "backends: [{ address: 10.2.0.5, port: 80 }]";
    for (rest, expected) in [
        (pods.to_owned(), &["echo 10.96.0.10 -> 10.1.0.5 10.2.0.5 10.3.0.5"][..]),
        (
            format!("{pods}, trafficDistribution: preferSameZone"),
            &["echo 10.96.0.10 -> 10.1.0.5 10.2.0.5 (10.3.0.5)"],
        ),
        (
            format!("{pods}, trafficDistribution: preferSameNode"),
            &["echo 10.96.0.10 -> 10.1.0.5 (10.2.0.5) (10.3.0.5)"],
        ),
        (
            format!("{pods}, internalTrafficPolicy: local"),
            &["echo 10.96.0.10 -> 10.1.0.5 (10.2.0.5) (10.3.0.5)"],
        ),
        (format!("{b}, internalTrafficPolicy: local"), &["echo 10.96.0.10 -> (10.2.0.5)"]),
        (
            format!("{b}, nodePorts: [{{ port: 30080 }}]"),
            &["echo 10.96.0.10 169.254.1.2 192.0.2.1 192.0.2.2 192.0.2.3 -> 10.2.0.5"],
        ),
        (
            format!("{b}, nodePorts: [{{ port: 30080 }}], externalTrafficPolicy: local"),
            &[
                "echo 10.96.0.10 169.254.1.2 192.0.2.1 -> 10.2.0.5",
                "echo@b 192.0.2.2 -> 10.2.0.5",
                "echo@nowhere 169.254.1.3 192.0.2.3 -x",
            ],
        ),
        (
            format!("{b}, externalFrontends: [{{ vip: 203.0.113.7, port: 80 }}, {{ vip: 192.0.2.2, port: 443 }}]"),
            &["echo 10.96.0.10 203.0.113.7 192.0.2.2 -> 10.2.0.5"],
        ),
        (
            format!("{b}, loadBalancerFrontends: [{{ vip: 203.0.113.9, port: 80 }}], loadBalancerSourceRanges: [10.0.0.0/8]"),
            &["echo 10.96.0.10 203.0.113.9 <10.0.0.0/8 -> 10.2.0.5"],
        ),
        (
            "backends: [{ address: 10.1.0.5, port: 80, state: terminating }, { address: 10.2.0.5, port: 80 }, \
             { address: 10.3.0.5, port: 80, state: notReady }]"
                .to_owned(),
            &["echo 10.96.0.10 -> (10.1.0.5) 10.2.0.5 (10.3.0.5)"],
        ),
        ("backends: [{ address: 10.1.0.5, port: 80, state: terminating }]".to_owned(), &["echo 10.96.0.10 -> 10.1.0.5"]),
        // A process on a node; one that is elsewhere says where.
        ("backends: [{ address: 192.0.2.1, port: 80 }], internalTrafficPolicy: local".to_owned(), &["echo 10.96.0.10 -> 192.0.2.1"]),
        ("backends: [{ address: 198.51.100.1, port: 80, node: a }], internalTrafficPolicy: local".to_owned(), &["echo 10.96.0.10 -> 198.51.100.1"]),
        (
            "backends: [{ address: 198.51.100.1, port: 80, zone: x }, { address: 10.3.0.5, port: 80 }], \
             trafficDistribution: preferSameZone"
                .to_owned(),
            &["echo 10.96.0.10 -> (10.3.0.5) 198.51.100.1"],
        ),
    ] {
        assert_eq!(made(&rest), expected, "{rest}");
    }
}

#[test]
fn each_mistake_is_named_with_line_field_and_cure() {
    let b = "backends: [{ address: 10.2.0.5, port: 80 }]";
    for (rest, field, words) in [
        (
            format!("{b}, internalTrafficPolicy: Local"),
            "services[0].internalTrafficPolicy",
            "write cluster or local",
        ),
        (
            format!("{b}, externalTrafficPolicy: near"),
            "services[0].externalTrafficPolicy",
            "write cluster or local",
        ),
        (
            format!("{b}, trafficDistribution: preferClose"),
            "services[0].trafficDistribution",
            "write preferSameZone or preferSameNode",
        ),
        (format!("{b}, nodePorts: [{{ port: 0 }}]"), "services[0].nodePorts[0].port", "`0` is no port"),
        (
            format!("{b}, nodePorts: [{{ port: 1 }}, {{ port: 1 }}]"),
            "services[0].nodePorts[1]",
            "192.0.2.1:1/tcp is already the frontend on line 8",
        ),
        (
            format!("{b}, nodePorts: [{{ nodePort: 1 }}]"),
            "services[0].nodePorts[0].nodePort",
            "known here are port, protocol",
        ),
        (
            format!("{b}, externalFrontends: [{{ vip: 10.1.0.9, port: 80 }}]"),
            "services[0].externalFrontends[0].vip",
            "lies in the pod prefix 10.1.0.0/16",
        ),
        (
            format!("{b}, externalFrontends: [{{ vip: 10.96.0.10, port: 80 }}]"),
            "services[0].externalFrontends[0]",
            "already the frontend on line 7",
        ),
        (
            format!("{b}, externalFrontends: [{{ vip: fd00::7, port: 80 }}]"),
            "services[0].externalFrontends[0].vip",
            "add an IPv6 backend",
        ),
        (
            format!("{b}, loadBalancerSourceRanges: [10.0.0.0/8]"),
            "services[0].loadBalancerSourceRanges",
            "write it under `loadBalancerFrontends`",
        ),
        (
            format!(
                "{b}, loadBalancerFrontends: [{{ vip: 203.0.113.9, port: 80 }}], loadBalancerSourceRanges: [all]"
            ),
            "services[0].loadBalancerSourceRanges[0]",
            "`all` is no IP prefix",
        ),
        (
            format!(
                "{b}, loadBalancerFrontends: [{{ vip: 203.0.113.9, port: 80 }}], loadBalancerSourceRanges: [10.1.2.3/8]"
            ),
            "services[0].loadBalancerSourceRanges[0]",
            "write 10.0.0.0/8 if",
        ),
        (
            "backends: [{ address: 10.2.0.5, port: 80, state: dead }]".into(),
            "services[0].backends[0].state",
            "write ready, terminating or notReady",
        ),
        (
            "backends: [{ address: 10.2.0.5, port: 80, node: d }]".into(),
            "services[0].backends[0].node",
            "there is no node `d`",
        ),
        (
            "backends: [{ address: 198.51.100.1, port: 80 }], trafficDistribution: preferSameZone".into(),
            "services[0].backends[0]",
            "its zone is not known",
        ),
    ] {
        let found = problems(&file(&rest), None);
        let told = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        assert_eq!((found.len(), found[0].line), (1, 8), "{rest}: {told}");
        assert!(found[0].field == field && told.contains(words), "{rest}: {told}");
    }
    let twice = file(b).replace("name: echo", "name: echo@b");
    assert!(problems(&twice, None)[0].to_string().contains("has an @"));
}
