//! An answer that is passed through, watched: content, usage, faults and the end, without copying anything.
//!
//! Each frame is walked once by a cursor that keeps flags and borrowed spans; only usage and faults are then read as
//! JSON. (serde_json's skipping allocates for nested values, so it cannot do this walk.) Walking, rather than searching
//! for words, is what tells a member `usage` from a model that writes about `"usage"`.

use crate::dialect::{Seen, Sniffer};
use crate::ir::{Fault, FaultKind, Usage};
use crate::wire::json::{Raw, clip};
use crate::wire::sse::Frame;

use super::{fault, usage};

/// Watches one answer.
#[derive(Default)]
pub struct Watch {
    done: bool,
    failed: bool,
    /// Choices that were seen, and those that were finished, one bit each.
    begun: u128,
    finished: u128,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() {
            return Seen::default();
        }
        if data == "[DONE]" {
            self.done = true;
            return Seen { end: true, ..Seen::default() };
        }
        let Some(view) = View::read(data.as_bytes()) else { return self.garbage(data.as_bytes()) };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && frame.event == "error" {
            self.failed = true;
            seen.fault = Raw::parse(data).ok().map(|raw| fault::in_stream(&raw));
        }
        seen
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Some(view) = View::read(body) else { return self.garbage(body) };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && view.choices.is_none() {
            self.failed = true;
            seen.fault = Some(Fault::new(FaultKind::Garbage, "the answer has no choices"));
        }
        self.done = seen.fault.is_none();
        seen.end = self.done;
        seen.usage_only = false;
        seen
    }

    fn whole(&self) -> bool {
        !self.failed && (self.done || (self.begun != 0 && self.begun == self.finished))
    }
}

impl Watch {
    fn look(&mut self, view: &View<'_>) -> Seen {
        let choices = view.choices.unwrap_or_default();
        self.begun |= choices.begun;
        self.finished |= choices.finished;
        let fault = view.fault();
        self.failed |= fault.is_some();
        let usage = [view.usage, view.groq, choices.usage].into_iter().flatten().find_map(counted);
        Seen {
            content: choices.content,
            usage,
            usage_only: usage.is_some() && choices.begun == 0 && fault.is_none(),
            end: false,
            fault,
        }
    }

    fn garbage(&mut self, data: &[u8]) -> Seen {
        self.failed = true;
        let start = String::from_utf8_lossy(data.get(..200).unwrap_or(data));
        let message = format!("not a chat completion: {}", clip(&start, 200));
        Seen { fault: Some(Fault::new(FaultKind::Garbage, message)), ..Seen::default() }
    }
}

/// Usage in a value; Groq wraps it in a member of its own.
fn counted(json: &[u8]) -> Option<Usage> {
    crate::shape! { struct Wrapped { usage "usage": Raw<'a> } }
    let raw = parse(json)?;
    usage::read(Some(&raw)).or_else(|| usage::read(raw.read::<Wrapped<'_>>().ok()?.usage.as_ref()))
}

fn parse(json: &[u8]) -> Option<Raw<'_>> {
    Raw::parse(std::str::from_utf8(json).ok()?).ok()
}

/// What matters of a chunk or an answer. Spans are values that are not null.
#[derive(Default)]
struct View<'a> {
    choices: Option<Choices<'a>>,
    usage: Option<&'a [u8]>,
    groq: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    /// `"object":"error"`, with the text of the error beside it (Mistral).
    refused: bool,
    message: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Default)]
struct Choices<'a> {
    begun: u128,
    finished: u128,
    content: bool,
    usage: Option<&'a [u8]>,
}

impl<'a> View<'a> {
    /// `None`: not an object, or choices that are none.
    fn read(json: &'a [u8]) -> Option<Self> {
        let mut view = View::default();
        let mut cursor = Cursor { rest: json };
        cursor.members(|name, cursor| {
            match name {
                b"choices" if cursor.peek()? == b'[' => {
                    let choices = view.choices.insert(Choices::default());
                    return cursor.items(|cursor| choices.read(cursor));
                }
                b"choices" => cursor.value().filter(|value| !says(value))?,
                b"usage" => *view.usage.insert(cursor.value()?),
                b"x_groq" => *view.groq.insert(cursor.value()?),
                b"error" => *view.error.insert(cursor.value()?),
                b"message" => *view.message.insert(cursor.value()?),
                b"object" => {
                    let value = cursor.value()?;
                    view.refused = value == br#""error""#;
                    value
                }
                _ => cursor.value()?,
            };
            Some(())
        })?;
        cursor.peek().is_none().then_some(view)
    }

    fn fault(&self) -> Option<Fault> {
        let error = self.error.filter(|error| says(error)).or(self.message.filter(|_| self.refused))?;
        Some(fault::in_stream(&parse(error)?))
    }
}

impl<'a> Choices<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let (mut index, mut content, mut finished) = (0_u32, false, false);
        let usage = &mut self.usage;
        cursor.members(|name, cursor| {
            match name {
                b"index" => index = std::str::from_utf8(cursor.value()?).ok()?.parse().unwrap_or(0),
                b"delta" | b"message" if cursor.peek()? == b'{' => cursor.members(|name, cursor| {
                    // What stands beside the content rather than is content.
                    const BESIDE: [&[u8]; 8] =
                        [b"role", b"channel", b"name", b"index", b"token_id", b"obfuscation", b"padding", b"p"];
                    content |= says(cursor.value()?) && !BESIDE.contains(&name);
                    Some(())
                })?,
                b"delta" | b"message" => drop(cursor.value().filter(|value| *value == b"null")?),
                b"finish_reason" => finished = says(cursor.value()?),
                b"usage" => *usage = Some(cursor.value()?),
                _ => drop(cursor.value()?),
            }
            Some(())
        })?;
        let bit = 1_u128.checked_shl(index).unwrap_or(1 << 127);
        self.begun |= bit;
        if finished {
            self.finished |= bit;
        }
        self.content |= content || finished;
        Some(())
    }
}

/// Whether a value is more than null or empty.
fn says(value: &[u8]) -> bool {
    !matches!(value, b"null" | br#""""# | b"[]" | b"{}")
}

/// A place in JSON. Skips without checking what it skips: the body is passed on whatever it is. `None` is JSON cut
/// short, or another kind of value than the one asked for.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The next byte that is not space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    /// Reads an object; the visitor is given each name, as it is written, and takes the value.
    fn members(&mut self, mut visit: impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        if !self.eat(b'{') {
            return None;
        }
        if self.eat(b'}') {
            return Some(());
        }
        loop {
            self.peek()?;
            let name = self.string()?;
            let name = name.get(1..name.len() - 1)?;
            if !self.eat(b':') {
                return None;
            }
            visit(name, self)?;
            if self.eat(b'}') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// Reads an array; the visitor takes each item.
    fn items(&mut self, mut visit: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if !self.eat(b'[') {
            return None;
        }
        if self.eat(b']') {
            return Some(());
        }
        loop {
            visit(self)?;
            if self.eat(b']') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// Takes one value, whatever it is.
    fn value(&mut self) -> Option<&'a [u8]> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nest(),
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
                self.take(end).filter(|value| !value.is_empty())
            }
        }
    }

    /// Takes a string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = string_end(self.rest)?;
        self.take(end)
    }

    /// Takes an object or array by counting brackets.
    fn nest(&mut self) -> Option<&'a [u8]> {
        let (mut at, mut depth) = (0, 0_usize);
        loop {
            match self.rest.get(at)? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                b'"' => at += string_end(self.rest.get(at..)?)? - 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return self.take(at);
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// The length of the string that `json` begins with, quotes included.
fn string_end(json: &[u8]) -> Option<usize> {
    if json.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        match json.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}
