//! The events of a stream as bytes: their frame, and the members that several of them share.

use crate::dialect::ErrorShape;
use crate::dialect::openai_chat::fault as chat_fault;
use crate::wire::json::{Raw, Text};
use crate::wire::sse;
use crate::wire::writer::{self, Object};

use super::output::Part;

/// The part of an item that is open.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Open {
    #[default]
    Nothing,
    Text,
    Refusal,
    Summary,
    Thought,
}

impl Open {
    /// The events that add to a part's text, and that end it.
    pub fn events(self) -> (&'static str, &'static str) {
        match self {
            Open::Text | Open::Nothing => ("response.output_text.delta", "response.output_text.done"),
            Open::Refusal => ("response.refusal.delta", "response.refusal.done"),
            Open::Summary => ("response.reasoning_summary_text.delta", "response.reasoning_summary_text.done"),
            Open::Thought => ("response.reasoning_text.delta", "response.reasoning_text.done"),
        }
    }
}

/// Writes one event, on one line of data whatever white space the request that it repeats has: not every client puts
/// lines together.
pub fn frame(number: &mut u64, name: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    sse::write_event(out, name, |out| {
        let start = out.len();
        writer::object(out, |o| {
            o.string("type", name);
            o.number("sequence_number", *number);
            members(o);
        });
        if out.get(start..).is_some_and(|data| memchr::memchr2(b'\n', b'\r', data).is_some()) {
            // Between strings they are only space, and within they are escaped.
            let data = out.split_off(start);
            out.extend(data.into_iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        }
    });
    *number += 1;
}

/// Writes the member `part`.
pub fn write_part(o: &mut Object<'_>, part: Open, whole: Option<&Part<'_>>, text: &str) {
    let out = o.value("part");
    match (part, whole) {
        (Open::Summary | Open::Thought, _) => writer::object(out, |o| {
            o.string("type", if part == Open::Summary { "summary_text" } else { "reasoning_text" });
            o.string("text", text);
        }),
        (_, Some(whole)) => whole.write(out),
        (_, None) => Part { refusal: part == Open::Refusal, ..Part::default() }.write(out),
    }
}

pub fn write_list(out: &mut Vec<u8>, items: &[u8]) {
    out.push(b'[');
    out.extend_from_slice(items);
    out.push(b']');
}

/// Writes an `error` event. Its members stand twice: the reference has them at the top, OpenAI sends them in `error`, and
/// the SDKs raise what they find there.
pub fn write_error(error: &ErrorShape<'_>, number: u64, out: &mut Vec<u8>) {
    crate::shape! { struct Said { error "error": Raw<'a> } }
    crate::shape! { struct Inner { code "code": Raw<'a>, message "message": Raw<'a>, param "param": Raw<'a> } }
    let mut said = Vec::new();
    chat_fault::write(error, &mut said);
    let said: Said<'_> = serde_json::from_slice(&said).unwrap_or_default();
    let Some(raw) = said.error else { return };
    let inner: Inner<'_> = raw.read().unwrap_or_default();
    sse::write_event(out, "error", |out| {
        writer::object(out, |o| {
            o.string("type", "error");
            o.number("sequence_number", number);
            for (name, json) in [("code", inner.code), ("message", inner.message), ("param", inner.param)] {
                match json {
                    Some(json) => o.raw(name, &json),
                    None => o.null(name),
                }
            }
            o.raw("error", &raw);
        });
    });
}

/// The code of an error body.
pub fn code(body: &[u8]) -> Option<String> {
    crate::shape! { struct Said { error "error": Inner<'a> } }
    crate::shape! { struct Inner { code "code": Text<'a> } }
    let said: Said<'_> = serde_json::from_slice(body).ok()?;
    Some(said.error?.code?.to_string())
}
