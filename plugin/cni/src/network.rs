//! The network configuration from standard input, as far as the specification gives it meaning.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use cni_plugin::{config::NetworkConfig, reply::Dns};
use serde_json::{Map, Value};

use crate::{AttachmentId, Code, Failure, Success, Version, environment};

/// Both spellings of what must stay: the specification's, and one that runtimes took from a draft.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// A network configuration.
#[derive(Debug)]
pub struct Network {
    /// CNI version to speak.
    pub version: Version,
    /// Its name.
    pub name: String,
    /// Its `ipam` section.
    pub ipam: Option<Ipam>,
    /// Its resolver settings; `None` if it has no such section.
    pub dns: Option<Dns>,
    /// Keys that are the plugin's own.
    pub specific: HashMap<String, Value>,
    /// Where delegated plugins are looked for (`CNI_PATH`).
    pub path: Vec<PathBuf>,
    /// `runtimeConfig`: values for the capabilities.
    pub(crate) runtime_config: Value,
    /// `args.cni`.
    pub(crate) args: Value,
    prev_result: Result<Option<Success>, String>,
    /// All of it, as it came, for a delegated plugin.
    pub(crate) raw: Vec<u8>,
}

/// Whom addresses come from.
#[derive(Clone, Debug)]
pub struct Ipam {
    /// Name of the plugin.
    pub plugin: String,
    /// The other keys of the section.
    pub specific: HashMap<String, Value>,
}

impl Network {
    /// Reads the configuration.
    pub(crate) fn parse(input: Vec<u8>, path: Vec<PathBuf>) -> Result<Self, Failure> {
        let mut fields = object(&input)?;
        if fields.contains_key("plugins") && !fields.contains_key("type") {
            return Err(Failure::new(
                Code::CONFIG,
                "the network configuration is a list (conflist): a runtime passes one plugin's object of it, with \
                 the list's name and cniVersion",
            ));
        }
        let version = known_version(&fields)?;
        // Runtimes spell what is in these in several ways; whatever they hold must not keep the rest from
        // being read.
        let runtime_config = fields.remove("runtimeConfig").unwrap_or_default();
        let prev_result = fields.remove("prevResult").unwrap_or_default();
        let args = fields.remove("args").unwrap_or_default();
        let config: NetworkConfig = serde_json::from_value(Value::Object(fields))
            .map_err(|e| Failure::new(Code::CONFIG, format!("the network configuration is invalid: {e}")))?;
        if !environment::is_name(&config.name) {
            return Err(Failure::new(
                Code::CONFIG,
                format!(
                    "the network's name is `{}`: it must begin with a letter or digit, and have only these and `_`, \
                     `.`, `-`",
                    config.name
                ),
            ));
        }
        Ok(Self {
            version,
            name: config.name,
            ipam: config.ipam.map(|ipam| Ipam { plugin: ipam.plugin, specific: ipam.specific }),
            dns: config.dns,
            specific: config.specific,
            path,
            args: args.get("cni").cloned().unwrap_or_default(),
            runtime_config,
            prev_result: (!prev_result.is_null()).then(|| Success::read(prev_result)).transpose(),
            raw: input,
        })
    }

    /// The result of the plugins before this one, if there are any (ADD), or of ADD (CHECK).
    pub fn prev_result(&self) -> Result<Option<&Success>, Failure> {
        self.prev_result.as_ref().map(Option::as_ref).map_err(|why| {
            Failure::new(Code::DECODE, format!("the configuration's `prevResult` cannot be read: {why}"))
        })
    }

    /// As [`Self::prev_result`], where it must be there: for CHECK.
    pub fn require_prev_result(&self) -> Result<&Success, Failure> {
        self.prev_result()?.ok_or_else(|| {
            Failure::new(Code::CONFIG, "CHECK needs the result of ADD as `prevResult`; it is missing")
        })
    }

    /// What must stay (GC): `None` if the runtime does not say. `null` is what runtimes in Go write for an
    /// empty list. With both spellings, what either names must stay.
    pub fn valid_attachments(&self) -> Result<Option<BTreeSet<AttachmentId>>, Failure> {
        let mut valid = None;
        for key in VALID_ATTACHMENTS {
            let Some(value) = self.specific.get(key) else { continue };
            let listed: Option<Vec<AttachmentId>> = serde_json::from_value(value.clone()).map_err(|e| {
                Failure::new(Code::DECODE, format!("the configuration's `{key}` cannot be read: {e}"))
            })?;
            valid.get_or_insert_with(BTreeSet::new).extend(listed.into_iter().flatten());
        }
        Ok(valid)
    }
}

/// The version to answer in when the version is all that matters: to VERSION, or where the call as a whole makes
/// no sense. Callers may give no configuration, or one of a version that is not spoken.
pub(crate) fn asked_version(input: &[u8]) -> Result<Version, Failure> {
    if input.trim_ascii().is_empty() {
        return Ok(Version::LATEST);
    }
    let fields = object(input)?;
    let asked = fields.get("cniVersion").and_then(Value::as_str);
    Ok(asked.and_then(Version::parse).unwrap_or(Version::LATEST))
}

fn object(input: &[u8]) -> Result<Map<String, Value>, Failure> {
    if input.trim_ascii().is_empty() {
        return Err(Failure::new(Code::DECODE, "there is no network configuration on standard input"));
    }
    serde_json::from_slice(input).map_err(|e| {
        Failure::new(Code::DECODE, format!("the network configuration is not a JSON object: {e}"))
    })
}

fn known_version(fields: &Map<String, Value>) -> Result<Version, Failure> {
    // Without the field it is 0.1.0, says the specification.
    let asked = fields.get("cniVersion").map_or(Some("0.1.0"), Value::as_str);
    asked.and_then(Version::parse).ok_or_else(|| {
        let asked = fields.get("cniVersion").map_or("missing".to_owned(), |version| format!("{version}"));
        Failure::new(
            Code::VERSION,
            format!("the configuration's cniVersion is {asked}, this plugin speaks {}", Version::list()),
        )
    })
}
