//! The configuration file: a change reaches the maps at once, and a broken file changes nothing but what is said.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Service, load::Connections, wait};

use crate::scene::{Scene, VIP, ensure_perfect};

pub(crate) fn a_change_reaches_the_maps_in_well_under_a_second() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node = scene.client.node();
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let vip = format!("10.96.1.{n}:80").parse()?;
        let mut config = scene.cluster.config();
        config.services = vec![scene.service(), Service::new("new", vip).to(scene.server().address(), 80)];
        slowest = slowest.max(node.apply(&config.yaml(node.name()))?);
        // It is there when the agent says so.
        ensure!(scene.client.get(vip)?.0.server == "server0");
    }
    // The file is also looked at every two seconds; a change that is seen sooner was told.
    ensure!(slowest < Duration::from_secs(1), "one change took {slowest:?}");
    Ok(())
}

pub(crate) fn a_backend_that_leaves_gets_no_new_connections() -> Result<()> {
    let scene = Scene::with_servers_on(integration::Cluster::builder(), &[1, 2])?;
    scene.cluster.set_services([Service::new("echo", VIP).to(scene.servers[1].address(), 80)])?;
    let report = scene.client.load(VIP, 200, Connections::New)?;
    ensure_perfect(&report, 200)?;
    ensure!(report.servers.keys().eq(["server1"]), "{:?}", report.servers);
    Ok(())
}

pub(crate) fn a_broken_file_keeps_the_last_good_state_and_says_where_it_is_wrong() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node = scene.client.node();
    let good = fs::read_to_string(node.config_path())?;
    let broken = [
        ("port: 80 }", "port: eighty }", "port"),
        ("affinity: none", "affinity: sometimes", "affinity"),
        ("dsr: true", "drs: true", "drs"),
        ("vip: 10.96.0.10,", "vip: 10.96.0.300,", "vip"),
        ("services:", "services: [", ""),
    ];
    for (right, wrong, field) in broken {
        let text = good.replacen(right, wrong, 1);
        ensure!(text != good, "`{right}` is not in the file");
        let line = text.lines().position(|line| line.contains(wrong)).context("the wrong line")? + 1;
        node.write_config(&text)?;
        let what = format!("beelinectl status to tell of `{wrong}`");
        let status = wait::until_some(&what, Duration::from_secs(3), || {
            let status = node.ctl_status()?;
            Ok((status["state"] == "degraded").then_some(status))
        })?;
        let message = status["lastError"]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(field), "`{wrong}`: no field in {message}");
        ensure!(field.is_empty() || message.contains(&format!("line {line}")), "`{wrong}`: {message}");
        ensure!(node.try_ctl("status")?.stdout.contains(field), "nothing of it for people");
        ensure!(node.agent_log().contains(field), "nothing of it in the log");
        // Everything works as before.
        ensure_perfect(&scene.client.load(VIP, 50, Connections::New)?, 50)?;
        node.write_config(&good)?;
        wait::until("the agent to be content again", Duration::from_secs(3), || {
            let status = node.ctl_status()?;
            Ok(status["state"] == "ready" && status["lastError"].is_null())
        })?;
    }
    Ok(())
}

pub(crate) fn a_file_that_vanishes_changes_nothing() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node = scene.client.node();
    let good = fs::read_to_string(node.config_path())?;
    fs::remove_file(node.config_path())?;
    thread::sleep(Duration::from_millis(300));
    ensure_perfect(&scene.client.load(VIP, 50, Connections::New)?, 50)?;
    node.agent().as_mut().context("no agent")?.ensure_alive()?;
    node.write_config(&good)?;
    wait::until("the agent to be content again", Duration::from_secs(3), || {
        Ok(node.ctl_status()?["state"] == "ready")
    })?;
    Ok(())
}

pub(crate) fn a_file_written_in_place_is_seen_too() -> Result<()> {
    let scene = Scene::across_nodes()?;
    let node = scene.client.node();
    let vip = "10.96.0.77:80".parse()?;
    let mut config = scene.cluster.config();
    config.services.push(Service::new("more", vip).to(scene.server().address(), 80));
    fs::write(node.config_path(), config.yaml(node.name()))?;
    wait::until("the change to be applied", Duration::from_secs(1), || {
        Ok(node.ctl("services")?.contains("more"))
    })?;
    ensure!(scene.client.get(vip)?.0.server == "server0");
    Ok(())
}
