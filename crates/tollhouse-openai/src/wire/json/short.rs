/// The longest of interest is `completion_tokens`.
const BYTES: u8 = 17;

/// A key or a name as far as it can be one of interest: in constant memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Short {
    bytes: [u8; BYTES as usize],
    /// More than [`BYTES`] where it is none.
    length: u8,
}

impl Short {
    /// Nothing of interest.
    const OTHER: u8 = BYTES + 1;

    pub(crate) fn extend(&mut self, more: &[u8]) {
        let start = usize::from(self.length);
        let end = start.saturating_add(more.len());
        match self.bytes.get_mut(start..end) {
            Some(place) => {
                place.copy_from_slice(more);
                self.length = end as u8;
            }
            None => self.spoil(),
        }
    }

    /// It turned out to be of no interest.
    pub(crate) fn spoil(&mut self) {
        self.length = Short::OTHER;
    }

    /// Itself, or nothing where it is of no interest.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let length = usize::from(self.length);
        self.bytes.get(..length).unwrap_or_default()
    }
}
