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

/// The sizes of calls of all sizes, in tokens: nine tenths of it prompt, as where
/// documents are summarised.
const SIZES: std::ops::Range<f64> = 50.0..20_000.0;

/// Of a token.
const CHARACTERS: f64 = 4.0;

/// Which calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Such as many programs make.
    Mixed,
    /// From tiny to huge, as many between 50 and 500 tokens as between 2,000
    /// and 20,000.
    AllSizes,
}

impl Load {
    /// The calls of one job. No two are alike, so that an answer that was given
    /// twice shows. There are fewer of those of all sizes, which are larger.
    pub(crate) fn calls(self, seed: u64, count: usize) -> Vec<Request<Bytes>> {
        let mut draw = Draw(seed);
        let count = match self {
            Load::Mixed => count,
            Load::AllSizes => count / 4,
        };
        let call = |number| {
            let (length, asked) = self.size(&mut draw);
            call(number, length, asked, &mut draw)
        };
        (0..count).map(call).collect()
    }

    /// The prompt's length in characters, and the tokens that are asked.
    fn size(self, draw: &mut Draw) -> (usize, u64) {
        match self {
            Load::Mixed => {
                let length = PROMPT * (SPREAD * draw.normal()).exp();
                let asked = ASKED.start() + draw.below(ASKED.end() - ASKED.start() + 1);
                (length as usize, asked)
            }
            Load::AllSizes => {
                let size = SIZES.start * (SIZES.end / SIZES.start).powf(draw.fraction());
                ((size * 0.9 * CHARACTERS) as usize, (size * 0.1) as u64)
            }
        }
    }
}

fn call(number: usize, length: usize, asked: u64, draw: &mut Draw) -> Request<Bytes> {
    let body = serde_json::json!({
        "model": "gpt-4o",
        "max_tokens": asked,
        "messages": [{"role": "user", "content": prompt(number, length, draw)}],
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
