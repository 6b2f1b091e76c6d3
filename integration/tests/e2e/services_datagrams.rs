//! Datagrams from one client port that is kept while their service's endpoints change: they follow it at once, also if they
//! never pause and no reply tells of anything.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use integration::{
    Cluster, Family, Netns, Pod, Service, Stack,
    echo::{Answer, WHO},
    sockets, wait,
};

use crate::scene::{BOTH, Scene, vip_of};

/// The client's port.
const PORT: u16 = 12_345;
/// How long the busiest of machines may take.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn c_datagrams_from_one_port_find_each_next_server() -> Result<()> {
    for family in BOTH {
        let mut scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[2])?;
        let vip = vip_of(family);
        let socket = scene.client.run(|| sockets::datagrams_from(PORT, vip))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let answered_by = |name: &str| {
            wait::until(&format!("{name} to answer"), LIMIT, || {
                Ok(ask(&socket).is_ok_and(|answer| answer.server == name))
            })
        };
        let refused = || {
            wait::until("nobody to answer", LIMIT, || {
                Ok(ask(&socket).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused))
            })
        };
        answered_by("server0")?;
        let empty = Service::new("echo", vip);
        for (name, node) in [("server1", 1), ("server2", 2), ("server3", 2)] {
            // The old one goes first, or the new one comes first, and every second time nobody is there between.
            let place = scene.cluster.node(node)?.clone();
            scene.remove_servers();
            if node == 2 {
                scene.cluster.set_services([empty.clone()])?;
                refused()?;
            }
            scene.add_server(name, &place)?;
            scene.cluster.set_services([scene.service()])?;
            answered_by(name)?;
        }
        // Asked for before it has any endpoint, and before it is there at all.
        for services in [vec![empty], vec![]] {
            scene.cluster.set_services(services)?;
            for _ in 0..10 {
                ensure!(ask(&socket).is_err(), "somebody answered");
            }
            scene.cluster.set_services([scene.service()])?;
            answered_by("server3")?;
        }
    }
    Ok(())
}

fn ask(socket: &UdpSocket) -> std::io::Result<Answer> {
    socket.send(WHO)?;
    Answer::receive(socket)
}

pub(crate) fn c_datagrams_that_never_pause_leave_an_endpoint_with_it() -> Result<()> {
    let cluster = Cluster::builder().stack(Stack::Dual).start()?;
    let client = cluster.pod("client").on(cluster.node(1)?)?;
    let servers = [cluster.pod("near").on(cluster.node(1)?)?, cluster.pod("far").on(cluster.node(2)?)?];
    for family in BOTH {
        let vip = vip_of(family);
        let mut sinks = [Sink::of(&servers[0], family)?, Sink::of(&servers[1], family)?];
        let to = |n: usize| -> Result<Service> {
            Ok(Service::new("sink", vip).to(servers[n].address_of(family)?, SINK))
        };
        let flood = Flood::start(&client, vip);
        // To whom the service leads, step by step; without an endpoint, and without a service, to nobody.
        let nobody = || [Service::new("sink", vip)];
        let steps: [(Vec<Service>, Option<usize>); 9] = [
            (nobody().into(), None),
            (vec![to(0)?], Some(0)),
            (vec![to(1)?], Some(1)),
            (nobody().into(), None),
            (vec![to(1)?], Some(1)),
            (vec![to(0)?], Some(0)),
            (vec![], None),
            (vec![to(1)?], Some(1)),
            (vec![], None),
        ];
        for (n, (services, receiver)) in steps.into_iter().enumerate() {
            cluster.set_services(services)?;
            // All that is sent from now on.
            let mark = flood.next();
            wait::until("datagrams to go on", LIMIT, || Ok(flood.next() > mark + 50))?;
            if let Some(receiver) = receiver {
                let what = format!("{} to be reached in step {n}", servers[receiver].name());
                wait::until(&what, LIMIT, || Ok(sinks[receiver].newest() > Some(mark)))?;
            }
            for (other, sink) in sinks.iter_mut().enumerate().filter(|(other, _)| Some(*other) != receiver) {
                let newest = sink.newest();
                ensure!(
                    newest <= Some(mark),
                    "{family:?}, step {n}: {} got datagram {newest:?}, sent after {mark}",
                    servers[other].name()
                );
            }
        }
        flood.stop()?;
    }
    Ok(())
}

/// Where datagrams end.
const SINK: u16 = 9;

/// Takes numbered datagrams and answers nothing.
struct Sink {
    socket: UdpSocket,
    newest: Option<u64>,
}

impl Sink {
    fn of(pod: &Pod, family: Family) -> Result<Self> {
        let socket = pod.run(|| UdpSocket::bind(SocketAddr::new(family.any().ip(), SINK)))??;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, newest: None })
    }

    /// The highest number so far.
    fn newest(&mut self) -> Option<u64> {
        let mut datagram = [0; 8];
        while self.socket.recv(&mut datagram).is_ok_and(|length| length == datagram.len()) {
            self.newest = self.newest.max(Some(u64::from_be_bytes(datagram)));
        }
        self.newest
    }
}

/// Numbered datagrams without pause, whatever becomes of them.
struct Flood {
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<std::io::Result<()>>>,
}

impl Flood {
    fn start(client: &Netns, to: SocketAddr) -> Self {
        let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (next.clone(), stop.clone());
        let sender = client.spawn_thread(move || {
            let socket = sockets::datagrams_from(PORT, to)?;
            while !end.load(Ordering::SeqCst) {
                // Refusals come back as errors of later sends, which then sent nothing; that number is lost then.
                let number = count.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send(&number.to_be_bytes());
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Self { next, stop, sender }
    }

    /// Number of the datagram that is sent next; those below may be on their way.
    fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.sender.join().map_err(|_| anyhow!("the sender panicked"))??.context("no socket for the sender")
    }
}
