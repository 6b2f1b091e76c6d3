//! Nodes: machines of the underlay with a runtime folder, a bpffs of their own, and `beelined`.

use std::{
    fs,
    net::Ipv4Addr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use crate::{
    binaries,
    netns::Netns,
    process::{self, Running},
    sandbox, wait,
};

/// How long `beelined` may take to set a node up, on a loaded machine, verification of the programs included.
/// Only what hangs takes longer: on a busy machine an RCU grace period, which attaching waits for, took a minute.
const START_LIMIT: Duration = Duration::from_secs(150);
/// How long a change of the configuration may take to reach the maps.
const APPLY_LIMIT: Duration = Duration::from_mins(2);

/// A node; everything that can be done in a [`Netns`] can be done in it. Clones are handles of the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    address: Ipv4Addr,
    netns: Netns,
    dir: PathBuf,
    agent: Mutex<Option<Running>>,
}

impl Drop for Inner {
    /// What is pinned goes with the node: the maps of all clusters of a run, kept to its end, are more than a machine has.
    fn drop(&mut self) {
        // Nothing can be done about failure, and the mount is gone with the sandbox at the latest.
        let _ = umount2(&self.dir.join("bpf"), MntFlags::MNT_DETACH);
    }
}

impl Node {
    /// A node called `name` in `netns`, which keeps its files in `dir`. Its agent is not started.
    ///
    /// # Errors
    /// If the files cannot be made or bpffs not be mounted.
    pub(crate) fn create(name: &str, address: Ipv4Addr, netns: Netns, dir: &Path) -> Result<Self> {
        let dir = dir.join(name);
        for part in ["bpf", "run", "log"] {
            fs::create_dir_all(dir.join(part))?;
        }
        sandbox::mount_fs("bpf", &dir.join("bpf"))?;
        Ok(Self(Arc::new(Inner { name: name.to_owned(), address, netns, dir, agent: Mutex::new(None) })))
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its underlay address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    /// Where `node.json`, `status.json` and the address store are.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.0.dir.join("run")
    }

    /// Beeline's folder in this node's bpffs.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.0.dir.join("bpf").join("beeline")
    }

    /// The configuration that the agent reads.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.0.dir.join("node.yaml")
    }

    /// Where program `name` writes what it prints.
    #[must_use]
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.0.dir.join("log").join(format!("{name}.log"))
    }

    /// All that the agents of this node have logged.
    #[must_use]
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.log_path("beelined")).unwrap_or_default()
    }

    /// Writes the configuration as an editor does: beside it, then renamed over it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let new = self.0.dir.join("node.yaml.new");
        fs::write(&new, text)?;
        fs::rename(&new, self.config_path()).context("cannot rename the configuration into place")
    }

    /// Starts `beelined` and waits until the node is ready for pods.
    ///
    /// # Errors
    /// If it ends, or does not become ready.
    pub fn start_agent(&self) -> Result<()> {
        self.spawn_agent()?;
        self.wait_ready()
    }

    /// Starts `beelined` and does not wait.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_agent(&self) -> Result<()> {
        let mut command = self.command(binaries::find("beelined")?);
        command.arg("run").arg("--config").arg(self.config_path());
        command.arg("--runtime-dir").arg(self.runtime_dir()).arg("--bpffs").arg(self.bpffs());
        *self.agent() = Some(Running::start(command, &self.log_path("beelined"))?);
        Ok(())
    }

    /// Waits until the running agent says that the node is ready.
    ///
    /// # Errors
    /// If it ends, or does not become ready.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = || {
            let mut agent = self.agent();
            let agent = agent.as_mut().context("no agent is running")?;
            agent.ensure_alive()?;
            let status = self.status();
            Ok(status.is_some_and(|s| s["pid"] == agent.pid().as_raw() && s["state"] == "ready"))
        };
        let what = format!("beelined of {} to be ready", self.name());
        wait::until(&what, START_LIMIT, ready).with_context(|| self.explain())
    }

    /// Kills the agent with SIGKILL.
    ///
    /// # Errors
    /// If none is running.
    pub fn kill_agent(&self) -> Result<()> {
        let agent = self.agent().take();
        agent.context("no agent is running")?.kill()
    }

    /// Takes whatever hangs on `device` by TCX off it, and its pin away; the agent, if one runs, puts it back.
    ///
    /// A link whose pin, its last reference, is removed lets go a while later, on a kernel thread: hence first the one,
    /// then the other.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn detach(&self, device: &str) -> Result<()> {
        let pin = self.bpffs().join("links").join(device);
        let mut command = Command::new("bpftool");
        command.args(["link", "detach", "pinned"]).arg(&pin);
        process::finish(command, "")?.ok()?;
        fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))
    }

    /// The agent, to wait for its end or signal it.
    pub fn agent(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `status.json`, if it is there and whole.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let bytes = fs::read(self.runtime_dir().join("status.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// How many configurations the running agent has made real.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.status().and_then(|status| status["generation"].as_u64()).unwrap_or(0)
    }

    /// Writes `config` and waits until the agent has made it real; gives how long that took.
    ///
    /// # Errors
    /// If the agent refuses it or takes too long.
    pub fn apply(&self, config: &str) -> Result<Duration> {
        let before = self.generation();
        if fs::read_to_string(self.config_path()).is_ok_and(|old| old == config) {
            return Ok(Duration::ZERO);
        }
        let start = Instant::now();
        self.write_config(config)?;
        let what = format!("beelined of {} to apply its configuration", self.name());
        wait::until(&what, APPLY_LIMIT, || {
            self.agent().as_mut().context("no agent is running")?.ensure_alive()?;
            let status = self.status().unwrap_or_default();
            ensure!(status["state"] != "degraded", "beelined refuses: {}", status["lastError"]["message"]);
            Ok(status["generation"].as_u64().unwrap_or(0) > before)
        })
        .with_context(|| self.explain())?;
        Ok(start.elapsed())
    }

    /// True if an agent is running.
    #[must_use]
    pub fn has_agent(&self) -> bool {
        self.agent().is_some()
    }

    fn explain(&self) -> String {
        let log = self.agent_log();
        let tail: Vec<_> = log.lines().rev().take(15).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        format!("{} ({}) logged:\n{}", self.name(), self.address(), tail.join("\n"))
    }
}

impl Deref for Node {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.0.netns
    }
}
