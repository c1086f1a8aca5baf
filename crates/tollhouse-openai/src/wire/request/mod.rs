//! What a request says of itself: its path, and its body counted in one pass
//! without keeping it.

mod content;
mod edit;
mod endpoint;
mod shape;

pub(crate) use edit::Edit;
pub use endpoint::Endpoint;
pub(crate) use endpoint::deployment;
pub use shape::Shape;

use http::Method;

/// All that is known of a request before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct RequestFacts {
    pub(crate) endpoint: Endpoint,
    /// `GET` and the like, which run no model.
    pub(crate) is_read: bool,
    /// The model's deployment in the path.
    pub(crate) deployment: Option<Box<str>>,
    /// The body's length; `None` where it is streamed and nobody reads it.
    pub(crate) bytes: Option<u64>,
    /// What the body holds; `None` where it is no JSON object.
    pub(crate) shape: Option<Shape>,
    /// What makes a chat stream tell its usage, where it has not been asked. Boxed, since most
    /// requests have none and thousands may wait.
    pub(crate) edit: Option<Box<Edit>>,
}

impl RequestFacts {
    /// What head and body say; no body where it is streamed.
    pub(crate) fn read(method: &Method, path: &str, body: Option<&[u8]>) -> Self {
        let (shape, edit) = body.and_then(Shape::read).unzip();
        RequestFacts {
            bytes: body.map(|body| body.len() as u64),
            shape,
            edit: edit.flatten().map(Box::new),
            ..RequestFacts::head(method, path)
        }
    }

    /// The same body under another head.
    pub(crate) fn under(&self, method: &Method, path: &str) -> Self {
        RequestFacts {
            bytes: self.bytes,
            shape: self.shape.clone(),
            edit: self.edit.clone(),
            ..RequestFacts::head(method, path)
        }
    }

    fn head(method: &Method, path: &str) -> Self {
        RequestFacts {
            endpoint: Endpoint::of(path),
            is_read: matches!(
                *method,
                Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
            ),
            deployment: deployment(path).map(Box::from),
            bytes: None,
            shape: None,
            edit: None,
        }
    }

    /// The model's name: the body's, or else the deployment in the path.
    pub(crate) fn model(&self) -> Option<&str> {
        let named = self.shape.as_ref().and_then(|shape| shape.model.as_deref());
        named.or(self.deployment.as_deref())
    }
}
