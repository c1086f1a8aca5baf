//! One account for programs in any language: a proxy that speaks the provider's own
//! API, holds its key, and lets every call through the gates.
//!
//! Run it with `cargo run --example gateway`; it needs no key, because the provider
//! is simulated. An official SDK, genai, rig or curl is pointed at it by what it
//! prints. `tollhouse proxy` is the same as a command.

use std::time::Duration;

use tokio::net::TcpListener;
use tollhouse_openai::{Account, BoxError, OpenAi, Policy};
use tollhouse_proxy::{Proxy, Served};
use tollhouse_sim::Sim;

/// What callers show as their key.
const TOKEN: &str = "known-to-the-gateway-alone";

/// Serves until it is dropped or drained.
async fn gateway(policy: Policy, provider: String) -> Result<Served, BoxError> {
    let openai = OpenAi::builder().base_url(provider).api_key("sk-own");
    let proxy = Proxy::new(Account::new(policy), openai.build()?).token(TOKEN, "us");
    Ok(proxy.serve(TcpListener::bind("127.0.0.1:0").await?)?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sim = Sim::builder().build()?;
    let provider = sim.spawn("127.0.0.1:0").await?;
    let gateway = gateway(Policy::default(), provider.url()).await?;
    let url = gateway.url();
    println!("export OPENAI_BASE_URL={url} OPENAI_API_KEY={TOKEN}\nCtrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    gateway.drain(Duration::from_secs(10)).await;
    println!("{}", sim.report());
    Ok(())
}

/// With a client that is not ours.
#[cfg(test)]
mod tests {
    use async_openai::Client;
    use async_openai::config::OpenAIConfig;
    use async_openai::types::chat::{
        ChatCompletionRequestUserMessage, CreateChatCompletionRequest,
        CreateChatCompletionRequestArgs,
    };
    use futures_util::StreamExt;
    use futures_util::future::try_join_all;

    use super::*;

    fn client(base: String, key: &str) -> Client<OpenAIConfig> {
        let config = OpenAIConfig::new().with_api_base(base).with_api_key(key);
        Client::with_config(config)
    }

    fn question(number: usize) -> Result<CreateChatCompletionRequest, BoxError> {
        let message = ChatCompletionRequestUserMessage::from(format!("What is {number} squared?"));
        let mut request = CreateChatCompletionRequestArgs::default();
        request
            .model("gpt-4o-mini")
            .max_completion_tokens(100_u32)
            .messages([message.into()]);
        Ok(request.build()?)
    }

    async fn ask(base: String, number: usize) -> Result<u32, BoxError> {
        let answer = client(base, TOKEN).chat().create(question(number)?).await?;
        Ok(answer.usage.ok_or("no usage")?.total_tokens)
    }

    #[tokio::test]
    async fn every_client_is_limited_and_streams_stay_streams() -> Result<(), BoxError> {
        let sim = Sim::builder().latency(Duration::from_millis(20), Duration::from_millis(5));
        let sim = sim.build()?;
        let provider = sim.spawn("127.0.0.1:0").await?;
        let policy = Policy::default().stagger(Duration::ZERO).max_concurrency(2);
        let gateway = gateway(policy, provider.url()).await?;

        try_join_all((0..8).map(|number| ask(gateway.url(), number))).await?;
        let report = sim.report();
        assert_eq!(report.total.completed, 8, "{report}");
        assert_eq!(report.peak_in_flight, 2, "{report}");

        let stream = client(gateway.url(), TOKEN)
            .chat()
            .create_stream(question(9)?)
            .await?;
        let chunks: Vec<_> = stream.collect().await;
        assert!(
            chunks.len() > 5 && chunks.iter().all(Result::is_ok),
            "{chunks:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn strangers_stay_outside() -> Result<(), BoxError> {
        let sim = Sim::builder().build()?;
        let provider = sim.spawn("127.0.0.1:0").await?;
        let gateway = gateway(Policy::default(), provider.url()).await?;
        let stranger = client(gateway.url(), "sk-of-a-stranger");
        let refused = stranger.chat().create(question(1)?).await;
        let refused = refused.expect_err("a stranger").to_string();
        assert!(refused.contains("no token of this proxy"), "{refused}");
        assert_eq!(sim.report().arrived, 0);
        Ok(())
    }
}
