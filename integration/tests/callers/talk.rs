//! What pods do with their network, whoever had them wired: ping each other, and ask a service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Service, ping::Ping, process::Running};

/// Where the echo service is found.
pub(crate) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8000);

/// Port of the echo server in its pod.
pub(crate) const PORT: u16 = 80;

/// A pod as its runtime tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Wired {
    pub(crate) netns: Netns,
    pub(crate) address: IpAddr,
}

/// An echo server in `server`, behind [`VIP`] in the whole cluster.
pub(crate) fn serve(cluster: &Cluster, server: &Wired) -> Result<Running> {
    let log = cluster.node(1)?.log_path(&format!("echo-{}", server.netns.name()));
    let program = server.netns.serve_as("echo", PORT, &log)?;
    cluster.set_services([Service::new("echo", VIP).to(server.address, PORT)])?;
    Ok(program)
}

/// Fails unless the two ping each other, and `client` reaches the server behind [`VIP`], which sees its own address.
pub(crate) fn ensure_they_talk(client: &Wired, server: &Wired) -> Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        let ping = from.netns.ping(to.address, 56)?;
        ensure!(ping == Ping::Answered, "{} to {}: {ping:?}", from.address, to.address);
    }
    let (answer, _) = client.netns.get(VIP).context("the VIP")?;
    ensure!(
        answer.client.ip() == client.address,
        "the server sees {}, not {}",
        answer.client,
        client.address
    );
    ensure!(answer.local.ip() == server.address, "{} answered, not {}", answer.local, server.address);
    Ok(())
}
