use tower_layer::Layer;

use super::WithVerdict;

/// Makes [`WithVerdict`] services. See the [module](super) for why.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct VerdictLayer {}

impl VerdictLayer {
    /// A layer; there is nothing to configure.
    pub fn new() -> Self {
        VerdictLayer {}
    }
}

impl<S> Layer<S> for VerdictLayer {
    type Service = WithVerdict<S>;

    fn layer(&self, inner: S) -> WithVerdict<S> {
        WithVerdict::new(inner)
    }
}
