//! A value that a JSON schema allows: arguments of a tool call, a structured answer.
//!
//! Only required properties are given, each from what the schema says first (`const`, `default`, `enum`, `examples`),
//! else by its type; references are followed within the schema. A schema is a caller's, so depth and size of the value
//! are bounded, and where a bound is met the value is null.

use serde_json::{Map, Number, Value};

use super::member::Member;

const DEPTH: u32 = 24;
/// Most values within one instance.
const VALUES: u32 = 2_000;
const ITEMS: u64 = 16;
const LETTERS: u64 = 1_000;

/// Synthesises a value. `ordinal` tells apart several values of one schema: the second one takes the second choice of
/// an enumeration.
pub fn instance(schema: &Value, ordinal: usize) -> Value {
    Synthesis { root: schema, ordinal, left: VALUES }.value(schema, DEPTH)
}

struct Synthesis<'a> {
    root: &'a Value,
    ordinal: usize,
    left: u32,
}

impl Synthesis<'_> {
    fn value(&mut self, schema: &Value, depth: u32) -> Value {
        if depth == 0 || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(fixed) = schema.get("const").or_else(|| schema.get("default")).filter(|value| !value.is_null()) {
            return fixed.clone();
        }
        for list in ["enum", "examples"] {
            if let Some(choices) = schema.at(list).as_array()
                && let Some(choice) = choices.iter().cycle().nth(self.ordinal % choices.len().max(1))
            {
                return choice.clone();
            }
        }
        if let Some(reference) = schema.at("$ref").as_str() {
            let target = reference.strip_prefix('#').and_then(|path| self.root.pointer(path)).cloned();
            return target.map_or(Value::Null, |target| self.value(&target, depth - 1));
        }
        for list in ["anyOf", "oneOf"] {
            let arms = schema.at(list).as_array().into_iter().flatten();
            if let Some(arm) = arms.into_iter().find(|arm| kind(arm) != Some("null")) {
                return self.value(arm, depth - 1);
            }
        }
        if let Some(parts) = schema.at("allOf").as_array() {
            let mut all = Map::new();
            for part in parts {
                match self.value(part, depth - 1) {
                    Value::Object(members) => all.extend(members),
                    other => return other,
                }
            }
            return Value::Object(all);
        }
        match kind(schema) {
            Some("object") => self.object(schema, depth),
            Some("array") => {
                let count = schema.at("minItems").as_u64().unwrap_or(1).min(ITEMS);
                let tuple = schema.at("prefixItems").as_array();
                let item = |at| tuple.and_then(|items| items.get(at)).unwrap_or(schema.at("items"));
                (0..count).map(|at| self.value(item(usize::try_from(at).unwrap_or(0)), depth - 1)).collect()
            }
            Some("integer") => Number::from_f64(within(schema, 1.0).round())
                .and_then(|n| n.as_f64())
                .map_or(Value::Null, |n| Value::from(n as i64)),
            Some("number") => Value::from(within(schema, 1.5)),
            Some("boolean") => Value::Bool(true),
            Some("null") => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&mut self, schema: &Value, depth: u32) -> Value {
        let required = schema.at("required").as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut members = Map::new();
        for name in required.take(VALUES as usize) {
            let property = schema.at("properties").at(name);
            members.insert(name.to_owned(), self.value(property, depth - 1));
        }
        Value::Object(members)
    }

    fn string(&self, schema: &Value) -> String {
        let fixed = match schema.at("format").as_str().unwrap_or_default() {
            "date-time" => "2026-01-02T03:04:05Z",
            "date" => "2026-01-02",
            "time" => "03:04:05Z",
            "email" => "sandbox@example.com",
            "uri" | "url" => "https://example.com/",
            "uuid" => "00000000-0000-4000-8000-000000000000",
            _ => "",
        };
        if !fixed.is_empty() {
            return fixed.to_owned();
        }
        let mut text = match self.ordinal {
            0 => "sandbox".to_owned(),
            ordinal => format!("sandbox {}", ordinal + 1),
        };
        let length = |name: &str| schema.at(name).as_u64().map(|n| usize::try_from(n.min(LETTERS)).unwrap_or(0));
        while text.len() < length("minLength").unwrap_or(0) {
            text.push('~');
        }
        text.truncate(length("maxLength").unwrap_or(usize::MAX));
        text
    }
}

/// The type, in lower case: Gemini writes `STRING`. Of several the first that is not null.
fn kind(schema: &Value) -> Option<&'static str> {
    const KINDS: [&str; 7] = ["object", "array", "integer", "number", "boolean", "string", "null"];
    let named = |value: &Value| {
        let name = value.as_str()?;
        KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(name))
    };
    match schema.at("type") {
        Value::Array(names) => names.iter().filter_map(named).find(|kind| *kind != "null").or(Some("null")),
        Value::Null if schema.at("properties").is_object() => Some("object"),
        Value::Null if schema.at("items").is_object() => Some("array"),
        name => named(name),
    }
}

fn within(schema: &Value, wish: f64) -> f64 {
    let bound = |inclusive: &str, exclusive: &str, step: f64| {
        schema.at(exclusive).as_f64().map(|n| n + step).or_else(|| schema.at(inclusive).as_f64())
    };
    let step = schema.at("multipleOf").as_f64().filter(|n| *n > 0.0);
    let mut number = step.unwrap_or(wish);
    if let Some(least) = bound("minimum", "exclusiveMinimum", 1.0).filter(|least| *least > number) {
        number = step.map_or(least, |step| (least / step).ceil() * step);
    }
    if let Some(most) = bound("maximum", "exclusiveMaximum", -1.0).filter(|most| *most < number) {
        number = step.map_or(most, |step| (most / step).floor() * step);
    }
    number
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_type_and_hint() {
        for (schema, value) in [
            (json!({"type": "string"}), json!("sandbox")),
            (json!({"type": "STRING", "enum": ["c", "f"]}), json!("c")),
            (json!({"type": "string", "format": "date"}), json!("2026-01-02")),
            (json!({"type": "string", "minLength": 9, "maxLength": 12}), json!("sandbox~~")),
            (json!({"type": "string", "maxLength": 3}), json!("san")),
            (json!({"type": "integer"}), json!(1)),
            (json!({"type": "integer", "minimum": 18, "maximum": 99}), json!(18)),
            (json!({"type": "integer", "maximum": -4}), json!(-4)),
            (json!({"type": "integer", "multipleOf": 5, "minimum": 7}), json!(10)),
            (json!({"type": "number", "exclusiveMinimum": 4}), json!(5.0)),
            (json!({"type": ["null", "boolean"]}), json!(true)),
            (json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), json!(1)),
            (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true])),
            (json!({"const": 7}), json!(7)),
            (json!({"type": "object"}), json!({})),
            (json!({}), json!("sandbox")),
            (
                json!({"allOf": [
                    {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
                    {"$ref": "#/$defs/B"}
                ], "$defs": {"B": {"properties": {"b": {"type": "null"}}, "required": ["b"]}}}),
                json!({"a": 1, "b": null}),
            ),
        ] {
            assert_eq!(instance(&schema, 0), value, "{schema}");
        }
        assert_eq!(instance(&json!({"enum": ["c", "f"]}), 1), json!("f"));
        assert_eq!(instance(&json!({"type": "string"}), 1), json!("sandbox 2"));
    }

    #[test]
    fn endless_schemas_end() {
        let node = json!({"$defs": {"N": {"type": "array", "minItems": 1_000_000_000_u64, "items": {"$ref": "#/$defs/N"}}},
            "$ref": "#/$defs/N"});
        assert!(instance(&node, 0).to_string().len() < 100_000);
        let own = json!({"$ref": "#"});
        assert_eq!(instance(&own, 0), Value::Null);
    }
}
