//! The same dialect on both sides: what is spliced into a request, and what is read off an answer. No caller speaks it
//! yet; the rules are those of every dialect.

use super::fault;
use super::wire::{self, says};
use crate::dialect::{CONTROLS, Seen, Sniffer, To};
use crate::ir::{Fault, FaultKind};
use crate::wire::json::{Raw, clip};
use crate::wire::patch::Patch;
use crate::wire::scan::{Members, walk};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// Deepest nesting of an answer that is looked at.
const DEPTH: usize = 128;

/// The target's model for the caller's, and the stream flag in so many words, since its default is not ours; our own
/// controls and what the target refuses taken out.
pub(super) fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
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
    let flag: &[u8] = if to.stream { b"true" } else { b"false" };
    match members.get(body, "stream") {
        Some(member) if body.get(member.value.clone()) == Some(flag) => {}
        Some(member) => patch.replace_value(member, flag),
        None => patch.insert(members, body, "stream", flag),
    }
}

/// Watches one answer. Lines are walked by span: those that only carry content cost no allocation.
#[derive(Debug, Default)]
pub(super) struct Watch {
    ended: bool,
    failed: bool,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() || self.ended {
            return Seen::default();
        }
        self.look(data)
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Ok(text) = std::str::from_utf8(body) else { return self.garbage("bytes that are not UTF-8") };
        let seen = self.look(text);
        if seen.fault.is_none() && !self.ended {
            return self.garbage(text);
        }
        Seen { content: seen.fault.is_none(), ..seen }
    }

    fn whole(&self) -> bool {
        self.ended && !self.failed
    }
}

impl Watch {
    fn look(&mut self, text: &str) -> Seen {
        let (mut content, mut done, mut right) = (false, false, text.trim_start().starts_with('{'));
        let (mut error, mut prompt, mut answer) = (None, None, None);
        let walked = walk(text, DEPTH, &mut |name, value| match name {
            "message" => {
                right &= walk(value, DEPTH, &mut |name, value| {
                    content |= name != "role" && !matches!(value, "null" | r#""""# | "[]");
                })
                .is_ok();
            }
            "done" => done = value == "true",
            "error" => error = Raw::parse(value).ok().filter(says),
            "prompt_eval_count" => prompt = Some(value),
            "eval_count" => answer = Some(value),
            _ => {}
        });
        if walked.is_err() || !right {
            return self.garbage(text);
        }
        if let Some(error) = error {
            return self.fail(fault::line(&error));
        }
        let count = |json: Option<&str>| json.and_then(|json| Raw::parse(json).ok().map(Raw::into_owned));
        let usage = done.then(|| wire::usage(count(prompt).as_ref(), count(answer).as_ref())).flatten();
        self.ended |= done;
        Seen { content: content || done, usage, end: done, ..Seen::default() }
    }

    fn fail(&mut self, fault: Fault) -> Seen {
        self.failed = true;
        Seen { fault: Some(fault), ..Seen::default() }
    }

    fn garbage(&mut self, data: &str) -> Seen {
        self.fail(Fault::new(FaultKind::Garbage, format!("not a line of a chat: {}", clip(data, 200))))
    }
}
