//! What to give and how, as an `ipam` section of JSON writes it. Names and their order are those of `host-local`;
//! `exclude` and `cooldown` are ours.

use std::{collections::HashMap, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{DEFAULT_COOLDOWN, InvalidRange, RangeConfig, RangeSet};

/// Keys of a range that stands in the section itself.
const FLAT: [&str; 5] = ["subnet", "rangeStart", "rangeEnd", "gateway", "exclude"];

/// What to give and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The range sets; empty if the section names none.
    pub sets: Vec<RangeSet>,
    /// How long addresses rest.
    pub cooldown: Duration,
}

/// Why a section makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A key holds something else than it should.
    #[error("`{key}` cannot be read: {source}")]
    Unreadable {
        /// The key.
        key: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A key of a range without its subnet.
    #[error("`{0}` belongs to a range: put it beside its `subnet`")]
    NoSubnet(&'static str),
    /// Ranges make no sense.
    #[error(transparent)]
    Range(#[from] InvalidRange),
}

impl Settings {
    /// Reads `section`, whose other keys do not matter here. `more` are further range sets, which come first: those
    /// that a runtime asks for.
    ///
    /// Sets are written as `ranges` (a list of sets, each a list of ranges), or one range with its keys in the section
    /// itself, or both.
    pub fn read(section: &HashMap<String, Value>, more: Option<&Value>) -> Result<Self, InvalidSettings> {
        let mut sets: Vec<Vec<RangeConfig>> = parse("ipRanges", more)?.unwrap_or_default();
        sets.extend(flat(section)?.map(|range| vec![range]));
        sets.extend(parse::<Vec<Vec<RangeConfig>>>("ranges", section.get("ranges"))?.unwrap_or_default());
        let cooldown: Option<u32> = parse("cooldown", section.get("cooldown"))?;
        let cooldown = cooldown.map_or(DEFAULT_COOLDOWN, |seconds| Duration::from_secs(seconds.into()));
        Ok(Self { sets: RangeSet::several(&sets)?, cooldown })
    }
}

fn flat(section: &HashMap<String, Value>) -> Result<Option<RangeConfig>, InvalidSettings> {
    let given = |key: &&str| section.get(*key).is_some_and(|value| !value.is_null());
    let keys: Vec<_> = FLAT.into_iter().filter(given).collect();
    match keys.first() {
        None => return Ok(None),
        Some(&"subnet") => {}
        Some(key) => return Err(InvalidSettings::NoSubnet(key)),
    }
    let fields: Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), section[*key].clone())).collect();
    parse("subnet", Some(&Value::Object(fields)))
}

/// `null` is what programs in Go write for an empty list.
fn parse<T: DeserializeOwned>(
    key: &'static str,
    value: Option<&Value>,
) -> Result<Option<T>, InvalidSettings> {
    let value = value.filter(|value| !value.is_null());
    value
        .map(|value| T::deserialize(value).map_err(|source| InvalidSettings::Unreadable { key, source }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(section: Value, more: Option<&Value>) -> Result<Settings, String> {
        let section: HashMap<String, Value> = serde_json::from_value(section).unwrap();
        Settings::read(&section, more).map_err(|e| e.to_string())
    }

    fn shown(settings: &Settings) -> Vec<String> {
        settings.sets.iter().map(RangeSet::to_string).collect()
    }

    #[test]
    fn the_runtimes_ranges_come_first_then_the_sections_own_then_the_list() {
        let settings = read(
            json!({
                "type": "beeline-ipam", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "exclude": ["10.1.0.10"],
                "ranges": [[{ "subnet": "10.2.0.0/24" }, { "subnet": "10.3.0.0/24" }], [{ "subnet": "fd00::/64" }]],
            }),
            Some(&json!([[{ "subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9" }]])),
        )
        .unwrap();
        assert_eq!(
            shown(&settings),
            [
                "10.0.0.1 to 10.0.0.9 of 10.0.0.0/24",
                "10.1.0.9 to 10.1.0.254 of 10.1.0.0/24",
                "10.2.0.0/24, 10.3.0.0/24",
                "fd00::/64",
            ]
        );
        assert!(!settings.sets[1].contains("10.1.0.10".parse().unwrap()));
        assert_eq!(settings.cooldown, DEFAULT_COOLDOWN);
    }

    #[test]
    fn a_section_may_name_no_ranges() {
        let settings = read(json!({ "type": "beeline-ipam", "ranges": null, "cooldown": 0 }), None).unwrap();
        assert_eq!(settings, Settings { sets: Vec::new(), cooldown: Duration::ZERO });
    }

    #[test]
    fn sections_that_make_no_sense_say_why() {
        for (section, why) in [
            (json!({ "ranges": [[{ "subnet": "10.0.0.0/24", "excludes": [] }]] }), "`ranges` cannot be read"),
            (json!({ "ranges": [{ "subnet": "10.0.0.0/24" }] }), "`ranges` cannot be read"),
            (json!({ "ranges": [[]] }), "at least one range"),
            (
                json!({ "ranges": [[{ "subnet": "10.0.0.0/24" }], [{ "subnet": "10.0.0.128/25" }]] }),
                "overlap",
            ),
            (json!({ "subnet": "10.0.0.0/33" }), "`subnet` cannot be read"),
            (json!({ "rangeStart": "10.0.0.3" }), "put it beside its `subnet`"),
            (json!({ "subnet": "10.0.0.0/24", "cooldown": -1 }), "`cooldown` cannot be read"),
        ] {
            let error = read(section.clone(), None).unwrap_err();
            assert!(error.contains(why), "{section}: {error}");
        }
    }

    /// Values that look much like sections, and some that do not.
    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            Just("10.0.0.0/24"),
            Just("10.0.0.0/0"),
            Just("0.0.0.0/32"),
            Just("255.255.255.255/31"),
            Just("::/0"),
            Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127"),
            Just("10.0.0.5"),
            Just("10.0.0.1"),
            Just("::1"),
            Just("255.255.255.255"),
            Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            Just(""),
        ];
        let leaf = prop_oneof![
            4 => text.prop_map(|text| json!(text)),
            1 => any::<i64>().prop_map(|number| json!(number)),
            1 => Just(Value::Null),
        ];
        let key = prop_oneof![
            Just("subnet"),
            Just("rangeStart"),
            Just("rangeEnd"),
            Just("gateway"),
            Just("exclude"),
            Just("ranges"),
            Just("cooldown"),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let object = prop::collection::hash_map(key.clone().prop_map(String::from), inner.clone(), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                object.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever is written, reading it ends, and what comes of it can be counted and walked through.
        #[test]
        fn no_section_is_too_much(section in prop::collection::hash_map("subnet|ranges|exclude|gateway|rangeEnd", value(), 0..5)) {
            let Ok(settings) = Settings::read(&section, None) else { return Ok(()) };
            for set in settings.sets {
                let all: u128 = set.size();
                for last in set.ranges().iter().filter_map(crate::Range::gateway) {
                    prop_assert!(!set.contains(last));
                    let walked = set.round_robin(Some(last)).into_iter();
                    let walked = walked.fold(0_u128, |sum, part| sum.saturating_add(part.end() - part.start()).saturating_add(1));
                    prop_assert_eq!(walked, all);
                }
            }
        }
    }
}
