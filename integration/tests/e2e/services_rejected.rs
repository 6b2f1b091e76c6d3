//! Requests that nobody takes: the client is told so by the answer to its first packet, and does not wait.

use std::{io::ErrorKind, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Node, Service, Stack, http::Connection, sockets};

use crate::scene::{BOTH, Scene, ensure_refused, vip_of};

/// Requests of each kind.
const ASKED: u64 = 20;

/// All requests of `client` to `at` are refused, each at its first packet: `node` drops one packet a request, for `reason`.
fn refused_at_once(client: &Netns, node: &Node, at: SocketAddr, reason: &str) -> Result<()> {
    let before = node.drops()?;
    for _ in 0..ASKED {
        ensure_refused(client.run(|| sockets::connect_from(0, at))?.map(drop))?;
        ensure_refused(client.run(|| ask(at))?)?;
    }
    let dropped = node.drops()?.since(&before);
    let expected = ASKED * 2;
    ensure!(dropped.of(reason) == expected, "{at}: {expected} asked; {dropped}");
    Ok(())
}

/// One datagram, and what comes of it.
fn ask(at: SocketAddr) -> std::io::Result<()> {
    let socket = sockets::datagrams_from(0, at)?;
    socket.set_read_timeout(Some(integration::http::PATIENCE))?;
    socket.send(b"hello?")?;
    socket.recv(&mut [0; 10]).map(drop)
}

pub(crate) fn c_without_endpoints_requests_are_refused_at_once() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual).nodes(1), &[1])?;
    let node = scene.client.node();
    let empty = Service::new("echo", vip_of(BOTH[0])).at(vip_of(BOTH[1]));
    for family in BOTH {
        let at = vip_of(family);
        for client in [&*scene.client, &**node] {
            scene.cluster.set_services([scene.service()])?;
            client.get(at)?;
            scene.cluster.set_services([empty.clone()])?;
            refused_at_once(client, node, at, "no_backend")?;
        }
        // The first endpoint is asked at once too.
        scene.cluster.set_services([scene.service()])?;
        scene.client.get(at)?;
        scene.client.ask_udp(at)?;
    }
    Ok(())
}

pub(crate) fn c_a_wrong_port_of_a_vip_is_refused_at_once() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual).nodes(1), &[1])?;
    let node = scene.client.node();
    for family in BOTH {
        let right = vip_of(family);
        // One that nobody has, and the server's own, which is not the service's.
        for port in [9, 80] {
            for client in [&*scene.client, &**node] {
                refused_at_once(client, node, SocketAddr::new(right.ip(), port), "no_frontend")?;
                client.get(right)?;
            }
        }
    }
    Ok(())
}

/// Its connections are reset, and new ones refused, until it has a successor.
pub(crate) fn c_clients_of_an_evicted_pod_are_refused_at_once() -> Result<()> {
    for mut scene in Scene::of_each_kind(Stack::Dual)? {
        let (node, place) = (scene.client.node().clone(), scene.server().node().clone());
        let open = |family| scene.client.run(|| Connection::open(vip_of(family)))?;
        let mut open: Vec<Connection> = BOTH.into_iter().map(open).collect::<Result<_>>()?;
        open.iter_mut().try_for_each(|connection| connection.ask().map(drop))?;
        scene.remove_servers();
        scene.cluster.set_services([Service::new("echo", vip_of(BOTH[0])).at(vip_of(BOTH[1]))])?;
        for connection in &mut open {
            let broken = connection.ask().err().context("a connection to nobody was answered")?;
            let cause = broken.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ensure!(cause == Some(ErrorKind::ConnectionReset), "{broken:#}");
        }
        for family in BOTH {
            refused_at_once(&scene.client, &node, vip_of(family), "no_backend")?;
        }
        scene.add_server("successor", &place)?;
        scene.cluster.set_services([scene.service()])?;
        for family in BOTH {
            ensure!(scene.client.get(vip_of(family))?.0.server == "successor");
        }
    }
    Ok(())
}
