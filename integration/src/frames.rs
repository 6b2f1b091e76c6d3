//! Frames made by hand, with any address in them: what a hostile pod or neighbour would send.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socket},
};

use crate::{family::Family, netns::Netns, ping::internet_checksum};

/// Protocol number of UDP.
const UDP: u8 = 17;
/// Protocol number of `ICMPv6`.
const ICMPV6: u8 = 58;

/// A UDP datagram in an Ethernet frame, whole with its checksums.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination MAC.
    pub to_mac: [u8; 6],
    /// Source MAC.
    pub from_mac: [u8; 6],
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// What is in the datagram.
    pub data: Vec<u8>,
}

impl Frame {
    /// Its bytes, from the destination MAC on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        ethernet(self.to_mac, self.from_mac, &ip(self.from.ip(), self.to.ip(), UDP, 64, self.udp()))
    }

    /// The frame in VXLAN (RFC 7348 §5): the UDP payload that carries it in `vni`.
    #[must_use]
    pub fn in_vxlan(&self, vni: u32) -> Vec<u8> {
        let [_, a, b, c] = vni.to_be_bytes();
        let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
        payload.extend(self.bytes());
        payload
    }

    fn udp(&self) -> Vec<u8> {
        #[allow(clippy::cast_possible_truncation, reason = "hand-made datagrams are far from 64 KiB")]
        let length = (8 + self.data.len()) as u16;
        let mut udp = Vec::new();
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.data);
        let checksum = transport_checksum(self.from.ip(), self.to.ip(), UDP, &udp);
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }
}

/// A MAC as tools write it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An `ICMPv6` message in a packet that may have come from no further than the link (RFC 4861: hop limit 255), in an
/// Ethernet frame. `message` has zeroes where its checksum goes.
#[must_use]
pub fn icmpv6(
    to_mac: [u8; 6],
    from_mac: [u8; 6],
    from: Ipv6Addr,
    to: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let (from, to) = (from.into(), to.into());
    let checksum = transport_checksum(from, to, ICMPV6, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ethernet(to_mac, from_mac, &ip(from, to, ICMPV6, 255, message))
}

/// `packet` behind an Ethernet header of its family's type.
fn ethernet(to_mac: [u8; 6], from_mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let family = if packet[0] >> 4 == 6 { Family::V6 } else { Family::V4 };
    let mut frame = Vec::with_capacity(14 + packet.len());
    frame.extend(to_mac);
    frame.extend(from_mac);
    frame.extend(family.ether_type().to_be_bytes());
    frame.extend(packet);
    frame
}

/// `payload` behind an IP header.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, ttl: u8, payload: Vec<u8>) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, reason = "hand-made packets are far from 64 KiB")]
    let length = payload.len() as u16;
    let mut packet = Vec::with_capacity(40 + payload.len());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, ttl, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let checksum = internet_checksum(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&checksum);
        }
        (from, to) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, ttl]);
            packet.extend(octets(from));
            packet.extend(octets(to));
        }
    }
    packet.extend(payload);
    packet
}

/// The checksum of what `protocol` carries between these addresses, pseudo-header included (RFC 768, RFC 8200 §8.1).
fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let mut summed = octets(from);
    summed.extend(octets(to));
    // In this order, it is the sum of either family's pseudo-header.
    #[allow(clippy::cast_possible_truncation, reason = "hand-made packets are far from 64 KiB")]
    summed.extend((message.len() as u16).to_be_bytes());
    summed.extend([0, protocol]);
    summed.extend(message);
    internet_checksum(&summed)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Netns {
    /// Sends `frame` out of `device` this many times, past the stack.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send_frame(&self, device: &str, frame: &[u8], times: u32) -> Result<()> {
        self.run(|| -> Result<()> {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            let address = link_address(device)?;
            (0..times).try_for_each(|_| send(&socket, frame, &address))
        })?
        .with_context(|| format!("sending frames from {device} of {}", self.name()))
    }

    /// Sends each of `frames` out of `device`, past the stack.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send_frames(&self, device: &str, frames: impl Iterator<Item = Vec<u8>> + Send) -> Result<()> {
        self.run(|| -> Result<()> {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            let address = link_address(device)?;
            frames.into_iter().try_for_each(|frame| send(&socket, &frame, &address))
        })?
        .with_context(|| format!("sending frames from {device} of {}", self.name()))
    }

    /// Sends `payload` by UDP this many times, from the namespace's own address.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send_udp(&self, to: SocketAddr, payload: &[u8], times: u32) -> Result<()> {
        self.run(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind(Family::of(to.ip()).any())?;
            for _ in 0..times {
                socket.send_to(payload, to)?;
            }
            Ok(())
        })?
        .with_context(|| format!("sending datagrams to {to} from {}", self.name()))
    }
}

fn link_address(device: &str) -> Result<libc::sockaddr_ll> {
    // SAFETY: all zeroes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(if_nametoindex(device)?)?;
    Ok(address)
}

fn send(socket: &OwnedFd, frame: &[u8], address: &libc::sockaddr_ll) -> Result<()> {
    // SAFETY: both pointers are of live values of the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            MsgFlags::empty().bits(),
            std::ptr::from_ref(address).cast(),
            libc::socklen_t::try_from(size_of_val(address))?,
        )
    };
    nix::errno::Errno::result(sent)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_right_lengths_and_sums() {
        for (family, from, to) in
            [(Family::V4, "10.0.0.1:7", "10.0.0.2:9"), (Family::V6, "[fd00::1]:7", "[fd00::2]:9")]
        {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let frame = Frame { to_mac: [1; 6], from_mac: [2; 6], from, to, data: b"hello".to_vec() };
            let bytes = frame.bytes();
            let udp = 14 + family.header();
            assert_eq!(bytes.len(), udp + 8 + 5);
            assert_eq!(bytes[12..14], family.ether_type().to_be_bytes());
            if family == Family::V4 {
                assert_eq!(internet_checksum(&bytes[14..34]), 0);
            }
            let addresses = &bytes[if family == Family::V4 { 26 } else { 22 }..udp];
            assert_eq!(internet_checksum(&[addresses, &[0, 17, 0, 13], &bytes[udp..]].concat()), 0);
            assert_eq!(frame.in_vxlan(7)[4..8], [0, 0, 7, 0]);
        }
    }
}
