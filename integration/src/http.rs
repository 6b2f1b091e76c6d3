//! Asking the echo server, as curl would: one connection, or many requests on one; and by datagram.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    binaries,
    echo::{Answer, WHO},
    family::Family,
    netns::Netns,
    process::Running,
    sockets, wait,
};

/// How long a connection or an answer may take before it counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to an echo server, which may be asked more than once.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects from the calling thread's namespace.
    ///
    /// # Errors
    /// If it is refused or not answered within [`PATIENCE`].
    pub fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)
            .with_context(|| format!("cannot connect to {server}"))?;
        Self::over(stream)
    }

    /// As [`Connection::open`], from this port, which other sockets may use too.
    ///
    /// # Errors
    /// As [`Connection::open`], or if the port cannot be had.
    pub fn open_from(port: u16, server: SocketAddr) -> Result<Self> {
        let stream = sockets::connect_from(port, server)
            .with_context(|| format!("cannot connect from port {port} to {server}"))?;
        Self::over(stream)
    }

    /// The connection that `stream` is.
    ///
    /// # Errors
    /// If it is none any more.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// This end's address and port.
    ///
    /// # Errors
    /// If the socket has none any more.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.get_ref().local_addr()?)
    }

    /// Asks once.
    ///
    /// # Errors
    /// If the connection breaks or the answer is none.
    pub fn ask(&mut self) -> Result<Answer> {
        self.ask_with(0)
    }

    /// Asks once, with this many bytes more in the request than it needs; the server takes a few thousand.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn ask_with(&mut self, more: usize) -> Result<Answer> {
        let request = format!("GET / HTTP/1.1\r\nHost: echo{}\r\n\r\n", "o".repeat(more));
        self.stream.get_mut().write_all(request.as_bytes()).context("cannot ask")?;
        let mut length = 0;
        let mut line = String::new();
        self.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "the server answered {line:?}");
        loop {
            self.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("the answer broke off")?;
        serde_json::from_slice(&body).context("the answer is not an echo server's")
    }

    fn read_line(&mut self, line: &mut String) -> Result<()> {
        line.clear();
        ensure!(self.stream.read_line(line).context("no answer")? > 0, "the server closed the connection");
        Ok(())
    }
}

impl Netns {
    /// Asks the echo server at `server` once, on a new connection; also gives the client's own address and port.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, server: SocketAddr) -> Result<(Answer, SocketAddr)> {
        self.run(|| {
            let mut connection = Connection::open(server)?;
            anyhow::Ok((connection.ask()?, connection.local()?))
        })?
        .with_context(|| format!("asking {server} from {}", self.name()))
    }

    /// Asks the echo server at `server` with one datagram; also gives the client's own port.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask_udp(&self, server: SocketAddr) -> Result<(Answer, u16)> {
        self.run(|| {
            let socket = UdpSocket::bind(Family::of(server.ip()).any())?;
            socket.set_read_timeout(Some(PATIENCE))?;
            // Connected: an answer from any other address than the asked one would not be heard.
            socket.connect(server)?;
            socket.send(WHO)?;
            anyhow::Ok((Answer::receive(&socket)?, socket.local_addr()?.port()))
        })?
        .with_context(|| format!("asking {server} by datagram from {}", self.name()))
    }

    /// Starts the echo server here, answering as `name`, and waits until it listens.
    ///
    /// # Errors
    /// If it does not listen within a few seconds.
    pub fn serve_as(&self, name: &str, port: u16, log: &Path) -> Result<Running> {
        let mut command = self.command(binaries::find("beeline-echo")?);
        command.args([name, &port.to_string()]);
        let mut server = Running::start(command, log)?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until(&format!("{name} to listen"), PATIENCE, || {
            server.ensure_alive()?;
            self.run(|| TcpStream::connect(loopback).is_ok())
        })?;
        Ok(server)
    }
}
