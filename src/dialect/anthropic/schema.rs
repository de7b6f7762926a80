//! JSON Schemas as Anthropic's constrained decoding takes them (guide "Structured outputs", "JSON Schema limitations",
//! seen 2026-11-21).
//!
//! Objects must be closed (`additionalProperties: false`), and bounds of numbers, lengths and counts are refused. What is
//! refused is told in words: it goes into the description of the place where it stood, as Anthropic's own SDKs do it.
//! Whatever else a schema has stays as it was written. References that lead back to themselves are refused as well; they
//! are left for the provider to name, since there is nothing to put in their place.

use super::wire::Bag;
use crate::wire::json::{Kind, Raw, Text};
use crate::wire::writer::{self, Object};

/// Deepest schema; bodies are no deeper.
const DEPTH: usize = 64;

/// Members that are refused.
const REFUSED: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
];

/// Formats of strings that are taken.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// How a schema came across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Fit {
    /// As it was.
    Whole,
    /// Closed, or with bounds in words.
    Altered,
    /// It has objects of free keys, which constrained decoding cannot make: nothing useful was written.
    None,
}

/// Notes that a request keeps beside a schema, for its root. What the schema says itself goes before them.
#[derive(Clone, Copy, Default)]
pub(in crate::dialect) struct Notes<'n> {
    pub(in crate::dialect) title: Option<&'n str>,
    pub(in crate::dialect) description: Option<&'n str>,
}

/// Writes the schema.
pub(in crate::dialect) fn adapt(schema: &Raw<'_>, add: Notes<'_>, out: &mut Vec<u8>) -> Fit {
    let mut walk = Walk { fit: Fit::Whole };
    walk.schema(schema, add, DEPTH, out);
    walk.fit
}

/// Whether title and description find no place: the schema has others of its own, or is a reference.
pub(in crate::dialect) fn shadows(schema: &Raw<'_>, add: Notes<'_>) -> [bool; 2] {
    let members = schema.read::<Bag<'_>>().map(|bag| bag.extras).unwrap_or_default();
    let is_reference = members.get("$ref").is_some();
    [("title", add.title), ("description", add.description)].map(|(name, note)| {
        let same = |own: &Raw<'_>| own.read::<Text<'_>>().is_ok_and(|own| note.is_some_and(|note| own == note));
        note.is_some() && (is_reference || members.get(name).is_some_and(|own| !same(own)))
    })
}

struct Walk {
    fit: Fit,
}

impl Walk {
    fn alter(&mut self) {
        if self.fit == Fit::Whole {
            self.fit = Fit::Altered;
        }
    }

    fn schema(&mut self, schema: &Raw<'_>, add: Notes<'_>, depth: usize, out: &mut Vec<u8>) {
        let Ok(Bag { extras: members }) = schema.read::<Bag<'_>>() else {
            return out.extend_from_slice(schema.get().as_bytes());
        };
        if depth == 0 {
            return out.extend_from_slice(schema.get().as_bytes());
        }
        let is_object = members.get("properties").is_some() || members.get("type").is_some_and(names_object);
        let is_reference = members.get("$ref").is_some();
        let text = |name: &str| members.get(name).and_then(|json| json.read::<Text<'_>>().ok());
        let mut words: Vec<String> = Vec::new();
        writer::object(out, |o| {
            if let (Some(title), false, None) = (add.title, is_reference, members.get("title")) {
                o.string("title", title);
            }
            for (name, json) in members.iter() {
                match name {
                    "properties" | "$defs" | "definitions" => self.each(json, depth, o.value(name)),
                    "items" if json.kind() == Kind::Object => {
                        self.schema(json, Notes::default(), depth - 1, o.value(name))
                    }
                    "anyOf" | "allOf" => self.list(json, depth, o.value(name)),
                    "oneOf" if members.get("anyOf").is_none() => {
                        self.alter();
                        self.list(json, depth, o.value("anyOf"));
                    }
                    "additionalProperties" if json.get() == "false" => o.raw(name, json),
                    "additionalProperties" if json.get() == "true" => {
                        self.alter();
                        o.bool(name, false);
                    }
                    "additionalProperties" | "patternProperties" => self.fit = Fit::None,
                    "minItems" if !matches!(json.get(), "0" | "1") => words.push(format!("{name}: {}", json.get())),
                    "format" if text(name).is_some_and(|format| !FORMATS.contains(&format.as_str())) => {
                        words.push(format!("{name}: {}", json.get()));
                    }
                    _ if REFUSED.contains(&name) => words.push(format!("{name}: {}", json.get())),
                    "description" => {}
                    _ => o.raw(name, json),
                }
            }
            if is_object && members.get("additionalProperties").is_none() {
                self.alter();
                o.bool("additionalProperties", false);
            }
            let told = add.description.filter(|_| !is_reference);
            self.describe(members.get("description"), told, &words, o);
        });
    }

    /// Writes the description, and after it what was said in members that are refused.
    fn describe(&mut self, own: Option<&Raw<'_>>, told: Option<&str>, words: &[String], o: &mut Object<'_>) {
        if words.is_empty() {
            match (own, told) {
                (Some(json), _) => o.raw("description", json),
                (None, Some(text)) => o.string("description", text),
                (None, None) => {}
            }
            return;
        }
        self.alter();
        let words = format!("{{{}}}", words.join(", "));
        let own = own.and_then(|json| json.read::<Text<'_>>().ok());
        match own.as_deref().or(told) {
            Some(text) if !text.is_empty() => o.string("description", &format!("{text}\n\n{words}")),
            _ => o.string("description", &words),
        }
    }

    /// An object of schemas.
    fn each(&mut self, json: &Raw<'_>, depth: usize, out: &mut Vec<u8>) {
        match json.read::<Bag<'_>>() {
            Ok(Bag { extras }) => writer::object(out, |o| {
                for (name, schema) in extras.iter() {
                    self.schema(schema, Notes::default(), depth - 1, o.value(name));
                }
            }),
            Err(_) => out.extend_from_slice(json.get().as_bytes()),
        }
    }

    /// An array of schemas.
    fn list(&mut self, json: &Raw<'_>, depth: usize, out: &mut Vec<u8>) {
        match json.read::<Vec<Raw<'_>>>() {
            Ok(list) => writer::array(out, |a| {
                for schema in &list {
                    self.schema(schema, Notes::default(), depth - 1, a.value());
                }
            }),
            Err(_) => out.extend_from_slice(json.get().as_bytes()),
        }
    }
}

/// `"object"`, or a list with it.
fn names_object(kind: &Raw<'_>) -> bool {
    let is = |word: &Text<'_>| word == "object";
    kind.read::<Text<'_>>().is_ok_and(|word| is(&word))
        || kind.read::<Vec<Text<'_>>>().is_ok_and(|words| words.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &'static str, fit: Fit, wanted: &str) {
        let mut out = Vec::new();
        let found = adapt(&Raw::literal(schema), Notes::default(), &mut out);
        assert_eq!(found, fit, "{schema}");
        if fit != Fit::None {
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn closed_schemas_stay_as_they_are() {
        let schema = r##"{"type":"object","properties":{"a":{"type":"number","default":1.10},"b":{"$ref":"#/$defs/B"}},"required":["a"],"additionalProperties":false,"$defs":{"B":{"type":"array","items":{"type":"string","format":"date"},"minItems":1}}}"##;
        check(schema, Fit::Whole, schema);
        check("true", Fit::Whole, "true");
    }

    #[test]
    fn open_objects_are_closed_and_bounds_are_told_in_words() {
        check(
            r#"{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":10,"description":"How many."},"u":{"type":"string","format":"hex"}}}"#,
            Fit::Altered,
            r#"{"type":"object","properties":{"n":{"type":"integer","description":"How many.\n\n{minimum: 0, maximum: 10}"},"u":{"type":"string","description":"{format: \"hex\"}"}},"additionalProperties":false}"#,
        );
        check(
            r#"{"oneOf":[{"type":["object","null"],"additionalProperties":true},{"type":"array","minItems":3}]}"#,
            Fit::Altered,
            r#"{"anyOf":[{"type":["object","null"],"additionalProperties":false},{"type":"array","description":"{minItems: 3}"}]}"#,
        );
    }

    #[test]
    fn properties_that_have_the_names_of_members_are_properties() {
        let schema = r#"{"type":"object","properties":{"minimum":{"type":"string"},"format":{"type":"string"}},"additionalProperties":false}"#;
        check(schema, Fit::Whole, schema);
    }

    #[test]
    fn free_keys_do_not_fit() {
        check(r#"{"type":"object","additionalProperties":{"type":"integer"}}"#, Fit::None, "");
    }

    #[test]
    fn notes_are_added_to_the_root() {
        let mut out = Vec::new();
        let add = Notes { title: Some("city"), description: Some("Its name.") };
        adapt(&Raw::literal(r#"{"type":"string","maxLength":9}"#), add, &mut out);
        let wanted = r#"{"title":"city","type":"string","description":"Its name.\n\n{maxLength: 9}"}"#;
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
