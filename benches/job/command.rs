//! A job through the real `tollhouse batch`, from the start of its process to
//! its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::time::Instant;

use super::Result;
use super::rows::{REQUESTS_PER_MINUTE, Row, TOKENS_PER_MINUTE};
use super::run::Outcome;

/// Builds the command, as this bench is built, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    // target/release/deps/job-0123
    let bench = std::env::current_exe()?;
    let target = bench.ancestors().nth(3).ok_or("a bench without a target")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "tollhouse-cli",
        ])
        .arg("--target-dir")
        .arg(target)
        .status()?;
    match built.success() {
        true => Ok(target.join("release/tollhouse")),
        false => Err("the command cannot be built".into()),
    }
}

/// Runs it once.
pub(crate) async fn run(
    command: &Path,
    row: &Row,
    url: &str,
    calls: &[Request<Bytes>],
) -> Result<Outcome> {
    let files = Files::new(row, calls)?;
    let begun = Instant::now();
    let ended = tokio::process::Command::from(batch(command, &files, url))
        .kill_on_drop(true)
        .output()
        .await?;
    let time = begun.elapsed();
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("tollhouse batch: {}: {said}", ended.status).into());
    }
    let (answered, latency) = answers(&files.output)?;
    fs::remove_dir_all(files.directory)?;
    Ok(Outcome {
        time,
        answered,
        latency,
    })
}

/// The same policy as [`Row::policy`], as flags.
fn batch(command: &Path, files: &Files, url: &str) -> Command {
    let flags = [
        ("--max-concurrency", 200.to_string()),
        ("--stagger-seconds", 0.to_string()),
        ("--tpm-headroom", 0.01.to_string()),
        ("--tpm-limit", TOKENS_PER_MINUTE.to_string()),
        ("--rpm-limit", REQUESTS_PER_MINUTE.to_string()),
        ("--base-url", url.to_owned()),
    ];
    let mut batch = Command::new(command);
    batch
        .arg("batch")
        .arg(&files.input)
        .arg("--output")
        .arg(&files.output)
        .arg("--quiet");
    for (flag, value) in flags {
        batch.args([flag, &value]);
    }
    batch.env_clear().env("OPENAI_API_KEY", "sk-simulated");
    batch.stdin(Stdio::null()).stdout(Stdio::null());
    batch
}

struct Files {
    directory: PathBuf,
    input: PathBuf,
    output: PathBuf,
}

impl Files {
    fn new(row: &Row, calls: &[Request<Bytes>]) -> Result<Self> {
        let name = format!("tollhouse-job-{}-{}", std::process::id(), row.name);
        let directory = std::env::temp_dir().join(name.replace([' ', ','], "-"));
        fs::create_dir_all(&directory)?;
        let files = Files {
            input: directory.join("in.jsonl"),
            output: directory.join("out.jsonl"),
            directory,
        };
        let lines = calls.iter().enumerate().map(line);
        fs::write(&files.input, lines.collect::<Result<String>>()?)?;
        Ok(files)
    }
}

fn line((number, call): (usize, &Request<Bytes>)) -> Result<String> {
    let body = std::str::from_utf8(call.body())?;
    let url = call.uri();
    Ok(format!(r#"{{"custom_id":"{number}","method":"POST","url":"{url}","body":{body}}}"#) + "\n")
}

/// How many were answered, and what the last of the file took once it had left: a batch sends
/// its lines in their order.
fn answers(output: &Path) -> Result<(u64, Duration)> {
    let mut seconds = BTreeMap::new();
    for line in fs::read_to_string(output)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let told = |key: &str| line["tollhouse"][key].as_f64().ok_or("a time is missing");
        let number: usize = line["custom_id"].as_str().ok_or("no number")?.parse()?;
        seconds.insert(number, told("elapsed_seconds")? - told("waited_seconds")?);
    }
    let last = seconds.last_key_value().map_or(0.0, |(_, took)| *took);
    Ok((seconds.len() as u64, Duration::from_secs_f64(last)))
}
