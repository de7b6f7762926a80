//! The shapes of Cohere's bodies and events. Members that are looked at apart are kept raw, so that an odd one never
//! spoils a whole answer.

use crate::ir::{Finish, FinishReason};
use crate::shape;
use crate::wire::json::{Extras, Kind, Number, Raw, Text, TextOr};

shape! {
    /// A whole answer. An error has its sentence where an answer has its message.
    pub(super) struct Answer {
        id "id": Text<'a>,
        reason "finish_reason": Text<'a>,
        message "message": TextOr<'a, Message<'a>>,
        usage "usage": Raw<'a>,
        logprobs "logprobs": Raw<'a>,
    }
}

shape! {
    pub(super) struct Message {
        role "role": Text<'a>,
        content "content": TextOr<'a, Vec<Raw<'a>>>,
        plan "tool_plan": Text<'a>,
        calls "tool_calls": Vec<Call<'a>>,
        citations "citations": Vec<Raw<'a>>,
    }
}

shape! {
    pub(super) struct Part { kind "type": Text<'a>, text "text": Text<'a>, thinking "thinking": Text<'a> }
}

shape! {
    /// A tool call, whole or (in a stream) a piece of one.
    pub(super) struct Call { id "id": Text<'a>, kind "type": Text<'a>, function "function": Function<'a> }
}

shape! {
    pub(super) struct Function { name "name": Text<'a>, arguments "arguments": Raw<'a> }
}

shape! {
    /// What a citation says of the content that it belongs to.
    pub(super) struct Citation { kind "type": Text<'a>, content "content_index": Raw<'a> }
}

shape! {
    /// One event of a stream.
    pub(super) struct Event {
        kind "type": Text<'a>,
        id "id": Text<'a>,
        index "index": Raw<'a>,
        delta "delta": Delta<'a>,
        logprobs "logprobs": Raw<'a>,
    }
}

shape! {
    pub(super) struct Delta {
        message "message": Piece<'a>,
        reason "finish_reason": Text<'a>,
        usage "usage": Raw<'a>,
        error "error": Raw<'a>,
        error_type "error_type": Text<'a>,
    }
}

shape! {
    /// The part of a message that an event brings: an object where an answer has a list.
    pub(super) struct Piece {
        role "role": Text<'a>,
        content "content": Raw<'a>,
        plan "tool_plan": Text<'a>,
        calls "tool_calls": Raw<'a>,
        citations "citations": Raw<'a>,
    }
}

/// `finish_reason` and what it means. `ERROR_TOXIC` and `ERROR_LIMIT` are of version 1 and still seen in its SDKs.
const REASONS: [(&str, FinishReason); 9] = [
    ("COMPLETE", FinishReason::Stop),
    ("STOP_SEQUENCE", FinishReason::StopSequence),
    ("MAX_TOKENS", FinishReason::Length),
    ("TOOL_CALL", FinishReason::ToolCalls),
    ("ERROR_TOXIC", FinishReason::ContentFilter),
    ("ERROR_LIMIT", FinishReason::Length),
    ("ERROR", FinishReason::Error),
    ("TIMEOUT", FinishReason::Error),
    ("USER_CANCEL", FinishReason::Error),
];

pub(super) fn finish(native: Text<'_>) -> Finish<'_> {
    let known = REASONS.iter().find(|(word, _)| native == *word);
    Finish { reason: known.map_or(FinishReason::Other, |(_, reason)| *reason), sequence: None, native: Some(native) }
}

/// Arguments of a call: text that is JSON by rule; an object is taken as it is written.
pub(super) fn arguments(raw: Option<Raw<'_>>) -> Text<'_> {
    match raw {
        None => Text::default(),
        Some(raw) if raw.kind() == Kind::String => raw.open().unwrap_or_default(),
        Some(raw) if raw.is_null() => Text::default(),
        Some(raw) => raw.into_text(),
    }
}

/// An object, or the objects of a list.
pub(super) fn each(raw: Raw<'_>) -> Vec<Raw<'_>> {
    match raw.kind() {
        Kind::Array => raw.open().unwrap_or_default(),
        Kind::Object => vec![raw],
        _ => Vec::new(),
    }
}

/// A count, which Cohere also writes as `12.0`.
pub(super) fn whole(raw: Option<&Raw<'_>>) -> Option<u64> {
    raw?.read::<Number<'_>>().ok()?.as_u64()
}

/// Whether a raw value is more than null or empty.
pub(super) fn says(raw: &Raw<'_>) -> bool {
    match raw.kind() {
        Kind::Null => false,
        Kind::String | Kind::Array | Kind::Object => raw.get().len() > 2,
        Kind::Number | Kind::Bool => true,
    }
}

/// The members that say something, each under `prefix`.
pub(super) fn adopt<'a>(into: &mut Extras<'a>, prefix: &str, extras: Extras<'a>) {
    for (name, json) in extras.0.into_iter().filter(|(_, json)| says(json)) {
        let name = if prefix.is_empty() { name } else { Text::from(format!("{prefix}.{name}")) };
        into.push(name, json);
    }
}
