//! Servers that others wrote, in pods behind one VIP of each family, which are replaced as a rollout does it: a new one
//! joins; an old one drains, serves to the end whom it has, leaves, and only then stops.

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use integration::{Cluster, Pod, Service, Stack, process::Running, sandbox, wait};

use crate::scene::{VIP, VIP6};

/// How long a server that has left the service may still answer what is on its way to it.
const GRACE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that serves in each pod of a fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// It listens here, by TCP at least.
    pub(crate) port: u16,
    /// The command that serves in the pod, in the foreground and as one process, with all its files in the folder.
    pub(crate) command: fn(&Pod, &Path) -> Result<Command>,
}

/// A server and its pod.
#[derive(Debug)]
struct Server {
    _running: Running,
    pod: Pod,
}

/// Whom a service leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Oldest {
    Serves,
    Drains,
    IsGone,
}

/// A client on node 1, and servers on both nodes.
#[derive(Debug)]
pub(crate) struct Fleet {
    program: Program,
    pub(crate) client: Pod,
    servers: VecDeque<Server>,
    /// The folders of all servers there ever were, by their names.
    folders: Vec<(String, PathBuf)>,
    cluster: Cluster,
}

impl Fleet {
    /// Starts `size` servers, and the service.
    pub(crate) fn start(program: Program, size: usize) -> Result<Self> {
        let cluster = Cluster::builder().stack(Stack::Dual).start()?;
        let client = cluster.pod("client").on(cluster.node(1)?)?;
        let mut fleet = Self { program, client, servers: VecDeque::new(), folders: Vec::new(), cluster };
        for _ in 0..size {
            fleet.launch()?;
        }
        fleet.tell(Oldest::Serves)?;
        Ok(fleet)
    }

    /// Where the service is found, by each family.
    pub(crate) fn vips(&self) -> [SocketAddr; 2] {
        [VIP, VIP6].map(|vip| SocketAddr::new(vip.ip(), self.program.port))
    }

    /// Replaces the oldest server `times` times, without haste.
    pub(crate) fn replace(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.launch()?;
            self.tell(Oldest::Serves)?;
            self.tell(Oldest::Drains)?;
            let oldest = &self.servers[0].pod;
            wait::until("the last client to leave", PATIENCE, || Ok(self.connections(oldest)? == 0))?;
            self.tell(Oldest::IsGone)?;
            thread::sleep(GRACE);
            self.servers.pop_front();
        }
        Ok(())
    }

    /// Lets the oldest server drain, and whoever is connected to it stay.
    pub(crate) fn drain_oldest(&self) -> Result<()> {
        self.tell(Oldest::Drains)
    }

    /// Connections that the oldest server has.
    pub(crate) fn oldest_connections(&self) -> Result<usize> {
        self.connections(&self.servers[0].pod)
    }

    /// What each server there ever was has left in file `name`.
    pub(crate) fn files(&self, name: &str) -> Result<Vec<(&str, String)>> {
        let mut files = Vec::new();
        for (server, dir) in &self.folders {
            let path = dir.join(name);
            files.push((
                server.as_str(),
                fs::read_to_string(&path).with_context(|| path.display().to_string())?,
            ));
        }
        Ok(files)
    }

    /// Starts one more server, on each node in turn.
    fn launch(&mut self) -> Result<()> {
        let number = self.folders.len();
        let pod = self.cluster.pod(&format!("server{number}")).on(self.cluster.node(2 - number % 2)?)?;
        let (_, dir) = sandbox::new_state_dir()?;
        self.folders.push((pod.name().to_owned(), dir.clone()));
        let command = (self.program.command)(&pod, &dir)?;
        let mut running = Running::start(command, &dir.join("log"))?;
        let (name, port) = (self.program.name, self.program.port);
        wait::until(&format!("{name} to listen"), PATIENCE, || {
            running.ensure_alive()?;
            Ok(!pod.exec(&format!("ss -Hltn sport = :{port}"))?.is_empty())
        })?;
        self.servers.push_back(Server { _running: running, pod });
        Ok(())
    }

    fn connections(&self, pod: &Pod) -> Result<usize> {
        let port = self.program.port;
        Ok(pod.exec(&format!("ss -Htn state established sport = :{port}"))?.lines().count())
    }

    /// Tells the nodes of the service as it is to be; returns once they have it.
    fn tell(&self, oldest: Oldest) -> Result<()> {
        let [vip, vip6] = self.vips();
        let mut service = Service::new(self.program.name, vip).at(vip6);
        for (n, server) in self.servers.iter().enumerate() {
            for address in server.pod.addresses() {
                service = match oldest {
                    Oldest::Drains if n == 0 => service.draining(*address, self.program.port),
                    Oldest::IsGone if n == 0 => service,
                    _ => service.to(*address, self.program.port),
                };
            }
        }
        self.cluster.set_services([service])
    }
}
