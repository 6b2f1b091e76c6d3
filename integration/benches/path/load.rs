//! What goes over a path: a client and a server of one connection, one request, one byte at a time. Each is one
//! thread, pinned to its core, so that no slice depends on where the scheduler puts them.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use integration::Netns;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        socket::{setsockopt, sockopt},
        time::TimeVal,
    },
    unistd::Pid,
};

/// Bytes that a stream's ends take in hand at a time.
const CHUNK: usize = 128 << 10;
/// What is sent before it counts: neighbours are found, flows known, windows open.
const WARM_UP: Duration = Duration::from_millis(50);
/// Longer than anything takes that still comes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer to a datagram may take before another is sent.
const LOST: Duration = Duration::from_millis(200);
/// Tells the server that the slice is over.
const QUIT: u8 = b'q';

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Bits per second of one TCP connection.
    TcpStream,
    /// Requests and responses of a byte each per second, on one TCP connection.
    TcpRr,
    /// The same, with a connection for each.
    TcpCrr,
    /// The same, in datagrams of one socket.
    UdpRr,
}

/// Where a slice goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a Netns,
    pub(crate) server: &'a Netns,
    /// Whom the client asks: a VIP, or the server itself.
    pub(crate) asked: SocketAddr,
    /// Where the server listens, by TCP and UDP.
    pub(crate) listens: SocketAddr,
}

/// The cores of client and server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [Self::TcpStream, Self::TcpRr, Self::TcpCrr, Self::UdpRr];

    /// As people call it, with the unit.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::TcpStream => "TCP stream, Gbit/s",
            Self::TcpRr => "TCP RR, 1/s",
            Self::TcpCrr => "TCP CRR, 1/s",
            Self::UdpRr => "UDP RR, 1/s",
        }
    }

    /// A rate, as people read it.
    pub(crate) fn figure(self, rate: f64) -> String {
        match self {
            Self::TcpStream => format!("{:.2}", rate / 1e9),
            _ => format!("{rate:.0}"),
        }
    }

    /// Sends over a path for as long as `length`, after some warming up; gives bits or exchanges per second.
    pub(crate) fn slice(self, ends: Ends<'_>, cores: Cores, length: Duration) -> Result<f64> {
        match self {
            Self::UdpRr => datagrams(ends, cores, length),
            _ => self.connections(ends, cores, length),
        }
    }

    fn connections(self, ends: Ends<'_>, cores: Cores, length: Duration) -> Result<f64> {
        let listener = ends.server.run(|| TcpListener::bind(ends.listens))?.context("cannot listen")?;
        // A client that fails leaves no server that waits for ever.
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
        let serve = || -> Result<f64> {
            pin(cores.server)?;
            match self {
                Self::TcpStream => take(accept(&listener)?),
                _ => answer(&listener).map(|()| 0.0),
            }
        };
        let ask = || -> Result<f64> {
            pin(cores.client)?;
            ends.client.enter()?;
            match self {
                Self::TcpStream => send(ends.asked, length).map(|()| 0.0),
                Self::TcpRr => ask_on_one(ends.asked, length),
                _ => ask_on_many(ends.asked, length),
            }
        };
        let (served, asked) = both(serve, ask)?;
        Ok(if self == Self::TcpStream { served } else { asked })
    }
}

/// Keeps the calling thread on one core.
fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot run on core {core} alone"))
}

/// Runs server and client at once. If both fail, the client knows better why.
fn both<T: Send>(
    serve: impl FnOnce() -> Result<T> + Send,
    ask: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, T)> {
    thread::scope(|scope| {
        let (server, client) = (scope.spawn(serve), scope.spawn(ask));
        let panicked = |_| anyhow!("a thread panicked");
        let asked = client.join().map_err(panicked)??;
        Ok((server.join().map_err(panicked)??, asked))
    })
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().context("no client came")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Takes all that a client sends, and gives the bits per second after the warming up.
fn take(mut stream: TcpStream) -> Result<f64> {
    let mut chunk = vec![0; CHUNK];
    let start = Instant::now();
    let mut warm = None;
    let mut bytes = 0_u64;
    loop {
        let taken = stream.read(&mut chunk).context("the stream stalled")?;
        match warm {
            None if start.elapsed() >= WARM_UP => warm = Some(Instant::now()),
            None => {}
            Some(_) => bytes += u64::try_from(taken)?,
        }
        if taken == 0 {
            break;
        }
    }
    let warm = warm.context("the stream ended at once")?;
    Ok(per_second(bytes * 8, warm.elapsed()))
}

fn send(server: SocketAddr, length: Duration) -> Result<()> {
    let mut stream = connect(server)?;
    let chunk = vec![0x5a; CHUNK];
    let start = Instant::now();
    while start.elapsed() < WARM_UP + length {
        stream.write_all(&chunk).context("the stream broke")?;
    }
    Ok(())
}

/// Answers each byte with itself, one connection after the other, until told to quit.
fn answer(listener: &TcpListener) -> Result<()> {
    let mut byte = [0];
    loop {
        let mut stream = accept(listener)?;
        while stream.read(&mut byte).context("no request came")? > 0 {
            if byte[0] == QUIT {
                return Ok(());
            }
            stream.write_all(&byte)?;
        }
    }
}

fn ask_on_one(server: SocketAddr, length: Duration) -> Result<f64> {
    let mut stream = connect(server)?;
    let rate = count(length, || exchange(&mut stream))?;
    stream.write_all(&[QUIT])?;
    Ok(rate)
}

fn ask_on_many(server: SocketAddr, length: Duration) -> Result<f64> {
    // The client closes first, as clients do: whoever does keeps the port for a while.
    let rate = count(length, || exchange(&mut connect(server)?))?;
    connect(server)?.write_all(&[QUIT])?;
    Ok(rate)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [b'x'];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte).context("no answer")?;
    ensure!(byte == [b'x'], "another answer");
    Ok(())
}

fn datagrams(ends: Ends<'_>, cores: Cores, length: Duration) -> Result<f64> {
    let server = ends.server.run(|| UdpSocket::bind(ends.listens))?.context("cannot listen")?;
    server.set_read_timeout(Some(LOST))?;
    let client = ends.client.run(|| -> std::io::Result<_> {
        let client = UdpSocket::bind("0.0.0.0:0")?;
        client.set_read_timeout(Some(LOST))?;
        client.connect(ends.asked)?;
        Ok(client)
    })??;
    let over = AtomicBool::new(false);
    let serve = || {
        pin(cores.server)?;
        let mut byte = [0; 8];
        while !over.load(Ordering::Relaxed) {
            match server.recv_from(&mut byte) {
                Ok((length, from)) => drop(server.send_to(&byte[..length], from)?),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(0.0)
    };
    let ask = || {
        pin(cores.client)?;
        let mut byte = [b'x'];
        let mut failures = 0;
        let rate = count(length, || {
            client.send(&byte)?;
            match client.recv(&mut byte) {
                Ok(_) => {}
                // A slice with losses shows it by its rate; one with nothing else is none.
                Err(_) if failures < 10 => failures += 1,
                Err(e) => bail!("{failures} datagrams had no answer: {e}"),
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        rate
    };
    Ok(both(serve, ask)?.1)
}

/// Does `work` for the time of warming up, then for `length`; gives how often per second in the latter.
fn count(length: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP {
        work()?;
    }
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < length {
        work()?;
        done += 1;
    }
    Ok(per_second(done, start.elapsed()))
}

#[allow(clippy::cast_precision_loss, reason = "a figure of a few digits")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
