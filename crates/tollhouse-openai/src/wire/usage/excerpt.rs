//! A small part of a document, kept as a document of its own.

/// The most bytes kept. The longest recorded error has 5 KiB; one that is
/// longer quotes a prompt back, and is let go.
const MOST: usize = 16 * 1024;

/// What is kept of an error while its document passes; nothing is taken from
/// the heap before there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct Excerpt(Option<Box<Copied>>);

#[derive(Clone, Debug)]
struct Copied {
    bytes: Vec<u8>,
    /// What is still copied; `None` when the excerpt is whole.
    open: Option<Span>,
}

/// What is copied, and what makes a document of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) head: &'static [u8],
    /// How many objects and arrays are open where it is over.
    pub(super) ends_at: u32,
    pub(super) tail: &'static [u8],
}

impl Excerpt {
    /// Begins to copy, unless it does already.
    pub(super) fn begin(&mut self, span: Span) {
        if !self.is_open() {
            self.0 = Some(Box::new(Copied {
                bytes: span.head.to_vec(),
                open: Some(span),
            }));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|copied| copied.open.is_some())
    }

    /// Copies what was read, after which `depth` objects and arrays are open.
    pub(super) fn extend(&mut self, more: &[u8], depth: u32, in_string: bool) {
        let Some(copied) = &mut self.0 else {
            return;
        };
        let Some(span) = copied.open else {
            return;
        };
        if copied.bytes.len() + more.len() > MOST {
            self.0 = None;
            return;
        }
        copied.bytes.extend_from_slice(more);
        if depth <= span.ends_at && !in_string {
            copied.bytes.extend_from_slice(span.tail);
            copied.open = None;
        }
    }

    /// The document, once it is whole.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        let copied = self.0.as_deref()?;
        copied.open.is_none().then_some(&*copied.bytes)
    }

    /// Itself if it is whole, else nothing: its document was cut.
    pub(super) fn kept(self) -> Self {
        Excerpt(self.0.filter(|copied| copied.open.is_none()))
    }
}
