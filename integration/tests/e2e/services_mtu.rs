//! Path MTU: whoever sends more than the way carries is told, through the load balancer too, and goes on with less.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use integration::{
    Node, Service, Stack,
    http::Connection,
    sockets::{never_fragment, path_mtu},
    wait,
};

use crate::scene::Scene;

/// Of the underlay, once pods were made for 1500.
const NARROW: i32 = 1_400;
/// What VXLAN takes of it.
const VXLAN: i32 = 50;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn c_a_path_that_narrows_is_told_to_sockets() -> Result<()> {
    narrows(Stack::V4)
}

pub(crate) fn c_a_path_that_narrows_is_told_to_ipv6_sockets() -> Result<()> {
    narrows(Stack::V6)
}

fn narrows(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let (socket, mut connection) = scene.client.run(|| -> Result<_> {
        let socket = UdpSocket::bind(scene.family().any())?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        never_fragment(&socket)?;
        socket.connect(scene.vip())?;
        Ok((socket, Connection::open(scene.vip())?))
    })??;
    let fits = |mtu: i32| -> Result<usize> { Ok(usize::try_from(mtu)? - scene.ping_headers()) };
    ensure!(is_echoed(&socket, fits(1_450)?)?, "the way is not as wide as the pod takes it to be");
    connection.ask_with(7_000)?;

    let dropped = || scene.cluster.nodes().iter().map(Node::drops).collect::<Result<Vec<_>>>();
    let before = dropped()?;
    for node in scene.cluster.nodes() {
        node.ip(&format!("link set eth0 mtu {NARROW}"))?;
    }
    let now = NARROW - VXLAN;
    for node in scene.cluster.nodes() {
        wait::until("the overlay to be as narrow", LIMIT, || {
            Ok(node.status().is_some_and(|status| status["mtu"] == now))
        })?;
    }
    is_told(&socket, fits(1_450)?, now)?;
    ensure!(is_echoed(&socket, fits(now)?)?, "what fits is lost");
    for _ in 0..20 {
        let answer = connection.ask_with(7_000)?;
        ensure!(answer.client.ip() == scene.client.address(), "{answer:?}");
    }
    // A datagram in fragments: the server, who sends it back, is told as well, and then cuts it smaller.
    let other = scene.client.run(|| UdpSocket::bind(scene.family().any()))??;
    other.set_read_timeout(Some(Duration::from_millis(500)))?;
    other.connect(scene.vip())?;
    wait::until("a large datagram to come back", LIMIT, || is_echoed(&other, 8_192))?;
    for (after, before) in dropped()?.iter().zip(&before) {
        let dropped = after.since(before);
        ensure!(dropped.of("packet_too_big") > 0, "nobody was told here: {dropped}");
    }
    Ok(())
}

/// A backend outside, which the host's stack leads to: its errors come from outside the overlay.
pub(crate) fn c_a_narrow_path_beyond_the_host_is_told_to_sockets() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let address = [192, 168, 77, 100].into();
    let outside = scene.cluster.outsider("outside", address)?;
    let _program = outside.serve_as("outside", 80, &scene.client.node().log_path("outside"))?;
    let vip = SocketAddr::new(scene.vip().ip(), 8_100);
    scene.cluster.set_services([scene.service(), Service::new("outside", vip).to(address, 80)])?;
    let socket = scene.client.run(|| UdpSocket::bind(scene.family().any()))??;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    never_fragment(&socket)?;
    socket.connect(vip)?;
    let most = usize::try_from(1_450)? - scene.ping_headers();
    ensure!(is_echoed(&socket, most)?, "no answer from outside");

    let narrow = 1_200;
    scene.client.node().ip(&format!("route add {address}/32 dev eth0 mtu {narrow}"))?;
    is_told(&socket, most, narrow)?;
    ensure!(is_echoed(&socket, usize::try_from(narrow)? - scene.ping_headers())?, "what fits is lost");
    Ok(())
}

/// Sends `size` bytes until `socket` is told that its way carries packets of `mtu` bytes.
fn is_told(socket: &UdpSocket, size: usize, mtu: i32) -> Result<()> {
    wait::until("the socket to be told", LIMIT, || match socket.send(&vec![1; size]) {
        Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => Ok(true),
        Ok(_) => Ok(false),
        Err(e) => bail!("{e}"),
    })?;
    // The error that told it may still be there to be read.
    socket.take_error()?;
    let told = path_mtu(socket)?;
    ensure!(told == mtu, "the way is taken to carry {told} bytes, not {mtu}");
    Ok(())
}

/// Whether the echo server sends these many bytes back.
fn is_echoed(socket: &UdpSocket, size: usize) -> Result<bool> {
    socket.send(&vec![2; size])?;
    let mut back = vec![0; size + 1];
    match socket.recv(&mut back) {
        Ok(length) => Ok(back[..length] == vec![2; size]),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e.into()),
    }
}
