//! Commands that go by the account's file while it changes.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use tollhouse_sim::Sim;

use crate::common::{
    Provider, Started, assert_each_once, directory, ended, interrupt, lines, signal, start, until,
};

/// An hour between two launches, of which the file says after the first: none.
#[tokio::test]
async fn a_batch_goes_by_its_file_while_that_changes() {
    let provider = Provider::start(Sim::builder()).await;
    let directory = directory("reload_batch");
    let path = |name: &str| directory.join(name);
    let (file, input, output) = (path("tollhouse.toml"), path("in.jsonl"), path("out.jsonl"));
    fs::write(&input, lines(5, 20)).unwrap();
    fs::write(&file, "[defaults]\nstagger_seconds = 3600\n").unwrap();
    let text = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    let arguments = [
        "batch",
        "in.jsonl",
        "--output",
        "out.jsonl",
        "--config",
        "tollhouse.toml",
    ];
    let mut command = provider.tollhouse(&arguments);
    // A variable would lie over the file.
    command
        .current_dir(&directory)
        .env_remove("OPENAI_STAGGER_SECONDS");
    let said = path("said");
    let child = start(command, &said);
    until("the first answer", || text(&output).lines().count() == 1).await;

    // A slip changes nothing, and is told with its place.
    fs::write(&file, "[defaults]\nstager_seconds = 0\n").unwrap();
    until("the error", || {
        text(&said).contains("The account is as it was: ")
            && text(&said).contains("line 2, [defaults]: stager_seconds is not known")
    })
    .await;
    assert_eq!(text(&output).lines().count(), 1);

    fs::write(
        &file,
        "[defaults]\nstagger_seconds = 0\nmax_concurrency = 2\n",
    )
    .unwrap();
    assert_eq!(ended(child).await, Some(0), "{}", text(&said));
    assert_each_once(&output, 5);
    let change = "[defaults] stagger_seconds: 0, until now 3600";
    assert!(text(&said).contains(change), "{}", text(&said));
}

/// Where there is no file the signal to hang up ends nothing either; and that nobody reads what
/// is said keeps nothing from its end.
#[tokio::test]
async fn a_proxy_goes_on_whoever_hangs_up() {
    let provider = Provider::start(Sim::builder()).await;
    let mut command = provider.tollhouse(&["proxy", "--listen", "127.0.0.1:0"]);
    let (mut said, stderr) = std::io::pipe().unwrap();
    command
        .env("TOLLHOUSE_TOKEN", "t")
        .stdout(Stdio::null())
        .stderr(stderr);
    let child = Started::from(command.spawn().expect("it starts"));
    drop(command);
    let mut text = String::new();
    let mut hear = |what: &str| {
        while !text.contains(what) {
            let mut bytes = [0; 4_096];
            let count = said.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "it ended after {text}");
            text.push_str(str::from_utf8(&bytes[..count]).unwrap());
        }
    };
    hear("export");
    signal(&child, "-HUP");
    hear("no file");
    drop(said);
    signal(&child, "-HUP");
    signal(&child, "-TERM");
    assert_eq!(ended(child).await, Some(0));
}

/// The signal to hang up has the file read at once, and ends nothing.
#[tokio::test]
async fn a_proxy_reads_its_file_again_when_it_is_told_to() {
    let provider = Provider::start(Sim::builder()).await;
    let directory = directory("reload_proxy");
    let (file, said) = (directory.join("tollhouse.toml"), directory.join("said"));
    fs::write(&file, "[defaults]\nheadroom = 0.1\n").unwrap();
    let arguments = [
        "proxy",
        "--listen",
        "127.0.0.1:0",
        "--config",
        "tollhouse.toml",
    ];
    let mut command = provider.tollhouse(&arguments);
    command.current_dir(&directory).env("TOLLHOUSE_TOKEN", "t");
    let child = start(command, &said);
    let text = || fs::read_to_string(&said).unwrap_or_default();
    until("the greeting", || text().contains("export")).await;

    signal(&child, "-HUP");
    until("the answer", || {
        text().contains("tollhouse.toml says what it said")
    })
    .await;
    fs::write(
        &file,
        "[defaults]\nheadroom = 0.2\n[callers.web]\nweight = 8\n",
    )
    .unwrap();
    signal(&child, "-HUP");
    until("the changes", || {
        text().contains("[callers.\"web\"] weight: 8, until now not said")
            && text().contains("[defaults] headroom: 0.2, until now 0.1")
    })
    .await;
    interrupt(&child);
    assert_eq!(ended(child).await, Some(0), "{}", text());
}
