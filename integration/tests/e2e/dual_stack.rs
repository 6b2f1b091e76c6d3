//! Pods with an address of each family on one interface, and services with a VIP in each.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Family, Service, Stack, load::Connections, ping::Ping, traces::Traces, wait};

use crate::{
    agent_restart,
    scene::{BOTH, MANY, Scene, VIP, VIP6, ensure_perfect, ensure_silent, vip_of},
};

pub(crate) fn a1_both_families_bypass_both_hosts_at_once() -> Result<()> {
    let scene = Scene::across_nodes_with(Stack::Dual)?;
    let (seen, ()) = scene.watch_hosts(|| {
        for connections in [Connections::Kept, Connections::New] {
            let reports = std::thread::scope(|scope| {
                let loads = BOTH.map(|family| {
                    let client = &scene.client;
                    scope.spawn(move || client.load(vip_of(family), MANY / 2, connections))
                });
                loads.map(|load| load.join().unwrap_or_else(|_| anyhow::bail!("a load panicked")))
            });
            for report in reports {
                ensure_perfect(&report?, MANY / 2)?;
            }
        }
        Ok(())
    })?;
    ensure_silent(scene.cluster.nodes(), &seen)
}

pub(crate) fn a2_both_families_bypass_the_host() -> Result<()> {
    let scene = Scene::on_one_node_with(Stack::Dual)?;
    let (seen, ()) = scene.watch_hosts(|| {
        for family in BOTH {
            ensure_perfect(&scene.client.load(vip_of(family), MANY / 2, Connections::New)?, MANY / 2)?;
        }
        Ok(())
    })?;
    ensure_silent(scene.cluster.nodes(), &seen)
}

pub(crate) fn a4_each_family_keeps_its_own_source() -> Result<()> {
    for scene in Scene::of_each_kind(Stack::Dual)? {
        for family in BOTH {
            let (answer, local) = scene.client.get(vip_of(family))?;
            ensure!(local.ip() == scene.client.address_of(family)?, "{local}");
            ensure!(answer.client == local, "the server sees {}, the client is {local}", answer.client);
            ensure!(answer.local.ip() == scene.server().address_of(family)?, "{answer:?}");
            let (answer, port) = scene.client.ask_udp(vip_of(family))?;
            ensure!(answer.client == SocketAddr::new(local.ip(), port), "{answer:?}");
        }
    }
    Ok(())
}

pub(crate) fn b_add_gives_one_interface_with_one_mac_both_addresses_and_del_takes_all() -> Result<()> {
    let cluster = Cluster::builder().stack(Stack::Dual).nodes(1).start()?;
    let node = cluster.node(1)?;
    let before = Traces::of(node)?;
    let pod = cluster.pod("pod").on(node)?;
    let (v4, v6) = (pod.address_of(Family::V4)?, pod.address_of(Family::V6)?);
    ensure!(pod.addresses() == [v4, v6], "{:?}", pod.addresses());
    let addresses = pod.exec("ip -o addr show dev eth0")?;
    ensure!(
        addresses.contains(&format!(" {v4}/32 ")) && addresses.contains(&format!(" {v6}/128 ")),
        "{addresses}"
    );
    ensure!(!addresses.contains("tentative") && addresses.lines().count() == 2, "{addresses}");
    let endpoints = node.ctl_json("endpoints")?;
    let endpoints = endpoints["endpoints"].as_array().context("no endpoints")?;
    let of_pod: Vec<_> = endpoints.iter().filter(|endpoint| endpoint["pod"] == "default/pod").collect();
    ensure!(of_pod.len() == 2 && of_pod[0]["mac"] == of_pod[1]["mac"], "{endpoints:?}");
    pod.call("CHECK").run(node)?.ok()?;
    pod.call("DEL").run(node)?.ok()?;
    ensure!(Traces::of(node)? == before, "something is left");
    Ok(())
}

pub(crate) fn pods_and_nodes_reach_each_other_by_either_family() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[1, 2])?;
    for family in BOTH {
        for server in &scene.servers {
            let address = server.address_of(family)?;
            let fits = 1450 - family.header() - 8;
            ensure!(scene.client.ping(address, fits)? == Ping::Answered, "pod to {address}");
            for node in scene.cluster.nodes() {
                ensure!(node.ping(address, fits)? == Ping::Answered, "{} to {address}", node.name());
            }
        }
        for node in scene.cluster.nodes() {
            let report = node.load(vip_of(family), 200, Connections::New)?;
            ensure_perfect(&report, 200)?;
            ensure!(report.servers.len() == 2, "{:?}", report.servers);
        }
    }
    Ok(())
}

pub(crate) fn a_service_may_be_found_by_one_family_only() -> Result<()> {
    let scene = Scene::across_nodes_with(Stack::Dual)?;
    let server = scene.server();
    let service = Service::new("echo", VIP6).to(server.address_of(Family::V6)?, 80);
    scene.cluster.set_services([service])?;
    ensure_perfect(&scene.client.load(VIP6, 100, Connections::New)?, 100)?;
    let node = scene.client.node();
    for (words, count) in [("services", 1), ("policy", 2)] {
        let report = node.ctl_json(words)?;
        let key = if words == "policy" { "policies" } else { words };
        ensure!(report[key].as_array().map(Vec::len) == Some(count), "{report}");
        ensure!(node.ctl(words)?.contains("fd00:10:96::10"));
    }
    let flows = node.ctl("flows --service echo")?;
    ensure!(flows.contains("[fd00:10:96::10]:8000") && !flows.contains(&VIP.to_string()), "{flows}");
    Ok(())
}

pub(crate) fn d_a_restarted_agent_keeps_both_families_in_place() -> Result<()> {
    agent_restart::keeps_what_it_finds(Stack::Dual)
}

pub(crate) fn d_running_pods_get_their_entries_back_when_the_bpffs_is_emptied() -> Result<()> {
    let scene = Scene::across_nodes_with(Stack::Dual)?;
    let entries =
        |node: &integration::Node| -> Result<_> { Ok(node.ctl_json("endpoints")?["endpoints"].clone()) };
    let before: Vec<_> = scene.cluster.nodes().iter().map(entries).collect::<Result<_>>()?;
    for node in scene.cluster.nodes() {
        fs::remove_dir_all(node.bpffs())?;
    }
    for (node, before) in scene.cluster.nodes().iter().zip(&before) {
        wait::until("the entries to come back", Duration::from_mins(2), || {
            Ok(entries(node).is_ok_and(|now| now == *before))
        })?;
    }
    for pod in [&scene.client, scene.server()] {
        wait::until("the program to be back on the port", Duration::from_secs(30), || {
            Ok(pod.call("CHECK").run(pod.node())?.ok().is_ok())
        })?;
    }
    for family in BOTH {
        let seen = scene.watch_hosts(|| scene.client.load(vip_of(family), 500, Connections::New))?;
        ensure_perfect(&seen.1, 500)?;
        ensure_silent(scene.cluster.nodes(), &seen.0)?;
    }
    Ok(())
}

pub(crate) fn d_entries_of_ports_that_are_gone_are_removed() -> Result<()> {
    let cluster = Cluster::builder().stack(Stack::Dual).nodes(1).start()?;
    let node = cluster.node(1)?;
    let pod = cluster.pod("pod").on(node)?;
    let addresses: Vec<IpAddr> = pod.addresses().to_vec();
    let entry = |address: &IpAddr| -> Result<bool> {
        let report = node.ctl_json("endpoints")?;
        let endpoints = report["endpoints"].as_array().context("no endpoints")?;
        Ok(endpoints.iter().any(|endpoint| endpoint["address"] == address.to_string()))
    };
    ensure!(addresses.len() == 2 && entry(&addresses[0])? && entry(&addresses[1])?);
    // As when a sandbox dies and nobody calls DEL: the port goes with it.
    pod.ip("link del eth0")?;
    for address in &addresses {
        wait::until("the entry to go", Duration::from_mins(2), || Ok(!entry(address)?))?;
    }
    Ok(())
}
