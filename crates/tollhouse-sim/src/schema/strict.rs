//! What OpenAI demands of a strict schema.

use serde_json::{Map, Value};

use super::Flaw;

/// Levels of a schema that are looked at.
const DEEPEST: usize = 64;

/// Checks that every object names all its properties as required and allows no
/// others.
pub(crate) fn check_strict(schema: &Value) -> Result<(), Flaw> {
    let context = &mut Vec::new();
    let kind = &schema["type"];
    if kind != "object" && schema.get("$ref").is_none() {
        let kind = kind.as_str().unwrap_or("None");
        let what =
            format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.");
        return Err(Flaw::new(context, what));
    }
    walk(schema, context)
}

fn walk(schema: &Value, context: &mut Vec<String>) -> Result<(), Flaw> {
    let Value::Object(schema) = schema else {
        return Ok(());
    };
    if context.len() > DEEPEST {
        return Err(Flaw::new(context, "the schema is nested too deeply."));
    }
    check_object(schema, context)?;
    for name in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(members)) = schema.get(name) {
            for (key, member) in members {
                step(member, &[name, key], context)?;
            }
        }
    }
    if let Some(items) = schema.get("items") {
        step(items, &["items"], context)?;
    }
    if let Some(Value::Array(any)) = schema.get("anyOf") {
        for (index, one) in any.iter().enumerate() {
            step(one, &["anyOf", &index.to_string()], context)?;
        }
    }
    Ok(())
}

fn step(schema: &Value, names: &[&str], context: &mut Vec<String>) -> Result<(), Flaw> {
    let depth = context.len();
    context.extend(names.iter().map(|&name| name.to_owned()));
    walk(schema, context)?;
    context.truncate(depth);
    Ok(())
}

fn check_object(schema: &Map<String, Value>, context: &[String]) -> Result<(), Flaw> {
    let flaw = |what: String| Err(Flaw::new(context, what));
    for name in [
        "allOf",
        "not",
        "if",
        "dependentRequired",
        "dependentSchemas",
    ] {
        if schema.contains_key(name) {
            return flaw(format!("'{name}' is not permitted."));
        }
    }
    if schema.get("type") != Some(&Value::from("object")) {
        return Ok(());
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return flaw("'additionalProperties' is required to be supplied and to be false.".into());
    }
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return Ok(());
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |key: &String| required.is_some_and(|all| all.contains(&Value::from(&**key)));
    match properties.keys().find(|key| !is_required(key)) {
        None => Ok(()),
        Some(key) => flaw(format!(
            "'required' is required to be supplied and to be an array including every key in \
             properties. Missing '{key}'."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_strict_schemas_lack_is_told_in_openais_words() {
        let object = |rest: Value| {
            let mut schema = json!({"type": "object", "additionalProperties": false});
            for (name, value) in rest.as_object().unwrap() {
                schema[name] = value.clone();
            }
            schema
        };
        let table = [
            (
                json!({"type": "array"}),
                "In context=(), schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'.",
            ),
            (
                json!({"type": "object"}),
                "In context=(), 'additionalProperties' is required to be supplied and to be false.",
            ),
            (
                object(json!({"properties": {"a": {"type": "string"}}})),
                "In context=(), 'required' is required to be supplied and to be an array including \
                 every key in properties. Missing 'a'.",
            ),
            (
                object(json!({"properties": {"a": {"anyOf": [{"not": {}}]}}, "required": ["a"]})),
                "In context=('properties', 'a', 'anyOf', '0'), 'not' is not permitted.",
            ),
            (
                object(
                    json!({"properties": {"a": {"items": {"type": "object"}}}, "required": ["a"]}),
                ),
                "In context=('properties', 'a', 'items'), 'additionalProperties' is required to be \
                 supplied and to be false.",
            ),
        ];
        for (schema, flaw) in table {
            assert_eq!(check_strict(&schema).unwrap_err().to_string(), flaw);
        }
        assert_eq!(check_strict(&object(json!({"properties": {}}))), Ok(()));
    }
}
