//! What a path asks for.

/// The kinds of endpoint that are charged differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    Chat,
    Responses,
    Completions,
    Embeddings,
    Moderations,
    /// Keeps things and runs no model at once: files, batches and the like.
    Keeping,
    Other,
}

impl Endpoint {
    /// Tells the endpoint from a path, whatever stands before it (`/v1`,
    /// Azure's `/openai/deployments/NAME`).
    pub(crate) fn of(path: &str) -> Endpoint {
        const KEEPING: [&str; 6] = [
            "files",
            "uploads",
            "batches",
            "models",
            "vector_stores",
            "containers",
        ];
        let mut segments = path.trim_end_matches('/').rsplit('/');
        match (segments.next(), segments.next()) {
            (Some("completions"), Some("chat")) => Endpoint::Chat,
            (Some("responses"), _) => Endpoint::Responses,
            (Some("completions"), _) => Endpoint::Completions,
            (Some("embeddings"), _) => Endpoint::Embeddings,
            (Some("moderations"), _) => Endpoint::Moderations,
            _ if path.split('/').any(|segment| KEEPING.contains(&segment)) => Endpoint::Keeping,
            _ => Endpoint::Other,
        }
    }

    /// The end of the path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Endpoint::Chat => "chat/completions",
            Endpoint::Responses => "responses",
            Endpoint::Completions => "completions",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Moderations => "moderations",
            Endpoint::Keeping => "keeping",
            Endpoint::Other => "other",
        }
    }

    /// Whether a model writes an answer of some length.
    pub(super) fn writes(self) -> bool {
        matches!(
            self,
            Endpoint::Chat | Endpoint::Responses | Endpoint::Completions
        )
    }
}
