//! What a run sends, writes and tells.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use crate::common::{
    Log, RunBoxed, answer, by_id, id_of, ids, input, line, records, respond, service_fn, slow, word,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use tokio::time::Instant;
use tollhouse_batch::{Batch, Event};
use tower::ServiceExt;

#[tokio::test(start_paused = true)]
async fn answers_are_written_in_order_of_finishing() {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let lines = input(["3", "1", "2"]);
    let run = Batch::new(service_fn(slow)).run_boxed(lines.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory can be read and written");

    assert_eq!(ids(&output), ["1", "2", "3"]);
    assert!(errors.is_empty());
    assert_eq!((summary.total, summary.ok, summary.tokens), (3, 3, 3));
    assert_eq!(summary.elapsed, Duration::from_secs(3));
    assert!(summary.is_complete());
    let record = &records(&output)[0];
    assert_eq!(record["response"]["status_code"], 200);
    assert_eq!(record["response"]["request_id"], "req_1");
    assert_eq!(record["response"]["body"]["echo"], "1");
    assert!(record["error"].is_null());
}

#[tokio::test(start_paused = true)]
async fn request_is_the_lines_own() {
    let seen = Log::new();
    let service = service_fn({
        let seen = seen.clone();
        move |request: Request<Bytes>| {
            seen.push(request);
            async { Ok::<_, Infallible>(answer("x")) }
        }
    });
    let line =
        r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings?x=1","body":{ "n": 1.50 }}"#;
    let run = Batch::new(service).run_boxed(line.as_bytes(), Vec::new(), Vec::new());
    run.await.expect("memory can be read and written");

    let requests = seen.take();
    assert_eq!(requests[0].method(), "POST");
    assert_eq!(requests[0].uri(), "/v1/embeddings?x=1");
    assert_eq!(requests[0].headers()["content-type"], "application/json");
    assert_eq!(requests[0].body(), r#"{ "n": 1.50 }"#);
}

#[tokio::test(start_paused = true)]
async fn bad_lines_do_not_stop_the_rest() {
    let lines = format!(
        "\u{feff}{}\n\n  \r\nnonsense\n{}\n{}\n{}\n{}",
        line("1"),
        line("1"),
        line("2").replace("POST", "PUT"),
        line(&"9".repeat(200)),
        line("2"),
    );
    let events = Log::new();
    let batch = Batch::new(service_fn(slow)).max_line_bytes(150).on_event({
        let events = events.clone();
        move |event| {
            if let Event::BadLine(bad) = event {
                events.push(bad.to_string());
            }
        }
    });
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");

    assert_eq!(ids(&output), ["1", "2"]);
    assert_eq!((summary.total, summary.ok, summary.bad_lines), (6, 2, 4));
    assert!(!summary.is_complete());
    let long = line(&"9".repeat(200)).len();
    assert_eq!(
        events.take(),
        [
            "line 4: not a JSON object: it does not begin with `{`".to_owned(),
            "line 5, custom_id \"1\": the same custom_id as line 1; each must be unique".to_owned(),
            "line 6, custom_id \"2\": `method` is \"PUT\"; it must be \"POST\"".to_owned(),
            format!("line 7: {long} bytes long; at most 150 are allowed"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn failures_go_to_the_errors() {
    let service = service_fn(async |request: Request<Bytes>| match &*id_of(&request) {
        "limited" => Ok(respond(
            429,
            r#"{"error":{"code":"slow","message":"Later."}}"#,
        )),
        "html" => Ok(respond(502, "<html>")),
        "moved" => Ok(respond(302, "")),
        "reset" => Err(io::Error::other("connection reset")),
        id => Ok(answer(id)),
    });
    let lines = input(["limited", "html", "fine", "moved", "reset"]);
    let events = Log::new();
    let batch = Batch::new(service).on_event({
        let events = events.clone();
        move |event| events.push(event)
    });
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let run = batch.run_boxed(lines.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory can be read and written");

    assert_eq!((summary.ok, summary.failed), (1, 4));
    assert_eq!(ids(&output), ["fine"]);
    let errors = by_id(&errors);
    let limited = &errors["limited"]["response"];
    assert_eq!(limited["status_code"], 429);
    assert_eq!(limited["body"]["error"]["message"], "Later.");
    assert_eq!(errors["html"]["response"]["body"], "<html>");
    assert_eq!(errors["moved"]["response"]["status_code"], 302);
    assert!(errors["reset"]["response"].is_null());
    assert_eq!(errors["reset"]["error"]["code"], "request_failed");
    assert_eq!(errors["reset"]["error"]["message"], "connection reset");
    let told = events.take().into_iter().find_map(|event| match event {
        Event::Failed {
            status,
            code,
            message,
            ..
        } if code == "slow" => Some((status, message)),
        _ => None,
    });
    let (status, message) = told.expect("the failure is told");
    assert_eq!(status.map(|status| status.as_u16()), Some(429));
    assert_eq!(message, "Later.");
}

#[tokio::test(start_paused = true)]
async fn answer_that_breaks_off_or_never_ends_is_a_failure() {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody, channel::Channel};

    let service = service_fn(async |request: Request<Bytes>| {
        let body: BoxBody<Bytes, io::Error> = if id_of(&request) == "cut" {
            let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
            sender
                .send_data("{\"half\":".into())
                .await
                .expect("room for two");
            sender.abort(io::Error::other("connection reset"));
            BodyExt::boxed(body)
        } else {
            let frame = || Ok(Frame::data(Bytes::from_static(b"rubbish ")));
            BodyExt::boxed(StreamBody::new(stream::repeat_with(frame)))
        };
        Ok::<_, Infallible>(Response::new(body))
    });
    let lines = input(["cut", "endless"]);
    let mut errors = Vec::new();
    let batch = Batch::new(service).max_body_bytes(1_000);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), &mut errors);
    let summary = run.await.expect("memory can be read and written");

    assert_eq!(summary.failed, 2);
    let errors = by_id(&errors);
    assert_eq!(errors["cut"]["error"]["code"], "response_failed");
    assert_eq!(errors["cut"]["error"]["message"], "connection reset");
    assert_eq!(errors["endless"]["error"]["code"], "response_too_large");
}

#[tokio::test(start_paused = true)]
async fn events_tell_each_line_from_start_to_end() {
    let events = Log::new();
    let batch = Batch::new(service_fn(slow)).look_ahead(1).on_event({
        let events = events.clone();
        move |event| events.push((Instant::now(), event))
    });
    let start = Instant::now();
    let lines = input(["2", "1"]);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    run.await.expect("memory can be read and written");

    let told = events.take();
    let words: Vec<_> = told
        .iter()
        .map(|(at, event)| ((*at - start).as_secs(), word(event)))
        .collect();
    let expected = [
        (0, "started 2"),
        (2, "finished 2"),
        (2, "started 1"),
        (3, "finished 1"),
    ];
    assert_eq!(words, expected.map(|(at, word)| (at, word.to_owned())));
    let Event::Finished {
        request,
        status,
        tokens,
        elapsed,
    } = &told[1].1
    else {
        panic!("the second event is an end");
    };
    assert_eq!((request.line, status.as_u16(), *tokens), (1, 200, Some(1)));
    assert_eq!(*elapsed, Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_runs_can_be_spawned_behind_boxes() {
    let service = service_fn(async |request: Request<Bytes>| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(answer(&id_of(&request)))
    });
    let names: Vec<_> = (0..2_000).map(|n| format!("r{n}")).collect();
    let lines = input(&names);
    let batch = Batch::new(service.boxed_clone());
    let run = tokio::spawn(async move {
        let mut output = Vec::new();
        let summary = batch
            .run(lines.as_bytes(), &mut output, tokio::io::sink())
            .await;
        (summary, output)
    });
    let (summary, output) = run.await.expect("the run does not panic");
    assert_eq!(summary.expect("memory can be read and written").ok, 2_000);
    let mut expected = names;
    expected.sort();
    assert_eq!(by_id(&output).into_keys().collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the service is broken")]
async fn panic_of_the_service_is_passed_on() {
    let service = service_fn(
        async |_: Request<Bytes>| -> Result<Response<Full<Bytes>>, Infallible> {
            panic!("the service is broken")
        },
    );
    let lines = input(["1"]);
    let run = Batch::new(service).run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let _ = run.await;
}

#[tokio::test(start_paused = true)]
async fn empty_input_is_no_error() {
    let run = Batch::new(service_fn(slow)).run_boxed(&b""[..], Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!(summary, Default::default());
}
