//! The forms of input and output that a run knows.

use std::convert::Infallible;
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, ids, input, records, respond, service_fn, slow};
use async_compression::tokio::write::GzipEncoder;
use bytes::Bytes;
use http::{Request, Uri};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tollhouse_batch::{Batch, Event, Limits, Plan, SentLayer};
use tower::Layer;

async fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzipEncoder::new(Vec::new());
    packer
        .write_all(text.as_bytes())
        .await
        .expect("memory can be written");
    packer.shutdown().await.expect("memory can be written");
    packer.into_inner()
}

#[tokio::test(start_paused = true)]
async fn packed_input_is_unpacked() {
    // Two members: a log that was packed, and packed again when it had grown.
    let mut lines = packed(&input(["1", "2"])).await;
    lines.extend(packed(&input(["3"])).await);

    let plan = Plan::read(&lines[..], |_: &Request<Bytes>| 1, Limits::new()).await;
    assert_eq!(plan.expect("a plan").requests, 3);
    let mut output = Vec::new();
    let run = Batch::new(service_fn(slow)).run_boxed(&lines[..], &mut output, tokio::io::sink());
    assert_eq!(run.await.expect("memory can be read").ok, 3);
    assert_eq!(ids(&output), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn packed_input_that_is_cut_short_names_the_line() {
    let lines = packed(&input((1..200).map(|n| n.to_string()))).await;
    let cut = &lines[..lines.len() / 2];
    let run = Batch::new(service_fn(slow)).run_boxed(cut, tokio::io::sink(), tokio::io::sink());
    let error = run.await.expect_err("half of it is missing").to_string();
    assert!(
        error.starts_with("cannot read the input at line "),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_alone_are_sent_where_they_belong() {
    let seen = Log::new();
    let service = service_fn({
        let seen = seen.clone();
        move |request: Request<Bytes>| {
            seen.push(request.uri().to_string());
            async { Ok::<_, Infallible>(answer("x")) }
        }
    });
    let lines = concat!(
        r#"{"model":"gpt-4o","messages":[]}"#,
        "\n\n",
        r#"{"model":"text-embedding-3-small","input":"a"}"#,
        "\n",
    );
    let mut output = Vec::new();
    let batch = Batch::new(service).ordered(true);
    let run = batch
        .clone()
        .run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    run.await.expect("memory can be read and written");
    assert_eq!(seen.take(), ["/v1/chat/completions", "/v1/embeddings"]);
    assert_eq!(ids(&output), ["line-1", "line-3"]);

    let batch = batch.url(Uri::from_static("/v1/rerank"));
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    run.await.expect("memory can be read and written");
    assert_eq!(seen.take(), ["/v1/rerank", "/v1/rerank"]);
}

#[tokio::test(start_paused = true)]
async fn ordered_output_is_in_the_order_of_the_input() {
    let lines = input(["5", "1", "4", "2"]);
    let mut output = Vec::new();
    let batch = Batch::new(service_fn(slow)).ordered(true);
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!(ids(&output), ["5", "1", "4", "2"]);
    assert_eq!(summary.elapsed, Duration::from_secs(5));
}

/// What comes early is held, and counts as looked ahead.
#[tokio::test(start_paused = true)]
async fn ordered_output_holds_no_more_than_it_looks_ahead() {
    let lines = input(["9", "1", "2", "3", "4"]);
    let mut output = Vec::new();
    let batch = Batch::new(service_fn(slow)).ordered(true).look_ahead(3);
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");
    // 9 with 1 and 2 beside it; only when it is written go 3 and 4.
    assert_eq!(summary.elapsed, Duration::from_secs(9 + 4));
    assert_eq!(ids(&output), ["9", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn each_line_tells_how_it_went() {
    // Waits three seconds in line; a retry would send it again through the
    // marked place.
    let transport = SentLayer.layer(service_fn(slow));
    let service = service_fn(move |request: Request<Bytes>| {
        let transport = transport.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            tower::ServiceExt::oneshot(transport, request).await
        }
    });
    let mut output = Vec::new();
    let run =
        Batch::new(service).run_boxed(input(["2"]).leak().as_bytes(), &mut output, Vec::new());
    run.await.expect("memory can be read and written");
    assert_eq!(
        records(&output)[0]["tollhouse"],
        json!({
            "attempts": 1, "waited_seconds": 3.0, "elapsed_seconds": 5.0,
            "tokens": 1, "request_id": "req_1", "request_hash": "7dfd1fdd1fec82ab",
        })
    );
}

#[tokio::test(start_paused = true)]
async fn rubbish_with_a_good_status_is_a_failure() {
    let rubbish = service_fn(|_: Request<Bytes>| async {
        Ok::<_, Infallible>(respond(200, "<html>maintenance</html>"))
    });
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let lines = input(["1"]);
    let run = Batch::new(rubbish).run_boxed(lines.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (0, 1));
    let record = &records(&errors)[0];
    assert_eq!(record["error"]["code"], "response_not_json");
    assert_eq!(record["response"]["body"], "<html>maintenance</html>");
}

#[tokio::test(start_paused = true)]
async fn line_that_names_a_host_is_a_bad_line() {
    let urls = [
        "http://elsewhere/v1/x",
        "https://api.openai.com/v1/chat/completions",
        "HTTP://elsewhere/v1/x",
        "//elsewhere/v1/x",
        "elsewhere:80",
        "elsewhere/v1/x",
    ];
    let line =
        |url| format!(r#"{{"custom_id":"{url}","method":"POST","url":"{url}","body":{{}}}}"#);
    let lines = urls.map(line).join("\n");
    let said: Vec<_> = (1..)
        .zip(urls)
        .map(|(number, url)| {
            format!(
                "line {number}, custom_id {url:?}: `url` is {url:?}; it must be a path such as \
                 \"/v1/chat/completions\""
            )
        })
        .collect();

    let plan = Plan::read(lines.as_bytes(), |_: &Request<Bytes>| 1, Limits::new()).await;
    let bad = plan.expect("memory can be read").bad_lines.first;
    assert_eq!(
        bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
        said
    );

    let bad = Log::new();
    let seen = bad.clone();
    let batch = Batch::new(service_fn(slow)).on_event(move |event| match event {
        Event::BadLine(bad) => seen.push(bad.to_string()),
        event => panic!("something else than a bad line: {event:?}"),
    });
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.bad_lines, summary.total), (6, 6));
    assert_eq!(bad.take(), said);
}
