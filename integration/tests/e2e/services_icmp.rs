//! ICMP errors through the load balancer: they reach the socket that asked, as if the VIP had sent them.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use integration::{Service, Stack};

use crate::scene::{Scene, ensure_silent};

pub(crate) fn c_icmp_port_unreachable_reaches_the_clients_socket() -> Result<()> {
    for stack in [Stack::V4, Stack::V6] {
        for scene in Scene::of_each_kind(stack)? {
            let vip = SocketAddr::new(scene.vip().ip(), 8100);
            // Nobody listens there.
            let service = Service::new("refused", vip).to(scene.server().address(), 81);
            scene.cluster.set_services([scene.service(), service])?;
            let (seen, told) = scene.watch_hosts(|| {
                scene.client.run(|| {
                    let socket = UdpSocket::bind(scene.family().any())?;
                    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
                    socket.connect(vip)?;
                    socket.send(b"hello?")?;
                    socket.recv(&mut [0; 10])
                })
            })?;
            let kind = told.as_ref().map_err(std::io::Error::kind);
            ensure!(kind == Err(ErrorKind::ConnectionRefused), "{stack:?}: {told:?}");
            ensure_silent(scene.cluster.nodes(), &seen)?;
        }
    }
    Ok(())
}
