//! How to test your own code that calls through the gates: in virtual time,
//! in milliseconds, without a network.
//!
//! Run the tests with `cargo test --example unit_test`. They use
//! `tower_test::mock` as the provider and tokio's paused clock, which jumps to
//! the next timer whenever everybody waits; so a test of a limit of 15 seconds
//! takes no time, and can demand the exact instant.

use tollhouse::{Error, Refused};
use tower::{Service, ServiceExt};

/// The code under test: asks twice, and puts up with a refusal.
async fn ask_twice<S>(mut client: S) -> Vec<Result<String, Refused>>
where
    S: Service<String, Response = String, Error = Error>,
{
    let mut answers = Vec::new();
    for question in ["Which river is the longest?", "And the widest?"] {
        let client = client.ready().await.expect("gates are always ready");
        let answer = client.call(question.to_owned()).await;
        answers.push(answer.map_err(|error| *error.refused().expect("only gates fail here")));
    }
    answers
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let echo = tower::service_fn(async |question: String| Ok::<_, Error>(question));
    println!("{:?}", ask_twice(echo).await);
    println!("now run `cargo test --example unit_test`");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_test::{assert_pending, assert_ready, task};
    use tollhouse::{ConcurrencyLayer, StaggerLayer, TokenBudget, TpmBudgetLayer};
    use tower::{Layer, ServiceBuilder};
    use tower_test::mock;

    use super::*;

    /// A test that waits for a limit: assert the instant.
    #[tokio::test(start_paused = true)]
    async fn the_second_question_waits_for_the_stagger() {
        let (provider, mut handle) = mock::pair::<String, String>();
        let client = StaggerLayer::new(Duration::from_secs(15)).layer(provider);

        let start = Instant::now();
        let asking = tokio::spawn(ask_twice(client));
        for answer in ["The Nile", "The Amazon"] {
            let (_, respond) = handle.next_request().await.expect("a question");
            respond.send_response(answer.to_owned());
        }
        let answers = asking.await.expect("no panic");
        assert_eq!(answers[1].as_deref(), Ok("The Amazon"));
        assert_eq!(start.elapsed(), Duration::from_secs(15));
    }

    /// A test of a refusal: nothing reaches the provider.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_can_never_fit_is_refused_before_sending() {
        let (provider, mut handle) = mock::pair::<String, String>();
        let budget = TokenBudget::per_minute(20).build().expect("a valid budget");
        let client = ServiceBuilder::new()
            .layer(TpmBudgetLayer::new(budget, |q: &String| q.len() as u64).until_response())
            .service(provider);

        let asking = tokio::spawn(ask_twice(client));
        let (question, respond) = handle.next_request().await.expect("the short one");
        assert_eq!(question, "And the widest?");
        respond.send_response("The Amazon".to_owned());

        let answers = asking.await.expect("no panic");
        let (cost, limit) = (27, 20);
        assert_eq!(answers[0], Err(Refused::TooLarge { cost, limit }));
    }

    /// A test that drives futures by hand: who waits, and who is woken.
    #[tokio::test(start_paused = true)]
    async fn the_second_caller_is_woken_by_the_first_ones_answer() {
        let (provider, mut handle) = mock::pair::<String, String>();
        let one_at_a_time = ConcurrencyLayer::new(1).until_response().layer(provider);
        handle.allow(2);

        let ask = |question: &str| task::spawn(one_at_a_time.clone().oneshot(question.to_owned()));
        let (mut first, mut second) = (ask("first"), ask("second"));
        assert_pending!(first.poll());
        assert_pending!(second.poll());

        let (_, respond) = handle.next_request().await.expect("the first");
        respond.send_response("one".to_owned());
        assert!(first.is_woken() && !second.is_woken());
        assert_eq!(assert_ready!(first.poll()).expect("an answer"), "one");
        assert!(second.is_woken());
        assert_pending!(second.poll());
        let (question, _) = handle.next_request().await.expect("the second");
        assert_eq!(question, "second");
    }
}
