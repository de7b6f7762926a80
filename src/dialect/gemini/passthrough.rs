//! The same dialect on both sides: what is spliced into a request, and what is read off an answer.

use super::fault;
use super::wire::{Glance, Lanes};
use crate::dialect::{CONTROLS, Seen, Sniffer, To};
use crate::ir::Fault;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
use crate::wire::sse::Frame;
use crate::wire::{json, writer};

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

/// Watches one answer. Each frame is read once, without a tree and without allocation; that is exact, where a search for
/// `"usageMetadata"` would also find the argument of a tool call that has this name.
#[derive(Debug, Default)]
pub(super) struct Watch {
    lanes: Lanes,
    blocked: bool,
    broken: bool,
}

impl Watch {
    fn look(&mut self, json: &[u8]) -> Seen {
        let Ok(glance) = serde_json::from_slice::<Glance<'_>>(json) else { return Seen::default() };
        let lanes = glance.candidates.unwrap_or_default();
        self.lanes.seen |= lanes.seen;
        self.lanes.finished |= lanes.finished;
        self.blocked |= glance.feedback.is_some_and(|feedback| feedback.blocked.is_some());
        self.broken |= glance.error.is_some();
        let content = lanes.content || lanes.finished != 0;
        let usage = glance.usage.and_then(|usage| usage.usage());
        Seen {
            content,
            usage_only: usage.is_some() && lanes.seen == 0 && !self.broken,
            usage,
            end: false,
            fault: glance.error.map(|_| error(json)),
        }
    }
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        self.look(frame.data.as_bytes())
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let mut seen = self.look(body);
        seen.usage_only = false;
        seen.end = self.whole();
        seen
    }

    fn whole(&self) -> bool {
        let finished = self.lanes.seen != 0 && self.lanes.finished == self.lanes.seen;
        !self.broken && (finished || (self.blocked && self.lanes.seen == 0))
    }
}

fn error(json: &[u8]) -> Fault {
    match json::read::<super::wire::Answer<'_>>(json).ok().and_then(|answer| answer.error) {
        Some(error) => fault::frame(&error),
        None => fault::read(500, json),
    }
}
