//! A pod that reaches itself through its service. It is seen from its node's address in the overlay, since no pod takes
//! packets from its own; whoever else answers it sees its own address.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, ensure};
use integration::{Cluster, Family, Service, Stack, echo::Answer, load::Connections};

use crate::scene::{BOTH, Scene, vip_of};

/// Requests of each kind.
const ASKED: u32 = 200;

/// Node 1's own address in the overlay.
fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 244, 1, 1].into(),
        Family::V6 => [0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1].into(),
    }
}

pub(crate) fn c_a_pod_reaches_itself_through_its_service() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual).nodes(1), &[1])?;
    let own = scene.server();
    for family in BOTH {
        for connections in [Connections::New, Connections::Kept] {
            let (seen, report) = scene.watch_hosts(|| own.load(vip_of(family), ASKED, connections))?;
            ensure!(report.failures.is_empty(), "{:?}", report.failures.first());
            ensure!(report.servers.keys().eq([own.name()]), "{:?}", report.servers);
            crate::scene::ensure_silent(scene.cluster.nodes(), &seen)?;
        }
        sees(&own.get(vip_of(family))?.0, gateway(family))?;
        sees(&own.ask_udp(vip_of(family))?.0, gateway(family))?;
        // By its own address it needs no service.
        let direct = own.address_of(family)?;
        sees(&own.get((direct, 80).into())?.0, direct)?;
    }
    Ok(())
}

/// One of two that are behind the service asks it.
pub(crate) fn c_a_pod_reaches_itself_and_its_fellows_through_their_service() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[1, 2])?;
    let own = scene.server();
    for family in BOTH {
        let mut answered = BTreeSet::new();
        for _ in 0..ASKED {
            let (answer, local) = own.get(vip_of(family))?;
            let by_itself = answer.server == own.name();
            sees(&answer, if by_itself { gateway(family) } else { local.ip() })?;
            let (datagram, _) = own.ask_udp(vip_of(family))?;
            let by_itself = datagram.server == own.name();
            sees(&datagram, if by_itself { gateway(family) } else { own.address_of(family)? })?;
            answered.extend([(answer.server, "tcp"), (datagram.server, "udp")]);
        }
        ensure!(answered.len() == 4, "{ASKED} requests of each kind, and only these answered: {answered:?}");
    }
    // Alone behind it, it is all that answers.
    let alone = scene.servers[1].addresses().iter();
    let service = Service::new("echo", vip_of(BOTH[0])).at(vip_of(BOTH[1]));
    scene.cluster.set_services([alone.fold(service, |service, address| service.to(*address, 80))])?;
    let second = &scene.servers[1];
    for family in BOTH {
        let (answer, local) = own.get(vip_of(family))?;
        ensure!(answer.server == second.name() && answer.client == local, "{answer:?}");
        ensure!(second.get(vip_of(family))?.0.server == second.name());
    }
    Ok(())
}

fn sees(answer: &Answer, client: IpAddr) -> Result<()> {
    ensure!(answer.client.ip() == client, "seen was {}, not {client}: {answer:?}", answer.client);
    Ok(())
}
