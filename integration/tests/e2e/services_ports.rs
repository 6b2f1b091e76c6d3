//! Services with more than one port, or protocol; and endpoints that differ in theirs.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Result, bail, ensure};
use integration::{Cluster, Family, Protocol, Service, Stack, http::Connection, sockets};

use crate::scene::{BOTH, Scene, ensure_refused, vip_of};

/// The server's second port.
const OTHER: u16 = 8080;

/// Pods have both families, and the server listens at 80 and [`OTHER`].
fn scenes() -> Result<Vec<(Scene, integration::process::Running)>> {
    let scenes = Scene::of_each_kind(Stack::Dual)?.into_iter().map(|scene| {
        let other = scene.server().serve(OTHER)?;
        Ok((scene, other))
    });
    scenes.collect()
}

/// Port `number` of the VIP, by `protocol`, leads to the server's port `target`.
struct Port(u16, Protocol, u16);

impl Port {
    /// As the agent's sources have it: a service for each port.
    fn service(&self, scene: &Scene, family: Family) -> Result<Service> {
        let Self(number, protocol, target) = *self;
        let at = SocketAddr::new(vip_of(family).ip(), number);
        let name = format!("echo-{number}-{protocol:?}").to_lowercase();
        Ok(Service::new(&name, at).only(protocol).to(scene.server().address_of(family)?, target))
    }

    /// Asks it; who is asked says at which port, by TCP, and by UDP likewise.
    fn ask(&self, scene: &Scene, family: Family) -> Result<()> {
        let at = SocketAddr::new(vip_of(family).ip(), self.0);
        let (answer, client) = match self.1 {
            Protocol::Tcp => scene.client.get(at)?,
            Protocol::Udp => {
                let (answer, port) = scene.client.ask_udp(at)?;
                (answer, SocketAddr::new(scene.client.address_of(family)?, port))
            }
            Protocol::Sctp => bail!("nobody here speaks SCTP"),
        };
        ensure!(answer.local.port() == self.2 && answer.client == client, "{at}: {answer:?}");
        Ok(())
    }

    fn is_refused(&self, scene: &Scene, family: Family) -> Result<()> {
        let at = SocketAddr::new(vip_of(family).ip(), self.0);
        match self.1 {
            Protocol::Tcp => ensure_refused(scene.client.run(|| sockets::connect_from(0, at))?.map(drop)),
            Protocol::Udp => ensure_refused(scene.client.run(|| {
                let socket = sockets::datagrams_from(0, at)?;
                socket.set_read_timeout(Some(integration::http::PATIENCE))?;
                socket.send(b"hello?")?;
                socket.recv(&mut [0; 10]).map(drop)
            })?),
            Protocol::Sctp => bail!("nobody here speaks SCTP"),
        }
    }
}

/// Sets these ports and no others.
fn set(scene: &Scene, family: Family, ports: &[&Port]) -> Result<()> {
    let services = ports.iter().map(|port| port.service(scene, family)).collect::<Result<Vec<_>>>()?;
    scene.cluster.set_services(services)
}

pub(crate) fn c_each_port_of_a_service_leads_to_its_own_and_stops_when_removed() -> Result<()> {
    for (scene, _other) in scenes()? {
        for family in BOTH {
            let ports = [Port(8000, Protocol::Tcp, 80), Port(8001, Protocol::Tcp, OTHER)];
            stop_one_by_one(&scene, family, &ports)?;
        }
    }
    Ok(())
}

pub(crate) fn c_one_port_by_two_protocols_is_two_and_each_stops_alone() -> Result<()> {
    for (scene, _other) in scenes()? {
        for family in BOTH {
            let ports = [Port(8000, Protocol::Tcp, 80), Port(8000, Protocol::Udp, OTHER)];
            stop_one_by_one(&scene, family, &ports)?;
        }
    }
    Ok(())
}

/// Whichever of the two is removed is refused, and the other goes on.
fn stop_one_by_one(scene: &Scene, family: Family, ports: &[Port; 2]) -> Result<()> {
    let [first, second] = ports;
    for (stays, goes) in [(first, second), (second, first)] {
        set(scene, family, &[first, second])?;
        stays.ask(scene, family)?;
        goes.ask(scene, family)?;
        let at = SocketAddr::new(vip_of(family).ip(), stays.0);
        let mut kept = match stays.1 {
            Protocol::Tcp => Some(scene.client.run(|| Connection::open(at))??),
            Protocol::Udp | Protocol::Sctp => None,
        };
        set(scene, family, &[stays])?;
        goes.is_refused(scene, family)?;
        stays.ask(scene, family)?;
        if let Some(kept) = &mut kept {
            kept.ask()?;
        }
    }
    Ok(())
}

/// As a named target port may come to: each endpoint is asked at its own port, and only there.
pub(crate) fn c_each_endpoint_may_have_a_port_of_its_own() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[1, 2])?;
    let _other = scene.servers[1].serve(OTHER)?;
    for family in BOTH {
        let vip = vip_of(family);
        let [one, two] = [scene.servers[0].address_of(family)?, scene.servers[1].address_of(family)?];
        // The second endpoint twice: once at each port.
        let service = Service::new("echo", vip).to(one, 80).to(two, OTHER).to(two, 80);
        scene.cluster.set_services([service])?;
        let asked = |count: u32| -> Result<BTreeSet<SocketAddr>> {
            let ask = |n: u32| {
                if n.is_multiple_of(2) {
                    return Ok(scene.client.get(vip)?.0.local);
                }
                // A datagram's receiver has no address of its own to tell, but a port.
                let answer = scene.client.ask_udp(vip)?.0;
                let server = scene.servers.iter().find(|server| server.name() == answer.server);
                let address = server.map_or(Ok(vip.ip()), |server| server.address_of(family))?;
                Ok(SocketAddr::new(address, answer.local.port()))
            };
            (0..count).map(ask).collect()
        };
        let expected = BTreeSet::from([(one, 80), (two, 80), (two, OTHER)].map(SocketAddr::from));
        let found = asked(200)?;
        ensure!(found == expected, "answered by {found:?}");
        scene.cluster.set_services([Service::new("echo", vip).to(one, 80).to(two, OTHER)])?;
        let found = asked(100)?;
        ensure!(found == BTreeSet::from([(one, 80), (two, OTHER)].map(SocketAddr::from)), "{found:?}");
    }
    Ok(())
}
