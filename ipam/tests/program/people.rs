//! What people see: help, leases, how full the ranges are.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::network::{Network, answer};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_beeline-ipam"))
        .args(arguments)
        .env_remove("CNI_COMMAND")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn shown(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn leases_and_usage_are_shown_as_tables_and_as_json() {
    let network =
        Network::new(&json!({ "ranges": [[{ "subnet": "10.1.0.0/29" }], [{ "subnet": "fd00:1::/64" }]] }));
    let dir = network.dir.path().to_str().unwrap();
    let named = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
    assert!(answer(network.command("ADD", "0123456789abcdef").env("CNI_ARGS", named)).success);
    for id in ["b", "c"] {
        network.add(id);
    }
    network.del("b");

    let list = shown(&["list", "--data-dir", dir]);
    let lines: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NETWORK", "ADDRESSES", "POD", "CONTAINER", "INTERFACE", "AGE"]);
    assert_eq!(lines[1][..5], ["lan", "10.1.0.2,fd00:1::2", "default/web", "0123456789abc", "eth0"]);
    assert_eq!(lines[2][..5], ["lan", "10.1.0.4,fd00:1::4", "-", "c", "eth0"]);
    assert_eq!(lines.len(), 3);

    let stats = shown(&["stats", "--data-dir", dir]);
    let lines: Vec<Vec<_>> = stats.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["lan", "10.1.0.0/29", "5", "2", "1", "2", "0"]);
    assert_eq!(lines[2][..2], ["lan", "fd00:1::/64"]);

    let list: Value = serde_json::from_str(&shown(&["list", "--output", "json", "--data-dir", dir])).unwrap();
    assert_eq!(list[0]["containerId"], "0123456789abcdef");
    assert_eq!(list[0]["addresses"], json!(["10.1.0.2", "fd00:1::2"]));
    let stats: Value =
        serde_json::from_str(&shown(&["stats", "--output", "json", "--data-dir", dir])).unwrap();
    assert_eq!(stats[0]["sets"][0], json!({ "ranges": "10.1.0.0/29", "size": 5, "held": 2, "resting": 1 }));
}

#[test]
fn help_says_how_to_use_it_and_mistakes_point_there() {
    let help = shown(&["--help"]);
    for word in ["list", "stats", "exclude", "cooldown", "\"type\": \"beeline-ipam\""] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for mistake in [&["lost"][..], &["list", "--data-dir", "/nowhere/at/all"]] {
        let output = run(mistake);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{output:?}");
    }
}
