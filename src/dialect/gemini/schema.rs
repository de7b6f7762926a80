//! JSON Schema, cut down to what Gemini's own `Schema` can say.
//!
//! Two members take schemas: `parametersJsonSchema` and `responseJsonSchema` take JSON Schema as it is (recorded with
//! `$ref`, `additionalProperties`, `uniqueItems` and the like on Gemini 2.0 to 3.6 and on Vertex AI), and the older
//! `parameters` and `responseSchema` take a subset of OpenAPI 3.0, whose parser refuses a whole request for one member
//! that it does not know. The first are used wherever they can be; this is for the models and providers that have only
//! the second (API reference, "Schema", seen 2026-11-21).

use crate::shape;
use crate::wire::json::{Kind, Raw, Text};
use crate::wire::writer::{self, Object};

use super::wire::Bag;

/// Deepest nesting, most schemas, and most members of one, that an adaptation takes: references can multiply.
const DEEPEST: usize = 32;
const MOST: usize = 4_096;
/// Most bytes that it may read; each level and each reference reads again what lies below it.
const MOST_BYTES: usize = 16 << 20;

/// Members of the same name and meaning on both sides.
const SAME: [&str; 14] = [
    "title",
    "description",
    "default",
    "example",
    "maxItems",
    "minItems",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "propertyOrdering",
];

/// Notes to a reader, and what Gemini does anyway: it never adds properties that are not declared.
const SILENT: [&str; 11] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
    "strict",
    "nullable",
];

shape! {
    struct Schema {
        kind "type": Raw<'a>,
        nullable "nullable": bool,
        format "format": Text<'a>,
        options "enum": Vec<Raw<'a>>,
        only "const": Raw<'a>,
        properties "properties": Bag<'a>,
        required "required": Vec<Text<'a>>,
        items "items": Raw<'a>,
        any "anyOf" | "any_of": Vec<Raw<'a>>,
        one "oneOf": Vec<Raw<'a>>,
        all "allOf": Vec<Raw<'a>>,
        reference "$ref": Text<'a>,
    }
}

/// Writes the subset's schema for `schema`. Returns whether all of its meaning came across.
pub(super) fn adapt(schema: &Raw<'_>, out: &mut Vec<u8>) -> bool {
    let mut cut = Cut { root: schema, path: Vec::new(), written: 0, read: 0, whole: true };
    cut.schema(schema, 0, out);
    cut.whole
}

struct Cut<'s> {
    root: &'s Raw<'s>,
    /// References being followed.
    path: Vec<String>,
    written: usize,
    read: usize,
    whole: bool,
}

impl Cut<'_> {
    fn schema(&mut self, schema: &Raw<'_>, depth: usize, out: &mut Vec<u8>) {
        self.written = self.written.saturating_add(1);
        if depth > DEEPEST || self.written > MOST || !self.may_read(schema.get().len()) {
            return self.anything(out);
        }
        let Ok(mut read) = schema.read::<Schema<'_>>() else { return self.anything(out) };
        if let Some(reference) = read.reference.take() {
            return self.follow(&reference, &read, depth, out);
        }
        let all = read.all.take().unwrap_or_default();
        self.merged(read, &all, depth, out);
    }

    fn merged<'x>(&mut self, mut read: Schema<'x>, all: &'x [Raw<'x>], depth: usize, out: &mut Vec<u8>) {
        for branch in all {
            match branch.read::<Schema<'_>>() {
                Ok(branch) if branch.reference.is_none() && branch.all.is_none() => {
                    self.whole &= merge(&mut read, branch);
                }
                _ => self.whole = false,
            }
        }
        if let Some(branches) = read.any.take().or(read.one.take()) {
            // Both at once cannot be said; nor can anything beside `anyOf`.
            self.whole &= read.one.is_none();
            return self.any(&branches, &read, depth, out);
        }
        self.plain(&read, depth, out);
    }

    fn may_read(&mut self, bytes: usize) -> bool {
        self.read = self.read.saturating_add(bytes);
        self.read <= MOST_BYTES
    }

    /// A schema that cannot be said: some object.
    fn anything(&mut self, out: &mut Vec<u8>) {
        self.whole = false;
        out.extend_from_slice(br#"{"type":"OBJECT"}"#);
    }

    fn follow(&mut self, reference: &str, beside: &Schema<'_>, depth: usize, out: &mut Vec<u8>) {
        let open = self.path.iter().any(|open| open == reference);
        let found = if open || !self.may_read(self.root.get().len()) { None } else { find(self.root, reference) };
        let Some(found) = found else { return self.anything(out) };
        let notes = |name: &str| SILENT.contains(&name) || matches!(name, "title" | "description" | "default");
        self.whole &= beside.extras.iter().all(|(name, _)| notes(name)) && beside.properties.is_none();
        self.path.push(reference.to_owned());
        let start = out.len();
        self.schema(&found, depth.saturating_add(1), out);
        self.path.pop();
        // A description beside the reference is about this use of it, and comes before the general one.
        if let Some(text) = beside.extras.get("description")
            && let Some(written) = out.get(start..).and_then(|json| std::str::from_utf8(json).ok()).map(str::to_owned)
            && let Ok(bag) = serde_json::from_str::<Bag<'_>>(&written)
            && bag.extras.get("anyOf").is_none()
        {
            out.truncate(start);
            writer::object(out, |o| {
                o.raw("description", text);
                for (name, json) in bag.extras.iter().filter(|(name, _)| *name != "description") {
                    o.raw(name, json);
                }
            });
        }
    }

    fn any(&mut self, branches: &[Raw<'_>], beside: &Schema<'_>, depth: usize, out: &mut Vec<u8>) {
        let null = |branch: &&Raw<'_>| {
            branch.read::<Schema<'_>>().is_ok_and(|read| read.kind.is_some_and(|kind| kind.get() == r#""null""#))
        };
        let others: Vec<&Raw<'_>> = branches.iter().filter(|branch| !null(branch)).collect();
        let nullable = others.len() < branches.len();
        let bare = |read: &Schema<'_>| {
            read.properties.is_none() && read.items.is_none() && read.options.is_none() && read.kind.is_none()
        };
        if let ([only], true) = (others.as_slice(), bare(beside)) {
            // Something or nothing: the something, marked nullable, with the notes that stood beside.
            let start = out.len();
            self.schema(only, depth.saturating_add(1), out);
            let written = out.get(start..).and_then(|json| std::str::from_utf8(json).ok()).unwrap_or("{}").to_owned();
            let Ok(bag) = serde_json::from_str::<Bag<'_>>(&written) else { return };
            out.truncate(start);
            writer::object(out, |o| {
                for (name, json) in beside.extras.iter() {
                    if SAME.contains(&name) && !(name == "default" && json.is_null()) {
                        o.raw(name, json);
                    } else if name != "default" && !SILENT.contains(&name) {
                        self.whole = false;
                    }
                }
                for (name, json) in bag.extras.iter() {
                    if beside.extras.get(name).is_none() && name != "nullable" {
                        o.raw(name, json);
                    }
                }
                if nullable || beside.nullable == Some(true) || bag.extras.get("nullable").is_some() {
                    o.bool("nullable", true);
                }
            });
            return;
        }
        self.whole &= bare(beside) && beside.extras.iter().all(|(name, _)| SILENT.contains(&name) || name == "title");
        writer::object(out, |o| {
            o.array("anyOf", |a| {
                for branch in others {
                    self.schema(branch, depth.saturating_add(1), a.value());
                }
                if nullable || beside.nullable == Some(true) {
                    a.object(|o| o.string("type", "NULL"));
                }
            });
        });
    }

    fn plain(&mut self, read: &Schema<'_>, depth: usize, out: &mut Vec<u8>) {
        let mut kinds = kinds(read);
        let mut nullable = read.nullable == Some(true);
        if kinds.len() > 1 {
            let known = kinds.len();
            kinds.retain(|kind| *kind != "NULL");
            nullable |= kinds.len() < known;
        }
        let Some(&kind) = kinds.first() else { return self.anything(out) };
        if kinds.len() > 1 {
            self.whole &= read.extras.iter().all(|(name, _)| SILENT.contains(&name))
                && read.properties.is_none()
                && read.options.is_none();
            return writer::object(out, |o| {
                o.array("anyOf", |a| {
                    for kind in kinds.iter().copied().chain(nullable.then_some("NULL")) {
                        a.object(|o| {
                            o.string("type", kind);
                            if kind == "ARRAY" {
                                self.items(read, depth, o);
                            }
                        });
                    }
                });
            });
        }
        writer::object(out, |o| {
            o.string("type", kind);
            if let Some(format) = &read.format {
                if takes(kind, format) {
                    o.string("format", format);
                } else {
                    self.whole = false;
                }
            }
            for (name, json) in read.extras.iter() {
                match name {
                    "default" if json.is_null() => {}
                    _ if SAME.contains(&name) => o.raw(name, json),
                    "additionalProperties" if json.kind() == Kind::Bool => {}
                    _ => self.whole &= SILENT.contains(&name),
                }
            }
            nullable |= self.options(read, kind, o);
            if kind == "OBJECT" {
                self.properties(read, depth, o);
            }
            if kind == "ARRAY" {
                self.items(read, depth, o);
            }
            if nullable {
                o.bool("nullable", true);
            }
        });
    }

    /// Writes the values to choose from: strings only. Returns whether null was among them.
    fn options(&mut self, read: &Schema<'_>, kind: &str, o: &mut Object<'_>) -> bool {
        let options: Vec<&Raw<'_>> = read.options.iter().flatten().chain(&read.only).collect();
        let texts: Vec<&&Raw<'_>> =
            options.iter().filter(|json| json.kind() == Kind::String && json.get() != r#""""#).collect();
        let null = options.iter().any(|json| json.is_null());
        self.whole &= texts.len() + usize::from(null) == options.len() && (texts.is_empty() || kind == "STRING");
        if !texts.is_empty() && kind == "STRING" {
            o.array("enum", |a| texts.iter().for_each(|json| a.raw(json)));
        }
        null
    }

    fn properties(&mut self, read: &Schema<'_>, depth: usize, o: &mut Object<'_>) {
        let some = |bag: &&Bag<'_>| !bag.extras.is_empty() && bag.extras.0.len() <= MOST;
        let Some(properties) = read.properties.as_ref().filter(some) else {
            self.whole &= read.required.as_ref().is_none_or(Vec::is_empty)
                && read.properties.as_ref().is_none_or(|bag| bag.extras.is_empty());
            return;
        };
        o.object("properties", |o| {
            for (name, schema) in properties.extras.iter() {
                self.schema(schema, depth.saturating_add(1), o.value(name));
            }
        });
        let (declared, undeclared): (Vec<_>, Vec<_>) =
            read.required.iter().flatten().take(MOST).partition(|name| properties.extras.get(name).is_some());
        self.whole &= undeclared.is_empty() && read.required.as_ref().is_none_or(|names| names.len() <= MOST);
        if !declared.is_empty() {
            o.array("required", |a| declared.iter().for_each(|name| a.string(name)));
        }
    }

    fn items(&mut self, read: &Schema<'_>, depth: usize, o: &mut Object<'_>) {
        match read.items.as_ref().filter(|items| items.kind() == Kind::Object && items.get() != "{}") {
            Some(items) => self.schema(items, depth.saturating_add(1), o.value("items")),
            None => {
                // An array must say what it holds.
                self.whole = false;
                o.object("items", |o| o.string("type", "STRING"));
            }
        }
    }
}

/// The types a schema names, or those that its other members imply.
fn kinds(read: &Schema<'_>) -> Vec<&'static str> {
    let named = |json: &Raw<'_>| match json.get().to_ascii_lowercase().as_str() {
        r#""object""# => Some("OBJECT"),
        r#""array""# => Some("ARRAY"),
        r#""string""# => Some("STRING"),
        r#""number""# => Some("NUMBER"),
        r#""integer""# => Some("INTEGER"),
        r#""boolean""# => Some("BOOLEAN"),
        r#""null""# => Some("NULL"),
        _ => None,
    };
    match &read.kind {
        Some(list) if list.kind() == Kind::Array => {
            list.read::<Vec<Raw<'_>>>().unwrap_or_default().iter().filter_map(named).collect()
        }
        Some(kind) => named(kind).into_iter().collect(),
        None if read.properties.is_some() => vec!["OBJECT"],
        None if read.items.is_some() => vec!["ARRAY"],
        None if read.options.iter().flatten().chain(&read.only).any(|json| json.kind() == Kind::String) => {
            vec!["STRING"]
        }
        None => Vec::new(),
    }
}

/// The formats that the subset's parser takes.
fn takes(kind: &str, format: &str) -> bool {
    match kind {
        "STRING" => matches!(format, "enum" | "date-time"),
        "NUMBER" => matches!(format, "float" | "double"),
        "INTEGER" => matches!(format, "int32" | "int64"),
        _ => false,
    }
}

/// What a reference within the schema (RFC 6901 in a fragment) points at.
fn find(root: &Raw<'_>, reference: &str) -> Option<Raw<'static>> {
    fn walk(at: &Raw<'_>, mut steps: std::str::Split<'_, char>, left: usize) -> Option<Raw<'static>> {
        let Some(step) = steps.next() else { return Some(at.clone().into_owned()) };
        let left = left.checked_sub(1)?;
        match at.kind() {
            Kind::Object => {
                let step = step.replace("~1", "/").replace("~0", "~");
                walk(at.read::<Bag<'_>>().ok()?.extras.get(&step)?, steps, left)
            }
            Kind::Array => walk(at.read::<Vec<Raw<'_>>>().ok()?.get(step.parse::<usize>().ok()?)?, steps, left),
            _ => None,
        }
    }
    let mut steps = reference.strip_prefix('#')?.split('/');
    steps.next().filter(|first| first.is_empty())?;
    walk(root, steps, DEEPEST)
}

/// Puts the members of one branch of an `allOf` beside those of the schema. Returns whether none was there already.
fn merge<'a>(into: &mut Schema<'a>, branch: Schema<'a>) -> bool {
    let mut whole = true;
    fn put<T: PartialEq>(into: &mut Option<T>, more: Option<T>, whole: &mut bool) {
        match (into.as_ref(), more) {
            (None, more) => *into = more,
            (Some(had), Some(more)) => *whole &= *had == more,
            (Some(_), None) => {}
        }
    }
    put(&mut into.kind, branch.kind, &mut whole);
    put(&mut into.nullable, branch.nullable, &mut whole);
    put(&mut into.format, branch.format, &mut whole);
    put(&mut into.options, branch.options, &mut whole);
    put(&mut into.only, branch.only, &mut whole);
    put(&mut into.items, branch.items, &mut whole);
    put(&mut into.any, branch.any, &mut whole);
    put(&mut into.one, branch.one, &mut whole);
    if let Some(required) = branch.required {
        into.required.get_or_insert_default().extend(required);
    }
    let bag = branch.properties.map(|bag| bag.extras.0).unwrap_or_default();
    if bag.len() > MOST || branch.extras.0.len() > MOST {
        return false;
    }
    if !bag.is_empty() {
        let had = &mut into.properties.get_or_insert_default().extras;
        for (name, json) in bag {
            match had.get(&name) {
                Some(known) => whole &= *known == json,
                None => had.0.push((name, json)),
            }
        }
    }
    for (name, json) in branch.extras.0 {
        match into.extras.get(&name) {
            Some(known) => whole &= *known == json || SILENT.contains(&name.as_str()) || name == "title",
            None => into.extras.0.push((name, json)),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(schema: &str) -> (String, bool) {
        let mut out = Vec::new();
        let whole = adapt(&Raw::parse(schema).unwrap(), &mut out);
        let json = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        (json, whole)
    }

    #[track_caller]
    fn same(schema: &str, expected: &str) {
        assert_eq!(cut(schema), (expected.to_owned(), true), "{schema}");
    }

    #[track_caller]
    fn less(schema: &str, expected: &str) {
        assert_eq!(cut(schema), (expected.to_owned(), false), "{schema}");
    }

    #[test]
    fn what_the_subset_can_say_keeps_its_meaning() {
        same(
            r##"{"$schema":"x","type":"object","properties":{"b":{"type":["string","null"],"description":"d"},"a":{"$ref":"#/$defs/N"}},
                "required":["b"],"additionalProperties":false,"$defs":{"N":{"type":"integer","minimum":1}}}"##,
            r#"{"type":"OBJECT","properties":{"b":{"type":"STRING","description":"d","nullable":true},"a":{"type":"INTEGER","minimum":1}},"required":["b"]}"#,
        );
        same(r#"{"const":"x"}"#, r#"{"type":"STRING","enum":["x"]}"#);
        same(r#"{"type":"string","enum":["a",null]}"#, r#"{"type":"STRING","enum":["a"],"nullable":true}"#);
        same(
            r#"{"anyOf":[{"type":"integer"},{"type":"null"}],"default":null,"title":"T"}"#,
            r#"{"title":"T","type":"INTEGER","nullable":true}"#,
        );
        same(
            r#"{"oneOf":[{"type":"string"},{"type":"number"},{"type":"null"}]}"#,
            r#"{"anyOf":[{"type":"STRING"},{"type":"NUMBER"},{"type":"NULL"}]}"#,
        );
        same(r#"{"type":["string","integer"]}"#, r#"{"anyOf":[{"type":"STRING"},{"type":"INTEGER"}]}"#);
        same(
            r#"{"allOf":[{"properties":{"a":{"type":"string"}},"required":["a"]},{"properties":{"b":{"type":"boolean"}}}]}"#,
            r#"{"type":"OBJECT","properties":{"a":{"type":"STRING"},"b":{"type":"BOOLEAN"}},"required":["a"]}"#,
        );
        same(
            r##"{"type":"array","items":{"$ref":"#/definitions/a~1b","description":"this one"},"definitions":{"a/b":{"type":"string","description":"general"}}}"##,
            r#"{"type":"ARRAY","items":{"description":"this one","type":"STRING"}}"#,
        );
    }

    #[test]
    fn what_it_cannot_say_is_told() {
        less(r#"{"type":"integer","exclusiveMinimum":0}"#, r#"{"type":"INTEGER"}"#);
        less(r#"{"type":"string","format":"email"}"#, r#"{"type":"STRING"}"#);
        less(r#"{"type":"integer","enum":[1,2]}"#, r#"{"type":"INTEGER"}"#);
        less(r#"{"type":"object","additionalProperties":{"type":"string"}}"#, r#"{"type":"OBJECT"}"#);
        less(r#"{"type":"array"}"#, r#"{"type":"ARRAY","items":{"type":"STRING"}}"#);
        less(
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["b"]}"#,
            r#"{"type":"OBJECT","properties":{"a":{"type":"STRING"}}}"#,
        );
        less(r#"{"description":"anything"}"#, r#"{"type":"OBJECT"}"#);
        less("true", r#"{"type":"OBJECT"}"#);
        less(r##"{"$ref":"#/$defs/gone"}"##, r#"{"type":"OBJECT"}"#);
        less(
            r##"{"type":"object","properties":{"next":{"$ref":"#"}}}"##,
            r#"{"type":"OBJECT","properties":{"next":{"type":"OBJECT","properties":{"next":{"type":"OBJECT"}}}}}"#,
        );
    }

    #[test]
    fn references_cannot_multiply_without_end() {
        // Each level refers twice to the next one: 2^40 schemas if nothing stopped it.
        let defs: Vec<String> = (0..40)
            .map(|n| {
                format!(
                    r##""d{n}":{{"properties":{{"a":{{"$ref":"#/$defs/d{}"}},"b":{{"$ref":"#/$defs/d{}"}}}}}}"##,
                    n + 1,
                    n + 1
                )
            })
            .collect();
        let (json, whole) = cut(&format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, defs.join(",")));
        assert!(!whole && json.len() < 1 << 20, "{}", json.len());
    }
}
