//! What a request must be before it is let in.
//!
//! hyper is lenient where two readers may understand a request differently: it takes
//! lines that end in a bare LF, and forgets a `content-length` beside a
//! `transfer-encoding`. What it parsed away cannot be seen behind it, so the first
//! check stands before it:
//!
//! ```text
//! socket -> reader (bytes of HTTP/1.1: head, scanner) -> hyper -> request (path, host) -> calls
//! ```

mod flaw;
mod head;
mod patience;
mod reader;
pub(crate) mod request;
mod scanner;
mod signals;

pub(crate) use flaw::Flaw;
pub(crate) use reader::{Checked, Limits, is_stand_in};
pub(crate) use signals::{Signals, Turn};
