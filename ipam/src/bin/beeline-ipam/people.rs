//! What a person sees who starts the plugin by hand: its help, the leases, and how full the ranges are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use beeline_ipam::{Lease, Owner, RangeSet, Store, Usage};
use beeline_report::{Format, Report, Table, print, span};
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::config::DEFAULT_DATA_DIR;

/// Where the `beeline` plugin keeps its own account, and what that is called here.
const BEELINE: (&str, &str) = ("beeline (built in)", "/run/beeline/ipam");

/// Beeline's CNI IPAM plugin: gives addresses for other CNI plugins.
///
/// Main plugins (bridge, ptp, macvlan…) start it; people ask it what it gave.
#[derive(Parser)]
#[command(name = "beeline-ipam", version, arg_required_else_help = true, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Whom the answer is for.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Format,
    /// Folder of the stores (`ipam.dataDir`); without it, those of the default place and beeline's own.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

const EXAMPLE: &str = r#"A network that uses it:
  { "cniVersion": "1.0.0", "name": "lan", "plugins": [{
      "type": "bridge", "bridge": "br0", "isGateway": true,
      "ipam": {
        "type": "beeline-ipam",
        "ranges": [[{ "subnet": "10.1.0.0/24", "exclude": ["10.1.0.9"] }],
                   [{ "subnet": "fd00:1::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      } }] }

Keys of `ipam`:
  ranges      sets of ranges, of each of which a pod gets one address; a range has
              subnet, rangeStart, rangeEnd, gateway, exclude (addresses, prefixes);
              a single range's keys may also stand in `ipam` itself
  routes      routes that pods are given
  dns         resolver settings; or resolvConf, a file to take them from
  cooldown    seconds that an address rests before it is given again (30)
  dataDir     where the account is kept, best on a tmpfs (/run/beeline-ipam)

Capabilities: ips, ipRanges."#;

#[derive(Subcommand)]
enum Command {
    /// Show who holds which address.
    List,
    /// Show how full the ranges are.
    Stats,
}

/// Answers a person.
pub(crate) fn answer() -> ExitCode {
    let arguments = Arguments::parse();
    match tell(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: &Arguments) -> Result<()> {
    let accounts = accounts(arguments.data_dir.as_deref())?;
    match arguments.command {
        Command::List => print(arguments.output, &Leases::of(&accounts)?),
        Command::Stats => print(arguments.output, &Usages::of(&accounts)?),
    }
}

/// A network's store.
struct Account {
    network: String,
    store: Store,
}

/// Every store of this boot under `data_dir`, ordered by network.
fn accounts(data_dir: Option<&Path>) -> Result<Vec<Account>> {
    let mut found = Vec::new();
    if data_dir.is_none() {
        found.push((BEELINE.0.to_owned(), PathBuf::from(BEELINE.1)));
    }
    let dir = data_dir.unwrap_or(Path::new(DEFAULT_DATA_DIR));
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && data_dir.is_none() => {}
        entries => {
            for entry in entries.with_context(|| format!("cannot look into {}", dir.display()))? {
                let entry = entry.with_context(|| format!("cannot look into {}", dir.display()))?;
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
    }
    found.sort();
    let mut accounts = Vec::new();
    for (network, dir) in found {
        if let Some(store) = Store::open_existing(&dir)? {
            accounts.push(Account { network, store });
        }
    }
    Ok(accounts)
}

/// A lease, whose it is, and in which network.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    network: String,
    container_id: String,
    ifname: String,
    #[serde(flatten)]
    lease: Lease,
}

/// Who holds which address.
#[derive(Serialize)]
#[serde(transparent)]
struct Leases {
    held: Vec<Held>,
    /// When this was found, since 1970.
    #[serde(skip)]
    now: Duration,
}

impl Leases {
    fn of(accounts: &[Account]) -> Result<Self> {
        let mut all = Vec::new();
        for account in accounts {
            let held = |(owner, lease): (Owner, Lease)| Held {
                network: account.network.clone(),
                container_id: owner.container_id().to_owned(),
                ifname: owner.ifname().to_owned(),
                lease,
            };
            all.extend(account.store.leases()?.into_iter().map(held));
        }
        all.sort_by(|a, b| (&a.network, &a.lease.addresses).cmp(&(&b.network, &b.lease.addresses)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        Ok(Self { held: all, now })
    }
}

impl Report for Leases {
    fn text(&self) -> String {
        let mut table = Table::new(["NETWORK", "ADDRESSES", "POD", "CONTAINER", "INTERFACE", "AGE"]);
        for held in &self.held {
            let addresses: Vec<_> = held.lease.addresses.iter().map(ToString::to_string).collect();
            table.row([
                held.network.clone(),
                addresses.join(","),
                held.lease.pod.clone().unwrap_or_default(),
                // As short as runtimes show it.
                held.container_id.chars().take(13).collect(),
                held.ifname.clone(),
                span(self.now.saturating_sub(Duration::from_secs(held.lease.since))),
            ]);
        }
        table.to_string()
    }
}

/// How full a network is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkUsage {
    network: String,
    leases: usize,
    /// Addresses given within their cool-down since boot.
    early_reuses: u64,
    sets: Vec<SetUsage>,
}

#[derive(Serialize)]
struct SetUsage {
    ranges: String,
    #[serde(flatten)]
    usage: Usage,
}

/// How full networks are.
#[derive(Serialize)]
struct Usages(Vec<NetworkUsage>);

impl Usages {
    fn of(accounts: &[Account]) -> Result<Self> {
        let mut all = Vec::new();
        for Account { network, store } in accounts {
            let usage = |set: &RangeSet| -> Result<_> {
                Ok(SetUsage { ranges: set.to_string(), usage: store.usage(set)? })
            };
            all.push(NetworkUsage {
                network: network.clone(),
                leases: store.leases()?.len(),
                early_reuses: store.early_reuses()?,
                sets: store.sets()?.iter().map(usage).collect::<Result<_>>()?,
            });
        }
        Ok(Self(all))
    }
}

impl Report for Usages {
    fn text(&self) -> String {
        let mut table = Table::new(["NETWORK", "RANGES", "SIZE", "HELD", "RESTING", "FREE", "GIVEN EARLY"]);
        for network in &self.0 {
            for SetUsage { ranges, usage } in &network.sets {
                let numbers =
                    [usage.size, usage.held, usage.resting, usage.size - usage.held - usage.resting];
                let [size, held, resting, free] = numbers.map(|number| number.to_string());
                let early = network.early_reuses.to_string();
                table.row([network.network.clone(), ranges.clone(), size, held, resting, free, early]);
            }
        }
        table.to_string()
    }
}
