//! A tiny echo server: it says who asked and who answered, over HTTP and for the datagram [`WHO`]; other datagrams
//! it sends back.
//!
//! One thread for all connections: a thread for each would measure page faults.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
};

use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Largest request head, in bytes.
const LARGEST_HEAD: usize = 8_192;

/// Bytes that a patient socket keeps; a small datagram takes several hundred of them.
const BUFFER: usize = 16 << 20;

/// The datagram that is answered as HTTP requests are.
pub const WHO: &[u8] = b"who";

/// The body of an answer, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the server.
    pub server: String,
    /// The client as the server sees it.
    pub client: SocketAddr,
    /// The server's own end of the connection.
    pub local: SocketAddr,
}

impl Answer {
    /// The next answer on a datagram socket that sent [`WHO`].
    ///
    /// # Errors
    /// If none comes, or what comes is none.
    pub fn receive(socket: &std::net::UdpSocket) -> io::Result<Self> {
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(serde_json::from_slice(&answer[..length])?)
    }
}

/// Serves on `port` of every address of both families, for ever, as `name`.
///
/// # Errors
/// If the port cannot be had.
pub async fn serve(name: &str, port: u16) -> io::Result<()> {
    // A socket of IPv6 serves both; where the kernel has no IPv6, there is one family to serve.
    let mut any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = match TcpListener::bind(any).await {
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            TcpListener::bind(any).await?
        }
        listener => listener?,
    };
    let datagrams = UdpSocket::bind(any).await?;
    be_patient(&datagrams);
    tokio::spawn(send_back(datagrams, name.to_owned()));
    loop {
        let (stream, client) = listener.accept().await?;
        let name = name.to_owned();
        tokio::spawn(async move {
            // A client that goes away in the middle of its request is no concern of ours.
            let _ = answer(stream, name, client).await;
        });
    }
}

/// Answers requests on one connection until the client closes it.
async fn answer(mut stream: TcpStream, server: String, client: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (client, local) = (plain(client), plain(stream.local_addr()?));
    let body = serde_json::to_string(&Answer { server, client, local })?;
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\n",
        body.len() + 1
    );
    let mut head = Vec::with_capacity(512);
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > LARGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        head.clear();
        stream.write_all(response.as_bytes()).await?;
    }
}

async fn send_back(socket: UdpSocket, server: String) -> io::Result<()> {
    let local = socket.local_addr()?;
    let mut datagram = vec![0; 65_535];
    loop {
        // An ICMP error from a client that is gone must not end the service for the others.
        let Ok((length, sender)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        if &datagram[..length] == WHO {
            let (server, client) = (server.clone(), plain(sender));
            let answer = serde_json::to_vec(&Answer { server, client, local })?;
            let _ = socket.send_to(&answer, sender).await;
        } else {
            let _ = socket.send_to(&datagram[..length], sender).await;
        }
    }
}

/// Lets `socket` keep what comes while nobody reads: on a busy machine a reader may not be scheduled for longer than the
/// usual buffer lasts, and what is lost then says nothing of the network. Without the privilege it stays as it is.
pub(crate) fn be_patient(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::RcvBufForce, &BUFFER);
}

/// An IPv4 address as such, and not as a socket of IPv6 has it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
