//! What the host's own stack translates: pods that go outside, and node ports that are asked from there. One nftables
//! table, `inet beeline`, made of [`masquerade`] and [`node_ports`].
//!
//! The table is ours alone and is replaced whole, in one transaction; no other table is ever read or changed.

mod generation;
mod masquerade;
pub(crate) mod node_ports;
mod statements;
#[cfg(test)]
mod tests;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

use anyhow::{Result, bail};
use nftables::{
    batch::Batch,
    helper::{self, NftablesError},
    schema::{self, NfListObject, Table},
    stmt::Statement,
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use serde_json::{Value, json};

use crate::model::Network;

const TABLE: &str = "beeline";
/// The table's family in releases that knew IPv4 alone.
const EARLIER: NfFamily = NfFamily::IP;

/// Keeps the table as it must be.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    /// What was last found good, and the ruleset's generation then.
    good: Option<(Wanted, u32)>,
}

/// What is wanted: the chains that have rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted(Vec<Chain>);

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    name: &'static str,
    hook: NfHook,
    priority: i32,
    rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// What it is for, in a few words.
    purpose: &'static str,
    statements: Vec<Statement<'static>>,
}

impl Nat {
    /// Makes the table what `network` needs, unless it is.
    pub(crate) fn ensure(&mut self, network: &Network) -> Result<()> {
        let wanted = Wanted::new(network);
        // The kernel counts every change of this namespace's ruleset: as long as it has not counted on, there is no need to
        // start `nft` to look. What is found holds for the count before the look; others may change it right after ours.
        let now = generation::current().ok();
        if let (Some((good, then)), Some(now)) = (&self.good, now)
            && *good == wanted
            && *then == now
        {
            return Ok(());
        }
        self.good = None;
        if wanted.is_there()? {
            self.good = now.map(|now| (wanted, now));
        } else {
            run(helper::apply_ruleset(&wanted.replacement()))?;
            tracing::info!(table = TABLE, "set the rules of the host's NAT");
        }
        Ok(())
    }
}

/// Removes the table, and what an earlier release had, and says what was there.
pub(crate) fn remove() -> Result<Vec<String>> {
    let mut removed = vec![];
    for family in [NfFamily::INet, EARLIER] {
        match list(family) {
            Ok(Some(_)) => {}
            Ok(None) => continue,
            // Without `nft` nothing was ever added.
            Err(error) if error.is::<NoNft>() => break,
            Err(error) => return Err(error),
        }
        let mut batch = Batch::new();
        batch.delete(NfListObject::Table(table(family)));
        run(helper::apply_ruleset(&batch.to_nftables()))?;
        removed.push(format!("{} {TABLE}", word(family)));
    }
    Ok(removed)
}

impl Wanted {
    fn new(network: &Network) -> Self {
        let ports = network.node_ports();
        let mut chains = node_ports::chains(&ports);
        chains.push(masquerade::chain(network, &ports));
        chains.retain(|chain| !chain.rules.is_empty());
        Self(chains)
    }

    fn is_there(&self) -> Result<bool> {
        Ok(list(NfFamily::INet)?.is_some_and(|listing| self.is(&listing)))
    }

    /// Whether `listing`, JSON of `nft`, shows the table with our chains and our rules in force, and nothing else. One
    /// that cannot be read does not: nft 1.0.6 writes half a listing if the table has flags.
    fn is(&self, listing: &str) -> bool {
        let listing: Value = serde_json::from_str(listing).unwrap_or_default();
        let Some([_, table, objects @ ..]) = listing["nftables"].as_array().map(Vec::as_slice) else {
            return false;
        };
        let (chains, rules): (Vec<_>, Vec<_>) =
            objects.iter().partition(|object| object["chain"].is_object());
        let chain = |object: &&Value| {
            let chain = &object["chain"];
            json!([chain["name"], chain["type"], chain["hook"], chain["prio"], chain["policy"]])
        };
        let rule = |object: &&Value| json!([object["rule"]["chain"], object["rule"]["comment"]]);
        table["table"]["name"] == TABLE
            && table["table"]["flags"].is_null()
            && chains.iter().map(chain).eq(self.0.iter().map(Chain::as_listed))
            && rules.iter().map(rule).eq(self.0.iter().flat_map(Chain::rules_as_listed))
    }

    /// One transaction that leaves the table with just these chains. The table is added before it is deleted because
    /// deleting what is not there would fail; so is that of an earlier release, which would do the same twice.
    fn replacement(&self) -> schema::Nftables<'static> {
        let mut batch = Batch::new();
        for family in [EARLIER, NfFamily::INet] {
            batch.add(NfListObject::Table(table(family)));
            batch.delete(NfListObject::Table(table(family)));
        }
        batch.add(NfListObject::Table(table(NfFamily::INet)));
        for chain in &self.0 {
            batch.add(NfListObject::Chain(chain.object()));
        }
        for chain in &self.0 {
            for rule in &chain.rules {
                batch.add(NfListObject::Rule(rule.object(chain.name)));
            }
        }
        batch.to_nftables()
    }
}

impl Chain {
    fn object(&self) -> schema::Chain<'static> {
        schema::Chain {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: self.name.into(),
            _type: Some(NfChainType::NAT),
            hook: Some(self.hook),
            prio: Some(self.priority),
            policy: Some(NfChainPolicy::Accept),
            ..schema::Chain::default()
        }
    }

    fn as_listed(&self) -> Value {
        json!([self.name, "nat", self.hook, self.priority, "accept"])
    }

    fn rules_as_listed(&self) -> impl Iterator<Item = Value> {
        self.rules.iter().map(|rule| json!([self.name, rule.mark()]))
    }
}

impl Rule {
    /// Comment that the rule carries. A rule never changes in place, so with it the rule is known to be this one.
    fn mark(&self) -> String {
        let mut hasher = DefaultHasher::new();
        json!(self.statements).to_string().hash(&mut hasher);
        format!("{} ({:016x})", self.purpose, hasher.finish())
    }

    fn object(&self, chain: &'static str) -> schema::Rule<'static> {
        schema::Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: chain.into(),
            expr: self.statements.clone().into(),
            comment: Some(self.mark().into()),
            ..schema::Rule::default()
        }
    }
}

fn table(family: NfFamily) -> Table<'static> {
    Table { family, name: TABLE.into(), ..Table::default() }
}

/// The family as `nft` writes it.
const fn word(family: NfFamily) -> &'static str {
    match family {
        EARLIER => "ip",
        _ => "inet",
    }
}

/// What is in the table, as JSON; `None` if there is no such table.
fn list(family: NfFamily) -> Result<Option<String>> {
    let args = ["list", "table", word(family), TABLE];
    match helper::get_current_ruleset_raw(helper::DEFAULT_NFT, args) {
        Ok(listing) => Ok(Some(listing)),
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file or directory") => {
            Ok(None)
        }
        Err(error) => run(Err(error)),
    }
}

/// The command is missing.
#[derive(Debug, thiserror::Error)]
#[error("`nft` is not there, so pods cannot reach the outside; install the package nftables")]
struct NoNft;

/// Tells an error of `nft` with its cure.
fn run<T>(result: Result<T, NftablesError>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(NftablesError::NftExecution { inner, .. }) if inner.kind() == io::ErrorKind::NotFound => {
            Err(NoNft.into())
        }
        Err(NftablesError::NftFailed { stderr, hint, .. }) => bail!(
            "`nft` failed while {hint}: {}; pods cannot reach the outside; check that the kernel has nf_tables, nft_masq and \
             nft_fib_inet",
            stderr.lines().next().unwrap_or("it does not say why")
        ),
        Err(error) => Err(error.into()),
    }
}
