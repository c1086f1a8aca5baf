//! `tollhouse sim` and `tollhouse demo`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::{Ran, directory, ended, interrupt, line_count, lines, run, tollhouse, until};
use tollhouse_sim::Report;

#[tokio::test]
async fn simulator_says_where_it_is_and_reports_what_it_saw() {
    let directory = directory("sim");
    let path = |name: &str| directory.join(name);
    let file = |name: &str| fs::File::create(path(name)).expect("a file");
    let mut sim = tollhouse(&["sim", "--listen", "127.0.0.1:0", "--tpm", "none", "--json"]);
    sim.stdout(Stdio::from(file("report")))
        .stderr(Stdio::from(file("said")));
    let sim = sim.spawn().expect("it starts");
    let said = || fs::read_to_string(path("said")).expect("a file");
    until("the address", || said().contains("Ctrl-C")).await;
    let said = said();
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("http://"));

    fs::write(path("in"), lines(4, 10)).expect("a file");
    let (input, output) = (path("in"), path("out"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let mut batch = tollhouse(&[
        "batch",
        &text(&input),
        "--output",
        &text(&output),
        "--stagger-seconds",
        "0",
        "--base-url",
        url.expect("an address"),
    ]);
    batch.env("OPENAI_API_KEY", "any");
    let ran = run(batch);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(line_count(&output), 4);

    interrupt(&sim);
    assert_eq!(ended(sim).await, Some(0));
    let report = fs::read_to_string(path("report")).expect("a file");
    let report: Report = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report.total.completed, 4);
}

#[test]
fn help_leads_to_the_page_of_all_settings() {
    let ran = run(tollhouse(&["sim", "--help"]));
    let page = "tollhouse/blob/main/docs/guide/simulator.md";
    assert!(ran.stdout.contains(page), "{}", ran.stdout);
}

#[test]
fn demo_keeps_its_promise_and_shows_the_difference() {
    let ran = demo(&[
        "--speed",
        "40",
        "--requests",
        "100",
        "--direct-callers",
        "3",
    ]);
    assert!(!ran.stdout.contains('\x1b'), "colours without a terminal");
    let rejected = row(&ran, "429s");
    assert_ne!(rejected[0], "0", "{}", ran.stdout);
    assert_eq!(rejected[1..], ["0", "0"], "{}", ran.stdout);
    // How many calls fail without depends on how late a busy machine tries again.
    let failed = row(&ran, "failed calls");
    let none = ["0", "of", "124"];
    assert_eq!(failed[3..], [none, none].concat(), "{}", ran.stdout);
    // Nobody of weight 8 waits behind the whole batch, as those do who come last.
    let waits = seconds(&row(&ran, "direct callers' wait, longest"));
    let [_, first_come, weighed] = waits[..] else {
        panic!("{}", ran.stdout);
    };
    assert!(weighed < first_come / 2.0, "{}", ran.stdout);
    // A minute of whose clock, beside a limit of which a full bucket comes on top?
    assert!(!ran.stderr.contains("last minute"), "{}", ran.stderr);

    let answers = row(&ran, "Answers: ").join(" ");
    assert_eq!(line_count(Path::new(&answers)), 100);
}

/// Slowly, and so a few: a task that a busy machine puts aside between its permission and
/// its launch leaves later, but not as late as the next one here.
#[test]
fn demo_shows_the_spacing_as_it_left() {
    let ran = demo(&["--speed", "2", "--requests", "12", "--direct-callers", "0"]);
    // 0.25 s, which are 125 ms here.
    let gaps = seconds(&row(&ran, "least gap, as they left"));
    let is_spaced = gaps[1..].iter().all(|gap| *gap >= 0.15);
    assert!(gaps[0] < 0.1 && is_spaced, "{}", ran.stdout);
}

fn demo(arguments: &[&str]) -> Ran {
    let ran = run(tollhouse(&[&["demo"], arguments].concat()));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    ran
}

/// The cells of a row, whose name they follow.
fn row<'a>(ran: &'a Ran, name: &str) -> Vec<&'a str> {
    let row = ran.stdout.lines().find_map(|line| line.strip_prefix(name));
    row.expect(name).split_whitespace().collect()
}

/// Times such as `1m 02s` and `3.20s`, in seconds.
fn seconds(cells: &[&str]) -> Vec<f64> {
    let mut minutes = 0.0;
    let second = |cell: &&str| {
        let number = |unit| cell.strip_suffix(unit)?.parse::<f64>().ok();
        if let Some(whole) = number('m') {
            minutes = whole;
            return None;
        }
        Some(std::mem::take(&mut minutes) * 60.0 + number('s').expect("a time"))
    };
    cells.iter().filter_map(second).collect()
}
