//! Datagrams larger than the MTU: the pod's kernel sends them in fragments, of which only the first has ports, and all must
//! reach one backend and come back as the VIP.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Stack};

use crate::scene::{Scene, ensure_silent};

/// Two fragments, six, and as many as a datagram may have.
const SIZES: [usize; 3] = [2_000, 8_192, 60_000];

pub(crate) fn c_large_requests_arrive_both_ways() -> Result<()> {
    large_requests_arrive(Stack::V4)
}

pub(crate) fn c_large_requests_arrive_both_ways_by_ipv6() -> Result<()> {
    large_requests_arrive(Stack::V6)
}

fn large_requests_arrive(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        let drops = || scene.cluster.nodes().iter().map(integration::Node::drops).collect::<Result<Vec<_>>>();
        let before = drops()?;
        for to in [scene.vip(), SocketAddr::new(scene.server().address(), 80)] {
            let (seen, done) = scene.watch_hosts(|| {
                scene.client.run(|| SIZES.iter().try_for_each(|&size| exchange(&scene, to, size)))?
            })?;
            let () = done;
            ensure_silent(scene.cluster.nodes(), &seen)?;
        }
        for (after, before) in drops()?.iter().zip(&before) {
            ensure!(after.since(before).total_but_multicast() == 0, "{}", after.since(before));
        }
    }
    Ok(())
}

pub(crate) fn c_large_requests_of_each_client_stay_with_one_backend() -> Result<()> {
    for stack in [Stack::V4, Stack::V6] {
        // Fragments that were balanced for themselves would be put together by nobody.
        let scene = Scene::with_servers_on(Cluster::builder().stack(stack), &[1, 2, 2, 1])?;
        scene.client.run(|| (0..40).try_for_each(|_| exchange(&scene, scene.vip(), 8_192)))??;
        // A process of the node asks alike.
        let node = scene.client.node();
        node.run(|| (0..10).try_for_each(|_| exchange(&scene, scene.vip(), 8_192)))??;
    }
    Ok(())
}

/// Sends `size` bytes to the echo server at `to` from a port of its own; the same must come back, and from there.
fn exchange(scene: &Scene, to: SocketAddr, size: usize) -> Result<()> {
    let socket = UdpSocket::bind(scene.family().any())?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(to)?;
    let sent: Vec<_> = (0..size).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    socket.send(&sent)?;
    let mut back = vec![0; size + 1];
    let length = socket.recv(&mut back).with_context(|| format!("{size} bytes to {to}"))?;
    ensure!(back[..length] == sent, "something else than the {size} bytes to {to} came back");
    Ok(())
}
