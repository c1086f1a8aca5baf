//! Commands that go by the account's file while it changes.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use tollhouse_sim::Sim;

use crate::common::{
    Provider, Started, assert_each_once, directory, ended, interrupt, lines, run, signal, start,
    text, until,
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

/// A proxy that goes by a file.
struct Following {
    child: Started,
    file: PathBuf,
    said: PathBuf,
}

impl Following {
    async fn start(test: &str, provider: &Provider, account: &str) -> Self {
        let directory = directory(test);
        let (file, said) = (directory.join("tollhouse.toml"), directory.join("said"));
        fs::write(&file, account).unwrap();
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
        let following = Following { child, file, said };
        following.says("export").await;
        following
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    async fn says(&self, what: &str) {
        until(what, || self.text().contains(what)).await;
    }

    async fn ends(self) {
        interrupt(&self.child);
        let said = self.text();
        assert_eq!(ended(self.child).await, Some(0), "{said}");
    }
}

/// The signal to hang up has the file read at once, and ends nothing.
#[tokio::test]
async fn a_proxy_reads_its_file_again_when_it_is_told_to() {
    let provider = Provider::start(Sim::builder()).await;
    let before = "[defaults]\nheadroom = 0.1\n";
    let proxy = Following::start("reload_proxy", &provider, before).await;
    signal(&proxy.child, "-HUP");
    proxy.says("tollhouse.toml says what it said").await;
    let after = "[defaults]\nheadroom = 0.2\n[callers.web]\nweight = 8\n";
    fs::write(&proxy.file, after).unwrap();
    signal(&proxy.child, "-HUP");
    let weight = "[callers.\"web\"] weight: 8, until now not said";
    proxy.says(weight).await;
    let headroom = "[defaults] headroom: 0.2, until now 0.1";
    assert!(proxy.text().contains(headroom), "{}", proxy.text());
    proxy.ends().await;
}

/// What a file says is what counts, and neither its size nor its time.
#[tokio::test]
async fn a_change_is_seen_that_keeps_size_and_time() {
    let provider = Provider::start(Sim::builder()).await;
    let before = "[defaults]\nheadroom = 0.1\n";
    let proxy = Following::start("reload_size", &provider, before).await;
    let time = fs::metadata(&proxy.file).unwrap().modified().unwrap();
    // As tools do that copy times along: in its place, so that it is never seen half done.
    let next = proxy.file.with_extension("next");
    fs::write(&next, before.replace("0.1", "0.2")).unwrap();
    let times = fs::FileTimes::new().set_modified(time);
    let opened = fs::File::options().write(true).open(&next).unwrap();
    opened.set_times(times).unwrap();
    fs::rename(&next, &proxy.file).unwrap();
    proxy.says("[defaults] headroom: 0.2, until now 0.1").await;
    proxy.ends().await;
}

/// Editors empty a file before they write it anew, and a full disk leaves it so.
#[tokio::test]
async fn an_emptied_file_is_no_account() {
    let provider = Provider::start(Sim::builder()).await;
    let account = "[defaults]\nmax_concurrency = 1\n";
    let proxy = Following::start("reload_empty", &provider, account).await;
    for (turn, empty) in ["", " \n\t\n"].into_iter().enumerate() {
        fs::write(&proxy.file, empty).unwrap();
        let kept = || proxy.text().matches("The account is as it was: ").count();
        until("the word", || kept() == turn + 1).await;
        assert!(proxy.text().contains("it is empty"), "{}", proxy.text());
    }
    fs::write(&proxy.file, account).unwrap();
    proxy.says("tollhouse.toml says what it said").await;
    fs::write(&proxy.file, "# All as by default.\n").unwrap();
    proxy
        .says("[defaults] max_concurrency: 3, until now 1")
        .await;

    fs::write(&proxy.file, "").unwrap();
    let file = text(&proxy.file);
    for arguments in [
        &["proxy", "--config", file][..],
        &["account", "check", file],
    ] {
        let ran = run(provider.tollhouse(arguments));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("it is empty"), "{ran:?}");
    }
    proxy.ends().await;
}
