//! rig's agents behind the gates: [`transport::Gates`] takes the place of rig's own
//! HTTP client, and everything that rig sends keeps the limits.
//!
//! Run it with `cargo run --manifest-path examples/rig/Cargo.toml`; it needs no key,
//! because the provider is simulated.

mod transport;

use std::time::{Duration, Instant};

use rig::AgentBuilder;
use rig::providers::openai::{OpenAI, OpenAIConfig};
use tollhouse_openai::{BoxError, OpenAi, Policy};
use tollhouse_sim::Sim;
use tower::Layer;

use transport::Gates;

/// A provider at this address, behind the policy; all clones share its limits.
fn provider(url: &str, policy: &Policy) -> Result<OpenAI, BoxError> {
    let client = OpenAi::builder().base_url(url).build()?;
    let config = OpenAIConfig::new("sk-simulated").with_base_url(url);
    Ok(config.connect(Gates(policy.layer().layer(client))))
}

async fn ask(provider: OpenAI, question: String) -> Result<String, BoxError> {
    let agent = AgentBuilder::new(provider.chat("gpt-4o-mini"))
        .preamble("Answer in one sentence.")
        .max_tokens(60)
        .build();
    Ok(agent.prompt(question).await?.to_string())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sim = Sim::builder().build()?;
    let served = sim.spawn("127.0.0.1:0").await?;
    let policy = Policy::default().stagger(Duration::from_millis(150));
    let provider = provider(&served.url(), &policy)?;

    let start = Instant::now();
    let calls = (1..=6).map(|n| tokio::spawn(ask(provider.clone(), format!("Who was {n}?"))));
    for call in calls.collect::<Vec<_>>() {
        println!("{}", call.await??);
    }
    println!("in {:.1?}\n\n{}", start.elapsed(), sim.report());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use futures_util::future::join_all;
    use rig::completion::CompletionRequest;

    #[tokio::test]
    async fn agents_and_streams_keep_the_limits() -> Result<(), BoxError> {
        let sim = Sim::builder().latency(Duration::from_millis(20), Duration::from_millis(5));
        let sim = sim.build()?;
        let served = sim.spawn("127.0.0.1:0").await?;
        let policy = Policy::default().stagger(Duration::ZERO).max_concurrency(2);
        let provider = provider(&served.url(), &policy)?;

        for answer in join_all((0..8).map(|n| ask(provider.clone(), n.to_string()))).await {
            assert!(!answer?.is_empty());
        }
        let report = sim.report();
        assert_eq!(
            (report.total.completed, report.peak_in_flight),
            (8, 2),
            "{report}"
        );

        let request = CompletionRequest::new("Count.").max_tokens(50);
        let mut stream = provider.chat("gpt-4o-mini").stream(request)?;
        let mut pieces = 0;
        while let Some(piece) = stream.next().await {
            piece?;
            pieces += 1;
        }
        assert!(pieces > 5, "{pieces}");
        Ok(())
    }

    /// What the provider refuses arrives as rig's own error, told once.
    #[tokio::test]
    async fn refusals_keep_their_status() -> Result<(), BoxError> {
        let sim = Sim::builder().tokens_per_minute(100).build()?;
        let served = sim.spawn("127.0.0.1:0").await?;
        let policy = Policy::default().stagger(Duration::ZERO);
        let long = ask(provider(&served.url(), &policy)?, "why ".repeat(1000)).await;
        let error = long.expect_err("it can never fit").to_string();
        assert!(error.contains("429"), "{error}");
        assert_eq!(sim.report().arrived, 1, "asked again in vain");
        Ok(())
    }
}
