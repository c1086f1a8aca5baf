//! The tree is a promise: who may import whom, in `crates/tollhouse/src`.

use std::fs;
use std::path::{Path, PathBuf};

/// The first two names of every path through `crate` that files under `room`
/// use, by file; what their unit tests use is theirs.
fn imports(room: &str) -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let mut folders = vec![source];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n");
            for name in code.split("crate::").skip(1) {
                let end = name.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
                found.push((path.clone(), name[..end.unwrap_or(name.len())].to_owned()));
            }
            for other in ["tracing::", "metrics::", "tower_service::", "tower_layer::"] {
                if code.contains(other) {
                    found.push((path.clone(), other.to_owned()));
                }
            }
        }
    }
    assert!(!found.is_empty(), "{room} imports something");
    found
}

fn imports_only(room: &str, allowed: &[&str]) {
    for (path, import) in imports(room) {
        let is_allowed = allowed.iter().any(|allowed| import.starts_with(allowed));
        assert!(is_allowed, "{} uses {import}", path.display());
    }
}

#[test]
fn rules_are_pure_and_know_nobody() {
    imports_only(
        "rules",
        &["rules::", "charge::", "time::", "answer::", "error::"],
    );
}

#[test]
fn the_queue_knows_no_gate() {
    let below = [
        "rules::", "charge::", "ask::", "time::", "answer::", "error::",
    ];
    imports_only(
        "queue",
        &[&below[..], &["queue::", "telemetry", "tracing::"]].concat(),
    );
}

#[test]
fn telemetry_knows_neither_a_queue_nor_a_rule() {
    let below = [
        "rules::stats::",
        "answer::",
        "error::",
        "telemetry::",
        "metrics::",
    ];
    imports_only("telemetry", &below);
}
