use bytes::Bytes;

/// A request's body as a policy needs it: whole, so that it can be read.
pub trait CallBody: From<Bytes> + sealed::Sealed {
    /// All of it, where it is there.
    fn whole(&self) -> Option<&Bytes>;
}

impl CallBody for Bytes {
    fn whole(&self) -> Option<&Bytes> {
        Some(self)
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for bytes::Bytes {}
}
