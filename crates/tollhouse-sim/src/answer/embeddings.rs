//! `POST /v1/embeddings`.

use serde_json::{Value, json};

use super::Reply;
use crate::draw::Draw;

pub(super) fn whole(reply: &Reply) -> Value {
    let data: Vec<_> = (0..reply.ask.items())
        .map(|index| {
            let vector = vector(Draw::nth(reply.seed, index), reply.ask.dimensions);
            let embedding = match reply.ask.base64 {
                true => json!(base64(&vector)),
                false => json!(vector),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = reply.ask.prompt_tokens();
    json!({
        "object": "list",
        "data": data,
        "model": reply.ask.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// A vector of length 1, as the real ones are.
fn vector(mut draw: Draw, dimensions: u64) -> Vec<f32> {
    let vector: Vec<f64> = (0..dimensions).map(|_| draw.share() - 0.5).collect();
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
        let vector = vector(Draw::seeded(3), 100);
        let square: f32 = vector.iter().map(|x| x * x).sum();
        assert!((square - 1.0).abs() < 1e-5, "{square}");
    }
}
