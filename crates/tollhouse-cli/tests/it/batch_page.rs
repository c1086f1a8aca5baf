//! A batch's page, while it runs and afterwards.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollhouse_sim::Sim;

use crate::common::{Files, Provider, assert_each_once, ended, line, lines, run, start, until};

/// Answers after 0.3 s, so that a batch lasts until somebody watches it on a busy machine.
async fn slow() -> Provider {
    let sim = Sim::builder().latency(Duration::from_millis(300), Duration::ZERO);
    Provider::start(sim).await
}

async fn get(address: &str, path: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let _ = socket.read_to_end(&mut seen).await;
    String::from_utf8(seen).unwrap()
}

/// What stands in a report for its script.
fn told(report: &str) -> Value {
    let (_, inside) = report.split_once("id=\"told\">").expect("a place");
    let (inside, _) = inside.split_once("</script>").expect("its end");
    serde_json::from_str(inside).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_it_to_its_end_and_a_report_is_left() {
    let provider = slow().await;
    let files = Files::new("page", lines(16, 10));
    let report = files.output.with_extension("html");
    let asked = [
        "--page",
        "--report",
        report.to_str().unwrap(),
        "--max-concurrency",
        "2",
        "--caller",
        "<b>nightly</b>",
        "--quiet",
    ];
    let child = start(provider.tollhouse(&files.arguments(&asked)), &files.stderr);
    let said = || fs::read_to_string(&files.stderr).unwrap_or_default();
    until("the address", || said().contains("/tollhouse/\n")).await;
    let said = said();
    let (_, url) = said.split_once("Page at http://").expect("an address");
    let address = url.split('/').next().unwrap().to_owned();
    let host = format!("host: {address}\r\n");
    let (page, foreign, events) = tokio::join!(
        get(&address, "/tollhouse/", &host),
        get(&address, "/tollhouse/events", "host: evil.example\r\n"),
        get(&address, "/tollhouse/events", &host),
    );
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(foreign.starts_with("HTTP/1.1 421"), "{foreign}");
    assert_eq!(ended(child).await, Some(0));
    assert_each_once(&files.output, 16);

    let events: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|event| serde_json::from_str(event).expect("JSON"))
        .collect();
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!(first["kind"], "batch");
    assert_eq!(first["over"], false);
    // Whoever comes early does not hear yet how many there are.
    let is_told = |event: &Value| event["over"] == false && event["progress"]["total"] == 16;
    assert!(events.iter().any(is_told), "{events:?}");
    assert_eq!(
        (&last["over"], &last["progress"]["done"]),
        (&true.into(), &16.into())
    );

    let written = fs::read_to_string(&report).expect("a report");
    let told = told(&written);
    assert_eq!(
        (&told["over"], &told["progress"]["done"]),
        (&true.into(), &16.into())
    );
    assert!(
        told["written"].as_u64() > Some(1_700_000_000),
        "{}",
        told["written"]
    );
    let points = told["pools"][0]["points"].as_array().unwrap();
    let launched: u64 = points.iter().map(|point| point[3].as_u64().unwrap()).sum();
    assert_eq!(launched, 16);
    let call = &told["recent"][15];
    let pool = told["pools"][0]["name"].as_str();
    assert!(pool > Some("") && call["pool"].as_str() == pool, "{call}");
    assert_eq!(
        (&call["status"], &call["attempts"]),
        (&200.into(), &1.into())
    );
    assert_eq!(call["caller"], "<b>nightly</b>");
    assert!(call["what"].as_str().unwrap().starts_with('r'), "{call}");
    let waits = |call: &Value| call["wait_seconds"].as_f64().unwrap();
    let longest = told["recent"].as_array().unwrap().iter().map(waits);
    assert!(
        longest.fold(0.0, f64::max) > 0.3,
        "the last ones waited for a slot"
    );
    assert!(
        !written.contains("key-for-tests") && !written.contains("<b>nightly"),
        "it is escaped"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_for_this_machine_and_a_report_that_cannot_be_left_is_told() {
    let provider = slow().await;
    let files = Files::new("page-refused", line("r0", 10));
    let beyond = run(provider.tollhouse(&files.arguments(&["--page=0.0.0.0:0"])));
    assert_eq!(beyond.code, Some(2));
    assert!(beyond.stderr.contains("loopback"), "{}", beyond.stderr);
    let same = ["--report", files.output.to_str().unwrap()];
    let same = run(provider.tollhouse(&files.arguments(&same)));
    assert_eq!(same.code, Some(2), "{}", same.stderr);
    assert_eq!(provider.sim.report().arrived, 0);

    let folder = files.output.with_file_name("folder");
    let report = folder.join("x.html");
    let to = |flag, file: &std::path::Path| {
        provider.tollhouse(&files.arguments(&[flag, file.to_str().unwrap()]))
    };
    for (flag, file, said) in [
        ("--report", &report, "there is no folder "),
        ("--summary", &report, "there is no folder "),
        (
            "--summary",
            &files.output.with_file_name("."),
            " is a folder",
        ),
    ] {
        let told = run(to(flag, file));
        assert_eq!(told.code, Some(2), "{}", told.stderr);
        assert!(
            told.stderr.contains(flag) && told.stderr.contains(said),
            "{}",
            told.stderr
        );
    }
    assert_eq!(provider.sim.report().arrived, 0);

    // The answers are there all the same.
    fs::create_dir(&folder).unwrap();
    let child = start(to("--report", &report), &files.stderr);
    until("the call", || provider.sim.report().arrived == 1).await;
    fs::remove_dir(&folder).unwrap();
    assert_eq!(ended(child).await, Some(2));
    let told = fs::read_to_string(&files.stderr).unwrap();
    assert!(told.contains("--report"), "{told}");
    assert_each_once(&files.output, 1);
}
