//! SCTP without a kernel that knows it: associations are begun by raw IP packets (RFC 9260), as far as their four-way
//! handshake goes. Sums are checked wherever a packet ends.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{family::Family, http::PATIENCE, netns::Netns};

/// Its IP protocol number.
const SCTP: i32 = 132;
/// Ports, verification tag and checksum.
const HEADER: usize = 12;
/// How long a server may take to see that it is to end.
const GLANCE: Duration = Duration::from_millis(50);
/// The parameter of an INIT ACK that clients send back (RFC 9260 §3.3.3).
const STATE_COOKIE: u16 = 7;

/// What a packet says, one chunk each (RFC 9260 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Asks for an association, whose packets to the sender must carry this tag.
    Init {
        /// The tag.
        tag: u32,
    },
    /// Grants it.
    InitAck {
        /// The tag of packets to the server.
        tag: u32,
        /// What the client has to say again.
        cookie: Vec<u8>,
    },
    /// Says it again.
    CookieEcho(Vec<u8>),
    /// The association is there.
    CookieAck,
}

/// A packet, without its IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Verification tag: what the receiver asked for.
    pub tag: u32,
    /// The chunk.
    pub chunk: Chunk,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let (kind, value) = match &self.chunk {
            Chunk::Init { tag } => (1, init(*tag)),
            Chunk::InitAck { tag, cookie } => (2, [init(*tag), with_length(STATE_COOKIE, cookie)].concat()),
            Chunk::CookieEcho(cookie) => (10, cookie.clone()),
            Chunk::CookieAck => (11, vec![]),
        };
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        // Type and flags stand where a parameter has its type.
        bytes.extend(with_length(kind << 8, &value));
        let sum = crc32c(&bytes);
        bytes[8..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads it. `None` if it makes no sense, or its sum is wrong.
    fn read(bytes: &[u8]) -> Option<Self> {
        let sum = u32::from_le_bytes(bytes.get(8..HEADER)?.try_into().ok()?);
        let unsummed = [&bytes[..8], &[0; 4], &bytes[HEADER..]].concat();
        if sum != crc32c(&unsummed) {
            return None;
        }
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let part = |at: usize| bytes.get(at + 4..at + usize::from(short(at + 2)?));
        let value = part(HEADER)?.to_vec();
        let chunk = match short(HEADER)? >> 8 {
            1 => Chunk::Init { tag: word(HEADER + 4)? },
            // Its parameters follow what an INIT has.
            2 => Chunk::InitAck { tag: word(HEADER + 4)?, cookie: part(HEADER + 20)?.to_vec() },
            10 => Chunk::CookieEcho(value),
            11 => Chunk::CookieAck,
            _ => return None,
        };
        Some(Self { from: short(0)?, to: short(2)?, tag: word(4)?, chunk })
    }
}

/// What INIT and INIT ACK begin with: the tag, a window, streams each way, and the first number.
fn init(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &65_536_u32.to_be_bytes(), &[0, 1, 0, 1], &tag.to_be_bytes()].concat()
}

/// A chunk or a parameter, padded to whole words.
fn with_length(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    let bit = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { REVERSED } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// All SCTP of one address family in a namespace.
#[derive(Debug)]
pub struct Raw {
    socket: Socket,
    family: Family,
}

impl Raw {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, family })
    }

    /// The same, which speaks to `peer` alone and hears of errors.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn connect(peer: IpAddr) -> io::Result<Self> {
        let raw = Self::open(Family::of(peer))?;
        raw.socket.connect(&SockAddr::from(SocketAddr::new(peer, 0)))?;
        Ok(raw)
    }

    /// Sends `packet` to the peer.
    ///
    /// # Errors
    /// If the kernel refuses, or an earlier packet was.
    pub fn send(&self, packet: &Packet) -> io::Result<()> {
        self.socket.send(&packet.bytes()).map(drop)
    }

    /// The next packet that makes sense, and where it comes from.
    ///
    /// # Errors
    /// If none comes, or an error did.
    pub fn receive(&self) -> io::Result<(IpAddr, Packet)> {
        loop {
            let mut buffer = [MaybeUninit::uninit(); 2048];
            let (length, from) = self.socket.recv_from(&mut buffer)?;
            // SAFETY: the kernel has written that many bytes.
            let bytes: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            // Of IPv4, raw sockets are given the IP header too.
            let header = match self.family {
                Family::V4 => usize::from(bytes[0] & 0xf) * 4,
                Family::V6 => 0,
            };
            if let (Some(from), Some(packet)) = (from.as_socket(), Packet::read(&bytes[header..])) {
                return Ok((from.ip(), packet));
            }
        }
    }
}

/// Grants every association asked for at its port. The cookie says who grants it, and to whom.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<io::Result<()>>>>,
}

impl Netns {
    /// Starts such a server on `port`, of both families, that answers as `name`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn serve_sctp(&self, name: &str, port: u16) -> Result<Server> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = vec![];
        for family in [Family::V4, Family::V6] {
            // Here, so that it hears from now on.
            let raw = self.run(|| Raw::open(family))?.context("a raw socket of SCTP")?;
            raw.socket.set_read_timeout(Some(GLANCE))?;
            let (stop, name) = (stop.clone(), name.to_owned());
            threads.push(self.spawn_thread(move || answer(&raw, &name, port, &stop)));
        }
        Ok(Server { stop, threads })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it could not send, its client has missed already.
            let _ = thread.join();
        }
    }
}

fn answer(raw: &Raw, name: &str, port: u16, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let (client, asked) = match raw.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        if asked.to != port {
            continue;
        }
        let from = SocketAddr::new(client, asked.from);
        let (tag, chunk) = match asked.chunk {
            Chunk::Init { tag } => {
                (tag, Chunk::InitAck { tag: !tag, cookie: format!("{name} {tag} {from}").into_bytes() })
            }
            // Whoever comes with another's cookie is answered no more than by a kernel.
            Chunk::CookieEcho(cookie) => match tag_of(&cookie, name, from) {
                Some(tag) if asked.tag == !tag => (tag, Chunk::CookieAck),
                _ => continue,
            },
            _ => continue,
        };
        let reply = Packet { from: port, to: asked.from, tag, chunk };
        raw.socket.send_to(&reply.bytes(), &SockAddr::from(SocketAddr::new(client, 0)))?;
    }
    Ok(())
}

/// The client's tag in a cookie that `name` gave to `client`.
fn tag_of(cookie: &[u8], name: &str, client: SocketAddr) -> Option<u32> {
    let text = std::str::from_utf8(cookie).ok()?;
    text.strip_prefix(name)?.strip_suffix(&client.to_string())?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were_and_not_with_a_wrong_sum() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        for chunk in [
            Chunk::Init { tag: 7 },
            Chunk::InitAck { tag: 8, cookie: b"abcde".to_vec() },
            Chunk::CookieEcho(b"abcde".to_vec()),
            Chunk::CookieAck,
        ] {
            let packet = Packet { from: 1, to: 2, tag: 3, chunk };
            let mut bytes = packet.bytes();
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(Packet::read(&bytes), Some(packet));
            bytes[1] ^= 1;
            assert_eq!(Packet::read(&bytes), None);
        }
    }
}
