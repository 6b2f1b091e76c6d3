//! The backend sees the client pod's own address and port.

use anyhow::{Result, ensure};
use integration::Stack;

use crate::scene::Scene;

pub(crate) fn a4_backend_sees_the_clients_address_and_port() -> Result<()> {
    of_a_connection(Stack::V4)
}

pub(crate) fn a4_backend_sees_the_clients_address_and_port_of_a_datagram() -> Result<()> {
    of_a_datagram(Stack::V4)
}

pub(crate) fn of_a_connection(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        let (answer, local) = scene.client.get(scene.vip())?;
        ensure!(local.ip() == scene.client.address());
        ensure!(answer.client == local, "the server sees {}, the client is {local}", answer.client);
        ensure!(answer.local.ip() == scene.server().address() && answer.local.port() == 80, "{answer:?}");
    }
    Ok(())
}

pub(crate) fn of_a_datagram(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        let (answer, port) = scene.client.ask_udp(scene.vip())?;
        ensure!(answer.client.ip() == scene.client.address() && answer.client.port() == port, "{answer:?}");
        ensure!(answer.server == "server0", "{answer:?}");
    }
    Ok(())
}
