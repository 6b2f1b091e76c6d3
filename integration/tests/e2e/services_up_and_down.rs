//! Services that come and go, and change, while others are in use; and endpoints that run and are not ready.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use integration::{Affinity, Family, Service, Stack, http::Connection, traffic::Traffic};

use crate::scene::{BOTH, Scene, vip_of};

const NODE_PORT: u16 = 30_080;

/// The service's `n`th neighbour, with the same server.
fn neighbour(scene: &Scene, family: Family, n: u16) -> Result<(SocketAddr, Service)> {
    let first = vip_of(family).ip();
    let ip = match first {
        std::net::IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() + u32::from(n)).into(),
        std::net::IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() + u128::from(n)).into(),
    };
    let at = SocketAddr::new(ip, 8000);
    Ok((at, Service::new(&format!("neighbour{n}"), at).to(scene.server().address_of(family)?, 80)))
}

pub(crate) fn c_services_come_and_go_and_come_again() -> Result<()> {
    for family in BOTH {
        let scene = Scene::across_nodes_with(Stack::Dual)?;
        let [(first, one), (second, two)] = [neighbour(&scene, family, 1)?, neighbour(&scene, family, 2)?];
        let traffic = Traffic::start(&scene.client, scene.vip());
        let up = |at: SocketAddr| scene.client.get(at).map(drop);
        let down = |at: SocketAddr| -> Result<()> {
            // Its address is nobody's now: the packets are the host's, which has no way for them.
            let traced =
                scene.client.node().ctl_json(&format!("trace {} {at}", scene.client.address_of(family)?))?;
            ensure!(traced["service"].is_null() && traced["to"]["kind"] == "host", "{traced}");
            let socket = scene.client.run(|| integration::sockets::datagrams_from(0, at))??;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            socket.send(integration::echo::WHO)?;
            ensure!(socket.recv(&mut [0; 512]).is_err(), "{at} is answered");
            Ok(())
        };
        for _ in 0..2 {
            scene.cluster.set_services([scene.service(), one.clone()])?;
            up(first)?;
            down(second)?;
            scene.cluster.set_services([scene.service(), one.clone(), two.clone()])?;
            up(first)?;
            up(second)?;
            scene.cluster.set_services([scene.service(), two.clone()])?;
            down(first)?;
            up(second)?;
            // Deleted and made again between two looks of the agent, and not the same.
            let again = two.clone().affinity(Affinity::ClientIp);
            scene.cluster.set_services([scene.service(), again])?;
            up(second)?;
        }
        let outcome = traffic.stop()?;
        ensure!(outcome.broken.is_empty() && outcome.lost() == 0, "the service that stayed: {outcome:?}");
        ensure!(outcome.asked > 0 && outcome.opened > 0 && outcome.sent > 0, "{outcome:?}");
    }
    Ok(())
}

/// `ClusterIP` to `NodePort` and back: what is under way goes on.
pub(crate) fn c_a_service_that_changes_its_type_keeps_its_connections() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node_port = SocketAddr::new(scene.cluster.node(2)?.address().into(), NODE_PORT);
    let with_node_port = || scene.service().with(&format!("nodePorts: [{{ port: {NODE_PORT} }}]"));
    let traffic = Traffic::start(&scene.client, scene.vip());
    for _ in 0..3 {
        scene.cluster.set_services([with_node_port()])?;
        let (answer, client) = scene.client.get(node_port)?;
        ensure!(answer.server == scene.server().name() && answer.client == client, "{answer:?}");
        scene.cluster.set_services([scene.service()])?;
        ensure!(scene.client.get(node_port).is_err(), "the node port is still there");
        scene.client.get(scene.vip())?;
    }
    let outcome = traffic.stop()?;
    ensure!(outcome.broken.is_empty() && outcome.lost() == 0 && outcome.asked > 0, "{outcome:?}");
    Ok(())
}

/// As when a readiness probe fails: new connections go elsewhere, or nowhere if there is nobody; those that are there stay.
pub(crate) fn c_an_endpoint_that_is_not_ready_keeps_its_connections() -> Result<()> {
    for mut scene in Scene::of_each_kind(Stack::Dual)? {
        let place = scene.server().node().clone();
        scene.add_server("other", &place)?;
        for family in BOTH {
            let vip = vip_of(family);
            let [server, other] =
                [scene.servers[0].address_of(family)?, scene.servers[1].address_of(family)?];
            let service = || Service::new("echo", vip);
            scene.cluster.set_services([service().to(server, 80)])?;
            let mut kept = scene.client.run(|| Connection::open(vip))??;
            let mut goes_on = || -> Result<()> {
                for _ in 0..20 {
                    ensure!(kept.ask()?.server == "server0", "another server");
                }
                Ok(())
            };
            goes_on()?;
            scene.cluster.set_services([service().unready(server, 80).to(other, 80)])?;
            goes_on()?;
            for _ in 0..20 {
                ensure!(scene.client.get(vip)?.0.server == "other", "asked though it is not ready");
            }
            scene.cluster.set_services([service().unready(server, 80)])?;
            goes_on()?;
            crate::scene::ensure_refused(
                scene.client.run(|| integration::sockets::connect_from(0, vip))?.map(drop),
            )?;
            scene.cluster.set_services([service().to(server, 80)])?;
            goes_on()?;
            ensure!(scene.client.get(vip)?.0.server == "server0", "not asked though it is ready");
        }
    }
    Ok(())
}
