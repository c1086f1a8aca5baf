//! The fields of a line of text.
//!
//! The library paints each name and each sign after it, with nothing where there are no colours,
//! and that is a third of what a line costs. So where there are none, most fields are written as
//! they come; what is more than a name and a value is left to the library.

use std::error::Error;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::format::{DefaultVisitor, FormatFields, Writer};

/// Writes fields as [`DefaultFields`](tracing_subscriber::fmt::format::DefaultFields) does.
#[derive(Debug)]
pub(super) struct Fields;

/// Writes those of one line.
struct Writes<'w> {
    out: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
        let mut writes = Writes {
            out,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut writes);
        writes.result
    }
}

impl Writes<'_> {
    /// Whether a field is one of those that the library treats apart.
    fn is_left(&self, name: &str) -> bool {
        name == "message" || name.starts_with("r#") || self.out.has_ansi_escapes()
    }

    fn leave(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        let mut usual = DefaultVisitor::new(self.out.by_ref(), self.is_empty);
        record(&mut usual);
        self.result = usual.finish();
        self.is_empty = false;
    }

    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.out.write_char(' ')?;
        }
        self.out.write_str(name)?;
        self.out.write_char('=')?;
        write!(self.out, "{value:?}")
    }
}

impl Visit for Writes<'_> {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        if self.result.is_ok() {
            self.leave(|usual| usual.record_error(field, error));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // A message that is a text is in no quotes.
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_err() {
            return;
        }
        match self.is_left(field.name()) {
            true => self.leave(|usual| usual.record_debug(field, value)),
            false => self.result = self.write(field.name(), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::format::DefaultFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the same events are as text.
    fn said<F>(fields: F, colours: bool) -> String
    where
        F: for<'w> FormatFields<'w> + Send + Sync + 'static,
    {
        let said = Said::default();
        let out = said.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(colours)
            .fmt_fields(fields)
            .with_writer(move || out.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = std::mem::take(&mut *said.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    fn events() {
        let plain = io::Error::other("no \u{1b}[31m more");
        let nested = io::Error::other(io::Error::other(fmt::Error));
        let none: Option<u32> = None;
        let _span = tracing::info_span!("span", of = "x", r#type = 1).entered();
        tracing::info!(
            method = %"POST",
            path = "/v1/\u{1b}[31m \"x\"\n",
            status = Some(200_u16),
            none,
            wait_ms = 0.1,
            gen_ai.request.model = "m",
            r#type = "t",
            log.line = 7,
            "call {}", "\u{1b}[31m"
        );
        tracing::warn!(error = &plain as &dyn Error, "broke");
        tracing::warn!(n = 1, error = &nested as &dyn Error, m = ?Some("x"));
        tracing::warn!("alone");
        tracing::warn!(n = 1, message = "a text, and no arguments \"\u{1b}[31m");
    }

    #[test]
    fn a_line_is_as_the_library_writes_it() {
        for colours in [false, true] {
            let own = said(Fields, colours);
            assert_eq!(own, said(DefaultFields::new(), colours));
            assert_eq!(own.lines().count(), 5, "{own}");
        }
    }
}
