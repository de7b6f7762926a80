//! The same dialect on both sides: what is spliced into a request, and what is read off an answer.

use super::contents::PLACEHOLDER;
use super::thinking::Model;
use super::wire::{Bag, Counts, DEEPEST};
use super::{counting, fault, signature};
use crate::dialect::{CONTROLS, Seen, Sniffer, To, additions};
use crate::ir::{Fault, FaultKind};
use crate::wire::json::Raw;
use crate::wire::patch::Patch;
use crate::wire::scan::{self, Members};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// The model is in the path, so only our own controls and the target's quirks touch the body; and a `model` that some
/// SDKs repeat there, or `countTokens` has inside, which must be the target's. Proofs that we packed for other providers
/// are taken off: Google would refuse them.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    for name in CONTROLS.into_iter().chain(to.quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &to.quirks.rename {
        patch.rename(members, body, ours, theirs);
    }
    let mut json = Vec::new();
    writer::string(&mut json, &super::name_of(to.model));
    if let Some(member) = members.get(body, "model") {
        patch.replace_value(member, json.clone());
    }
    let packed = memchr::memmem::find(body, signature::MARK.as_bytes()).is_some();
    let text = |name: &str| {
        let member = members.get(body, name)?;
        std::str::from_utf8(body.get(member.value.clone())?).ok()
    };
    let refused = to.quirks.refuses.iter().any(|name| name == counting::WHOLE);
    if let Some(Ok(request)) = text(counting::WHOLE).filter(|_| refused).map(serde_json::from_str::<Bag<'_>>) {
        let mut counted = Vec::new();
        writer::object(&mut counted, |o| counting::write_counted(&request, o));
        return patch.replace(0..body.len(), counted);
    }
    for inner in [text("generateContentRequest"), text("generate_content_request")].into_iter().flatten() {
        let _ = scan::walk(inner, DEEPEST, &mut |name, value| match name {
            "model" => replace(body, value, json.clone(), patch),
            "contents" if packed => unproven(body, value, to, patch),
            _ => {}
        });
    }
    if let Some(contents) = text("contents").filter(|_| packed) {
        unproven(body, contents, to, patch);
    }
    additions::splice(body, members, to.quirks, patch);
}

/// Hands out the items of a list, or the one object in place of it.
fn items<'b>(json: &'b str, each: &mut dyn FnMut(&'b str)) {
    if json.starts_with('{') {
        return each(json);
    }
    let _ = scan::walk(json, DEEPEST, &mut |_, item| each(item));
}

/// Replaces a value that was cut out of the body.
fn replace(body: &[u8], value: &str, with: Vec<u8>, patch: &mut Patch) {
    let start = (value.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    let end = start.saturating_add(value.len());
    if body.get(start..end) == Some(value.as_bytes()) {
        patch.replace(start..end, with);
    }
}

/// Takes our own packed proofs out of contents. Where Gemini demands a signature, it gets the placeholder.
fn unproven(body: &[u8], contents: &str, to: &To<'_>, patch: &mut Patch) {
    let third = Model::of(to.model).is_third();
    items(contents, &mut |content| {
        let _ = scan::walk(content, DEEPEST, &mut |name, parts| {
            if name == "parts" {
                items(parts, &mut |part| one_unproven(body, part, third, patch));
            }
        });
    });
}

fn one_unproven(body: &[u8], part: &str, third: bool, patch: &mut Patch) {
    let (mut call, mut packed) = (false, None);
    let _ = scan::walk(part, DEEPEST, &mut |name, value| match name {
        "functionCall" | "function_call" => call = true,
        "thoughtSignature" | "thought_signature" if value.get(1..).is_some_and(is_packed) => packed = Some(value),
        _ => {}
    });
    if let Some(value) = packed {
        let mut with = Vec::new();
        if call && third {
            writer::string(&mut with, PLACEHOLDER);
        } else {
            with.extend_from_slice(b"null");
        }
        replace(body, value, with, patch);
    }
}

fn is_packed(value: &str) -> bool {
    value.starts_with(signature::MARK)
}

/// Watches one answer. Each frame is walked through once, without a tree and without allocation; that is exact, where a
/// search for `"usageMetadata"` would also find the argument of a tool call that has this name.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Candidates that were seen, and those that have a finish reason, a bit each; from the 64th on they share one.
    seen: u64,
    finished: u64,
    blocked: bool,
    failed: bool,
}

impl Watch {
    fn look(&mut self, json: &str) -> Seen {
        let mut seen = Seen::default();
        let mut candidates = false;
        let walked = scan::walk(json, DEEPEST, &mut |name, value| match name {
            "candidates" => {
                let _ = scan::walk(value, DEEPEST, &mut |_, candidate| {
                    candidates = true;
                    seen.content |= self.candidate(candidate);
                });
            }
            "usageMetadata" | "usage_metadata" => seen.usage = Counts::of(value).usage().or(seen.usage),
            "promptFeedback" | "prompt_feedback" => {
                let _ = scan::walk(value, DEEPEST, &mut |name, word| {
                    self.blocked |= matches!(name, "blockReason" | "block_reason") && word != "null";
                });
                // That the prompt was refused is all there is to say.
                seen.content |= self.blocked;
            }
            "error" if value != "null" => seen.fault = Raw::parse(value).ok().map(|error| fault::frame(&error)),
            _ => {}
        });
        if let Err(error) = walked {
            seen.fault = Some(Fault::new(FaultKind::Garbage, format!("not an answer of Gemini's: {error}")));
        }
        self.failed |= seen.fault.is_some();
        seen.usage_only = seen.usage.is_some() && !candidates && !seen.content && seen.fault.is_none();
        seen
    }

    /// A stream without `alt=sse`: a list of what would be its frames.
    fn list(&mut self, json: &str) -> Seen {
        let mut sum = Seen::default();
        let walked = scan::walk(json, DEEPEST, &mut |_, frame| {
            let seen = self.look(frame);
            sum.content |= seen.content;
            sum.usage = seen.usage.or(sum.usage);
            sum.fault = sum.fault.take().or(seen.fault);
        });
        match walked {
            Ok(()) => sum,
            // Says what is wrong.
            Err(_) => self.look(json),
        }
    }

    /// Whether a candidate says anything: a part, or that it is finished.
    fn candidate(&mut self, json: &str) -> bool {
        let (mut index, mut says, mut finished) = (0, false, false);
        let _ = scan::walk(json, DEEPEST, &mut |name, value| match name {
            "index" => index = value.parse().unwrap_or(0),
            "finishReason" | "finish_reason" => finished = value != "null",
            "content" => {
                let _ = scan::walk(value, DEEPEST, &mut |name, parts| {
                    if name == "parts" {
                        let _ = scan::walk(parts, DEEPEST, &mut |_, _| says = true);
                    }
                });
            }
            _ => {}
        });
        let bit = 1 << std::cmp::min(63_u32, index);
        self.seen |= bit;
        self.finished |= if finished { bit } else { 0 };
        says || finished
    }
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        match frame.data {
            "" => Seen::default(),
            data => self.look(data),
        }
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let mut seen = if text.trim_start().starts_with('[') { self.list(text) } else { self.look(text) };
        if seen.fault.is_none() && self.seen == 0 && !self.blocked {
            self.failed = true;
            seen.fault = Some(Fault::new(FaultKind::Garbage, "the answer has no candidates"));
        }
        seen.usage_only = false;
        seen.end = self.whole();
        seen
    }

    fn whole(&self) -> bool {
        let finished = self.seen != 0 && self.finished == self.seen;
        !self.failed && (finished || (self.blocked && self.seen == 0))
    }
}
