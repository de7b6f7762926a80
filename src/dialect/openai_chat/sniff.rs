//! An answer that is passed through, watched: content, usage, faults and the end, without copying anything.
//!
//! Each frame is walked by span, which keeps flags and borrows; only usage and faults are then read as JSON. Walking,
//! rather than searching for words, is what tells a member `usage` from a model that writes about `"usage"`.

use crate::dialect::{Seen, Sniffer};
use crate::ir::{Fault, FaultKind, Usage};
use crate::wire::json::{Raw, clip};
use crate::wire::scan::walk;
use crate::wire::sse::Frame;

use super::{fault, usage};

/// Deepest nesting of an answer that is looked at.
const DEPTH: usize = 128;

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
        let Some(view) = View::read(data) else { return self.garbage(data) };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && frame.event == "error" {
            self.failed = true;
            seen.fault = Raw::parse(data).ok().map(|raw| fault::in_stream(&raw));
        }
        seen
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Ok(text) = std::str::from_utf8(body) else { return self.garbage("bytes that are not UTF-8") };
        let Some(view) = View::read(text) else { return self.garbage(text) };
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
    let raw = Raw::parse(json).ok()?;
    usage::read(Some(&raw)).or_else(|| usage::read(raw.read::<Wrapped<'_>>().ok()?.usage.as_ref()))
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
    /// `None`: not an object, or choices that are none.
    fn read(json: &'a str) -> Option<Self> {
        if !json.trim_ascii_start().starts_with('{') {
            return None;
        }
        let mut view = View::default();
        let mut right = true;
        let walked = walk(json, DEPTH, &mut |name, value| match name {
            "choices" if value.starts_with('[') => {
                let mut choices = Choices::default();
                right &= walk(value, DEPTH, &mut |_, choice| right &= choices.read(choice)).is_ok();
                view.choices = Some(choices);
            }
            "choices" => right &= value == "null",
            "usage" => view.usage = Some(value),
            "x_groq" => view.groq = Some(value),
            "error" => view.error = Some(value),
            "message" => view.message = Some(value),
            "object" => view.refused = value == r#""error""#,
            _ => {}
        });
        (walked.is_ok() && right).then_some(view)
    }

    fn fault(&self) -> Option<Fault> {
        let error = self.error.filter(|error| says(error)).or(self.message.filter(|_| self.refused))?;
        Some(fault::in_stream(&Raw::parse(error).ok()?))
    }
}

impl<'a> Choices<'a> {
    /// Whether the choice is one.
    fn read(&mut self, json: &'a str) -> bool {
        let (mut index, mut content, mut finished, mut right) = (0_u32, false, false, json.starts_with('{'));
        let walked = walk(json, DEPTH, &mut |name, value| match name {
            "index" => index = value.parse().unwrap_or(0),
            "delta" | "message" if value.starts_with('{') => {
                right &= walk(value, DEPTH, &mut |name, value| content |= says(value) && !is_beside(name)).is_ok();
            }
            "delta" | "message" => right &= value == "null",
            "finish_reason" => finished = says(value),
            "usage" => self.usage = Some(value),
            _ => {}
        });
        let bit = 1_u128.checked_shl(index).unwrap_or(1 << 127);
        self.begun |= bit;
        if finished {
            self.finished |= bit;
        }
        self.content |= content || finished;
        right && walked.is_ok()
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
