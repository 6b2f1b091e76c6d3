//! ICMP echo requests with the "don't fragment" bit set, as `ping -M do` sends them.

use std::{
    io::Read,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt,
            socket, sockopt,
        },
        time::TimeVal,
    },
};

use crate::{family::Family, netns::Netns};

/// What became of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// It was answered.
    Answered,
    /// The sender's own kernel refused it: larger than the path's MTU.
    TooLarge,
    /// Nothing came back in a second.
    Lost,
}

impl Netns {
    /// Pings `to` with `payload` bytes of data: 28 less than the packet has, or 48 with IPv6.
    ///
    /// # Errors
    /// If the socket cannot be had or the kernel refuses for another reason than size.
    pub fn ping(&self, to: IpAddr, payload: usize) -> Result<Ping> {
        self.run(|| ping(to, payload))?
            .with_context(|| format!("pinging {to} with {payload} bytes from {}", self.name()))
    }
}

fn ping(to: IpAddr, payload: usize) -> Result<Ping> {
    let family = Family::of(to);
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    set_dont_fragment(&socket, family)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    let request = echo_request(family, payload);
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    match sendto(socket.as_raw_fd(), &request, &address, MsgFlags::empty()) {
        Ok(_) => {}
        Err(Errno::EMSGSIZE) => return Ok(Ping::TooLarge),
        Err(e) => bail!("cannot send: {e}"),
    }
    let mut file = std::fs::File::from(socket);
    let mut packet = vec![0; 65_535];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let Ok(length) = file.read(&mut packet) else {
            continue;
        };
        // An echo reply with all that we sent: a raw socket sees other ICMP too. IPv4's gives its header as well.
        let (header, reply) = match family {
            Family::V4 => (family.header(), 0),
            Family::V6 => (0, 129),
        };
        let message = &packet[header.min(length)..length];
        if message.first() == Some(&reply) && message.get(4..) == Some(&request[4..]) {
            return Ok(Ping::Answered);
        }
    }
    Ok(Ping::Lost)
}

/// The message; `ICMPv6`'s checksum is the kernel's to make, since it covers addresses.
fn echo_request(family: Family, payload: usize) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let mut message = vec![kind, 0, 0, 0, 0xbe, 0xe1, 0, 1];
    message.extend((0..=250).cycle().take(payload).collect::<Vec<u8>>());
    let checksum = internet_checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    message
}

/// The checksum of IP, ICMP, UDP and TCP (RFC 1071) over `bytes`.
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[allow(clippy::cast_possible_truncation, reason = "the loop above leaves 16 bits")]
    let sum = sum as u16;
    !sum
}

fn set_dont_fragment(socket: &OwnedFd, family: Family) -> Result<()> {
    if family == Family::V6 {
        return setsockopt(socket, sockopt::Ipv6DontFrag, &true).context("cannot set \"don't fragment\"");
    }
    let value = libc::IP_PMTUDISC_DO;
    // SAFETY: the pointer and the length are those of one c_int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of_val(&value))?,
        )
    };
    Errno::result(result).context("cannot set \"don't fragment\"")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_to_nothing() {
        assert_eq!(internet_checksum(&echo_request(Family::V4, 33)), 0);
    }
}
