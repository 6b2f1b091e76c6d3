//! What may be asked for: addresses, in three places; ranges; the flat form; resolver settings; the rest.

use serde_json::json;

use crate::network::{Network, answer, command_of};

#[test]
fn an_address_can_be_asked_for_in_three_places() {
    let network = Network::of("10.1.0.0/24");
    let by_variable = answer(network.command("ADD", "a").env("CNI_ARGS", "IgnoreUnknown=1;IP=10.1.0.77"));
    assert_eq!(by_variable.addresses(), ["10.1.0.77/24"]);
    let by_args = network.with("args", json!({ "cni": { "ips": ["10.1.0.78"] } }));
    assert_eq!(answer(&mut command_of(&by_args, "ADD", "b")).addresses(), ["10.1.0.78/24"]);
    let by_capability = network.with("runtimeConfig", json!({ "ips": ["10.1.0.79/24"] }));
    assert_eq!(answer(&mut command_of(&by_capability, "ADD", "c")).addresses(), ["10.1.0.79/24"]);
    assert_eq!(network.add("d").addresses(), ["10.1.0.2/24"], "others go on as they were");
}

#[test]
fn an_address_that_cannot_be_given_is_refused_by_name() {
    let network = Network::new(&json!({
        "ranges": [[{ "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99", "exclude": ["10.1.0.64/27"] }]]
    }));
    assert_eq!(network.add("a").addresses(), ["10.1.0.2/24"]);
    for (asked, code, words) in [
        (
            "192.0.2.1",
            105,
            "192.0.2.1 cannot be given: it is outside of 10.1.0.1 to 10.1.0.99 of 10.1.0.0/24",
        ),
        ("10.1.0.100", 105, "10.1.0.100 cannot be given: it is outside of"),
        ("10.1.0.255", 105, "10.1.0.255 cannot be given: it is outside of"),
        ("fd00::1", 105, "fd00::1 cannot be given: it is outside of"),
        ("10.1.0.1", 106, "10.1.0.1 cannot be given: it is a gateway's"),
        ("10.1.0.70", 107, "10.1.0.70 cannot be given: the configuration excludes 10.1.0.64/27"),
        ("10.1.0.2", 108, "10.1.0.2 cannot be given: eth0 of container a holds it"),
        ("10.1.0.5,10.1.0.6", 109, "10.1.0.5 and 10.1.0.6 cannot both be given"),
        ("10.1.0.x", 4, "`10.1.0.x` is no IP address"),
    ] {
        let asked = format!("IP={asked}");
        answer(network.command("ADD", "b").env("CNI_ARGS", &asked)).assert_error(code, words);
    }
    assert_eq!(network.leases().len(), 1);
}

#[test]
fn ranges_that_the_runtime_asks_for_come_first() {
    let network = Network::of("10.1.0.0/24");
    let asked = json!({ "ipRanges": [[{ "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.50" }]] });
    let config = network.with("runtimeConfig", asked);
    assert_eq!(answer(&mut command_of(&config, "ADD", "a")).addresses(), ["10.2.0.50/24", "10.1.0.2/24"]);
    let mut alone = Network::new(&json!({})).config;
    alone["runtimeConfig"] = json!({ "ipRanges": [[{ "subnet": "fd00::/64" }]] });
    assert_eq!(answer(&mut command_of(&alone, "ADD", "a")).addresses(), ["fd00::2/64"]);
}

#[test]
fn a_single_range_may_stand_in_the_section_itself() {
    let network = Network::new(&json!({
        "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.22", "gateway": "10.1.0.254",
        "exclude": ["10.1.0.21"],
    }));
    assert_eq!(network.add("a").addresses(), ["10.1.0.20/24"]);
    let answer = network.add("b");
    assert_eq!(
        (answer.addresses(), &answer.json["ips"][0]["gateway"]),
        (vec!["10.1.0.22/24"], &json!("10.1.0.254"))
    );
    network.add("c").assert_error(100, "all 2 that pods can have are held");
}

#[test]
fn resolver_settings_come_from_a_file_if_one_is_named() {
    let mut network = Network::of("10.1.0.0/24");
    let file = network.dir.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 10.0.0.53\nsearch a b\noptions ndots:5\n").unwrap();
    network.config["ipam"]["resolvConf"] = json!(file);
    let expected = json!({ "nameservers": ["10.0.0.53"], "search": ["a", "b"], "options": ["ndots:5"] });
    assert_eq!(network.add("a").json["dns"], expected);
    std::fs::remove_file(&file).unwrap();
    network.add("b").assert_error(5, "cannot read the configuration's `ipam.resolvConf`");
    assert_eq!(network.leases().len(), 1, "a refused ADD holds an address");
}

#[test]
fn an_address_rests_unless_the_configuration_says_otherwise() {
    let mut network = Network::of("10.1.0.0/24");
    let in_use = |network: &Network| {
        let store = network.store();
        let usage = store.usage(&store.sets().unwrap()[0]).unwrap();
        (usage.held, usage.resting)
    };
    network.add("a");
    network.del("a");
    assert_eq!(in_use(&network), (0, 1));
    network.config["ipam"]["cooldown"] = json!(0);
    network.add("b");
    network.del("b");
    assert_eq!(in_use(&network), (0, 1));
}
