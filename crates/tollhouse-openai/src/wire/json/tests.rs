use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What is told, a line each. Whatever has a key of `no` is read over.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    text: String,
}

fn line(what: &str, key: &[u8], value: &str) -> String {
    format!("{what} {} {value}", String::from_utf8_lossy(key))
}

impl Visit for Told {
    fn open(&mut self, key: &[u8], object: bool) -> bool {
        let what = if object { "object" } else { "array" };
        self.lines.push(line(what, key, ""));
        key != b"no"
    }

    fn close(&mut self) {
        self.lines.push("close".to_owned());
    }

    fn string(&mut self, key: &[u8]) -> Telling {
        self.lines.push(line("string", key, ""));
        match key {
            b"no" => Telling::Nothing,
            b"apart" => Telling::Apart,
            _ => Telling::Text,
        }
    }

    fn text(&mut self, plain: &[u8]) {
        // Cut anywhere, be it inside a character.
        self.text.extend(plain.iter().map(|byte| char::from(*byte)));
    }

    fn escape(&mut self) {
        self.text.push('\\');
    }

    fn end_string(&mut self) {
        self.lines.push(std::mem::take(&mut self.text));
    }

    fn word(&mut self, key: &[u8], number: Option<u64>) {
        self.lines.push(line("word", key, &format!("{number:?}")));
    }
}

fn read(document: &str, cut: usize) -> (Vec<String>, Tokens) {
    read_bytes(document.as_bytes(), cut)
}

fn read_bytes(document: &[u8], cut: usize) -> (Vec<String>, Tokens) {
    let (mut tokens, mut told) = (Tokens::default(), Told::default());
    for mut chunk in document.chunks(cut) {
        while !chunk.is_empty() {
            chunk = tokens.step(chunk, &mut told);
        }
    }
    (told.lines, tokens)
}

/// The same by a parser that holds the whole document.
fn walk(key: &str, value: &Value, lines: &mut Vec<String>) {
    let told = if key.len() > 17 { "" } else { key };
    let mut say = |what, value: &str| lines.push(line(what, told.as_bytes(), value));
    match value {
        Value::Object(_) => say("object", ""),
        Value::Array(_) => say("array", ""),
        Value::String(_) => say("string", ""),
        word => say("word", &format!("{:?}", word.as_u64())),
    }
    if told == "no" || told == "apart" && value.is_string() {
        return;
    }
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(key, value)| walk(key, value, lines));
            lines.push("close".to_owned());
        }
        Value::Array(items) => {
            items.iter().for_each(|value| walk("", value, lines));
            lines.push("close".to_owned());
        }
        Value::String(text) => {
            let written = |c| if matches!(c, '"' | '\\') { '\\' } else { c };
            lines.push(text.chars().map(written).collect());
        }
        _ => {}
    }
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|word| json!(word)),
        any::<u64>().prop_map(|number| json!(number)),
        (-9_i64..0).prop_map(|number| json!(number)),
        any::<u16>().prop_map(|number| json!(f64::from(number) + 0.5)),
        "[a\"\\\\{}\\[\\]:, ]{0,20}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let key = "no|apart|a|completion_tokens|longer_than_any_key";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
    // A word at the outermost level ends where nobody sees it.
    .prop_map(|value| json!([value]))
}

/// Bits of JSON in any order, and bytes that are no text.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let known: [&[u8]; 22] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"\\",
        b" ",
        b"\n",
        b"null",
        b"-1.5e3",
        b"18446744073709551615",
        b"18446744073709551616",
        b"\"no\":",
        b"\"apart\":",
        b"\"a\":",
        b"{\"a\":",
        b"\"completion_tokens\"",
        b"\"longer_than_any_key\"",
        b"\"\\u00e9\"",
        b"\"a string\"",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(<[u8]>::to_vec);
    let any = prop::collection::vec(any::<u8>(), 1..12);
    prop::collection::vec(prop_oneof![9 => known, 1 => any], 0..60)
}

proptest! {
    #[test]
    fn all_is_told_however_it_is_cut(document in documents(), cut in 1_usize..40, pretty: bool) {
        let text = if pretty {
            format!("{document:#}")
        } else {
            document.to_string()
        };
        let mut expected = Vec::new();
        walk("", &document, &mut expected);
        let (told, tokens) = read(&text, cut);
        prop_assert_eq!(told, expected);
        prop_assert!(tokens.is_outside());
    }

    /// Strings and words that are whole in a chunk are read by a way of their own, and byte
    /// by byte there are none.
    #[test]
    fn what_is_no_json_is_told_alike_however_it_is_cut(pieces in pieces(), cut in 2_usize..60) {
        let document = pieces.concat();
        let (expected, end) = read_bytes(&document, 1);
        for cut in [cut, document.len().max(1)] {
            let (told, tokens) = read_bytes(&document, cut);
            prop_assert_eq!(&told, &expected);
            prop_assert_eq!(tokens.depth(), end.depth());
            prop_assert_eq!(tokens.is_in_string(), end.is_in_string());
            prop_assert_eq!(tokens.is_outside(), end.is_outside());
        }
    }
}

#[test]
fn beyond_the_most_levels_nothing_is_told() {
    let most = MOST_TOLD as usize;
    let document = format!("{}1{}, 2", "[".repeat(most + 5), "]".repeat(most + 5));
    let (told, tokens) = read(&document, document.len());
    let opened = told.iter().filter(|line| line.starts_with("array"));
    // The first of them that is read over opens where something is told.
    assert_eq!(opened.count(), most + 1);
    assert_eq!(told.iter().filter(|line| *line == "close").count(), most);
    assert_eq!(tokens.depth(), 0);
}
