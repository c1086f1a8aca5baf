//! No two rooms of the crate need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Rooms = BTreeMap<String, BTreeSet<String>>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Each room at the top, and those that its code names.
fn rooms() -> Rooms {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut rooms = Rooms::new();
    for path in found {
        let inside = path.strip_prefix(&root).expect("inside");
        let room = inside.iter().next().expect("a name");
        let room = Path::new(room)
            .file_stem()
            .expect("a name")
            .to_string_lossy();
        let text = fs::read_to_string(&path).expect("a file");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: Vec<_> = code.collect();
        let named = code.iter().flat_map(|line| line.split("crate::").skip(1));
        let end = |rest: &str| {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        };
        let named = named.map(|rest| rest[..end(rest)].to_owned());
        rooms.entry(room.into_owned()).or_default().extend(named);
    }
    rooms
}

/// The rooms that are reached from one.
fn reached(rooms: &Rooms, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(room) = next.pop() {
        for named in rooms.get(&room).into_iter().flatten() {
            if reached.insert(named.clone()) {
                next.push(named.clone());
            }
        }
    }
    reached
}

#[test]
fn no_imports_turn_back() {
    let mut rooms = rooms();
    rooms.remove("lib");
    for (room, named) in &mut rooms {
        named.remove(room);
    }
    assert!(
        rooms.len() > 12 && rooms["pass"].contains("gates"),
        "{rooms:?}"
    );
    for room in rooms.keys() {
        assert!(
            !reached(&rooms, room).contains(room),
            "{room} is in a circle"
        );
    }
}
