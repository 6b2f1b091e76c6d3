//! Arrivals: VXLAN with a wrong VNI, from a machine that is no peer, or with an inner source that its sender does not
//! own is dropped and counted by name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use integration::{Attach, Cluster, Netns, Pod, frames::Frame};

use crate::scene::{Scene, ensure_silent};

const TIMES: u32 = 20_000;
const VNI: u32 = 7;

/// What the server on node 2 would say to the client on node 1, as its own node would tunnel it.
fn honest(scene: &Scene) -> Frame {
    let (client, server): (&Pod, &Pod) = (&scene.client, scene.server());
    Frame {
        to_mac: client.mac(),
        from_mac: server.mac(),
        from: SocketAddr::new(server.address(), 4000),
        to: SocketAddr::new(client.address(), 4001),
        data: vec![0; 32],
    }
}

/// Sends VXLAN `payload` from `sender` to node 1; all of it must be dropped for `reason`.
fn ensure_dropped(scene: &Scene, sender: &Netns, payload: &[u8], reason: &str) -> Result<()> {
    let node = scene.cluster.node(1)?;
    let before = (node.drops()?, scene.client.received()?);
    let to = SocketAddr::new(node.address().into(), 4789);
    let stack = node.host_stack()?;
    sender.send_udp(to, payload, TIMES)?;
    let near = node.host_stack()?.since(&stack);
    let dropped = node.drops()?.since(&before.0);
    ensure!(dropped.of(reason) == u64::from(TIMES), "{TIMES} sent, dropped: {dropped}; {near}");
    ensure!(dropped.total_but_multicast() == u64::from(TIMES), "{TIMES} sent, dropped: {dropped}");
    ensure!(scene.client.received()? == before.1, "the pod received some of it");
    ensure_silent(&scene.cluster.nodes()[..1], &[near])
}

fn scene(attach: Attach) -> Result<Scene> {
    Scene::with_servers_on(Cluster::builder().attach(attach).nodes(3), &[2])
}

pub(crate) fn d_honest_vxlan_from_a_peer_arrives() -> Result<()> {
    let scene = scene(Attach::Auto)?;
    let before = scene.client.received()?;
    let to = SocketAddr::new(scene.cluster.node(1)?.address().into(), 4789);
    scene.cluster.node(2)?.send_udp(to, &honest(&scene).in_vxlan(VNI), 1_000)?;
    let received = scene.client.received()?.since(before).packets;
    ensure!(received == 1_000, "{received} of 1000 arrived");
    Ok(())
}

pub(crate) fn d_unknown_vni_is_dropped_and_counted() -> Result<()> {
    for attach in [Attach::Tcx, Attach::Clsact] {
        let scene = scene(attach)?;
        for vni in [0, VNI + 1, 0xff_ffff] {
            let payload = honest(&scene).in_vxlan(vni);
            ensure_dropped(&scene, scene.cluster.node(2)?, &payload, "unknown_vni")?;
        }
    }
    Ok(())
}

pub(crate) fn d_vxlan_from_no_peer_is_dropped_and_counted() -> Result<()> {
    let scene = scene(Attach::Auto)?;
    let stranger = scene.cluster.outsider("stranger", Ipv4Addr::new(192, 168, 77, 66))?;
    ensure_dropped(&scene, &stranger, &honest(&scene).in_vxlan(VNI), "unknown_vtep")
}

pub(crate) fn d_forged_inner_source_is_dropped_and_counted() -> Result<()> {
    let scene = scene(Attach::Auto)?;
    // Node 3 is a peer, but what it claims to forward is node 2's, node 1's own, the VIP's or nobody's.
    let claims = [
        scene.server().address(),
        scene.client.address(),
        IpAddr::from([10, 244, 1, 77]),
        IpAddr::from([10, 96, 0, 10]),
        IpAddr::from([192, 168, 77, 1]),
        IpAddr::from([8, 8, 8, 8]),
    ];
    for claim in claims {
        let mut frame = honest(&scene);
        frame.from = SocketAddr::new(claim, 4000);
        ensure_dropped(&scene, scene.cluster.node(3)?, &frame.in_vxlan(VNI), "forged_inner_source")?;
    }
    Ok(())
}

pub(crate) fn d_the_slow_path_refuses_the_same() -> Result<()> {
    let scene = scene(Attach::Tcx)?;
    let node = scene.cluster.node(1)?;
    // Without its agent, which would put it back.
    node.kill_agent()?;
    node.detach("eth0")?;
    let stranger = scene.cluster.outsider("stranger", Ipv4Addr::new(192, 168, 77, 66))?;
    let (peer, other) = (scene.cluster.node(2)?, scene.cluster.node(3)?);
    let frame = honest(&scene);
    let cases: [(&Netns, u32, &str); 4] = [
        (peer, VNI, ""),
        (peer, VNI + 1, "unknown_vni"),
        (&stranger, VNI, "unknown_vtep"),
        (other, VNI, "forged_inner_source"),
    ];
    for (sender, vni, reason) in cases {
        let before = (node.drops()?, node.hops()?, scene.client.received()?);
        sender.send_udp(SocketAddr::new(node.address().into(), 4789), &frame.in_vxlan(vni), 1_000)?;
        let dropped = node.drops()?.since(&before.0);
        let received = scene.client.received()?.since(before.2).packets;
        if reason.is_empty() {
            let took = node.hops()?.since(&before.1);
            ensure!(took.of("overlay_to_port") == 1_000 && received == 1_000, "{took}; {received} received");
        } else {
            ensure!(dropped.of(reason) == 1_000 && received == 0, "{dropped}; {received} received");
        }
    }
    Ok(())
}

pub(crate) fn d_vxlan_for_an_address_that_is_not_here_is_dropped_and_counted() -> Result<()> {
    let scene = scene(Attach::Auto)?;
    for to in [
        IpAddr::from([10, 244, 1, 200]),
        IpAddr::from([10, 244, 3, 2]),
        IpAddr::from([8, 8, 8, 8]),
        scene.cluster.node(1)?.address().into(),
    ] {
        let mut frame = honest(&scene);
        frame.to = SocketAddr::new(to, 4001);
        ensure_dropped(&scene, scene.cluster.node(2)?, &frame.in_vxlan(VNI), "no_endpoint")?;
    }
    Ok(())
}
