//! What a client sees of waiting.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tollhouse_openai::{Account, Limit};
use tollhouse_proxy::Proxy;
use tollhouse_sim::Sim;

use crate::support::{
    LONG, ask, at_rest, by_hand, chat, client, connect, post, read_until, request_at, serve, sim,
    wide,
};

/// A provider's minute is not waited for where the client does not want to.
#[tokio::test]
async fn a_wait_that_is_too_long_is_refused_at_once_with_its_length() {
    let (sim, provider) = sim().await;
    // 28 tokens are what one chat takes; a second one waits for half a minute.
    let policy = wide()
        .headroom(0.0)
        .cautious_start(false)
        .tpm_limit(Limit::per_minute(42));
    let served = serve(Proxy::new(Account::new(policy), client(&provider.url()))).await;
    let request = |headers: &str| post("/v1/chat/completions", headers, &chat(""));
    assert_eq!(ask(&served, &request("")).await.status, 200);

    let answer = ask(&served, &request("x-tollhouse-max-wait: 2.5\r\n")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "rate_limit_exceeded")
    );
    let told: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((10_000..=60_000).contains(&told), "{told}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, told.div_ceil(1_000));
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("at place 1") && message.contains("at most 2.5 s"),
        "{message}"
    );

    let long = format!("x-tollhouse-caller: {}\r\n", "x".repeat(65));
    for (headers, allowed) in [
        ("x-tollhouse-max-wait: soon\r\n", "seconds, 0 or more, is"),
        (
            "x-tollhouse-caller: J\u{fc}rgen\r\n",
            "visible ASCII and spaces is",
        ),
        (&*long, "at most 64 characters"),
    ] {
        let answer = ask(&served, &request(headers)).await;
        let code = (answer.status, answer.code());
        assert_eq!(code, (400, "invalid_value".to_owned()), "{headers}");
        assert!(answer.body.contains(allowed), "{answer:?}");
    }
    assert_eq!(sim.report().arrived, 1);
    at_rest(&served).await;
}

/// What nobody could foresee: a slot that is held for longer.
#[tokio::test]
async fn a_wait_that_became_too_long_ends_and_leaves_nothing() {
    let (provider, url) = by_hand().await;
    let policy = wide().max_concurrency(1);
    let proxy = Proxy::new(Account::new(policy), client(&url)).max_wait(Duration::from_millis(80));
    let served = serve(proxy).await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let mut first = connect(&served).await;
    first.write_all(request.as_bytes()).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let second = ask(&served, &request).await;
    assert_eq!(
        (second.status, second.code().as_str()),
        (429, "rate_limit_exceeded")
    );
    // Nobody knows how long the first one takes, and at once would be too soon.
    assert_eq!(second.header("retry-after"), Some("1"));
    let message = second.json()["error"]["message"].to_string();
    assert!(message.contains("at place 1"), "{message}");
    // The first was launched in time, and takes what it takes.
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    let seen = read_until(&mut first, "{}").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK"), "{seen}");
    at_rest(&served).await;
}

/// Nor is a wait between two attempts longer: the client has what the provider said, and may
/// ask again when it likes.
#[tokio::test]
async fn a_next_attempt_that_would_come_too_late_is_the_clients() {
    let told = "retry-after: 30\r\n";
    for (says, backoff, status, forbids) in [
        (format!("HTTP/1.1 429 No\r\n{told}"), 1, 429, false),
        ("HTTP/1.1 503 No\r\n".to_owned(), 60_000, 503, false),
        (String::new(), 60_000, 502, false),
        // Those that are made are ours.
        ("HTTP/1.1 503 No\r\n".to_owned(), 1, 503, true),
    ] {
        let (provider, url) = by_hand().await;
        let policy = wide()
            .backoff_base(Duration::from_millis(backoff))
            .max_attempts(2);
        let served = serve(Proxy::new(Account::new(policy), client(&url))).await;
        let request = post(
            "/v1/chat/completions",
            "x-tollhouse-max-wait: 0.5\r\n",
            &chat(""),
        );
        let answers = async {
            loop {
                let (_, mut upstream) = request_at(&provider, "Hi").await;
                if !says.is_empty() {
                    let answer =
                        format!("{says}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
                    upstream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        let answer = tokio::select! {
            answer = ask(&served, &request) => answer,
            () = answers => unreachable!("they have no end"),
        };
        assert_eq!(answer.status, status, "{answer:?}");
        let forbidden = answer.header("x-should-retry") == Some("false");
        // A backoff is drawn from nothing on, so that one in a hundred is made in time.
        if answer.header("x-tollhouse-attempts") == Some("1") || forbids {
            assert_eq!(forbidden, forbids, "{answer:?}");
        }
        at_rest(&served).await;
    }
}

/// Who need not wait does not wait for longer than that, however little it is.
#[tokio::test]
async fn who_wants_not_to_wait_is_let_in_at_once_or_refused() {
    let (_sim, provider) = sim().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&provider.url()))).await;
    for wait in ["0", "0.0001", "0.001"] {
        let headers = format!("x-tollhouse-max-wait: {wait}\r\n");
        let request = post("/v1/chat/completions", &headers, &chat(""));
        for _ in 0..20 {
            assert_eq!(ask(&served, &request).await.status, 200, "{wait}");
        }
    }
}

#[tokio::test]
async fn what_can_never_fit_is_refused_and_not_tried_again() {
    let (sim, provider) = sim().await;
    let policy = wide().headroom(0.0).tpm_limit(Limit::per_minute(20));
    let served = serve(Proxy::new(Account::new(policy), client(&provider.url()))).await;
    let answer = ask(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(sim.report().arrived, 0);
}

/// A limit by the day that is used up is told the same whether a client would wait or not. No SDK
/// waits for so long.
#[tokio::test]
async fn a_limit_that_is_used_up_for_long_is_told_and_not_to_be_tried_again() {
    for seconds in [130, 3_600] {
        let (provider, url) = by_hand().await;
        let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
        let request = |headers: &str| post("/v1/chat/completions", headers, &chat(""));
        let says = async {
            let (_, mut socket) = request_at(&provider, "Hi").await;
            let error = r#"{"error":{"message":"requests per day (RPD)","type":"requests","code":"rate_limit_exceeded"}}"#;
            let answer = format!(
                "HTTP/1.1 429 No\r\nconnection: close\r\nretry-after: {seconds}\r\n\
                 content-length: {}\r\n\r\n{error}",
                error.len()
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let first = request("");
        let (answer, ()) = tokio::join!(ask(&served, &first), says);
        assert_eq!(answer.header("x-tollhouse-attempts"), Some("1"));
        for headers in ["", "x-tollhouse-max-wait: 5\r\n"] {
            let answer = ask(&served, &request(headers)).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (429, "rate_limit_exceeded")
            );
            let told = ["retry-after", "retry-after-ms", "x-should-retry"];
            let told = told.map(|name| answer.header(name));
            let expected = [Some("60"), Some("60000"), Some("false")];
            assert_eq!(told, expected, "{seconds} {headers}: {answer:?}");
        }
    }
}

/// 60 at once, two slots: each is answered, none is refused by anybody.
#[tokio::test]
async fn everybody_waits_and_nobody_is_refused() {
    let sim = Sim::builder()
        .tokens_per_minute(100_000_000)
        .latency(Duration::from_millis(10), Duration::ZERO);
    let sim = sim.build().unwrap();
    let provider = sim.spawn("127.0.0.1:0").await.unwrap();
    let policy = wide().max_concurrency(2);
    let served = serve(Proxy::new(Account::new(policy), client(&provider.url()))).await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let calls = (0..60).map(|_| ask(&served, &request));
    let answers = tokio::time::timeout(LONG, futures_util::future::join_all(calls)).await;
    assert!(answers.unwrap().iter().all(|answer| answer.status == 200));
    let report = sim.report();
    assert_eq!(
        (report.total.completed, report.peak_in_flight),
        (60, 2),
        "{report}"
    );
    at_rest(&served).await;
}
