//! A gate of your own: calls pass only while a switch is on, such as the day's
//! maintenance window or an operator's pause.
//!
//! Run it with `cargo run --example own_gate`, its tests with `cargo test --example
//! own_gate`.
//!
//! From outside the crate a gate is three traits. `Gate` hands each request a pass,
//! `Pass` waits and gives back, `PassFor` may look at the answer. The queue, the rules
//! and the ledger are not needed for that; what they do for the built-in gates (first
//! come, first served; a place in line that leaves no trace) is yours to do here. The
//! tuple, the fused future, the held body and the retry come with the crate.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tollhouse::gate::{Launch, Now};
use tollhouse::{End, Error, Gate, GateLayer, Pass, PassFor, Refused};
use tower::{Layer, ServiceExt, service_fn};

/// Calls pass while it is on. Clones are one switch's gate.
#[derive(Clone)]
struct WhileOn(watch::Receiver<bool>);

/// A call's way through.
struct Waiting(
    Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>,
    bool,
);

impl<Req, Res> Gate<Req, Res> for WhileOn {
    type Pass = Waiting;

    /// Nothing is taken yet: that begins with the first poll.
    fn pass(&self, _: &Req) -> Waiting {
        let mut switch = self.0.clone();
        let on = async move {
            // Whoever held the switch is gone: nobody will ever turn it on.
            let turned = switch.wait_for(|on| *on).await;
            turned.map(drop).map_err(|_| Refused::Closed)
        };
        Waiting(Box::pin(on), false)
    }
}

impl Pass for Waiting {
    fn poll_admitted(&mut self, cx: &mut Context<'_>, _: &mut Now) -> Poll<Result<(), Refused>> {
        // Ready with `Ok` ever after, as the trait demands.
        if !self.1 {
            std::task::ready!(self.0.as_mut().poll(cx))?;
            self.1 = true;
        }
        Poll::Ready(Ok(()))
    }

    // It holds nothing, so there is nothing to note and nothing to give back.
    fn launched(&mut self, _: Launch, _: &mut Now) {}
    fn chunk(&mut self, _: &[u8]) {}
    fn ended(&mut self, _: End, _: &mut Now) {}
}

impl<Res> PassFor<Res> for Waiting {
    fn answered(&mut self, _: &Res, _: &mut Now) {}
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Error> {
    let (switch, on) = watch::channel(false);
    let start = Instant::now();
    let answer = service_fn(async |_: ()| Ok::<_, Infallible>(start.elapsed()));
    let client = GateLayer::new(WhileOn(on)).until_response().layer(answer);
    let operator = async {
        sleep(Duration::from_secs(30)).await;
        switch.send_replace(true);
    };
    let (passed, ()) = tokio::join!(client.oneshot(()), operator);
    println!("passed after {:?} of virtual time", passed?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tollhouse::{ConcurrencyLayer, StaggerLayer};

    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    /// In a tuple with the crate's own gates, whose rules still hold.
    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_the_switch_and_keep_their_spacing() {
        let (switch, on) = watch::channel(false);
        let gates = GateLayer::new((
            WhileOn(on),
            ConcurrencyLayer::new(3),
            StaggerLayer::new(SEC),
        ));
        let now = service_fn(async |_: ()| Ok::<_, Infallible>(Instant::now()));
        let client = gates.until_response().layer(now);

        let start = Instant::now();
        let calls: Vec<_> = (0..3)
            .map(|_| tokio::spawn(client.clone().oneshot(())))
            .collect();
        sleep(30 * SEC).await;
        switch.send(true).expect("gates look at it");
        let mut launched = Vec::new();
        for call in calls {
            let at = call.await.expect("no panic").expect("an answer");
            launched.push((at - start).as_secs());
        }
        launched.sort_unstable();
        assert_eq!(launched, [30, 31, 32]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_switch_that_is_gone_refuses() {
        let (switch, on) = watch::channel(false);
        let echo = service_fn(async |n: u8| Ok::<_, Infallible>(n));
        let client = GateLayer::new(WhileOn(on)).until_response().layer(echo);
        let call = tokio::spawn(client.clone().oneshot(1));
        tokio::task::yield_now().await;
        drop(switch);
        let error: Error = call.await.expect("no panic").expect_err("a refusal");
        assert_eq!(error.refused(), Some(&Refused::Closed));
    }
}
