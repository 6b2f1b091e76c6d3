//! What services cost the control plane: all of them at once, and one endpoint of one of them among few and among many.
//!
//! `hack/bench services` runs it. It needs root: the programs are loaded, and the maps are the kernel's.

use std::{
    env,
    error::Error,
    fs,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_dataplane::{
    Dataplane, Desired, Mac, Pins, Vni,
    desired::{
        Affinity, Backend, BackendState, DEFAULT_FLOW_TTL, Frontend, Host, Peer, Protocol, Service,
        WithoutBackends,
    },
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

/// Services among which one changes; the last is compared with the first.
const SIZES: [u32; 3] = [10, 1_000, 10_000];
/// Backends behind each.
const BACKENDS: u32 = 10;
/// Endpoints that come and go, one after the other.
const CHANGES: u32 = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args().any(|argument| argument == "json" || argument == "--output=json");
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none)?;
    let sizes = SIZES.map(measure).into_iter().collect::<Result<Vec<_>, _>>()?;
    let ratio = |of: &str| {
        let [first, .., last] = &sizes[..] else { return Value::Null };
        json!(last["change"][of].as_f64().zip(first["change"][of].as_f64()).map(|(last, first)| last / first))
    };
    let report = json!({
        "sizes": sizes,
        "ratios": { "p50": ratio("p50Ms"), "p99": ratio("p99Ms"), "cpu": ratio("cpuMs") },
    });
    fs::write(output_file()?, format!("{report:#}\n"))?;
    if json {
        println!("{report:#}");
        return Ok(());
    }
    println!(
        "{:>8}  {:>12}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
        "SERVICES", "FULL SYNC", "ITS CPU", "RESTART", "P50", "P99", "CPU"
    );
    for size in &sizes {
        let ms = |value: &Value| format!("{:.2} ms", value.as_f64().unwrap_or(f64::NAN));
        println!(
            "{:>8}  {:>12}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            size["services"].to_string(),
            ms(&size["fullSyncMs"]),
            ms(&size["fullSyncCpuMs"]),
            ms(&size["restartMs"]),
            ms(&size["change"]["p50Ms"]),
            ms(&size["change"]["p99Ms"]),
            ms(&size["change"]["cpuMs"]),
        );
    }
    println!(
        "\nP50, P99 and CPU are those of one endpoint that comes or goes; each service has {BACKENDS} backends."
    );
    println!("{} services to {}: {}", SIZES[SIZES.len() - 1], SIZES[0], report["ratios"]);
    Ok(())
}

/// What `count` services cost.
fn measure(count: u32) -> Result<Value, Box<dyn Error>> {
    let dir = PathBuf::from(format!("/mnt/{count}"));
    fs::create_dir(&dir)?;
    mount(Some("bpf"), &dir, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    let pins = Pins::new(dir.join("beeline"));
    let mut dataplane = Dataplane::load(&pins)?;
    let mut desired = desired(vec![]);
    dataplane.apply(&desired)?;

    let services: Vec<_> = (0..count).map(|n| Arc::new(service(n, BACKENDS))).collect();
    desired.services.clone_from(&services);
    let full = timed(|| dataplane.apply(&desired))?;
    drop(dataplane);
    let mut dataplane = Dataplane::load(&pins)?;
    let restart = timed(|| dataplane.apply(&desired))?;

    let mut took = vec![];
    let cpu = cpu_time()?;
    for change in 0..CHANGES {
        // One backend goes, and comes back.
        let n = change / 2 * 7_919 % count;
        let changed = service(n, BACKENDS - (change + 1) % 2);
        let mut next = desired.clone();
        next.services[n as usize] = Arc::new(changed);
        took.push(timed(|| dataplane.apply(&next))?);
        desired = next;
        dataplane.tidy()?;
    }
    let cpu = cpu_time()?.saturating_sub(cpu) / CHANGES;
    took.sort_unstable();
    let at = |percent: usize| ms(took[(took.len() * percent / 100).min(took.len() - 1)]);
    Ok(json!({
        "services": count,
        "backends": BACKENDS,
        "fullSyncMs": ms(full),
        "restartMs": ms(restart),
        "change": { "samples": took.len(), "p50Ms": at(50), "p99Ms": at(99), "maxMs": at(100), "cpuMs": ms(cpu) },
    }))
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<Duration, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn cpu_time() -> nix::Result<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from)
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Service `n`, with so many backends.
fn service(n: u32, backends: u32) -> Service {
    let port = NonZeroU16::MIN;
    let backend = |m| Backend {
        address: IpAddr::from(Ipv4Addr::from_bits(0x0a80_0000 + n * 16 + m)),
        port,
        state: BackendState::Ready,
    };
    let vip = Ipv4Addr::from_bits(0x0a60_0000 + n).into();
    Service {
        name: format!("namespace/service-{n}:http"),
        frontends: vec![Frontend { vip, port, protocol: Protocol::Tcp }],
        shared: vec![],
        load_balancers: vec![],
        source_ranges: vec![],
        backends: (0..backends).map(backend).collect(),
        without_backends: WithoutBackends::Reject,
        affinity: Affinity::None,
        flow_ttl: DEFAULT_FLOW_TTL,
        dsr: true,
    }
}

fn desired(services: Vec<Arc<Service>>) -> Desired {
    let vtep = Ipv4Addr::new(192, 0, 2, 1);
    let peer = |n: u8| Peer {
        vtep: Ipv4Addr::new(192, 0, 2, n),
        next_hop: None,
        pod_cidrs: format!("10.{n}.0.0/24").parse().into_iter().collect(),
        mac: None,
    };
    Desired {
        host: Host {
            vni: const { Vni::new(1).unwrap() },
            vtep,
            uplink_ifindex: 1,
            host_ifindex: 1,
            host_port_ifindex: 1,
            host_mac: Mac([2, 0, 0, 0, 0, 1]),
            vxlan_port: NonZeroU16::MAX,
            overlay_mtu: 1450,
            addresses: vec![vtep.into()],
            gateways: vec![],
        },
        peers: (2..=100).map(peer).collect(),
        services,
    }
}

/// Where the figures are left.
fn output_file() -> Result<PathBuf, Box<dyn Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&dir)?;
    Ok(dir.join("services.json"))
}
