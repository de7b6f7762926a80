//! YAML into a tree whose every node knows its line and column.
//!
//! A parser that only yields values cannot say *where* a configuration is wrong. This one keeps the place of each key
//! and value, reports duplicate keys all at once, keeps numbers as they were written (a price of `0.15` never passes
//! through a float) and is bounded: nodes, depth, and what aliases may unfold to.
//!
//! Scalars follow the YAML 1.2 core schema (yaml.org/spec/1.2.2, section 10.3): `yes`, `on` and `12:30` are text. Tags
//! other than `!!str` and merge keys (`<<`) are refused: they hide what is configured.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Deepest nesting.
const DEPTH: usize = 64;
/// Most nodes of one text.
const NODES: usize = 1_000_000;
/// Most bytes that all aliases together may unfold to (text, and [`NODE_COST`] for each node).
const ALIASED: usize = 1 << 20;
const NODE_COST: usize = 32;

/// Where something stands; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which text it is from, as given to [`parse`].
    pub source: u16,
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Mark,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written.
    Int(String),
    /// As written.
    Float(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub at: Mark,
    pub value: Node,
}

/// Something wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub at: Mark,
    pub message: String,
}

impl Node {
    /// The value of a key, when this is a map that has it.
    pub fn member(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The tree as JSON, places dropped. Members that are null are left out: a key without a value says nothing.
    /// Numbers that are not whole (or fit no 64 bits) become strings, so that nobody reads them as floats.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(text) => match whole(text) {
                Some(number) => Json::Number(number),
                None => Json::String(text.clone()),
            },
            Value::Float(text) | Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .filter(|entry| entry.value.value != Value::Null)
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect(),
            ),
        }
    }
}

/// Reads one document. `source` goes into every [`Mark`].
///
/// # Errors
/// Every flaw that could be found: a syntax error ends the search, duplicate keys and the like do not.
pub fn parse(text: &str, source: u16) -> Result<Node, Vec<Flaw>> {
    let mut flaws = Vec::new();
    match read(text, source, &mut flaws) {
        Some(root) if flaws.is_empty() => Ok(root),
        _ => Err(flaws),
    }
}

/// As [`parse`], but gives the tree in spite of flaws that do not hide what is meant (of a key that stands twice, both
/// entries are in the tree).
pub fn read(text: &str, source: u16, flaws: &mut Vec<Flaw>) -> Option<Node> {
    let mut reader = Reader { source, ..Reader::default() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => reader.event(event, span),
            Err(error) => {
                let mark = error.marker();
                let at = Mark { source, line: mark.line(), column: mark.col() + 1 };
                Err(Flaw { at, message: format!("not valid YAML: {}", error.info()) })
            }
        };
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(flaw) => {
                flaws.append(&mut reader.flaws);
                flaws.push(flaw);
                return None;
            }
        }
    }
    flaws.append(&mut reader.flaws);
    let at = Mark { source, line: 1, column: 1 };
    Some(reader.root.unwrap_or(Node { at, value: Value::Null }))
}

/// A whole number of 64 bits: decimal, `0x` or `0o`.
fn whole(text: &str) -> Option<serde_json::Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok()?
    } else {
        digits.parse::<u64>().ok()?
    };
    if negative { Some(i64::try_from(magnitude).ok()?.checked_neg()?.into()) } else { Some(magnitude.into()) }
}

#[derive(Default)]
struct Reader {
    source: u16,
    nodes: usize,
    aliased: usize,
    documents: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    flaws: Vec<Flaw>,
}

/// A collection whose end has not been seen.
struct Open {
    at: Mark,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, Mark)> },
}

impl Reader {
    /// `Ok(false)`: nothing more is wanted.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, Flaw> {
        let at = Mark { source: self.source, line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::StreamEnd => return Ok(false),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(flaw(at, "a second document begins here: one file is one document, remove the `---`"));
                }
            }
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text, style, tag.as_deref(), at)?;
                self.done(Node { at, value }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, anchor, tag.as_deref(), Kind::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => {
                let kind = Kind::Map { entries: Vec::new(), seen: HashSet::new(), key: None };
                self.begin(at, anchor, tag.as_deref(), kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let value = match open.kind {
                        Kind::List(items) => Value::List(items),
                        Kind::Map { entries, .. } => Value::Map(entries),
                    };
                    self.done(Node { at: open.at, value }, open.anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err(flaw(at, "an alias inside its own anchor: write the value out"));
                };
                self.aliased = self.aliased.saturating_add(cost(target));
                if self.aliased > ALIASED {
                    return Err(flaw(at, "aliases unfold to more than 1 MiB: write the values out"));
                }
                let node = Node { at, value: target.value.clone() };
                if self.open.len() + depth(&node) > DEPTH {
                    return Err(too_deep(at));
                }
                self.done(node, 0)?;
            }
        }
        Ok(true)
    }

    fn begin(&mut self, at: Mark, anchor: usize, tag: Option<&Tag>, kind: Kind) -> Result<(), Flaw> {
        if let Some(tag) = tag {
            return Err(flaw(at, &format!("the tag `{tag}` is not supported: remove it")));
        }
        if self.open.len() >= DEPTH {
            return Err(too_deep(at));
        }
        if let Some(Open { kind: Kind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(flaw(at, "a key must be plain text, not a list or a map"));
        }
        self.open.push(Open { at, anchor, kind });
        Ok(())
    }

    /// Puts a whole node where it belongs.
    fn done(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(flaw(node.at, "more than 1,000,000 values: split the file or write less"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, seen, key }) => match key.take() {
                Some((name, at)) => entries.push(Entry { key: name, at, value: node }),
                None => {
                    let at = node.at;
                    let Some(name) = key_text(node.value) else {
                        return Err(flaw(at, "a key must be plain text, not a list or a map"));
                    };
                    if name == "<<" {
                        self.flaws.push(flaw(at, "merge keys (`<<`) are not supported: write the fields out"));
                    } else if !seen.insert(name.clone()) {
                        let first =
                            entries.iter().find(|entry| entry.key == name).map_or(at.line, |entry| entry.at.line);
                        let message = format!("`{name}` stands here a second time (first in line {first}): keep one");
                        self.flaws.push(Flaw { at, message });
                    }
                    *key = Some((name, at));
                }
            },
        }
        Ok(())
    }
}

fn flaw(at: Mark, message: &str) -> Flaw {
    Flaw { at, message: message.to_owned() }
}

fn too_deep(at: Mark) -> Flaw {
    flaw(at, "nested deeper than 64 levels")
}

fn key_text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Int(text) | Value::Float(text) => Some(text),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some("null".to_owned()),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, at: Mark) -> Result<Value, Flaw> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return Ok(Value::Text(text.into_owned())),
        Some(tag) => return Err(flaw(at, &format!("the tag `{tag}` is not supported: remove it"))),
        None => {}
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text.into_owned()));
    }
    Ok(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        plain if is_int(plain) => Value::Int(text.into_owned()),
        plain if is_float(plain) => Value::Float(text.into_owned()),
        _ => Value::Text(text.into_owned()),
    })
}

fn is_int(text: &str) -> bool {
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(rest, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    rest.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && rest.bytes().any(|byte| byte.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'))
        && rest.parse::<f64>().is_ok()
}

/// What unfolding a node costs. Recursion is bounded by [`DEPTH`].
fn cost(node: &Node) -> usize {
    NODE_COST
        + match &node.value {
            Value::Null | Value::Bool(_) => 0,
            Value::Int(text) | Value::Float(text) | Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(cost).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.key.len() + cost(&entry.value)).sum(),
        }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(text: &str) -> Vec<(usize, usize, String)> {
        parse(text, 0).unwrap_err().into_iter().map(|flaw| (flaw.at.line, flaw.at.column, flaw.message)).collect()
    }

    #[test]
    fn every_value_knows_its_place() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 0.10}\n", 3).unwrap();
        assert_eq!(root.member("a").unwrap().at, Mark { source: 3, line: 1, column: 4 });
        let Value::List(items) = &root.member("b").unwrap().value else { panic!("a list") };
        assert_eq!(items[1].member("c").unwrap().value, Value::Float("0.10".into()));
        assert_eq!((items[1].at.line, items[1].at.column), (4, 5));
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text = "[yes, 'true', true, ~, 0x1F, 12, -3, 1e3, .5, 1.2.3, 12:30, !!str 5, '', \"\\u00e9\", 18446744073709551616, --5]";
        let json = parse(text, 0).unwrap().to_json();
        let expected = serde_json::json!([
            "yes",
            "true",
            true,
            null,
            31,
            12,
            -3,
            "1e3",
            ".5",
            "1.2.3",
            "12:30",
            "5",
            "",
            "é",
            "18446744073709551616",
            "--5"
        ]);
        assert_eq!(json, expected);
        assert_eq!(
            parse("a:\nb: 1", 0).unwrap().to_json(),
            serde_json::json!({"b": 1}),
            "a key without a value says nothing"
        );
        assert_eq!(parse("", 0).unwrap().value, Value::Null);
        assert_eq!(parse("\u{feff}a: 1", 0).unwrap().to_json(), serde_json::json!({"a": 1}));
    }

    #[test]
    fn all_double_keys_are_reported_at_once() {
        let found = flaws("a: 1\nb: {c: 1, c: 2}\na: 3\n<<: {}\n");
        let places: Vec<_> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
        assert_eq!(places, [(2, 11), (3, 1), (4, 1)]);
        assert!(found[1].2.contains("first in line 1"), "{}", found[1].2);
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let found = flaws("a:\n  - b\n c: [\n");
        assert!(found[0].0 >= 3, "{found:?}");
        assert!(found[0].2.starts_with("not valid YAML"), "{found:?}");
        assert_eq!(flaws("a: 1\n---\nb: 2\n")[0].0, 2);
        assert!(flaws("? [a]\n: b\n")[0].2.contains("key must be plain text"));
        assert!(flaws("a: !env HOME\n")[0].2.contains("tag"));
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        assert!(parse(&format!("{}{}", "[".repeat(64), "]".repeat(64)), 0).is_ok());
        assert!(flaws(&format!("{}{}", "[".repeat(65), "]".repeat(65)))[0].2.contains("64 levels"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let all = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{all}]\n"));
        }
        assert!(flaws(&bomb)[0].2.contains("aliases unfold"), "{:?}", flaws(&bomb));
        let shared = parse("a: &x {p: 1}\nb: *x\n", 0).unwrap();
        assert_eq!(shared.to_json(), serde_json::json!({"a": {"p": 1}, "b": {"p": 1}}));
        assert_eq!(shared.member("b").unwrap().at.line, 2);
        assert!(parse("a: &x [*x]\n", 0).is_err());
    }
}
