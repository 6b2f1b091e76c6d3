//! Each command, in each version's form.

use serde_json::{Value, json};

use crate::network::{Network, answer, command_of};

fn dual() -> Network {
    Network::new(&json!({
        "ranges": [[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9" }], [{ "subnet": "fd00:1::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "fd00::/8", "gw": "fd00:1::1", "mtu": 1400 }],
        "dns": { "nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"] },
    }))
}

#[test]
fn add_answers_in_each_versions_form() {
    let network = dual();
    for (i, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
        let config = network.with("cniVersion", json!(version));
        let answer = answer(&mut command_of(&config, "ADD", &format!("c{i}")));
        let mut expected = json!({
            "cniVersion": version,
            "ips": [
                { "address": format!("10.1.0.{}/24", 9 + i), "gateway": "10.1.0.1" },
                { "address": format!("fd00:1::{}/64", 2 + i), "gateway": "fd00:1::1" },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "fd00::/8", "gw": "fd00:1::1" }],
            "dns": { "nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"] },
        });
        if version < "1.0.0" {
            expected["ips"][0]["version"] = json!("4");
            expected["ips"][1]["version"] = json!("6");
        }
        if version == "1.1.0" {
            expected["routes"][1]["mtu"] = json!(1400);
        }
        assert_eq!(answer.json, expected);
    }
}

#[test]
fn version_needs_nothing() {
    for (input, told) in [("", "1.1.0"), (r#"{"cniVersion":"0.4.0"}"#, "0.4.0")] {
        let mut command = crate::network::with_input(input.as_bytes());
        let expected =
            json!({ "cniVersion": told, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
        assert_eq!(answer(command.env("CNI_COMMAND", "VERSION")).json, expected);
    }
}

#[test]
fn a_second_add_is_refused_and_harms_nothing() {
    let network = dual();
    let first = network.add("a");
    network.add("a").assert_error(104, "eth0 of container a already holds 10.1.0.9 and fd00:1::2");
    assert_eq!(network.leases()[0].1, ["10.1.0.9", "fd00:1::2"]);
    assert_eq!(first.addresses(), ["10.1.0.9/24", "fd00:1::2/64"]);
}

#[test]
fn each_interface_of_a_container_has_its_own() {
    let network = Network::of("10.1.0.0/24");
    for (ifname, address) in [("eth0", "10.1.0.2/24"), ("eth1", "10.1.0.3/24")] {
        let answer = answer(network.command("ADD", "a").env("CNI_IFNAME", ifname));
        assert_eq!(answer.addresses(), [address]);
    }
    network.del("a");
    let left: Vec<_> = network.leases().into_iter().map(|(owner, _)| owner.ifname().to_owned()).collect();
    assert_eq!(left, ["eth1"]);
}

#[test]
fn networks_do_not_share_addresses_nor_containers() {
    let network = Network::of("10.1.0.0/24");
    let other = network.with("name", json!("other.lan-2"));
    assert_eq!(network.add("a").addresses(), ["10.1.0.2/24"]);
    assert_eq!(answer(&mut command_of(&other, "ADD", "a")).addresses(), ["10.1.0.2/24"]);
    network.del("a");
    answer(&mut command_of(&other, "ADD", "a")).assert_error(104, "already holds 10.1.0.2");
}

#[test]
fn del_succeeds_again_and_again_and_without_what_it_does_not_need() {
    let network = Network::of("10.1.0.0/24");
    network.del("never-was");
    assert!(!network.dir.path().join("lan").exists(), "DEL made a store");
    network.add("a");
    // Runtimes delete with what they have: no namespace, arguments nobody knows, ranges that make no sense by now.
    let mut config = network.config.clone();
    config["ipam"]["ranges"] = json!([[{ "subnet": "nonsense" }]]);
    let mut command = command_of(&config, "DEL", "a");
    let deleted = answer(command.env_remove("CNI_NETNS").env("CNI_ARGS", "what;is=this"));
    assert!(deleted.success, "{deleted:?}");
    assert_eq!(network.leases(), []);
    network.del("a");
}

#[test]
fn check_finds_what_is_not_held_or_was_not_told() {
    let network = dual();
    let result = network.add("a").json;
    let check = |id: &str, result: &Value| {
        answer(&mut command_of(&network.with("prevResult", result.clone()), "CHECK", id))
    };
    assert!(check("a", &result).success);
    // Main plugins told the runtime where the addresses are, in whatever order.
    let mut of_main_plugin = result.clone();
    of_main_plugin["interfaces"] = json!([{ "name": "eth0", "sandbox": "/run/netns/a" }]);
    of_main_plugin["ips"].as_array_mut().unwrap().reverse();
    assert!(check("a", &of_main_plugin).success);
    let mut other = result.clone();
    other["ips"][0]["address"] = json!("10.1.0.10/24");
    check("a", &other).assert_error(110, "holds 10.1.0.9, which its prevResult does not have");
    check("b", &result).assert_error(3, "eth0 of container b holds no address");
    network.del("a");
    check("a", &result).assert_error(3, "eth0 of container a holds no address");
}

#[test]
fn gc_keeps_what_is_valid_in_either_spelling() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let network = Network::of("10.1.0.0/24");
        for id in ["a", "b", "c"] {
            network.add(id);
        }
        let valid =
            json!([{ "containerID": "b", "ifname": "eth0" }, { "containerID": "c", "ifname": "eth9" }]);
        let mut gc = command_of(&network.with(key, valid), "GC", "");
        let collected =
            answer(gc.env_remove("CNI_CONTAINERID").env_remove("CNI_IFNAME").env_remove("CNI_NETNS"));
        assert!(collected.success && collected.json.is_null(), "{collected:?}");
        assert_eq!(
            network.leases(),
            [(beeline_ipam::Owner::new("b", "eth0").unwrap(), vec!["10.1.0.3".into()])]
        );
    }
}

#[test]
fn gc_that_names_nothing_valid_takes_nothing_that_lives() {
    let network = Network::of("10.1.0.0/24");
    network.add("a");
    assert!(answer(&mut network.command("GC", "")).success);
    assert_eq!(network.leases().len(), 1);
    let none_valid = network.with("cni.dev/valid-attachments", json!([]));
    assert!(answer(&mut command_of(&none_valid, "GC", "")).success);
    assert_eq!(network.leases(), []);
}

#[test]
fn status_tells_of_an_exhausted_range_until_something_is_free() {
    let network =
        Network::new(&json!({ "ranges": [[{ "subnet": "fd00:1::/64" }], [{ "subnet": "10.1.0.0/30" }]] }));
    let status = || answer(&mut network.command("STATUS", ""));
    assert!(status().success, "no store is as good as an empty one");
    assert!(!network.dir.path().join("lan").exists(), "STATUS made a store");
    network.add("a");
    status().assert_error(50, "no free address in 10.1.0.0/30: all 1 that pods can have are held");
    network.add("b").assert_error(100, "no free address in 10.1.0.0/30");
    network.del("a");
    assert!(status().success, "what rests can be given");
    assert_eq!(network.add("b").addresses()[1], "10.1.0.2/30");
}

#[test]
fn a_damaged_store_is_told_by_every_command() {
    let network = Network::of("10.1.0.0/24");
    network.add("a");
    let boot = network.dir.path().join("lan").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let boot = boot.into_iter().find(|path| path.is_dir()).unwrap();
    std::fs::write(boot.join("data.mdb"), vec![7; 20_000]).unwrap();
    for (command, code) in [("ADD", 5), ("DEL", 5), ("CHECK", 5), ("GC", 5), ("STATUS", 5)] {
        answer(&mut network.command(command, "a")).assert_error(code, "is damaged");
    }
}
