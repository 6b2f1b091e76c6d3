//! The file's shape: fields and nesting, with the place of every value. What values mean is `validate`'s affair.

use serde::Deserialize;
use serde_saphyr::{Error as Yaml, Spanned};

use super::problem::Problem;

/// A scalar as written, with its place.
pub(super) type Text = Spanned<String>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Option<Text>,
    pub(super) vni: Option<Text>,
    pub(super) vxlan_port: Option<Text>,
    pub(super) uplink: Option<Text>,
    pub(super) attach: Option<Text>,
    pub(super) nodes: Spanned<Vec<Node>>,
    #[serde(default)]
    pub(super) services: Vec<Service>,
}

/// An entry of `nodes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Text,
    pub(super) address: Text,
    #[serde(default)]
    pub(super) other_addresses: Vec<Text>,
    pub(super) pod_cidrs: Spanned<Vec<Text>>,
    pub(super) vtep_mac: Option<Text>,
    pub(super) zone: Option<Text>,
}

/// An entry of `services`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: Text,
    pub(super) frontends: Spanned<Vec<Frontend>>,
    #[serde(default)]
    pub(super) external_frontends: Vec<Frontend>,
    #[serde(default)]
    pub(super) load_balancer_frontends: Vec<Frontend>,
    pub(super) load_balancer_source_ranges: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) node_ports: Vec<NodePort>,
    #[serde(default)]
    pub(super) backends: Vec<Backend>,
    pub(super) internal_traffic_policy: Option<Text>,
    pub(super) external_traffic_policy: Option<Text>,
    pub(super) traffic_distribution: Option<Text>,
    pub(super) affinity: Option<Text>,
    pub(super) affinity_timeout: Option<Text>,
    pub(super) flow_ttl: Option<Text>,
    pub(super) dsr: Option<Text>,
}

/// An entry of `frontends`, `externalFrontends` or `loadBalancerFrontends`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Frontend {
    pub(super) vip: Text,
    pub(super) port: Text,
    pub(super) protocol: Option<Text>,
}

/// An entry of `nodePorts`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodePort {
    pub(super) port: Text,
    pub(super) protocol: Option<Text>,
}

/// An entry of `backends`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) address: Text,
    pub(super) port: Text,
    pub(super) state: Option<Text>,
    pub(super) node: Option<Text>,
    pub(super) zone: Option<Text>,
}

/// Brings text into this shape, or says where it does not fit.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    // The parser's own limits are for small files of strangers; this one is the node's own, and may hold 10,000s
    // of services.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 20_000_000, max_events: 40_000_000 },
        with_snippet: false,
    };
    let mut field = String::new();
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            field = field_path(error.path());
            error.into_inner()
        })
    })
    .map_err(|error| problem(&error, field))
}

/// Path of a field without the inner parts of [`Spanned`].
fn field_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |path, segment| match segment {
        Segment::Map { key } if key != "value" => join(&path, key),
        Segment::Seq { index } => format!("{path}[{index}]"),
        _ => path,
    })
}

fn problem(error: &Yaml, mut field: String) -> Problem {
    let (cause, cure) = match error {
        Yaml::SerdeUnknownField { field: unknown, expected, .. } => {
            // The unknown name is already the last part of the path.
            (format!("unknown field `{unknown}`"), format!("known here are {}", expected.join(", ")))
        }
        Yaml::SerdeMissingField { field: missing, .. } => {
            field = join(&field, missing);
            (format!("`{missing}` is missing"), "add it".to_owned())
        }
        Yaml::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a field");
            field = join(&field, key);
            (format!("`{key}` is written twice"), "keep one of them".to_owned())
        }
        Yaml::NullIntoString { .. } => {
            ("has no value".to_owned(), "give it one, or remove the field".to_owned())
        }
        Yaml::Eof { .. } => {
            ("the file is empty".to_owned(), "it needs at least `node` and `nodes`".to_owned())
        }
        Yaml::MultipleDocuments { .. } => {
            ("a second YAML document starts here".to_owned(), "keep one document in the file".to_owned())
        }
        Yaml::Unexpected { expected, .. } => {
            let (cause, cure) = match *expected {
                "string scalar" => ("this is no single value", "write one"),
                "sequence start" => ("this is no list", "write one, such as [a, b]"),
                "mapping start" => ("there are no fields here", "write them, each as `name: value`"),
                _ => ("this is not what belongs here", "correct the YAML here"),
            };
            (cause.to_owned(), cure.to_owned())
        }
        other => (without_place(other), "correct the YAML here".to_owned()),
    };
    let place = error.location();
    Problem {
        line: place.map_or(0, |at| at.line()),
        column: place.map_or(0, |at| at.column()),
        field,
        cause,
        cure,
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The parser's words without the place, which is told apart.
fn without_place(error: &Yaml) -> String {
    let text = error.to_string();
    let Some(place) = error.location() else {
        return text;
    };
    let place = format!(" at line {}, column {}", place.line(), place.column());
    text.strip_suffix(&place).map_or(text.clone(), str::to_owned)
}
