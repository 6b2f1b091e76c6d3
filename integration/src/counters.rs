//! What a node's own IP stack saw of either family: its IP counters, an nftables counter on every hook, and its
//! conntrack table. If all of it stands still while packets pass, they passed it by.
//!
//! IPv6 multicast is left out: it is the kernel's own talk about its devices (RFC 4861, RFC 3810), and carries nothing
//! of pods'.

use std::{
    collections::HashSet,
    fmt::{self, Write},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::Netns;

/// Netfilter's hooks for IP packets, in a packet's order.
pub const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// Counters of a host's stack at one moment, or how much they grew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStack {
    /// IP packets taken in (`InReceives`).
    pub received: u64,
    /// IP packets delivered to a socket or protocol (`InDelivers`).
    pub delivered: u64,
    /// IP packets routed onwards (`ForwDatagrams`).
    pub forwarded: u64,
    /// IP packets sent by the host itself (`OutRequests`).
    pub sent: u64,
    /// Packets at each of [`HOOKS`].
    pub hooks: [u64; 5],
    /// Connections tracked; of a growth, those that were not there before.
    pub conntrack: Vec<String>,
}

impl HostStack {
    /// How much grew since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let old: HashSet<_> = before.conntrack.iter().map(|entry| tuple(entry)).collect();
        let mut hooks = self.hooks;
        for (hook, before) in hooks.iter_mut().zip(before.hooks) {
            *hook -= before;
        }
        Self {
            received: self.received - before.received,
            delivered: self.delivered - before.delivered,
            forwarded: self.forwarded - before.forwarded,
            sent: self.sent - before.sent,
            hooks,
            conntrack: self.conntrack.iter().filter(|entry| !old.contains(&tuple(entry))).cloned().collect(),
        }
    }

    /// True if no packet touched the stack.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// Packets at hook `name`; 0 for a name that is no hook.
    #[must_use]
    pub fn hook(&self, name: &str) -> u64 {
        HOOKS.iter().position(|hook| *hook == name).map_or(0, |at| self.hooks[at])
    }
}

/// What a namespace's IP layer has taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Packets.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
}

impl Received {
    /// How much came since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }

    /// Bytes a packet on average.
    #[must_use]
    pub fn mean_size(self) -> u64 {
        self.bytes / self.packets.max(1)
    }
}

impl fmt::Display for HostStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, delivered, forwarded, sent, .. } = self;
        write!(
            f,
            "IP received {received}, delivered {delivered}, forwarded {forwarded}, sent {sent}; hooks"
        )?;
        for (hook, count) in HOOKS.iter().zip(self.hooks) {
            write!(f, " {hook} {count}")?;
        }
        write!(f, "; conntrack {}", self.conntrack.len())?;
        self.conntrack.iter().take(5).try_for_each(|entry| write!(f, "\n    {entry}"))
    }
}

impl Netns {
    /// Puts a counter on every hook, before all other rules.
    ///
    /// # Errors
    /// If nftables refuses.
    pub fn watch_hooks(&self) -> Result<()> {
        let mut rules = String::from("table inet watch {\n");
        for hook in HOOKS {
            let chain = format!(
                "type filter hook {hook} priority -500\nip6 daddr ff00::/8 accept\ncounter name {hook}"
            );
            write!(rules, "counter {hook} {{\n}}\nchain at_{hook} {{\n{chain}\n}}\n")?;
        }
        self.nft(&(rules + "}\n"))
    }

    /// The host stack's counters as they are; [`Netns::watch_hooks`] first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn host_stack(&self) -> Result<HostStack> {
        // Absent on kernels without CONFIG_NF_CONNTRACK_PROCFS.
        let conntrack = match self.run(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack"))? {
            Ok(table) => table,
            Err(_) => self.exec("conntrack -L -f ipv4")? + &self.exec("conntrack -L -f ipv6")?,
        };
        let ip = IpCounters::read(self)?;
        Ok(HostStack {
            received: ip.of("InReceives", "InReceives") - ip.of6("InMcastPkts"),
            delivered: ip.of("InDelivers", "InDelivers"),
            forwarded: ip.of("ForwDatagrams", "OutForwDatagrams"),
            sent: ip.of("OutRequests", "OutRequests") - ip.of6("OutMcastPkts"),
            hooks: self.hook_counters()?,
            conntrack: conntrack.lines().map(str::to_owned).collect(),
        })
    }

    /// What this namespace's IP layer has taken in. Packets that were merged or not yet cut (GRO, GSO) count as one.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn received(&self) -> Result<Received> {
        let ip = IpCounters::read(self)?;
        Ok(Received {
            packets: ip.of("InReceives", "InReceives") - ip.of6("InMcastPkts"),
            bytes: ip.of("InOctets", "InOctets") - ip.of6("InMcastOctets"),
        })
    }

    /// Frames of any kind that `device` received since it was made. Before Linux 6.7 those delivered by
    /// `bpf_redirect_peer` are not among them.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn frames_received_on(&self, device: &str) -> Result<u64> {
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let mut lines =
            table.lines().filter_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'));
        let packets = lines.next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        packets.with_context(|| format!("{} has no device {device}", self.name()))
    }

    fn hook_counters(&self) -> Result<[u64; 5]> {
        let listing: Value = serde_json::from_str(&self.exec("nft -j list counters table inet watch")?)
            .context("nft's JSON cannot be read")?;
        let objects = listing["nftables"].as_array().context("nft's JSON is not as expected")?;
        Ok(HOOKS.map(|hook| {
            let mut counters = objects.iter().map(|object| &object["counter"]);
            counters.find(|counter| counter["name"] == hook).and_then(|c| c["packets"].as_u64()).unwrap_or(0)
        }))
    }
}

/// The IP counters of a namespace.
struct IpCounters {
    /// `snmp` and `netstat`, whose groups are `Ip` and `IpExt`.
    v4: String,
    /// `snmp6`; empty where the kernel has no IPv6.
    v6: String,
}

impl IpCounters {
    fn read(netns: &Netns) -> Result<Self> {
        let read = |file: &str| fs::read_to_string(Path::new("/proc/thread-self/net").join(file));
        let (snmp, netstat, v6) = netns.run(|| (read("snmp"), read("netstat"), read("snmp6")))?;
        let v4 = snmp.context("cannot read IP counters")? + &netstat.context("cannot read IP counters")?;
        Ok(Self { v4, v6: v6.unwrap_or_default() })
    }

    /// What IPv4 counts as `v4` and IPv6 as `v6`, together.
    fn of(&self, v4: &str, v6: &str) -> u64 {
        counter(&self.v4, "Ip", v4) + counter(&self.v4, "IpExt", v4) + self.of6(v6)
    }

    /// What IPv6 counts as `name`.
    fn of6(&self, name: &str) -> u64 {
        let mut lines = self.v6.lines().filter_map(|line| line.strip_prefix("Ip6")?.strip_prefix(name));
        lines.find_map(|rest| rest.starts_with([' ', '\t']).then(|| rest.trim().parse().ok())?).unwrap_or(0)
    }
}

/// What names a conntrack entry: its addresses, without the time it has left.
fn tuple(entry: &str) -> Vec<&str> {
    let names = |word: &&str| ["src=", "dst=", "sport=", "dport="].iter().any(|key| word.starts_with(key));
    entry.split_whitespace().filter(names).collect()
}

/// The counter `name` of `group` in a file such as `/proc/net/snmp`, where a line of names is followed by one of
/// values; 0 if this kernel does not have it.
fn counter(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(n, _)| *n == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_group_and_name() {
        let snmp = "Ip: Forwarding InReceives\nIp: 1 42\nIcmp: InReceives\nIcmp: 9\n";
        assert_eq!(counter(snmp, "Ip", "InReceives"), 42);
        assert_eq!(counter(snmp, "Icmp", "InReceives"), 9);
        assert_eq!(counter(snmp, "Ip", "Nonsense"), 0);
        let v6 = "Ip6InReceives                   \t7\nIp6InReceivesOther\t5\nIp6OutForwDatagrams\t1\n";
        let both = IpCounters { v4: snmp.into(), v6: v6.into() };
        assert_eq!((both.of("InReceives", "InReceives"), both.of6("OutForwDatagrams")), (49, 1));
        assert_eq!(IpCounters { v6: String::new(), ..both }.of("InReceives", "InReceives"), 42);
    }

    #[test]
    fn only_connections_that_are_new_count() {
        let stack = |entries: &[&str]| HostStack {
            conntrack: entries.iter().map(|entry| (*entry).to_owned()).collect(),
            ..HostStack::default()
        };
        let before = stack(&["udp 17 29 src=1.1.1.1 dst=1.1.1.2 sport=1 dport=2"]);
        let after = stack(&[
            "udp 17 28 src=1.1.1.1 dst=1.1.1.2 sport=1 dport=2",
            "udp 17 30 src=1.1.1.1 dst=1.1.1.2 sport=3 dport=2",
        ]);
        assert_eq!(after.since(&before).conntrack, after.conntrack[1..]);
    }
}
