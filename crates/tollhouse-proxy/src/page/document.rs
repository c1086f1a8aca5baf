//! The page itself: one file, put together from three.

use std::sync::LazyLock;

use axum::response::{Html, IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the browser may use of the page: nothing but the two files above, so that
/// nothing that somebody smuggles in is run. A test says what stands here.
const STYLE_HASH: &str = "sha256-H5LKIoIuYD4jrKujY7/zedVMVDpK5v4bjFs1oOyRyAY=";
const SCRIPT_HASH: &str = "sha256-LWz+oIj7V8HlpR4n9tJ+Xbmwcx30pV9S8FIJhIDteDw=";

/// The same for everybody.
static LIVE: LazyLock<String> = LazyLock::new(|| put_together("", ""));

static POLICY: LazyLock<String> = LazyLock::new(|| policy("'self'") + "; frame-ancestors 'none'");

/// The page as it is served. It tells nothing by itself.
pub(crate) fn document() -> Response {
    let head = [
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (head, Html(LIVE.as_str())).into_response()
}

/// The page with what it shows inside, which asks nobody for anything.
pub(super) fn with(told: &str) -> String {
    let policy = policy("'none'");
    let meta = format!("<meta http-equiv=\"content-security-policy\" content=\"{policy}\">");
    put_together(&meta, &inside_script(told))
}

fn policy(connect: &str) -> String {
    format!(
        "default-src 'none'; style-src '{STYLE_HASH}'; script-src '{SCRIPT_HASH}'; \
         connect-src {connect}; img-src data:; base-uri 'none'; form-action 'none'"
    )
}

fn put_together(meta: &str, told: &str) -> String {
    let mut page = String::with_capacity(FRAME.len() + STYLE.len() + SCRIPT.len() + told.len());
    let mut rest = FRAME;
    // Each once and in this order, so that nothing that is put in is looked through.
    for (mark, put_in) in [
        ("<!--meta-->", meta),
        ("/*style*/", STYLE),
        ("/*told*/", told),
        ("/*script*/", SCRIPT),
    ] {
        let (before, after) = rest.split_once(mark).expect("the frame has the mark");
        page.push_str(before);
        page.push_str(put_in);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// JSON as it may stand between `<script>` and `</script>`.
fn inside_script(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            // `</script>` and `<!--` are for the reader of HTML, whatever they stand in.
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_policy_allows_the_two_files_and_nothing_else() {
        let hash = |file: &str| {
            let hash = digest(&SHA256, file.as_bytes());
            format!("sha256-{}", STANDARD.encode(hash))
        };
        // Whoever changes a file puts its new hash above.
        assert_eq!(STYLE_HASH, hash(STYLE));
        assert_eq!(SCRIPT_HASH, hash(SCRIPT));
        assert!(
            !POLICY.contains("unsafe") && !POLICY.contains("http"),
            "{}",
            *POLICY
        );
    }

    #[test]
    fn the_page_is_whole_and_takes_nothing_from_outside() {
        for mark in ["<!--meta-->", "/*style*/", "/*told*/", "/*script*/"] {
            assert_eq!(FRAME.matches(mark).count(), 1, "{mark}");
            assert!(!LIVE.contains(mark), "{mark}");
        }
        assert!(LIVE.contains(STYLE) && LIVE.contains(SCRIPT));
        // A name that a browser does not follow.
        let plain = LIVE.replace("http://www.w3.org/2000/svg", "");
        for outside in [
            "http:", "https:", "@import", "url(", " src=", "<iframe", "<base",
        ] {
            assert!(!plain.contains(outside), "{outside}");
        }
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(way), "{way} takes text for markup");
        }
    }

    #[test]
    fn what_is_put_in_cannot_end_its_script() {
        let hostile = r#"{"name":"</script><script>alert(1)</script><!-- & \u2028"}"#;
        let page = with(hostile);
        assert!(!page.contains("alert(1)</script>"), "{page}");
        assert_eq!(
            page.matches("</script>").count(),
            LIVE.matches("</script>").count()
        );
        let put_in = inside_script(hostile);
        let read: serde_json::Value = serde_json::from_str(&put_in).unwrap();
        let whole: serde_json::Value = serde_json::from_str(hostile).unwrap();
        assert_eq!(read, whole);
        assert!(page.contains("connect-src 'none'") && !page.contains("frame-ancestors"));
    }
}
