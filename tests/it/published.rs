//! What users of the published crates get, held against `docs/dependencies.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/dependencies.md");
const CRATES: [&str; 7] = [
    "tollhouse",
    "tollhouse-openai",
    "tollhouse-batch",
    "tollhouse-proxy",
    "tollhouse-redis",
    "tollhouse-sim",
    "tollhouse-cli",
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

/// The platform that this machine builds for.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustc = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let told = String::from_utf8(rustc.stdout).expect("text");
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

/// What a crate brings along by default, itself left out.
fn tree(name: &str) -> BTreeSet<String> {
    tree_with(name, &[])
}

/// With every feature, and what builds it.
fn tree_of_all(name: &str) -> BTreeSet<String> {
    tree_with(name, &["--all-features", "-e", "build"])
}

fn tree_with(name: &str, more: &[&str]) -> BTreeSet<String> {
    let which = ["tree", "--locked", "-p", name];
    let how = ["-e", "normal", "--prefix", "none"];
    let tree = cargo(&[&which[..], &how, more].concat());
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
    let metadata = cargo(&["metadata", "--locked", "--format-version", "1", "--no-deps"]);
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

/// tower's traits, tokio, the types of http, pin-project-lite, fastrand and tracing,
/// with what those cannot do without.
#[test]
fn the_gates_bring_little_along() {
    let allowed = [
        "bytes",
        "fastrand",
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
    for line in tree("tollhouse") {
        let name = line.split(' ').next().expect("a name");
        assert!(allowed.contains(&name), "tollhouse brings {line} along");
    }
}

/// What everything in the workspace is built from on this platform, other people's
/// crates alone. Those of other platforms are not asked for: a machine on which
/// nobody ran `cargo fetch` does not have them. (`cargo deny` sees them all.)
fn dependencies() -> Vec<Value> {
    let metadata = cargo(&[
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &host(),
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let foreign = packages.iter().filter(|it| !it["source"].is_null());
    let foreign: Vec<_> = foreign.cloned().collect();
    assert!(foreign.len() > 100, "{}", foreign.len());
    foreign
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

/// A published crate takes along the text that its licence asks for.
#[test]
fn every_crate_carries_the_licence() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole = std::fs::read(root.join("LICENSE")).expect("the licence");
    for name in CRATES {
        let own = std::fs::read(root.join("crates").join(name).join("LICENSE"));
        assert!(own.is_ok_and(|own| own == whole), "crates/{name}/LICENSE");
    }
}

/// Every licence is one of those in `.deny.toml`, or leaves a choice of one.
#[test]
fn licences_are_permissive() {
    let deny = include_str!("../../.deny.toml");
    let list = deny.split_once("allow = [").expect("a list").1;
    let list = list.split_once(']').expect("an end").0;
    let allowed: BTreeSet<_> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains("MIT") && allowed.len() < 10, "{allowed:?}");
    for package in dependencies() {
        let licence = text(&package, "license").replace(" WITH LLVM-exception", "");
        // `A OR B` leaves a choice, `A AND B` asks for both; `A/B` is the old way
        // to write the first.
        let all_of = licence.split(" AND ").all(|any_of| {
            let any_of = any_of.trim_matches(['(', ')']).replace('/', " OR ");
            any_of.split(" OR ").any(|one| allowed.contains(one.trim()))
        });
        assert!(all_of, "{} has {licence:?}", text(&package, "name"));
    }
}

/// The promised Rust version is one that all that users build is content with.
/// (That our own code is content with it, clippy's `incompatible_msrv` sees.)
#[test]
fn dependencies_build_with_the_promised_rust() {
    let parts = |version: &str| -> Vec<u64> {
        let parts = version.split('.').map(|n| n.parse().expect("a number"));
        parts.chain([0, 0]).take(3).collect()
    };
    let promised = parts(env!("CARGO_PKG_RUST_VERSION"));
    let users: BTreeSet<_> = CRATES.iter().flat_map(|name| tree_of_all(name)).collect();
    for package in dependencies() {
        let (name, wants) = (text(&package, "name"), text(&package, "rust_version"));
        let line = format!("{name} v{}", text(&package, "version"));
        if users.contains(&line) && !wants.is_empty() {
            assert!(parts(wants) <= promised, "{line} wants Rust {wants}");
        }
    }
}
