//! The real agent on a machine of its own: sets it up, follows its file, heals it, and takes everything away again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what is wrong by panicking")]

mod cluster;
mod machine;

use std::{fs, net::Ipv4Addr, time::Duration};

use lb_dataplane::{AttachMode, Mac, Program, netlink::Route, status_file::State};

use crate::machine::{CONFIG, Machine};

/// How often the agent reads its file though it was told of no change.
const POLL: Duration = Duration::from_secs(2);

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);

fn with_other_vip() -> String {
    CONFIG.replace("port: 8000 }", "port: 8000 }, { vip: 10.96.0.11, port: 53, protocol: udp }")
}

fn dual_stack() -> String {
    CONFIG
        .replace("[10.244.1.0/24]", "[10.244.1.0/24, 'fd00:10:244:1::/64']")
        .replace("[10.244.2.0/24]", "[10.244.2.0/24, 'fd00:10:244:2::/64']")
}

/// Makes sense, but the map has no room for it: each frontend takes an entry, and one more for its VIP.
fn with_too_many_frontends() -> String {
    let frontends: Vec<String> =
        (1..=33_000).map(|port| format!("{{ vip: 10.96.0.12, port: {port} }}")).collect();
    CONFIG.replace("{ vip: 10.96.0.10, port: 8000 }", &frontends.join(", "))
}

#[test]
fn sets_the_machine_up_and_then_says_that_pods_can_be_wired() {
    let mut machine = Machine::new();
    machine.start_ready();

    let node = machine.node_file().expect("node.json is there once the agent is ready");
    assert_eq!(
        (node.node.as_str(), node.vni.get(), node.mtu, node.uplink.as_str()),
        ("node1", 7, 1450, "eth0")
    );
    assert_eq!(node.attach, AttachMode::Auto.resolve());
    assert_eq!(machine.vips(), [VIP]);
    for program in Program::ALL {
        assert!(machine.pins().program(program).exists());
    }
    let (host, port, vxlan) = machine.netlink(async |netlink| {
        let host = netlink.require_link("beeline0").await.unwrap();
        let addresses = netlink.addresses(host.index).await.unwrap();
        assert_eq!(addresses, ["10.244.1.1/32".parse().unwrap()], "the gateway, and nothing of IPv6");
        let port = netlink.require_link("beeline0-port").await.unwrap();
        (host, port, netlink.require_link("beeline-vxlan").await.unwrap())
    });
    assert!(host.up && port.up && vxlan.up);
    assert_eq!((host.mtu, port.mtu, vxlan.mtu), (1450, 1450, 1450));
    assert_eq!((host.mac, port.mac), (Some(Mac([0x0a, 0x58, 10, 244, 1, 1])), Some(Mac::GATEWAY)));
    let ours = |to| format!("{to} {} 190", host.index);
    for route in ["10.244.1.0/24", "10.244.2.0/24", "10.96.0.10/32"].map(ours) {
        assert!(machine.routes().contains(&route), "{route} in {:?}", machine.routes());
    }
    assert!(machine.nft("list table inet beeline").contains("masquerade"));
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
}

#[test]
fn a_change_of_the_file_is_in_the_maps_before_polling_could_have_seen_it() {
    let mut machine = Machine::new();
    machine.start_ready();

    // The agent polls a whole period after the last change that it saw: each of these but the first begins a period.
    // On a busy machine one of them may take its time, but not all.
    machine.configure(&with_other_vip());
    machine.until("the second VIP comes", || machine.vips() == [VIP, OTHER_VIP]);
    let took = [0; 3].map(|_| {
        machine.configure(CONFIG);
        let gone = machine.until("it goes", || machine.vips() == [VIP]);
        machine.configure(&with_other_vip());
        gone.min(machine.until("it comes back", || machine.vips() == [VIP, OTHER_VIP]))
    });
    assert!(took.iter().any(|&took| took < POLL / 2), "{took:?}");
    machine.configure(CONFIG);
    machine.until("so does its route", || {
        !machine.routes().iter().any(|route| route.starts_with("10.96.0.11/32"))
    });
}

#[test]
fn a_broken_file_keeps_the_last_good_state_and_is_told_once_with_line_and_field() {
    let mut machine = Machine::new();
    machine.start_ready();

    machine.configure(&CONFIG.replace("port: 8000", "port: 0"));
    machine.until("the error is shown", || machine.is_degraded());
    let error = machine.status().unwrap().last_error.unwrap().message;
    assert!(
        error.contains("node.yaml line 8, ") && error.contains("services[0].frontends[0].port"),
        "{error}"
    );
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(machine.vips(), [VIP]);
    assert_eq!(machine.log().matches("`0` is no port").count(), 1, "{}", machine.log());

    machine.configure(&with_other_vip());
    machine.until("all is well again", || machine.status().is_some_and(|status| status.last_error.is_none()));
    assert_eq!(machine.vips(), [VIP, OTHER_VIP]);
}

#[test]
fn a_configuration_that_does_not_fit_keeps_the_last_good_state_and_is_told_once() {
    let mut machine = Machine::new();
    machine.start_ready();
    let before = (machine.routes(), machine.node_file());

    machine.configure(&with_too_many_frontends());
    machine.until("the error is shown", || machine.is_degraded());
    let error = machine.status().unwrap().last_error.unwrap().message;
    assert!(error.contains("FRONTENDS4 is full"), "{error}");
    // Healing goes on, of what is in force.
    machine.delete_device("beeline0");
    machine.until("the host's port is back", || {
        machine.devices().iter().any(|(name, _)| name == "beeline0")
            && machine.routes().len() == before.0.len()
    });
    assert!(machine.is_degraded());
    assert_eq!((machine.vips(), machine.node_file()), (vec![VIP], before.1));
    assert_eq!(machine.log().matches("FRONTENDS4 is full").count(), 1, "{}", machine.log());

    machine.configure(&with_other_vip());
    machine.until("all is well again", || machine.status().is_some_and(|status| status.last_error.is_none()));
    assert_eq!(machine.vips(), [VIP, OTHER_VIP]);
}

#[test]
fn nothing_is_touched_for_a_configuration_that_does_not_fit() {
    let mut machine = Machine::new();
    let before = (machine.devices(), machine.routes(), machine.nft("list ruleset"));
    machine.configure(&with_too_many_frontends());
    machine.start();
    machine.until("the error is shown", || machine.error().contains("FRONTENDS4 is full"));
    assert_eq!((machine.devices(), machine.routes(), machine.nft("list ruleset")), before);
    assert!(!machine.pins().dir().exists());
    assert_eq!(machine.node_file(), None);

    machine.configure(CONFIG);
    machine.until("pods can be wired", || machine.node_file().is_some());
    if AttachMode::Auto.resolve() == AttachMode::Tcx {
        assert!(machine.pins().link("eth0").exists());
    }
}

#[test]
fn an_attachment_that_cannot_be_taken_off_is_tried_again() {
    if AttachMode::Auto.resolve() != AttachMode::Tcx {
        return;
    }
    let mut machine = Machine::new();
    machine.start_ready();
    machine.kill();
    let stubborn = machine.make_stubborn("eth0");
    machine.configure(&format!("{CONFIG}attach: clsact\n"));
    machine.start();
    machine.until("it is told", || machine.log().contains(&stubborn.display().to_string()));
    assert_eq!(machine.node_file().unwrap().attach, AttachMode::Tcx);
    fs::remove_dir(&stubborn).unwrap();
    machine.until("it is off, and node.json says so", || {
        machine.node_file().is_some_and(|node| node.attach == AttachMode::Clsact)
    });
}

#[test]
fn an_agent_without_a_file_waits_for_it() {
    let mut machine = Machine::new();
    fs::remove_file(machine.path("node.yaml")).unwrap();
    machine.start();
    machine.until("the lack is told", || machine.log().contains("node.yaml is not there; write it"));
    assert_eq!(machine.node_file(), None);
    machine.configure(CONFIG);
    machine.until("pods can be wired", || machine.node_file().is_some());
}

#[test]
fn a_killed_and_restarted_agent_changes_nothing() {
    let mut machine = Machine::new();
    machine.start_ready();
    let before = (machine.devices(), machine.routes(), machine.nft("-a list ruleset"), machine.node_file());
    machine.kill();
    machine.start_ready();
    let after = (machine.devices(), machine.routes(), machine.nft("-a list ruleset"), machine.node_file());
    assert_eq!(after, before);
}

#[test]
fn an_agent_told_to_stop_leaves_everything_in_place() {
    let mut machine = Machine::new();
    machine.start_ready();
    let before = (machine.devices(), machine.routes(), machine.nft("-a list ruleset"), machine.node_file());
    assert!(machine.stop().success());
    let after = (machine.devices(), machine.routes(), machine.nft("-a list ruleset"), machine.node_file());
    assert_eq!(after, before);
    assert_eq!(machine.vips(), [VIP]);
    assert!(machine.log().contains("everything stays in place"), "{}", machine.log());
}

#[test]
fn what_others_remove_comes_back() {
    let mut machine = Machine::new();
    machine.start_ready();
    let whole = machine.routes().len();
    let has = |name: &str| machine.devices().iter().any(|(device, _)| device == name);

    machine.delete_device("beeline0");
    machine.until("the host's port and routes are back", || {
        has("beeline0") && has("beeline0-port") && machine.routes().len() == whole
    });
    machine.delete_device("beeline-vxlan");
    machine.until("the vxlan device is back", || has("beeline-vxlan"));
    machine.nft("flush ruleset");
    machine.until("the masquerade rule is back", || machine.nft("list ruleset").contains("masquerade"));
    let table = machine.nft("list table inet beeline");
    for change in [
        "add table inet beeline { flags dormant ; }",
        "add chain inet beeline other { type nat hook postrouting priority 0 ; }",
    ] {
        machine.nft(change);
        assert_ne!(machine.nft("list table inet beeline"), table, "{change}");
        machine.until(change, || machine.nft("list table inet beeline") == table);
    }
    if AttachMode::Auto.resolve() == AttachMode::Tcx {
        let pin = machine.pins().link("eth0");
        fs::remove_file(&pin).unwrap();
        machine.until("the program is back on the uplink", || pin.exists());
    }
    fs::remove_dir_all(machine.pins().dir()).unwrap();
    machine.until("all pins are back", || machine.vips() == [VIP]);
}

#[test]
fn a_lost_uplink_is_told_and_taken_again() {
    let mut machine = Machine::new();
    machine.start_ready();
    machine.delete_device("eth0");
    machine.until("it is told", || machine.log().contains("no device holds 192.168.77.1"));
    machine.netlink(async |netlink| {
        let lo = netlink.require_link("lo").await.unwrap();
        netlink.set_up(lo.index).await.unwrap();
        netlink.add_address(lo.index, "192.168.77.1/32".parse().unwrap()).await.unwrap();
    });
    machine.until("the device that holds the address now is the uplink", || {
        machine.node_file().is_some_and(|node| node.uplink == "lo")
    });
}

#[test]
fn a_renamed_uplink_is_followed_and_keeps_its_program() {
    let mut machine = Machine::new();
    machine.start_ready();
    let tcx = AttachMode::Auto.resolve() == AttachMode::Tcx;
    let pin = tcx.then(|| machine.pin_number("eth0"));
    for args in ["link set eth0 down", "link set eth0 name ens3", "link set ens3 up"] {
        machine.ip(args);
    }
    machine.until("node.json names it", || machine.node_file().is_some_and(|node| node.uplink == "ens3"));
    machine.until("all is well", || machine.status().is_some_and(|status| status.state == State::Ready));
    assert!(!machine.pins().link("eth0").exists());
    assert_eq!(tcx.then(|| machine.pin_number("ens3")), pin, "the program was off for a while");
    machine.configure(&with_other_vip());
    machine.until("changes are applied", || machine.vips() == [VIP, OTHER_VIP]);
}

#[test]
fn an_uplink_without_the_nodes_address_is_told() {
    let mut machine = Machine::new();
    let named = format!("{CONFIG}uplink: eth0\n");
    machine.configure(&named);
    machine.start_ready();

    machine.configure(&named.replace("192.168.77.1,", "192.168.77.99,"));
    machine.until("it is told that nobody has it", || {
        machine.error().contains("no device holds 192.168.77.99") && machine.is_degraded()
    });
    machine.ip("address add 192.168.77.99/32 dev wire");
    machine.until("it is told who has it", || machine.error().contains("name `wire` as `uplink`"));
    machine.ip("address del 192.168.77.99/32 dev wire");
    machine.ip("address add 192.168.77.99/32 dev lo");
    machine.until("the machine as a whole may have it", || machine.error().is_empty());
}

#[test]
fn pods_with_too_large_an_mtu_are_told() {
    let mut machine = Machine::new();
    machine.start_ready();
    let port = "bl0123456789abc";
    machine.add_veth(port, "pod");
    machine.ip(&format!("link set {port} mtu 1450"));
    machine.ip("link set eth0 mtu 1300");
    machine.until("the port is named", || machine.error().contains(port) && machine.is_degraded());
    machine.until("the MTU follows", || machine.status().is_some_and(|status| status.mtu == Some(1250)));
    machine.delete_device(port);
    machine.until("all is well", || machine.error().is_empty());
}

#[test]
fn nothing_of_others_is_touched() {
    let mut machine = Machine::new();
    machine.nft("add table ip other");
    let eth0 = machine.devices().iter().find(|(name, _)| name == "eth0").unwrap().1;
    let foreign = Route {
        to: "10.96.0.10/32".parse().unwrap(),
        via: None,
        oif: eth0,
        onlink: false,
        src: None,
        protocol: 4,
    };
    machine.netlink(async |netlink| netlink.replace_route(&foreign).await.unwrap());
    machine.start();
    machine.until("the conflict is told", || machine.log().contains("ip route del 10.96.0.10/32"));
    machine.until("pods can be wired all the same", || machine.node_file().is_some());
    assert!(machine.routes().contains(&format!("10.96.0.10/32 {eth0} 4")));
    machine.kill();
    assert!(machine.run("uninstall").status.success());
    assert!(machine.routes().contains(&format!("10.96.0.10/32 {eth0} 4")));
    assert_eq!(machine.nft("list tables").trim(), "table ip other");
}

#[test]
fn uninstalling_leaves_the_machine_as_it_was() {
    let mut machine = Machine::new();
    let before = (machine.devices(), machine.routes(), machine.nft("list ruleset"));
    machine.start_ready();

    let refused = machine.run("uninstall");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another beelined"), "{refused:?}");
    machine.kill();
    machine.keep_addresses();
    for half_written in ["node.json.new", "status.json.new"] {
        fs::write(machine.runtime_dir().join(half_written), "{").unwrap();
    }
    let done = machine.run("uninstall");
    assert!(done.status.success(), "{done:?}");
    assert_eq!((machine.devices(), machine.routes(), machine.nft("list ruleset")), before);
    assert!(!machine.pins().dir().exists());
    assert!(!machine.runtime_dir().exists());
    let again = machine.run("uninstall");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing of Beeline is here"), "{again:?}");
}

#[test]
fn uninstalling_keeps_the_addresses_of_pods_that_are_still_wired() {
    let mut machine = Machine::new();
    machine.start_ready();
    machine.kill();
    machine.keep_addresses();
    let port = "bl0123456789abc";
    machine.add_veth(port, "pod");

    let done = machine.run("uninstall");
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout);
    let store = machine.runtime_dir().join("ipam");
    assert!(
        said.contains("left: pods that are still wired") && said.contains(&store.display().to_string()),
        "{said}"
    );
    assert!(store.exists());

    machine.delete_device(port);
    assert!(machine.run("uninstall").status.success());
    assert!(!machine.runtime_dir().exists());
}

#[test]
fn uninstalling_removes_all_that_can_be_removed() {
    let mut machine = Machine::new();
    let before = (machine.devices(), machine.routes(), machine.nft("list ruleset"));
    machine.start_ready();
    machine.kill();
    let stubborn = machine.make_stubborn("eth0");

    let done = machine.run("uninstall");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains(&stubborn.display().to_string()), "{done:?}");
    assert_eq!((machine.devices(), machine.routes(), machine.nft("list ruleset")), before);
    assert!(!machine.pins().programs().exists() && !machine.pins().maps().exists());
    assert!(!machine.runtime_dir().exists());

    fs::remove_dir(&stubborn).unwrap();
    assert!(machine.run("uninstall").status.success());
    assert!(!machine.pins().dir().exists());
}

#[test]
fn a_dual_stack_node_is_set_up_healed_and_made_ipv4_again() {
    let mut machine = Machine::new();
    let sysctl =
        |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}")).unwrap().trim().to_owned();
    assert_eq!((sysctl("all/forwarding"), sysctl("eth0/accept_ra")), ("0".into(), "1".into()));
    machine.configure(&dual_stack());
    machine.start_ready();

    let node = machine.node_file().unwrap();
    let gateways: Vec<_> = node.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(
        (gateways, node.pod_cidrs.len()),
        (vec!["10.244.1.1".to_owned(), "fd00:10:244:1::1".to_owned()], 2)
    );
    let whole = machine.ipv6();
    for part in [
        "fd00:10:244:1::1/128",
        "fd00:10:244:1::/64 via fe80::1",
        "fd00:10:244:2::/64 via fe80::1",
        "PERMANENT",
    ] {
        assert!(whole.contains(part), "{part} in {whole}");
    }
    let table = machine.nft("list table inet beeline");
    assert!(
        table.contains("ip saddr 10.244.1.0/24") && table.contains("ip6 saddr fd00:10:244:1::/64"),
        "{table}"
    );
    assert_eq!((sysctl("all/forwarding"), sysctl("eth0/accept_ra")), ("1".into(), "2".into()));

    for damage in [
        "-6 address flush dev beeline0 scope global",
        "-6 route flush proto 190",
        "-6 neighbour del fe80::1 dev beeline0",
    ] {
        machine.ip(damage);
        assert_ne!(machine.ipv6(), whole, "{damage}");
        machine.until(damage, || machine.ipv6() == whole);
    }
    machine.configure(CONFIG);
    machine.until("nothing of IPv6 is left", || !machine.ipv6().contains("fd00:"));
    machine.until("nor in the masquerade", || !machine.nft("list table inet beeline").contains("ip6"));
    assert_eq!(machine.vips(), [VIP]);
}

#[test]
fn a_table_of_an_earlier_release_goes() {
    let mut machine = Machine::new();
    machine.nft("add table ip beeline");
    machine.start_ready();
    assert_eq!(machine.nft("list tables").trim(), "table inet beeline");
}
