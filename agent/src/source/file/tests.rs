//! Files and what is said about them: a table of (what is changed in a good file, where, field, words).

mod policies;

use std::time::Duration;

use lb_dataplane::{
    AttachMode, Mac,
    desired::{Affinity, DEFAULT_AFFINITY_TIMEOUT, Protocol},
};

use super::{BadFile, Problem, load, parse};

/// A good file with every field. Line numbers in the tables below count from here.
const GOOD: &str = r#"node: node1
vni: 7
vxlanPort: 4789
uplink: eth0
attach: auto
nodes:
  - name: node1
    address: 192.168.77.1
    podCidrs: [10.244.1.0/24]
  - name: node2
    address: 192.168.77.2
    podCidrs: [10.244.2.0/24, 10.245.2.0/24, "fd00:10:244:2::/64"]
  - { name: tor1, address: 192.168.77.9, podCidrs: [10.244.9.0/24], vtepMac: "02:00:00:00:00:09" }
services:
  - name: echo
    frontends: [{ vip: 10.96.0.10, port: 8000, protocol: tcp }, { vip: 10.96.0.10, port: 8000, protocol: udp }]
    backends: [{ address: 10.244.1.5, port: 80 }, { address: 192.168.77.2, port: 80 }]
    affinity: clientIp
    flowTtl: 30s
    dsr: false
  - name: plain
    frontends:
      - { vip: 10.96.0.11, port: 53 }
      - { vip: fd00:10:96::b, port: 54 }
    affinity: clientIp
    affinityTimeout: 90s
"#;

fn problems(text: &str, node: Option<&str>) -> Vec<Problem> {
    parse(text, node).expect_err("the file should be refused")
}

#[test]
fn a_good_file_is_understood_in_every_field() {
    let network = parse(GOOD, None).unwrap();
    assert_eq!(network.vni.get(), 7);
    assert_eq!(network.vxlan_port.get(), 4789);
    assert_eq!(network.uplink.as_deref(), Some("eth0"));
    assert_eq!(network.attach, AttachMode::Auto);
    assert_eq!(network.node.name, "node1");
    let peers: Vec<_> = network.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(peers, ["node2", "tor1"]);
    assert_eq!(network.peers[0].pod_cidrs.len(), 3);
    assert_eq!(network.peers[0].ipv6(), Some("fd00:10:244:2::/64".parse().unwrap()));
    assert_eq!(network.peers[1].vtep_mac, Some(Mac([2, 0, 0, 0, 0, 9])));
    let [echo, plain] = &network.services[..] else { panic!("two services") };
    assert_eq!(echo.frontends[1].protocol, Protocol::Udp);
    assert_eq!(echo.backends.len(), 2);
    assert_eq!(
        (echo.affinity, echo.flow_ttl, echo.dsr),
        (Affinity::ClientIp { timeout: DEFAULT_AFFINITY_TIMEOUT }, Duration::from_secs(30), false)
    );
    assert_eq!(plain.frontends[0].protocol, Protocol::Tcp);
    assert_eq!(
        (plain.affinity, plain.flow_ttl, plain.dsr),
        (Affinity::ClientIp { timeout: Duration::from_secs(90) }, Duration::from_mins(4), true)
    );
    assert!(plain.backends.is_empty());
}

#[test]
fn little_need_be_written() {
    let network =
        parse("nodes: [{name: a, address: 192.0.2.1, podCidrs: [10.1.0.0/16]}]\nnode: a\n", None).unwrap();
    assert_eq!((network.vni.get(), network.vxlan_port.get(), network.uplink), (1, 4789, None));
    assert!(network.services.is_empty() && network.peers.is_empty());
}

#[test]
fn the_command_line_says_which_node_this_is_over_the_file() {
    assert_eq!(parse(GOOD, Some("node2")).unwrap().node.name, "node2");
    let [problem] = &problems(GOOD, Some("node7"))[..] else { panic!("one problem") };
    assert_eq!((problem.line, problem.field.as_str()), (7, "node"));
    assert!(
        problem.to_string().contains("no node `node7`") && problem.to_string().contains("node1, node2, tor1")
    );
}

/// (replace this in [`GOOD`], by this, then on this line, in this field, these words are said)
type Case = (&'static str, &'static str, u64, &'static str, &'static str);

#[rustfmt::skip]
const WRONG: &[Case] = &[
    // What YAML or the shape forbids.
    ("vni: 7", "vni: 7\n  x: y", 3, "", "mapping values are not allowed"),
    ("vni: 7", "vni: [7", 2, "vni", "this is no single value; write one"),
    ("vni: 7", "vin: 7", 2, "vin", "unknown field `vin`; known here are node, vni"),
    ("vni: 7", "vni: 7\nvni: 8", 3, "vni", "`vni` is written twice"),
    ("vni: 7", "vni: {a: b}", 2, "vni", "this is no single value; write one"),
    ("    affinity: clientIp", "    affinty: clientIp", 18, "services[0].affinty", "unknown field `affinty`"),
    ("port: 8000, protocol: tcp", "prot: 8000", 16, "services[0].frontends[0].prot", "unknown field"),
    ("port: 8000, protocol: tcp", "protocol: tcp", 16, "services[0].frontends[0].port", "`port` is missing; add it"),
    ("    address: 192.168.77.1\n", "", 8, "nodes[0].address", "`address` is missing"),
    ("    address: 192.168.77.1\n", "    address:\n", 8, "nodes[0].address", "has no value"),
    ("[10.244.1.0/24]", "10.244.1.0/24", 9, "nodes[0].podCidrs", "this is no list; write one, such as [a, b]"),
    // The node's own settings.
    ("vni: 7", "vni: 16777216", 2, "vni", "`16777216` is no VNI; write a number from 0 to 16777215"),
    ("vni: 7", "vni: -1", 2, "vni", "`-1` is no VNI"),
    ("vxlanPort: 4789", "vxlanPort: 0", 3, "vxlanPort", "`0` is no port"),
    ("uplink: eth0", "uplink: a-name-much-too-long", 4, "uplink", "is no name of a network device"),
    ("attach: auto", "attach: xdp", 5, "attach", "write auto, tcx or clsact"),
    ("node: node1", "node: node7", 1, "node", "no node `node7` in `nodes`; add it, or name one of those there: node1"),
    ("node: node1\n", "", 6, "node", "does not say which of its nodes this is; add `node: <name>`"),
    // Nodes.
    ("name: node2", "name: node1", 10, "nodes[1].name", "node `node1` is already on line 7"),
    ("name: node2", "name: ''", 10, "nodes[1].name", "is no name"),
    ("192.168.77.2\n    pod", "192.168.77.1\n    pod", 11, "nodes[1].address", "already the node's on line 8"),
    ("192.168.77.2\n    pod", "fd00::1\n    pod", 11, "nodes[1].address", "write the node's IPv4 address"),
    ("192.168.77.2\n    pod", "192.168.77\n    pod", 11, "nodes[1].address", "`192.168.77` is no IP address"),
    ("192.168.77.2\n    pod", "224.0.0.9\n    pod", 11, "nodes[1].address", "a multicast address"),
    ("192.168.77.2\n    pod", "10.244.1.77\n    pod", 11, "nodes[1].address", "lies in the pod prefix 10.244.1.0/24"),
    ("[10.244.1.0/24]", "[10.244.1.0/33]", 9, "nodes[0].podCidrs[0]", "is no IP prefix"),
    ("[10.244.1.0/24]", "[10.244.1.7/24]", 9, "nodes[0].podCidrs[0]", "write 10.244.1.0/24 if that prefix is meant"),
    ("[10.244.1.0/24]", "['fd00::1/64']", 9, "nodes[0].podCidrs[0]", "write fd00::/64 if that prefix is meant"),
    ("[10.244.1.0/24]", "['fe80::/64']", 9, "nodes[0].podCidrs[0]", "is not for pods; write a unicast prefix of length 8 to 128"),
    ("[10.244.1.0/24]", "['fd00::4/127']", 9, "nodes[0].podCidrs[0]", "give this node a prefix of length 126 or less"),
    ("[10.244.1.0/24]", "['fd00:10:244::/48']", 12, "nodes[1].podCidrs[2]", "overlaps fd00:10:244::/48 on line 9"),
    ("[10.244.1.0/24]", "[]", 9, "nodes[0].podCidrs", "there is no pod prefix"),
    ("[10.244.1.0/24]", "[0.0.0.0/0]", 9, "nodes[0].podCidrs[0]", "is not for pods"),
    ("[10.244.1.0/24]", "[10.244.1.4/31]", 9, "nodes[0].podCidrs[0]", "no room for a gateway and a pod"),
    ("10.244.2.0/24", "10.244.0.0/21", 12, "nodes[1].podCidrs[0]", "10.244.0.0/21 overlaps 10.244.1.0/24 on line 9"),
    ("10.245.2.0/24", "10.244.2.128/25", 12, "nodes[1].podCidrs[1]", "overlaps 10.244.2.0/24 on line 12"),
    ("02:00:00:00:00:09", "02:00:00:00:09", 13, "nodes[2].vtepMac", "is no MAC"),
    ("02:00:00:00:00:09", "01:00:5e:00:00:09", 13, "nodes[2].vtepMac", "is no MAC of one device"),
    // Services.
    ("name: plain", "name: echo", 21, "services[1].name", "service `echo` is already on line 15"),
    ("vip: fd00:10:96::b", "vip: fd00:10:244:2::b", 24, "services[1].frontends[1].vip", "lies in the pod prefix fd00:10:244:2::/64"),
    ("vip: fd00:10:96::b", "vip: fe80::b", 24, "services[1].frontends[1].vip", "is a link-local address"),
    ("vip: fd00:10:96::b", "vip: ::ffff:1.2.3.4", 24, "services[1].frontends[1].vip", "in IPv6's clothes"),
    ("{ address: 192.168.77.2,", "{ address: fd00::9,", 17, "services[0].backends[1].address", "is IPv6, and no frontend of this service is; add an IPv6 frontend"),
    ("vip: 10.96.0.10, port: 8000, protocol: udp", "vip: fd00::a, port: 8000", 16, "services[0].frontends[1].vip", "is IPv6, and no backend of this service is; add an IPv6 backend"),
    ("port: 53", "port: 0", 23, "services[1].frontends[0].port", "`0` is no port; write a number from 1 to 65535"),
    ("port: 53", "port: 65536", 23, "services[1].frontends[0].port", "`65536` is no port"),
    ("vip: 10.96.0.11", "vip: vip", 23, "services[1].frontends[0].vip", "`vip` is no IP address"),
    ("vip: 10.96.0.11", "vip: 10.244.9.1", 23, "services[1].frontends[0].vip", "lies in the pod prefix 10.244.9.0/24"),
    ("vip: 10.96.0.11", "vip: 192.168.77.9", 23, "services[1].frontends[0].vip", "is a node's address"),
    ("10.96.0.11, port: 53", "10.96.0.10, port: 8000", 23, "services[1].frontends[0]", "already the frontend on line 16"),
    ("protocol: udp", "protocol: icmp", 16, "services[0].frontends[1].protocol", "write tcp, udp or sctp"),
    ("{ address: 192.168.77.2,", "{ address: 10.244.1.5,", 17, "services[0].backends[1]", "already a backend of it"),
    ("{ address: 192.168.77.2,", "{ address: 127.0.0.1,", 17, "services[0].backends[1].address", "a loopback address"),
    ("affinity: clientIp", "affinity: cookie", 18, "services[0].affinity", "write none or clientIp"),
    ("affinityTimeout: 90s", "affinityTimeout: 25h", 26, "services[1].affinityTimeout", "write one from 1s to 24h"),
    ("    affinity: clientIp\n    affinityT", "    affinityT", 25, "services[1].affinityTimeout", "add `affinity: clientIp`, or remove it"),
    ("flowTtl: 30s", "flowTtl: 30", 19, "services[0].flowTtl", "`30` is no time; write one with its unit, such as 240s"),
    ("flowTtl: 30s", "flowTtl: 10ms", 19, "services[0].flowTtl", "write one from 1s to 24h"),
    ("dsr: false", "dsr: perhaps", 20, "services[0].dsr", "write true or false"),
];

#[test]
fn each_mistake_is_named_with_line_field_and_cure() {
    let mut failures = vec![];
    for (from, to, line, field, words) in WRONG {
        assert!(GOOD.contains(from), "`{from}` is not in the good file");
        let found = problems(&GOOD.replacen(from, to, 1), None);
        let told = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        let place = (found[0].line, found[0].field.as_str());
        if found.len() != 1 || place != (*line, *field) || !told.contains(words) {
            failures.push(format!("{to:?}: {told}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_files_order() {
    let text =
        GOOD.replace("vni: 7", "vni: x").replace("port: 53", "port: 0").replace("attach: auto", "attach: y");
    let lines: Vec<_> = problems(&text, None).iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 5, 23]);
}

#[test]
fn files_without_contents_are_refused() {
    for text in ["", "---\n", "# only a comment\n", "- a\n- b\n", "text", "nodes: []\n", "a: &x [*x]\n"] {
        assert!(!problems(text, Some("n")).is_empty(), "{text:?}");
    }
}

#[test]
fn a_bad_file_is_told_in_one_line_or_in_all() {
    let bad = BadFile::Wrong {
        path: "node.yaml".into(),
        problems: problems(&GOOD.replace("vni: 7", "vni: x").replace("port: 53", "port: 0"), None),
    };
    let short = bad.to_string();
    assert!(short.starts_with("node.yaml line 2, column 6: vni: `x` is no VNI; write"), "{short}");
    assert!(short.ends_with("(and 1 more: run `beelined check`)"), "{short}");
    assert_eq!(format!("{bad:#}").lines().count(), 2);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("node.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    let path = pipe.clone();
    std::thread::spawn(move || sender.send(load(&path, None).unwrap_err().to_string()));
    let told = told.recv_timeout(Duration::from_secs(5)).expect("it waits for somebody to write");
    assert!(told.contains(&pipe.display().to_string()) && told.contains("no regular file"), "{told}");
}
