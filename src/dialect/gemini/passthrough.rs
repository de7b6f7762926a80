//! The same dialect on both sides: what is spliced into a request, and what is read off an answer.

use super::fault;
use super::wire::{Counts, DEEPEST};
use crate::dialect::{CONTROLS, Seen, Sniffer, To};
use crate::ir::{Fault, FaultKind};
use crate::wire::json::Raw;
use crate::wire::patch::Patch;
use crate::wire::scan::{self, Members};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// The model is in the path, so only our own controls and the target's quirks touch the body; and a `model` that some
/// SDKs repeat there, which must be the target's.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    for name in CONTROLS.into_iter().chain(to.quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &to.quirks.rename {
        patch.rename(members, body, ours, theirs);
    }
    if let Some(member) = members.get(body, "model") {
        let mut model = String::new();
        super::resource(to.model, &mut model);
        let mut json = Vec::new();
        writer::string(&mut json, &model);
        patch.replace_value(member, json);
    }
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
