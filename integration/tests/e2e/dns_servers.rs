//! dnsmasq behind a VIP, asked by dnsperf and dig.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{Pod, callers, process::Running, wait};
use nix::sys::signal::Signal;

use crate::fleet::{Fleet, Program};

const DNSMASQ: Program = Program { name: "dnsmasq", port: 53, command: dnsmasq };

/// Names that every server knows, with the bytes of text that there are of each: some in one packet, some in fragments.
const NAMES: [(&str, usize); 4] =
    [("small.example", 20), ("medium.example", 1_200), ("large.example", 2_000), ("huge.example", 3_900)];

/// How long an answer may take before its query counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// Clients of each VIP: so many that every server gets one.
const CLIENTS: &str = "20";
/// How long dnsperf may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn c_dnsperf_loses_no_query_while_dns_servers_come_and_go() -> Result<()> {
    let dnsperf = callers::installed("dnsperf")?;
    let mut fleet = Fleet::start(DNSMASQ, 2)?;
    let queries = fleet.client.node().runtime_dir().join("queries");
    fs::write(&queries, NAMES.map(|(name, _)| format!("{name} TXT\n")).concat())?;
    let mut clients = Vec::new();
    for vip in fleet.vips() {
        let mut command = fleet.client.command(&dnsperf);
        command.args(["-s", &vip.ip().to_string(), "-p", &vip.port().to_string(), "-d"]).arg(&queries);
        // Clients keep their ports: what moves to another server is their next query.
        command.args([
            "-e",
            "-c",
            CLIENTS,
            "-q",
            "32",
            "-Q",
            "400",
            "-l",
            "120",
            "-t",
            &LOST.as_secs().to_string(),
        ]);
        let log = fleet.client.node().log_path(&format!("dnsperf-{}", clients.len()));
        clients.push(Running::start(command, &log)?);
    }
    wait::until("both servers to be asked", PATIENCE, || were_all_asked(&fleet))?;
    fleet.replace(4)?;
    // Whatever was lost is known to be so by then.
    thread::sleep(LOST + Duration::from_millis(200));
    for client in clients {
        let log = client.log_path().to_owned();
        client.stop(Signal::SIGINT)?;
        let report = fs::read_to_string(log)?;
        ensure!(number(&report, "Queries lost:")? == 0 && report.contains("NOERROR"), "{report}");
        ensure!(number(&report, "Queries completed:")? > 100, "{report}");
    }
    ensure!(were_all_asked(&fleet)?, "a server was never asked");
    Ok(())
}

fn were_all_asked(fleet: &Fleet) -> Result<bool> {
    Ok(fleet.files("log")?.iter().all(|(_, log)| log.contains("query[TXT] medium.example")))
}

pub(crate) fn c_dig_is_answered_by_udp_and_tcp() -> Result<()> {
    let fleet = Fleet::start(DNSMASQ, 2)?;
    for vip in fleet.vips() {
        for (name, length) in NAMES {
            for transport in ["+notcp", "+tcp"] {
                let answered = dig(&fleet, vip, name, transport)?;
                ensure!(answered == length, "{vip} gave {answered} bytes of {name} by {transport}");
            }
        }
    }
    Ok(())
}

/// How much text a server has of `name`.
fn dig(fleet: &Fleet, vip: SocketAddr, name: &str, transport: &str) -> Result<usize> {
    let (dig, address) = (callers::installed("dig")?, vip.ip());
    let options = "TXT +short +ignore +tries=1 +time=3 +bufsize=4096";
    let line = format!("{} @{address} -p {} {name} {options} {transport}", dig.display(), vip.port());
    Ok(fleet.client.exec(&line)?.chars().filter(|&letter| letter == 'x').count())
}

/// The number after `label` in dnsperf's report.
fn number(report: &str, label: &str) -> Result<u64> {
    let rest = report.split_once(label).map(|(_, rest)| rest);
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.with_context(|| format!("dnsperf tells of no `{label}`: {report}"))?.parse().context("no number")
}

/// One dnsmasq, which asks nobody else and logs what it is asked.
fn dnsmasq(pod: &Pod, _: &Path) -> Result<Command> {
    let mut command = pod.command(callers::installed("dnsmasq")?);
    // As one process that stays, with the log on standard error.
    command.args(["--no-daemon", "--log-queries", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
    command.args(["--port=53", "--edns-packet-max=4096"]);
    for (name, length) in NAMES {
        // A string of text has 255 bytes at most.
        let text: Vec<_> = "x"
            .repeat(length)
            .into_bytes()
            .chunks(250)
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect();
        command.arg(format!("--txt-record={name},{}", text.join(",")));
    }
    Ok(command)
}
