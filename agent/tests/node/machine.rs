//! A machine for one test: network and mount namespaces of this thread alone, an uplink, a bpffs, and folders.
//!
//! All of it ends with the thread and its agent; nothing of the real machine is seen or touched.

use std::{
    ffi::OsString,
    fs,
    future::Future,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lb_dataplane::{
    Mac, Netlink, NodeFile, Pins, ServiceView, StatusFile, View,
    netlink::{Veth, VethEnd},
    status_file::State,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal,
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) const CONFIG: &str = "\
node: node1
vni: 7
nodes:
  - { name: node1, address: 192.168.77.1, podCidrs: [10.244.1.0/24] }
  - { name: node2, address: 192.168.77.2, podCidrs: [10.244.2.0/24] }
services:
  - name: echo
    frontends: [{ vip: 10.96.0.10, port: 8000 }]
    backends: [{ address: 10.244.1.5, port: 80 }]
";

pub(crate) struct Machine {
    dir: TempDir,
    /// Where the agent is told to get its configuration from; nothing for the file.
    source: Vec<OsString>,
    /// One for all: what a client started in it goes on in it.
    runtime: Runtime,
    agent: Option<Child>,
}

#[allow(clippy::unused_self, reason = "the machine is this thread: whoever asks must have made it one")]
impl Machine {
    /// This thread becomes a machine with the uplink `eth0`, 192.168.77.1/24, and [`CONFIG`].
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests make namespaces and load eBPF programs: run them as root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let machine = Self { dir, source: vec![], runtime, agent: None };
        let bpffs = machine.path("bpf");
        fs::create_dir(&bpffs).unwrap();
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), none).unwrap();
        machine.configure(CONFIG);
        machine.add_veth("eth0", "wire");
        machine.netlink(async |netlink| {
            let uplink = netlink.require_link("eth0").await.unwrap();
            let address = "192.168.77.1/24".parse().unwrap();
            netlink.add_address(uplink.index, address).await.unwrap();
        });
        machine
    }

    /// Makes a veth pair, and brings it up.
    pub(crate) fn add_veth(&self, near: &str, far: &str) {
        let end = |name, last| VethEnd { name, mac: Mac([2, 0, 0, 0, 0, last]), mtu: 1500 };
        let veth = Veth { near: end(near, 1), far: end(far, 2), far_netns: None };
        self.netlink(async |netlink| {
            netlink.create_veth(&veth).await.unwrap();
            for name in [far, near] {
                let link = netlink.require_link(name).await.unwrap();
                netlink.set_up(link.index).await.unwrap();
            }
        });
    }

    /// Puts a folder in the place of the link's pin on `device`, which can be removed by no one who expects a pin.
    pub(crate) fn make_stubborn(&self, device: &str) -> PathBuf {
        let pin = self.pins().link(device);
        if pin.exists() {
            fs::remove_file(&pin).unwrap();
        }
        fs::create_dir(&pin).unwrap();
        pin
    }

    /// Number of the file that pins the link on `device`: the same as long as it is that very pin.
    pub(crate) fn pin_number(&self, device: &str) -> u64 {
        fs::metadata(self.pins().link(device)).unwrap().ino()
    }

    /// Leaves in the runtime folder what the plugin does.
    pub(crate) fn keep_addresses(&self) {
        fs::create_dir_all(self.runtime_dir().join("ipam/boot")).unwrap();
        fs::write(self.runtime_dir().join("ipam/boot/data.mdb"), "").unwrap();
        fs::write(self.runtime_dir().join("attachments.lock"), "").unwrap();
        fs::create_dir_all(self.runtime_dir().join("attachments/boot")).unwrap();
        fs::write(self.runtime_dir().join("attachments/boot/bl0123456789abc"), "").unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::new(self.path("bpf/beeline"))
    }

    /// Writes the configuration as editors do: beside it, then renamed.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.path("new.yaml"), text).unwrap();
        fs::rename(self.path("new.yaml"), self.path("node.yaml")).unwrap();
    }

    fn beelined(&self, command: &str) -> Command {
        let mut beelined = Command::new(env!("CARGO_BIN_EXE_beelined"));
        beelined.arg(command).arg("--runtime-dir").arg(self.runtime_dir());
        beelined.arg("--bpffs").arg(self.pins().dir());
        match command {
            "run" if self.source.is_empty() => {
                beelined.arg("--config").arg(self.path("node.yaml"));
            }
            "run" => {
                beelined.args(&self.source);
            }
            _ => {}
        }
        beelined
    }

    /// From now on the agent is started with `source` instead of the file.
    pub(crate) fn take_from(&mut self, source: Vec<OsString>) {
        self.source = source;
    }

    /// Runs a command of `beelined` to its end.
    pub(crate) fn run(&self, command: &str) -> Output {
        self.beelined(command).output().unwrap()
    }

    /// Starts the agent, and does not wait for anything.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options().append(true).create(true).open(self.path("log")).unwrap();
        self.agent = Some(self.beelined("run").stdin(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts the agent, and waits until it says that all is well.
    pub(crate) fn start_ready(&mut self) {
        self.start();
        let pid = self.agent.as_ref().unwrap().id();
        self.until("the agent is ready", || {
            self.status().is_some_and(|status| status.pid == pid && status.state == State::Ready)
        });
    }

    /// Kills the agent with no chance to do anything.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Stops the agent as a service manager does, and says how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let pid = i32::try_from(agent.id()).unwrap();
        signal::kill(Pid::from_raw(pid), signal::SIGTERM).unwrap();
        agent.wait().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Option<StatusFile> {
        StatusFile::read(&self.runtime_dir()).ok()
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.status().is_some_and(|status| status.state == State::Degraded)
    }

    /// What the status says is wrong; empty if nothing is.
    pub(crate) fn error(&self) -> String {
        let error = self.status().and_then(|status| status.last_error);
        error.map(|error| error.message).unwrap_or_default()
    }

    pub(crate) fn node_file(&self) -> Option<NodeFile> {
        NodeFile::read(&self.runtime_dir()).ok()
    }

    /// VIPs that the maps know.
    pub(crate) fn vips(&self) -> Vec<Ipv4Addr> {
        let Ok(services) = View::open(&self.pins()).and_then(|view| view.services()) else {
            return vec![];
        };
        let frontends = services.iter().flat_map(|service| &service.frontends);
        let mut vips: Vec<_> = frontends.map(|frontend| frontend.vip.to_string().parse().unwrap()).collect();
        vips.sort_unstable();
        vips
    }

    /// Every service that the maps know: `name frontends -> backends`.
    pub(crate) fn services(&self) -> Vec<String> {
        let Ok(services) = View::open(&self.pins()).and_then(|view| view.services()) else {
            return vec![];
        };
        let line = |service: &ServiceView| {
            let frontends: Vec<_> = service.frontends.iter().map(ToString::to_string).collect();
            let backends: Vec<_> = service.backends.iter().map(|(backend, _)| backend.to_string()).collect();
            format!("{} {} -> {}", service.name, frontends.join(" "), backends.join(" "))
                .trim_end()
                .to_owned()
        };
        services.iter().map(line).collect()
    }

    /// Does something over netlink in this machine.
    pub(crate) fn netlink<T, F: Future<Output = T>>(&self, work: impl FnOnce(Netlink) -> F) -> T {
        self.block_on(async { work(Netlink::open().unwrap()).await })
    }

    /// Does something in this machine.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The host's routes as `prefix device-index rtproto`, without the link-local ones.
    pub(crate) fn routes(&self) -> Vec<String> {
        self.netlink(async |netlink| {
            let routes = netlink.routes(None).await.unwrap();
            let ipv4 = routes.iter().filter(|route| route.to.addr().is_ipv4());
            let mut texts: Vec<_> =
                ipv4.map(|route| format!("{} {} {}", route.to, route.oif, route.protocol)).collect();
            texts.sort_unstable();
            texts
        })
    }

    /// What `ip` tells of IPv6 on the host's own device: addresses, the agent's routes, and permanent neighbours.
    pub(crate) fn ipv6(&self) -> String {
        [
            "-6 address show dev beeline0",
            "-6 route show proto 190",
            "-6 neighbour show dev beeline0 nud permanent",
        ]
        .map(|args| {
            let output = Command::new("ip").args(args.split(' ')).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
        .join("\n")
    }

    /// Name and index of every device.
    pub(crate) fn devices(&self) -> Vec<(String, u32)> {
        self.netlink(async |netlink| {
            let links = netlink.links().await.unwrap();
            links.into_iter().map(|link| (link.name, link.index)).collect()
        })
    }

    pub(crate) fn delete_device(&self, name: &str) {
        self.netlink(async |netlink| netlink.delete_link_named(name).await.unwrap());
    }

    /// Runs `ip`.
    pub(crate) fn ip(&self, args: &str) {
        let output = Command::new("ip").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {args}: {output:?}");
    }

    /// Runs `nft`, and returns what it prints.
    pub(crate) fn nft(&self, args: &str) -> String {
        let output = Command::new("nft").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "nft {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until `condition` holds, and returns how long that took.
    pub(crate) fn until(&self, what: &str, condition: impl Fn() -> bool) -> Duration {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "in vain: {what}; log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // The folder can only be removed once nothing is mounted in it.
        let _ = nix::mount::umount(&self.path("bpf"));
    }
}
