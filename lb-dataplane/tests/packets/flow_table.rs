//! Stories of a full flow table, of its real size: one pod's flood of new connections, and what becomes of the others'.

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    build::{arriving, from, name, packet, sent, syn, tcp, to},
    frame::Frame,
    net::Net,
    table::Story,
    world::{Outcome, PEER, Place, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[("d_a_flood_evicts_idle_flows_first_and_ends_none", flood)];

/// Connections of pod A that are in use all the time, and as many that are silent.
const CONNECTIONS: u16 = 50;
const BUSY: u16 = 40_000;
const IDLE: u16 = 50_000;
/// Connections of the flood, two entries each: more than twice as many as the table holds.
const FLOOD: usize = 290_000;
/// Of these, between one packet of each busy connection and the next.
const ROUND: usize = 5_000;

fn flood(net: &Net) {
    let mut world = World::new(&name(net, "flood"));
    let echo = |n, backend| service(&format!("echo{n}"), Protocol::Tcp, net.vip(n), &[(backend, 80)]);
    // A backend for each of the flood's: to one of them a client has no more connections than ports.
    let mut services: Vec<_> = (1..8).map(|n| echo(n, net.far(20 + n))).collect();
    services.push(echo(0, net.pod_c));
    world.set_services(&services);
    for port in (BUSY..BUSY + CONNECTIONS).chain(IDLE..IDLE + CONNECTIONS) {
        sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(port, 8000))));
        talk(net, &mut world, port);
    }
    let template = from(&packet(net.pod_b, net.vip(1), syn(0, 8000))).encode();
    let mut frames = (0..FLOOD).map(|n| new_connection(net, &template, n));
    for _ in 0..FLOOD / ROUND {
        world.flood(frames.by_ref().take(ROUND));
        for port in BUSY..BUSY + CONNECTIONS {
            talk(net, &mut world, port);
        }
    }

    // New connections come about.
    for port in 60_000..60_100 {
        sent(&mut world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), syn(port, 8000))));
        talk(net, &mut world, port);
    }
    // The server of a silent one says something: as it is, if the entry is gone.
    let mut lost = 0;
    for port in IDLE..IDLE + CONNECTIONS {
        let push = packet(net.pod_c, net.pod_a, tcp(80, port));
        let (_, got) = sent(&mut world, Place::Uplink, &arriving(PEER, &push));
        if got == to(net.pod_a, push) {
            lost += 1;
            let reset = reset(&from(&packet(net.pod_a, net.pod_c, tcp(port, 80))));
            assert_eq!(world.run(Place::PortA, &reset), Outcome::Dropped(Drop::FlowLost), "port {port}");
        }
        // Its client goes on, and all is as before.
        talk(net, &mut world, port);
    }
    assert!(lost > 0, "the table was not full");
}

/// A packet of connection `port` each way.
#[track_caller]
fn talk(net: &Net, world: &mut World, port: u16) {
    let (hop, _) = sent(world, Place::PortA, &from(&packet(net.pod_a, net.vip(0), tcp(port, 8000))));
    assert_eq!(hop, Hop::PortToOverlay);
    let reply = arriving(PEER, &packet(net.pod_c, net.pod_a, tcp(80, port)));
    let undone = to(net.pod_a, packet(net.vip(0), net.pod_a, tcp(8000, port)));
    assert_eq!(sent(world, Place::Uplink, &reply), (Hop::UplinkToPort, undone), "port {port}");
}

/// The `n`th of the flood: `template` from another port to another address. Nobody reads its checksum.
fn new_connection(net: &Net, template: &[u8], n: usize) -> Vec<u8> {
    const PORTS: usize = 60_000;
    let (ip, l4) = if net.gateway.is_ipv4() { (20, 34) } else { (40, 54) };
    let mut frame = template.to_vec();
    let port = u16::try_from(1_024 + n % PORTS).unwrap();
    frame[l4..l4 + 2].copy_from_slice(&port.to_be_bytes());
    frame[14 + ip - 1] += u8::try_from(n / PORTS).unwrap();
    frame
}

fn reset(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.encode();
    let l4 = if bytes[12] == 0x08 { 34 } else { 54 };
    bytes[l4 + 13] = 0x04;
    bytes
}
