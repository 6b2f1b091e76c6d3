//! The configuration's `ipam` section: what to give, where the account of it is, and what is told besides.

use std::path::PathBuf;

use beeline_cni::{Dns, Failure, Ipam, Network, Route};
use beeline_ipam::Settings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{failure::bad_config, resolv_conf};

/// Where stores are unless the configuration says otherwise: on the tmpfs that every node has.
pub(crate) const DEFAULT_DATA_DIR: &str = "/run/beeline-ipam";

/// Folder of the network's store. Needs nothing else of the configuration to make sense.
pub(crate) fn store_dir(network: &Network) -> Result<PathBuf, Failure> {
    let dir = match section(network)?.specific.get("dataDir") {
        None | Some(Value::Null) => PathBuf::from(DEFAULT_DATA_DIR),
        Some(Value::String(dir)) if dir.starts_with('/') => PathBuf::from(dir),
        Some(other) => return Err(bad_config(format!("`dataDir` is {other}: it must be an absolute path"))),
    };
    Ok(dir.join(&network.name))
}

/// What to give and how.
pub(crate) fn settings(network: &Network) -> Result<Settings, Failure> {
    let section = section(network)?;
    let settings = Settings::read(&section.specific, network.requested_ranges());
    let settings = settings.map_err(bad_config)?;
    if settings.sets.is_empty() {
        return Err(bad_config(
            "it names no addresses to give; add `\"ranges\": [[{ \"subnet\": \"10.1.0.0/24\" }]]`",
        ));
    }
    Ok(settings)
}

/// Routes that the main plugin is to set.
pub(crate) fn routes(network: &Network) -> Result<Vec<Route>, Failure> {
    Ok(read(section(network)?, "routes")?.unwrap_or_default())
}

/// Resolver settings: `dns`, or else those of the file that `resolvConf` names.
pub(crate) fn dns(network: &Network) -> Result<Dns, Failure> {
    let section = section(network)?;
    if let Some(dns) = read(section, "dns")? {
        return Ok(dns);
    }
    match read::<PathBuf>(section, "resolvConf")?.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => resolv_conf::read(&path),
        None => Ok(Dns::default()),
    }
}

fn section(network: &Network) -> Result<&Ipam, Failure> {
    network.ipam.as_ref().ok_or_else(|| bad_config("there is none"))
}

fn read<T: DeserializeOwned>(section: &Ipam, key: &str) -> Result<Option<T>, Failure> {
    let value = section.specific.get(key).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| bad_config(format!("`{key}` cannot be read: {e}")))
}
