//! What a path asks for.

/// The kinds of endpoint that are charged differently.
///
/// # Examples
///
/// Whatever stands before it, `/v1` or Azure's deployment:
///
/// ```
/// use tollhouse_openai::call::Endpoint;
///
/// assert_eq!(Endpoint::of("/v1/chat/completions"), Endpoint::Chat);
/// let azure = "/openai/deployments/mine/embeddings";
/// assert_eq!(Endpoint::of(azure).name(), "embeddings");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `chat/completions`.
    Chat,
    /// `responses`.
    Responses,
    /// `completions`.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `moderations`.
    Moderations,
    /// `images/...`.
    Images,
    /// `audio/...`.
    Audio,
    /// Keeps things and runs no model at once: files, batches and the like.
    Storage,
    /// Anything else.
    Other,
}

impl Endpoint {
    /// All of them.
    pub(crate) const ALL: [Endpoint; 9] = [
        Endpoint::Chat,
        Endpoint::Responses,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Moderations,
        Endpoint::Images,
        Endpoint::Audio,
        Endpoint::Storage,
        Endpoint::Other,
    ];

    /// Tells the endpoint from a path, whatever stands before it (`/v1`,
    /// Azure's `/openai/deployments/NAME`).
    pub fn of(path: &str) -> Endpoint {
        const STORAGE: [&str; 6] = [
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
            (_, Some("images")) => Endpoint::Images,
            (_, Some("audio")) => Endpoint::Audio,
            _ if path.split('/').any(|segment| STORAGE.contains(&segment)) => Endpoint::Storage,
            _ => Endpoint::Other,
        }
    }

    /// The end of the path; `images`, `audio`, `storage` and `other` where there are
    /// several.
    pub fn name(self) -> &'static str {
        match self {
            Endpoint::Chat => "chat/completions",
            Endpoint::Responses => "responses",
            Endpoint::Completions => "completions",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Moderations => "moderations",
            Endpoint::Images => "images",
            Endpoint::Audio => "audio",
            Endpoint::Storage => "storage",
            Endpoint::Other => "other",
        }
    }

    /// Whether a model writes an answer of some length.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Endpoint::Chat | Endpoint::Responses | Endpoint::Completions
        )
    }
}

/// Azure's name of a model in a path: `/openai/deployments/NAME/...`.
pub(crate) fn deployment(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    segments.find(|segment| *segment == "deployments")?;
    segments.next()
}
