//! Packets and frames as the stories want them, and what became of them.

use std::net::{IpAddr, Ipv4Addr};

use lb_dataplane::{
    Drop, Hop, Mac,
    desired::{Protocol, Service},
};

use crate::{
    frame::{Body, Frame, Packet, Transport},
    net::{Net, host_mac, mac},
    world::{NODE, Outcome, PEER, Place, VNI, World, service},
};

pub fn tcp(src: u16, dst: u16) -> Transport {
    Transport::Tcp { src, dst, syn: false, ack: true, fin: false }
}

pub fn syn(src: u16, dst: u16) -> Transport {
    Transport::Tcp { src, dst, syn: true, ack: false, fin: false }
}

pub fn udp(src: u16, dst: u16) -> Transport {
    Transport::Udp { src, dst, checksum: true }
}

pub fn packet(src: IpAddr, dst: IpAddr, transport: Transport) -> Packet {
    Packet { src, dst, ttl: 64, options: vec![], transport, payload: b"hello, bees".to_vec() }
}

/// As the pod `packet.src` sends it.
pub fn from(packet: &Packet) -> Frame {
    Frame { dst_mac: Mac::GATEWAY.0, src_mac: mac(packet.src).0, body: Body::Ip(packet.clone()) }
}

/// As the host sends it, whatever its source.
pub fn from_host(packet: &Packet) -> Frame {
    Frame { dst_mac: Mac::GATEWAY.0, src_mac: host_mac().0, body: Body::Ip(packet.clone()) }
}

/// As pod `to` gets it.
pub fn to(to: IpAddr, packet: Packet) -> Frame {
    Frame { dst_mac: mac(to).0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
}

/// As the host gets it.
pub fn to_host(packet: Packet) -> Frame {
    Frame { dst_mac: host_mac().0, src_mac: Mac::GATEWAY.0, body: Body::Ip(packet) }
}

/// As it goes over the underlay.
pub fn wrapped(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    vni: u32,
    inner_dst: Mac,
    inner_src: Mac,
    packet: Packet,
) -> Frame {
    let inner = Box::new(Frame { dst_mac: inner_dst.0, src_mac: inner_src.0, body: Body::Ip(packet) });
    // Outside, MACs are the kernel's neighbour code's to write.
    Frame { dst_mac: [0; 6], src_mac: [0; 6], body: Body::Vxlan { src, dst, vni, inner } }
}

/// As peer `vtep` sends it to this node.
pub fn arriving(vtep: Ipv4Addr, packet: &Packet) -> Frame {
    wrapped(vtep, NODE, VNI, mac(packet.dst), mac(packet.src), packet.clone())
}

#[track_caller]
pub fn sent(world: &mut World, place: Place, frame: &Frame) -> (Hop, Frame) {
    match world.run(place, &frame.encode()) {
        Outcome::Sent(hop, bytes) => {
            let mut frame = Frame::decode(&bytes).unwrap();
            if hop == Hop::PortToOverlay {
                (frame.dst_mac, frame.src_mac) = ([0; 6], [0; 6]);
            }
            (hop, frame)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn dropped(world: &mut World, place: Place, frame: &Frame) -> Drop {
    match world.run(place, &frame.encode()) {
        Outcome::Dropped(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// From the peer to this node, with no overlay about it.
pub fn underlay(transport: Transport) -> Packet {
    packet(PEER.into(), NODE.into(), transport)
}

pub fn name(net: &Net, story: &str) -> String {
    format!("{story}_{}", net.name)
}

pub fn echo(net: &Net, backends: &[(IpAddr, u16)]) -> Service {
    service("echo", Protocol::Tcp, net.vip(0), backends)
}

pub fn with(mut packet: Packet, change: impl FnOnce(&mut Packet)) -> Packet {
    change(&mut packet);
    packet
}
