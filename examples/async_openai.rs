//! async-openai's typed client behind the gates.
//!
//! Run it with `cargo run --example async_openai`; it needs no key, because the
//! provider is simulated. Beside async-openai and a runtime it takes one more
//! dependency, and one more line: the one with the policy.

use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
};
use async_openai::{Client, error::OpenAIError};
use tollhouse_openai::Policy;
use tollhouse_sim::Sim;

// Ten lines of your own; those between are async-openai's usual ones.
async fn ask(config: OpenAIConfig, policy: &Policy, question: &str) -> Result<String, OpenAIError> {
    let client = Client::with_config(config).with_http_service(policy.async_openai());
    let request: CreateChatCompletionRequest = CreateChatCompletionRequestArgs::default()
        .model("gpt-4o-mini")
        .max_completion_tokens(60_u32)
        .messages([ChatCompletionRequestUserMessage::from(question).into()])
        .build()?;
    let answer = client.chat().create(request).await?;
    Ok(answer.choices[0]
        .message
        .content
        .clone()
        .unwrap_or_default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let sim = Sim::builder().tokens_per_minute(30_000).build()?;
    let provider = sim.spawn("127.0.0.1:0").await?;
    let config = OpenAIConfig::new()
        .with_api_base(provider.url())
        .with_api_key("sk-simulated");
    let policy = Policy::default().stagger(std::time::Duration::from_millis(150));

    let calls = (1..=10).map(|n| {
        let (config, policy) = (config.clone(), policy.clone());
        tokio::spawn(async move { ask(config, &policy, &format!("Fact {n}?")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        println!("{}", call.await??);
    }
    println!("\n{}", sim.report());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `main` shows, asserted: nobody is refused, and no more than three are
    /// in flight.
    #[tokio::test]
    async fn ten_calls_at_once_are_limited() {
        let sim = Sim::builder()
            .tokens_per_minute(30_000)
            .build()
            .expect("allowed");
        let provider = sim.spawn("127.0.0.1:0").await.expect("a free port");
        let config = OpenAIConfig::new()
            .with_api_base(provider.url())
            .with_api_key("sk-simulated");
        let policy = Policy::default().stagger(std::time::Duration::ZERO);
        let calls = (0..10).map(|_| ask(config.clone(), &policy, "Why?"));
        for answer in futures_util::future::join_all(calls).await {
            assert!(!answer.expect("an answer").is_empty());
        }
        let report = sim.report();
        assert_eq!((report.arrived, report.total.rejected.total()), (10, 0));
        assert!(report.peak_in_flight <= 3, "{report}");
    }
}
