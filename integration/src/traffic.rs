//! Traffic that goes on while something else happens: connections without pause, new ones all the time, and
//! numbered datagrams. It says what broke.

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::{echo::be_patient, family::Family, http::Connection, netns::Netns};

/// Connections that ask without pause.
const STREAMS: usize = 4;
/// New connections are opened this often.
const NEW_EVERY: Duration = Duration::from_millis(5);
/// Datagrams are sent this often.
const DATAGRAM_EVERY: Duration = Duration::from_millis(1);
/// How long datagrams on their way may still come after the last was sent.
const GRACE: Duration = Duration::from_millis(500);

/// Traffic that is under way.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    streams: Vec<JoinHandle<Result<Outcome>>>,
    datagrams: JoinHandle<Result<Result<Outcome>>>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests answered on connections that never pause.
    pub asked: u64,
    /// New connections opened and answered.
    pub opened: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams sent back.
    pub returned: u64,
    /// What broke, connections and sends.
    pub broken: Vec<String>,
}

impl Outcome {
    /// Datagrams that never came back.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent - self.returned
    }

    /// Adds what came of other traffic.
    pub fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.opened += other.opened;
        self.sent += other.sent;
        self.returned += other.returned;
        self.broken.extend(other.broken);
    }
}

impl Traffic {
    /// Starts it from `netns` towards an echo server.
    #[must_use]
    pub fn start(netns: &Netns, server: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let stop = stop.clone();
            streams.push(netns.spawn_thread(move || ask_without_pause(server, &stop)));
        }
        let stop_new = stop.clone();
        streams.push(netns.spawn_thread(move || open_new_ones(server, &stop_new)));
        let stop_datagrams = stop.clone();
        let datagrams = netns.spawn_thread(move || send_datagrams(server, &stop_datagrams));
        Self { stop, streams, datagrams }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If a thread of it could not work at all.
    pub fn stop(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread of the traffic panicked");
        let mut outcome = self.datagrams.join().map_err(panicked)???;
        for stream in self.streams {
            outcome.add(stream.join().map_err(panicked)??);
        }
        Ok(outcome)
    }
}

fn ask_without_pause(server: SocketAddr, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    while !stop.load(Ordering::Relaxed) {
        let mut session = || -> Result<()> {
            let mut connection = Connection::open(server)?;
            while !stop.load(Ordering::Relaxed) {
                connection.ask()?;
                outcome.asked += 1;
            }
            Ok(())
        };
        let result = session();
        outcome.broken.extend(result.err().map(|e| format!("a connection in use broke: {e:#}")));
    }
    outcome
}

fn open_new_ones(server: SocketAddr, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    while !stop.load(Ordering::Relaxed) {
        match Connection::open(server).and_then(|mut connection| connection.ask()) {
            Ok(_) => outcome.opened += 1,
            Err(e) => outcome.broken.push(format!("a new connection failed: {e:#}")),
        }
        thread::sleep(NEW_EVERY);
    }
    outcome
}

fn send_datagrams(server: SocketAddr, stop: &AtomicBool) -> Result<Outcome> {
    let socket = UdpSocket::bind(Family::of(server.ip()).any())?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(GRACE))?;
    be_patient(&socket);
    let all_sent = AtomicBool::new(false);
    thread::scope(|scope| {
        let collector = scope.spawn(|| collect_datagrams(&socket, &all_sent));
        let sent = send_at_pace(&socket, stop);
        all_sent.store(true, Ordering::Relaxed);
        let returned = collector.join().map_err(|_| anyhow!("the collector of datagrams panicked"))?;
        Ok(Outcome { returned, ..sent? })
    })
}

/// Counts what comes back, each datagram once, until nothing has come for [`GRACE`] after the last was sent. Before that,
/// silence is no end: on a busy machine the server may not be scheduled for longer.
fn collect_datagrams(socket: &UdpSocket, all_sent: &AtomicBool) -> u64 {
    let mut seen = HashSet::new();
    let mut datagram = [0; 8];
    loop {
        // Asked before waiting, so that a whole grace begins after the last was sent.
        let is_last = all_sent.load(Ordering::Relaxed);
        match socket.recv(&mut datagram) {
            Ok(_) => {
                seen.insert(datagram);
            }
            Err(_) if is_last => return seen.len() as u64,
            Err(_) => {}
        }
    }
}

fn send_at_pace(socket: &UdpSocket, stop: &AtomicBool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // By the clock, not by sleeping: sleeps on a busy machine are long, and the pace must hold.
        let due = u64::try_from(start.elapsed().as_millis() / DATAGRAM_EVERY.as_millis())?;
        while outcome.sent <= due {
            match socket.send(&outcome.sent.to_be_bytes()) {
                Ok(_) => outcome.sent += 1,
                Err(e) => {
                    outcome.broken.push(format!("a datagram could not be sent: {e}"));
                    break;
                }
            }
        }
        thread::sleep(DATAGRAM_EVERY);
    }
    Ok(outcome)
}
