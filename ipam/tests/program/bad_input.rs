//! Calls that make no sense: each has its code, and words to act on.

use std::time::Instant;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    network::{Network, answer, command_of, with_input},
    until,
};

#[test]
fn configurations_that_make_no_sense_say_why() {
    let network = Network::of("10.1.0.0/24");
    let ipam = |ipam: Value| {
        let mut config = network.config.clone();
        config["ipam"] = ipam;
        config
    };
    let of_range = |range: Value| ipam(json!({ "type": "beeline-ipam", "ranges": [[range]] }));
    for (config, code, words) in [
        (network.with("cniVersion", json!("0.2.0")), 1, "0.2.0"),
        (network.with("ipam", Value::Null), 7, "there is none"),
        (ipam(json!({ "type": "beeline-ipam" })), 7, "it names no addresses to give; add"),
        (of_range(json!({ "subnet": "10.1.0.0/33" })), 7, "`ranges` cannot be read"),
        (
            of_range(json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1" })),
            7,
            "rangeStart 10.2.0.1 is not in",
        ),
        (of_range(json!({ "subnet": "10.1.0.0/24", "excludes": [] })), 7, "unknown field `excludes`"),
        (
            ipam(json!({ "type": "beeline-ipam", "dataDir": "here", "subnet": "10.1.0.0/24" })),
            7,
            "`dataDir` is",
        ),
        (
            ipam(json!({ "type": "beeline-ipam", "subnet": "10.1.0.0/24", "routes": [{}] })),
            7,
            "`routes` cannot be",
        ),
        (
            ipam(json!({ "type": "beeline-ipam", "subnet": "10.1.0.0/24", "cooldown": "x" })),
            7,
            "`cooldown` cannot",
        ),
        (network.with("runtimeConfig", json!({ "ipRanges": [[{}]] })), 7, "`ipRanges` cannot be read"),
        (network.with("runtimeConfig", json!({ "ips": ["x"] })), 7, "runtimeConfig.ips"),
        (network.with("name", json!("../escape")), 7, "../escape"),
    ] {
        answer(&mut command_of(&config, "ADD", "a")).assert_error(code, words);
    }
    answer(with_input(b"{").env("CNI_COMMAND", "STATUS")).assert_error(6, "not a JSON object");
    answer(&mut with_input(b"")).assert_error(4, "CNI_COMMAND is not set");
    answer(with_input(b"{}").env("CNI_COMMAND", "ADD"))
        .assert_error(4, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME");
    assert!(!network.dir.path().join("lan").exists(), "a refused call made a store");
}

/// Changes one value of the configuration, however deep, into something else.
fn spoiled(config: &Value, path: &[prop::sample::Index], with: &Value) -> Value {
    let mut config = config.clone();
    let mut at = &mut config;
    for step in path {
        let inner: Vec<&mut Value> = match at {
            Value::Object(fields) => fields.values_mut().collect(),
            Value::Array(items) => items.iter_mut().collect(),
            _ => break,
        };
        if inner.is_empty() {
            return config;
        }
        let chosen = step.index(inner.len());
        at = inner.into_iter().nth(chosen).unwrap();
    }
    *at = with.clone();
    config
}

#[test]
fn whatever_comes_is_answered_in_words() {
    let until = until();
    let network = Network::new(&json!({
        "ranges": [[{ "subnet": "10.1.0.0/24", "exclude": ["10.1.0.9"], "gateway": "10.1.0.1" }]],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }], "dns": { "nameservers": ["10.0.0.1"] }, "cooldown": 5,
    }));
    let mut config = network.config.clone();
    config["runtimeConfig"] = json!({ "ips": ["10.1.0.7"], "ipRanges": [[{ "subnet": "fd00::/64" }]] });
    config["args"] = json!({ "cni": { "ips": ["fd00::7"] } });
    config["prevResult"] = json!({ "ips": [{ "address": "10.1.0.7/24" }] });
    let value = prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("0.0.0.0/0"),
        json!("::/0"),
        json!("\0/.."),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!("10.1.0.0/32"),
        json!("ffff::"),
        json!(18_446_744_073_709_551_615_u64),
    ]);
    let path = prop::collection::vec(any::<prop::sample::Index>(), 1..6);
    let command = prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]);
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        let result = runner.run(&(command.clone(), path.clone(), value.clone()), |(command, path, value)| {
            let mut config = spoiled(&config, &path, &value);
            if config["ipam"].is_object() {
                // Never the machine's own.
                config["ipam"]["dataDir"] = network.config["ipam"]["dataDir"].clone();
            } else {
                config["ipam"] = json!(7);
            }
            let answer = answer(&mut command_of(&config, command, "a"));
            if !answer.success {
                let code = answer.json["code"].as_u64().unwrap_or_default();
                prop_assert!((1..199).contains(&code), "{answer:?}");
                prop_assert!(!answer.json["msg"].as_str().unwrap_or_default().is_empty(), "{answer:?}");
            }
            Ok(())
        });
        result.unwrap_or_else(|e| panic!("{e}"));
        rounds += 1;
    }
}
