//! Containers that podman runs through its CNI backend: they talk, may have an address and MAC of their choice, and go
//! without a trace.

use anyhow::{Result, ensure};
use integration::Cluster;

use crate::{
    networks::Networks,
    podman::Podman,
    talk::{ensure_they_talk, serve},
};

pub(crate) fn b_podman_runs_containers_that_talk_across_nodes() -> Result<()> {
    let cluster = Cluster::start()?;
    let networks = Networks::shipped(&cluster)?;
    let before = networks.remains(&cluster)?;
    let podman = |n: usize| Podman::new(&cluster.nodes()[n], &networks.each()[n]);
    let (one, two) = (podman(0)?, podman(1)?);

    let (address, mac) = ("10.244.1.77", "0a:11:22:33:44:55");
    let client = one.start("client", &["--ip", address, "--mac-address", mac])?;
    ensure!(client.address.to_string() == address, "asked for {address}, got {}", client.address);
    let link = client.netns.exec("ip -o link show eth0")?;
    ensure!(link.contains(mac), "asked for {mac}, got {link}");
    let server = two.start("server", &[])?;
    let program = serve(&cluster, &server)?;
    ensure_they_talk(&client, &server)?;

    // The address is taken: podman must not start another with it, and the first must not notice.
    let refused = one.run([
        "run",
        "--rm",
        "--network",
        networks.each()[0].name(),
        "--ip",
        address,
        crate::image::NAME,
    ])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains(address),
        "{address} twice: {}",
        refused.stderr
    );
    ensure_they_talk(&client, &server)?;

    drop(program);
    one.remove("client")?;
    two.remove("server")?;
    networks.ensure_gone(&cluster, &before)
}
