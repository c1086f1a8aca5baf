use tower_layer::Layer;

use super::Answered;

/// Makes [`Answered`] services. See the [module](super) for why.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnsweredLayer {}

impl AnsweredLayer {
    /// A layer; there is nothing to configure.
    pub fn new() -> Self {
        AnsweredLayer {}
    }
}

impl<S> Layer<S> for AnsweredLayer {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Answered<S> {
        Answered::new(inner)
    }
}
