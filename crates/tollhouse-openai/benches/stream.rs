//! What a stream costs on its way through a policy.
//!
//! `cargo bench -p tollhouse-openai --bench stream` takes some ten seconds;
//! with `-- --quick` it shows only that everything runs. A chunk is 1 KiB of a
//! chat stream, some four events, and most chunks begin and end inside one.
//! What a policy adds is the time through it less the time of the bare body,
//! each the least of many rounds.

use std::alloc::System;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tollhouse_openai::Policy;
use tower::{Layer, ServiceExt, service_fn};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;
const GIB: usize = 1024 * 1024 * KIB;

/// As a chat stream has it.
const EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-Cy2zjeGWSECDn9XoT5ksWPV6r4Zl6","#,
    r#""object":"chat.completion.chunk","created":1768427227,"#,
    r#""model":"gpt-4o-2024-08-06","service_tier":"default","#,
    r#""system_fingerprint":"fp_a1b2","choices":[{"index":0,"#,
    r#""delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"#,
    r#""usage":null,"obfuscation":"dHz4wvw99"}"#,
    "\n\n",
);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    // Whoever runs it without saying `--bench` wants to know that it runs.
    let quick = asked("--quick") || !asked("--bench");
    let bench = Bench::new(if quick { GIB / 256 } else { GIB });
    let bare = bench.time(&bench.bare());
    println!(
        "{:<44}{:>12}{:>12}{:>14}{:>12}",
        "a chunk of 1 KiB", "added ns", "copies", "allocations", "peak KiB"
    );
    println!(
        "{:<44}{:>12}{:>12}{:>14}{:>12}",
        "target", "1000", "0", "0", "64"
    );
    for (name, policy) in [
        ("through a policy", policy()),
        (
            "and its usage asked for and hidden",
            policy().ask_for_usage(true),
        ),
    ] {
        let path = bench.through(&policy);
        let added = bench.time(&path).saturating_sub(bare).as_nanos();
        let weight = bench.weigh(&path);
        let Weight {
            copies,
            allocations,
            peak,
        } = weight;
        println!("{name:<44}{added:>12}{copies:>12.3}{allocations:>14.3}{peak:>12.1}");
    }
    println!(
        "copies and allocations are those of a chunk, over {} MiB",
        bench.bytes >> 20
    );
    if quick {
        println!("a quick run: too short for its numbers to mean anything");
    }
}

fn policy() -> Policy {
    Policy::default().stagger(Duration::ZERO)
}

/// A stream of so many chunks, of the same few pieces of memory over and over.
struct Stream {
    events: Bytes,
    at: usize,
    chunks: usize,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.chunks == 0 {
            return Poll::Ready(None);
        }
        let at = self.at;
        self.at = (at + KIB) % self.events.len();
        self.chunks -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.events.slice(at..at + KIB)))))
    }
}

/// Opens a stream of so many chunks.
type Path<'p> = Box<dyn Fn(usize) -> Reading + 'p>;
type Reading = Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>;

/// What one chunk costs in memory.
struct Weight {
    /// Frames that are not the provider's own memory.
    copies: f64,
    allocations: f64,
    /// The most KiB that the stream ever had on the heap.
    peak: f64,
}

struct Bench {
    runtime: Runtime,
    events: Bytes,
    bytes: usize,
}

impl Bench {
    fn new(bytes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        Bench {
            runtime: { runtime }.enable_time().build().expect("a runtime"),
            // As many whole events as fill whole chunks.
            events: Bytes::from(EVENT.repeat(KIB)),
            bytes,
        }
    }

    fn stream(&self, chunks: usize) -> Stream {
        let (events, at) = (self.events.clone(), 0);
        Stream { events, at, chunks }
    }

    fn bare(&self) -> Path<'_> {
        Box::new(|chunks| Box::pin(self.stream(chunks)))
    }

    fn through<'p>(&'p self, policy: &'p Policy) -> Path<'p> {
        Box::new(|chunks| {
            let events = self.events.clone();
            let provider = service_fn(move |_: Request<Bytes>| {
                let (events, at) = (events.clone(), 0);
                let answer = Response::builder().header("content-type", "text/event-stream");
                let answer = answer.body(Stream { events, at, chunks });
                std::future::ready(Ok::<_, Infallible>(answer.expect("a response")))
            });
            let body = Bytes::from(r#"{"stream":true,"max_tokens":9}"#);
            let request = Request::post("/v1/chat/completions").body(body);
            let call = policy
                .layer()
                .layer(provider)
                .oneshot(request.expect("a request"));
            let answer = self.runtime.block_on(call).expect("an answer");
            Box::pin(answer.into_body())
        })
    }

    /// A chunk's time, the least of many rounds: others use the machine too.
    fn time(&self, path: &Path<'_>) -> Duration {
        let chunks = self.bytes / KIB / 256;
        let round = |_| {
            let body = path(chunks);
            let start = Instant::now();
            self.read(body, |_| {});
            start.elapsed() / chunks as u32
        };
        (0..200).map(round).min().expect("some rounds")
    }

    /// All bytes, with an eye on the memory after each chunk.
    fn weigh(&self, path: &Path<'_>) -> Weight {
        let chunks = self.bytes / KIB;
        let own = self.events.as_ptr_range();
        let (mut frames, mut copies, mut peak, mut first) = (0_usize, 0_usize, 0, 0);
        let region = Region::new(ALLOCATOR);
        let body = path(chunks);
        self.read(body, |data| {
            let now = region.change();
            peak = peak.max(now.bytes_allocated.saturating_sub(now.bytes_deallocated));
            copies += usize::from(!own.contains(&data.as_ptr()));
            frames += 1;
            if frames == 100 {
                first = now.allocations;
            }
        });
        let allocations = region.change().allocations - first;
        Weight {
            copies: copies as f64 / chunks as f64,
            allocations: allocations as f64 / chunks as f64,
            peak: peak as f64 / KIB as f64,
        }
    }

    fn read(&self, mut body: Reading, mut see: impl FnMut(&Bytes)) {
        let mut bytes = 0;
        self.runtime.block_on(async {
            while let Some(Ok(frame)) = body.frame().await {
                let data = frame.into_data().expect("data");
                bytes += data.len();
                see(&data);
            }
        });
        assert_eq!(bytes % KIB, 0, "no chunk is lost");
    }
}
