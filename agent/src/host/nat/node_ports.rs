//! Node ports, asked by those whose packets meet no port of ours: this node's own processes, and the outside.
//!
//! The host turns the node's own address into one that stands for it ([`NodePorts`]) and lies behind the host's
//! own port, where the balancer answers at it as at any VIP. So there is one balancer, and a node port costs the host a
//! set's element, whatever its backends do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_dataplane::desired::{Frontend, Protocol};
use nftables::{
    expr::{Expression, MetaKey},
    stmt::{NAT, NATFamily, Operator, Statement},
    types::NfHook,
};

use super::{
    Chain, Rule,
    statements::{compare, field, is_for_this_node, meta, prefix, set, text},
};
use crate::{
    host::devices::HOST,
    model::{Network, NodePorts},
};

/// Priority of destination NAT (`dstnat`).
const PRIORITY: i32 = -100;
/// Not for node ports: the kernel keeps these addresses off every device but `lo`.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// The chains for packets from outside and from this node's processes.
pub(super) fn chains(ports: &[Frontend]) -> Vec<Chain> {
    let translations = |address: fn(NodePorts) -> IpAddr| {
        NodePorts::ALL.map(address).map(|address| translations(ports, address)).concat()
    };
    let (inside, outside) =
        (translations(|stand_in| stand_in.inside), translations(|stand_in| stand_in.outside));
    // First those that only this node's own pods may answer.
    let incoming = outside.into_iter().chain(inside.clone()).collect();
    vec![
        Chain { name: "node-ports", hook: NfHook::Prerouting, priority: PRIORITY, rules: incoming },
        Chain { name: "own-node-ports", hook: NfHook::Output, priority: PRIORITY, rules: inside },
    ]
}

/// Lets replies come back here, with a rule for each family. What only this node's own pods answer comes back by itself, and
/// keeps its source; and so does what this node's own processes ask from its underlay address, to which the overlay leads
/// replies: those of Beeline's nodes. A plain VTEP would answer that address past the overlay.
pub(super) fn masquerade(ports: &[Frontend], network: &Network) -> Vec<Rule> {
    let all_are_ours = network.peers.iter().all(|peer| peer.vtep_mac.is_none());
    let own = all_are_ours.then(|| IpAddr::from(network.node.address));
    let is_needed = |address: &IpAddr| ports.iter().any(|port| port.vip == *address);
    let stand_ins = NodePorts::ALL.map(|stand_in| stand_in.inside);
    stand_ins.into_iter().filter(is_needed).map(|address| masquerade_to(address, own)).collect()
}

/// For what is sent to `address`, unless it comes from `own`.
fn masquerade_to(address: IpAddr, own: Option<IpAddr>) -> Rule {
    let own = own.filter(|own| own.is_ipv4() == address.is_ipv4());
    let mut statements = vec![
        compare(meta(MetaKey::Oifname), Operator::EQ, text(HOST)),
        compare(field(header(address), "daddr"), Operator::EQ, text(address.to_string())),
    ];
    statements
        .extend(own.map(|own| compare(field(header(own), "saddr"), Operator::NEQ, text(own.to_string()))));
    statements.push(Statement::Masquerade(None));
    Rule { purpose: "node ports", statements }
}

/// A rule for each protocol that turns the node's address into `address` at these ports.
fn translations(ports: &[Frontend], address: IpAddr) -> Vec<Rule> {
    let mut by_protocol: BTreeMap<Protocol, Vec<u16>> = BTreeMap::new();
    for frontend in ports.iter().filter(|frontend| frontend.vip == address) {
        by_protocol.entry(frontend.protocol).or_default().push(frontend.port.get());
    }
    by_protocol.into_iter().map(|(protocol, ports)| translation(protocol, &ports, address)).collect()
}

fn translation(protocol: Protocol, ports: &[u16], address: IpAddr) -> Rule {
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let (family, loopback) = match address {
        IpAddr::V4(_) => (NATFamily::IP, LOOPBACK[0]),
        IpAddr::V6(_) => (NATFamily::IP6, LOOPBACK[1]),
    };
    let ports = ports.iter().map(|&port| Expression::Number(port.into()));
    Rule {
        purpose: "node ports",
        statements: vec![
            is_for_this_node(),
            compare(field(header(address), "daddr"), Operator::NEQ, prefix(loopback)),
            compare(field(name, "dport"), Operator::EQ, set(ports)),
            Statement::DNAT(Some(NAT {
                addr: Some(text(address.to_string())),
                family: Some(family),
                port: None,
                flags: None,
            })),
        ],
    }
}

/// What nftables calls the header that `address` stands in.
const fn header(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
