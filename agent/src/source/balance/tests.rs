//! One service's endpoints and policies, and what they come to on node `a` in zone `x`.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_dataplane::desired::{BackendState, DEFAULT_FLOW_TTL};

use super::*;

const HERE: Place<'static> = Place {
    node: "a",
    zone: Some("x"),
    addresses: &[IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
    gateways: &[IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)],
};

/// (address's last part, condition, node, zones, nodes it is meant for)
type Row = (u8, Condition, &'static str, &'static [&'static str], &'static [&'static str]);

use Condition::{Ending, Ready, Unready};

fn policy(internal: Reach, external: Reach) -> Policy {
    Policy {
        name: "echo".into(),
        protocol: Protocol::Tcp,
        internal,
        external,
        source_ranges: [].into(),
        affinity: Affinity::None,
        flow_ttl: DEFAULT_FLOW_TTL,
        dsr: true,
    }
}

fn frontend(vip: &str) -> Frontend {
    Frontend { vip: vip.parse().unwrap(), port: NonZeroU16::MIN, protocol: Protocol::Tcp }
}

/// A VIP only.
fn vip() -> Claims {
    Claims { internal: vec![frontend("10.96.0.10")], ..Claims::default() }
}

/// A VIP, an external address, and a port of the nodes `a`, `b` and `c`.
fn everywhere() -> Claims {
    let node = |name: &str, address: &str| (name.into(), frontend(address));
    Claims {
        external: vec![frontend("203.0.113.7")],
        nodes: vec![node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("c", "192.0.2.3")],
        ..vip()
    }
}

/// Each service as `name vips shared -> backends`, those that only keep their flows in brackets.
fn made(policy: &Policy, claims: Claims, rows: &[Row]) -> Vec<String> {
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    let hints: Vec<_> = rows.iter().map(|row| Hints { zones: names(row.3), nodes: names(row.4) }).collect();
    let mut candidates: Vec<_> = rows
        .iter()
        .zip(&hints)
        .map(|(&(last, condition, node, ..), hints)| Candidate {
            address: [10, 0, 0, last].into(),
            port: NonZeroU16::MIN,
            condition,
            node: Some(node),
            hints: Some(hints),
        })
        .collect();
    let all = services(policy, claims, &mut candidates, &HERE);
    all.iter().map(told).collect()
}

fn told(service: &Service) -> String {
    let mut words = vec![service.name.clone()];
    words.extend(service.frontends.iter().map(|frontend| frontend.vip.to_string()));
    words.push("|".into());
    words.extend(service.shared.iter().map(|frontend| frontend.vip.to_string()));
    words.extend(service.load_balancers.iter().map(|frontend| format!("lb:{}", frontend.vip)));
    words.extend(service.source_ranges.iter().map(|range| format!("<{range}")));
    words.push(if service.without_backends == WithoutBackends::Drop { "-x" } else { "->" }.into());
    words.extend(service.backends.iter().map(|backend| {
        let address = backend.address.to_string();
        let last = address.rsplit(['.', ':']).next().unwrap();
        match backend.state {
            BackendState::Ready => last.to_owned(),
            BackendState::Draining => format!("({last})"),
        }
    }));
    words.join(" ")
}

#[test]
fn new_flows_go_to_ready_endpoints_or_else_to_those_that_end_and_the_rest_keeps_its_flows() {
    let cases: &[(&[Row], &str)] = &[
        (&[(1, Ready, "a", &[], &[]), (2, Ending, "b", &[], &[]), (3, Unready, "b", &[], &[])], " 1 (2) (3)"),
        (&[(2, Ending, "b", &[], &[]), (3, Unready, "b", &[], &[])], " 2 (3)"),
        (&[(3, Unready, "b", &[], &[])], " (3)"),
        (&[], ""),
        (&[(1, Ending, "a", &[], &[]), (1, Ready, "b", &[], &[]), (1, Ending, "a", &[], &[])], " 1"),
    ];
    for (rows, backends) in cases {
        let expected = [format!("echo 10.96.0.10 | ->{backends}")];
        assert_eq!(made(&policy(Reach::Cluster, Reach::Cluster), vip(), rows), expected, "{rows:?}");
    }
}

#[test]
fn datagrams_do_not_stay_with_an_endpoint_that_serves_no_more() {
    let udp = Policy { protocol: Protocol::Udp, ..policy(Reach::Cluster, Reach::Cluster) };
    let rows = [(1, Ready, "a", &[][..], &[][..]), (2, Ending, "b", &[], &[]), (3, Unready, "b", &[], &[])];
    assert_eq!(made(&udp, vip(), &rows), ["echo 10.96.0.10 | -> 1 (2)"]);
}

#[test]
fn hints_count_if_all_ready_endpoints_have_them_and_one_is_for_this_place() {
    let cases: &[(&[Row], &str)] = &[
        // Zones.
        (
            &[(1, Ready, "a", &["x"], &[]), (2, Ready, "b", &["y"], &[]), (3, Ready, "b", &["x", "y"], &[])],
            " 1 (2) 3",
        ),
        (&[(1, Ready, "a", &["x"], &[]), (2, Ready, "b", &[], &[])], " 1 2"),
        (&[(1, Ready, "a", &["y"], &[]), (2, Ready, "b", &["z"], &[])], " 1 2"),
        // One that is not ready has no say.
        (&[(1, Ready, "a", &["x"], &[]), (2, Ending, "b", &[], &[])], " 1 (2)"),
        (&[(1, Unready, "a", &["x"], &[]), (2, Ready, "b", &["y"], &[])], " (1) 2"),
        // Nodes come before zones.
        (&[(1, Ready, "a", &["x"], &["a"]), (2, Ready, "b", &["x"], &["b"])], " 1 (2)"),
        (&[(1, Ready, "b", &["x"], &["b"]), (2, Ready, "c", &["y"], &["c"])], " 1 (2)"),
        (&[(1, Ready, "a", &["x"], &["a"]), (2, Ready, "b", &["x"], &[])], " 1 2"),
        // Without ready ones, hints are nobody's concern.
        (&[(1, Ending, "a", &["x"], &["a"]), (2, Ending, "b", &["y"], &["b"])], " 1 2"),
    ];
    for (rows, backends) in cases {
        let expected = [format!("echo 10.96.0.10 | ->{backends}")];
        assert_eq!(made(&policy(Reach::Cluster, Reach::Cluster), vip(), rows), expected, "{rows:?}");
    }
}

#[test]
fn a_node_without_a_zone_ignores_zones() {
    let hints = Hints { zones: ["x".into()].into(), nodes: [].into() };
    let candidate = |last, hints| Candidate {
        address: [10, 0, 0, last].into(),
        port: NonZeroU16::MIN,
        condition: Ready,
        node: None,
        hints,
    };
    let here = Place { zone: None, ..HERE };
    let mut candidates = vec![candidate(1, Some(&hints)), candidate(2, Some(&hints))];
    let all = services(&policy(Reach::Cluster, Reach::Cluster), vip(), &mut candidates, &here);
    assert_eq!(told(&all[0]), "echo 10.96.0.10 | -> 1 2");
}

#[test]
fn with_the_cluster_policy_all_frontends_are_of_one_service() {
    let rows = [(1, Ready, "a", &[][..], &[][..]), (2, Ready, "b", &[], &[])];
    assert_eq!(
        made(&policy(Reach::Cluster, Reach::Cluster), everywhere(), &rows),
        ["echo 10.96.0.10 | 203.0.113.7 169.254.1.2 192.0.2.1 192.0.2.2 192.0.2.3 -> 1 2"]
    );
}

#[test]
fn local_to_the_inside_rejects_where_no_endpoint_is_and_leaves_the_outside_alone() {
    let local = policy(Reach::Local, Reach::Cluster);
    assert_eq!(
        made(&local, everywhere(), &[(1, Ready, "a", &[], &[]), (2, Ready, "b", &[], &[])]),
        [
            "echo 10.96.0.10 | -> 1 (2)",
            "echo@cluster | 203.0.113.7 169.254.1.2 192.0.2.1 192.0.2.2 192.0.2.3 -> 1 2"
        ]
    );
    assert_eq!(made(&local, vip(), &[(2, Ready, "b", &[], &[])]), ["echo 10.96.0.10 | -> (2)"]);
    let ending = [(1, Ending, "a", &[][..], &[][..]), (2, Ready, "b", &[], &[])];
    assert_eq!(made(&local, vip(), &ending), ["echo 10.96.0.10 | -> 1 (2)"], "it falls back by itself");
}

#[test]
fn local_to_the_outside_is_what_other_nodes_have_and_they_are_silent_without() {
    let local = policy(Reach::Cluster, Reach::Local);
    assert_eq!(
        made(&local, everywhere(), &[(2, Ready, "b", &[], &[]), (4, Ending, "b", &[], &[])]),
        [
            // What this node and the outside are asked is short-circuited.
            "echo 10.96.0.10 | 203.0.113.7 169.254.1.2 192.0.2.1 -> 2 (4)",
            "echo@b | 192.0.2.2 -> 2",
            "echo@nowhere | 169.254.1.3 192.0.2.3 -x",
        ]
    );
    assert_eq!(
        made(&local, everywhere(), &[(1, Ready, "a", &[], &[]), (4, Ending, "b", &[], &[])]),
        [
            "echo 10.96.0.10 | 203.0.113.7 169.254.1.2 192.0.2.1 -> 1 (4)",
            "echo@a | 169.254.1.3 -> 1",
            "echo@b | 192.0.2.2 -> 4",
            "echo@nowhere | 192.0.2.3 -x",
        ]
    );
    assert_eq!(
        made(&local, everywhere(), &[]),
        ["echo 10.96.0.10 | 203.0.113.7 169.254.1.2 192.0.2.1 192.0.2.2 192.0.2.3 ->"],
        "nobody anywhere: rejected at once"
    );
}

#[test]
fn source_ranges_go_with_load_balancers_addresses_and_let_this_nodes_processes_in_where_the_node_is() {
    let ranges = |ranges: &[&str]| -> Box<[IpNet]> { ranges.iter().map(|it| it.parse().unwrap()).collect() };
    let claims = || Claims { load_balancers: vec![frontend("203.0.113.9")], ..everywhere() };
    let rows = [(1, Ready, "a", &[][..], &[][..])];
    for (written, told) in [
        (&[][..], ""),
        (&["10.9.0.0/16", "10.9.0.0/16", "fd00::/8"][..], " <10.9.0.0/16 <fd00::/8"),
        // 192.0.2.1 is this node; of IPv6 it has no address.
        (&["192.0.2.0/24", "::/0"][..], " <10.0.0.1/32 <192.0.2.0/24 <::/0"),
    ] {
        let cluster = Policy { source_ranges: ranges(written), ..policy(Reach::Cluster, Reach::Local) };
        let first = made(&cluster, claims(), &rows)[0].clone();
        let expected =
            format!("echo 10.96.0.10 | 203.0.113.7 169.254.1.2 192.0.2.1 lb:203.0.113.9{told} -> 1");
        assert_eq!(first, expected);
        let local = Policy { internal: Reach::Local, ..cluster.clone() };
        let all = made(&local, claims(), &rows);
        assert_eq!(all[0], "echo 10.96.0.10 | -> 1", "they are not for the VIP");
        assert!(
            all[1].starts_with("echo@cluster | ") && all[1].contains(&format!("lb:203.0.113.9{told} ->"))
        );
        assert_eq!(made(&cluster, vip(), &rows), ["echo 10.96.0.10 | -> 1"], "without an address, none");
    }
}

#[test]
fn families_are_apart() {
    let claims = Claims {
        internal: vec![frontend("10.96.0.10"), frontend("fd00::10")],
        nodes: vec![("b".into(), frontend("192.0.2.2")), ("b".into(), frontend("2001:db8::2"))],
        ..Claims::default()
    };
    let candidate = |address: &str, condition, node| Candidate {
        address: address.parse().unwrap(),
        port: NonZeroU16::MIN,
        condition,
        node: Some(node),
        hints: None,
    };
    let mut candidates = vec![
        candidate("fd00::7", Ending, "b"),
        candidate("10.0.0.1", Ready, "a"),
        candidate("10.0.0.2", Ending, "a"),
    ];
    let all = services(&policy(Reach::Cluster, Reach::Local), claims, &mut candidates, &HERE);
    assert_eq!(
        all.iter().map(told).collect::<Vec<_>>(),
        ["echo 10.96.0.10 fd00::10 | -> 1 (2) 7", "echo@b | 2001:db8::2 -> 7", "echo@nowhere | 192.0.2.2 -x"]
    );
}
