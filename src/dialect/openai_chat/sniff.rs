//! An answer that is passed through, watched: content, usage, faults and the end, without copying anything.
//!
//! Each frame is read by span in one pass, which checks it, keeps flags and borrows; only usage and faults are then read
//! as JSON. Reading, rather than searching for words, is what tells a member `usage` from a model that writes about
//! `"usage"`.

use crate::dialect::{Seen, Sniffer};
use crate::ir::{Fault, FaultKind, Usage};
use crate::wire::json::{Raw, clip};
use crate::wire::scan::{Cursor, ScanError};
use crate::wire::sse::Frame;

use super::{fault, usage};

/// Deepest nesting of an answer that is looked at, unless another is told.
const DEPTH: usize = 128;

/// Watches one answer.
pub struct Watch {
    depth: usize,
    done: bool,
    failed: bool,
    /// Choices that were seen, and those that were finished, one bit each.
    begun: u128,
    finished: u128,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { depth: DEPTH, done: false, failed: false, begun: 0, finished: 0 }
    }
}

impl Sniffer for Watch {
    fn checks(&mut self, depth: usize) -> bool {
        self.depth = depth;
        true
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data;
        if frame.comment || data.is_empty() {
            return Seen::default();
        }
        if data.trim() == "[DONE]" {
            self.done = true;
            return Seen { end: true, ..Seen::default() };
        }
        let Some(view) = View::read(data, self.depth) else { return self.garbage(data) };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && frame.event == "error" {
            self.failed = true;
            seen.fault = Raw::parse(data).ok().map(|raw| fault::in_stream(&raw));
        }
        seen
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Ok(text) = simdutf8::basic::from_utf8(body) else { return self.garbage("bytes that are not UTF-8") };
        let Some(view) = View::read(text, self.depth) else { return self.garbage(text) };
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

    fn garbage(&mut self, data: &str) -> Seen {
        self.failed = true;
        let message = format!("not a chat completion: {}", clip(data, 200));
        Seen { fault: Some(Fault::new(FaultKind::Garbage, message)), ..Seen::default() }
    }
}

/// Usage in a value; Groq wraps it in a member of its own.
fn counted(json: &str) -> Option<Usage> {
    crate::shape! { struct Wrapped { usage "usage": Raw<'a> } }
    if json == "null" {
        return None;
    }
    usage::count(json).or_else(|| usage::read(Raw::parse(json).ok()?.read::<Wrapped<'_>>().ok()?.usage.as_ref()))
}

/// What matters of a chunk or an answer, as it is written.
#[derive(Default)]
struct View<'a> {
    choices: Option<Choices<'a>>,
    usage: Option<&'a str>,
    groq: Option<&'a str>,
    error: Option<&'a str>,
    /// `"object":"error"`, with the text of the error beside it (Mistral).
    refused: bool,
    message: Option<&'a str>,
}

#[derive(Clone, Copy, Default)]
struct Choices<'a> {
    begun: u128,
    finished: u128,
    content: bool,
    usage: Option<&'a str>,
}

impl<'a> View<'a> {
    /// `None`: not JSON, too deep, not an object, or choices that are none.
    fn read(json: &'a str, depth: usize) -> Option<Self> {
        let mut view = View::default();
        let mut right = true;
        let mut cursor = Cursor::new(json, depth);
        let read = cursor.members(|name, cursor| {
            match name {
                "choices" if cursor.is_array() => {
                    let mut choices = Choices::default();
                    cursor.items(|cursor| {
                        right &= choices.read(cursor)?;
                        Ok(())
                    })?;
                    view.choices = Some(choices);
                }
                "choices" => right &= cursor.value()? == "null",
                "usage" => view.usage = Some(cursor.value()?),
                "x_groq" => view.groq = Some(cursor.value()?),
                "error" => view.error = Some(cursor.value()?),
                "message" => view.message = Some(cursor.value()?),
                "object" => view.refused = cursor.value()? == r#""error""#,
                _ => {}
            }
            Ok(())
        });
        (read.and_then(|()| cursor.end()).is_ok() && right).then_some(view)
    }

    fn fault(&self) -> Option<Fault> {
        let error = self.error.filter(|error| says(error)).or(self.message.filter(|_| self.refused))?;
        Some(fault::in_stream(&Raw::parse(error).ok()?))
    }
}

impl<'a> Choices<'a> {
    /// Whether the choice is one.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<bool, ScanError> {
        let (mut index, mut content, mut finished, mut right) = (0_u32, false, false, true);
        if !cursor.is_object() {
            return Ok(false);
        }
        cursor.members(|name, cursor| {
            match name {
                "index" => index = cursor.value()?.parse().unwrap_or(0),
                "delta" | "message" if cursor.is_object() => cursor.members(|name, cursor| {
                    content |= says(cursor.value()?) && !is_beside(name);
                    Ok(())
                })?,
                "delta" | "message" => right &= cursor.value()? == "null",
                "finish_reason" => finished = says(cursor.value()?),
                "usage" => self.usage = Some(cursor.value()?),
                _ => {}
            }
            Ok(())
        })?;
        let bit = 1_u128.checked_shl(index).unwrap_or(1 << 127);
        self.begun |= bit;
        if finished {
            self.finished |= bit;
        }
        self.content |= content || finished;
        Ok(right)
    }
}

/// Whether a member of a delta stands beside the content rather than is content.
fn is_beside(name: &str) -> bool {
    matches!(name, "role" | "channel" | "name" | "index" | "token_id" | "obfuscation" | "padding" | "p")
}

/// Whether a value is more than null or empty.
fn says(value: &str) -> bool {
    !matches!(value, "null" | r#""""# | "[]" | "{}")
}
