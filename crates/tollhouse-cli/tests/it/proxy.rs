//! `tollhouse proxy`, as a process before a simulated provider.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollhouse_sim::Sim;

use crate::common::{
    Provider, Started, directory, ended, interrupt, run, signal, tollhouse, tollhouse_at, until,
};

const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":20,"messages":[{"role":"user","content":"PLANTED-PROMPT"}]}"#;

/// The proxy as a process.
pub(crate) struct Running {
    pub(crate) child: Started,
    pub(crate) address: String,
    said: PathBuf,
}

impl Running {
    pub(crate) async fn start(test: &str, provider: &Provider, arguments: &[&str]) -> Self {
        Self::start_where(test, provider, arguments, |command| command).await
    }

    /// The same in another environment.
    async fn start_where(
        test: &str,
        provider: &Provider,
        arguments: &[&str],
        environment: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let arguments = [&["proxy", "--listen", "127.0.0.1:0"], arguments].concat();
        let said = directory(test).join("said");
        let mut command = provider.tollhouse(&arguments);
        command
            .env("OPENAI_API_KEY", "sk-PLANTED-KEY")
            .env("TOLLHOUSE_TOKEN", "t-PLANTED-TOKEN")
            .stdout(Stdio::from(
                fs::File::create(said.with_extension("out")).unwrap(),
            ))
            .stderr(Stdio::from(fs::File::create(&said).unwrap()));
        environment(&mut command);
        let child = Started::from(command.spawn().expect("it starts"));
        let mut address = None;
        until("the address", || {
            address = address_in(&fs::read_to_string(&said).unwrap());
            address.is_some()
        })
        .await;
        Running {
            address: address.expect("it is told"),
            child,
            said,
        }
    }

    pub(crate) async fn ask(&self, line: &str, token: &str, body: &str) -> String {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(&self.address).await.expect("it listens");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut seen = String::new();
        socket.read_to_string(&mut seen).await.unwrap();
        seen
    }

    /// All that it wrote.
    fn output(&self) -> String {
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
        read(&self.said) + &read(&self.said.with_extension("out"))
    }
}

/// What a proxy tells first, once it has told all of it.
fn address_in(said: &str) -> Option<String> {
    if let Ok(told) = serde_json::from_str::<Value>(said.lines().next()?) {
        return Some(told["address"].as_str().expect("an address").to_owned());
    }
    let (before, _) = said.split_once("export ")?;
    let url = before
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"));
    Some(url?.split('/').next()?.to_owned())
}

#[tokio::test]
async fn a_call_passes_is_counted_and_logged_without_secrets() {
    let provider = Provider::start(Sim::builder().api_key("sk-PLANTED-KEY")).await;
    let log = ["--log-format", "json"];
    let running = Running::start("proxy_call", &provider, &log).await;
    let answer = running
        .ask(
            "POST /v1/chat/completions?x=PLANTED-QUERY",
            "t-PLANTED-TOKEN",
            CHAT,
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("x-tollhouse-charge: "), "{answer}");
    let answer = running
        .ask("POST /v1/responses", "t-PLANTED-WRONG", CHAT)
        .await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let metrics = running.ask("GET /metrics", "t-PLANTED-TOKEN", "").await;
    for says in [
        "# HELP tollhouse_wait_seconds Time from asking",
        "# TYPE tollhouse_wait_seconds histogram",
        "tollhouse_wait_seconds_bucket{",
    ] {
        assert!(metrics.contains(says), "{says}: {metrics}");
    }
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );

    let page = format!(r#""page":"http://{}/tollhouse/""#, running.address);
    assert!(running.output().contains(&page), "{page}");

    interrupt(&running.child);
    let output = running.said.clone();
    let text = running.output();
    let code = ended(running.child).await;
    assert_eq!(code, Some(0), "{text}");
    let text = fs::read_to_string(output).unwrap() + &text;
    assert!(!text.contains("PLANTED"), "{text}");
    let calls: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &Value| line["message"] == "call")
        .collect();
    assert_eq!(calls[0]["status"], 200, "{text}");
    assert_eq!(
        (&calls[0]["caller"], &calls[0]["attempts"]),
        (&"".into(), &1.into())
    );
    assert!(
        calls[0]["wait_ms"].is_number() && calls[0]["total_ms"].is_number(),
        "{text}"
    );
    assert_eq!(calls[0]["gen_ai.request.model"], "gpt-4o", "{text}");
    assert!(calls[0]["read_ms"].is_number(), "{text}");
    assert_eq!(calls[1]["status"], 401, "{text}");
}

/// Without a limit any number may be asked for; a budget takes no more than it can count.
#[tokio::test]
async fn what_was_taken_is_told_alike_in_the_answer_the_log_and_the_counts() {
    let provider = Provider::start(Sim::builder()).await;
    let flags = ["--tpm-limit", "unlimited", "--log-format", "json"];
    let running = Running::start("proxy_taken", &provider, &flags).await;
    let chat = CHAT.replace(":20,", ":99999999999999999999999,");
    let answer = running.ask("POST /v1/chat/completions", "t-PLANTED-TOKEN", &chat);
    let answer = answer.await;
    let charge = "x-tollhouse-charge: 1000000000000\r\n";
    assert!(answer.contains(charge), "{answer}");
    let metrics = running.ask("GET /metrics", "t-PLANTED-TOKEN", "").await;
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("tollhouse_reserved_tokens_total{"))
        .expect("it is counted");
    assert!(counted.ends_with(" 1000000000000"), "{counted}");
    let logged = r#""charge_tokens":1000000000000,"#;
    until("its line", || running.output().contains(logged)).await;
}

/// A call that is under way at the provider, and nothing else is, for as long as this is kept.
async fn begin(running: &Running, provider: &Provider) -> TcpStream {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer t-PLANTED-TOKEN\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    let mut socket = TcpStream::connect(&running.address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    until("the call", || provider.sim.report().in_flight == 1).await;
    socket
}

/// Whoever gathers a log of objects finds nothing else in it, from the first line to the last: not
/// what the proxy says of itself, whichever calls are logged.
#[tokio::test]
async fn a_log_of_objects_is_nothing_else() {
    let slow = Sim::builder().latency(Duration::from_secs(60), Duration::ZERO);
    let provider = Provider::start(slow).await;
    for (filter, logs_calls) in [("", true), ("off", false), ("tollhouse=warn", false)] {
        let test = format!("proxy_objects_{}", filter.replace('=', "_"));
        let file = directory(&format!("{test}_file")).join("tollhouse.toml");
        let slots = |n: u32| format!("[defaults]\nmax_concurrency = {n}\n");
        fs::write(&file, slots(2)).unwrap();
        let path = file.to_str().unwrap();
        let flags = [
            "--config",
            path,
            "--log-format",
            "json",
            "--drain-seconds",
            "0.1",
        ];
        let running = Running::start_where(&test, &provider, &flags, |command| {
            command.env("RUST_LOG", filter)
        })
        .await;
        let socket = begin(&running, &provider).await;
        for (says, told) in [
            ("[[[".to_owned(), "The account is as it was: "),
            (slots(3), "was read again:\\n"),
        ] {
            fs::write(&file, says).unwrap();
            until(told, || running.output().contains(told)).await;
        }
        signal(&running.child, "-HUP");
        until("no change", || {
            running.output().contains("says what it said")
        })
        .await;
        interrupt(&running.child);
        let (said, address) = (running.said.clone(), running.address.clone());
        assert_eq!(ended(running.child).await, Some(0));
        drop(socket);
        until("the call's end", || provider.sim.report().in_flight == 0).await;

        let text = fs::read_to_string(said).unwrap();
        let object = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let lines: Vec<Value> = text.lines().map(object).collect();
        for line in &lines {
            let time = line["timestamp"].as_str().expect("a time");
            assert!(time.len() > 20 && time.ends_with('Z'), "{line}");
            assert!(
                line["message"].is_string() && line["target"].is_string(),
                "{line}"
            );
        }
        assert_eq!(lines[0]["address"], address, "{text}");
        let upstream = lines[0]["upstream"].as_str().expect("a URL");
        assert_eq!(upstream.trim_end_matches('/'), provider.url(), "{text}");
        assert_eq!(lines[0]["url"], format!("http://{address}/v1"));
        let level = |part: &str| {
            let says = |line: &&Value| line["message"].as_str().unwrap().contains(part);
            lines.iter().find(says).expect(part)["level"].clone()
        };
        for (part, is) in [
            ("The account is as it was: ", "WARN"),
            ("was read again:\n  ", "INFO"),
            ("says what it said", "INFO"),
            ("Stopping; ", "INFO"),
            ("1 call was cut off.", "WARN"),
        ] {
            assert_eq!(level(part), is, "{text}");
        }
        let is_call = |line: &Value| line["message"] == "call";
        assert_eq!(lines.iter().any(is_call), logs_calls, "{text}");
    }
}

/// What clients say of themselves is theirs to choose, and no field of anybody else's.
#[tokio::test]
async fn names_of_clients_make_no_fields_of_the_log() {
    let provider = Provider::start(Sim::builder()).await;
    let forged = r#"x" status=500 caller=boss"#;
    let token = format!(
        "t-PLANTED-TOKEN\r\nx-tollhouse-caller: {forged}\r\nx-tollhouse-request-id: {forged}"
    );
    let chat = CHAT.replace("gpt-4o", &forged.replace('"', "\\\""));
    for format in ["text", "json"] {
        let test = format!("proxy_forged_{format}");
        let log = ["--log-format", format];
        let running = Running::start(&test, &provider, &log).await;
        let path = "POST /v1/chat/completions";
        let answer = running.ask(path, &token, &chat).await;
        assert!(answer.contains("x-tollhouse-charge: "), "{answer}");
        interrupt(&running.child);
        let said = running.said.clone();
        assert_eq!(ended(running.child).await, Some(0));
        let text = fs::read_to_string(said).unwrap();
        let line = text.lines().find(|line| line.contains("boss"));
        let line = line.expect("a line of the call");
        if format == "json" {
            let line: Value = serde_json::from_str(line).unwrap();
            for field in ["caller", "request_id", "gen_ai.request.model"] {
                assert_eq!(line[field], forged, "{field}: {line}");
            }
        } else {
            let quoted = format!("{forged:?}");
            for field in ["caller", "request_id", "gen_ai.request.model"] {
                assert!(line.contains(&format!(" {field}={quoted}")), "{line}");
            }
            let others = line.replace(&quoted, "");
            assert!(
                !others.contains("boss") && !others.contains("500"),
                "{line}"
            );
        }
    }
}

/// Whoever goes before the answer comes has cost what was sent for him.
#[tokio::test]
async fn attempts_for_a_client_that_left_are_logged() {
    let slow = Sim::builder().latency(Duration::from_secs(60), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let log = ["--log-format", "json", "--max-concurrency", "1"];
    let running = Running::start("proxy_left", &provider, &log).await;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer t-PLANTED-TOKEN\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    let mut clients = Vec::new();
    for (in_flight, waiting) in [(1, 0), (1, 1)] {
        let mut client = TcpStream::connect(&running.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
        loop {
            let status = running.ask("GET /tollhouse/status", "t-PLANTED-TOKEN", "");
            let status = status.await;
            let (_, body) = status.split_once("\r\n\r\n").unwrap();
            let status: Value = serde_json::from_str(body).unwrap();
            let account = &status["accounts"][0];
            if account["in_flight"] == in_flight && account["waiting"] == waiting {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    until("the provider's own", || {
        provider.sim.report().in_flight == 1
    })
    .await;
    // Who waits goes first, so that he is never sent.
    let mut lines = Vec::new();
    for client in clients.into_iter().rev() {
        drop(client);
        let before = lines.len();
        until("a line", || {
            let text = fs::read_to_string(&running.said).unwrap();
            let text = text.lines().filter(|line| line.contains(r#""call""#));
            let whole = text.filter(|line| line.ends_with('}'));
            lines = whole
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
                .collect();
            lines.len() > before
        })
        .await;
    }
    interrupt(&running.child);
    assert_eq!(ended(running.child).await, Some(0));
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                &line["ended"],
                &line["attempts"],
                line["wait_ms"].is_number(),
            )
        })
        .collect();
    let left = Value::from("left");
    let expected = [
        (&left, &Value::from(0), false),
        (&left, &Value::from(1), true),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_file_gives_each_model_a_pool_and_a_bad_one_is_named() {
    let provider = Provider::start(Sim::builder()).await;
    let file = directory("proxy_config").join("tollhouse.toml");
    fs::write(&file, "[models.\"gpt-4o*\"]\ntokens_per_minute = 30_000\n").unwrap();
    let path = file.to_str().unwrap();
    let running = Running::start("proxy_file", &provider, &["--config", path]).await;
    let answer = running
        .ask("POST /v1/chat/completions", "t-PLANTED-TOKEN", CHAT)
        .await;
    assert!(answer.contains("x-tollhouse-pool: gpt-4o*\r\n"), "{answer}");
    let status = running
        .ask("GET /tollhouse/status", "t-PLANTED-TOKEN", "")
        .await;
    assert!(status.contains(r#""name":"gpt-4o*""#), "{status}");
    interrupt(&running.child);
    assert_eq!(ended(running.child).await, Some(0));

    fs::write(&file, "[models.x]\ntokens_per_minut = 1\n").unwrap();
    let ran = run(provider.tollhouse(&["proxy", "--config", path]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("tokens_per_minut"), "{}", ran.stderr);
}

/// What the unit and the image say is what the command takes.
#[test]
fn deployments_use_flags_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy");
    let help = run(tollhouse(&["proxy", "--help"])).stdout;
    for (file, line) in [
        ("tollhouse-proxy.service", "ExecStart="),
        ("Dockerfile", "ENTRYPOINT "),
    ] {
        let text = fs::read_to_string(root.join(file)).expect("a file");
        let command = text
            .lines()
            .find(|text| text.starts_with(line))
            .expect(line);
        let words = command
            .split([' ', '"', ','])
            .filter(|word| !word.is_empty());
        let flags: Vec<_> = words.filter(|word| word.starts_with("--")).collect();
        assert_eq!(flags.len(), 2, "{command}");
        for flag in flags {
            assert!(help.contains(&format!("{flag} <")), "{file}: {flag}");
        }
    }
}

/// What is bounded in the library is bounded by flags.
#[tokio::test]
async fn flags_set_bounds_and_comments() {
    let slow = Sim::builder().latency(Duration::from_millis(300), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let flags = "--max-head 1000 --max-body 200 --head-seconds 0.2 --body-idle-seconds 5 \
                 --write-seconds 5 --max-keys 3 --stream-comments 0.05";
    let flags: Vec<_> = flags.split_whitespace().collect();
    let running = Running::start("proxy_flags", &provider, &flags).await;
    let chat = "POST /v1/chat/completions";
    let long = format!("{chat}?x={}", "x".repeat(2_000));
    let answer = running.ask(&long, "t-PLANTED-TOKEN", CHAT).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = running
        .ask(
            chat,
            "t-PLANTED-TOKEN",
            &format!("{CHAT}{}", " ".repeat(200)),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let stream = CHAT.replace("\"model\"", "\"stream\":true,\"model\"");
    let answer = running.ask(chat, "t-PLANTED-TOKEN", &stream).await;
    assert!(
        answer.contains(": sent, the provider has not answered yet"),
        "{answer}"
    );
    assert!(answer.contains("data: [DONE]"), "{answer}");
    let mut idle = TcpStream::connect(&running.address).await.unwrap();
    let mut seen = Vec::new();
    let ended_soon = tokio::time::timeout(Duration::from_secs(20), idle.read_to_end(&mut seen));
    assert!(ended_soon.await.is_ok(), "it is still open");
    interrupt(&running.child);
    assert_eq!(ended(running.child).await, Some(0));
}

/// Tokens of the file are let in, change with it, and are told nowhere.
#[tokio::test]
async fn tokens_of_the_file_name_their_callers_and_follow_it() {
    let provider = Provider::start(Sim::builder()).await;
    let file = directory("proxy_tokens").join("tollhouse.toml");
    fs::write(&file, "[tokens]\nweb = \"t-PLANTED-1\"\n").unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--log-format", "json"];
    let running = Running::start("proxy_tokens_run", &provider, &arguments).await;
    let chat = "POST /v1/chat/completions";
    let answer = running.ask(chat, "t-PLANTED-1", CHAT).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("its line", || {
        running.output().contains(r#""caller":"web""#)
    })
    .await;
    fs::write(
        &file,
        "[tokens]\nweb = \"t-PLANTED-2\"\nnight = \"t-PLANTED-3\"\n",
    )
    .unwrap();
    until("the change", || {
        let told = running.output();
        told.contains("[tokens] web: another, until now 1 token")
            && told.contains("[tokens] night: 1 token")
    })
    .await;
    for (token, status) in [
        ("t-PLANTED-1", 401),
        ("t-PLANTED-2", 200),
        ("t-PLANTED-TOKEN", 200),
    ] {
        let answer = running.ask(chat, token, CHAT).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{token}: {answer}"
        );
    }
    fs::write(&file, "[tokens]\nweb = \"PLANTED twice\"\n").unwrap();
    until("the error", || {
        running.output().contains("has a token that cannot be sent")
    })
    .await;
    interrupt(&running.child);
    let said = running.said.clone();
    assert_eq!(ended(running.child).await, Some(0));
    let said = fs::read_to_string(said).unwrap();
    assert!(!said.contains("PLANTED"), "{said}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let slow = Sim::builder().latency(Duration::from_secs(600), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let running = Running::start("proxy_signals", &provider, &[]).await;
    let _socket = begin(&running, &provider).await;
    interrupt(&running.child);
    until("the first signal", || running.output().contains("Stopping")).await;
    interrupt(&running.child);
    assert_eq!(ended(running.child).await, Some(130));
    until("the provider hears of it", || {
        provider.sim.report().in_flight == 0
    })
    .await;
}

#[test]
fn what_others_could_use_is_refused_without_a_token() {
    let open = ["proxy", "--listen", "0.0.0.0:0"];
    // Whose key it is makes no difference.
    for arguments in [&open[..], &[&open[..], &["--pass-through-keys"]].concat()] {
        let ran = run(tollhouse_at("http://127.0.0.1:1/v1", arguments));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("TOLLHOUSE_TOKEN"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    let mut bad = tollhouse_at(
        "http://127.0.0.1:1/v1",
        &["proxy", "--listen", "127.0.0.1:0"],
    );
    bad.env("TOLLHOUSE_TOKEN", "PLANTED token");
    let ran = run(bad);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("visible ASCII") && !ran.stderr.contains("PLANTED"),
        "{}",
        ran.stderr
    );
}

#[test]
fn it_needs_a_key_unless_callers_bring_theirs() {
    let mut command = tollhouse(&["proxy", "--listen", "0.0.0.0:0"]);
    command.env_remove("OPENAI_API_KEY");
    let ran = run(command);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("OPENAI_API_KEY is not set"),
        "{}",
        ran.stderr
    );
}

/// They are read where a first one connects by TLS: an upload, which has a connection of hyper-util's, does
/// not. Of a pipe that nobody writes to, whoever reads it waits for ever.
#[cfg(unix)]
#[tokio::test]
async fn an_upload_without_tls_reads_no_certificates() {
    let provider = Provider::start(Sim::builder()).await;
    let pipe = directory("upload-certificates").join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let running = Running::start_where("upload_without_tls", &provider, &[], |command| {
        command
            .env("SSL_CERT_FILE", &pipe)
            .env_remove("SSL_CERT_DIR")
    })
    .await;
    let upload =
        "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n";
    let line = "POST /v1/files HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b";
    let request = format!(
        "{line}\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer t-PLANTED-TOKEN\r\n\
         content-length: {}\r\n\r\n{upload}",
        upload.len()
    );
    let mut socket = TcpStream::connect(&running.address)
        .await
        .expect("it listens");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let answered = tokio::time::timeout(Duration::from_secs(20), socket.read_to_string(&mut seen));
    answered.await.expect("nobody reads the pipe").unwrap();
    assert!(seen.starts_with("HTTP/1.1 "), "{seen}");
}
