//! The tree is a promise: no module of the crate leads back to itself, and the
//! rooms know each other one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module by its path, and the modules that its code names. What unit tests
/// use is theirs.
type Modules = BTreeMap<String, BTreeSet<String>>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// `run/task.rs` is `run::task`, `input/mod.rs` is `input`.
fn name(inside: &Path) -> String {
    let parts = inside.with_extension("");
    let parts: Vec<_> = parts.iter().filter_map(|part| part.to_str()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// What is named in a module, each as far as it is a path: `use` and full paths
/// through `crate`, and through `super`, which in this crate is a room.
fn named(module: &str, code: &str) -> Vec<String> {
    let room = module.rsplit_once("::").map_or(module, |(room, _)| room);
    let path = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let through_crate = code.split("crate::").skip(1).map(path);
    let through_super = code.split("super::").skip(1);
    let through_super = through_super.map(|rest| format!("{room}::{}", path(rest)));
    through_crate.chain(through_super).collect()
}

fn modules() -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let name_of = |path: &Path| name(path.strip_prefix(&root).expect("inside"));
    let all: BTreeSet<_> = found.iter().map(|path| name_of(path)).collect();
    let mut modules = Modules::new();
    for path in found {
        let module = name_of(&path);
        let text = fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().expect("a beginning");
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        let named = named(&module, &code).into_iter().filter_map(|path| {
            // The longest part of the path that is a module.
            let mut path = path.as_str();
            while !all.contains(path) {
                path = path.rsplit_once("::")?.0;
            }
            (path != module).then(|| path.to_owned())
        });
        let named = named.collect();
        modules.insert(module, named);
    }
    modules.remove("lib");
    modules
}

/// The modules that are reached from one.
fn reached(modules: &Modules, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for named in modules.get(&module).into_iter().flatten() {
            if reached.insert(named.clone()) {
                next.push(named.clone());
            }
        }
    }
    reached
}

#[test]
fn no_imports_turn_back() {
    let modules = modules();
    assert!(modules["run::files"].contains("run::task"), "{modules:?}");
    assert!(modules["run::task"].contains("input::line"), "{modules:?}");
    for module in modules.keys() {
        let is_in_circle = reached(&modules, module).contains(module);
        assert!(!is_in_circle, "{module} is in a circle");
    }
}

#[test]
fn rooms_know_each_other_one_way() {
    let room = |module: &str| module.split("::").next().map(str::to_owned);
    for (rooms, allowed) in [
        ("input", &["input"][..]),
        ("output", &["output", "input", "error", "format"]),
        ("plan", &["plan", "output", "input", "error", "format"]),
    ] {
        for (module, named) in modules() {
            if room(&module).as_deref() != Some(rooms) {
                continue;
            }
            for other in named {
                let other = room(&other).expect("a room");
                let is_allowed = allowed.contains(&&*other);
                assert!(is_allowed, "{module} uses {other}");
            }
        }
    }
}
