//! What `beelinectl` says about a node.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    binaries,
    node::Node,
    process::{self, Finished},
};

impl Node {
    /// Runs `beelinectl` with these words.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn try_ctl(&self, words: &str) -> Result<Finished> {
        let mut command = self.command(binaries::find("beelinectl")?);
        command.arg("--runtime-dir").arg(self.runtime_dir()).args(words.split_whitespace());
        process::finish(command, "")
    }

    /// What `beelinectl` prints for people.
    ///
    /// # Errors
    /// If it fails.
    pub fn ctl(&self, words: &str) -> Result<String> {
        self.try_ctl(words)?.ok()
    }

    /// What `beelinectl` prints for programs.
    ///
    /// # Errors
    /// If it fails or prints no JSON.
    pub fn ctl_json(&self, words: &str) -> Result<Value> {
        let text = self.ctl(&format!("--output json {words}"))?;
        serde_json::from_str(&text).with_context(|| format!("beelinectl {words} prints no JSON: {text}"))
    }

    /// What `beelinectl status` says, for programs; it exits with 1 where somebody should look.
    ///
    /// # Errors
    /// If it prints no JSON.
    pub fn ctl_status(&self) -> Result<Value> {
        let said = self.try_ctl("--output json status")?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("beelinectl status prints no JSON: {said:?}"))
    }

    /// Packets dropped, by the reason's name.
    ///
    /// # Errors
    /// If `beelinectl` fails.
    pub fn drops(&self) -> Result<Counts> {
        counts(&self.ctl_json("drops")?["drops"], "reason")
    }

    /// Packets forwarded, by the way's name.
    ///
    /// # Errors
    /// If `beelinectl` fails.
    pub fn hops(&self) -> Result<Counts> {
        counts(&self.ctl_json("hops")?["hops"], "hop")
    }
}

/// Packets by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// How many `name` counts.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What grew since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().map(|(name, count)| (name.clone(), count - before.of(name)));
        Self(grown.filter(|(_, count)| *count > 0).collect())
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// All of them together but `multicast`, of packets dropped: kernels tell by IPv6 of the groups that they are in
    /// (RFC 3810: when asked, when that changes, and again some time later), which no test has a say in and no port lets out.
    #[must_use]
    pub fn total_but_multicast(&self) -> u64 {
        self.total() - self.of("multicast")
    }

    /// Names and counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

/// Reads a list of objects, each with a name under `key` and its packets.
fn counts(list: &Value, key: &str) -> Result<Counts> {
    let list = list.as_array().with_context(|| format!("no list of {key}s: {list}"))?;
    let one = |entry: &Value| Some((entry[key].as_str()?.to_owned(), entry["packets"].as_u64()?));
    let all: Option<BTreeMap<_, _>> = list.iter().map(one).collect();
    all.map(Counts).with_context(|| format!("a {key} without name or packets in {list:?}"))
}
