use std::time::{Duration, UNIX_EPOCH};

use super::*;
use lb_dataplane::{AttachMode, Vni, status_file};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn file() -> StatusFile {
    StatusFile {
        state: State::Ready,
        node: Some("node1".into()),
        pid: 4711,
        version: "0.1.0".into(),
        started_at: at(1_000),
        source: Source::File { path: "/etc/beeline/node.yaml".into() },
        generation: 3,
        last_applied: Some(at(1_010)),
        last_error: None,
        counts: status_file::Counts::default(),
        uplink: None,
        mtu: Some(1450),
        attach: Some(AttachMode::Tcx),
        preflight: vec![Check { name: "kernel".into(), ok: true, detail: "6.12".into() }],
    }
}

fn node() -> NodeFile {
    NodeFile {
        abi_version: 1,
        node: "node1".into(),
        vni: Vni::new(7).unwrap(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        mtu: 1450,
        uplink: "eth0".into(),
        gateways: vec!["10.244.1.1".parse().unwrap()],
        bpffs: "/sys/fs/bpf/beeline".into(),
        attach: AttachMode::Tcx,
        port_attach: AttachMode::Clsact,
    }
}

fn dataplane() -> Dataplane {
    Dataplane {
        loaded: true,
        attach: Some("tcx".into()),
        endpoints: 3,
        services: 2,
        dsr_services: 1,
        peers: 1,
        routes: 1,
        dropped_packets: 12,
        ..Dataplane::default()
    }
}

#[test]
fn a_node_that_works() {
    let status = Status::new(Some(file()), Some(node()), dataplane(), at(1_070), |pid| pid == 4711);
    assert!(status.is_ready());
    assert_eq!(
        status.text(),
        "node        node1: ready\n\
         agent       beelined 0.1.0 runs (pid 4711, for 1m10s)\n\
         source      /etc/beeline/node.yaml, applied 1m00s ago (generation 3)\n\
         network     VNI 7 over eth0; pods in 10.244.1.0/24, gateway 10.244.1.1, MTU 1450\n\
         dataplane   3 pods, 2 services (1 direct), 1 peer, 12 packets dropped, attached by tcx\n"
    );
}

#[test]
fn a_dead_agent_stops_nothing_but_somebody_must_start_it() {
    let status = Status::new(Some(file()), Some(node()), dataplane(), at(1_070), |_| false);
    let text = status.text();
    assert!(
        text.starts_with(
            "node        node1: degraded\nagent       beelined 0.1.0 does not run; traffic goes on"
        ),
        "{text}"
    );
    assert!(!status.is_ready());
    let status = Status::new(None, Some(node()), dataplane(), at(1_070), |_| false);
    assert!(status.text().contains("left no status"), "{}", status.text());
    assert!(!status.is_ready());
}

#[test]
fn an_uplink_without_program_is_told() {
    let cut = Dataplane { not_attached: Some("eth0".into()), ..dataplane() };
    let status = Status::new(Some(file()), Some(node()), cut, at(1_070), |_| true);
    assert!(!status.is_ready());
    let text = status.text();
    assert!(
        text.contains("node1: degraded\n") && text.contains("uplink      no program is on eth0"),
        "{text}"
    );
}

#[test]
fn only_a_missing_link_is_a_missing_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node();
    node.bpffs = dir.path().to_owned();
    assert!(lacks_program(&node));
    node.attach = AttachMode::Clsact;
    assert!(!lacks_program(&node));
    node.attach = AttachMode::Tcx;
    std::fs::create_dir(node.pins().links()).unwrap();
    std::fs::write(node.pins().link("eth0"), "").unwrap();
    assert!(!lacks_program(&node));
}

#[test]
fn what_is_wrong_is_told() {
    let mut file = file();
    file.state = State::Degraded;
    file.last_error = Some(status_file::Trouble { message: "line 3: no".into(), since: at(1_060) });
    file.preflight = vec![Check { name: "nft".into(), ok: false, detail: "install nftables".into() }];
    let status = Status::new(Some(file), Some(node()), dataplane(), at(1_070), |_| true);
    assert!(!status.is_ready());
    let text = status.text();
    assert!(text.contains("node1: degraded\n"), "{text}");
    assert!(text.contains("error       line 3: no (for 10s)\n"), "{text}");
    assert!(text.contains("check       nft: install nftables\n"), "{text}");
}

#[test]
fn an_agent_that_could_not_set_up_the_node_is_heard() {
    let mut file = file();
    file.state = State::Starting;
    file.generation = 0;
    file.last_applied = None;
    let text = Status::new(Some(file), None, Dataplane::default(), at(1_070), |_| true).text();
    assert!(text.contains("node1: starting\n") && text.contains("not applied yet\n"), "{text}");
    assert!(text.contains("dataplane   not set up yet\n"), "{text}");
}

#[test]
fn unreadable_maps_are_no_ready_node() {
    let broken = Dataplane { error: Some("not allowed".into()), ..Dataplane::default() };
    let status = Status::new(Some(file()), Some(node()), broken, at(1_070), |_| true);
    assert_eq!(status.state, "degraded");
    assert!(status.text().contains("dataplane   not allowed\n"), "{}", status.text());
}

#[test]
fn a_node_without_agent_or_maps_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(report(dir.path()).is_err());
}

#[test]
fn json_keeps_its_keys() {
    let status = Status::new(Some(file()), Some(node()), dataplane(), at(1_070), |_| true);
    let json = serde_json::to_value(status).unwrap();
    assert_eq!(json["state"], "ready");
    assert_eq!(json["agent"]["running"], true);
    assert_eq!(json["agent"]["source"]["kind"], "file");
    assert_eq!(json["dataplane"]["dsrServices"], 1);
    assert_eq!(json["network"]["podCidrs"][0], "10.244.1.0/24");
    assert_eq!(json["lastError"], serde_json::Value::Null);
}
