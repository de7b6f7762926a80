//! JSON out: objects and arrays written straight into one buffer, without a tree between.
//!
//! The writer owns commas and braces, so that an encoder reads like the JSON it makes:
//!
//! ```
//! use portolan::wire::writer;
//! let mut out = Vec::new();
//! writer::object(&mut out, |o| {
//!     o.string("model", "m\"1");
//!     o.array("stop", |a| a.string("\n"));
//!     o.object("usage", |o| o.number("total", 3));
//! });
//! assert_eq!(out, br#"{"model":"m\"1","stop":["\n"],"usage":{"total":3}}"#);
//! ```

use crate::wire::json::{Extras, Number, Raw};
use crate::wire::scan::special;

/// Writes one object.
pub fn object(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    members(&mut Object { out, empty: true });
    out.push(b'}');
}

/// Writes one array.
pub fn array(out: &mut Vec<u8>, items: impl FnOnce(&mut Array<'_>)) {
    out.push(b'[');
    items(&mut Array { out, empty: true });
    out.push(b']');
}

/// Writes one string, quoted and escaped.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Writes a whole number.
pub fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Writes the inside of a string: JSON escapes for quote, backslash and control characters (RFC 8259 section 7).
pub fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = tail.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                let nibble = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[nibble(byte >> 4), nibble(byte & 15)]);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// An object being written.
pub struct Object<'w> {
    out: &'w mut Vec<u8>,
    empty: bool,
}

impl Object<'_> {
    /// Writes a member's name and hands out the buffer for its value; the caller writes exactly one value.
    pub fn value(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub fn string(&mut self, name: &str, text: &str) {
        string(self.value(name), text);
    }

    pub fn number(&mut self, name: &str, n: u64) {
        number(self.value(name), n);
    }

    pub fn bool(&mut self, name: &str, yes: bool) {
        self.literal(name, if yes { "true" } else { "false" });
    }

    pub fn null(&mut self, name: &str) {
        self.literal(name, "null");
    }

    /// A JSON literal of ours.
    pub fn literal(&mut self, name: &str, json: &'static str) {
        self.value(name).extend_from_slice(json.as_bytes());
    }

    pub fn raw(&mut self, name: &str, json: &Raw<'_>) {
        self.value(name).extend_from_slice(json.get().as_bytes());
    }

    /// A number as it was written.
    pub fn digits(&mut self, name: &str, n: &Number<'_>) {
        self.value(name).extend_from_slice(n.get().as_bytes());
    }

    pub fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        object(self.value(name), members);
    }

    pub fn array(&mut self, name: &str, items: impl FnOnce(&mut Array<'_>)) {
        array(self.value(name), items);
    }

    pub fn extras(&mut self, extras: &Extras<'_>) {
        for (name, json) in extras.iter() {
            self.raw(name, json);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.empty
    }
}

/// An array being written.
pub struct Array<'w> {
    out: &'w mut Vec<u8>,
    empty: bool,
}

impl Array<'_> {
    /// Hands out the buffer for the next item; the caller writes exactly one value.
    pub fn value(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    pub fn string(&mut self, text: &str) {
        string(self.value(), text);
    }

    pub fn number(&mut self, n: u64) {
        number(self.value(), n);
    }

    pub fn raw(&mut self, json: &Raw<'_>) {
        self.value().extend_from_slice(json.get().as_bytes());
    }

    pub fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        object(self.value(), members);
    }

    pub fn is_empty(&self) -> bool {
        self.empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives() {
        let text: String = (0..0x3000).filter_map(char::from_u32).chain("\u{1F600}\u{10FFFF}".chars()).collect();
        let mut out = Vec::new();
        string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn commas_stand_between_members_only() {
        let mut out = Vec::new();
        object(&mut out, |o| {
            o.array("a", |a| {
                a.number(1);
                a.object(|_| {});
                a.raw(&Raw::literal("null"));
            });
            o.null("b");
            o.bool("c", false);
        });
        assert_eq!(std::str::from_utf8(&out).unwrap(), r#"{"a":[1,{},null],"b":null,"c":false}"#);
    }
}
