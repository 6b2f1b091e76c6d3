//! Sizes: the MTU is right end to end, full-size packets and GSO both work, and a standard tool finds nothing wrong
//! with what is on the underlay.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use integration::{Service, Stack, ping::Ping, process::Running, wait};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::scene::Scene;

/// What a pod may send: 1500 less 50 for IP, UDP, VXLAN and inner Ethernet.
const MTU: u64 = 1450;
const IPERF_PORT: u16 = 5201;

pub(crate) fn mtu_is_right_end_to_end() -> Result<()> {
    is_right_end_to_end(Stack::V4)
}

pub(crate) fn is_right_end_to_end(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        let server = scene.server().address();
        let fits = usize::try_from(MTU)? - scene.ping_headers();
        ensure!(scene.client.ping(server, fits)? == Ping::Answered, "{MTU} bytes did not arrive");
        ensure!(scene.client.ping(server, fits + 1)? == Ping::TooLarge, "one more was not refused");
        ensure!(scene.server().ping(scene.client.address(), fits)? == Ping::Answered);
    }
    Ok(())
}

pub(crate) fn a_full_size_packet_fills_the_underlay_exactly() -> Result<()> {
    fills_the_underlay_exactly(Stack::V4)
}

pub(crate) fn fills_the_underlay_exactly(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let payload = usize::try_from(MTU)? - scene.ping_headers();
    let ping = || scene.client.ping(scene.server().address(), payload);
    let (packets, answer) = scene.cluster.underlay().capture_during("br0", "udp port 4789", ping)?;
    ensure!(answer == Ping::Answered);
    // 1500 bytes of IP in 1514 of Ethernet: not one wasted, none too many.
    ensure!(packets.len() == 2, "{packets:#?}");
    ensure!(packets.iter().all(|packet| packet.contains("length 1514:")), "{packets:#?}");
    let whole = |packet: &String| {
        ["length ", "length: "].iter().any(|word| packet.contains(&format!("{word}{}", payload + 8)))
    };
    ensure!(packets.iter().all(whole), "{packets:#?}");
    Ok(())
}

pub(crate) fn iperf_through_the_vip_with_gso() -> Result<()> {
    iperf_with_gso(Stack::V4)
}

pub(crate) fn iperf_with_gso(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let before = scene.server().received()?;
    iperf_both_ways(&scene)?;
    let size = scene.server().received()?.since(before).mean_size();
    ensure!(size > MTU, "packets of {size} bytes on average: nothing was left for GSO to do");
    Ok(())
}

pub(crate) fn iperf_through_the_vip_with_full_size_packets() -> Result<()> {
    iperf_with_full_size_packets(Stack::V4)
}

pub(crate) fn iperf_with_full_size_packets(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    for pod in [&scene.client, scene.server()] {
        pod.exec("ethtool -K eth0 tso off gso off gro off tx off")?;
    }
    let server = serve_iperf(&scene)?;
    let before = scene.server().received()?;
    ensure_flows(&iperf(&scene, "-t 2 -i 0.2")?)?;
    let size = scene.server().received()?.since(before).mean_size();
    ensure!((MTU - 50..=MTU).contains(&size), "packets of {size} bytes on average");
    ensure_flows(&iperf(&scene, "-t 2 -i 0.2 --reverse")?)?;
    drop(server);
    Ok(())
}

pub(crate) fn iperf_on_one_node() -> Result<()> {
    iperf_on_one_node_with(Stack::V4)
}

pub(crate) fn iperf_on_one_node_with(stack: Stack) -> Result<()> {
    iperf_both_ways(&Scene::on_one_node_with(stack)?)
}

pub(crate) fn udp_of_full_size_arrives() -> Result<()> {
    full_size_udp_arrives(Stack::V4)
}

pub(crate) fn full_size_udp_arrives(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    let server = serve_iperf(&scene)?;
    // UDP's header is as long as a ping's.
    let length = usize::try_from(MTU)? - scene.ping_headers();
    for extra in [format!("-l {length}"), format!("-l {length} --reverse")] {
        let report = iperf(&scene, &format!("-u -b 5M -t 3 {extra}"))?;
        let end = &report["end"]["sum"];
        let (packets, lost) = (number(end, "packets")?, number(end, "lost_packets")?);
        // A receiver that is not scheduled for a while loses some by itself.
        ensure!(packets > 1_000.0 && lost <= packets / 50.0, "{extra}: {lost} of {packets} lost");
    }
    drop(server);
    Ok(())
}

pub(crate) fn udp_gso_arrives_cut_into_its_segments() -> Result<()> {
    udp_gso_arrives_cut(Stack::V4)
}

pub(crate) fn udp_gso_arrives_cut(stack: Stack) -> Result<()> {
    const SEGMENT: usize = 1_400;
    const SEGMENTS: usize = 40;
    const BATCHES: usize = 50;
    for scene in Scene::of_each_kind(stack)? {
        let port = 5300;
        let vip = SocketAddr::new(scene.vip().ip(), port);
        let service = Service::new("gso", vip).to(scene.server().address(), port);
        scene.cluster.set_services([service])?;
        let socket = scene.server().run(|| UdpSocket::bind((scene.family().any().ip(), port)))??;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let sender = scene.client.run(|| UdpSocket::bind(scene.family().any()))??;
        setsockopt(&sender, sockopt::UdpGsoSegment, &i32::try_from(SEGMENT)?)?;
        let mut received = 0;
        let mut datagram = [0; 2 * SEGMENT];
        for batch in 0..BATCHES {
            sender.send_to(&vec![u8::try_from(batch)?; SEGMENT * SEGMENTS], vip)?;
            for _ in 0..SEGMENTS {
                match socket.recv(&mut datagram) {
                    Ok(length) => ensure!(length == SEGMENT, "a datagram of {length} bytes"),
                    Err(e) => bail!("{received} datagrams arrived of {}: {e}", BATCHES * SEGMENTS),
                }
                received += 1;
            }
        }
    }
    Ok(())
}

pub(crate) fn tcpdump_decodes_the_underlay_as_vxlan_without_error() -> Result<()> {
    tcpdump_decodes_without_error(Stack::V4)
}

pub(crate) fn tcpdump_decodes_without_error(stack: Stack) -> Result<()> {
    let scene = Scene::across_nodes_with(stack)?;
    // Sums are made by the pods themselves, so that what is on the wire is what a wire would carry.
    for pod in [&scene.client, scene.server()] {
        pod.exec("ethtool -K eth0 tso off gso off tx off")?;
    }
    let (packets, ()) = scene.cluster.underlay().capture_during("br0", "udp port 4789", || {
        scene.client.load(scene.vip(), 50, integration::load::Connections::New)?;
        scene.client.ask_udp(scene.vip())?;
        scene.client.ping(scene.server().address(), 1000)?;
        Ok(())
    })?;
    ensure!(packets.len() > 250, "{} packets", packets.len());
    for packet in &packets {
        ensure!(packet.contains("VXLAN, flags [I] (0x08), vni 7"), "not decoded as VXLAN: {packet}");
        ensure!(complaint(packet).is_none(), "{packet}");
    }
    // And sums were really looked at, of each kind.
    for part in ["(correct)", "udp sum ok", "echo reply"] {
        ensure!(packets.iter().any(|packet| packet.contains(part)), "no packet says `{part}`");
    }
    // Source ports differ between flows: the underlay can spread them.
    let ports: std::collections::BTreeSet<_> =
        packets.iter().filter_map(|packet| outer_port(packet)).collect();
    ensure!(ports.len() > 20, "{} outer source ports for more than 100 flows: {ports:?}", ports.len());
    Ok(())
}

/// What tcpdump finds wrong with a packet. A word of its own: a right sum may well be 0x5bad.
fn complaint(packet: &str) -> Option<&str> {
    let words = packet.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find(|word| ["bad", "incorrect", "malformed", "truncated", "invalid"].contains(word))
}

/// The outer UDP source port of a packet that tcpdump decoded.
fn outer_port(packet: &str) -> Option<&str> {
    let line = packet.lines().nth(1)?;
    line.trim_start().split(" > ").next()?.rsplit('.').next()
}

fn iperf_both_ways(scene: &Scene) -> Result<()> {
    let server = serve_iperf(scene)?;
    for direction in ["", "--reverse"] {
        ensure_flows(&iperf(scene, &format!("-t 2 -i 0.2 {direction}"))?)?;
    }
    drop(server);
    Ok(())
}

/// Fails if a run of iperf3 stalled or had to send much again.
pub(crate) fn ensure_flows(report: &Value) -> Result<()> {
    let sent = &report["end"]["sum_sent"];
    let intervals = report["intervals"].as_array().context("iperf3 told of no intervals")?;
    for interval in intervals {
        ensure!(number(&interval["sum"], "bytes")? > 0.0, "a stall: {interval}");
    }
    // Queues of a busy machine may drop some packets at full speed; a storm is something else.
    let retransmits = number(sent, "retransmits")?;
    let packets = number(sent, "bytes")? / 1_400.0;
    ensure!(retransmits <= packets / 100.0 + 10.0, "{retransmits} of {packets:.0} packets sent again");
    Ok(())
}

/// Starts iperf3 in the server pod and makes it a service.
fn serve_iperf(scene: &Scene) -> Result<Running> {
    let mut command = scene.server().command("iperf3");
    command.args(["--server", "--forceflush"]);
    let mut server = Running::start(command, &scene.server().node().log_path("iperf3"))?;
    wait::until("iperf3 to listen", Duration::from_secs(5), || {
        server.ensure_alive()?;
        Ok(server.log().contains("listening"))
    })?;
    let service = Service::new("iperf", SocketAddr::new(scene.vip().ip(), IPERF_PORT));
    scene.cluster.set_services([scene.service(), service.to(scene.server().address(), IPERF_PORT)])?;
    Ok(server)
}

fn iperf(scene: &Scene, options: &str) -> Result<Value> {
    // The server may still be at the end of the run before.
    wait::until_some("iperf3's server to be free", Duration::from_secs(20), || {
        let line = format!("iperf3 --client {} --json --connect-timeout 3000 {options}", scene.vip().ip());
        let report: Value = serde_json::from_str(&scene.client.try_exec(&line)?.stdout)
            .context("iperf3's JSON cannot be read")?;
        match report["error"].as_str() {
            None => Ok(Some(report)),
            Some(error) if error.contains("busy") => Ok(None),
            Some(error) => bail!("iperf3 {options}: {error}"),
        }
    })
}

fn number(object: &Value, key: &str) -> Result<f64> {
    object[key].as_f64().with_context(|| format!("no {key} in {object}"))
}
