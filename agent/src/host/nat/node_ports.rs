//! Node ports, asked by those whose packets meet no port of ours: this node's own processes, and the outside.
//!
//! The host turns the node's own address into one that stands for it ([`NodePorts`]) and lies behind the host's
//! own port, where the balancer answers at it as at any VIP. So there is one balancer, and a node port costs the host a
//! set's element, whatever its backends do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
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
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// The chains for packets from outside and from this node's processes.
pub(super) fn chains(ports: &[Frontend]) -> Vec<Chain> {
    let [inside, outside] =
        [NodePorts::INSIDE, NodePorts::OUTSIDE].map(|address| translations(ports, address));
    // First those that only this node's own pods may answer.
    let incoming = outside.into_iter().chain(inside.clone()).collect();
    vec![
        Chain { name: "node-ports", hook: NfHook::Prerouting, priority: PRIORITY, rules: incoming },
        Chain { name: "own-node-ports", hook: NfHook::Output, priority: PRIORITY, rules: inside },
    ]
}

/// Lets replies come back here. What only this node's own pods answer comes back by itself, and keeps its source; and so does
/// what this node's own processes ask from its address, to which the overlay leads replies: those of Beeline's nodes. A plain
/// VTEP would answer that address past the overlay.
pub(super) fn masquerade(ports: &[Frontend], network: &Network) -> Option<Rule> {
    let is_needed = ports.iter().any(|port| port.vip == IpAddr::from(NodePorts::INSIDE));
    let all_are_ours = network.peers.iter().all(|peer| peer.vtep_mac.is_none());
    let own = || text(network.node.address.to_string());
    is_needed.then(|| Rule {
        purpose: "node ports",
        statements: [
            compare(meta(MetaKey::Oifname), Operator::EQ, text(HOST)),
            compare(field("ip", "daddr"), Operator::EQ, text(NodePorts::INSIDE.to_string())),
        ]
        .into_iter()
        .chain(all_are_ours.then(|| compare(field("ip", "saddr"), Operator::NEQ, own())))
        .chain([Statement::Masquerade(None)])
        .collect(),
    })
}

/// A rule for each protocol that turns the node's address into `address` at these ports.
fn translations(ports: &[Frontend], address: Ipv4Addr) -> Vec<Rule> {
    let mut by_protocol: BTreeMap<Protocol, Vec<u16>> = BTreeMap::new();
    for frontend in ports.iter().filter(|frontend| frontend.vip == IpAddr::from(address)) {
        by_protocol.entry(frontend.protocol).or_default().push(frontend.port.get());
    }
    by_protocol.into_iter().map(|(protocol, ports)| translation(protocol, &ports, address)).collect()
}

fn translation(protocol: Protocol, ports: &[u16], address: Ipv4Addr) -> Rule {
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let ports = ports.iter().map(|&port| Expression::Number(port.into()));
    Rule {
        purpose: "node ports",
        statements: vec![
            is_for_this_node(),
            compare(field("ip", "daddr"), Operator::NEQ, prefix(IpNet::V4(LOOPBACK))),
            compare(field(name, "dport"), Operator::EQ, set(ports)),
            Statement::DNAT(Some(NAT {
                addr: Some(text(address.to_string())),
                family: Some(NATFamily::IP),
                port: None,
                flags: None,
            })),
        ],
    }
}
