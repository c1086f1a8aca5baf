//! What users of the published crates get, held against `docs/dependencies.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const PAGE: &str = include_str!("../docs/dependencies.md");
const CRATES: [&str; 5] = [
    "tollgate",
    "tollgate-openai",
    "tollgate-batch",
    "tollgate-sim",
    "tollgate-cli",
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "cargo {arguments:?}: {said}");
    String::from_utf8(cargo.stdout).expect("text")
}

/// What a crate brings along by default, itself left out.
fn tree(name: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--offline",
        "-p",
        name,
        "-e",
        "normal",
        "--prefix",
        "none",
    ]);
    let names = tree.lines().filter_map(|line| line.split(" (").next());
    let own = format!("{name} v");
    names
        .filter(|line| !line.is_empty() && !line.starts_with(&own))
        .map(str::to_owned)
        .collect()
}

/// The page's sections by their crate.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let sections = PAGE.split("\n## ").skip(1);
    sections
        .map(|section| section.split_once('\n').expect("a heading"))
        .collect()
}

#[test]
fn the_page_names_every_dependency_and_its_purpose() {
    let metadata = cargo(&[
        "metadata",
        "--offline",
        "--format-version",
        "1",
        "--no-deps",
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    for name in CRATES {
        let packages = metadata["packages"].as_array().expect("packages");
        let package = packages.iter().find(|package| package["name"] == name);
        let all = package.expect("the crate")["dependencies"]
            .as_array()
            .expect("a list");
        let needed: BTreeSet<_> = all
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().expect("a name"))
            .collect();
        let told: BTreeSet<_> = sections()[name]
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(dependency, purpose)| {
                assert!(purpose.len() > 5, "{name}: {dependency} has no purpose");
                dependency
            })
            .collect();
        assert_eq!(told, needed, "docs/dependencies.md, section {name}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_page_counts_what_comes_along() {
    for name in CRATES {
        let told = format!("\n{} crates in all.", tree(name).len());
        let section = sections()[name];
        assert!(
            section.starts_with(&told),
            "docs/dependencies.md, section {name}: {told}"
        );
    }
}

/// tower's traits, tokio, the types of http, pin-project-lite and tracing, with
/// what those cannot do without.
#[test]
fn the_gates_bring_little_along() {
    let allowed = [
        "bytes",
        "http",
        "http-body",
        "itoa",
        "once_cell",
        "pin-project-lite",
        "tokio",
        "tower-layer",
        "tower-service",
        "tracing",
        "tracing-core",
    ];
    for line in tree("tollgate") {
        let name = line.split(' ').next().expect("a name");
        assert!(allowed.contains(&name), "tollgate brings {line} along");
    }
}
