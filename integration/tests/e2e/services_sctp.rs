//! SCTP through a VIP, by associations that begin: as far as can be told without a kernel that has SCTP.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, bail, ensure};
use integration::{
    Cluster, Pod, Service, Stack,
    config::Protocol,
    sctp::{Chunk, Packet, Raw},
};

use crate::scene::{BOTH, Scene, ensure_silent, vip_of};

/// Ports that the servers listen on: none is the VIP's.
const PORTS: [u16; 2] = [38_412, 9_899];
/// Client ports, by which associations are spread over the servers.
const CLIENTS: std::ops::Range<u16> = 40_000..40_040;

/// Two servers, each at a port of its own, on these nodes.
fn scene(nodes: [usize; 2]) -> Result<(Scene, Vec<integration::sctp::Server>)> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &nodes)?;
    let servers = scene.servers.iter().zip(PORTS);
    let programs =
        servers.map(|(server, port)| server.serve_sctp(server.name(), port)).collect::<Result<_>>()?;
    Ok((scene, programs))
}

fn service(scene: &Scene, servers: &[Pod]) -> Service {
    let service = Service::new("sctp", vip_of(BOTH[0])).at(vip_of(BOTH[1])).only(Protocol::Sctp);
    let all = scene
        .servers
        .iter()
        .zip(PORTS)
        .filter(|(server, _)| servers.iter().any(|wanted| wanted.address() == server.address()));
    all.fold(service, |service, (server, port)| {
        server.addresses().iter().fold(service, |service, address| service.to(*address, port))
    })
}

/// Begins an association from `port` to `vip`, step by step. Gives the server's name.
fn associate(from: IpAddr, port: u16, vip: SocketAddr) -> Result<String> {
    let raw = Raw::connect(vip.ip())?;
    let tag = u32::from(port) << 8;
    let ask = |tag, chunk| -> Result<Packet> {
        raw.send(&Packet { from: port, to: vip.port(), tag, chunk })?;
        let (source, answer) = raw.receive()?;
        // The socket hears nobody but the VIP's address anyway.
        ensure!((source, answer.from) == (vip.ip(), vip.port()), "answered from {source}, {answer:?}");
        ensure!(answer.to == port, "answered at another port: {answer:?}");
        Ok(answer)
    };
    let granted = ask(0, Chunk::Init { tag })?;
    let Chunk::InitAck { tag: servers, cookie } = granted.chunk.clone() else { bail!("{granted:?}") };
    ensure!(granted.tag == tag, "{granted:?}");
    let text = String::from_utf8(cookie.clone())?;
    let (server, seen) = text.split_once(' ').context("no name in the cookie")?;
    ensure!(seen == format!("{tag} {}", SocketAddr::new(from, port)), "the server saw {seen}");
    // The same server, or it would not know the cookie.
    let confirmed = ask(servers, Chunk::CookieEcho(cookie))?;
    ensure!(confirmed.chunk == Chunk::CookieAck && confirmed.tag == tag, "{confirmed:?}");
    Ok(server.to_owned())
}

pub(crate) fn c_sctp_associations_begin_across_nodes_past_both_hosts() -> Result<()> {
    associations_begin(&[2, 2], true)
}

pub(crate) fn c_sctp_associations_begin_on_one_node_and_on_several() -> Result<()> {
    associations_begin(&[1, 1], true)?;
    associations_begin(&[1, 2], false)
}

fn associations_begin(nodes: &[usize; 2], is_hidden: bool) -> Result<()> {
    let (scene, _programs) = scene(*nodes)?;
    scene.cluster.set_services([service(&scene, &scene.servers)])?;
    for family in BOTH {
        let (from, vip) = (scene.client.address_of(family)?, vip_of(family));
        let (seen, answered) = scene.watch_hosts(|| {
            let each = |port| scene.client.run(|| associate(from, port, vip))?;
            CLIENTS.map(each).collect::<Result<Vec<_>>>()
        })?;
        let answered: BTreeSet<_> = answered.iter().map(String::as_str).collect();
        ensure!(answered == BTreeSet::from(["server0", "server1"]), "{family:?}: only {answered:?} answered");
        if is_hidden {
            ensure_silent(scene.cluster.nodes(), &seen)?;
        }
    }
    let service = &scene.client.node().ctl_json("services sctp")?["services"][0];
    let count = |what: &str| service["measured"][what].as_u64().unwrap_or(0);
    let asked = 2 * u64::try_from(CLIENTS.len() * BOTH.len())?;
    ensure!((count("directPackets"), count("directReplies")) == (asked, asked), "{service}");
    Ok(())
}

pub(crate) fn c_sctp_without_endpoints_is_refused_at_once() -> Result<()> {
    let (scene, _programs) = scene([1, 2])?;
    let node = scene.client.node();
    for family in BOTH {
        let (from, vip) = (scene.client.address_of(family)?, vip_of(family));
        scene.cluster.set_services([service(&scene, &[])])?;
        let before = node.drops()?;
        let refused = scene.client.run(|| {
            let raw = Raw::connect(vip.ip())?;
            raw.send(&Packet { from: 40_000, to: vip.port(), tag: 0, chunk: Chunk::Init { tag: 1 } })?;
            raw.receive()
        })?;
        let kind = refused.as_ref().map_err(std::io::Error::kind);
        ensure!(kind.is_err_and(|kind| kind == ErrorKind::ConnectionRefused), "{family:?}: {refused:?}");
        ensure!(node.drops()?.since(&before).of("no_backend") == 1, "{family:?}: {}", node.drops()?);
        // Whoever comes is asked at once.
        scene.cluster.set_services([service(&scene, &scene.servers[1..])])?;
        let server = scene.client.run(|| associate(from, 40_000, vip))??;
        ensure!(server == "server1", "{server} answers");
    }
    Ok(())
}
