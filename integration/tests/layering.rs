//! The arrows between crates run one way (ARCHITECTURE.md): who may depend on whom, and who alone may speak to the
//! kernel. Read from `cargo metadata`; looks at no code.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Result, ensure};
use serde::Deserialize;

/// Our crates, from the bottom up, and which of ours each may depend on.
const ARROWS: [(&str, &[&str]); 10] = [
    ("beeline-abi", &[]),
    ("beeline-ebpf", &["beeline-abi"]),
    ("beeline-cni", &[]),
    ("beeline-report", &[]),
    // Its program is a CNI plugin; the library knows no CNI.
    ("beeline-ipam", &["beeline-cni", "beeline-report"]),
    ("lb-dataplane", &["beeline-abi"]),
    ("beeline", &["beeline-cni", "beeline-ipam", "lb-dataplane"]),
    ("beelined", &["beeline-ipam", "lb-dataplane"]),
    ("beelinectl", &["beeline-report", "lb-dataplane"]),
    // Drives the programs from outside, as their users do.
    ("integration", &[]),
];

/// Crates of others that only some of ours may use: each kind of mechanism has one home.
const HOMES: [(&str, &[&str]); 5] = [
    ("aya", &["beeline-abi", "lb-dataplane"]),
    ("aya-ebpf", &["beeline-ebpf"]),
    ("rtnetlink", &["lb-dataplane"]),
    ("netlink-packet-route", &["lb-dataplane"]),
    ("cni-plugin", &["beeline-cni"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` and `build`; nothing for what the crate itself is made of.
    kind: Option<String>,
}

impl Dependency {
    /// Any crate's tests may be driven by what drives all programs.
    fn is_harness(&self) -> bool {
        self.name == "integration" && self.kind.as_deref() == Some("dev")
    }
}

/// Dependencies of each crate of the workspace at `manifest`, tests' and build scripts' included, but for the
/// harness of tests.
fn dependencies(manifest: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
        .arg(manifest)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let names = |package: Package| {
        let dependencies = package.dependencies.into_iter().filter(|dependency| !dependency.is_harness());
        (package.name, dependencies.map(|dependency| dependency.name).collect())
    };
    Ok(metadata.packages.into_iter().map(names).collect())
}

/// Every dependency that breaks a rule.
fn violations(crates: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in crates {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
            found.push(format!("{name} has no place in the layering: give it one"));
            continue;
        };
        for dependency in dependencies {
            let is_ours = ARROWS.iter().any(|(known, _)| known == dependency);
            if is_ours && !allowed.contains(&dependency.as_str()) {
                found.push(format!("{name} must not depend on {dependency}"));
            }
            let home = HOMES.iter().find(|(known, _)| known == dependency);
            if let Some((_, home)) = home.filter(|(_, home)| !home.contains(&name.as_str())) {
                found.push(format!("{name} must leave {dependency} to {}", home.join(" and ")));
            }
        }
    }
    found
}

#[test]
fn arrows_run_one_way() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut crates = dependencies(&root.join("Cargo.toml"))?;
    crates.extend(dependencies(&root.join("lb-dataplane/ebpf/Cargo.toml"))?);
    assert_eq!(crates.len(), ARROWS.len(), "{:?}", crates.keys());
    assert_eq!(violations(&crates), Vec::<String>::new());
    Ok(())
}

#[test]
fn an_arrow_the_wrong_way_is_found() {
    let crates = BTreeMap::from([
        ("lb-dataplane".to_owned(), vec!["beelined".to_owned(), "aya".to_owned()]),
        ("beelined".to_owned(), vec!["lb-dataplane".to_owned(), "rtnetlink".to_owned()]),
        ("integration".to_owned(), vec!["beeline-abi".to_owned()]),
        ("newcomer".to_owned(), vec![]),
    ]);
    assert_eq!(
        violations(&crates),
        [
            "beelined must leave rtnetlink to lb-dataplane",
            "integration must not depend on beeline-abi",
            "lb-dataplane must not depend on beelined",
            "newcomer has no place in the layering: give it one",
        ]
    );
}
