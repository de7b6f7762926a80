//! The same dialect on both sides: what is spliced into a request, and what is read off an answer.

use super::fault;
use super::usage::Tally;
use super::wire::{Answer, Begun, Counts, Glance};
use crate::dialect::{CONTROLS, Seen, Sniffer, To, additions};
use crate::ir::{Fault, FaultKind};
use crate::wire::json::{Raw, clip};
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
use crate::wire::sse::Frame;
use crate::wire::writer;

/// The target's model for the caller's; our own controls and what the target refuses taken out.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    let refuses = |name: &str| to.quirks.refuses.iter().any(|refused| refused == name);
    for name in CONTROLS.into_iter().chain(to.quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &to.quirks.rename {
        if members.get(body, ours).is_none() || ours == theirs || refuses(ours) {
            continue;
        }
        if refuses(theirs) {
            patch.remove(members, body, ours);
        } else {
            // The provider's own name may be there too; a member must not be repeated.
            patch.remove(members, body, theirs);
            patch.rename(members, body, ours, theirs);
        }
    }
    let mut json = Vec::new();
    writer::string(&mut json, to.model);
    match members.get(body, "model") {
        Some(member) => patch.replace_value(member, json),
        None if to.quirks.no_model => {}
        None => patch.insert(members, body, "model", &json),
    }
    additions::splice(body, members, to.quirks, patch);
}

/// Watches one answer. A frame is read as JSON, not searched for words, since a model may write them too; of frames that
/// only carry content nothing is kept, so that they cost no allocation.
#[derive(Debug, Default)]
pub(super) struct Watch {
    tally: Tally,
    ended: bool,
    failed: bool,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() || self.ended {
            return Seen::default();
        }
        let glance = match serde_json::from_str::<Glance<'_>>(data) {
            Ok(glance) => glance,
            Err(_) if data == "[DONE]" => return Seen::default(),
            Err(e) => return self.garbage(&e),
        };
        let mut seen = Seen::default();
        match glance.kind.as_deref().unwrap_or(frame.event) {
            "content_block_delta" => seen.content = true,
            "content_block_start" => {
                // Words and thoughts begin empty, at times long before the first of them.
                let block = glance.block.and_then(|block| block.open::<Begun<'_>>().ok()).unwrap_or_default();
                seen.content = !matches!(block.kind.as_deref(), Some("text" | "thinking"));
            }
            "message_start" => {
                let message = glance.message.and_then(|message| message.open::<Answer<'_>>().ok()).unwrap_or_default();
                // A turn that code of the model's began comes whole with its start.
                seen.content = message.content.is_some_and(|content| !content.is_empty());
                self.count(message.usage.as_ref(), &mut seen);
            }
            "message_delta" => {
                seen.content = true;
                let counts = glance.usage.and_then(|usage| usage.open::<Counts<'_>>().ok());
                self.count(counts.as_ref(), &mut seen);
            }
            "message_stop" => {
                self.ended = true;
                seen.end = true;
            }
            "error" => {
                self.failed = true;
                let none = Raw::literal("{}");
                seen.fault = Some(fault::event(glance.error.as_ref().unwrap_or(&none)));
            }
            _ => {}
        }
        seen
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let glance = match serde_json::from_slice::<Glance<'_>>(body) {
            Ok(glance) => glance,
            Err(e) => return self.garbage(&e),
        };
        if glance.error.is_some() || glance.content.is_none() {
            self.failed = true;
            let fault = match glance.error {
                Some(error) => fault::event(&error),
                None => Fault::new(FaultKind::Garbage, "the answer has no content"),
            };
            return Seen { fault: Some(fault), ..Seen::default() };
        }
        let mut seen = Seen { content: true, end: true, ..Seen::default() };
        self.ended = true;
        let counts = glance.usage.and_then(|usage| usage.open::<Counts<'_>>().ok());
        self.count(counts.as_ref(), &mut seen);
        seen
    }

    fn whole(&self) -> bool {
        self.ended && !self.failed
    }
}

impl Watch {
    fn count(&mut self, counts: Option<&Counts<'_>>, seen: &mut Seen) {
        if let Some(counts) = counts {
            self.tally.take(counts);
            seen.usage = self.tally.usage();
        }
    }

    fn garbage(&mut self, error: &serde_json::Error) -> Seen {
        self.failed = true;
        let message = format!("not an event of Messages: {}", clip(&error.to_string(), 300));
        Seen { fault: Some(Fault::new(FaultKind::Garbage, message)), ..Seen::default() }
    }
}
