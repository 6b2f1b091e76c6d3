//! What the agent says about itself: keeps `status.json` true, and logs every trouble once.

use std::{
    path::PathBuf,
    time::{Instant, SystemTime},
};

use lb_dataplane::{
    StatusFile,
    status_file::{Check, Counts, Source, State, Trouble, Uplink},
};

use tokio::sync::watch;

use crate::{health::Health, model::Network, reconcile::Outcome};

/// The status, and where it is written.
pub(crate) struct Status {
    runtime_dir: PathBuf,
    now: StatusFile,
    written: Option<StatusFile>,
    /// What is wrong with the newest configuration, if anything.
    source: Option<Trouble>,
    /// What is wrong with the kernel, if anything.
    kernel: Vec<Trouble>,
    /// Whether the last pass came to its end.
    passed: bool,
    health: watch::Sender<Health>,
}

impl Status {
    pub(crate) fn new(
        runtime_dir: PathBuf,
        source: Source,
        preflight: Vec<Check>,
        health: watch::Sender<Health>,
    ) -> Self {
        Self {
            runtime_dir,
            now: StatusFile {
                state: State::Starting,
                node: None,
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: SystemTime::now(),
                source,
                generation: 0,
                last_applied: None,
                last_error: None,
                counts: Counts::default(),
                uplink: None,
                mtu: None,
                attach: None,
                preflight,
            },
            written: None,
            source: None,
            kernel: vec![],
            passed: false,
            health,
        }
    }

    /// The loop came round.
    pub(crate) fn beat(&mut self) {
        self.health.send_if_modified(|health| {
            health.beat = Instant::now();
            false
        });
    }

    /// The source told something that makes sense. It shows once the pass that follows has come to its end.
    pub(crate) fn source_is_good(&mut self) {
        self.source = None;
    }

    /// The source told something that does not.
    pub(crate) fn source_is_bad(&mut self, message: String) {
        if self.source.as_ref().is_some_and(|known| known.message == message) {
            return;
        }
        if self.now.generation > 0 {
            tracing::error!("{message} (the last good configuration stays in force)");
        } else {
            tracing::error!("{message} (waiting for it to be corrected)");
        }
        self.source = Some(trouble(message));
        self.write();
    }

    /// A pass made the kernel what `network` says. `new`: for the first time.
    pub(crate) fn applied(&mut self, network: &Network, outcome: &Outcome, new: bool) {
        self.passed = true;
        self.troubles(outcome.troubles.clone());
        let now = &mut self.now;
        if new {
            now.generation += 1;
            now.last_applied = Some(SystemTime::now());
        }
        now.node = Some(network.node.name.clone());
        now.counts = counts(network);
        now.uplink = Some(Uplink {
            name: outcome.uplink.name.clone(),
            address: network.node.address,
            mtu: outcome.uplink.mtu,
        });
        now.mtu = Some(outcome.mtu);
        now.attach = Some(outcome.attach);
        self.write();
    }

    /// A pass failed.
    pub(crate) fn failed(&mut self, message: String) {
        self.passed = false;
        self.troubles(vec![message]);
        self.write();
    }

    /// Takes over what is wrong with the kernel now, and logs what is new in it.
    fn troubles(&mut self, messages: Vec<String>) {
        let before = std::mem::take(&mut self.kernel);
        for old in &before {
            if !messages.contains(&old.message) {
                tracing::info!(trouble = old.message, "no more");
            }
        }
        for message in messages {
            let known = before.iter().find(|old| old.message == message).cloned();
            self.kernel.push(known.unwrap_or_else(|| {
                tracing::error!("{message}");
                trouble(message)
            }));
        }
    }

    fn write(&mut self) {
        let all: Vec<&Trouble> = self.source.iter().chain(&self.kernel).collect();
        self.now.last_error = all.first().map(|&first| Trouble {
            message: all.iter().map(|trouble| trouble.message.as_str()).collect::<Vec<_>>().join("\n"),
            since: first.since,
        });
        self.now.state = match (&self.now.last_error, self.now.generation) {
            (_, 0) => State::Starting,
            (None, _) => State::Ready,
            (Some(_), _) => State::Degraded,
        };
        self.tell_health();
        if self.written.as_ref() == Some(&self.now) {
            return;
        }
        match self.now.write(&self.runtime_dir) {
            Ok(()) => self.written = Some(self.now.clone()),
            Err(error) => tracing::warn!(%error, "cannot write the status"),
        }
    }

    fn tell_health(&self) {
        let ready = self.now.generation > 0 && self.passed;
        let trouble = self.now.last_error.as_ref().map(|trouble| trouble.message.clone());
        self.health.send_if_modified(|health| {
            let differs = health.ready != ready || health.trouble != trouble;
            health.ready = ready;
            health.trouble = trouble;
            differs
        });
    }
}

fn trouble(message: String) -> Trouble {
    Trouble { message, since: SystemTime::now() }
}

/// How much `network` holds.
pub(crate) fn counts(network: &Network) -> Counts {
    let services = &network.services;
    Counts {
        peers: network.peers.len(),
        services: services.len(),
        dsr_services: services.iter().filter(|service| service.dsr).count(),
        frontends: services.iter().map(|service| service.all_frontends().count()).sum(),
        backends: services.iter().map(|service| service.backends.len()).sum(),
    }
}
