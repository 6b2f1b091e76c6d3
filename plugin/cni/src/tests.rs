//! Calls as runtimes make them, and as nobody should.

use std::{collections::HashMap, ffi::OsString, path::Path};

use proptest::{prelude::*, test_runner::TestRunner};

use crate::{Args, Attachment, Call, Code, Network, Refused, Version};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"beeline","type":"beeline","runtimeDir":"/run/b"}"#;
const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "C0ffee_1.2-3"),
    ("CNI_NETNS", "/run/netns/pod"),
    ("CNI_IFNAME", "eth0"),
];

/// The ADD above, with `changes` to its environment; an empty value is as good as none.
fn read(changes: &[(&str, &str)], stdin: &str) -> Result<Call, Refused> {
    let variables: HashMap<_, _> = ADD.iter().chain(changes).copied().collect();
    Call::read(|name| variables.get(name).map(OsString::from), stdin.as_bytes())
}

fn error(changes: &[(&str, &str)], stdin: &str) -> (Code, String) {
    let failure = read(changes, stdin).expect_err("was taken").failure;
    (failure.code, failure.msg)
}

fn add(changes: &[(&str, &str)], stdin: &str) -> Attachment {
    match read(changes, stdin) {
        Ok(Call::Add(attachment, _)) => attachment,
        other => panic!("no ADD: {other:?}"),
    }
}

/// The configuration with `fields`, JSON without its braces, before its own.
fn with(fields: &str) -> String {
    CONFIG.replacen('{', &format!("{{{fields},"), 1)
}

#[test]
fn an_add_of_containerd_is_understood() {
    let args = "K8S_POD_NAME=web;IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_NAMESPACE=default;X=1";
    let config = with(
        r#""runtimeConfig":{"portMappings":[{"HostPort":80,"ContainerPort":80,"Protocol":"tcp"}]},"args":null"#,
    );
    let changes = [("CNI_ARGS", args), ("CNI_PATH", "/opt/cni/bin:relative:/usr/lib/cni")];
    let attachment = add(&changes, &config);
    assert_eq!(attachment.netns.as_deref(), Some(Path::new("/run/netns/pod")));
    assert_eq!(attachment.id.to_string(), "eth0 of container C0ffee_1.2-3");
    assert_eq!(attachment.args.pod.unwrap().to_string(), "default/web");
    let network = attachment.network;
    assert_eq!((network.version, network.name.as_str()), (Version::V1_1_0, "beeline"));
    assert_eq!(network.specific["runtimeDir"], "/run/b");
    assert_eq!(network.path, [Path::new("/opt/cni/bin"), Path::new("/usr/lib/cni")]);
}

#[test]
fn missing_variables_are_named_all_at_once() {
    let none = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
    let (code, msg) = error(&none, CONFIG);
    assert_eq!(code, Code::ENVIRONMENT);
    assert!(msg.contains("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"), "{msg}");
    let (_, msg) = error(&[&none[..], &[("CNI_COMMAND", "DEL")]].concat(), CONFIG);
    assert!(msg.contains("CNI_CONTAINERID, CNI_IFNAME"), "{msg}");
    assert!(error(&[("CNI_COMMAND", "")], CONFIG).1.contains("CNI_COMMAND"));
    assert!(error(&[("CNI_COMMAND", "UPDATE")], CONFIG).1.contains("UPDATE"));
}

#[test]
fn bad_names_are_refused() {
    for id in ["-c", ".c", "_c", "a/b", "a b", "a:b", "é", &"c".repeat(256)] {
        assert_eq!(error(&[("CNI_CONTAINERID", id)], CONFIG).0, Code::ENVIRONMENT, "{id}");
    }
    for ifname in
        [".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-letters.", "ninechars\u{e9}\u{e9}\u{e9}\u{e9}"]
    {
        assert_eq!(error(&[("CNI_IFNAME", ifname)], CONFIG).0, Code::ENVIRONMENT, "{ifname}");
    }
    for args in ["NOT=known", "no-equals", "IgnoreUnknown=0;NOT=known", "IP=10.0.0.300", "MAC=1"] {
        assert_eq!(error(&[("CNI_ARGS", args)], CONFIG).0, Code::ENVIRONMENT, "{args}");
        assert!(read(&[("CNI_ARGS", args), ("CNI_COMMAND", "DEL")], CONFIG).is_ok(), "DEL must not mind");
    }
}

#[test]
fn bad_configurations_say_what_is_wrong() {
    for (config, code, word) in [
        ("", Code::DECODE, "no network configuration"),
        ("{\"cniVersion\":", Code::DECODE, "line 1 column"),
        ("[]", Code::DECODE, "JSON object"),
        (r#"{"name":"b","type":"beeline"}"#, Code::VERSION, "missing"),
        (&CONFIG.replace("1.1.0", "1.2.0"), Code::VERSION, "1.2.0"),
        (&CONFIG.replace("1.1.0", "9"), Code::VERSION, "0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (&CONFIG.replace(r#""1.1.0""#, "1"), Code::VERSION, "1"),
        (r#"{"cniVersion":"1.0.0","type":"beeline"}"#, Code::CONFIG, "name"),
        (&CONFIG.replace(r#""name":"beeline""#, r#""name":"a/b""#), Code::CONFIG, "a/b"),
        (&with(r#""ipam":{}"#), Code::CONFIG, "type"),
        (&with(r#""dns":{"nameservers":["one"]}"#), Code::CONFIG, "IP address"),
        (include_str!("../../../manifests/10-beeline.conflist"), Code::CONFIG, "conflist"),
    ] {
        let (found, msg) = error(&[], config);
        assert!(found == code && msg.contains(word), "{config}: {found:?}: {msg}");
    }
}

#[test]
fn refusals_are_told_in_the_version_asked_for() {
    let old = CONFIG.replace("1.1.0", "0.4.0");
    let unspoken = CONFIG.replace("1.1.0", "9.9.9");
    for (changes, config, version) in [
        (&[("CNI_COMMAND", "")][..], &*old, Version::V0_4_0),
        (&[("CNI_IFNAME", "a/b")], &old, Version::V0_4_0),
        (&[("CNI_ARGS", "no-equals")], &old, Version::V0_4_0),
        (&[("CNI_COMMAND", "GC")], &old, Version::V0_4_0),
        (&[], &unspoken, Version::LATEST),
        (&[("CNI_IFNAME", "a/b")], "no JSON", Version::LATEST),
        (&[("CNI_IFNAME", "a/b")], "", Version::LATEST),
    ] {
        let refused = read(changes, config).expect_err("was taken");
        assert_eq!(refused.version, version, "{changes:?} {config}");
        assert_eq!(refused.failure.reply(version)["cniVersion"], version.as_str());
    }
}

#[test]
fn commands_come_only_in_versions_that_have_them() {
    let commands = [("CHECK", Version::V0_4_0), ("GC", Version::V1_1_0), ("STATUS", Version::V1_1_0)];
    for ((command, since), version) in
        commands.into_iter().flat_map(|c| Version::ALL.into_iter().map(move |v| (c, v)))
    {
        let config = CONFIG.replace("1.1.0", version.as_str());
        match read(&[("CNI_COMMAND", command)], &config) {
            Ok(_) => assert!(version >= since, "{command} in {version}"),
            Err(refused) => {
                assert!(version < since && refused.failure.code == Code::VERSION, "{command} in {version}");
                assert!(refused.failure.msg.contains(since.as_str()), "{}", refused.failure);
            }
        }
    }
}

#[test]
fn version_and_status_and_gc_need_no_attachment() {
    let alone = |command: &'static str, config: &str| {
        Call::read(|name| (name == "CNI_COMMAND").then(|| command.into()), config.as_bytes())
    };
    for (config, version) in [
        ("", Version::LATEST),
        ("{}", Version::LATEST),
        (r#"{"cniVersion":"0.4.0"}"#, Version::V0_4_0),
        (r#"{"cniVersion":"7.0.0"}"#, Version::LATEST),
    ] {
        let Ok(Call::Version(asked)) = alone("VERSION", config) else { panic!("no VERSION: {config}") };
        assert_eq!(asked, version);
    }
    let dummies = [("CNI_COMMAND", "VERSION"), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "dummy/dummy")];
    assert!(matches!(read(&dummies, ""), Ok(Call::Version(_))));
    assert!(matches!(alone("STATUS", CONFIG), Ok(Call::Status(_))));
    assert!(matches!(alone("GC", CONFIG), Ok(Call::Gc(_))));
    let dummies = [("CNI_COMMAND", "STATUS"), ("CNI_CONTAINERID", "-"), ("CNI_ARGS", "no-equals")];
    assert!(matches!(read(&dummies, CONFIG), Ok(Call::Status(_))));
}

#[test]
fn requests_are_found_in_all_their_places() {
    let config = with(
        r#""args":{"cni":{"ips":["10.0.0.7"],"mac":"02:00:00:00:00:02"}},
           "runtimeConfig":{"ips":["10.0.0.8/24","fd00::8","10.0.0.7"],"mac":"02-00-00-00-00-03",
                            "ipRanges":[[{"subnet":"10.0.0.0/24"}]]}"#,
    );
    let attachment = add(&[("CNI_ARGS", "IP=10.0.0.6;MAC=02:00:00:00:00:01")], &config);
    let addresses = attachment.network.requested_addresses(&attachment.args).unwrap();
    let told: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["10.0.0.6", "10.0.0.7", "10.0.0.8", "fd00::8"]);
    let mac = attachment.network.requested_mac(&attachment.args).unwrap().unwrap();
    assert_eq!(mac.to_string(), "02:00:00:00:00:03", "the capability has the last word");
    assert_eq!(attachment.network.requested_ranges().unwrap()[0][0]["subnet"], "10.0.0.0/24");

    let nothing = add(&[("CNI_ARGS", "IP=;MAC=")], &with(r#""runtimeConfig":{"ips":[],"mac":""},"args":{}"#));
    assert!(nothing.network.requested_addresses(&nothing.args).unwrap().is_empty());
    assert_eq!(nothing.network.requested_mac(&nothing.args).unwrap(), None);
    assert!(nothing.network.requested_ranges().is_none());
    for fields in [
        r#""runtimeConfig":{"ips":"10.0.0.1"}"#,
        r#""runtimeConfig":{"ips":[7]}"#,
        r#""args":{"cni":{"ips":["x"]}}"#,
        r#""runtimeConfig":{"mac":7}"#,
        r#""args":{"cni":{"mac":"x"}}"#,
    ] {
        let Attachment { network, .. } = add(&[], &with(fields));
        let failed = [
            network.requested_addresses(&Args::default()).err(),
            network.requested_mac(&Args::default()).err(),
        ];
        assert!(failed.into_iter().flatten().all(|f| f.code == Code::CONFIG), "{fields}");
        assert!(
            network.requested_addresses(&Args::default()).is_err()
                || network.requested_mac(&Args::default()).is_err()
        );
    }
}

fn gc(fields: &str) -> Network {
    let config = if fields.is_empty() { CONFIG.to_owned() } else { with(fields) };
    match read(&[("CNI_COMMAND", "GC")], &config) {
        Ok(Call::Gc(network)) => network,
        other => panic!("no GC: {other:?}"),
    }
}

#[test]
fn valid_attachments_are_read_in_both_spellings() {
    let names = |network: &Network| -> Option<Vec<String>> {
        let valid = network.valid_attachments().unwrap()?;
        Some(valid.iter().map(|id| format!("{}/{}", id.container_id, id.ifname)).collect())
    };
    let one = r#"[{"containerID":"a","ifname":"eth0"}]"#;
    let two = r#"[{"containerID":"b","ifname":"eth1"}]"#;
    let (spec, draft) = ("\"cni.dev/valid-attachments\"", "\"cni.dev/attachments\"");
    assert_eq!(names(&gc(&format!("{spec}:{one}"))).unwrap(), ["a/eth0"]);
    assert_eq!(names(&gc(&format!("{draft}:{two}"))).unwrap(), ["b/eth1"]);
    assert_eq!(names(&gc(&format!("{spec}:{one},{draft}:{two}"))).unwrap(), ["a/eth0", "b/eth1"]);
    assert_eq!(names(&gc(&format!("{spec}:[]"))).unwrap(), [""; 0]);
    assert_eq!(names(&gc(&format!("{spec}:null"))).unwrap(), [""; 0], "Go's empty list");
    assert_eq!(names(&gc("")), None, "what is not said is not an empty list");
    for bad in ["7", r#"[{"containerID":"a"}]"#, r#"{"containerID":"a","ifname":"eth0"}"#] {
        let failure = gc(&format!("{spec}:{bad}")).valid_attachments().unwrap_err();
        assert_eq!(failure.code, Code::DECODE, "{bad}");
    }
}

/// How long random input is tried: a few seconds, or as many as the environment says.
fn until() -> std::time::Instant {
    let seconds = std::env::var("BEELINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    std::time::Instant::now() + std::time::Duration::from_secs(seconds)
}

/// JSON of any shape, with keys that mean something among them.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop::sample::select(vec![
        "cniVersion",
        "name",
        "type",
        "args",
        "cni",
        "ips",
        "mac",
        "ipam",
        "dns",
        "nameservers",
        "runtimeConfig",
        "ipRanges",
        "prevResult",
        "interfaces",
        "address",
        "gateway",
        "interface",
        "routes",
        "dst",
        "gw",
        "plugins",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
        "containerID",
        "ifname",
        "runtimeDir",
        "mtu",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::sample::select(vec![
            "1.1.0",
            "0.3.1",
            "beeline",
            "10.0.0.1/24",
            "fd00::1",
            "02:00:00:00:00:01",
            ""
        ])
        .prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Everything a plugin may ask of what was read.
fn look_at(call: &Call) {
    match call {
        Call::Add(a, _) | Call::Del(a) | Call::Check(a, _) => {
            let _ = (a.network.requested_addresses(&a.args), a.network.requested_mac(&a.args));
            if let Ok(Some(result)) = a.network.prev_result() {
                assert_eq!(result.addresses_of("eth0").count(), result.addresses_of("eth0").count());
                for version in Version::ALL {
                    // What was read once is read again from what is written of it.
                    let written = result.write(version).unwrap();
                    let again = crate::Success::read(written.clone()).unwrap();
                    assert_eq!(again.write(version).unwrap(), written);
                }
            }
        }
        Call::Gc(network) | Call::Status(network) => drop(network.valid_attachments()),
        Call::Version(_) => {}
    }
}

/// Whatever comes in, something readable comes out.
#[test]
fn nothing_makes_reading_panic() {
    let commands = prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]);
    let input = prop_oneof![
        ".{0,200}",
        json().prop_map(|json| json.to_string()),
        json().prop_map(|json| {
            let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
            for (key, value) in json.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
            config.to_string()
        }),
    ];
    let args = prop_oneof![".{0,60}", "((IP|MAC|IgnoreUnknown|K8S_POD_NAME|X)=[0-9a-f:.,/]{0,20};?){0,4}"];
    let all = (commands, input, args, ".{0,40}", ".{0,20}", any::<bool>());
    let end = until();
    while std::time::Instant::now() < end {
        let checked = TestRunner::default().run(&all, |(command, input, args, id, ifname, named)| {
            let mut changes = vec![("CNI_COMMAND", command), ("CNI_ARGS", &*args)];
            if !named {
                changes.extend([("CNI_CONTAINERID", &*id), ("CNI_IFNAME", &*ifname)]);
            }
            match read(&changes, &input) {
                Ok(call) => look_at(&call),
                Err(Refused { failure, version }) => {
                    prop_assert!(failure.reply(version)["code"].as_i64().is_some_and(|code| code > 0));
                }
            }
            Ok(())
        });
        checked.unwrap();
    }
}
