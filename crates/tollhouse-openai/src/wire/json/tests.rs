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

    fn string(&mut self, key: &[u8]) -> bool {
        self.lines.push(line("string", key, ""));
        key != b"no"
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
    let (mut tokens, mut told) = (Tokens::default(), Told::default());
    for mut chunk in document.as_bytes().chunks(cut) {
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
    if told == "no" {
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
        let key = "no|a|completion_tokens|longer_than_any_key";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
    // A word at the outermost level ends where nobody sees it.
    .prop_map(|value| json!([value]))
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

    #[test]
    fn what_is_no_json_is_read_over(text in "[{}\\[\\]\",:0-9 \\\\n]{0,300}", cut in 1_usize..9) {
        read(&text, cut);
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
