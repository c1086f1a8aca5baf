//! A call that waits for its turn or for its answer: as long as it takes, no longer
//! than its client wants to, or until its client is to hear of it.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::account::Place;
use tollhouse_openai::policy::LeftToCaller;
use tollhouse_openai::{Deadline, Refused};

use super::comments::{BoxedCall, Late, Outcome, Wait};
use super::line::Line;
use super::ready::Ready;
use crate::counts::Share;
use crate::error::Refusal;
use crate::shared::Shared;
use crate::upstream::gates::{self, Gates, InUse, Outlook};

/// What a client gets in place of what the provider says.
pub(super) enum Instead {
    Refused(Refusal),
    /// Word that its stream waits.
    Late(Box<Late>),
}

impl From<Refusal> for Instead {
    fn from(refusal: Refusal) -> Self {
        Instead::Refused(refusal)
    }
}

/// What is logged of a model's name, which may be anything.
const LONGEST_MODEL: usize = 128;

/// Without what would end a line of the log, or colour it.
fn in_one_line(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|letter| match letter.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => letter,
    })
}

/// A call that is begun.
pub(super) struct Begun {
    pub(super) call: Underway,
    /// The most bytes that may be passed on of an upload.
    pub(super) upload: Option<usize>,
    /// Says whether an attempt was left to the client, which does not wait for long.
    pub(super) left: Option<LeftToCaller>,
    /// What it holds, it holds until it is answered.
    pub(super) share: Option<Share>,
}

/// A call that is under way. It is boxed, or it would be moved through each function that hands
/// it on, and what few calls need would take room in all the others.
pub(super) type Underway = Pin<Box<dyn Future<Output = Result<Outcome, Instead>> + Send>>;

pin_project! {
    /// One that waits for as long as it takes, with a body that was read.
    struct Plain {
        #[pin]
        call: gates::Calling,
        in_use: InUse,
    }
}

impl Future for Plain {
    type Output = Result<Outcome, Instead>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(self.project().call.poll(cx));
        Poll::Ready(Ok(outcome(ended, None)))
    }
}

fn outcome(ended: gates::Ended, upload: Option<usize>) -> Outcome {
    match ended {
        Ok(answer) => Ok(Box::new(answer)),
        Err(error) => Err(Refusal::of_call(&error, upload)),
    }
}

/// Begins a call, and notes what is known of it then. It is no part of the function that
/// waits, in whose future all would keep its room that was borrowed here.
pub(super) fn begin(
    shared: &Shared,
    gates: Cow<'_, Gates>,
    mut ready: Ready,
    most: Option<Duration>,
    share: Share,
    line: &mut Line,
) -> Begun {
    let place = gates.place(&ready.request);
    line.charge = place.charge;
    line.read = Some(ready.launches.read_since(line.came));
    let model = ready.call.model().unwrap_or_default();
    line.model = in_one_line(model).take(LONGEST_MODEL).collect();
    line.pool = Arc::clone(&place.pool);
    ready.launches.tell(&shared.page, &line.pool, line.charge);

    line.launches = Some(ready.launches.clone());
    let upload = ready.upload;
    // Who is told at once that it takes too long is not told that it takes long.
    let every = shared
        .comments
        .filter(|_| most.is_none() && ready.call.streams());
    let left = most.map(|_| LeftToCaller::default());
    let (call, share) = match (most.zip(left.clone()), every) {
        (Some((most, left)), _) => {
            ready.request.extensions_mut().insert(left);
            let gates = gates.into_owned();
            let patiently = async move { Ok(patiently(gates, ready, place, most).await) };
            (Box::pin(patiently) as Underway, Some(share))
        }
        (None, Some(every)) => {
            let in_time = in_time(gates.into_owned(), ready, place, share, every);
            (Box::pin(in_time) as Underway, None)
        }
        (None, None) => {
            let plain = Plain {
                call: gates.call(*ready.request),
                in_use: gates.in_use(),
            };
            let call: Underway = match upload {
                None => Box::pin(plain),
                upload => Box::pin(async move { Ok(outcome(plain.call.await, upload)) }),
            };
            (call, Some(share))
        }
    };
    Begun {
        call,
        upload,
        left,
        share,
    }
}

/// Calls, and waits for no longer than `every` until the client is to hear of it.
async fn in_time(
    gates: Gates,
    ready: Ready,
    place: Place,
    share: Share,
    every: Duration,
) -> Result<Outcome, Instead> {
    let wait = Wait {
        launches: ready.launches.clone(),
        first: Outlook::of(&place),
        place,
        since: Instant::now(),
    };
    let mut call: BoxedCall = Box::pin(async move {
        // What it holds, it holds until it is answered.
        let _share = share;
        outcome(gates.call(*ready.request).await, ready.upload)
    });
    tokio::select! {
        biased;
        ended = &mut call => Ok(ended),
        () = sleep(every) => Err(Instead::Late(Box::new(Late { call, wait, every }))),
    }
}

/// Calls, and does not begin to wait, nor goes on waiting, for longer than `most`. A
/// call that was launched in time is waited for; it is not sent again later.
async fn patiently(gates: Gates, mut ready: Ready, place: Place, most: Duration) -> Outcome {
    let too_late = || {
        let outlook = Outlook::of(&place);
        Refusal::TooLate { outlook, most }
    };
    if place.expected_wait() > most {
        return Err(too_late());
    }
    // Who may go at once has not waited at all, however long it takes him to go.
    let until = Deadline::within(most.saturating_add(AT_ONCE));
    ready.request.extensions_mut().insert(until);
    let mut call = Box::pin(gates.call(*ready.request));
    let ended = match timeout(most, &mut call).await {
        Ok(ended) => ended,
        Err(_) if ready.launches.wait().is_some() => call.await,
        Err(_) => {
            // Who is told his place stands in it no more.
            drop(call);
            return Err(too_late());
        }
    };
    match ended {
        Err(error) if matches!(error.refused(), Some(Refused::TooLate { .. })) => Err(too_late()),
        ended => outcome(ended, ready.upload),
    }
}

/// Nobody needs as long as that from being let in to being launched.
const AT_ONCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_model_is_no_line_of_the_log() {
        let name: String = in_one_line("x\r\n2026-11-29 INFO \u{1b}[31mü").collect();
        assert_eq!(name, "x\u{fffd}\u{fffd}2026-11-29 INFO \u{fffd}[31mü");
    }
}
