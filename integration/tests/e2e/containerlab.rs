//! The containerlab topology, brought up as containerlab would: each node a network namespace with files of its own, each
//! link a veth pair, each command run in turn.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{
    Netns, binaries,
    ping::Ping,
    process::{Running, finish},
    sandbox, wait,
};
use serde::Deserialize;

const TOPOLOGY: &str = "beeline.clab.yml";
/// The service of its `network.yaml`, and the pods that its commands make.
const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 10), 8000);
const WEB1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const WEB2: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 1);

#[derive(Deserialize)]
struct Lab {
    topology: Topology,
}

#[derive(Deserialize)]
struct Topology {
    nodes: BTreeMap<String, Node>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    binds: Vec<String>,
    #[serde(default)]
    exec: Vec<String>,
}

#[derive(Deserialize)]
struct Link {
    endpoints: [String; 2],
}

pub(crate) fn a_containerlab_of_two_nodes_and_a_plain_vtep_comes_up() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/containerlab");
    let text = fs::read_to_string(folder.join(TOPOLOGY))?;
    let lab: Lab = serde_saphyr::from_str(&text).with_context(|| format!("{TOPOLOGY} makes no sense"))?;
    let (prefix, dir) = sandbox::new_state_dir()?;

    let mut machines = BTreeMap::new();
    for (name, node) in &lab.topology.nodes {
        machines.insert(name.as_str(), Machine::start(&prefix, name, &node.binds, &folder, &dir)?);
    }
    for link in &lab.topology.links {
        let [(a, a_device), (b, b_device)] = ends(link)?;
        let (a, b) = (machine(&machines, a)?, machine(&machines, b)?);
        a.netns
            .ip(&format!("link add {a_device} type veth peer name {b_device} netns {}", b.netns.name()))?;
        a.netns.ip(&format!("link set {a_device} up"))?;
        b.netns.ip(&format!("link set {b_device} up"))?;
    }
    for (name, node) in &lab.topology.nodes {
        for line in &node.exec {
            machine(&machines, name)?.exec(line).with_context(|| format!("{name}: {line}"))?;
        }
    }

    let (web1, web2) = (machine(&machines, "node1")?.pod("web1")?, machine(&machines, "node2")?.pod("web2")?);
    let _server = web2.serve_as("web2", 80, &dir.join("web2.log"))?;
    let (answer, client) = web1.get(VIP.into())?;
    ensure!(answer.server == "web2" && answer.client == client && client.ip() == WEB1, "{answer:?}");
    let vtep = &machine(&machines, "vtep")?.netns;
    ensure!(vtep.ping(WEB2.into(), 56)? == Ping::Answered, "the plain end does not reach a pod");
    ensure!(web1.ping(PLAIN.into(), 56)? == Ping::Answered, "a pod does not reach the plain end");
    machine(&machines, "node1")?.exec("sh /etc/beeline/pod DEL web1")?;
    Ok(())
}

fn ends(link: &Link) -> Result<[(&str, &str); 2]> {
    let [a, b] = &link.endpoints;
    Ok([end(a)?, end(b)?])
}

fn end(text: &str) -> Result<(&str, &str)> {
    text.split_once(':').with_context(|| format!("{text} is not NODE:DEVICE"))
}

fn machine<'a>(machines: &'a BTreeMap<&str, Machine>, name: &str) -> Result<&'a Machine> {
    machines.get(name).with_context(|| format!("the topology has no node {name}"))
}

/// A node as containerlab makes one: its own network, its own files over those of this machine, and its own processes, which end
/// with it.
struct Machine {
    netns: Netns,
    /// Its first process's parent.
    _holder: Running,
    /// Process id of its first process.
    init: u32,
}

impl Machine {
    fn start(prefix: &str, name: &str, binds: &[String], folder: &Path, dir: &Path) -> Result<Self> {
        let netns = Netns::create(&format!("{prefix}-{name}"))?;
        let dir = dir.join(name);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part))?;
        }
        for bind in binds {
            let (from, to) = bind.split_once(':').with_context(|| format!("{bind} is not FROM:TO"))?;
            let to = dir.join("upper").join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().context("a file in no folder")?)?;
            fs::copy(source(from, folder)?, &to).with_context(|| format!("cannot copy {from}"))?;
        }
        let mut command = netns.command("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-euc", MOUNTS]).current_dir(&dir);
        let holder = Running::start(command, &dir.join("log"))?;
        wait::until(&format!("the files of {name}"), Duration::from_secs(20), || {
            Ok(dir.join("upper/ready").exists())
        })
        .with_context(|| holder.log())?;
        let pid = holder.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let init = children.trim().parse().with_context(|| format!("{name} has no first process"))?;
        Ok(Self { netns, _holder: holder, init })
    }

    fn exec(&self, line: &str) -> Result<()> {
        let mut command = self.netns.command("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--root", "--wd=/"]);
        command.args(line.split_whitespace());
        finish(command, "")?.ok().map(drop)
    }

    /// The network namespace that its commands called `name`.
    fn pod(&self, name: &str) -> Result<Netns> {
        Netns::open(&PathBuf::from(format!("/proc/{}/root/run/netns/{name}", self.init)))
    }
}

/// The machine's files below, the node's own above; a /run, /sys and /proc that are the node's alone.
const MOUNTS: &str = "
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
    mount -t tmpfs tmpfs root/run
    mount -t sysfs sysfs root/sys
    mount -t proc proc root/proc
    mount --rbind /dev root/dev
    touch root/ready
    exec chroot root sleep infinity";

/// A file that a node is given: the programs are those under test.
fn source(from: &str, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(from);
    match path.file_name().and_then(|name| name.to_str()) {
        Some(program) if from.contains("/target/") => binaries::find(program),
        _ => Ok(path),
    }
}
