//! IPv6's extension headers: what a socket's options put between the IP header and the transport header goes through the load
//! balancer unchanged, and a Fragment header after it.

use std::{
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{
    Node, Stack,
    http::Connection,
    sockets::{Options, add_options},
};

use crate::scene::{Scene, ensure_silent};

const HEADERS: [Options; 2] = [Options::HopByHop, Options::Destination];
const TIMES: usize = 20;

pub(crate) fn c_requests_with_ipv6_extension_headers_are_answered() -> Result<()> {
    for scene in Scene::of_each_kind(Stack::V6)? {
        let drops = || scene.cluster.nodes().iter().map(Node::drops).collect::<Result<Vec<_>>>();
        let before = drops()?;
        // Hop-by-Hop comes first (0), and Destination Options (60) after it.
        let capture = scene.server().capture("eth0", "ip6 and ip6[6] = 0 and ip6[40] = 60")?;
        let (seen, done) = scene.watch_hosts(|| {
            scene.client.run(|| (0..TIMES).try_for_each(|_| ask_by_udp(&scene, &HEADERS, 1_000)))??;
            // Destination Options would follow the Fragment header, and that is not carried.
            scene.client.run(|| ask_by_udp(&scene, &HEADERS[..1], 8_192))??;
            scene.client.run(|| ask_by_tcp(&scene))?
        })?;
        let () = done;
        let captured = capture.stop()?.len();
        ensure!(captured >= 2 * TIMES, "only {captured} packets arrived with both headers");
        ensure_silent(scene.cluster.nodes(), &seen)?;
        for (after, before) in drops()?.iter().zip(&before) {
            ensure!(after.since(before).total_but_multicast() == 0, "{}", after.since(before));
        }
    }
    Ok(())
}

/// Sends `size` bytes behind these headers to the VIP; the same must come back.
fn ask_by_udp(scene: &Scene, headers: &[Options], size: usize) -> Result<()> {
    let socket = UdpSocket::bind(scene.family().any())?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    headers.iter().try_for_each(|&options| add_options(&socket, options))?;
    socket.connect(scene.vip())?;
    let sent: Vec<_> = (0..size).map(|n| n.to_le_bytes()[0]).collect();
    socket.send(&sent)?;
    let mut back = vec![0; size + 1];
    let length = socket.recv(&mut back).with_context(|| format!("{size} bytes behind {headers:?}"))?;
    ensure!(back[..length] == sent, "something else than the {size} bytes came back");
    Ok(())
}

/// Asks on one connection, every packet of which is behind both headers.
fn ask_by_tcp(scene: &Scene) -> Result<()> {
    let stream = TcpStream::connect(scene.vip())?;
    HEADERS.iter().try_for_each(|&options| add_options(&stream, options))?;
    let mut connection = Connection::over(stream)?;
    for _ in 0..TIMES {
        // More than a segment: it leaves the pod as one packet, to be cut later (GSO).
        let answer = connection.ask_with(7_000)?;
        ensure!(answer.client.ip() == scene.client.address(), "{answer:?}");
    }
    Ok(())
}
