//! Who is measured: agents that bring the API server's services into the kernel, each on a node of its own.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use integration::{ApiServer, Cluster, Netns, Node, binaries, process::Running, wait};
use serde_json::Value;

use crate::{
    maps::Maps,
    objects::{ENDPOINTS, Endpoint, Service},
    rules::{Commits, Generations},
};

/// kube-proxy's machine, and its pods' prefix.
pub(crate) const KUBE_PROXY: (&str, Ipv4Addr, &str) =
    ("kube-proxy", Ipv4Addr::new(192, 168, 77, 20), "10.244.20.0/24");
/// The prefix that all pods are in, as kube-proxy is told.
const POD_CIDR: &str = "10.0.0.0/8";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often Beeline's maps are asked.
const LOOK: Duration = Duration::from_micros(200);
/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// A service comes with its endpoints.
    NewService,
    /// One of a service's endpoints is another one.
    Endpoint,
}

/// Gives the moment when a change is in the kernel.
pub(crate) type Watch<'a> = Box<dyn FnOnce() -> Result<Instant> + Send + 'a>;

/// Gives the moment since when something is so, if it is.
pub(crate) type Look<'a> = Box<dyn FnMut() -> Result<Option<Instant>> + 'a>;

/// An agent.
pub(crate) trait Contender: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Starts it.
    fn start(&mut self) -> Result<()>;
    /// What runs, since it was started.
    fn running(&mut self) -> &mut Option<Running>;
    /// Gets ready to see `change` of `service`, whose new endpoint is `endpoint`.
    fn watch(&self, change: Change, service: &Service, endpoint: Endpoint) -> Result<Watch<'_>>;
    /// Gets ready to look, again and again, whether requests for `service` go to its endpoints, and since when.
    fn look(&self, service: &Service) -> Result<Look<'_>>;
    /// How many services have endpoints, as its own tools or the kernel's say.
    fn count(&self) -> Result<usize>;

    /// Kills it: what it has made stays.
    fn kill(&mut self) -> Result<()> {
        self.running().take().context("it does not run")?.kill()
    }

    /// Waits until `service` is served, and gives the moment when it was.
    fn until_serves(&mut self, service: &Service) -> Result<Instant> {
        let what = format!("{} to serve {}", self.name(), service.name());
        if let Some(running) = self.running() {
            running.ensure_alive()?;
        }
        wait::until_some(&what, PATIENCE, self.look(service)?)
    }

    /// Its memory.
    fn memory(&mut self) -> Result<Memory> {
        let running = self.running().as_ref().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid()))?;
        let of = |key: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
            let kib: f64 = line.trim_start_matches(':').trim_end_matches("kB").trim().parse()?;
            Ok(kib / 1024.0)
        };
        Ok(Memory { rss: of("VmRSS")?, anonymous: of("RssAnon")?, peak: of("VmHWM")? })
    }
}

/// What of a process is in memory, in MiB.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) rss: f64,
    /// Without what comes from files, such as the program itself.
    pub(crate) anonymous: f64,
    /// All of it at its most, since the start.
    pub(crate) peak: f64,
}

/// `beelined`.
pub(crate) struct Beeline<'a> {
    node: &'a Node,
    kubeconfig: PathBuf,
    running: Option<Running>,
}

impl<'a> Beeline<'a> {
    /// On the first node of `cluster`.
    pub(crate) fn new(cluster: &'a Cluster, api: &ApiServer) -> Result<Self> {
        Ok(Self { node: cluster.node(1)?, kubeconfig: api.kubeconfig("admin")?, running: None })
    }

    fn metrics(&self) -> SocketAddr {
        SocketAddr::from((self.node.address(), 9965))
    }

    /// What the agent itself has measured since its start: how many changes, and how many seconds they took together from
    /// when it heard of them.
    pub(crate) fn histogram(&self) -> Result<[f64; 2]> {
        let text = self.node.run(|| get(self.metrics(), "/metrics"))??;
        let value = |what: &str| -> Result<f64> {
            let name = format!("beeline_network_programming_duration_seconds_{what} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            Ok(line.with_context(|| format!("no {name}in {text}"))?.parse()?)
        };
        Ok([value("count")?, value("sum")?])
    }
}

impl Contender for Beeline<'_> {
    fn name(&self) -> &'static str {
        "beelined"
    }

    fn start(&mut self) -> Result<()> {
        let mut command = self.node.command(binaries::find("beelined")?);
        command.args(["run", "--source=kubernetes", "--kubeconfig"]).arg(&self.kubeconfig);
        command.args(["--node", self.node.name()]).arg(format!("--metrics-address={}", self.metrics()));
        command.arg("--runtime-dir").arg(self.node.runtime_dir()).arg("--bpffs").arg(self.node.bpffs());
        self.running = Some(Running::start(command, &self.node.log_path("beelined"))?);
        Ok(())
    }

    fn running(&mut self) -> &mut Option<Running> {
        &mut self.running
    }

    fn watch(&self, change: Change, service: &Service, _: Endpoint) -> Result<Watch<'_>> {
        let (maps, vip) = (Maps::open(&self.node.bpffs())?, service.vip());
        let before = maps.ask(vip)?;
        Ok(Box::new(move || {
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                let said = maps.ask(vip)?;
                let done = match change {
                    Change::NewService => said.has_backends(ENDPOINTS),
                    Change::Endpoint => said.follows(&before),
                };
                if done {
                    return Ok(Instant::now());
                }
                thread::sleep(LOOK);
            }
            bail!("beelined has not written the service at {vip} in {} s", PATIENCE.as_secs())
        }))
    }

    fn look(&self, service: &Service) -> Result<Look<'_>> {
        let vip = service.vip();
        Ok(Box::new(move || {
            // Before its first start there are no maps.
            let Ok(maps) = Maps::open(&self.node.bpffs()) else { return Ok(None) };
            Ok(maps.ask(vip)?.has_backends(ENDPOINTS).then(Instant::now))
        }))
    }

    fn count(&self) -> Result<usize> {
        let said = self.node.ctl_json("services")?;
        let services = said["services"].as_array().context("beelinectl tells of no services")?;
        let is_whole = |service: &&Value| {
            service["backends"].as_array().is_some_and(|backends| backends.len() == ENDPOINTS as usize)
        };
        Ok(services.iter().filter(is_whole).count())
    }
}

/// kube-proxy in its nftables mode.
pub(crate) struct KubeProxy<'a> {
    api: &'a ApiServer,
    machine: Netns,
    running: Option<Running>,
}

impl<'a> KubeProxy<'a> {
    /// On a machine of the cluster's underlay.
    pub(crate) fn new(cluster: &Cluster, api: &'a ApiServer) -> Result<Self> {
        let (name, address, _) = KUBE_PROXY;
        Ok(Self { api, machine: cluster.outsider(name, address)?, running: None })
    }

    /// The configuration that it runs with, as it tells itself.
    pub(crate) fn configuration(&self) -> Result<Value> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10249));
        let text = self.machine.run(|| get(address, "/configz"))??;
        let all: Value = serde_json::from_str(&text)?;
        let [of_connection, of_nftables] = ["/clientConnection", "/nftables"]
            .map(|part| all.pointer(&format!("/kubeproxy.config.k8s.io{part}")).cloned().unwrap_or_default());
        Ok(serde_json::json!({ "clientConnection": of_connection, "nftables": of_nftables }))
    }
}

impl Contender for KubeProxy<'_> {
    fn name(&self) -> &'static str {
        "kube-proxy"
    }

    fn start(&mut self) -> Result<()> {
        self.running = Some(self.api.start_kube_proxy(&self.machine, KUBE_PROXY.0, POD_CIDR)?);
        Ok(())
    }

    fn running(&mut self) -> &mut Option<Running> {
        &mut self.running
    }

    fn watch(&self, _: Change, _: &Service, endpoint: Endpoint) -> Result<Watch<'_>> {
        let mut commits = Commits::listen(&self.machine)?;
        Ok(Box::new(move || commits.until(endpoint, PATIENCE)))
    }

    fn look(&self, service: &Service) -> Result<Look<'_>> {
        let (mut generations, vip) = (Generations::of(&self.machine)?, service.vip());
        Ok(Box::new(move || generations.lead_to(&self.machine, vip)))
    }

    fn count(&self) -> Result<usize> {
        let map = self.machine.exec("nft list map ip kube-proxy service-ips")?;
        Ok(map.matches("goto service-").count())
    }
}

/// The body of what is answered at `path`, from the calling thread's machine.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 "), "{path} is answered with {head}");
    Ok(body.to_owned())
}
