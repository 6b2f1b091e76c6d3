//! A network whose addresses `beeline-ipam` gives, with a folder of its own, and calls for it.

use std::{
    fs::File,
    io::{Seek, Write},
    process::{Command, Stdio},
};

use beeline_ipam::{Owner, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A network.
pub(crate) struct Network {
    pub(crate) dir: TempDir,
    pub(crate) config: Value,
}

/// What a call answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    /// `null` if nothing was printed.
    pub(crate) json: Value,
}

impl Answer {
    /// The addresses given, each with the length of its subnet.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        assert!(self.success, "{self:?}");
        self.json["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect()
    }

    /// Asserts that it is an error of this code whose message has these words.
    pub(crate) fn assert_error(&self, code: u64, words: &str) {
        assert!(!self.success, "{self:?}");
        assert_eq!(self.json["code"], code, "{self:?}");
        assert!(self.json["msg"].as_str().unwrap().contains(words), "{self:?}");
    }
}

impl Network {
    /// A network of the newest version with these keys in its `ipam` section.
    pub(crate) fn new(ipam: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({ "cniVersion": "1.1.0", "name": "lan", "type": "bridge", "ipam": ipam });
        config["ipam"]["type"] = json!("beeline-ipam");
        config["ipam"]["dataDir"] = json!(dir.path());
        Self { dir, config }
    }

    /// One that gives addresses of `subnet`.
    pub(crate) fn of(subnet: &str) -> Self {
        Self::new(&json!({ "ranges": [[{ "subnet": subnet }]] }))
    }

    /// The same with `key` of the configuration set.
    pub(crate) fn with(&self, key: &str, value: Value) -> Value {
        let mut config = self.config.clone();
        config[key] = value;
        config
    }

    /// A call for interface `eth0` of container `id`, ready to be started or changed.
    pub(crate) fn command(&self, command: &str, id: &str) -> Command {
        command_of(&self.config, command, id)
    }

    pub(crate) fn add(&self, id: &str) -> Answer {
        answer(&mut self.command("ADD", id))
    }

    pub(crate) fn del(&self, id: &str) {
        let answer = answer(&mut self.command("DEL", id));
        assert!(answer.success && answer.json.is_null(), "{answer:?}");
    }

    /// The network's store.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.dir.path().join("lan")).unwrap()
    }

    /// Who holds what, ordered by owner.
    pub(crate) fn leases(&self) -> Vec<(Owner, Vec<String>)> {
        let leases = self.store().leases().unwrap().into_iter();
        let texts = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
        leases.map(|(owner, lease)| (owner, texts(&lease.addresses))).collect()
    }
}

/// As [`Network::command`], with another configuration.
pub(crate) fn command_of(config: &Value, command: &str, id: &str) -> Command {
    let mut started = with_input(config.to_string().as_bytes());
    started
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/none"),
        ])
        .env("CNI_NETNS", "/proc/self/ns/net");
    started
}

/// The program with these bytes on standard input and nothing of ours in its environment.
pub(crate) fn with_input(input: &[u8]) -> Command {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_beeline-ipam"));
    command.env_clear().stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Answer { success: output.status.success(), json }
}
