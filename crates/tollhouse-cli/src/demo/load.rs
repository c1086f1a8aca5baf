//! What is asked of both sides: a batch, and callers who come in between.

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::time::Duration;

use crate::failure::{self, BoxError};

/// Example requests, one a line.
const DATA: &str = include_str!("../../data/chat.jsonl");

/// All in one account of the provider.
const MODEL: &str = "gpt-4o";
/// Asked of requests that do not say how long their answer may be, so that
/// both sides of the ledger know what they cost.
const LENGTH: u32 = 300;

const CALLS_EACH: u32 = 8;
/// How long a direct caller thinks before a call on average, in the provider's time.
const THINKING: Duration = Duration::from_secs(5);

/// The load.
#[derive(Debug)]
pub(super) struct Load {
    /// Lines of the Batch API.
    pub(super) batch: String,
    pub(super) callers: Vec<Vec<Call>>,
    requests: usize,
}

/// One call of a direct caller.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// How long the caller thinks before it, in the provider's time.
    pub(super) after: Duration,
    url: String,
    body: Bytes,
}

impl Load {
    /// So many requests in the batch, and so many callers beside it.
    ///
    /// # Errors
    ///
    /// The example requests are not what they should be.
    pub(super) fn new(requests: u32, callers: u32, seed: u64) -> Result<Self, BoxError> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut lines = lines()?;
        random.shuffle(&mut lines);
        let mut lines = (1..).flat_map(|round| lines.iter().map(move |line| (round, line)));
        let mut batch = String::new();
        for (round, line) in lines.by_ref().take(requests as usize) {
            batch += &numbered(line, round).to_string();
            batch.push('\n');
        }
        let mut call = || {
            let (_, line) = lines.next()?;
            Some(Call {
                after: THINKING.mul_f64(random.f64() * 2.0),
                url: line["url"].as_str()?.to_owned(),
                body: line["body"].to_string().into(),
            })
        };
        let mut calls = || (0..CALLS_EACH).map_while(|_| call()).collect();
        Ok(Self {
            batch,
            callers: (0..callers).map(|_| calls()).collect(),
            requests: requests as usize,
        })
    }

    /// The requests of the batch.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// The calls of all direct callers.
    pub(super) fn calls(&self) -> usize {
        self.callers.iter().map(Vec::len).sum()
    }
}

impl Call {
    pub(super) fn request(&self) -> Request<Bytes> {
        Request::post(&self.url)
            .body(self.body.clone())
            .expect("the example requests have valid paths")
    }
}

/// The example requests, for one model and all with a length.
fn lines() -> Result<Vec<Value>, BoxError> {
    let parsed: Result<Vec<Value>, _> = DATA.lines().map(serde_json::from_str).collect();
    let mut lines =
        parsed.map_err(|error| failure::because("the example requests are broken", error))?;
    for line in &mut lines {
        let body = &mut line["body"];
        body["model"] = MODEL.into();
        if body.get("max_tokens").is_none() && body.get("max_completion_tokens").is_none() {
            body["max_tokens"] = LENGTH.into();
        }
    }
    Ok(lines)
}

/// Ids are used once, lines perhaps more often.
fn numbered(line: &Value, round: u32) -> Value {
    let mut line = line.clone();
    if let (2.., Some(id)) = (round, line["custom_id"].as_str()) {
        line["custom_id"] = format!("{id}-{round}").into();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_id_is_used_once_however_large_the_batch() {
        let load = Load::new(1_000, 3, 1).expect("a load");
        let ids: HashSet<String> = load
            .batch
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line"))
            .map(|line| line["custom_id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1_000);
        assert_eq!(load.calls(), 24);
    }

    #[test]
    fn a_seed_gives_the_same_load_every_time() {
        let batch = |seed| Load::new(50, 1, seed).expect("a load").batch;
        assert_eq!(batch(1), batch(1));
        assert_ne!(batch(1), batch(2));
    }

    #[test]
    fn data_is_that_of_the_examples() {
        // The published package has only its own copy.
        let examples = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/data/chat.jsonl"
        );
        if let Ok(text) = std::fs::read_to_string(examples) {
            assert!(text == DATA, "data/chat.jsonl differs from {examples}");
        }
    }
}
