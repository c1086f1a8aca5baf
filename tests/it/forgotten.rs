//! What the compiler says where `.until_response()` was forgotten, or a body is none that a
//! policy can take.
//!
//! Wherever a service is asked for, as in `tests/ui`, it says what to do. Only a method
//! that is called on the gated service itself hides that behind "method cannot
//! be called": then the compiler looks for a method and not for a bound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo has put the libraries that this test is linked with.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("a test");
    test.parent().expect("its directory").to_owned()
}

/// Every build of a crate, the newest first: what cargo has just built, or has found to be
/// fresh, is no older than what another choice of features has left there.
fn builds(krate: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{krate}-");
    let built = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".rlib"))
    };
    let entries = fs::read_dir(libraries()).expect("a directory");
    let mut builds: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(built)
        .collect();
    builds.sort_by_key(|path| {
        fs::metadata(path)
            .and_then(|it| it.modified())
            .expect("a time")
    });
    builds.reverse();
    builds
}

/// What the compiler of this test says of a program that uses these builds of a crate and of
/// tower.
fn told(program: &str, (krate, build): (&str, &Path), tower: &Path) -> String {
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program.replace('/', "-"));
    let uses = |krate: &str, build: &Path| format!("--extern={krate}={}", build.display());
    let rustc = Command::new(rustc)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--emit=metadata",
            "-o",
        ])
        .arg(output)
        .arg(format!("-Ldependency={}", libraries().display()))
        .args([uses(krate, build), uses("tower", tower)])
        .args(["--color=never", program])
        .output()
        .expect("rustc runs");
    assert!(!rustc.status.success(), "{program} compiles");
    String::from_utf8(rustc.stderr).expect("text")
}

/// Says the compiler of a program what is in the file of its name.
///
/// Both up to the list of what implements the trait, which names places in other crates.
#[track_caller]
fn is_told(program: &str, krate: &str) {
    // Builds of another compiler lie there too, perhaps, and none of them can be read.
    const UNREADABLE: [&str; 3] = ["error[E0460]", "error[E0463]", "error[E0514]"];
    let pairs = builds(krate).into_iter().flat_map(|it| {
        builds("tower")
            .into_iter()
            .map(move |tower| (it.clone(), tower))
    });
    let said = pairs
        .map(|(build, tower)| told(program, (krate, &build), &tower))
        .find(|said| !UNREADABLE.iter().any(|error| said.contains(error)))
        .expect("a build of both that this compiler can read");

    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(program);
    let wanted = fs::read_to_string(path.with_extension("stderr")).expect("a file");
    assert!(said.starts_with(&wanted), "{program}: {said}");
    assert_eq!(said.matches("\nerror").count(), 1, "{program}: {said}");
    assert!(
        said.contains("aborting due to 1 previous error"),
        "{program}: {said}"
    );
}

#[test]
fn the_compiler_says_what_to_do_where_a_service_is_boxed() {
    is_told("ui/boxed.rs", "tollhouse");
}

#[test]
fn the_compiler_says_what_to_do_where_a_service_is_handed_on() {
    is_told("ui/fused.rs", "tollhouse");
}

#[test]
fn the_compiler_says_what_a_policy_asks_of_a_body() {
    is_told("ui/body.rs", "tollhouse_openai");
}
