//! A full flow table: one pod's flood of new flows, and what becomes of others' connections.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{Service, frames::Frame, traffic::Traffic, wait::until};

use crate::{guard::GATEWAY_MAC, scene::Scene};

/// Connections on which nobody speaks while the flood lasts.
const SILENT: usize = 20;
/// Flows of the flood, two entries each, all together twice what the table holds: this many services, from this many ports.
const SERVICES: u16 = 5;
const PORTS: u16 = 60_000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn d_a_flood_of_new_flows_ends_no_connection() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node = scene.client.node();
    let flooder = scene.cluster.pod("flooder").on(node)?;
    let at = |port| SocketAddr::new(scene.vip().ip(), port);
    // Where nobody is, and so nobody answers.
    let nobody = IpAddr::from([10, 244, 2, 200]);
    let floods = (0..SERVICES).map(|n| Service::new(&format!("flood{n}"), at(9_000 + n)).to(nobody, 90 + n));
    let silent = Service::new("silent", at(8_100)).to(scene.server().address(), 81);
    scene.cluster.set_services([scene.service(), silent].into_iter().chain(floods))?;
    let listener = scene.server().run(|| TcpListener::bind((scene.family().any().ip(), 81)))??;
    let mut pairs = Vec::new();
    for _ in 0..SILENT {
        pairs.push(connect(&scene, at(8_100), &listener)?);
    }

    let traffic = Traffic::start(&scene.client, scene.vip());
    // Each twice: of what was seen once only, the table lets go before anything else.
    let flows = (0..SERVICES).flat_map(|n| (0..PORTS).flat_map(move |port| [(n, port); 2]));
    let frames = flows.map(|(n, port)| {
        let from = SocketAddr::new(flooder.address(), 1_024 + port);
        Frame { to_mac: GATEWAY_MAC, from_mac: flooder.mac(), from, to: at(9_000 + n), data: vec![] }.bytes()
    });
    flooder.send_frames("eth0", frames)?;
    let outcome = traffic.stop()?;
    ensure!(outcome.broken.is_empty(), "{} broke: {}", outcome.broken.len(), outcome.broken[0]);
    ensure!(outcome.asked > 0 && outcome.opened > 0, "{outcome:?}");

    // Servers speak first: their packets reach the client as nobody's, wherever the entry that would change them is gone.
    let before = node.drops()?;
    for (_, server) in &mut pairs {
        server.write_all(b"news")?;
    }
    // If none is, the table was not full.
    until("an entry to be lost", PATIENCE, || Ok(node.drops()?.since(&before).of("flow_lost") > 0))?;
    // Clients go on: all of them at once, since a server waits twice as long each time before it sends again.
    for (client, _) in &mut pairs {
        client.write_all(b"more")?;
    }
    for (client, server) in &mut pairs {
        expect(server, *b"more").context("at the server")?;
        expect(client, *b"news").context("at the client")?;
    }
    Ok(())
}

/// A connection, and its other end.
fn connect(scene: &Scene, to: SocketAddr, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = scene.client.run(|| TcpStream::connect(to))??;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
    }
    Ok((client, server))
}

fn expect(stream: &mut TcpStream, said: [u8; 4]) -> Result<()> {
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    ensure!(heard == said, "heard {heard:?}");
    Ok(())
}
