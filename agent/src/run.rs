//! `beelined run`: waits for what may call for work (the source, the kernel, the clock) and has it done.
//!
//! Nothing is taken down at the end: whoever stops the agent wants it stopped, not the network.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lb_dataplane::{NodeFile, Pins, netlink::Events, status_file::Check};
use nix::sys::signal::{SigSet, Signal};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::{self, SourceKind},
    error::told,
    host::{cni::Cni, preflight, sysctl},
    instance::Instance,
    memory,
    metrics::{self, Metrics},
    model::Network,
    reconcile::{self, Reconciler},
    source::{self, Cause},
    status::{Status, counts},
};

/// How often everything is looked at, whether or not something happened.
const HEAL: Duration = Duration::from_secs(3);
/// How soon after a change of links, addresses or routes: others' changes come in bursts, and so do our own.
const REACT: Duration = Duration::from_millis(200);
/// Changes at once that leave much free memory behind.
const MANY: usize = 1_000;

/// Runs until SIGTERM or SIGINT ends the process.
pub(crate) fn run(args: cli::Run) -> Result<()> {
    stop_when_told()?;
    let findings = preflight::run(&args.place.bpffs);
    if !findings.fatal.is_empty() {
        bail!("this machine cannot be a node:\n  {}", findings.fatal.join("\n  "));
    }
    let _instance = Instance::lock(&args.place.runtime_dir)?;
    // One thread is enough, and keeps all of it in the one network namespace.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(serve(args, findings.checks))? {}
}

async fn serve(args: cli::Run, checks: Vec<Check>) -> Result<Infallible> {
    let cni = Cni::new(&args.cni, &args.place.runtime_dir);
    prepare(&cni, &args.place.runtime_dir)?;
    let metrics = Metrics::new(&args.place.bpffs);
    let (sender, mut updates) = mpsc::channel(1);
    let health = watch::Sender::default();
    let source = source::start(&args, &metrics, &health, sender).await?;
    if let Some(address) = args.metrics_address {
        let serving = metrics::serve(address, metrics.clone(), health.subscribe());
        tokio::spawn(async {
            let Err(error) = serving.await;
            tracing::error!("{}", told(&error));
        });
    }
    let status = Status::new(args.place.runtime_dir.clone(), source, checks, health);
    let stands_in = (args.source() == SourceKind::Kubernetes).then(|| args.sysctls.clone());
    let reconciler = Reconciler::new(Pins::new(args.place.bpffs), args.place.runtime_dir, args.sysctls)?;
    let mut clock = interval(HEAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = Events::open()?;
    let mut hurry = false;
    let mut agent =
        Agent { reconciler, status, cni, metrics, stands_in, wanted: None, causes: vec![], good: None };
    loop {
        agent.status.beat();
        tokio::select! {
            Some(update) = updates.recv() => agent.take(update).await,
            () = events.changed(), if !hurry => {
                clock.reset_after(REACT);
                hurry = true;
            }
            _ = clock.tick() => {
                hurry = false;
                agent.pass(Pass::Whole).await;
            }
        }
    }
}

/// Puts the plugin where the runtime finds it. A conflist that promises a network on a node that has none yet (it was
/// started anew) goes until there is one.
fn prepare(cni: &Cni, runtime_dir: &Path) -> Result<()> {
    if NodeFile::read(runtime_dir).is_err()
        && let Some(path) = cni.withdraw().context("cannot remove the conflist of before")?
    {
        tracing::info!(path = %path.display(), "took the conflist away until pods can be wired");
    }
    for path in cni.install()? {
        tracing::info!(path = %path.display(), "installed");
    }
    Ok(())
}

/// From here on, SIGTERM and SIGINT end the process at once, whatever it is doing: it may be killed at any time
/// anyway, and nobody shall have to wait for it. To be called before any other thread is started.
fn stop_when_told() -> Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    let wait = move || {
        if signals.wait().is_ok() {
            tracing::info!("stopped; everything stays in place and packets flow on");
            process::exit(0);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

/// How much a pass is to look at.
#[derive(Clone, Copy)]
enum Pass {
    /// Everything.
    Whole,
    /// What changed, if that is possible.
    Short,
}

/// What the loop works on.
struct Agent {
    reconciler: Reconciler,
    status: Status,
    cni: Cni,
    metrics: Metrics,
    /// Where sysctls are, if what kube-proxy would set of them is to be set.
    stands_in: Option<PathBuf>,
    /// The configuration to be made real.
    wanted: Option<Network>,
    /// The changes that are not in the maps yet.
    causes: Vec<Cause>,
    /// The one that last was.
    good: Option<Network>,
}

impl Agent {
    /// Takes what the source says, and makes it real if it makes sense.
    async fn take(&mut self, update: source::Update) {
        match update {
            Err(message) => self.status.source_is_bad(message),
            Ok(told) => {
                match told.trouble {
                    None => self.status.source_is_good(),
                    Some(trouble) => self.status.source_is_bad(trouble),
                }
                self.wanted = Some(told.network);
                self.causes.extend(told.causes);
                self.pass(Pass::Short).await;
            }
        }
    }

    /// One pass of the reconciler over what is wanted; if that can never be, over what last was good.
    async fn pass(&mut self, pass: Pass) {
        let result = self.try_pass(pass).await;
        self.metrics.passed(result.is_ok());
        let Err(mut error) = result else {
            return;
        };
        if reconcile::is_lasting(&error) && self.good.is_some() && self.good != self.wanted {
            let message = format!("the configuration cannot be applied: {}", told(&error));
            self.status.source_is_bad(message);
            self.wanted.clone_from(&self.good);
            match self.try_pass(Pass::Whole).await {
                Ok(()) => return,
                Err(other) => error = other,
            }
        }
        self.status.failed(told(&error));
    }

    async fn try_pass(&mut self, pass: Pass) -> Result<()> {
        let Some(network) = &self.wanted else {
            return Ok(());
        };
        let start = Instant::now();
        let short = match pass {
            Pass::Short => self.reconciler.services_only(network)?,
            Pass::Whole => None,
        };
        let is_whole = short.is_none();
        let mut outcome = match short {
            Some(outcome) => outcome,
            None => self.reconciler.pass(network).await?,
        };
        let new = self.good.as_ref() != Some(network);
        let took = start.elapsed();
        self.metrics.programmed(&std::mem::take(&mut self.causes));
        if new || !outcome.changes.is_empty() {
            self.metrics.applied(&counts(network), took);
        }
        if is_whole && let Some(root) = &self.stands_in {
            outcome.troubles.extend(sysctl::ensure_for_services(root));
        }
        match self.cni.announce() {
            Ok(true) => tracing::info!("wrote the conflist: pods can be wired"),
            Ok(false) => {}
            Err(error) => outcome.troubles.push(told(&error)),
        }
        self.status.applied(network, &outcome, new);
        if new || !outcome.changes.is_empty() {
            let changes = &outcome.changes;
            tracing::info!(
                node = network.node.name,
                uplink = outcome.uplink.name,
                mtu = outcome.mtu,
                peers = network.peers.len(),
                services = network.services.len(),
                added = changes.added,
                changed = changes.changed,
                removed = changes.removed,
                ?took,
                "applied"
            );
        }
        let is_much = self.good.is_none() || outcome.changes.count() >= MANY;
        if new {
            self.good = Some(network.clone());
        }
        if is_much {
            memory::give_back();
        }
        Ok(())
    }
}
