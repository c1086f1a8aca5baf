//! The tree is a promise: no file leads back to itself, and the rooms of a crate know each
//! other one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of a crate, a file each, and the paths that its code goes through: those of
/// the crate, from its root, and other crates' by name. What unit tests use is theirs.
type Modules = BTreeMap<String, BTreeSet<String>>;

const CRATES: [&str; 7] = [
    "tollhouse",
    "tollhouse-batch",
    "tollhouse-cli",
    "tollhouse-openai",
    "tollhouse-proxy",
    "tollhouse-redis",
    "tollhouse-sim",
];

/// Who may know whom: what a room's paths may begin with, besides its own.
const ROOMS: [(&str, &str, &[&str]); 7] = [
    // Rules are pure: they know neither a queue nor who watches.
    ("tollhouse", "rules", &["charge", "time", "answer", "error"]),
    (
        "tollhouse",
        "queue",
        &[
            "rules",
            "charge",
            "ask",
            "time",
            "answer",
            "error",
            "telemetry",
            "tracing",
        ],
    ),
    (
        "tollhouse",
        "telemetry",
        &["rules::stats", "answer", "error", "metrics"],
    ),
    ("tollhouse-openai", "wire", &["call"]),
    ("tollhouse-batch", "input", &[]),
    ("tollhouse-batch", "output", &["input", "error", "format"]),
    (
        "tollhouse-batch",
        "plan",
        &["output", "input", "error", "format"],
    ),
];

/// Other crates that a room may be kept from.
const WATCHED: [&str; 4] = ["tracing", "metrics", "tower_service", "tower_layer"];

fn modules(of: &str) -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.join("crates").join(of).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let sources = found.into_iter().map(|path| {
        let module = name(path.strip_prefix(&root).expect("inside"));
        (module, fs::read_to_string(&path).expect("a file"))
    });
    let sources: BTreeMap<_, _> = sources.collect();
    let named = sources.iter().map(|(module, text)| {
        let paths = paths(module, &code(text)).into_iter();
        (module.clone(), paths.collect())
    });
    named.collect()
}

/// The source files below a folder, without those of unit tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_of_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        match path.extension() {
            _ if is_of_tests => {}
            None if path.is_dir() => files(&path, found),
            Some(ending) if ending == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// `run/task.rs` is `run::task`, `input/mod.rs` is `input`, `lib.rs` the empty path.
fn name(inside: &Path) -> String {
    let parts = inside.with_extension("");
    let parts = parts.iter().filter_map(|part| part.to_str());
    let parts: Vec<_> = parts.filter(|part| !is_root(part)).collect();
    parts.join("::")
}

fn is_root(part: &str) -> bool {
    matches!(part, "mod" | "lib" | "main")
}

/// Without comments, and without the module of unit tests at the end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next();
    let lines = text.expect("a beginning").lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is named through `crate`, through `super`, and of other crates.
fn paths(module: &str, code: &str) -> Vec<String> {
    let above = module.rsplit_once("::").map_or("", |(above, _)| above);
    let through = |start: &str, from: &str| {
        let named = code.split(start).skip(1);
        let named = named.map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
            format!("{from}::{}", &rest[..end.unwrap_or(rest.len())])
        });
        named.collect::<Vec<_>>()
    };
    let others = WATCHED
        .iter()
        .filter(|other| code.contains(&format!("{other}::")));
    let mut paths = through("crate::", "");
    paths.extend(through("super::", above));
    paths.extend(others.map(|other| (*other).to_owned()));
    let paths = paths.into_iter();
    paths
        .map(|path| path.trim_matches(':').to_owned())
        .collect()
}

/// Who takes something from whom: the longest part of each path that is a file. That a
/// folder's own file names what is in the folder is no import, but its table of contents.
fn arrows(modules: &Modules) -> Modules {
    let file_of = |mut path: &str| {
        while !modules.contains_key(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    let arrows = modules.iter().map(|(module, paths)| {
        let inside = format!("{module}::");
        let to = paths.iter().filter_map(|path| file_of(path));
        let to = to.filter(|to| to != module && !to.starts_with(&inside));
        (module.clone(), to.collect())
    });
    arrows.filter(|(module, _)| !module.is_empty()).collect()
}

/// The files that are reached from one.
fn reached(arrows: &Modules, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for to in arrows.get(&module).into_iter().flatten() {
            if reached.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    reached
}

#[test]
fn no_imports_turn_back() {
    let mut circles = Vec::new();
    for of in CRATES {
        let arrows = arrows(&modules(of));
        let is_in_circle = |module: &&String| reached(&arrows, module).contains(*module);
        circles.extend(
            arrows
                .keys()
                .filter(is_in_circle)
                .map(|at| format!("{of}: {at} -> {:?}", arrows[at])),
        );
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn rooms_know_each_other_one_way() {
    let is_in = |path: &str, room: &str| {
        let rest = path.strip_prefix(room);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    for (of, room, allowed) in ROOMS {
        let modules = modules(of);
        let inside = modules.iter().filter(|(module, _)| is_in(module, room));
        let named: Vec<_> = inside
            .flat_map(|(module, paths)| paths.iter().map(move |path| (module, path)))
            .collect();
        assert!(!named.is_empty(), "nothing is imported in {of}: {room}");
        for (module, path) in named {
            let mut allowed = allowed.iter().chain([&room]);
            let is_allowed = allowed.any(|allowed| is_in(path, allowed));
            assert!(is_allowed, "{of}: {module} uses {path}");
        }
    }
}
