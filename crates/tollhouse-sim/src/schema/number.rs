//! Numbers within bounds.

use serde_json::{Map, Number, Value};

use crate::random::Rng;

/// How far a number may be from where its bounds begin or end.
const SPAN: f64 = 100.0;

/// The range that a schema leaves; not empty.
struct Range {
    least: f64,
    most: f64,
    /// Whether the ends are allowed.
    open: (bool, bool),
}

impl Range {
    fn of(schema: &Map<String, Value>) -> Self {
        let get = |name| schema.get(name).and_then(Value::as_f64);
        let tighter = |inclusive: Option<f64>, exclusive: Option<f64>, sign: f64| match (
            inclusive, exclusive,
        ) {
            (Some(a), Some(b)) if a * sign > b * sign => (Some(a), false),
            (_, Some(b)) => (Some(b), true),
            (a, None) => (a, false),
        };
        let (least, open_below) = tighter(get("minimum"), get("exclusiveMinimum"), 1.0);
        let (most, open_above) = tighter(get("maximum"), get("exclusiveMaximum"), -1.0);
        let (least, most) = match (least, most) {
            (Some(least), Some(most)) => (least, most.min(least + least.abs().max(SPAN))),
            (Some(least), None) => (least, least + least.abs().max(SPAN)),
            (None, Some(most)) if most < SPAN => (most - most.abs().max(SPAN), most),
            (None, _) => (0.0, SPAN),
        };
        let ended_early = get("maximum").or(get("exclusiveMaximum")) != Some(most);
        Self {
            least,
            most,
            open: (open_below, open_above && !ended_early),
        }
    }

    fn holds(&self, number: f64) -> bool {
        let (below, above) = self.open;
        let from = if below {
            number > self.least
        } else {
            number >= self.least
        };
        from && if above {
            number < self.most
        } else {
            number <= self.most
        }
    }

    /// A multiple of `step` in it.
    fn multiple(&self, step: f64, rng: &mut Rng) -> Option<f64> {
        let (mut first, mut last) = ((self.least / step).ceil(), (self.most / step).floor());
        if !self.holds(first * step) {
            first += 1.0;
        }
        if !self.holds(last * step) {
            last -= 1.0;
        }
        let count = last - first + 1.0;
        (count >= 1.0).then(|| (first + rng.below(count.min(1e9) as u64) as f64) * step)
    }
}

pub(super) fn integer(schema: &Map<String, Value>, rng: &mut Rng) -> Option<Value> {
    let step = step(schema).map_or(1.0, |step| if step.fract() == 0.0 { step } else { 1.0 });
    let number = Range::of(schema).multiple(step, rng)?;
    // Beyond that, f64 does not tell whole numbers apart.
    (number.abs() < 9e15).then(|| Value::from(number as i64))
}

pub(super) fn number(schema: &Map<String, Value>, rng: &mut Rng) -> Option<Value> {
    let range = Range::of(schema);
    if let Some(step) = step(schema) {
        let number = range.multiple(step, rng)?;
        // 7 x 0.01 is 0.07 and no 0.07000000000000001.
        let decimals = step
            .to_string()
            .split_once('.')
            .map_or(0, |(_, rest)| rest.len());
        return float(format!("{number:.decimals$}").parse().ok()?);
    }
    let drawn = range.least + rng.share() * (range.most - range.least);
    let rounded = (drawn * 100.0).round() / 100.0;
    let middle = range.least / 2.0 + range.most / 2.0;
    let found = [rounded, drawn, middle]
        .into_iter()
        .find(|&x| range.holds(x))?;
    float(found)
}

fn step(schema: &Map<String, Value>) -> Option<f64> {
    let step = schema.get("multipleOf")?.as_f64()?;
    (step > 0.0).then_some(step)
}

fn float(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(schema: &Value) -> (Option<Value>, Option<Value>) {
        let schema = schema.as_object().unwrap();
        let rng = &mut Rng::seeded(5);
        (integer(schema, rng), number(schema, rng))
    }

    #[test]
    fn numbers_keep_within_their_bounds() {
        let table = [
            (json!({}), 0.0, 100.0),
            (json!({"minimum": 7}), 7.0, 107.0),
            (json!({"maximum": -7}), -107.0, -7.0),
            (json!({"minimum": 3, "maximum": 3}), 3.0, 3.0),
            (json!({"minimum": 1_000_000, "maximum": 1e12}), 1e6, 2e6),
            (
                json!({"minimum": -5, "exclusiveMinimum": 1, "exclusiveMaximum": 3}),
                1.5,
                2.5,
            ),
        ];
        for (schema, least, most) in table {
            let integer = made(&schema).0.unwrap().as_i64().unwrap() as f64;
            assert!((least..=most).contains(&integer), "{schema}: {integer}");
        }
        let (_, number) = made(&json!({"exclusiveMinimum": 0, "exclusiveMaximum": 0.001}));
        let number = number.unwrap().as_f64().unwrap();
        assert!(0.0 < number && number < 0.001, "{number}");
    }

    #[test]
    fn multiples_are_multiples_and_nothing_is_made_where_none_fits() {
        let (integer, number) = made(&json!({"multipleOf": 25, "minimum": 1, "maximum": 49}));
        assert_eq!((integer, number), (Some(json!(25)), Some(json!(25.0))));
        let (_, number) = made(&json!({"multipleOf": 0.01, "minimum": 0.065, "maximum": 0.074}));
        assert_eq!(number, Some(json!(0.07)));
        let none = json!({"exclusiveMinimum": 1, "exclusiveMaximum": 2});
        assert_eq!(made(&none).0, None);
        assert_eq!(made(&json!({"minimum": 2, "maximum": 1})), (None, None));
    }
}
