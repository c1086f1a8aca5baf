//! Names that are given from outside, and which of them are taken.
//!
//! Whoever reads one from a flag or a file refuses there what [`Proxy`](crate::Proxy) would
//! not know, or would never meet.

/// Of a caller's name, in characters.
pub const LONGEST_CALLER: usize = 64;

/// Of a host's, in characters (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;

/// The caller's name that a text is, without the space around it: up to 64 characters of visible
/// ASCII and spaces. What is none is left out: a name that were cut would be somebody else's.
///
/// # Examples
///
/// ```
/// use tollhouse_proxy::names::caller;
///
/// assert_eq!(caller(" nightly batch "), Some("nightly batch"));
/// assert_eq!(caller("nightly\nbatch"), None);
/// assert_eq!(caller(" "), None);
/// assert_eq!(caller(&"x".repeat(65)), None);
/// ```
pub fn caller(text: &str) -> Option<&str> {
    let name = text.trim();
    let is_visible = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (is_visible && (1..=LONGEST_CALLER).contains(&name.len())).then_some(name)
}

/// Whether clients can call a host by this name: letters, digits, `-` and `_`, between dots, as
/// `Host` has it before the port. `*` is none: it would let any page's name be this proxy's.
///
/// # Examples
///
/// ```
/// use tollhouse_proxy::names::is_host;
///
/// assert!(is_host("tollhouse_proxy") && is_host("proxy.internal"));
/// for none in ["", "proxy:80", "http://proxy", "*", "*.internal", "a b", "a..b"] {
///     assert!(!is_host(none), "{none}");
/// }
/// ```
pub fn is_host(text: &str) -> bool {
    let may_stand = |byte| matches!(byte, b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(may_stand);
    // The root's own dot may be written out.
    let labels = text.strip_suffix('.').unwrap_or(text);
    text.len() <= LONGEST_HOST && labels.split('.').all(is_label)
}
