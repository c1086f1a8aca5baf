use serde_json::json;

use super::*;

fn made(schema: &Value) -> Vec<Value> {
    let make = |seed| satisfy(schema, &mut Rng::seeded(seed));
    (0..40)
        .map(|seed| make(seed).unwrap_or_else(|flaw| panic!("{schema}: {flaw}")))
        .collect()
}

fn flaw(schema: &Value) -> String {
    satisfy(schema, &mut Rng::seeded(1))
        .unwrap_err()
        .to_string()
}

#[test]
fn constants_and_enums_are_kept_to() {
    assert!(
        made(&json!({"const": {"a": [1]}}))
            .iter()
            .all(|v| *v == json!({"a": [1]}))
    );
    let colours = made(&json!({"type": "string", "enum": ["red", "blue"]}));
    assert!(colours.contains(&json!("red")) && colours.contains(&json!("blue")));
    assert!(colours.iter().all(|v| v == "red" || v == "blue"));
}

#[test]
fn strings_are_as_long_as_they_may_be() {
    for value in made(&json!({"type": "string", "minLength": 30, "maxLength": 33})) {
        assert!(
            (30..=33).contains(&value.as_str().unwrap().len()),
            "{value}"
        );
    }
    assert!(
        made(&json!({"type": "string", "maxLength": 0}))
            .iter()
            .all(|v| v == "")
    );
}

#[test]
fn required_members_are_there_and_optional_ones_sometimes() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
        "required": ["a"],
    });
    let made = made(&schema);
    assert!(made.iter().all(|v| v["a"].is_i64()));
    assert!(made.iter().any(|v| v["b"].is_boolean()));
    assert!(made.iter().any(|v| v.get("b").is_none()));
}

#[test]
fn arrays_have_as_many_items_as_they_must() {
    let schema = json!({"type": "array", "items": {"enum": [1, 2, 3, 4]}, "minItems": 3,
        "maxItems": 4, "uniqueItems": true});
    for value in made(&schema) {
        let items = value.as_array().unwrap();
        assert!((3..=4).contains(&items.len()), "{value}");
        assert!(
            (1..items.len()).all(|n| !items[..n].contains(&items[n])),
            "{value}"
        );
    }
    let pair = json!({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false});
    assert!(
        made(&pair)
            .iter()
            .all(|v| v[0].is_string() && v[1].is_i64() && v.get(2).is_none())
    );
}

#[test]
fn recursion_ends() {
    let tree = json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#"}},
            },
            "required": ["left", "children"],
        }},
    });
    fn check(node: &Value) {
        assert!(node["children"].is_array(), "{node}");
        node["children"].as_array().unwrap().iter().for_each(check);
        if !node["left"].is_null() {
            check(&node["left"]);
        }
    }
    made(&tree).iter().for_each(check);
}

#[test]
fn all_of_is_merged() {
    let schema = json!({"allOf": [
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"properties": {"b": {"const": 2}}, "required": ["b"]},
    ]});
    assert!(made(&schema).iter().all(|v| *v == json!({"a": 1, "b": 2})));
}

#[test]
fn dictionaries_are_filled() {
    let schema = json!({"type": "object", "additionalProperties": {"type": "integer"},
        "propertyNames": {"pattern": "^k[0-9]{4}$"}, "minProperties": 2});
    for value in made(&schema) {
        let object = value.as_object().unwrap();
        assert!(object.len() >= 2, "{value}");
        assert!(
            object.iter().all(|(k, v)| k.starts_with('k') && v.is_i64()),
            "{value}"
        );
    }
}

#[test]
fn what_cannot_be_satisfied_is_told_with_its_place() {
    let inside =
        |schema: Value| json!({"type": "object", "properties": {"a": schema}, "required": ["a"]});
    let table = [
        (
            json!({"minimum": 2, "maximum": 1, "type": "integer"}),
            "no number is within the bounds.",
        ),
        (
            json!({"type": "array", "minItems": 1_000_000}),
            "no array of 1000000 to 18446744073709551615 items can be made.",
        ),
        (
            json!({"type": "string", "minLength": 9_000_000}),
            "no string of 9000000 to 18446744073709551615 characters can be made.",
        ),
        (json!({"type": "thing"}), "'thing' is not a valid type."),
        (json!({"not": {}}), "'not' is not permitted."),
        (json!({"enum": []}), "'enum' is empty."),
        (
            json!({"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": true}),
            "no 2 items that differ could be made.",
        ),
    ];
    for (schema, what) in table {
        let told = flaw(&inside(schema));
        assert_eq!(told, format!("In context=('properties', 'a'), {what}"));
    }
    let endless = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    assert!(flaw(&endless).ends_with("no value of a reasonable size satisfies the schema."));
    assert!(flaw(&json!({"$ref": "#/$defs/b"})).contains("reference \"#/$defs/b\""));
}

#[test]
fn a_schema_that_branches_without_end_is_given_up_soon() {
    let schema = json!({"type": "object", "properties": {
        "a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        "b": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    }, "required": ["a", "b"]});
    assert!(flaw(&schema).contains("no value of a reasonable size"));
}
