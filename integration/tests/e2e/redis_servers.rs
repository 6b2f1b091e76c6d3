//! Redis behind a VIP, asked by redis-benchmark.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use integration::{Pod, callers, process::Running, wait};

use crate::fleet::{Fleet, Program};

const REDIS: Program = Program { name: "redis", port: 6379, command: redis };

pub(crate) fn c_redis_benchmark_sees_no_error_while_servers_come_and_go() -> Result<()> {
    let benchmark = callers::installed("redis-benchmark")?;
    let mut fleet = Fleet::start(REDIS, 2)?;
    let done = AtomicBool::new(false);
    let (client, vips) = (fleet.client.clone(), fleet.vips());
    let ask = || -> Result<u32> {
        let mut runs = 0;
        while !done.load(Ordering::Relaxed) || runs == 0 {
            for vip in vips {
                // A connection for each request. It ends at the first error.
                let (address, port) = (vip.ip(), vip.port());
                let options = "-c 4 -n 200 -k 0 -t set,get -q";
                client.exec(&format!("{} -h {address} -p {port} {options}", benchmark.display()))?;
            }
            runs += 1;
        }
        Ok(runs)
    };
    thread::scope(|scope| {
        let asking = scope.spawn(ask);
        let replaced = fleet.replace(4);
        done.store(true, Ordering::Relaxed);
        let runs = asking.join().map_err(|_| anyhow!("the asking thread panicked"))??;
        ensure!(runs > 1, "redis-benchmark had ended before anything happened");
        replaced
    })
}

pub(crate) fn c_connections_to_a_draining_redis_go_on() -> Result<()> {
    let fleet = Fleet::start(REDIS, 2)?;
    let [vip, _] = fleet.vips();
    let mut command = fleet.client.command(callers::installed("redis-benchmark")?);
    command.args(["-h", &vip.ip().to_string(), "-p", &vip.port().to_string()]);
    command.args(["-c", "16", "-n", "40000", "-t", "ping_mbulk", "-q"]);
    let mut clients = Running::start(command, &fleet.client.node().log_path("redis-benchmark"))?;
    wait::until("both to have clients", Duration::from_secs(5), || {
        clients.ensure_alive()?;
        Ok((1..16).contains(&fleet.oldest_connections()?))
    })?;
    let before = fleet.oldest_connections()?;
    fleet.drain_oldest()?;
    thread::sleep(Duration::from_millis(300));
    clients.ensure_alive()?;
    let after = fleet.oldest_connections()?;
    ensure!(after == before, "of {before} connections {after} were left");
    let ended = wait::until_some("redis-benchmark to end", Duration::from_mins(1), || clients.ended())?;
    ensure!(ended.success() && clients.log().contains("requests per second"), "{}", clients.log());
    Ok(())
}

/// One Redis, which writes nothing to disk and asks nobody for a password.
fn redis(pod: &Pod, dir: &Path) -> Result<Command> {
    // The server is this program under another name; the package that has it starts none.
    let mut command = pod.command(callers::installed("redis-check-rdb")?);
    command.arg0("redis-server").args(["--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no"]);
    command.args(["--save", "", "--dir"]).arg(dir);
    Ok(command)
}
