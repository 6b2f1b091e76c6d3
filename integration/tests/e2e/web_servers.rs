//! Debian's Apache behind a VIP, asked by wrk.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Pod, callers, process::Running, wait};
use nix::sys::signal::Signal;

use crate::fleet::{Fleet, Program};

/// How long it may take until each server is asked.
const PATIENCE: Duration = Duration::from_secs(20);

const APACHE: Program = Program { name: "apache2", port: 80, command: apache };

pub(crate) fn c_wrk_fails_no_request_while_web_servers_come_and_go() -> Result<()> {
    let wrk = callers::installed("wrk")?;
    let mut fleet = Fleet::start(APACHE, 3)?;
    let mut clients = Vec::new();
    for vip in fleet.vips() {
        let mut command = fleet.client.command(&wrk);
        command.args(["--threads", "1", "--connections", "8", "--duration", "2m", "--timeout", "10s"]);
        command.arg(format!("http://{vip}/name"));
        let log = fleet.client.node().log_path(&format!("wrk-{}", clients.len()));
        clients.push(Running::start(command, &log)?);
    }
    // Every server is asked by both families, the first ones and the late ones.
    let own: Vec<_> = fleet.client.addresses().iter().map(ToString::to_string).collect();
    wait::until("the first servers to be asked", PATIENCE, || Ok(were_all_asked(&fleet, &own)))?;
    fleet.replace(6)?;
    wait::until("the last servers to be asked", PATIENCE, || Ok(were_all_asked(&fleet, &own)))?;
    for client in clients {
        let log = client.log_path().to_owned();
        // It says what came of it, and ends.
        client.stop(Signal::SIGINT)?;
        let report = fs::read_to_string(log)?;
        ensure!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        ensure!(requests(&report)? > 1_000, "{report}");
    }
    // All saw the client's own addresses.
    for (server, log) in fleet.files("access.log")? {
        let other = log.lines().find(|line| !own.iter().any(|address| address == line));
        ensure!(other.is_none(), "{server} was asked by {}", other.unwrap_or_default());
    }
    Ok(())
}

/// Whether each server there ever was has been asked from each of these addresses.
fn were_all_asked(fleet: &Fleet, addresses: &[String]) -> bool {
    let asked = |log: &str| addresses.iter().all(|address| log.lines().any(|line| line == address));
    fleet.files("access.log").is_ok_and(|logs| logs.iter().all(|(_, log)| asked(log)))
}

/// How many requests were answered, by wrk's report.
fn requests(report: &str) -> Result<u64> {
    let line = report.lines().find(|line| line.contains(" requests in "));
    let number = line.and_then(|line| line.split_whitespace().next()).context("wrk tells of no requests")?;
    Ok(number.parse()?)
}

/// One process of Apache, which ends a connection after some requests: so clients of one that drains go elsewhere.
fn apache(pod: &Pod, dir: &Path) -> Result<Command> {
    let program = callers::installed("apache2")?;
    let (place, name) = (dir.display(), pod.name());
    let config = format!(
        "ServerRoot {place}\nDefaultRuntimeDir {place}\nPidFile {place}/pid\nServerName {name}\nListen 80\nUser www-data\n\
         LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
         LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
         ErrorLog {place}/error.log\nCustomLog {place}/access.log %a\nDocumentRoot {place}/www\n\
         ThreadsPerChild 32\nMaxRequestWorkers 32\nKeepAlive On\nMaxKeepAliveRequests 50\n"
    );
    fs::write(dir.join("apache2.conf"), config)?;
    fs::create_dir(dir.join("www"))?;
    fs::write(dir.join("www/name"), name)?;
    let mut command = pod.command(program);
    command.arg("-X").arg("-f").arg(dir.join("apache2.conf"));
    Ok(command)
}
