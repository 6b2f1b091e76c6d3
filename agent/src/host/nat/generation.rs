//! The generation of this namespace's nftables ruleset: a number that changes with every change of any rule.

use std::{io, os::fd::AsRawFd};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
        socket, sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message type.
const NFTABLES: u16 = 10 << 8;
/// `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = NFTABLES | 15;
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = NFTABLES | 16;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NFTA_GEN_ID`: 32 bits, big endian.
const GENERATION_ID: u16 = 1;
/// Length of `nlmsghdr` and `nfgenmsg` together.
const HEADERS: usize = 20;

/// The ruleset's generation now.
pub(super) fn current() -> io::Result<u32> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0))?;
    sendto(socket.as_raw_fd(), &request(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0; 512];
    let len = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    generation(&reply[..len]).ok_or_else(|| io::Error::other("no generation in the kernel's answer"))
}

/// `nlmsghdr` and `nfgenmsg`, the latter for any family, version 0.
fn request() -> [u8; HEADERS] {
    let mut message = [0; HEADERS];
    message[0..4].copy_from_slice(&20_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&GET_GENERATION.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message
}

fn generation(reply: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    if kind != NEW_GENERATION {
        return None;
    }
    let mut attributes = reply.get(HEADERS..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind == GENERATION_ID {
            return Some(u32::from_be_bytes(*attributes.get(4..)?.first_chunk()?));
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}
