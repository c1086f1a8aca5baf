//! What the job asks: mixed chat calls, the same in every run.

use bytes::Bytes;
use http::Request;

/// How many calls a job has.
pub(crate) const CALLS: usize = 600;

/// The middle of the prompts' lengths, in characters, and how widely they are
/// spread: two thirds lie within a factor of 1.65.
const PROMPT: f64 = 1_200.0;
const SPREAD: f64 = 0.5;

/// The asked lengths, in tokens.
const ASKED: std::ops::RangeInclusive<u64> = 50..=800;

/// The calls of one job. No two are alike, so that an answer that was given
/// twice shows.
pub(crate) fn calls(seed: u64, count: usize) -> Vec<Request<Bytes>> {
    let mut draw = Draw(seed);
    (0..count).map(|number| call(number, &mut draw)).collect()
}

fn call(number: usize, draw: &mut Draw) -> Request<Bytes> {
    let length = PROMPT * (SPREAD * draw.normal()).exp();
    let asked = ASKED.start() + draw.below(ASKED.end() - ASKED.start() + 1);
    let body = serde_json::json!({
        "model": "gpt-4o",
        "max_tokens": asked,
        "messages": [{"role": "user", "content": prompt(number, length as usize, draw)}],
    });
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body.to_string()))
        .expect("a valid request")
}

fn prompt(number: usize, length: usize, draw: &mut Draw) -> String {
    const WORDS: [&str; 8] = [
        "river", "of", "quiet", "stones", "and", "the", "evening", "light",
    ];
    let mut text = format!("Question {number}: tell me more about");
    while text.len() < length {
        text.push(' ');
        text.push_str(WORDS[draw.below(WORDS.len() as u64) as usize]);
    }
    text
}

/// splitmix64 (Steele, Lea, Flood, *Fast Splittable Pseudorandom Number
/// Generators*, OOPSLA 2014): the same numbers everywhere, forever.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Above 0 and at most 1.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0, deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}
