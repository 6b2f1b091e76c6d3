//! Guard: what a pod may not send is dropped at its port and counted by name; nobody else ever sees it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use integration::{Cluster, Pod, Stack, frames::Frame};

use crate::scene::Scene;

const TIMES: u32 = 20_000;
/// MAC of the host end of every port.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x0a, 0x58, 169, 254, 1, 1];

/// A datagram that `from` may send to `to`.
fn honest(from: &Pod, to: IpAddr) -> Frame {
    Frame {
        to_mac: GATEWAY_MAC,
        from_mac: from.mac(),
        from: SocketAddr::new(from.address(), 4000),
        to: SocketAddr::new(to, 4001),
        data: vec![0; 32],
    }
}

/// Sends `frame` from the client; every one of them must be dropped for `reason`, and none arrive at `victims`.
pub(crate) fn ensure_dropped(scene: &Scene, frame: &[u8], reason: &str, victims: &[&Pod]) -> Result<()> {
    let node = scene.client.node();
    let received = || {
        victims
            .iter()
            .map(|pod| Ok((pod.received()?, pod.frames_received_on("eth0")?)))
            .collect::<Result<Vec<_>>>()
    };
    let before = (node.drops()?, received()?);
    let (seen, ()) = scene.watch_hosts(|| scene.client.send_frame("eth0", frame, TIMES))?;
    let dropped = node.drops()?.since(&before.0);
    ensure!(dropped.of(reason) == u64::from(TIMES), "{TIMES} sent, dropped: {dropped}");
    ensure!(dropped.total_but_multicast() == u64::from(TIMES), "{TIMES} sent, dropped: {dropped}");
    ensure!(received()? == before.1, "a victim received some of it");
    crate::scene::ensure_silent(scene.cluster.nodes(), &seen)
}

/// A server on the client's node, and one on the other.
pub(crate) fn scene(stack: Stack) -> Result<Scene> {
    Scene::with_servers_on(Cluster::builder().stack(stack), &[1, 2])
}

pub(crate) fn d_honest_frames_arrive() -> Result<()> {
    honest_frames_arrive(Stack::V4)
}

pub(crate) fn honest_frames_arrive(stack: Stack) -> Result<()> {
    let scene = scene(stack)?;
    for server in &scene.servers {
        let before = server.received()?;
        let frame = honest(&scene.client, server.address());
        scene.client.send_frame("eth0", &frame.bytes(), 1_000)?;
        let received = server.received()?.since(before).packets;
        ensure!(received == 1_000, "{} received {received} of 1000", server.name());
    }
    Ok(())
}

pub(crate) fn d_forged_source_address_is_dropped_and_counted() -> Result<()> {
    let node = IpAddr::from([192, 168, 77, 1]);
    let nobody = ["10.244.1.250", "127.0.0.1", "0.0.0.0"];
    forged_source_is_dropped(Stack::V4, node, &nobody)
}

/// `node` is an address of the client's node; `foreign` are nobody's, or those of no pod here.
pub(crate) fn forged_source_is_dropped(stack: Stack, node: IpAddr, foreign: &[&str]) -> Result<()> {
    let scene = scene(stack)?;
    let [near, far] = [&scene.servers[0], &scene.servers[1]];
    let mut forged = vec![near.address(), far.address(), node, scene.vip().ip()];
    for address in foreign {
        forged.push(address.parse()?);
    }
    for address in forged {
        for to in [near.address(), far.address(), scene.vip().ip(), node] {
            let mut frame = honest(&scene.client, to);
            frame.from = SocketAddr::new(address, 4000);
            ensure_dropped(&scene, &frame.bytes(), "forged_source", &[near, far])?;
        }
    }
    Ok(())
}

pub(crate) fn d_forged_mac_is_dropped_and_counted() -> Result<()> {
    forged_mac_is_dropped(Stack::V4)
}

pub(crate) fn forged_mac_is_dropped(stack: Stack) -> Result<()> {
    let scene = scene(stack)?;
    let [near, far] = [&scene.servers[0], &scene.servers[1]];
    for mac in [near.mac(), far.mac(), GATEWAY_MAC, [2, 0, 0, 0, 0, 1]] {
        for to in [near.address(), far.address()] {
            let mut frame = honest(&scene.client, to);
            frame.from_mac = mac;
            ensure_dropped(&scene, &frame.bytes(), "forged_mac", &[near, far])?;
        }
    }
    Ok(())
}

pub(crate) fn d_forging_on_a_flow_that_exists_is_dropped_and_counted() -> Result<()> {
    forging_on_a_flow_is_dropped(Stack::V4)
}

pub(crate) fn forging_on_a_flow_is_dropped(stack: Stack) -> Result<()> {
    let scene = scene(stack)?;
    let near = &scene.servers[0];
    // Another pod has a flow: its 5-tuple with its MAC, sent from the client's port, must not ride on it.
    let other = scene.cluster.pod("other").on(scene.client.node())?;
    let stolen = honest(&other, near.address());
    other.send_frame("eth0", &stolen.bytes(), 10)?;
    ensure_dropped(&scene, &stolen.bytes(), "forged_source", &[near])?;
    // And the client's own flow does not excuse another MAC.
    let own = honest(&scene.client, near.address());
    scene.client.send_frame("eth0", &own.bytes(), 10)?;
    let forged = Frame { from_mac: other.mac(), ..own };
    ensure_dropped(&scene, &forged.bytes(), "forged_mac", &[near])
}

pub(crate) fn d_arp_and_other_non_ip_is_dropped_and_counted() -> Result<()> {
    let scene = scene(Stack::V4)?;
    let mut arp = Vec::new();
    arp.extend([0xff; 6]);
    arp.extend(scene.client.mac());
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    arp.extend(scene.client.mac());
    arp.extend([10, 244, 1, 3]);
    arp.extend([0xff; 6]);
    arp.extend([10, 244, 2, 2]);
    ensure_dropped(&scene, &arp, "not_ip", &[&scene.servers[0], &scene.servers[1]])
}

pub(crate) fn d_vlan_tagged_frames_are_dropped_and_counted() -> Result<()> {
    let scene = scene(Stack::V4)?;
    let [near, far] = [&scene.servers[0], &scene.servers[1]];
    for to in [near.address(), far.address(), scene.vip().ip(), scene.client.node().address().into()] {
        let mut frame = honest(&scene.client, to).bytes();
        // 802.1Q, VLAN 42, between the MACs and the type.
        frame.splice(12..12, [0x81, 0x00, 0x00, 42]);
        ensure_dropped(&scene, &frame, "vlan_tagged", &[near, far])?;
    }
    Ok(())
}

pub(crate) fn d_vxlan_made_by_a_pod_is_dropped_and_counted() -> Result<()> {
    let scene = scene(Stack::V4)?;
    let [near, far] = [&scene.servers[0], &scene.servers[1]];
    let mut inner = honest(&scene.client, far.address());
    inner.from = SocketAddr::from(([10, 244, 1, 250], 4000));
    for node in scene.cluster.nodes() {
        let mut outer = honest(&scene.client, node.address().into());
        outer.to.set_port(4789);
        outer.data = inner.in_vxlan(7);
        ensure_dropped(&scene, &outer.bytes(), "pod_vxlan", &[near, far])?;
    }
    Ok(())
}
