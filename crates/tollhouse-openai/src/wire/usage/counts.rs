use tollhouse::{Charge, Unit};

/// The tokens that a usage tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    total: Option<u64>,
}

impl Counts {
    /// Takes a number that stands in a usage.
    pub(super) fn tell(&mut self, key: &[u8], number: u64) {
        let count = match key {
            b"prompt_tokens" | b"input_tokens" => &mut self.input,
            b"completion_tokens" | b"output_tokens" => &mut self.output,
            b"total_tokens" => &mut self.total,
            _ => return,
        };
        *count = Some(number);
    }

    /// All tokens. Where a provider counts thinking in the total alone, the
    /// total is larger than the sum.
    pub(crate) fn all(self) -> Option<u64> {
        let sum = match (self.input, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        sum.max(self.total)
    }

    /// All tokens, and input and output as far as they are told. What the total has
    /// beyond the input is output, thinking among it; of a total alone nobody knows which
    /// is which.
    pub(super) fn charge(self) -> Option<Charge> {
        let all = self.all()?;
        let charge = Charge::tokens(all);
        Some(match (self.input, self.output) {
            (Some(input), _) => charge
                .and(Unit::Input, input)
                .and(Unit::Output, all.saturating_sub(input)),
            (None, Some(output)) => charge.and(Unit::Output, output),
            (None, None) => charge,
        })
    }
}
