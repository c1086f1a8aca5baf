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
        const STORAGE: [&[u8]; 10] = [
            b"files",
            b"uploads",
            b"batches",
            b"models",
            b"vector_stores",
            b"containers",
            b"conversations",
            b"assistants",
            b"fine_tuning",
            b"organization",
        ];
        let mut from_end = segments(path.trim_end_matches('/')).rev();
        match (from_end.next(), from_end.next()) {
            (Some(b"completions"), Some(b"chat")) => Endpoint::Chat,
            (Some(b"responses"), _) => Endpoint::Responses,
            (Some(b"completions"), _) => Endpoint::Completions,
            (Some(b"embeddings"), _) => Endpoint::Embeddings,
            (Some(b"moderations"), _) => Endpoint::Moderations,
            (_, Some(b"images")) => Endpoint::Images,
            (_, Some(b"audio")) => Endpoint::Audio,
            // What was asked is stopped, or counted.
            (Some(b"cancel"), _) | (Some(b"input_tokens"), Some(b"responses")) => Endpoint::Storage,
            _ if segments(path).any(|segment| STORAGE.contains(&segment)) => Endpoint::Storage,
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
    let mut segments = segments(path);
    segments.find(|segment| *segment == b"deployments")?;
    // A slash is no part of a longer character.
    std::str::from_utf8(segments.next()?).ok()
}

/// By bytes: a search for each of some short segments takes longer than they do.
fn segments(path: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_named_by_what_follows() {
        for (path, named) in [
            ("/openai/deployments/mine/embeddings", Some("mine")),
            ("/deployments/gr\u{fc}n", Some("gr\u{fc}n")),
            ("/deployments/deployments/x", Some("deployments")),
            ("deployments/", Some("")),
            ("/deployments", None),
            ("/my-deployments/x", None),
            ("", None),
        ] {
            assert_eq!(deployment(path), named, "{path}");
        }
    }

    #[test]
    fn what_runs_no_model_is_storage() {
        for path in [
            "/v1/files/file_1/content",
            "/v1/batches/b_1/cancel",
            "/v1/responses/resp_1/cancel",
            "/v1/responses/input_tokens",
            "/v1/conversations/conv_1/items",
            "/v1/fine_tuning/jobs",
            "/v1/organization/projects",
            "/v1/models",
        ] {
            assert_eq!(Endpoint::of(path), Endpoint::Storage, "{path}");
        }
        for (path, endpoint) in [
            ("/v1/responses", Endpoint::Responses),
            ("/v1/responses/compact", Endpoint::Other),
            ("/v1/threads/t_1/runs", Endpoint::Other),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
        }
    }
}
