//! A million lines through the command: how fast, and in how much memory.
//!
//! `cargo bench -p tollhouse-cli --bench million [-- LINES]`. The upstream is a
//! thread of this process that answers every request with the same bytes; the
//! limits are so wide that none binds. Fails where the command is slower than
//! 15,000 lines a second or larger than 60 MB.
#![allow(
    clippy::disallowed_methods,
    reason = "it looks at another process now and then"
)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const LEAST_LINES_A_SECOND: f64 = 15_000.0;
const MOST_BYTES: u64 = 60_000_000;
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() -> io::Result<ExitCode> {
    let number = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let lines: u64 = number.unwrap_or(1_000_000);
    let bench = Bench::prepare(lines)?;
    println!("{lines} lines of {} bytes\n", bench.input_bytes / lines);
    println!("{:24} {:>12} {:>10}", "", "lines/s", "peak MB");
    let mut kept = bench.row("as they finish", &[], 0)?;
    kept &= bench.row("in order", &["--ordered"], 0)?;
    kept &= bench.row("the second half", &[], lines / 2)?;
    fs::remove_dir_all(&bench.directory)?;
    Ok(ExitCode::from(u8::from(!kept)))
}

struct Bench {
    directory: PathBuf,
    input: PathBuf,
    output: PathBuf,
    url: String,
    lines: u64,
    input_bytes: u64,
}

impl Bench {
    fn prepare(lines: u64) -> io::Result<Self> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("million");
        fs::create_dir_all(&directory)?;
        let input = directory.join("in.jsonl");
        write_input(&input, lines)?;
        Ok(Self {
            output: directory.join("out.jsonl"),
            url: upstream()?,
            lines,
            input_bytes: fs::metadata(&input)?.len(),
            input,
            directory,
        })
    }

    /// Runs the command once, after `done` lines were answered by an earlier run
    /// that was killed; whether the promise is kept.
    fn row(&self, name: &str, more: &[&str], done: u64) -> io::Result<bool> {
        for left in ["out.jsonl", "out.errors.jsonl"] {
            let _ = fs::remove_file(self.directory.join(left));
        }
        if done > 0 {
            let mut killed = self.start(more)?;
            while line_count(&self.output)? < done {
                thread::sleep(LOOK_EVERY * 20);
            }
            killed.kill()?;
            killed.wait()?;
        }
        let before = line_count(&self.output).unwrap_or(0);
        let begin = Instant::now();
        let mut child = self.start(more)?;
        let mut peak = 0;
        let status = loop {
            peak = peak.max(peak_bytes(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(LOOK_EVERY);
        };
        assert!(status.success(), "{name}: {status}");
        let rate = (self.lines - before) as f64 / begin.elapsed().as_secs_f64();
        assert!(
            line_count(&self.output)? == self.lines,
            "{name}: lines are missing, or there twice"
        );
        let kept = rate >= LEAST_LINES_A_SECOND && peak <= MOST_BYTES;
        let verdict = if kept { "" } else { "  <- not kept" };
        println!(
            "{name:24} {rate:>12.0} {:>10.1}{verdict}",
            peak as f64 / 1e6
        );
        Ok(kept)
    }

    fn start(&self, more: &[&str]) -> io::Result<Child> {
        Command::new(env!("CARGO_BIN_EXE_tollhouse"))
            .arg("batch")
            .args([self.input.as_path(), Path::new("--output"), &self.output])
            .args(["--tpm-limit", "1000000000000", "--stagger-seconds", "0"])
            .args(["--max-concurrency", "64", "--quiet"])
            .args(more)
            .env_clear()
            .env("OPENAI_BASE_URL", &self.url)
            .env("OPENAI_API_KEY", "key-for-benches")
            .stdin(Stdio::null())
            .spawn()
    }
}

fn write_input(path: &Path, lines: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for n in 0..lines {
        writeln!(
            file,
            r#"{{"custom_id":"request-{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"gpt-4o-mini","max_tokens":10,"messages":[{{"role":"user","content":"What is {n} in words?"}}]}}}}"#
        )?;
    }
    file.flush()
}

fn line_count(path: &Path) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let mut counter = Counter(0);
    io::copy(&mut file, &mut counter)?;
    Ok(counter.0)
}

/// Counts line feeds.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most that a process has had in memory so far, as the kernel counts it.
fn peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// An upstream that costs next to nothing.
fn upstream() -> io::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection));
            }
        });
    });
    Ok(url)
}

/// Answers each request of one connection. Who asks here sends a head of usual
/// form and waits for one answer before the next.
async fn answer(mut connection: TcpStream) {
    const BODY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Forty-two."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}"#;
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (mut buffer, mut held) = (vec![0; 16 * 1_024], 0);
    loop {
        match connection.read(&mut buffer[held..]).await {
            Ok(read) if read > 0 => held += read,
            _ => return,
        }
        if request_bytes(&buffer[..held]).is_some_and(|bytes| held >= bytes) {
            held = 0;
            if connection.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The length of a request whose head is whole.
fn request_bytes(text: &[u8]) -> Option<usize> {
    let head = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&text[..head]).ok()?;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head + 4 + length.parse::<usize>().ok()?)
}
