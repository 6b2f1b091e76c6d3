//! Policy routing: which routing table is asked for what is sent from an address. The tables' routes are told in
//! `route`.

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::IpVersion;

use super::{
    Netlink, NetlinkError,
    error::{absent_is_fine, exists_is_fine},
    route::family,
};

impl Netlink {
    /// Has what is sent from `source` look for its way in `table` first. It is no error if it does already.
    pub async fn add_rule_from(&self, source: IpNet, table: u32) -> Result<(), NetlinkError> {
        let mut request = self.handle.rule().add().table_id(table).action(RuleAction::ToTable);
        let message = request.message_mut();
        message.header.family = family(source.addr());
        message.header.src_len = source.prefix_len();
        message.attributes.push(RuleAttribute::Source(source.addr()));
        let result = request.execute().await;
        exists_is_fine(
            result.map_err(|e| NetlinkError::new(format!("add the rule for what is sent from {source}"), e)),
        )
    }

    /// Deletes every rule for what is sent from exactly `source`.
    pub async fn delete_rules_from(&self, source: IpNet) -> Result<(), NetlinkError> {
        let rules = self.rules(source.addr().is_ipv4()).await?;
        for rule in rules.into_iter().filter(|rule| self::source(rule) == Some(source)) {
            let result = self.handle.rule().del(rule).execute().await;
            let what = || format!("delete a rule for what is sent from {source}");
            absent_is_fine(result.map_err(|e| NetlinkError::new(what(), e)))?;
        }
        Ok(())
    }

    /// The prefixes that what is sent from looks for its way in `table`, of both families.
    pub async fn sources_of_table(&self, table: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let mut rules = self.rules(true).await?;
        rules.extend(self.rules(false).await?);
        let of_table = |rule: &&RuleMessage| {
            let told = rule.attributes.iter().find_map(|attribute| match attribute {
                RuleAttribute::Table(table) => Some(*table),
                _ => None,
            });
            told.unwrap_or(rule.header.table.into()) == table
        };
        Ok(rules.iter().filter(of_table).filter_map(source).collect())
    }

    async fn rules(&self, ipv4: bool) -> Result<Vec<RuleMessage>, NetlinkError> {
        let version = if ipv4 { IpVersion::V4 } else { IpVersion::V6 };
        let rules: Result<Vec<_>, _> = self.handle.rule().get(version).execute().try_collect().await;
        match rules.map_err(|e| NetlinkError::new("list routing rules", e)) {
            // A kernel without the family.
            Err(e) if matches!(e.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(Vec::new()),
            other => other,
        }
    }
}

fn source(rule: &RuleMessage) -> Option<IpNet> {
    let address = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Source(address) => Some(*address),
        _ => None,
    })?;
    IpNet::new(address, rule.header.src_len).ok()
}
