//! What a request costs before it is sent, and what its answer says it cost.

use super::Denial;
use crate::charge::{Charge, Unit};

/// What a request will be charged, decided before it is sent.
///
/// Any `Fn(&Req) -> u64` is a cost in tokens, and so is one that returns a
/// [`Charge`]:
///
/// ```
/// use tollhouse::{Charge, Cost, Unit};
///
/// let by_length = |prompt: &String| prompt.len() as u64 / 4 + 1;
/// assert_eq!(by_length.cost(&"twelve bytes".to_owned()), 4);
///
/// let with_a_picture = |_: &String| Charge::tokens(765).and(Unit::Images, 1);
/// assert_eq!(with_a_picture.charge(&String::new()).get(Unit::Images), 1);
/// ```
pub trait Cost<Req> {
    /// The tokens that `request` will be charged.
    fn cost(&self, request: &Req) -> u64;

    /// All that `request` will be charged, where that is more than tokens and one
    /// request.
    fn charge(&self, request: &Req) -> Charge {
        Charge::tokens(self.cost(request))
    }
}

impl<F, C, Req> Cost<Req> for F
where
    F: Fn(&Req) -> C,
    C: Into<Charge>,
{
    fn cost(&self, request: &Req) -> u64 {
        self.charge(request).get(Unit::Tokens)
    }

    fn charge(&self, request: &Req) -> Charge {
        self(request).into()
    }
}

/// Reads the real usage of a request from its answer, to settle its
/// reservation.
///
/// Any `Fn(&Res) -> Option<u64>` reads a whole response. An answer whose usage
/// comes in its body hands out a [`Meter`] that sees the body go by.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter, Usage};
///
/// // An answer that says itself what it used.
/// let usage = |answer: &(&str, u64)| Some(answer.1);
/// let mut meter = usage.meter(&("Eleven kilometers.", 12));
/// assert_eq!(meter.used(End::Complete), Some(12));
/// ```
pub trait Usage<Res> {
    /// Watches the body of one answer.
    type Meter: Meter;

    /// Begins to watch one answer, from its head.
    fn meter(&self, response: &Res) -> Self::Meter;
}

impl<F, Res> Usage<Res> for F
where
    F: Fn(&Res) -> Option<u64>,
{
    type Meter = Option<u64>;

    fn meter(&self, response: &Res) -> Option<u64> {
        self(response)
    }
}

/// Sees one answer's body go by and knows at its end what was used.
///
/// # Examples
///
/// ```
/// use tollhouse::{Denial, End, Meter, Scope};
///
/// /// A token for every four bytes.
/// #[derive(Default)]
/// struct ByBytes {
///     bytes: u64,
///     busy: bool,
/// }
///
/// impl Meter for ByBytes {
///     fn chunk(&mut self, data: &[u8]) {
///         self.bytes += data.len() as u64;
///         self.busy |= data == b"error: busy";
///     }
///
///     fn denial(&mut self) -> Option<Denial> {
///         let scope = Scope::Overload;
///         self.busy.then_some(Denial { scope, after: None })
///     }
///
///     fn used(&mut self, end: End) -> Option<u64> {
///         (end == End::Complete).then_some(self.bytes / 4)
///     }
/// }
///
/// let mut meter = ByBytes::default();
/// meter.chunk(b"Eleven ");
/// meter.chunk(b"kilometers.");
/// assert_eq!(meter.denial(), None);
/// assert_eq!(meter.used(End::Complete), Some(4));
/// ```
pub trait Meter {
    /// Takes in the next piece of the body. Must not keep an amount of data
    /// that grows with the body.
    fn chunk(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// A refusal that the body told after a head that promised success; it
    /// acts on the budget as one in the head does. Asked once, before
    /// [`used`](Self::used).
    fn denial(&mut self) -> Option<Denial> {
        None
    }

    /// The tokens used, or `None` where the answer did not say: then the
    /// reserved cost stands. Called at most once.
    fn used(&mut self, end: End) -> Option<u64>;

    /// All that was used, where that is more than tokens; the budget asks this and
    /// not [`used`](Self::used). A unit that it does not name stands as it was
    /// reserved.
    fn charged(&mut self, end: End) -> Option<Charge> {
        self.used(end).map(Charge::tokens)
    }
}

/// A usage that was known from the head.
impl Meter for Option<u64> {
    fn used(&mut self, _: End) -> Option<u64> {
        *self
    }
}

/// How a call came to its end.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter};
///
/// // A usage that was known from the head holds, however the body ends.
/// assert_eq!(Some(12).used(End::Complete), Some(12));
/// assert_eq!(Some(12).used(End::Cut), Some(12));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The last byte of its body was read.
    Complete,
    /// It failed, or the reader left, before the last byte.
    Cut,
    /// Nothing of it ever reached the provider; see
    /// [`NeverSent`](crate::error::NeverSent). There was no answer to meter.
    NeverSent,
}

/// Usage that is never known: every reserved cost stands.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter, Unmetered, Usage};
///
/// let mut meter = Unmetered.meter(&"Eleven kilometers.");
/// assert_eq!(meter.used(End::Complete), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl<Res> Usage<Res> for Unmetered {
    type Meter = Option<u64>;

    fn meter(&self, _: &Res) -> Option<u64> {
        None
    }
}
