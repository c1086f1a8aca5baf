//! Makes a value for a schema.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::text::{formatted, words};
use super::{Flaw, number, pattern};
use crate::random::Rng;

/// Values in one answer, at most.
const MOST_VALUES: u32 = 20_000;
/// The longest string that is made, in characters.
const LONGEST: u64 = 100_000;
/// Levels that are made at most; a recursive schema ends before.
const DEEPEST: usize = 40;
/// From here on the smallest choice is taken everywhere.
const DEEP: usize = 4;
/// Draws for an array whose items must all differ, for each item.
const DRAWS: u32 = 50;

/// A value that satisfies `schema`.
pub(crate) fn satisfy(schema: &Value, rng: &mut Rng) -> Result<Value, Flaw> {
    let mut maker = Maker {
        root: schema,
        rng,
        left: MOST_VALUES,
        context: Vec::new(),
    };
    maker.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    rng: &'a mut Rng,
    /// Values that may still be made.
    left: u32,
    context: Vec<String>,
}

type Made = Result<Value, Flaw>;

impl Maker<'_> {
    fn flaw<T>(&self, what: impl Into<String>) -> Result<T, Flaw> {
        Err(Flaw::new(&self.context, what))
    }

    fn make(&mut self, schema: &Value, depth: usize) -> Made {
        self.left = match self.left.checked_sub(1) {
            Some(left) if depth <= DEEPEST => left,
            _ => return self.flaw("no value of a reasonable size satisfies the schema."),
        };
        match schema {
            Value::Bool(true) => Ok(words(1, 40, self.rng).into()),
            Value::Object(schema) => self.of(schema, depth),
            _ => self.flaw("no value satisfies the schema."),
        }
    }

    /// One level down, or along a reference.
    fn within(&mut self, names: &[&str], schema: &Value, depth: usize) -> Made {
        let length = self.context.len();
        self.context
            .extend(names.iter().map(|&name| name.to_owned()));
        let made = self.make(schema, depth + 1);
        self.context.truncate(length);
        made
    }

    fn of(&mut self, schema: &Map<String, Value>, depth: usize) -> Made {
        for name in [
            "not",
            "if",
            "contains",
            "dependentRequired",
            "dependentSchemas",
        ] {
            if schema.contains_key(name) {
                return self.flaw(format!("'{name}' is not permitted."));
            }
        }
        if let Some(value) = schema.get("const") {
            return Ok(value.clone());
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return match values.len() {
                0 => self.flaw("'enum' is empty."),
                count => Ok(values[self.rng.below(count as u64) as usize].clone()),
            };
        }
        if let Some(reference) = schema.get("$ref") {
            let target = self.resolve(reference)?;
            let merged = merge(without(schema, "$ref"), &target);
            return self.make(&Value::Object(merged), depth + 1);
        }
        if let Some(Value::Array(all)) = schema.get("allOf") {
            let merged = all.iter().fold(without(schema, "allOf"), merge);
            return self.make(&Value::Object(merged), depth + 1);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(any)) = schema.get(name) {
                return self.any(name, any, &without(schema, name), depth);
            }
        }
        self.typed(schema, depth)
    }

    fn resolve(&self, reference: &Value) -> Result<Value, Flaw> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        match pointer.and_then(|pointer| self.root.pointer(pointer)) {
            Some(target) => Ok(target.clone()),
            None => self.flaw(format!("reference {reference} can only point to definitions defined at the top level of the schema.")),
        }
    }

    /// The first alternative that can be satisfied, in an order that is drawn;
    /// deep down, those that end soonest come first.
    fn any(&mut self, name: &str, any: &[Value], base: &Map<String, Value>, depth: usize) -> Made {
        let mut order: Vec<usize> = (0..any.len()).collect();
        if !order.is_empty() {
            let first = self.rng.below(order.len() as u64) as usize;
            order.rotate_left(first);
        }
        if depth >= DEEP {
            order.sort_by_key(|&index| weight(&any[index]));
        }
        let mut flaw = self.flaw(format!("nothing of '{name}' can be satisfied."));
        for index in order {
            let merged = Value::Object(merge(base.clone(), &any[index]));
            flaw = self.within(&[name, &index.to_string()], &merged, depth);
            if flaw.is_ok() || self.left == 0 {
                break;
            }
        }
        flaw
    }

    fn typed(&mut self, schema: &Map<String, Value>, depth: usize) -> Made {
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => {
                let mut kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
                if depth >= DEEP {
                    kinds.sort_by_key(|kind| kind_weight(kind));
                    kinds.truncate(1);
                }
                match kinds.len() {
                    0 => return self.flaw("'type' names none."),
                    count => kinds[self.rng.below(count as u64) as usize].to_owned(),
                }
            }
            Some(Value::String(kind)) => kind.clone(),
            _ => implied(schema).to_owned(),
        };
        match &*kind {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => self.string(schema),
            "integer" | "number" => self.number(&kind, schema),
            "boolean" => Ok((self.rng.below(2) == 1).into()),
            "null" => Ok(Value::Null),
            other => self.flaw(format!("'{other}' is not a valid type.")),
        }
    }

    fn number(&mut self, kind: &str, schema: &Map<String, Value>) -> Made {
        let made = match kind {
            "integer" => number::integer(schema, self.rng),
            _ => number::number(schema, self.rng),
        };
        made.map_or_else(|| self.flaw("no number is within the bounds."), Ok)
    }

    fn string(&mut self, schema: &Map<String, Value>) -> Made {
        let count = |name| schema.get(name).and_then(Value::as_u64);
        let most = count("maxLength").unwrap_or(u64::MAX);
        let least = count("minLength").unwrap_or(1.min(most));
        if least > most || least > LONGEST {
            let what = format!("no string of {least} to {most} characters can be made.");
            return self.flaw(what);
        }
        if let Some(Value::String(pattern)) = schema.get("pattern") {
            return match pattern::matching(pattern, self.rng) {
                Ok(text) => Ok(text.into()),
                Err(why) => self.flaw(format!(
                    "no text can be made for 'pattern' {pattern:?}: {why}."
                )),
            };
        }
        let format = schema.get("format").and_then(Value::as_str);
        if let Some(text) = format.and_then(|format| formatted(format, self.rng)) {
            return Ok(text.into());
        }
        Ok(words(least as usize, most.min(least.max(60)) as usize, self.rng).into())
    }

    fn array(&mut self, schema: &Map<String, Value>, depth: usize) -> Made {
        let count = |name| schema.get(name).and_then(Value::as_u64);
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.map_or(&[][..], Vec::as_slice);
        let least = count("minItems").unwrap_or(0).max(first.len() as u64);
        let most = count("maxItems").unwrap_or(u64::MAX);
        if least > most || least > u64::from(self.left) {
            return self.flaw(format!("no array of {least} to {most} items can be made."));
        }
        let wanted = self.items_wanted(least, most, schema, depth);
        let rest = schema.get("items").unwrap_or(&Value::Bool(true));
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let mut items = Vec::new();
        let mut draws = 0;
        while (items.len() as u64) < wanted {
            let one = first.get(items.len()).unwrap_or(rest);
            let item = match self.within(&["items"], one, depth) {
                Ok(item) => item,
                // An empty array satisfies it just as well.
                Err(_) if items.len() as u64 >= least && self.left > 0 => break,
                Err(flaw) => return Err(flaw),
            };
            draws += 1;
            if !unique || !items.contains(&item) {
                items.push(item);
            } else if draws > DRAWS * wanted as u32 {
                if items.len() as u64 >= least {
                    break;
                }
                return self.flaw(format!("no {least} items that differ could be made."));
            }
        }
        Ok(items.into())
    }

    fn items_wanted(
        &mut self,
        least: u64,
        most: u64,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> u64 {
        let only_first = schema.get("items") == Some(&Value::Bool(false));
        if depth >= DEEP || only_first {
            return least;
        }
        let from = least.max(1).min(most);
        from + self.rng.below(3).min(most - from)
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Made {
        let mut object = Map::new();
        let nothing = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&nothing);
        let required: Vec<&str> = match schema.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let count = |name| schema.get(name).and_then(Value::as_u64);
        let most = count("maxProperties").unwrap_or(u64::MAX);
        let others = schema
            .get("additionalProperties")
            .unwrap_or(&Value::Bool(true));
        for name in &required {
            let member = properties.get(*name).unwrap_or(others);
            let made = self.within(&["properties", name], member, depth)?;
            object.insert((*name).to_owned(), made);
        }
        for (name, member) in properties {
            let wanted = depth < DEEP && self.rng.below(2) == 1;
            if wanted && !object.contains_key(name) && (object.len() as u64) < most
                // It may be left out where it cannot be made.
                && let Ok(made) = self.within(&["properties", name], member, depth)
            {
                object.insert(name.clone(), made);
            }
        }
        let least = count("minProperties").unwrap_or(0);
        let invites = properties.is_empty() && others.is_object() && depth < DEEP;
        let wanted = least.max(if invites { most.min(2) } else { 0 });
        self.fill(&mut object, wanted, least, others, schema, depth)?;
        Ok(object.into())
    }

    /// Adds members under names that no property has.
    fn fill(
        &mut self,
        object: &mut Map<String, Value>,
        wanted: u64,
        least: u64,
        others: &Value,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), Flaw> {
        let mut draws = 0_u32;
        while (object.len() as u64) < wanted {
            draws += 1;
            let name = match schema.get("propertyNames") {
                Some(names) => self.within(&["propertyNames"], names, depth)?,
                None => format!("{}_{draws}", crate::words::word(self.rng)).into(),
            };
            let made = self.within(&["additionalProperties"], others, depth)?;
            object.insert(name.as_str().unwrap_or_default().to_owned(), made);
            if u64::from(draws) > wanted.saturating_mul(DRAWS.into()) {
                if object.len() as u64 >= least {
                    break;
                }
                return self.flaw(format!("no {least} properties could be named."));
            }
        }
        Ok(())
    }
}

fn without(schema: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let mut rest = schema.clone();
    rest.remove(name);
    rest
}

/// Both together: properties and what is required are joined, for the rest the
/// second one wins.
fn merge(mut base: Map<String, Value>, more: &Value) -> Map<String, Value> {
    let more = match more {
        Value::Object(more) => Cow::Borrowed(more),
        Value::Bool(true) => return base,
        // Nothing satisfies it.
        _ => Cow::Owned(Map::from_iter([("enum".to_owned(), Value::Array(vec![]))])),
    };
    for (name, value) in &*more {
        match (name.as_str(), base.get_mut(name), value) {
            ("properties", Some(Value::Object(old)), Value::Object(new)) => {
                old.extend(new.clone());
            }
            ("required", Some(Value::Array(old)), Value::Array(new)) => old.extend(new.clone()),
            _ => _ = base.insert(name.clone(), value.clone()),
        }
    }
    base
}

/// What a schema without a type is about.
fn implied(schema: &Map<String, Value>) -> &'static str {
    let has = |names: &[&str]| names.iter().any(|&name| schema.contains_key(name));
    if has(&["properties", "required", "additionalProperties"]) {
        "object"
    } else if has(&["items", "prefixItems", "minItems"]) {
        "array"
    } else if has(&[
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    ]) {
        "number"
    } else {
        "string"
    }
}

/// How much may hang on a schema: what ends at once comes first.
fn weight(schema: &Value) -> u8 {
    let kind = schema.get("type").and_then(Value::as_str);
    match kind {
        Some(kind) => kind_weight(kind),
        None if schema.get("const").is_some() || schema.get("enum").is_some() => 0,
        None => 3,
    }
}

fn kind_weight(kind: &str) -> u8 {
    match kind {
        "null" => 0,
        "array" => 2,
        "object" => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
