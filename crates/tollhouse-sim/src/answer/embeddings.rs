//! `POST /v1/embeddings`.

use std::iter;

use serde_json::{Value, json};

use super::{Frame, Frames, Reply};
use crate::random::Rng;

/// The answer, one vector at a time: all together they are a hundred million
/// bytes and more.
pub(super) fn pieces(reply: &Reply) -> Frames {
    let (seed, items) = (reply.seed, reply.ask.items());
    let (dimensions, packed) = (reply.ask.dimensions, reply.ask.base64);
    let tokens = reply.ask.prompt_tokens();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let model = Value::from(reply.ask.model.as_str());
    let items = (0..items).map(move |index| {
        let comma = if index + 1 < items { "," } else { "" };
        let vector = vector(Rng::nth(seed, index), dimensions);
        let embedding = match packed {
            true => format!("\"{}\"", base64(&vector)),
            false => numbers(&vector),
        };
        format!(
            "    {{\"object\": \"embedding\", \"index\": {index}, \"embedding\": {embedding}}}{comma}\n"
        )
    });
    let head = "{\n  \"object\": \"list\",\n  \"data\": [\n".to_owned();
    let tail = format!("  ],\n  \"model\": {model},\n  \"usage\": {usage}\n}}\n");
    Box::new(
        iter::once(head)
            .chain(items)
            .chain(iter::once(tail))
            .map(|text| Frame {
                step: 0,
                tokens: 0,
                data: text.into(),
            }),
    )
}

fn numbers(vector: &[f32]) -> String {
    serde_json::to_string(vector).expect("numbers are JSON")
}

/// A vector of length 1, as the real ones are.
fn vector(mut rng: Rng, dimensions: u64) -> Vec<f32> {
    let vector: Vec<f64> = (0..dimensions).map(|_| rng.share() - 0.5).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    vector.into_iter().map(|x| (x / length) as f32).collect()
}

/// Little-endian floats in base64, which the official SDKs ask for.
fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded_to_groups_of_four() {
        // 1.0 is 00 00 80 3f, 2.0 is 00 00 00 40.
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 2.0]), "AACAPwAAAEA=");
    }

    #[test]
    fn vectors_have_length_one() {
        let vector = vector(Rng::seeded(3), 100);
        let square: f32 = vector.iter().map(|x| x * x).sum();
        assert!((square - 1.0).abs() < 1e-5, "{square}");
    }
}
