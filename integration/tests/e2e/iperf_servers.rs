//! iperf3 behind a VIP, whose server drains while a stream runs.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Pod, callers, process::Running, wait};
use serde_json::Value;

use crate::{
    fleet::{Fleet, Program},
    mtu_gso::ensure_flows,
};

const IPERF: Program = Program { name: "iperf3", port: 5201, command: iperf };

pub(crate) fn c_an_iperf_stream_goes_on_while_its_server_drains() -> Result<()> {
    let mut fleet = Fleet::start(IPERF, 1)?;
    let [vip, _] = fleet.vips();
    let line = format!("--client {} --json -i 0.2 -t", vip.ip());
    let mut command = fleet.client.command("iperf3");
    command.args(line.split_whitespace()).arg("3");
    let mut stream = Running::start(command, &fleet.client.node().log_path("iperf3-stream"))?;
    // One that tells and one that carries.
    wait::until("the stream to begin", Duration::from_secs(5), || {
        stream.ensure_alive()?;
        Ok(fleet.oldest_connections()? == 2)
    })?;
    // It is over once the stream is.
    fleet.replace(1)?;
    wait::until("iperf3 to end", Duration::from_secs(5), || Ok(stream.ended()?.is_some()))?;
    let report: Value = serde_json::from_str(&stream.log()).context("iperf3's JSON cannot be read")?;
    ensure!(report["error"].is_null(), "{}", report["error"]);
    ensure_flows(&report)?;
    let seconds = report["end"]["sum_received"]["seconds"].as_f64().context("iperf3 tells no time")?;
    ensure!(seconds > 2.9, "the stream ended after {seconds} s");
    // The next one finds the server that took over.
    ensure_flows(&serde_json::from_str(&fleet.client.exec(&format!("iperf3 {line} 1"))?)?)
}

fn iperf(pod: &Pod, _: &Path) -> Result<Command> {
    let mut command = pod.command(callers::installed("iperf3")?);
    command.arg("--server");
    Ok(command)
}
