//! Writers and readers that fail: one clear error, and no answer lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, id_of, ids, input, respond, service_fn, slow, word};
use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tollhouse_batch::{Batch, Done, SentLayer, Tail};
use tower::Layer;

/// A disk with so much room.
struct Disk {
    room: usize,
    content: Log<u8>,
}

impl AsyncWrite for Disk {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = data.len().min(self.room);
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        self.room -= taken;
        data[..taken]
            .iter()
            .for_each(|&byte| self.content.push(byte));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn disk(room: usize) -> (Disk, Log<u8>) {
    let content = Log::new();
    let disk = Disk {
        room,
        content: content.clone(),
    };
    (disk, content)
}

#[tokio::test(start_paused = true)]
async fn full_disk_is_one_error_with_every_answer_it_lacks() {
    // Every point at which the disk can be full, in lines of some 170 bytes.
    for room in (0..700).step_by(7) {
        let events = Log::new();
        let batch = Batch::new(service_fn(slow)).look_ahead(3).on_event({
            let events = events.clone();
            move |event| events.push(word(&event))
        });
        let (output, content) = disk(room);
        let lines = input(["1", "2", "3", "4", "5", "6", "7", "8"]);
        let run = batch.run_boxed(lines.as_bytes(), output, tokio::io::sink());
        let error = run.await.expect_err("the disk is full");

        assert!(error.is_write());
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(
            source.map(io::Error::kind),
            Some(io::ErrorKind::StorageFull)
        );
        let unwritten = ids(error.unwritten());
        let lack = match unwritten.len() {
            1 => "1 answer not saved".to_owned(),
            n => format!("{n} answers not saved"),
        };
        assert_eq!(
            error.to_string(),
            format!("cannot write the output; {lack}")
        );

        // The repaired output and the error together have every answer.
        let mut written = content.take();
        let tail = Done::new().read(&written[..]).await.expect("an output");
        match tail {
            Tail::Whole => {}
            Tail::Unended => written.push(b'\n'),
            Tail::Torn { whole_bytes } => written.truncate(whole_bytes as usize),
        }
        let saved: BTreeSet<_> = ids(&written).into_iter().chain(unwritten.clone()).collect();
        let events = events.take();
        let started = events
            .iter()
            .filter_map(|event| event.strip_prefix("started "));
        assert_eq!(
            saved,
            started.map(str::to_owned).collect(),
            "room for {room}"
        );
        assert!(saved.len() < 8, "nothing is started once the disk is full");
        let told = events.iter().filter(|event| event.starts_with("unwritten"));
        assert_eq!(told.count(), unwritten.len());
        let summary = error.summary().expect("a run had begun");
        assert_eq!(summary.unwritten, unwritten.len() as u64);
        assert_eq!(summary.total, summary.ok + summary.unwritten);
        assert!(summary.interrupted);
    }
}

#[tokio::test(start_paused = true)]
async fn full_disk_calls_back_what_is_not_sent() {
    let sent = SentLayer.layer(service_fn(slow));
    let gated = service_fn(move |request: Request<Bytes>| {
        let mut sent = sent.clone();
        async move {
            if id_of(&request) == "3" {
                sleep(Duration::from_secs(60)).await;
            }
            tower::Service::call(&mut sent, request).await
        }
    });
    let batch = Batch::new(gated).withdraw_unsent(true);
    let lines = input(["1", "2", "3"]);
    let run = batch.run_boxed(lines.as_bytes(), disk(10).0, tokio::io::sink());
    let error = run.await.expect_err("the disk is full");
    assert_eq!(ids(error.unwritten()), ["1", "2"]);
    let summary = error.summary().expect("a run had begun");
    assert_eq!(summary.withdrawn, 1);
    assert_eq!(summary.elapsed, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn unwritable_errors_do_not_cost_the_output() {
    let service = service_fn(async |request: Request<Bytes>| {
        let id = id_of(&request);
        Ok::<_, Infallible>(if id == "bad" {
            respond(400, "{}")
        } else {
            answer(&id)
        })
    });
    let lines = input(["good", "bad"]);
    let mut output = Vec::new();
    let run = Batch::new(service).run_boxed(lines.as_bytes(), &mut output, disk(0).0);
    let error = run.await.expect_err("the errors cannot be written");
    assert_eq!(
        error.to_string(),
        "cannot write the errors; 1 answer not saved"
    );
    assert_eq!(ids(error.unwritten()), ["bad"]);
    assert_eq!(ids(&output), ["good"]);
}

/// Breaks off with an error.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("the disk is gone")))
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_input_keeps_what_is_under_way() {
    let lines = input(["1", "2"]) + "{\"custom";
    let mut output = Vec::new();
    let run = Batch::new(service_fn(slow)).run_boxed(
        lines.as_bytes().chain(Broken),
        &mut output,
        tokio::io::sink(),
    );
    let error = run.await.expect_err("the input breaks off");
    assert_eq!(error.to_string(), "cannot read the input at line 3");
    assert_eq!(
        error.source().expect("a reason").to_string(),
        "the disk is gone"
    );
    assert!(!error.is_write() && error.unwritten().is_empty());
    assert_eq!(ids(&output), ["1", "2"]);
    assert_eq!(error.summary().expect("a run had begun").ok, 2);
}
