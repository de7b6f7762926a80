//! One pass over a JSON body: is it JSON, is it too deep, and where are its top-level members.
//!
//! No tree is built and nothing is allocated but the list of spans. Nesting is a bit stack, not recursion, so that a
//! body of a million brackets costs a counter. What is accepted here is what `serde_json` accepts (RFC 8259), so that a
//! later reading of a part cannot fail for its grammar: policy and provider read the same text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::wire::json::{Raw, Text};

mod cursor;
mod grammar;

pub use cursor::Cursor;
pub(in crate::wire) use grammar::special;

use grammar::Scanner;

/// The top-level members of an object body, by span, in order.
#[derive(Clone, Debug, Default)]
pub struct Members {
    list: Vec<Member>,
    /// Names that are there, and those that are there more than once, a bit for each [`mark`]: a request's members are
    /// looked through for some fifty names, and most are not there.
    seen: u64,
    twice: u64,
    /// Of the closing brace.
    close: usize,
}

/// One member: spans into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Inside the quotes of the name.
    pub name: Range<usize>,
    /// The whole value.
    pub value: Range<usize>,
    /// The name has escapes.
    escaped: bool,
}

/// Why a body is not taken. Offsets are in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    NotUtf8 {
        at: usize,
    },
    NotJson {
        at: usize,
        wanted: &'static str,
    },
    /// JSON, but not an object.
    NotAnObject,
    TooDeep {
        at: usize,
        limit: usize,
    },
    /// More than [`MOST_MEMBERS`].
    TooManyMembers,
}

/// Most top-level members of a body.
pub const MOST_MEMBERS: usize = 10_000;

/// Scans an object body.
///
/// # Errors
/// The body is not a JSON object, or is deeper than `max_depth` (the object itself is level 1).
pub fn scan(body: &[u8], max_depth: usize) -> Result<Members, ScanError> {
    let text = utf8(body)?;
    let mut scanner = Scanner::new(text, max_depth);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(ScanError::NotAnObject);
    }
    scanner.at += 1;
    scanner.limit = scanner.limit.saturating_sub(1);
    if max_depth == 0 {
        return Err(ScanError::TooDeep { at: 0, limit: max_depth });
    }
    let mut members = Members { list: Vec::with_capacity(8), ..Members::default() };
    scanner.space();
    if scanner.peek() == Some(b'}') {
        members.close = scanner.at;
        scanner.at += 1;
        scanner.end()?;
        return Ok(members);
    }
    loop {
        scanner.space();
        let name = scanner.string("a member's name in quotes")?;
        scanner.space();
        scanner.byte(b':', "a colon")?;
        scanner.space();
        let start = scanner.at;
        scanner.value()?;
        if members.list.len() >= MOST_MEMBERS {
            return Err(ScanError::TooManyMembers);
        }
        let member = Member { name: name.span, value: start..scanner.at, escaped: name.escaped };
        // A name with escapes may read as any.
        let marks = if member.escaped { u64::MAX } else { mark(text.get(member.name.clone()).unwrap_or_default()) };
        members.twice |= members.seen & marks;
        members.seen |= marks;
        members.list.push(member);
        scanner.space();
        match scanner.peek() {
            Some(b',') => scanner.at += 1,
            Some(b'}') => break,
            _ => return Err(scanner.wanted("a comma or a closing brace")),
        }
    }
    members.close = scanner.at;
    scanner.at += 1;
    scanner.end()?;
    Ok(members)
}

/// Checks any JSON value.
///
/// # Errors
/// As [`scan`], but any kind of value will do.
pub fn validate(json: &[u8], max_depth: usize) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(utf8(json)?, max_depth);
    scanner.space();
    scanner.value()?;
    scanner.end()
}

/// Hands out the members of an object, or the items of an array with an empty name, each as it is written: a name
/// between its quotes with its escapes, a value with its own. Allocates nothing, so it is what looks into a stream's
/// frames, where `serde` would not even skip a nested value without a buffer.
///
/// # Errors
/// As [`scan`]; what came before the mistake has been handed out.
pub fn walk<'b>(json: &'b str, max_depth: usize, each: &mut dyn FnMut(&'b str, &'b str)) -> Result<(), ScanError> {
    let mut cursor = Cursor::new(json, max_depth);
    let object = cursor.is_object();
    if !object && !cursor.is_array() {
        return Err(ScanError::NotAnObject);
    }
    cursor.elements(object, |name, cursor| {
        each(name, cursor.value()?);
        Ok(())
    })?;
    cursor.end()
}

/// One of 64 bits for a name.
#[inline]
fn mark(name: &[u8]) -> u64 {
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    1 << ((usize::from(first) + 5 * usize::from(last) + 11 * name.len()) % 64)
}

fn utf8(body: &[u8]) -> Result<&[u8], ScanError> {
    match simdutf8::basic::from_utf8(body) {
        Ok(_) => Ok(body),
        Err(_) => {
            let at = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
            Err(ScanError::NotUtf8 { at })
        }
    }
}

impl Members {
    /// The member of a name, compared as JSON compares it: escapes undone. The last one, where a name is repeated.
    #[inline]
    pub fn get(&self, body: &[u8], name: &str) -> Option<&Member> {
        if self.may_have(name) { self.find(body, name) } else { None }
    }

    /// `false`: no member has this name.
    #[inline]
    pub(in crate::wire) fn may_have(&self, name: &str) -> bool {
        self.seen & mark(name.as_bytes()) != 0
    }

    fn find(&self, body: &[u8], name: &str) -> Option<&Member> {
        self.list.iter().rev().find(|member| member.is_named(body, name))
    }

    /// A member's value.
    pub fn raw<'b>(&self, body: &'b [u8], name: &str) -> Option<Raw<'b>> {
        let member = self.get(body, name)?;
        let json = std::str::from_utf8(body.get(member.value.clone())?).ok()?;
        Some(Raw::scanned(json))
    }

    /// The first of these names that occurs more than once.
    pub fn repeated(&self, body: &[u8], names: &[&str]) -> Option<String> {
        let twice = |name: &&&str| {
            self.twice & mark(name.as_bytes()) != 0
                && self.list.iter().filter(|member| member.is_named(body, name)).nth(1).is_some()
        };
        names.iter().find(twice).map(|name| (*name).to_owned())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Offset of the closing brace.
    pub fn close(&self) -> usize {
        self.close
    }
}

impl Member {
    /// The name, escapes undone.
    pub fn name<'b>(&self, body: &'b [u8]) -> Text<'b> {
        let inside = body.get(self.name.clone()).unwrap_or_default();
        if !self.escaped {
            return std::str::from_utf8(inside).unwrap_or_default().into();
        }
        let quoted = body.get(self.name.start.saturating_sub(1)..self.name.end + 1).unwrap_or_default();
        serde_json::from_slice::<String>(quoted).map_or(Text(Cow::Borrowed("")), Text::from)
    }

    /// Whether the name, escapes undone, is `name`.
    #[inline]
    pub fn is_named(&self, body: &[u8], name: &str) -> bool {
        // Most names differ in length, and a request's members are looked through for some fifty names.
        if !self.escaped && self.name.len() != name.len() {
            return false;
        }
        self.reads(body, name)
    }

    fn reads(&self, body: &[u8], name: &str) -> bool {
        let inside = body.get(self.name.clone()).unwrap_or_default();
        if !self.escaped {
            return inside == name.as_bytes();
        }
        // No character takes more than six times its UTF-8 bytes: a name of megabytes is not unescaped at each look.
        inside.len() > name.len() && inside.len() <= 6 * name.len() && self.name(body) == *name
    }
}

impl ScanError {
    /// A sentence with line and column.
    pub fn describe(&self, body: &[u8]) -> String {
        let place = |at: usize| {
            let (line, column) = position(body, at);
            format!("line {line}, column {column}")
        };
        match *self {
            ScanError::NotUtf8 { at } => format!("it is not UTF-8 from {} on.", place(at)),
            ScanError::NotJson { at, wanted } if at >= body.len() => format!("it ends where {wanted} was expected."),
            ScanError::NotJson { at, wanted } => format!("{wanted} was expected at {}.", place(at)),
            ScanError::NotAnObject => "it is JSON of another kind.".to_owned(),
            ScanError::TooDeep { limit, .. } => format!("it is nested deeper than {limit} levels."),
            ScanError::TooManyMembers => format!("it has more than {MOST_MEMBERS} members."),
        }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            ScanError::NotJson { at, wanted } => write!(f, "{wanted} was expected at byte {at}"),
            ScanError::NotAnObject => f.write_str("not an object"),
            ScanError::TooDeep { at, limit } => write!(f, "deeper than {limit} levels at byte {at}"),
            ScanError::TooManyMembers => write!(f, "more than {MOST_MEMBERS} members"),
        }
    }
}

impl std::error::Error for ScanError {}

/// Line and column of an offset, from 1, the column in characters.
pub fn position(body: &[u8], at: usize) -> (usize, usize) {
    let before = body.get(..at.min(body.len())).unwrap_or_default();
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(body: &str) -> Vec<String> {
        let members = scan(body.as_bytes(), 64).unwrap();
        members.iter().map(|member| member.name(body.as_bytes()).to_string()).collect()
    }

    #[test]
    fn walking_hands_out_members_and_items() {
        let walked = |json: &str, depth| {
            let mut seen = Vec::new();
            let end = walk(json, depth, &mut |name, value| seen.push(format!("{name}={value}")));
            (seen.join(";"), end)
        };
        assert_eq!(walked(r#" {"a" : [1, {"b":2}] ,"c\n":"x"} "#, 64), (r#"a=[1, {"b":2}];c\n="x""#.into(), Ok(())));
        assert_eq!(walked("[ 1.10 ,[],null]", 64), ("=1.10;=[];=null".into(), Ok(())));
        assert_eq!(walked("{}", 1), (String::new(), Ok(())));
        assert!(matches!(walked("7", 64).1, Err(ScanError::NotAnObject)));
        assert!(matches!(walked("[[[]]]", 2).1, Err(ScanError::TooDeep { .. })));
        for bad in ["{", "[1,]", r#"{"a"}"#, r#"{"a":1,}"#, "[1] 2", "[1}", ""] {
            assert!(walked(bad, 64).1.is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_those_of_the_members() {
        let body = br#" { "a" : [1, {"b":2}] ,"mod\u0065l":"x\"y", "n":-1.5e3 } "#;
        let members = scan(body, 64).unwrap();
        assert_eq!(names(std::str::from_utf8(body).unwrap()), ["a", "model", "n"]);
        assert_eq!(members.raw(body, "a").unwrap().get(), r#"[1, {"b":2}]"#);
        assert_eq!(members.raw(body, "model").unwrap().get(), r#""x\"y""#);
        assert_eq!(members.raw(body, "n").unwrap().get(), "-1.5e3");
        assert!(members.get(body, "b").is_none());
        assert_eq!(body[members.close()], b'}');
    }

    #[test]
    fn repeats_are_seen_through_escapes() {
        let body = br#"{"model":"a","x":1,"x":2,"mod\u0065l":"b"}"#;
        let members = scan(body, 64).unwrap();
        assert_eq!(members.repeated(body, &["stream", "model"]).as_deref(), Some("model"));
        assert_eq!(members.repeated(body, &["stream"]), None);
        assert_eq!(members.raw(body, "model").unwrap().get(), r#""b""#);
    }

    #[test]
    fn a_name_is_what_it_reads_as() {
        let body = br#"{"\n":1,"\\n":2,"\u0061":3,"\ud83d\ude00":4,"":5}"#;
        let members = scan(body, 64).unwrap();
        let named = |name: &str| members.get(body, name).and_then(|member| body.get(member.value.clone()));
        assert_eq!(named("\n"), Some(&b"1"[..]));
        assert_eq!(named("\\n"), Some(&b"2"[..]));
        assert_eq!(named("a"), Some(&b"3"[..]));
        assert_eq!(named("\u{1F600}"), Some(&b"4"[..]));
        assert_eq!(named(""), Some(&b"5"[..]));
        assert_eq!(named("\\u0061"), None);
    }

    #[test]
    fn depth_is_counted_and_costs_no_stack() {
        for (depth, limit) in [(3, 3), (64, 64), (1_024, 1_024)] {
            let body = format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
            assert!(scan(body.as_bytes(), limit).is_ok(), "{depth}");
            assert!(matches!(scan(body.as_bytes(), limit - 1), Err(ScanError::TooDeep { .. })), "{depth}");
        }
        let body = format!("{{\"a\":{}", "{\"b\":[".repeat(1_000_000));
        assert!(matches!(scan(body.as_bytes(), 64), Err(ScanError::TooDeep { .. })));
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let error = scan(b"{\"a\":1,\n \"b\":tru}", 64).unwrap_err();
        assert_eq!(error.describe(b"{\"a\":1,\n \"b\":tru}"), "a JSON value was expected at line 2, column 6.");
        assert_eq!(scan(b"[1]", 64).unwrap_err(), ScanError::NotAnObject);
        assert_eq!(scan(b"{\"a\":\"\xff\"}", 64).unwrap_err(), ScanError::NotUtf8 { at: 6 });
        assert!(scan(b"{\"a\":1", 64).unwrap_err().describe(b"{\"a\":1").starts_with("it ends where"));
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        for text in [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1E-2",
            "1.5e300",
            "+1",
            "tru",
            "true",
            "nul",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\udc00\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"a\tb\"",
            "\"\u{7f}\"",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{,}",
            "{\"a\":1,}",
            "{a:1}",
            "[1]]",
            "\"",
            "[\"a\",{\"b\":[]}]",
            "",
            " ",
            "// x",
            "\u{feff}1",
            "NaN",
            "{\"a\":1 \"b\":2}",
        ] {
            let ours = validate(text.as_bytes(), 64).is_ok();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
                && serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(ours, theirs, "{text:?}");
        }
    }

    /// Descends into everything but every third value, which is skipped.
    fn descend(cursor: &mut Cursor<'_>, count: &mut usize) -> Result<(), ScanError> {
        *count += 1;
        match *count % 3 {
            0 => Ok(()),
            _ if cursor.is_object() => cursor.members(|_, cursor| descend(cursor, count)),
            _ if cursor.is_array() => cursor.items(|cursor| descend(cursor, count)),
            1 => cursor.value().map(|_| ()),
            _ => Ok(()),
        }
    }

    proptest! {
        #[test]
        fn a_cursor_accepts_what_is_valid(body in crate::wire::laws::json_like(), depth in 1usize..8) {
            let mut cursor = Cursor::new(&body, depth);
            let read = descend(&mut cursor, &mut 0).and_then(|()| cursor.end());
            prop_assert_eq!(read.is_ok(), validate(body.as_bytes(), depth).is_ok());
        }

        #[test]
        fn bodies_and_their_members_are_those_of_serde_json(body in crate::wire::laws::json_like()) {
            crate::wire::laws::scan(body.as_bytes());
        }

        #[test]
        fn mutations_agree_with_serde_json(seed in any::<u64>(), cut in 0usize..200) {
            let base = br#"{"a":[1,2.5e-3,true,null,"x\n\u00e9\ud83d\ude00"],"b":{"c":{},"d":[]},"model":"m"}"#;
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut body = base.to_vec();
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(..body.len());
                match rng.u8(0..3) {
                    0 => { body.remove(at); }
                    1 => body.insert(at, *rng.choice(b"{}[]\",:\\0e-.tu d\n").unwrap()),
                    _ => body[at] = rng.u8(..),
                }
            }
            body.truncate(body.len().saturating_sub(cut.saturating_sub(150)));
            let ours = validate(&body, 64).is_ok();
            let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
            let value = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
            // `IgnoredAny` does not look at surrogates, `Value` refuses numbers out of range: ours lies between.
            prop_assert!(!ours || theirs, "{:?}", String::from_utf8_lossy(&body));
            prop_assert!(ours || !value, "{:?}", String::from_utf8_lossy(&body));
        }

        #[test]
        fn special_finds_what_a_plain_loop_finds(
            plain in prop_oneof![0usize..300, 4_000usize..4_400],
            bytes in proptest::collection::vec(any::<u8>(), 0..70),
        ) {
            let bytes = [vec![b'x'; plain], bytes].concat();
            let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            prop_assert_eq!(special(&bytes), plain);
        }
    }
}
