//! The rules as `nft` is told them, and as it tells them again.

use lb_dataplane::desired::Frontend;

use super::*;
use crate::model::NodePorts;

#[test]
fn the_rule_says_what_nft_understands() {
    let wanted = Wanted::new(&crate::model::tests::network());
    let json = serde_json::to_value(wanted.replacement()).unwrap();
    let rule = &json["nftables"][6]["add"]["rule"];
    assert_eq!(rule["expr"][0]["match"]["right"]["set"][0]["prefix"]["addr"], "10.244.1.0");
    assert_eq!(rule["expr"][1]["match"]["op"], "!=");
    assert_eq!(rule["expr"][2]["match"]["right"], "beeline0");
    assert_eq!(rule["expr"][3], json!({ "masquerade": null }));
    assert!(json["nftables"][7].is_null(), "{json}");
}

#[test]
fn there_is_a_rule_for_each_family_with_prefixes_of_that_family() {
    let wanted = Wanted::new(&crate::model::tests::dual_stack());
    let json = serde_json::to_value(wanted.replacement()).unwrap();
    for (rule, protocol, own) in [(6, "ip", "10.244.1.0"), (7, "ip6", "fd00:10:244:1::")] {
        let parts = &json["nftables"][rule]["add"]["rule"]["expr"];
        assert_eq!(parts[0]["match"]["left"]["payload"]["protocol"], protocol);
        assert_eq!(parts[0]["match"]["right"]["set"][0]["prefix"]["addr"], own);
        assert_eq!(parts[0]["match"]["right"]["set"].as_array().map(Vec::len), Some(1));
        assert_eq!(parts[1]["match"]["right"]["set"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn only_our_table_as_we_made_it_is_ours() {
    let wanted = Wanted::new(&crate::model::tests::network());
    let good = json!({ "nftables": [
        { "metainfo": {} },
        { "table": { "family": "inet", "name": "beeline", "handle": 1 } },
        { "chain": { "name": "masquerade", "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept" } },
        { "rule": { "chain": "masquerade", "comment": wanted.0[0].rules[0].mark() } },
    ] });
    assert!(wanted.is(&good.to_string()));
    let change = |change: fn(&mut Value)| {
        let mut other = good.clone();
        change(&mut other["nftables"]);
        !wanted.is(&other.to_string())
    };
    assert!(change(|objects| objects[1]["table"]["flags"] = "dormant".into()));
    assert!(change(|objects| objects[2]["chain"]["policy"] = "drop".into()));
    assert!(change(|objects| objects[3]["rule"]["comment"] = "other".into()));
    assert!(change(|objects| objects.as_array_mut().unwrap().push(json!({ "rule": {} }))));
    assert!(change(|objects| drop(objects.as_array_mut().unwrap().pop())));
    assert!(!wanted.is(r#"{"nftables": [{"metainfo": {}}, {"table": {"name": "beeline", "flags": "#));
}

#[test]
fn the_mark_changes_with_every_prefix() {
    let mut network = crate::model::tests::network();
    let mark = |network: &Network| Wanted::new(network).0[0].rules[0].mark();
    let before = mark(&network);
    network.peers[0].pod_cidrs[0] = "10.244.3.0/24".parse().unwrap();
    assert_ne!(mark(&network), before);
}

/// A network with a node port for each stand-in.
fn with_node_ports() -> Network {
    let mut network = crate::model::tests::network();
    let service = std::sync::Arc::make_mut(&mut network.services[0]);
    let frontend = service.frontends[0];
    let stand_ins = NodePorts::ALL.map(|it| [it.inside, it.outside]);
    service.shared = stand_ins.as_flattened().iter().map(|&vip| Frontend { vip, ..frontend }).collect();
    network
}

#[test]
fn node_ports_are_turned_into_their_stand_ins() {
    let wanted = Wanted::new(&with_node_ports());
    let names: Vec<_> = wanted.0.iter().map(|chain| (chain.name, chain.rules.len())).collect();
    assert_eq!(names, [("node-ports", 4), ("own-node-ports", 2), ("masquerade", 3)]);
    let json = serde_json::to_value(&wanted.0[0].rules[0].statements).unwrap();
    assert_eq!(
        json[0],
        json!({ "match": { "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local", "op": "==" } })
    );
    assert_eq!(json[2]["match"]["right"]["set"], json!([1]));
    assert_eq!(json[3], json!({ "dnat": { "addr": "169.254.1.3", "family": "ip" } }));
    let json = serde_json::to_value(&wanted.0[0].rules[1].statements).unwrap();
    assert_eq!(json[1]["match"]["right"]["prefix"], json!({ "addr": "::1", "len": 128 }));
    assert_eq!(json[3], json!({ "dnat": { "addr": "fd62:6565:6c69:6e65::3", "family": "ip6" } }));
    // A process of this node is on this node: what only endpoints here may answer is answered by all to it.
    let json = serde_json::to_value(&wanted.0[1].rules[0].statements).unwrap();
    assert_eq!(json[3]["dnat"]["addr"], "169.254.1.2");
}

#[test]
fn what_the_node_asks_at_its_own_ports_keeps_its_source_unless_a_plain_vtep_might_answer() {
    let mut network = with_node_ports();
    let rule = |network: &Network, n: usize| {
        let rules = &Wanted::new(network).0[2].rules;
        serde_json::to_value(&rules[n].statements).unwrap()
    };
    let json = rule(&network, 0);
    assert_eq!(json[2]["match"]["left"]["payload"]["field"], "saddr");
    assert_eq!((&json[2]["match"]["op"], &json[2]["match"]["right"]), (&json!("!="), &json!("192.168.77.1")));
    assert_eq!(
        rule(&network, 1)[2],
        json!({ "masquerade": null }),
        "the overlay leads to no underlay address of IPv6"
    );
    network.peers[0].vtep_mac = Some(lb_dataplane::Mac([2, 0, 0, 0, 0, 9]));
    assert_eq!(rule(&network, 0)[2], json!({ "masquerade": null }));
}

#[test]
fn what_is_left_to_the_host_is_no_node_port_of_ours() {
    let mut network = with_node_ports();
    std::sync::Arc::make_mut(&mut network.services[0]).dsr = false;
    let names: Vec<_> = Wanted::new(&network).0.iter().map(|chain| chain.name).collect();
    assert_eq!(names, ["masquerade"]);
}
