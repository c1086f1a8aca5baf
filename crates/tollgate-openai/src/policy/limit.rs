use std::num::NonZeroU64;

/// A limit by the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many a minute.
    PerMinute(NonZeroU64),
    /// As many as the provider's first answer says.
    Auto,
    /// Nothing is limited here.
    Unlimited,
}

impl Limit {
    /// So many a minute.
    ///
    /// # Panics
    ///
    /// If `number` is zero: nothing would ever pass.
    pub const fn per_minute(number: u64) -> Limit {
        match NonZeroU64::new(number) {
            Some(number) => Limit::PerMinute(number),
            None => panic!("a limit of 0 a minute lets nothing pass"),
        }
    }

    /// The number, where there is one.
    pub fn amount(self) -> Option<u64> {
        match self {
            Limit::PerMinute(number) => Some(number.get()),
            Limit::Auto | Limit::Unlimited => None,
        }
    }
}
