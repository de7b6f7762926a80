//! The same dialect on both sides: what is spliced into a request, and what is read off an answer. No caller speaks it
//! yet; the rules are those of every dialect.

use super::wire::says;
use super::{fault, usage};
use crate::dialect::{CONTROLS, Seen, Sniffer, To};
use crate::ir::{Fault, FaultKind};
use crate::wire::json::{Raw, Text, clip};
use crate::wire::patch::Patch;
use crate::wire::scan::{Members, walk};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// Deepest nesting of an answer that is looked at.
const DEPTH: usize = 128;

/// The target's model for the caller's; our own controls and what the target refuses taken out.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    // `priority` is a member of Cohere's too; towards us it is ours.
    for name in CONTROLS.into_iter().chain(to.quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &to.quirks.rename {
        patch.rename(members, body, ours, theirs);
    }
    let mut json = Vec::new();
    writer::string(&mut json, to.model);
    match members.get(body, "model") {
        Some(member) => patch.replace_value(member, json),
        None => patch.insert(members, body, "model", &json),
    }
}

/// Watches one answer. Frames are walked by span: those that only carry content cost no allocation.
#[derive(Debug, Default)]
pub(super) struct Watch {
    ended: bool,
    failed: bool,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() || data == "[DONE]" || self.ended {
            return Seen::default();
        }
        let (mut kind, mut delta) = (None, None);
        let walked = walk(data, DEPTH, &mut |name, value| match name {
            "type" => kind = Some(value),
            "delta" => delta = Some(value),
            _ => {}
        });
        if walked.is_err() || !data.starts_with('{') {
            return self.garbage(data);
        }
        let kind = kind.map_or(frame.event, |kind| kind.trim_matches('"'));
        match kind {
            "content-start" | "content-delta" | "tool-plan-delta" | "tool-call-start" | "tool-call-delta" => {
                Seen { content: true, ..Seen::default() }
            }
            "message-end" => self.finish(delta.unwrap_or("{}")),
            "error" => self.fail(fault::event(data)),
            _ => Seen::default(),
        }
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Ok(text) = std::str::from_utf8(body) else { return self.garbage("bytes that are not UTF-8") };
        let (mut message, mut counts, mut reason) = (None, None, None);
        let walked = walk(text, DEPTH, &mut |name, value| match name {
            "message" => message = Some(value),
            "usage" => counts = Some(value),
            "finish_reason" => reason = Some(value),
            _ => {}
        });
        if walked.is_err() || !text.trim_start().starts_with('{') {
            return self.garbage(text);
        }
        if !message.is_some_and(|message| message.starts_with('{')) {
            return self.fail(fault::read(200, body));
        }
        let usage = counts.and_then(|json| usage::read(Raw::parse(json).ok().as_ref()));
        if let Some(word) = reason.and_then(failure) {
            return Seen { usage, ..self.fail(fault::broken(Some(word), None, None)) };
        }
        self.ended = true;
        Seen { content: true, usage, end: true, ..Seen::default() }
    }

    fn whole(&self) -> bool {
        self.ended && !self.failed
    }
}

impl Watch {
    fn finish(&mut self, delta: &str) -> Seen {
        let (mut counts, mut reason, mut error, mut code) = (None, None, None, None);
        let walked = walk(delta, DEPTH, &mut |name, value| match name {
            "usage" => counts = Some(value),
            "finish_reason" => reason = Some(value),
            "error" => error = Raw::parse(value).ok().filter(says),
            "error_type" => code = Some(value),
            _ => {}
        });
        if walked.is_err() {
            return self.garbage(delta);
        }
        let usage = counts.and_then(|json| usage::read(Raw::parse(json).ok().as_ref()));
        let word = reason.and_then(failure);
        if word.is_some() || error.is_some() {
            let code = code.and_then(|json| serde_json::from_str::<Text<'_>>(json).ok());
            return Seen { usage, ..self.fail(fault::broken(word, code.as_deref(), error.as_ref())) };
        }
        self.ended = true;
        Seen { content: true, usage, end: true, ..Seen::default() }
    }

    fn fail(&mut self, fault: Fault) -> Seen {
        self.failed = true;
        Seen { fault: Some(fault), ..Seen::default() }
    }

    fn garbage(&mut self, data: &str) -> Seen {
        self.fail(Fault::new(FaultKind::Garbage, format!("not an event of Chat: {}", clip(data, 200))))
    }
}

/// The word of a reason that says failure.
fn failure(json: &str) -> Option<&str> {
    let word = json.trim_matches('"');
    (super::wire::finish(word.into()).reason == crate::ir::FinishReason::Error).then_some(word)
}
