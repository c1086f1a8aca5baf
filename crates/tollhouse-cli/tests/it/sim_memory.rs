//! What clients can make the simulator hold, measured in a real process.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{directory, ended, interrupt, tollhouse, until};

/// The default bound is 256 MiB; the rest is the program itself, and room for an
/// allocator's habits.
const MOST: u64 = 420 << 20;

/// A simulator of default settings but for its limits, and where it listens.
async fn simulator(test: &str) -> (Child, String) {
    let said = directory(test).join("said");
    let mut sim = tollhouse(&["sim", "--listen", "127.0.0.1:0", "--tpm", "none"]);
    sim.args(["--rpm", "none"]).stdout(Stdio::null());
    sim.stderr(fs::File::create(&said).expect("a file"));
    let sim = sim.spawn().expect("it starts");
    let said = || fs::read_to_string(&said).expect("a file");
    until("the address", || said().contains("Ctrl-C")).await;
    let text = said();
    let address = text
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split("/v1").next());
    (sim, address.expect("an address").to_owned())
}

/// The most memory that the process has had, in bytes.
fn peak(sim: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sim.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .expect("a number");
    kib.parse::<u64>().expect("a number") << 10
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Sends a whole call, and says how its answer begins and how long it is.
fn call(address: &str, path: &str, body: &str) -> (String, usize) {
    let mut stream = connect(address);
    stream
        .write_all(head(path, body.len()).as_bytes())
        .expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    let (mut piece, mut first, mut length) = (vec![0; 1 << 20], Vec::new(), 0);
    loop {
        match stream.read(&mut piece).expect("an answer") {
            0 => break,
            read => {
                length += read;
                if first.len() < 1_000 {
                    first.extend_from_slice(&piece[..read.min(1_000)]);
                }
            }
        }
    }
    (String::from_utf8_lossy(&first).into_owned(), length)
}

/// Begins a body of 60 MB and sends it, but for its end, until it is refused;
/// says whether it was.
fn unfinished(address: &str) -> (TcpStream, bool) {
    let mut stream = connect(address);
    let length = 60 << 20;
    let head = head("/v1/chat/completions", length);
    stream.write_all(head.as_bytes()).expect("sent");
    let piece = vec![b' '; 1 << 20];
    for _ in 1..60 {
        stream.write_all(&piece).expect("it goes on reading");
        if is_refused(&mut stream) {
            return (stream, true);
        }
    }
    (stream, false)
}

fn is_refused(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 12];
    stream.set_nonblocking(true).expect("a socket");
    let read = stream.peek(&mut answer);
    stream.set_nonblocking(false).expect("a socket");
    read.is_ok_and(|read| &answer[..read] == b"HTTP/1.1 503")
}

#[tokio::test]
async fn clients_cannot_make_the_simulator_hold_more_than_its_bound() {
    let (sim, address) = simulator("sim_memory").await;

    // One small call for 2,048 vectors of 1,536 numbers.
    let input = vec!["\"x\""; 2_048].join(",");
    let body = format!(r#"{{"model": "m", "input": [{input}]}}"#);
    let (answer, length) = call(&address, "/v1/embeddings", &body);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(length > 30_000_000, "{length}");
    assert!(peak(&sim) < 64 << 20, "{} bytes for one call", peak(&sim));

    // A small body that would be a hundred times as much.
    let body = format!(
        r#"{{"model": "m", "input": [{}1]}}"#,
        "1,".repeat(20_000_000)
    );
    let (answer, _) = call(&address, "/v1/embeddings", &body);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    // Names, each of them short enough.
    for number in 0..1_100 {
        let name = format!("{number:0>250}");
        let body = format!(r#"{{"model": "{name}", "input": "x", "dimensions": 1}}"#);
        let (answer, _) = call(&address, "/v1/embeddings", &body);
        // One name is known already.
        let status = if number < 999 {
            "HTTP/1.1 200 "
        } else {
            "HTTP/1.1 404 "
        };
        assert!(answer.starts_with(status), "{number}: {answer}");
    }

    // 40 bodies of 60 MB that do not end.
    let open: Vec<_> = (0..40).map(|_| unfinished(&address)).collect();
    let refused = open.iter().filter(|(_, refused)| *refused).count();
    assert!(refused >= 30, "{refused}");
    assert!(peak(&sim) < MOST, "{} bytes", peak(&sim));

    // When they have left, others are served.
    drop(open);
    until("room", || {
        let body = r#"{"model": "m", "input": "x", "dimensions": 1}"#;
        call(&address, "/v1/embeddings", body)
            .0
            .starts_with("HTTP/1.1 200 ")
    })
    .await;
    assert!(peak(&sim) < MOST, "{} bytes", peak(&sim));
    interrupt(&sim);
    assert_eq!(ended(sim).await, Some(0));
}
