//! Masquerade: what pods send to the outside leaves with the node's own address; and so does what comes in by a node
//! port, whose replies must come back here.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_dataplane::desired::Frontend;
use nftables::{
    expr::MetaKey,
    stmt::{Operator, Statement},
    types::NfHook,
};

use super::{
    Chain, Rule, node_ports,
    statements::{compare, field, meta, prefix, set, text},
};
use crate::{host::devices::HOST, model::Network};

/// Priority of source NAT (`srcnat`).
const PRIORITY: i32 = 100;

/// The chain, with a rule for each family that the node has pods of.
pub(super) fn chain(network: &Network, node_ports: &[Frontend]) -> Chain {
    let families = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let outgoing = families.iter().filter_map(|everything| outgoing(network, everything));
    let rules = node_ports::masquerade(node_ports, network).into_iter().chain(outgoing).collect();
    Chain { name: "masquerade", hook: NfHook::Postrouting, priority: PRIORITY, rules }
}

/// For the family of which `everything` is the whole; `None` if this node has no pods of it.
fn outgoing(network: &Network, everything: &IpNet) -> Option<Rule> {
    let of_family = |cidr: &&IpNet| everything.contains(*cidr);
    let own: Vec<IpNet> = network.node.pod_cidrs.iter().filter(of_family).copied().collect();
    let peers = network.peers.iter().flat_map(|peer| &peer.pod_cidrs);
    let mut all: Vec<_> = own.iter().chain(peers).filter(of_family).copied().collect();
    all.sort_unstable();
    let protocol = match own.first()? {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    };
    let statements = vec![
        compare(field(protocol, "saddr"), Operator::EQ, set(own.into_iter().map(prefix))),
        compare(field(protocol, "daddr"), Operator::NEQ, set(all.into_iter().map(prefix))),
        compare(meta(MetaKey::Oifname), Operator::NEQ, text(HOST)),
        Statement::Masquerade(None),
    ];
    Some(Rule { purpose: "pods to the outside", statements })
}
