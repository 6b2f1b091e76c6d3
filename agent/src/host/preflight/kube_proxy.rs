//! What a kube-proxy leaves on a node when it is taken off: rules that go on answering for services as they were then.

use std::path::Path;

use nftables::helper;
use serde_json::Value;

/// The device that kube-proxy's IPVS mode binds VIPs to.
const IPVS: &str = "kube-ipvs0";
/// The chain that its iptables mode begins with.
const SERVICES: &str = "KUBE-SERVICES";
/// The table of its nftables mode.
const TABLE: &str = "kube-proxy";

/// `Err` with the cure if something of a kube-proxy is here: left over, or of one that runs.
pub(super) fn left() -> Result<String, String> {
    let ruleset =
        helper::get_current_ruleset_raw(helper::DEFAULT_NFT, ["list", "chains"]).unwrap_or_default();
    let mut found = rules(&ruleset);
    if Path::new("/sys/class/net").join(IPVS).exists() {
        found.push(format!("device {IPVS}"));
    }
    if found.is_empty() {
        return Ok("no rules of one are here".to_owned());
    }
    Err(format!(
        "rules of a kube-proxy are here ({}); Beeline's services pass them by, but what the host does for others may \
         meet services that are no more: if it does not run beside Beeline on purpose, remove it, and run \
         `kube-proxy --cleanup` on the node",
        found.join(", ")
    ))
}

/// Tables that hold a kube-proxy's rules, from the JSON of `nft list chains`. iptables of today is nftables underneath.
fn rules(ruleset: &str) -> Vec<String> {
    let ruleset: Value = serde_json::from_str(ruleset).unwrap_or_default();
    let chains = ruleset["nftables"].as_array().into_iter().flatten().map(|item| &item["chain"]);
    let mut tables: Vec<_> = chains
        .filter(|chain| chain["name"] == SERVICES || chain["table"] == TABLE)
        .filter_map(|chain| Some(format!("table {} {}", chain["family"].as_str()?, chain["table"].as_str()?)))
        .collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_both_modes_are_found_and_nobody_elses() {
        let chain = |family: &str, table: &str, name: &str| {
            format!(
                r#"{{"chain": {{"family": "{family}", "table": "{table}", "name": "{name}", "handle": 1}}}}"#
            )
        };
        let chains = [
            chain("ip", "nat", "PREROUTING"),
            chain("ip", "nat", "KUBE-SERVICES"),
            chain("ip6", "kube-proxy", "services"),
            chain("ip6", "kube-proxy", "nat-output"),
            chain("ip", "beeline", "masquerade"),
        ];
        let ruleset = format!(r#"{{"nftables": [{{"metainfo": {{}}}}, {}]}}"#, chains.join(", "));
        assert_eq!(rules(&ruleset), ["table ip nat", "table ip6 kube-proxy"]);
        assert!(rules("").is_empty());
    }
}
