//! The JSON Schema of the file, and a checker that finds every departure from it.
//!
//! `serde` stops at the first mistake; an operator wants them all. The checker walks the tree beside the schema that
//! `schemars` derives from [`super::file`], so reference, editor support and check cannot drift apart. It knows the
//! keywords that those types lead to, and `format` for our own notations ([`super::value::format`]).

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::wire::veil;
use crate::wire::yaml::{Node, Value};

use super::file::File;
use super::problem::{Problems, Route, did_you_mean};
use super::value;

/// Fields that the product will have, by a field that tells the place: an operator who reads ahead gets a clear answer.
const LATER: [(&str, &[&str]); 4] = [
    ("providers", &["budgets", "cache", "guards", "projects", "teams", "users"]),
    ("base_url", &["budget", "queue"]),
    ("targets", &["budget", "cache", "guard", "limits"]),
    ("secret_sha256", &["cache"]),
];

/// Deepest chase of references; the schema itself is not recursive.
const REFERENCES: usize = 16;

/// The schema as published by `portolan schema`.
pub fn schema() -> Json {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>().to_value()
}

/// Notes every place where the tree is not as the schema says.
pub fn check(root: &Node, schema: &Json, problems: &mut Problems) {
    if root.value == Value::Null {
        return;
    }
    Checker { schema, problems }.check(root, schema, &Route::default());
}

struct Checker<'s, 'p> {
    schema: &'s Json,
    problems: &'p mut Problems,
}

impl<'s> Checker<'s, '_> {
    fn check(&mut self, node: &Node, schema: &'s Json, route: &Route) {
        let schema = self.resolve(schema);
        for word in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(word).and_then(Json::as_array) {
                self.branches(node, branches, route);
            }
        }
        let wanted = types(schema);
        if !wanted.is_empty() && !wanted.iter().any(|name| is(node, name)) {
            self.problems.at(node.at, route, misread(node, schema).unwrap_or_else(|| mismatch(&wanted, node)));
            return;
        }
        if let Some(message) = wrong_value(node, schema) {
            self.problems.at(node.at, route, message);
        }
        match &node.value {
            Value::Map(_) => self.map(node, schema, route),
            Value::List(items) => {
                if let Some(inner) = schema.get("items") {
                    for (number, item) in items.iter().enumerate() {
                        self.check(item, inner, &route.index(number));
                    }
                }
            }
            _ => {}
        }
    }

    /// Exactly the mistakes of the branch that fits the kind of value best.
    fn branches(&mut self, node: &Node, branches: &'s [Json], route: &Route) {
        let fitting: Vec<&Json> = branches.iter().filter(|branch| self.fits(node, self.resolve(branch))).collect();
        let clean = |checker: &Self, branch: &'s Json| {
            let mut problems = Problems::default();
            Checker { schema: checker.schema, problems: &mut problems }.check(node, branch, route);
            problems.is_empty()
        };
        if fitting.iter().any(|branch| clean(self, branch)) {
            return;
        }
        let values: Vec<&str> = branches.iter().flat_map(|branch| constants(self.resolve(branch))).collect();
        match (fitting.first(), &node.value) {
            (Some(_), Value::Text(text)) if !values.is_empty() => {
                self.problems.at(node.at, route, one_of(text, &values));
            }
            (Some(first), _) => match named(node, &fitting.iter().map(|one| self.resolve(one)).collect::<Vec<_>>()) {
                Ok(branch) => self.check(node, branch.unwrap_or(first), route),
                Err(message) => self.problems.at(node.at, route, message),
            },
            (None, _) => {
                // One way to write it, perhaps with the alternative of leaving it out: its own complaint says most.
                let mut ways = branches.iter().filter(|branch| types(self.resolve(branch)) != ["null"]);
                match (ways.next(), &node.value) {
                    (Some(way), Value::Int(_) | Value::Float(_) | Value::Bool(_)) => self.check(node, way, route),
                    _ => {
                        let wanted = self.all_types(branches);
                        self.problems.at(node.at, route, mismatch(&wanted, node));
                    }
                }
            }
        }
    }

    /// The types that branches come down to.
    fn all_types(&self, branches: &'s [Json]) -> Vec<&'s str> {
        let mut all = Vec::new();
        for branch in branches {
            let branch = self.resolve(branch);
            all.extend(types(branch));
            for word in ["anyOf", "oneOf"] {
                if let Some(inner) = branch.get(word).and_then(Json::as_array) {
                    all.extend(self.all_types(inner));
                }
            }
        }
        all
    }

    fn fits(&self, node: &Node, schema: &Json) -> bool {
        let wanted = types(schema);
        if wanted.is_empty() {
            let nested = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(word).and_then(Json::as_array));
            return nested.is_none_or(|branches| branches.iter().any(|branch| self.fits(node, self.resolve(branch))));
        }
        wanted.iter().any(|name| is(node, name))
    }

    fn map(&mut self, node: &Node, schema: &'s Json, outer: &Route) {
        let Value::Map(entries) = &node.value else { return };
        let properties = schema.get("properties").and_then(Json::as_object);
        let names = || properties.iter().flat_map(|properties| properties.keys().map(String::as_str));
        for entry in entries {
            let route = outer.key(&entry.key);
            if let Some(inner) = properties.and_then(|properties| properties.get(&entry.key)) {
                // A field without a value counts as left out.
                if entry.value.value != Value::Null {
                    self.check(&entry.value, inner, &route);
                }
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Json::Bool(false)) => {
                    let key = veil::name(&entry.key);
                    // A colon without a blank makes a name of a value.
                    let route = if key == veil::VEILED { outer } else { &route };
                    let message = if is_later(key, properties) {
                        format!("`{key}` is not supported here yet: take it out")
                    } else {
                        let hint = did_you_mean(key, names());
                        let list = if hint.is_empty() { known(names()) } else { String::new() };
                        format!("unknown field `{key}`.{hint}{list}")
                    };
                    self.problems.at(entry.at, route, message);
                }
                Some(inner @ Json::Object(_)) => self.check(&entry.value, inner, &route),
                _ => {}
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for name in required {
            if node.member(name).is_none_or(|member| member.value == Value::Null) {
                self.problems.at(node.at, &outer.key(name), format!("`{name}` is missing: add it"));
            }
        }
    }

    fn resolve(&self, schema: &'s Json) -> &'s Json {
        let mut schema = schema;
        for _ in 0..REFERENCES {
            let Some(pointer) = schema.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'))
            else {
                break;
            };
            match self.schema.pointer(pointer) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}

/// Which of several maps is meant: the one that has a field of the node's. Nothing where there is no choice.
///
/// # Errors
/// None has: the fields that there are.
fn named<'s>(node: &Node, branches: &[&'s Json]) -> Result<Option<&'s Json>, String> {
    let (Value::Map(entries), [_, _, ..]) = (&node.value, branches) else { return Ok(None) };
    let fields = |branch: &'s Json| branch.get("properties").and_then(Json::as_object);
    let has = |branch: &&'s Json| fields(branch).is_some_and(|own| entries.iter().any(|e| own.contains_key(&e.key)));
    if let Some(found) = branches.iter().copied().find(has) {
        return Ok(Some(found));
    }
    let all: Vec<&str> =
        branches.iter().flat_map(|b| fields(b)).flat_map(|own| own.keys().map(String::as_str)).collect();
    Err(match entries.first() {
        Some(entry) => {
            let hint = did_you_mean(&entry.key, all.iter().copied());
            format!(
                "unknown field `{}`.{}",
                veil::name(&entry.key),
                if hint.is_empty() { known(all.into_iter()) } else { hint }
            )
        }
        None => format!("there is nothing in it.{}", known(all.into_iter())),
    })
}

fn is_later(key: &str, properties: Option<&serde_json::Map<String, Json>>) -> bool {
    let here = |place: &str| properties.is_some_and(|properties| properties.contains_key(place));
    LATER.iter().any(|(place, fields)| here(place) && fields.contains(&key))
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn constants(schema: &Json) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    listed.chain(schema.get("const")).filter_map(Json::as_str).collect()
}

fn is(node: &Node, name: &str) -> bool {
    match name {
        "null" => node.value == Value::Null,
        "boolean" => matches!(node.value, Value::Bool(_)),
        "integer" => matches!(node.value, Value::Int(_)),
        "number" => matches!(node.value, Value::Int(_) | Value::Float(_)),
        "string" => matches!(node.value, Value::Text(_)),
        "array" => matches!(node.value, Value::List(_)),
        "object" => matches!(node.value, Value::Map(_)),
        _ => true,
    }
}

/// How our notations are written, for a scalar of another type.
fn misread(node: &Node, schema: &Json) -> Option<String> {
    let read = schema.get("format").and_then(Json::as_str).and_then(value::format)?;
    match &node.value {
        Value::Int(text) | Value::Float(text) => read(text).err(),
        Value::Bool(value) => read(if *value { "true" } else { "false" }).err(),
        _ => None,
    }
}

/// Constants, ranges and notations.
fn wrong_value(node: &Node, schema: &Json) -> Option<String> {
    let values = constants(schema);
    if let Value::Text(text) = &node.value
        && !values.is_empty()
        && !values.contains(&text.as_str())
    {
        return Some(one_of(text, &values));
    }
    let read = schema.get("format").and_then(Json::as_str).and_then(value::format);
    match &node.value {
        Value::Text(text) | Value::Int(text) | Value::Float(text) if read.is_some() => {
            read.and_then(|read| read(&plain_int(node).unwrap_or_else(|| text.clone())).err())
        }
        Value::Int(_) => {
            let (low, high) = (schema.get("minimum").and_then(whole), schema.get("maximum").and_then(whole));
            let low = low.or_else(|| schema.get("format").and_then(Json::as_str)?.starts_with("uint").then_some(0));
            let high = high.or(Some(match schema.get("format").and_then(Json::as_str) {
                Some("uint32") => i128::from(u32::MAX),
                _ => i128::from(u64::MAX),
            }));
            let number = plain_int(node).and_then(|text| text.parse::<i128>().ok());
            match (number, low, high) {
                (Some(number), Some(low), _) if number < low => Some(format!("write {low} or more")),
                (Some(number), _, Some(high)) if number > high => Some(format!("write {high} or less")),
                (None, ..) => Some("the number is too large".to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A whole number in decimal, however it was written.
fn plain_int(node: &Node) -> Option<String> {
    match node.to_json() {
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn whole(value: &Json) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn one_of(written: &str, values: &[&str]) -> String {
    let hint = did_you_mean(written, values.iter().copied());
    let list: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    format!("not a known value: write {}.{hint}", list.join(" or "))
}

fn known<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { String::new() } else { format!(" Known here: {}.", names.join(", ")) }
}

fn mismatch(wanted: &[&str], node: &Node) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in wanted {
        let words = match *name {
            "string" => "text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "a map of fields",
            _ => continue,
        };
        if !names.contains(&words) {
            names.push(words);
        }
    }
    let found = match &node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(_) => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    };
    let scalar = matches!(node.value, Value::Bool(_) | Value::Int(_) | Value::Float(_));
    let hint = if scalar && wanted.contains(&"string") { ": put it in quotes" } else { "" };
    format!("expected {}, found {found}{hint}", names.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::yaml;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        problems.file(std::path::Path::new("f"));
        check(&yaml::parse(text, 0).unwrap(), &schema(), &mut problems);
        problems.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_departure_is_found_in_one_go() {
        let found = problems(
            "listen: 8080\n\
             lisen: x\n\
             limits: {depth: 3, body_bytes: 5TB, headers: many}\n\
             providers:\n  a: {preset: 5, nodes: [{weight: 0}], auth: basic, http: http3}\n  b:\n\
             models:\n  m: {targets: [{provider: a, weight: -1, price: {input: x, output: 1.5}}], guard: []}\n\
             keys: [{id: x, cache: {ttl: 3}}]\n\
             retry: {tries: 4294967297}\n\
             timeouts: {idle: 5}\n",
        );
        let expected = [
            "f:1:9: listen: write an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080",
            "f:2:1: lisen: unknown field `lisen`. Did you mean `listen`?",
            "f:3:17: limits.depth: write 4 or more",
            "f:3:32: limits.body_bytes: write bytes such as 1048576, 512KiB or 50MiB",
            "f:3:46: limits.headers: expected a whole number, found text",
            "f:5:15: providers.a.preset: expected text, found a number: put it in quotes",
            "f:5:26: providers.a.nodes[0].url: `url` is missing: add it",
            "f:5:35: providers.a.nodes[0].weight: write 1 or more",
            "f:5:46: providers.a.auth: not a known value: write `none` or `bearer`.",
            "f:5:59: providers.a.http: not a known value: write `auto` or `http1` or `http2`. Did you mean `http1`?",
            "f:6:4: providers.b: expected a map of fields, found nothing",
            "f:8:39: models.m.targets[0].weight: write 1 or more",
            "f:8:58: models.m.targets[0].price.input: write a decimal amount such as 0.15 or 3, at most nine digits on each side of the point",
            "f:8:77: models.m.guard: `guard` is not supported here yet: take it out",
            "f:9:8: keys[0].secret_sha256: `secret_sha256` is missing: add it",
            "f:9:16: keys[0].cache: `cache` is not supported here yet: take it out",
            "f:10:16: retry.tries: write 20 or less",
            "f:11:18: timeouts.idle: write a duration such as 500ms, 5s, 2m, 1h or 30d",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_schema_uses_only_keywords_that_the_checker_knows() {
        fn walk(schema: &Json, seen: &mut std::collections::BTreeSet<String>) {
            match schema {
                Json::Object(members) => {
                    for (key, inner) in members {
                        match key.as_str() {
                            "properties" | "$defs" => {
                                inner.as_object().unwrap().values().for_each(|one| walk(one, seen))
                            }
                            "propertyNames" | "default" | "enum" | "const" => drop(seen.insert(key.clone())),
                            _ => {
                                seen.insert(key.clone());
                                walk(inner, seen);
                            }
                        }
                    }
                }
                Json::Array(items) => items.iter().for_each(|item| walk(item, seen)),
                _ => {}
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        walk(&schema(), &mut seen);
        let checked = [
            "$ref",
            "additionalProperties",
            "anyOf",
            "const",
            "enum",
            "format",
            "items",
            "maximum",
            "minimum",
            "oneOf",
            "required",
            "type",
        ];
        // `pattern` and `propertyNames` are for editors: our own readers are stricter and say more.
        let told = ["$schema", "default", "description", "pattern", "propertyNames", "title"];
        let unknown: Vec<_> =
            seen.iter().filter(|word| !checked.contains(&word.as_str()) && !told.contains(&word.as_str())).collect();
        assert!(unknown.is_empty(), "the checker would ignore {unknown:?}");
    }
}
