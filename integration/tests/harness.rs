//! The harness tested on plain veth pairs, without Beeline: what it counts, sends and captures must be right
//! before anything said with it is worth hearing.

use std::{
    env, fs,
    mem::ManuallyDrop,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use integration::{
    Netns, binaries, frames::Frame, load::Connections, ping::Ping, process::Running, sandbox, suite, tests,
    traffic::Traffic, wait,
};
use nix::unistd::Pid;

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const LEFT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const RIGHT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

/// Environment variable that turns this program into a [`victim`].
const VICTIM: &str = "BEELINE_HARNESS_VICTIM";

fn main() -> ExitCode {
    if env::var_os(VICTIM).is_some() {
        return victim().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    suite::run(tests![
        a_program_runs_inside_its_namespace,
        a_program_that_fails_says_why,
        children_outlive_the_thread_that_started_them_but_not_their_handle,
        kill_9_leaves_nothing,
        names_are_taken_once_and_given_back,
        counters_stand_still_without_traffic_and_move_with_it,
        conntrack_entries_are_seen,
        every_request_is_answered_and_checked,
        failures_of_a_load_are_reported,
        traffic_reports_a_server_that_dies,
        a_ping_tells_lost_from_too_large,
        a_captured_frame_is_the_one_sent,
    ])
}

/// Two namespaces, one veth pair.
fn pair() -> Result<(Netns, Netns)> {
    let (prefix, _) = sandbox::new_state_dir()?;
    let left = Netns::create(&format!("{prefix}-left"))?;
    let right = Netns::create(&format!("{prefix}-right"))?;
    left.ip(&format!("link add eth0 type veth peer name eth0 netns {}", right.name()))?;
    for (netns, address, address6) in [(&left, LEFT, LEFT6), (&right, RIGHT, RIGHT6)] {
        netns.ip(&format!(
            "addr add {address}/24 dev eth0\naddr add {address6}/64 dev eth0 nodad\nlink set eth0 up"
        ))?;
    }
    // A link is up for IPv6 a moment after it is up, and who asks in between is not heard.
    wait::until("IPv6 on the pair", Duration::from_secs(10), || Ok(left.ping(RIGHT6, 0)? == Ping::Answered))?;
    Ok((left, right))
}

fn serve(netns: &Netns) -> Result<(Running, SocketAddr)> {
    let (_, dir) = sandbox::new_state_dir()?;
    let server = netns.serve_as("right", 80, &dir.join("echo.log"))?;
    Ok((server, SocketAddr::new(RIGHT, 80)))
}

fn a_program_runs_inside_its_namespace() -> Result<()> {
    let (left, right) = pair()?;
    ensure!(left.exec("ip -br addr")?.contains("10.0.0.1/24"));
    ensure!(right.exec("ip -br addr")?.contains("10.0.0.2/24"));
    Ok(())
}

fn a_program_that_fails_says_why() -> Result<()> {
    let (left, _right) = pair()?;
    let error = left.exec("ip link show nowhere").err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(error.contains("`ip link show nowhere` failed") && error.contains("does not exist"), "{error}");
    Ok(())
}

/// Starts a program on a thread that ends before the program does.
fn sleeper(netns: &Netns) -> Result<Running> {
    let (_, dir) = sandbox::new_state_dir()?;
    let start = || {
        let mut command = netns.command("sleep");
        command.arg("1000");
        Running::start(command, &dir.join("sleep.log"))
    };
    thread::scope(|scope| scope.spawn(start).join()).map_err(|_| anyhow!("a thread panicked"))?
}

/// A zombie that init has not collected yet is dead enough.
fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn children_outlive_the_thread_that_started_them_but_not_their_handle() -> Result<()> {
    let (left, _right) = pair()?;
    let mut sleep = sleeper(&left)?;
    thread::sleep(Duration::from_millis(50));
    sleep.ensure_alive()?;
    let pid = sleep.pid();
    drop(sleep);
    ensure!(!is_alive(pid), "the program outlived its handle");
    Ok(())
}

/// A process with a sandbox, a namespace and a child, which [`kill_9_leaves_nothing`] kills.
fn victim() -> Result<()> {
    sandbox::enter()?;
    let (left, _right) = pair()?;
    println!("{}", sleeper(&left).map(|sleep| ManuallyDrop::new(sleep).pid())?);
    loop {
        thread::park();
    }
}

fn kill_9_leaves_nothing() -> Result<()> {
    let (left, _right) = pair()?;
    let (_, dir) = sandbox::new_state_dir()?;
    let mut command = left.command(binaries::this_program()?);
    command.env(VICTIM, "1");
    let mut victim = Running::start(command, &dir.join("victim.log"))?;
    let child = wait::until_some("the victim's child", Duration::from_secs(5), || {
        victim.ensure_alive()?;
        Ok(victim.log().trim().parse().ok().map(Pid::from_raw))
    })?;
    ensure!(is_alive(child), "the child never lived");
    let mine = fs::read_dir(sandbox::NETNS_DIR)?.count();
    victim.kill()?;
    wait::until("the child to die", Duration::from_secs(1), || Ok(!is_alive(child)))?;
    ensure!(fs::read_dir(sandbox::NETNS_DIR)?.count() <= mine, "its namespaces are seen outside its sandbox");
    Ok(())
}

fn names_are_taken_once_and_given_back() -> Result<()> {
    let (prefix, _) = sandbox::new_state_dir()?;
    let first = Netns::create(&prefix)?;
    ensure!(Netns::create(&prefix).is_err(), "a name was given twice");
    let path = first.path().to_owned();
    drop(first);
    ensure!(!Path::new(&path).exists(), "the name is still there");
    Netns::create(&prefix)?;
    Ok(())
}

fn counters_stand_still_without_traffic_and_move_with_it() -> Result<()> {
    let (left, right) = pair()?;
    right.watch_hooks()?;
    for address in [RIGHT, RIGHT6] {
        // Each has asked for the other's MAC before anything is counted.
        ensure!(left.ping(address, 56)? == Ping::Answered);
        let before = right.host_stack()?;
        // Time enough for what the kernel says of its own accord on a new link.
        thread::sleep(Duration::from_millis(1_500));
        let still = right.host_stack()?.since(&before);
        ensure!(still.is_silent(), "{still}");
        ensure!(left.ping(address, 56)? == Ping::Answered);
        let moved = right.host_stack()?.since(&before);
        ensure!((moved.received, moved.delivered, moved.sent) == (1, 1, 1), "{moved}");
        ensure!(moved.hooks == [1, 1, 0, 1, 1], "{moved}");
    }
    Ok(())
}

fn conntrack_entries_are_seen() -> Result<()> {
    let (left, right) = pair()?;
    right.watch_hooks()?;
    // Any rule that asks for a connection's state turns tracking on.
    right.nft(
        "table inet tracked {\n chain in {\n type filter hook input priority 0\n \
         icmpv6 type != { echo-request, echo-reply } accept\n ct state new accept\n }\n }\n",
    )?;
    ensure!(right.host_stack()?.conntrack.is_empty());
    ensure!(left.ping(RIGHT, 56)? == Ping::Answered);
    let stack = right.host_stack()?;
    ensure!(stack.conntrack.len() == 1 && stack.conntrack[0].contains("src=10.0.0.1"), "{stack}");
    ensure!(left.ping(RIGHT6, 56)? == Ping::Answered);
    let new = right.host_stack()?.since(&stack);
    ensure!(new.conntrack.len() == 1 && new.conntrack[0].contains("src=fd00:"), "{new}");
    Ok(())
}

fn every_request_is_answered_and_checked() -> Result<()> {
    let (left, right) = pair()?;
    let (_server, address) = serve(&right)?;
    for address in [address, SocketAddr::new(RIGHT6, address.port())] {
        for connections in [Connections::Kept, Connections::New] {
            let report = left.load(address, 2_000, connections)?;
            ensure!(report.answered == 2_000 && report.failures.is_empty(), "{:?}", report.failures.first());
            ensure!(report.translated == 0 && report.servers["right"] == 2_000, "{:?}", report.servers);
            ensure!(report.latencies.len() == 2_000 && report.percentile(50) > Duration::ZERO);
        }
        let (answer, local) = left.get(address)?;
        ensure!(answer.client == local && answer.local == address, "{answer:?}");
        let (answer, port) = left.ask_udp(address)?;
        ensure!(answer.client == SocketAddr::new(local.ip(), port), "{answer:?}");
    }
    // A translated source is noticed: the same with a masquerade in between the client and the server.
    left.nft(
        "table ip nat {\n chain post {\n type nat hook postrouting priority 100\n \
         tcp dport 80 masquerade to :2000-3000\n }\n }\n",
    )?;
    let report = left.load(address, 20, Connections::New)?;
    ensure!(report.translated > 0, "translation went unnoticed");
    Ok(())
}

fn failures_of_a_load_are_reported() -> Result<()> {
    let (left, _right) = pair()?;
    let report = left.load(SocketAddr::new(RIGHT, 80), 8, Connections::New)?;
    ensure!(report.answered == 0 && report.failures.len() == 8, "{report:?}");
    ensure!(report.failures[0].contains("refused"), "{:?}", report.failures);
    Ok(())
}

fn traffic_reports_a_server_that_dies() -> Result<()> {
    let (left, right) = pair()?;
    let (server, address) = serve(&right)?;
    let traffic = Traffic::start(&left, address);
    thread::sleep(Duration::from_millis(500));
    let fine = traffic.stop()?;
    ensure!(fine.broken.is_empty() && fine.lost() == 0, "{fine:?}");
    ensure!(fine.asked > 100 && fine.opened > 10 && fine.sent > 400, "{fine:?}");

    let traffic = Traffic::start(&left, address);
    thread::sleep(Duration::from_millis(200));
    drop(server);
    thread::sleep(Duration::from_millis(100));
    let bad = traffic.stop()?;
    ensure!(!bad.broken.is_empty() && bad.lost() > 0, "{bad:?}");
    Ok(())
}

fn a_ping_tells_lost_from_too_large() -> Result<()> {
    let (left, _right) = pair()?;
    ensure!(left.ping(RIGHT, 1472)? == Ping::Answered);
    ensure!(left.ping(RIGHT, 1473)? == Ping::TooLarge);
    ensure!(left.ping(Ipv4Addr::new(10, 0, 0, 3).into(), 56)? == Ping::Lost);
    ensure!(left.ping(RIGHT6, 1452)? == Ping::Answered);
    ensure!(left.ping(RIGHT6, 1453)? == Ping::TooLarge);
    ensure!(left.ping("fd00::3".parse()?, 56)? == Ping::Lost);
    Ok(())
}

fn a_captured_frame_is_the_one_sent() -> Result<()> {
    let (left, right) = pair()?;
    for (from, to, line) in [
        ("10.9.9.9:1234", RIGHT, "10.9.9.9.1234 > 10.0.0.2.4321"),
        ("[fd00::9]:1234", RIGHT6, "fd00::9.1234 > fd00::2.4321"),
    ] {
        let frame = Frame {
            to_mac: [0xff; 6],
            from_mac: [2, 0, 0, 0, 0, 9],
            from: from.parse()?,
            to: SocketAddr::new(to, 4321),
            data: b"hello".to_vec(),
        };
        let send = || left.send_frame("eth0", &frame.bytes(), 3);
        let (packets, ()) = right.capture_during("eth0", "udp port 4321", send)?;
        ensure!(packets.len() == 3, "{packets:?}");
        for part in ["02:00:00:00:00:09 > ff:ff:ff:ff:ff:ff", line, "udp sum ok"] {
            ensure!(packets[0].contains(part), "no `{part}` in {}", packets[0]);
        }
    }
    Ok(())
}
