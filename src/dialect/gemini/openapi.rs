//! Google's subset of OpenAPI as JSON Schema, the way back of [`schema`](super::schema).
//!
//! Callers' SDKs write `parameters` and `responseSchema` with types in upper case, `nullable` beside the type, counts as
//! strings and `format: "enum"` (Gemini API, "Schema", seen 2026-11-21). Everybody else wants JSON Schema. One pass,
//! without a tree: what is no schema is copied as it is, so that the provider judges it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::wire::json::{Kind, Raw, Text};
use crate::wire::writer;

/// The schema as JSON Schema.
pub(super) fn json_schema<'a>(schema: Raw<'a>) -> Raw<'a> {
    let mut out = Vec::with_capacity(schema.get().len().saturating_add(16));
    let mut deserializer = serde_json::Deserializer::from_str(schema.get());
    match (Schema { out: &mut out }.deserialize(&mut deserializer), String::from_utf8(out)) {
        (Ok(()), Ok(json)) => Raw::trusted(json),
        _ => schema,
    }
}

/// Writes the schema that it reads.
struct Schema<'o> {
    out: &'o mut Vec<u8>,
}

/// Writes an object whose values are schemas.
struct Named<'o> {
    out: &'o mut Vec<u8>,
}

/// Writes a list of schemas.
struct List<'o> {
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Schema<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Schema<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema")
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<(), E> {
        self.out.extend_from_slice(if yes { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut kind: Option<Raw<'de>> = None;
        let mut options: Option<Vec<Raw<'de>>> = None;
        let mut any: Option<Vec<u8>> = None;
        let mut nullable = false;
        // Members whose values `nullable` does not change.
        let mut rest = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let name = name.as_str();
            match name {
                "type" => kind = map.next_value::<Option<Raw<'de>>>()?,
                "nullable" => nullable = map.next_value::<Option<bool>>()? == Some(true),
                "enum" => options = map.next_value()?,
                "anyOf" | "any_of" => {
                    let mut list = Vec::new();
                    map.next_value_seed(List { out: &mut list })?;
                    any = Some(list);
                }
                "oneOf" | "allOf" | "prefixItems" => map.next_value_seed(List { out: begin(&mut rest, name) })?,
                "properties" | "$defs" | "patternProperties" => {
                    map.next_value_seed(Named { out: begin(&mut rest, name) })?;
                }
                "defs" => map.next_value_seed(Named { out: begin(&mut rest, "$defs") })?,
                "items" | "additionalProperties" | "not" => {
                    map.next_value_seed(Schema { out: begin(&mut rest, name) })?;
                }
                "additional_properties" => {
                    map.next_value_seed(Schema { out: begin(&mut rest, "additionalProperties") })?;
                }
                "ref" => {
                    let text: Text<'de> = map.next_value()?;
                    writer::string(begin(&mut rest, "$ref"), &text.replacen("#/defs/", "#/$defs/", 1));
                }
                _ => {
                    let value: Raw<'de> = map.next_value()?;
                    member(&mut rest, name, &value);
                }
            }
        }
        let numeric = kind.as_ref().is_some_and(|kind| matches!(word(kind), Some("integer" | "number")));
        let start = self.out.len();
        writer::object(self.out, |o| {
            if let Some(kind) = &kind {
                types(kind, nullable, o);
            }
            if let Some(options) = &options {
                o.array("enum", |a| {
                    for option in options {
                        // Choices are strings there, of numbers too.
                        match option.get().trim_matches('"') {
                            digits if numeric && digits.parse::<f64>().is_ok() => {
                                a.value().extend_from_slice(digits.as_bytes());
                            }
                            _ => a.raw(option),
                        }
                    }
                    if nullable && !options.iter().any(Raw::is_null) {
                        a.raw(&Raw::literal("null"));
                    }
                });
            }
            if let Some(mut list) = any {
                if nullable && list.pop().is_some() {
                    let null: &[u8] = if list.len() > 1 { b",{\"type\":\"null\"}]" } else { b"{\"type\":\"null\"}]" };
                    list.extend_from_slice(null);
                }
                o.value("anyOf").extend_from_slice(&list);
            }
        });
        // The other members go behind these; each has its comma before it.
        self.out.pop();
        let empty = self.out.len() == start.saturating_add(1);
        self.out.extend_from_slice(if empty { rest.get(1..).unwrap_or_default() } else { &rest });
        self.out.push(b'}');
        Ok(())
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of schemas")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.out.push(b'{');
        let mut first = true;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            writer::string(self.out, &name);
            self.out.push(b':');
            map.next_value_seed(Schema { out: &mut *self.out })?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of schemas")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.out.push(b'[');
        let start = self.out.len();
        loop {
            let before = self.out.len();
            if before > start {
                self.out.push(b',');
            }
            if seq.next_element_seed(Schema { out: &mut *self.out })?.is_none() {
                self.out.truncate(before);
                break;
            }
        }
        self.out.push(b']');
        Ok(())
    }
}

/// Begins a member of `rest` and hands out the buffer for its value.
fn begin<'o>(rest: &'o mut Vec<u8>, name: &str) -> &'o mut Vec<u8> {
    rest.push(b',');
    writer::string(rest, name);
    rest.push(b':');
    rest
}

/// Writes a member that holds no schema.
fn member(rest: &mut Vec<u8>, name: &str, value: &Raw<'_>) {
    const COUNTS: [(&str, &str); 8] = [
        ("minItems", "min_items"),
        ("maxItems", "max_items"),
        ("minLength", "min_length"),
        ("maxLength", "max_length"),
        ("minProperties", "min_properties"),
        ("maxProperties", "max_properties"),
        ("propertyOrdering", "property_ordering"),
        ("minimum", "maximum"),
    ];
    let raw = value.get().as_bytes();
    match name {
        _ if value.is_null() && name != "default" && name != "const" => {}
        // Says that there is an `enum`, which says it as well.
        "format" if value.get() == r#""enum""# => {}
        "example" => {
            let out = begin(rest, "examples");
            out.push(b'[');
            out.extend_from_slice(raw);
            out.push(b']');
        }
        _ => match COUNTS.iter().find(|(camel, snake)| *camel == name || *snake == name) {
            // Protobuf writes 64 bits as a string.
            Some((camel, snake)) => {
                let name = if *snake == "maximum" { name } else { camel };
                let digits = value.get().trim_matches('"');
                let digits = if digits.parse::<f64>().is_ok() { digits.as_bytes() } else { raw };
                begin(rest, name).extend_from_slice(digits);
            }
            None => begin(rest, name).extend_from_slice(raw),
        },
    }
}

/// A type in JSON Schema's words; protobuf's JSON may have its number.
fn word(kind: &Raw<'_>) -> Option<&'static str> {
    const WORDS: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];
    let text = kind.get().trim_matches('"');
    let number = text.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    match number {
        Some(at) => WORDS.get(at).copied(),
        None => WORDS.into_iter().find(|word| word.eq_ignore_ascii_case(text)),
    }
}

/// Writes `type`, with `null` beside it where that is allowed. An unspecified one says nothing.
fn types(kind: &Raw<'_>, nullable: bool, o: &mut writer::Object<'_>) {
    let list: Vec<Raw<'_>> = match kind.kind() {
        Kind::Array => kind.read().unwrap_or_default(),
        _ => vec![kind.reborrow()],
    };
    let words: Vec<&str> = list.iter().filter_map(word).collect();
    let null = nullable && !words.contains(&"null");
    match words.as_slice() {
        [] => {}
        [one] if !null && kind.kind() != Kind::Array => o.string("type", one),
        words => o.array("type", |a| {
            words.iter().for_each(|word| a.string(word));
            if null {
                a.string("null");
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(schema: &str) -> String {
        let json = json_schema(Raw::parse(schema).unwrap()).get().to_owned();
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        json
    }

    #[test]
    fn the_subset_becomes_json_schema() {
        for (schema, expected) in [
            (r#"{"type":"STRING"}"#, r#"{"type":"string"}"#),
            (r#"{"type":"STRING","nullable":true}"#, r#"{"type":["string","null"]}"#),
            (r#"{"nullable":false,"type":6}"#, r#"{"type":"object"}"#),
            (r#"{"type":["STRING","NULL"],"nullable":true}"#, r#"{"type":["string","null"]}"#),
            (
                r#"{"type":"STRING","format":"enum","enum":["a","b"],"nullable":true}"#,
                r#"{"type":["string","null"],"enum":["a","b",null]}"#,
            ),
            (r#"{"type":"INTEGER","format":"enum","enum":["101","7"]}"#, r#"{"type":"integer","enum":[101,7]}"#),
            (
                r#"{"anyOf":[{"type":"STRING"},{"type":"INTEGER"}],"nullable":true,"title":"T"}"#,
                r#"{"anyOf":[{"type":"string"},{"type":"integer"},{"type":"null"}],"title":"T"}"#,
            ),
            (
                r#"{"properties":{"type":{"type":"ARRAY","items":{"type":"NUMBER"},"minItems":"2","max_items":3}},"type":"OBJECT","required":["type"],"propertyOrdering":["type"]}"#,
                r#"{"type":"object","properties":{"type":{"type":"array","items":{"type":"number"},"minItems":2,"maxItems":3}},"required":["type"],"propertyOrdering":["type"]}"#,
            ),
            (r#"{"type":"NUMBER","minimum":1.10,"example":5}"#, r#"{"type":"number","minimum":1.10,"examples":[5]}"#),
            (
                r##"{"ref":"#/defs/P","defs":{"P":{"type":"BOOLEAN"}}}"##,
                r##"{"$ref":"#/$defs/P","$defs":{"P":{"type":"boolean"}}}"##,
            ),
            (r#"{"type":"object","additionalProperties":false}"#, r#"{"type":"object","additionalProperties":false}"#),
            ("{}", "{}"),
            (r#"{"type":"TYPE_UNSPECIFIED","description":"d"}"#, r#"{"description":"d"}"#),
        ] {
            assert_eq!(converted(schema), expected, "{schema}");
        }
    }

    #[test]
    fn what_is_no_schema_stays() {
        for odd in [r#"{"properties":[1]}"#, r#"{"anyOf":7}"#, "[]", r#""x""#, r#"{"enum":{}}"#] {
            assert_eq!(converted(odd), odd);
        }
    }
}
