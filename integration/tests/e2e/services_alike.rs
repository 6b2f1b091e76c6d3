//! Connections that look alike to their backend: from one port of one client, by two VIPs and by the backend's own address.
//! Each is answered, as the address that it asked.

use std::{collections::HashSet, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use integration::{
    Family, Service, Stack,
    echo::{Answer, WHO},
    http::{Connection, PATIENCE},
    sockets,
};

use crate::scene::{BOTH, Scene, vip_of};

/// The client's port.
const PORT: u16 = 12_345;
/// Times that each is asked, in turns.
const ROUNDS: usize = 20;

pub(crate) fn c_connections_that_look_alike_live_side_by_side() -> Result<()> {
    for scene in Scene::of_each_kind(Stack::Dual)? {
        for family in BOTH {
            let ways = ways(&scene, family)?;
            // Whichever is first.
            for first in 0..ways.len() {
                let port = PORT + u16::try_from(first)?;
                let mut order = ways;
                order.rotate_left(first);
                let open = |at| scene.client.run(|| Connection::open_from(port, at))?;
                let mut open: Vec<_> = order.into_iter().map(open).collect::<Result<_>>()?;
                for _ in 0..ROUNDS {
                    let answers = open.iter_mut().map(Connection::ask).collect::<Result<Vec<_>>>()?;
                    are_three(&scene, family, &answers)?;
                }
                // The end of one is not that of the others.
                while let Some(mut last) = open.pop() {
                    last.ask()?;
                    drop(last);
                    open.iter_mut().try_for_each(|other| other.ask().map(drop))?;
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn c_datagrams_that_look_alike_are_answered_by_whom_they_asked() -> Result<()> {
    for scene in Scene::of_each_kind(Stack::Dual)? {
        for family in BOTH {
            // Each hears only whom it asked.
            let open = |at| Ok(scene.client.run(|| sockets::datagrams_from(PORT, at))??);
            let open: Vec<_> = ways(&scene, family)?.into_iter().map(open).collect::<Result<_>>()?;
            for _ in 0..ROUNDS {
                let mut answers = vec![];
                for socket in &open {
                    socket.send(WHO)?;
                }
                for socket in &open {
                    socket.set_read_timeout(Some(PATIENCE))?;
                    answers.push(Answer::receive(socket).with_context(|| format!("{socket:?}"))?);
                }
                are_three(&scene, family, &answers)?;
            }
        }
    }
    Ok(())
}

/// Two VIPs with the one server behind them, and its own address.
fn ways(scene: &Scene, family: Family) -> Result<[SocketAddr; 3]> {
    let (one, server) = (vip_of(family), scene.server().address_of(family)?);
    let two = SocketAddr::new(one.ip(), one.port() + 1);
    scene.cluster.set_services([scene.service(), Service::new("two", two).to(server, 80)])?;
    Ok([one, two, SocketAddr::new(server, 80)])
}

/// All by the server, which sees three clients at one address.
fn are_three(scene: &Scene, family: Family, answers: &[Answer]) -> Result<()> {
    let client = scene.client.address_of(family)?;
    let clients: HashSet<_> = answers.iter().map(|answer| answer.client).collect();
    let all_right =
        answers.iter().all(|answer| answer.server == scene.server().name() && answer.client.ip() == client);
    ensure!(all_right && clients.len() == 3, "{answers:?}");
    Ok(())
}
