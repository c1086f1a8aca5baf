//! The user's own price table.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use tollhouse_batch::{Money, Prices};
use tollhouse_openai::Call;

use crate::failure::{self, BoxError};
use crate::pools::Pools;

/// `[prices."gpt-4o"]`, by the names of models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceTable {
    prices: BTreeMap<String, Price>,
}

/// For a million tokens, in whatever currency.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    /// Input that the provider had in its cache; as other input unless told.
    cached: Option<f64>,
    #[serde(default)]
    output: f64,
}

/// A price table, and how tokens are estimated before an answer tells them.
#[derive(Clone, Debug)]
pub(crate) struct Priced {
    pub(crate) table: PriceTable,
    pub(crate) pools: Pools,
}

impl PriceTable {
    /// Reads a table from a file.
    ///
    /// # Errors
    ///
    /// Names the file, and the place in it that is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, BoxError> {
        let name = format!("--prices {}", path.display());
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| failure::because(&*name, error))?;
        Self::parse(&text).map_err(|error| failure::because(name, error))
    }

    fn parse(text: &str) -> Result<Self, BoxError> {
        let table: Self = toml::from_str(text)?;
        for (model, price) in &table.prices {
            let all = [price.input, price.cached.unwrap_or(0.0), price.output];
            if !all.iter().all(|price| price.is_finite() && *price >= 0.0) {
                return Err(failure::error(format!(
                    "[prices.{model:?}]: a price is a number from 0 on, for a million tokens"
                )));
            }
        }
        Ok(table)
    }

    /// Whether a model has a price.
    pub(crate) fn knows(&self, model: &str) -> bool {
        self.price(model).is_some()
    }

    /// The price of a model: of its own name, else of the longest name with a `*` at
    /// its end that it begins with.
    fn price(&self, model: &str) -> Option<Price> {
        let begins = |name: &str| {
            name.strip_suffix('*')
                .is_some_and(|start| model.starts_with(start))
        };
        let globs = self.prices.iter().filter(|(name, _)| begins(name));
        let longest = globs
            .max_by_key(|(name, _)| name.len())
            .map(|(_, price)| price);
        self.prices.get(model).or(longest).copied()
    }
}

impl Prices for Priced {
    fn estimate(&self, request: &Request<Bytes>) -> Option<Money> {
        let call = Call::of(request);
        let price = self.table.price(call.model()?)?;
        let tokens = self.pools.of(&call).cost(&call);
        let asked = call.longest_answer().map(|longest| {
            let answers = call.shape().map_or(1, |shape| shape.answers);
            longest.saturating_mul(answers).min(tokens)
        });
        Some(match asked {
            Some(output) => {
                Money::of_tokens(tokens - output, price.input)
                    + Money::of_tokens(output, price.output)
            }
            None => Money::of_tokens(tokens, price.input.max(price.output)),
        })
    }

    fn cost(&self, request: &Request<Bytes>, answer: &[u8]) -> Option<Money> {
        let call = Call::of(request);
        let price = self.table.price(call.model()?)?;
        let Answer { usage } = serde_json::from_slice(answer).ok()?;
        let input = usage.input()?;
        let cached = usage.cached().min(input);
        let cached_price = price.cached.unwrap_or(price.input);
        Some(
            Money::of_tokens(input - cached, price.input)
                + Money::of_tokens(cached, cached_price)
                + Money::of_tokens(usage.output(), price.output),
        )
    }
}

#[derive(Deserialize)]
struct Answer {
    usage: Usage,
}

/// Chats and embeddings say `prompt`, responses say `input`.
#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

impl Usage {
    fn input(&self) -> Option<u64> {
        self.prompt_tokens.or(self.input_tokens)
    }

    fn output(&self) -> u64 {
        self.completion_tokens.or(self.output_tokens).unwrap_or(0)
    }

    fn cached(&self) -> u64 {
        let details = self.prompt_tokens_details.as_ref();
        let details = details.or(self.input_tokens_details.as_ref());
        details
            .and_then(|details| details.cached_tokens)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use tollhouse_openai::{Account, Policy};

    use super::*;

    const TABLE: &str = r#"
        [prices."gpt-4o"]
        input = 2.50
        cached = 1.25
        output = 10

        [prices."gpt-4o*"]
        input = 1
    "#;

    fn priced() -> Priced {
        Priced {
            table: PriceTable::parse(TABLE).expect("a table"),
            pools: Pools::new(Account::new(Policy::default())),
        }
    }

    fn request(body: &'static str) -> Request<Bytes> {
        let request = Request::post("/v1/chat/completions");
        request.body(Bytes::from(body)).expect("a request")
    }

    #[test]
    fn real_usage_has_three_prices() {
        let request = request(r#"{"model":"gpt-4o","messages":[]}"#);
        let answer = br#"{"usage":{"prompt_tokens":1000,"completion_tokens":100,
            "prompt_tokens_details":{"cached_tokens":400}}}"#;
        let cost = priced().cost(&request, answer).expect("it tells");
        // 600 at 2.50, 400 at 1.25, 100 at 10.
        assert_eq!(cost, Money::new(0.003).expect("an amount"));
        let answer = br#"{"usage":{"input_tokens":1000,"output_tokens":100}}"#;
        let cost = priced().cost(&request, answer).expect("it tells");
        assert_eq!(cost, Money::new(0.0035).expect("an amount"));
        assert_eq!(priced().cost(&request, b"{}"), None);
    }

    #[test]
    fn estimates_price_the_answer_that_is_asked_for() {
        let asks = request(r#"{"model":"gpt-4o","max_tokens":100,"messages":[]}"#);
        let call = Call::of(&asks);
        let tokens = priced().pools.of(&call).cost(&call);
        let expected = Money::of_tokens(tokens - 100, 2.5) + Money::of_tokens(100, 10.0);
        assert_eq!(priced().estimate(&asks), Some(expected));
        let silent = request(r#"{"model":"gpt-4o","messages":[]}"#);
        assert_eq!(
            priced().estimate(&silent),
            Some(Money::of_tokens(7_000, 10.0))
        );
    }

    #[test]
    fn exact_names_go_before_globs() {
        let table = priced().table;
        assert_eq!(table.price("gpt-4o").map(|price| price.input), Some(2.5));
        assert_eq!(
            table.price("gpt-4o-mini").map(|price| price.input),
            Some(1.0)
        );
        assert!(!table.knows("o3"));
        for wrong in [
            "[prices.a]\ninput = -1",
            "[prices.a]\ninptu = 1",
            "prices = 1",
        ] {
            assert!(PriceTable::parse(wrong).is_err(), "{wrong}");
        }
    }
}
