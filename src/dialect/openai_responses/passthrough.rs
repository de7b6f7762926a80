//! A request of this dialect on its way to a provider of this dialect: a few spans are edited, every other byte stays.
//!
//! Beside the model and the provider's quirks, what is ours goes: thoughts of another issuer, which the turn before was
//! answered with, and which the provider would refuse to read.

use std::ops::Range;

use crate::dialect::{Asked, CONTROLS, To};
use crate::wire::json::{Raw, Text};
use crate::wire::patch::Patch;
use crate::wire::scan::{Member, Members, walk};
use crate::wire::writer;

use super::carry;

/// Deepest nesting that is looked into; the body's own limit is settled before.
const DEPTH: usize = 1_000;

/// Edits that make a caller's body fit the target.
pub fn splice(body: &[u8], members: &Members, to: &To<'_>, patch: &mut Patch) {
    let quirks = to.quirks;
    let refuses = |name: &str| quirks.refuses.iter().any(|refused| refused == name);
    if let Some(member) = members.get(body, "model") {
        let mut model = Vec::with_capacity(to.model.len() + 2);
        writer::string(&mut model, to.model);
        if value(body, member).as_bytes() != model {
            patch.replace_value(member, model);
        }
    }
    // The gateway has put the conversation so far before the input.
    for name in CONTROLS.into_iter().chain(["previous_response_id"]).chain(quirks.refuses.iter().map(String::as_str)) {
        patch.remove(members, body, name);
    }
    for (ours, theirs) in &quirks.rename {
        if members.get(body, ours).is_none() || ours == theirs {
            continue;
        }
        if refuses(theirs) {
            patch.remove(members, body, ours);
        } else if !refuses(ours) {
            patch.remove(members, body, theirs);
            patch.rename(members, body, ours, theirs);
        }
    }
    if quirks.no_stream_options {
        patch.remove(members, body, "stream_options");
    }
    if let Some(input) = members.get(body, "input").filter(|input| value(body, input).starts_with('[')) {
        items(body, input, quirks.no_developer_role, patch);
    }
}

/// Says in an answer, or in an event that has it, what it goes on from and whether it is kept: both are the gateway's affair,
/// and the provider knows nothing of them, or what it was told instead.
pub fn restate(json: &str, asked: &Asked<'_>, patch: &mut Patch) {
    let mut response = json;
    // What is not JSON is for others to find.
    let _ = walk(json, DEPTH, &mut |name, value| {
        if name == "response" && value.starts_with('{') {
            response = value;
        }
    });
    let _ = walk(response, DEPTH, &mut |name, value| {
        let other = match name {
            "previous_response_id" => asked.member(name).map_or_else(|| "null".to_owned(), |raw| raw.get().to_owned()),
            "store" => asked.member(name).map_or_else(|| "true".to_owned(), |raw| raw.get().to_owned()),
            _ => return,
        };
        if value != other {
            let at = (value.as_ptr() as usize).wrapping_sub(json.as_ptr() as usize);
            patch.replace(at..at + value.len(), other);
        }
    });
}

/// Edits items of the input.
fn items(body: &[u8], input: &Member, no_developer: bool, patch: &mut Patch) {
    const ROLE: &str = r#""developer""#;
    let json = value(body, input);
    let holds = |text: &str| memchr::memmem::find(json.as_bytes(), text.as_bytes()).is_some();
    let roles = no_developer && holds(ROLE);
    // A name may be written with escapes, and our ids may not: they are looked for in what is likely to have them.
    let thoughts = holds("reasoning");
    if !roles && !thoughts {
        return;
    }
    let mut spans: Vec<(Range<usize>, bool)> = Vec::new();
    // What is not a list of objects is for the provider to refuse.
    let _ = walk(json, DEPTH, &mut |_, item| {
        let foreign = thoughts && is_foreign(item);
        spans.push((span(input, json, item), foreign));
        if roles && !foreign {
            let _ = walk(item, DEPTH, &mut |name, role| {
                if name == "role" && role == ROLE {
                    patch.replace(span(input, json, role), *br#""system""#);
                }
            });
        }
    });
    cut(&spans, patch);
}

/// Takes items out of a list, each with the comma that is then too many.
fn cut(spans: &[(Range<usize>, bool)], patch: &mut Patch) {
    let first = spans.iter().position(|(_, gone)| !gone);
    let mut before = 0;
    for (i, (span, gone)) in spans.iter().enumerate() {
        if *gone {
            match first {
                // Before the first that stays: up to where the next one begins.
                Some(first) if i < first => {
                    let next = spans.get(i + 1).map_or(span.end, |(next, _)| next.start);
                    patch.replace(span.start..next, Vec::new());
                }
                // After it: from where the one before ended.
                Some(_) => patch.replace(before..span.end, Vec::new()),
                // All go.
                None if i == 0 => {
                    let end = spans.last().map_or(span.end, |(last, _)| last.end);
                    patch.replace(span.start..end, Vec::new());
                }
                None => {}
            }
        }
        before = span.end;
    }
}

/// Whether an item holds thoughts that this provider did not think: it carries another's proof, or it has an id of our
/// making and nothing that the provider could read.
fn is_foreign(item: &str) -> bool {
    let (mut reasoning, mut ours, mut made, mut encrypted) = (false, false, false, false);
    let text = |value: &str| Raw::parse(value).ok().and_then(|raw| Some(raw.read::<Text<'_>>().ok()?.to_string()));
    let walked = walk(item, DEPTH, &mut |name, value| match name {
        "type" => reasoning = value == r#""reasoning""#,
        "id" => made = text(value).is_some_and(|id| carry::is_made(&id)),
        "encrypted_content" if value.starts_with('"') => {
            encrypted = true;
            ours = value.get(1..).is_some_and(carry::is_ours);
        }
        _ => {}
    });
    walked.is_ok() && reasoning && (ours || made && !encrypted)
}

fn value<'b>(body: &'b [u8], member: &Member) -> &'b str {
    body.get(member.value.clone()).and_then(|json| std::str::from_utf8(json).ok()).unwrap_or_default()
}

/// The span in the body of a piece of a member's value.
fn span(member: &Member, json: &str, piece: &str) -> Range<usize> {
    let at = member.value.start + (piece.as_ptr() as usize).wrapping_sub(json.as_ptr() as usize);
    at..at + piece.len()
}
