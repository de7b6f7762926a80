//! A JSON text on its way through one pass, looked into where somebody wants to.

use std::borrow::Cow;

use super::ScanError;
use super::grammar::{Quoted, Scanner};

/// A JSON text on its way through one pass: what is looked into is descended into, all else is checked and skipped.
pub struct Cursor<'b> {
    json: &'b str,
    scanner: Scanner<'b>,
}

impl<'b> Cursor<'b> {
    /// Stands before the first value.
    pub fn new(json: &'b str, max_depth: usize) -> Self {
        let mut scanner = Scanner::new(json.as_bytes(), max_depth);
        scanner.space();
        Cursor { json, scanner }
    }

    /// Whether the value that comes is an object.
    pub fn is_object(&self) -> bool {
        self.scanner.peek() == Some(b'{')
    }

    /// Whether the value that comes is an array.
    pub fn is_array(&self) -> bool {
        self.scanner.peek() == Some(b'[')
    }

    /// Takes the value that comes, as it is written.
    ///
    /// # Errors
    /// It is not JSON, or too deep.
    pub fn value(&mut self) -> Result<&'b str, ScanError> {
        let start = self.scanner.at;
        self.scanner.value()?;
        Ok(self.json.get(start..self.scanner.at).unwrap_or_default())
    }

    /// Takes an object, member by member. `each` is told a name, between its quotes with its escapes, and takes the
    /// value that comes; one that it does not take is skipped.
    ///
    /// # Errors
    /// It is not an object, not JSON, or too deep.
    pub fn members(&mut self, each: impl FnMut(&'b str, &mut Self) -> Result<(), ScanError>) -> Result<(), ScanError> {
        if self.is_object() { self.elements(true, each) } else { Err(ScanError::NotAnObject) }
    }

    /// Takes an array, item by item, as [`Cursor::members`] does an object.
    ///
    /// # Errors
    /// It is not an array, not JSON, or too deep.
    pub fn items(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), ScanError>) -> Result<(), ScanError> {
        if self.is_array() { self.elements(false, |_, cursor| each(cursor)) } else { Err(ScanError::NotAnObject) }
    }

    /// Nothing but white space may come.
    ///
    /// # Errors
    /// Something comes.
    pub fn end(&mut self) -> Result<(), ScanError> {
        self.scanner.end()
    }

    /// First byte of what comes.
    pub(in crate::wire) fn peek(&self) -> Option<u8> {
        self.scanner.peek()
    }

    pub(in crate::wire) fn space(&mut self) {
        self.scanner.space();
    }

    /// Takes one byte of the grammar.
    pub(in crate::wire) fn skip(&mut self, byte: u8) -> Result<(), ScanError> {
        self.scanner.byte(byte, "a comma, colon or bracket")
    }

    /// Takes a string, its escapes undone.
    pub(in crate::wire) fn string(&mut self) -> Result<Cow<'b, str>, ScanError> {
        let Quoted { span, escaped } = self.scanner.string("a string")?;
        let inside = self.json.get(span).unwrap_or_default();
        Ok(if escaped { Cow::Owned(unescape(inside)) } else { Cow::Borrowed(inside) })
    }

    pub(super) fn elements(
        &mut self,
        object: bool,
        mut each: impl FnMut(&'b str, &mut Self) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        let Some(inside) = self.scanner.limit.checked_sub(1) else {
            return Err(ScanError::TooDeep { at: self.scanner.at, limit: self.scanner.max_depth });
        };
        let outside = std::mem::replace(&mut self.scanner.limit, inside);
        let close = if object { b'}' } else { b']' };
        self.scanner.at += 1;
        self.scanner.space();
        while self.scanner.peek() != Some(close) {
            let mut name = "";
            if object {
                let span = self.scanner.string("a member's name in quotes")?.span;
                name = self.json.get(span).unwrap_or_default();
                self.scanner.space();
                self.scanner.byte(b':', "a colon")?;
                self.scanner.space();
            }
            let start = self.scanner.at;
            each(name, self)?;
            if self.scanner.at == start {
                self.scanner.value()?;
            }
            self.scanner.space();
            match self.scanner.peek() {
                Some(b',') => {
                    self.scanner.at += 1;
                    self.scanner.space();
                    if self.scanner.peek() == Some(close) {
                        return Err(self.scanner.wanted(if object {
                            "a member's name in quotes"
                        } else {
                            "a JSON value"
                        }));
                    }
                }
                Some(byte) if byte == close => {}
                _ if object => return Err(self.scanner.wanted("a comma or a closing brace")),
                _ => return Err(self.scanner.wanted("a comma or a closing bracket")),
            }
        }
        self.scanner.at += 1;
        self.scanner.limit = outside;
        Ok(())
    }
}

/// The inside of a string without its escapes, which the scan has found to be good.
fn unescape(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, escape)) = memchr::memchr(b'\\', rest.as_bytes()).and_then(|at| rest.split_at_checked(at)) {
        text.push_str(plain);
        let length = match escape.as_bytes().get(1) {
            Some(b'u') => {
                let half = |from: usize| u32::from_str_radix(escape.get(from..from + 4)?, 16).ok();
                let first = half(2).unwrap_or_default();
                // A pair: the scan lets no half stand alone.
                let pair = (0xd800..0xdc00).contains(&first);
                let code = if pair {
                    0x10000 + ((first - 0xd800) << 10) + (half(8).unwrap_or_default() & 0x3ff)
                } else {
                    first
                };
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                if pair { 12 } else { 6 }
            }
            other => {
                text.push(match other {
                    Some(b'b') => '\u{8}',
                    Some(b'f') => '\u{c}',
                    Some(b'n') => '\n',
                    Some(b'r') => '\r',
                    Some(b't') => '\t',
                    Some(byte) => char::from(*byte),
                    None => break,
                });
                2
            }
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}
