//! Many requests, counted and timed; each answer is checked against what its client knows.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{http::Connection, netns::Netns};

/// Clients that ask at the same time if nothing else is said.
const CLIENTS: usize = 4;

/// Whether requests share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each client asks all its requests on one connection.
    Kept,
    /// Each request has a connection of its own.
    New,
    /// Each connection serves ten requests.
    Short,
}

impl Connections {
    /// Whether a connection that has served this many requests serves more.
    fn keep(self, uses: u32) -> bool {
        match self {
            Self::Kept => true,
            Self::New => false,
            Self::Short => uses < 10,
        }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests answered.
    pub answered: u64,
    /// What went wrong, one line for each request that was not answered.
    pub failures: Vec<String>,
    /// How many each server answered, by its name.
    pub servers: BTreeMap<String, u64>,
    /// Answers in which the server saw another client address or port than the client itself has.
    pub translated: u64,
    /// How long each answer took, shortest first; with a new connection, the connecting included.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// The latency that `percent` % of requests did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).copied().unwrap_or_default()
    }

    /// Adds what another load came to.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failures.extend(other.failures);
        self.translated += other.translated;
        for (server, count) in other.servers {
            *self.servers.entry(server).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
    }

    fn ask(&mut self, kept: &mut Option<(Connection, u32)>, server: SocketAddr, connections: Connections) {
        let start = Instant::now();
        let mut attempt = || -> Result<_> {
            let (mut connection, uses) = match kept.take() {
                Some(kept) => kept,
                None => (Connection::open(server)?, 0),
            };
            let answer = connection.ask()?;
            let took = start.elapsed();
            let local = connection.local()?;
            if connections.keep(uses + 1) {
                *kept = Some((connection, uses + 1));
            }
            Ok((answer, local, took))
        };
        match attempt() {
            Ok((answer, local, took)) => {
                self.answered += 1;
                self.translated += u64::from(answer.client != local);
                *self.servers.entry(answer.server).or_default() += 1;
                self.latencies.push(took);
            }
            Err(e) => self.failures.push(format!("{e:#}")),
        }
    }
}

impl Netns {
    /// Asks the echo server at `server` this many times from here, from four clients at once.
    ///
    /// # Errors
    /// If the namespace cannot be entered; what goes wrong with requests is in the report.
    pub fn load(&self, server: SocketAddr, requests: u32, connections: Connections) -> Result<Report> {
        self.load_from(CLIENTS, server, requests, connections)
    }

    /// As [`Netns::load`], from this many clients at once. One alone tells latency without queueing.
    ///
    /// # Errors
    /// As [`Netns::load`].
    pub fn load_from(
        &self,
        clients: usize,
        server: SocketAddr,
        requests: u32,
        connections: Connections,
    ) -> Result<Report> {
        let left = AtomicU32::new(requests);
        let total = Mutex::new(Report::default());
        let client = || -> Result<()> {
            self.enter()?;
            let mut report = Report::default();
            let mut kept = None;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                report.ask(&mut kept, server, connections);
            }
            if let Ok(mut total) = total.lock() {
                total.add(report);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            clients.into_iter().try_for_each(|client| client.join().unwrap_or(Ok(())))
        })?;
        Ok(total.into_inner().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let latencies = (1..=200).map(Duration::from_micros).collect();
        let report = Report { latencies, ..Report::default() };
        assert_eq!(report.percentile(50), Duration::from_micros(100));
        assert_eq!(report.percentile(99), Duration::from_micros(198));
        assert_eq!(Report::default().percentile(99), Duration::ZERO);
    }
}
