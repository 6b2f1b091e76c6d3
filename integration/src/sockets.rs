//! Sockets whose own port is given, and shared: several may speak from one port, each to somebody else.

use std::{
    io,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use crate::{family::Family, http::PATIENCE};

/// Connects to `server` from `port`.
///
/// # Errors
/// If the port cannot be had, or the connection is refused or not there within [`PATIENCE`].
pub fn connect_from(port: u16, server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::from(bound(SockType::Stream, port, server)?);
    // By this Linux limits connecting too.
    stream.set_write_timeout(Some(PATIENCE))?;
    connect(stream.as_raw_fd(), &SockaddrStorage::from(server))?;
    Ok(stream)
}

/// A datagram socket of `port` that speaks to `server` and hears nobody else.
///
/// # Errors
/// If the port cannot be had.
pub fn datagrams_from(port: u16, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(bound(SockType::Datagram, port, server)?);
    socket.connect(server)?;
    Ok(socket)
}

/// An options header of IPv6 (RFC 8200 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// Hop-by-Hop: for everybody on the way.
    HopByHop,
    /// Destination: for the receiver.
    Destination,
}

/// Makes `socket`, one of IPv6, send such a header with each packet; all its options are padding.
///
/// # Errors
/// If the kernel refuses.
pub fn add_options(socket: &impl AsRawFd, options: Options) -> io::Result<()> {
    // Next header, which the kernel fills in; length in units of eight bytes, without the first; PadN of six bytes: Linux takes
    // no more than seven.
    const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let name = match options {
        Options::HopByHop => libc::IPV6_HOPOPTS,
        Options::Destination => libc::IPV6_DSTOPTS,
    };
    // SAFETY: the pointer is of a live value of the length given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            name,
            PADDING.as_ptr().cast(),
            libc::socklen_t::try_from(PADDING.len()).map_err(io::Error::other)?,
        )
    };
    nix::errno::Errno::result(set)?;
    Ok(())
}

/// Makes `socket` send no packet that is larger than its way carries, and cut none.
///
/// # Errors
/// If the kernel refuses.
pub fn never_fragment(socket: &UdpSocket) -> io::Result<()> {
    let (level, name, value) = match Family::of(socket.local_addr()?.ip()) {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the pointer is of a live value of the length given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), length)
    };
    nix::errno::Errno::result(set)?;
    Ok(())
}

/// What the kernel takes the largest packet to be, in bytes of IP, on the way of `socket`, which is connected.
///
/// # Errors
/// If the kernel refuses.
pub fn path_mtu(socket: &UdpSocket) -> io::Result<i32> {
    let (level, name) = match Family::of(socket.local_addr()?.ip()) {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&mtu)).map_err(io::Error::other)?;
    // SAFETY: both pointers are of live values, the second of the length of the first.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut mtu).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(got)?;
    Ok(mtu)
}

fn bound(kind: SockType, port: u16, server: SocketAddr) -> io::Result<OwnedFd> {
    let family = Family::of(server.ip());
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let socket = socket(domain, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(family.any().ip(), port)))?;
    Ok(socket)
}
