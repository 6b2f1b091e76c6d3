//! Pods of IPv6 alone, over the same IPv4 underlay: the rows of the acceptance table again, by the functions that show
//! them for IPv4; and what only IPv6 has.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use integration::{
    Cluster, Family, Stack,
    cluster::{Builder, underlay_ipv6},
    frames::icmpv6,
};

use crate::{
    affinity, agent_restart, direct_return, guard, host, mtu_gso, no_arp, outside, plain_vtep, policy,
    scene::{Scene, VIP6},
    source_preserved,
};

/// The client's node on the pod network.
const NODE: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1));
/// All nodes of a link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The pods' next hop.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn builder() -> Builder {
    Cluster::builder().stack(Stack::V6)
}

pub(crate) fn a1_overlay_reply_bypasses_both_hosts_by_ipv6() -> Result<()> {
    direct_return::across_nodes(builder())
}

pub(crate) fn a1_overlay_reply_bypasses_both_hosts_by_ipv6_and_clsact() -> Result<()> {
    direct_return::across_nodes(builder().attach(integration::Attach::Clsact))
}

pub(crate) fn a1_datagrams_bypass_both_hosts_by_ipv6() -> Result<()> {
    direct_return::datagrams(&Scene::across_nodes_with(Stack::V6)?)
}

pub(crate) fn a1_twin_with_dsr_off_the_clients_host_sees_ipv6() -> Result<()> {
    direct_return::dsr_off_across_nodes(Stack::V6)
}

pub(crate) fn a2_same_node_reply_bypasses_the_host_by_ipv6() -> Result<()> {
    direct_return::on_one_node(builder())
}

pub(crate) fn a2_twin_with_dsr_off_the_host_sees_ipv6() -> Result<()> {
    direct_return::dsr_off_on_one_node(Stack::V6)
}

pub(crate) fn a4_backend_sees_the_clients_ipv6_address_and_port() -> Result<()> {
    source_preserved::of_a_connection(Stack::V6)?;
    source_preserved::of_a_datagram(Stack::V6)
}

pub(crate) fn a5_rule_is_shown_for_ipv6() -> Result<()> {
    policy::is_shown_as_vfp_shows_it(Stack::V6)
}

pub(crate) fn a5_ipv6_packet_leaves_with_backend_hop_limit_macs_and_flow_pair() -> Result<()> {
    policy::packet_leaves_changed_and_with_a_flow_pair(Stack::V6)
}

pub(crate) fn a9_an_ipv6_client_stays_with_one_backend() -> Result<()> {
    affinity::a_client_stays(Stack::V6)
}

pub(crate) fn a10_every_ipv6_policy_says_is_dsr_and_what_was_measured() -> Result<()> {
    policy::every_policy_says_is_dsr(Stack::V6)
}

pub(crate) fn a13_no_neighbour_discovery_on_the_pods_wires() -> Result<()> {
    no_arp::nobody_asks_for_macs(Stack::V6)
}

pub(crate) fn d_honest_ipv6_frames_arrive() -> Result<()> {
    guard::honest_frames_arrive(Stack::V6)
}

pub(crate) fn d_forged_ipv6_source_is_dropped_and_counted() -> Result<()> {
    guard::forged_source_is_dropped(Stack::V6, NODE, &["fd00:10:244:1::fa", "::1", "::", "fe80::1"])
}

pub(crate) fn d_forged_mac_of_ipv6_is_dropped_and_counted() -> Result<()> {
    guard::forged_mac_is_dropped(Stack::V6)
}

pub(crate) fn d_forging_on_an_ipv6_flow_is_dropped_and_counted() -> Result<()> {
    guard::forging_on_a_flow_is_dropped(Stack::V6)
}

pub(crate) fn d_forged_neighbour_and_router_advertisements_reach_nobody() -> Result<()> {
    let scene = guard::scene(Stack::V6)?;
    let [near, far] = [&scene.servers[0], &scene.servers[1]];
    let IpAddr::V6(victim) = near.address() else { anyhow::bail!("not IPv6: {}", near.address()) };
    let mac = scene.client.mac();
    // "The neighbour, and the gateway, are at my MAC" (RFC 4861 §4.4), and "I am your router" (§4.2).
    let neighbour = |target: Ipv6Addr| {
        let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend(target.octets());
        message.extend([2, 1]);
        message.extend(mac);
        message
    };
    let router = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let lies = [
        icmpv6([0x33, 0x33, 0, 0, 0, 1], mac, victim, ALL_NODES, neighbour(victim)),
        icmpv6([0x33, 0x33, 0, 0, 0, 1], mac, GATEWAY, ALL_NODES, neighbour(GATEWAY)),
        icmpv6([0x33, 0x33, 0, 0, 0, 1], mac, GATEWAY, ALL_NODES, router),
        icmpv6(near.mac(), mac, GATEWAY, victim, neighbour(GATEWAY)),
    ];
    for lie in lies {
        guard::ensure_dropped(&scene, &lie, "neighbour_discovery", &[near, far])?;
    }
    // Who has another's ear still has the right gateway.
    for pod in [near, far] {
        let neighbours = pod.exec("ip -6 neigh show")?;
        ensure!(neighbours.contains("0a:58:a9:fe:01:01") && neighbours.lines().count() == 1, "{neighbours}");
    }
    Ok(())
}

pub(crate) fn d_agent_killed_and_restarted_under_ipv6_load_breaks_nothing() -> Result<()> {
    agent_restart::kill_under_load(Stack::V6)
}

pub(crate) fn a_node_process_reaches_ipv6_pods_on_every_node() -> Result<()> {
    host::node_reaches_pods(Stack::V6)
}

pub(crate) fn a_node_process_reaches_ipv6_vips() -> Result<()> {
    host::node_reaches_vips(Stack::V6)
}

pub(crate) fn a_pod_reaches_its_node_by_ipv6() -> Result<()> {
    host::pod_reaches_its_node(Stack::V6, &[NODE])
}

pub(crate) fn a_pod_reaches_the_ipv6_outside_masqueraded() -> Result<()> {
    let scene = Scene::with_servers_on(builder().underlay_ipv6(), &[2])?;
    let (outside, address) = outside::outsider(&scene.cluster, Family::V6)?;
    outside::is_masqueraded(&scene, &[1, 2].map(underlay_ipv6), &outside, address)
}

pub(crate) fn what_ipv6_pods_say_to_each_other_is_not_masqueraded() -> Result<()> {
    outside::not_masqueraded(Stack::V6)
}

pub(crate) fn the_mtu_of_ipv6_is_right_end_to_end() -> Result<()> {
    mtu_gso::is_right_end_to_end(Stack::V6)?;
    mtu_gso::fills_the_underlay_exactly(Stack::V6)
}

pub(crate) fn iperf_by_ipv6_with_gso_and_with_full_size_packets() -> Result<()> {
    mtu_gso::iperf_with_gso(Stack::V6)?;
    mtu_gso::iperf_with_full_size_packets(Stack::V6)?;
    mtu_gso::iperf_on_one_node_with(Stack::V6)
}

pub(crate) fn udp_of_full_size_arrives_by_ipv6() -> Result<()> {
    mtu_gso::full_size_udp_arrives(Stack::V6)
}

pub(crate) fn udp_gso_arrives_cut_into_its_segments_by_ipv6() -> Result<()> {
    mtu_gso::udp_gso_arrives_cut(Stack::V6)
}

pub(crate) fn tcpdump_decodes_ipv6_in_vxlan_without_error() -> Result<()> {
    mtu_gso::tcpdump_decodes_without_error(Stack::V6)
}

pub(crate) fn plain_vtep_exchanges_ipv6_with_pods() -> Result<()> {
    plain_vtep::exchanges_pings(Stack::V6)?;
    plain_vtep::exchanges_tcp(Stack::V6)?;
    plain_vtep::serves_behind_a_vip(Stack::V6)
}

pub(crate) fn pods_of_ipv6_alone_have_nothing_of_ipv4() -> Result<()> {
    let scene = Scene::across_nodes_with(Stack::V6)?;
    for pod in [&scene.client, scene.server()] {
        ensure!(pod.addresses().iter().all(IpAddr::is_ipv6), "{:?}", pod.addresses());
        ensure!(pod.exec("ip -4 addr show dev eth0")?.trim().is_empty());
        ensure!(pod.exec("ip -4 route show")?.trim().is_empty());
        pod.call("CHECK").run(pod.node())?.ok()?;
    }
    let (answer, _) = scene.client.get(VIP6)?;
    ensure!(answer.client.ip() == scene.client.address(), "{answer:?}");
    Ok(())
}
