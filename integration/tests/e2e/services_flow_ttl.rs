//! How long a flow without packets is remembered: as its service says.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use integration::{
    Service, Stack,
    echo::{Answer, WHO},
    sockets,
};

use crate::scene::{BOTH, Scene, vip_of};

const TTL: &str = "4s";
/// Longer than that, and the second to which it is known when a flow was seen last.
const IDLE: Duration = Duration::from_secs(6);
/// Pauses between datagrams that keep a flow, unless the machine stands still.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often to begin again if it does.
const ATTEMPTS: usize = 5;

/// A service with a time to live of its own, and one with the default.
struct Services {
    short: SocketAddr,
    long: SocketAddr,
}

impl Services {
    /// Both over the first `servers` of the scene.
    fn over(&self, scene: &Scene, servers: usize) -> Result<[Service; 2]> {
        let family = integration::Family::of(self.short.ip());
        let mut services = [Service::new("short", self.short).flow_ttl(TTL), Service::new("long", self.long)];
        for server in &scene.servers[..servers] {
            let address = server.address_of(family)?;
            services = services.map(|service| service.to(address, 80));
        }
        Ok(services)
    }
}

pub(crate) fn a6_a_flow_is_forgotten_after_its_services_idle_time_and_not_before() -> Result<()> {
    let mut scene = Scene::across_nodes_with(Stack::Dual)?;
    let place = scene.client.node().clone();
    scene.add_server("server1", &place)?;
    for family in BOTH {
        let at = |port| SocketAddr::new(vip_of(family).ip(), port);
        let services = Services { short: at(8001), long: at(8002) };
        // From a port by which a new flow would go to the second server.
        scene.cluster.set_services(services.over(&scene, 2)?)?;
        let port = (40_000..40_100)
            .find(|&port| {
                let second = |vip| leads_to(&scene, vip, port).is_ok_and(|name| name == "server1");
                second(services.short) && second(services.long)
            })
            .context("no port leads to the second server")?;
        let mut attempt = 0;
        let slept_well = loop {
            scene.cluster.set_services(services.over(&scene, 1)?)?;
            let [short, long] = [services.short, services.long]
                .map(|vip| scene.client.run(|| sockets::datagrams_from(port, vip)));
            let [short, long] = [short??, long??];
            ensure!(ask(&short)? == "server0" && ask(&long)? == "server0", "there is no other");
            scene.cluster.set_services(services.over(&scene, 2)?)?;
            // In use, it is remembered for longer than it may be idle.
            if stays(&short)? {
                thread::sleep(IDLE);
                break (ask(&short)?, ask(&long)?);
            }
            attempt += 1;
            ensure!(
                attempt < ATTEMPTS,
                "this machine stands still for longer than {LONGEST_PAUSE:?} all the time"
            );
            // Forgotten, or else the next attempt would find it.
            scene.cluster.set_services([])?;
        };
        ensure!(slept_well.0 == "server1", "{family:?}: remembered after {IDLE:?}: {slept_well:?}");
        ensure!(slept_well.1 == "server0", "{family:?}: forgotten before 240 s: {slept_well:?}");
    }
    Ok(())
}

/// The server that a new flow of datagrams from `port` would go to.
fn leads_to(scene: &Scene, vip: SocketAddr, port: u16) -> Result<String> {
    let client = scene.client.address_of(integration::Family::of(vip.ip()))?;
    let words = format!("trace {client} {vip} --protocol udp --source-port {port}");
    let asked = scene.client.node().ctl_json(&words)?;
    let backend: SocketAddr = asked["backend"].as_str().context("no backend")?.parse()?;
    let server = scene.servers.iter().find(|server| server.addresses().contains(&backend.ip()));
    Ok(server.context("no server of ours")?.name().to_owned())
}

fn ask(socket: &UdpSocket) -> Result<String> {
    socket.set_read_timeout(Some(integration::http::PATIENCE))?;
    socket.send(WHO)?;
    Ok(Answer::receive(socket)?.server)
}

/// Whether the first server answers all the time, for longer than the flow may be idle. `false` if the machine stood still,
/// and nothing can be said.
fn stays(socket: &UdpSocket) -> Result<bool> {
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < IDLE {
        thread::sleep(PAUSE);
        let server = ask(socket)?;
        let pause = last.elapsed();
        if pause > LONGEST_PAUSE {
            return Ok(false);
        }
        ensure!(server == "server0", "forgotten after {pause:?}");
        last = Instant::now();
    }
    Ok(true)
}
