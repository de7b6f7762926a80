//! Parts of an answer, written for a caller: shared by whole answers and streams, so that they cannot differ.

use std::borrow::Cow;

use super::media::{beside_all, data, is_google_file, nested};
use super::signature::{Proof, carry};
use super::wire::Bag;
use crate::ir::{Content, Finish, FinishReason, Losses, Media, MediaKind, Source, ToolCall, ToolKind, Usage};
use crate::shape;
use crate::wire::json::{Extras, Kind, Number, Raw, Text, clip};
use crate::wire::writer::{self, Object};

/// What one part says.
#[derive(Clone, Copy)]
pub(super) enum Piece<'p> {
    Text(&'p str),
    Thought(&'p str),
    Call(&'p ToolCall<'p>),
    Media(&'p Media<'p>),
    /// A part of a kind that only this dialect has, whole.
    Raw(&'p Raw<'p>),
}

/// Writes one part.
pub(super) fn write(
    piece: Piece<'_>,
    signature: Option<&str>,
    extras: &Extras<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) {
    if let Piece::Raw(json) = piece {
        return out.extend_from_slice(json.get().as_bytes());
    }
    writer::object(out, |o| {
        match piece {
            Piece::Text(text) => o.string("text", text),
            Piece::Thought(text) => {
                o.string("text", text);
                o.bool("thought", true);
            }
            Piece::Call(call) => o.object("functionCall", |o| {
                write_call(call, o, losses);
                nested(extras, "functionCall").for_each(|(name, json)| o.raw(name, json));
            }),
            Piece::Media(media) => data(media, &media.source, true, &Extras::default(), o),
            Piece::Raw(_) => {}
        }
        if let Some(signature) = signature {
            o.string("thoughtSignature", signature);
        }
        beside_all(extras).for_each(|(name, json)| o.raw(name, json));
    });
}

fn write_call(call: &ToolCall<'_>, o: &mut Object<'_>, losses: &mut Losses) {
    if !call.id.is_empty() {
        o.string("id", &call.id);
    }
    o.string("name", &call.name);
    let arguments = match call.arguments.trim() {
        "" | "null" => Some(Raw::literal("{}")),
        text => Raw::parse(text).ok().filter(|json| json.kind() == Kind::Object),
    };
    match arguments {
        Some(json) if call.kind == ToolKind::Function => o.raw("args", &json),
        _ => {
            // Arguments are an object here; what is none becomes a member of one.
            o.object("args", |o| o.string("input", &call.arguments));
            losses.altered("content.tool_call.arguments");
        }
    }
}

/// Media as a piece, or `None`, the loss named, where a caller could not read it.
pub(super) fn media<'p>(media: &'p Media<'p>, losses: &mut Losses) -> Option<Piece<'p>> {
    match &media.source {
        Source::Text(text) => Some(Piece::Text(text)),
        Source::Id(id) if !is_google_file(id) => {
            losses.dropped(match media.kind {
                MediaKind::Image => "content.image",
                MediaKind::Audio => "content.audio",
                MediaKind::Video => "content.video",
                MediaKind::File => "content.file",
            });
            None
        }
        _ => Some(Piece::Media(media)),
    }
}

/// Kinds of Converse's blocks that the IR has no word for (AWS API reference "ContentBlock", seen 2026-11-21).
const CONVERSE: [&str; 9] = [
    "audio",
    "cachePoint",
    "citationsContent",
    "document",
    "guardContent",
    "image",
    "searchResult",
    "toolResult",
    "video",
];

/// A block of another dialect's, or one of ours: those name their kind as a member (`{"executableCode":{..}}`), where
/// others have a `type`, and Converse, which names its kinds alike, has [`CONVERSE`].
pub(super) fn is_own(kind: &str, json: &Raw<'_>) -> bool {
    !CONVERSE.contains(&kind)
        && json.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.get(kind).is_some() && bag.extras.get("type").is_none())
}

/// The name of a block that cannot be shown.
pub(super) fn lost(content: &Content<'_>) -> String {
    match content {
        Content::Other { kind, .. } => format!("content.{}", clip(kind, 80)),
        Content::ToolResult(_) => "content.tool_result".to_owned(),
        _ => "content".to_owned(),
    }
}

/// The proofs that wait for a part to stand on, and the signature that a part may have of its own.
///
/// Google's own are one to a part. Where two meet, those that wait get a part without text, as Google's streams have.
pub(super) fn sign<'s>(
    waiting: &'s mut Vec<Proof>,
    own: Option<&'s str>,
    bare: &mut dyn FnMut(&str),
) -> Option<Cow<'s, str>> {
    if own.is_some() {
        if let Some(signature) = carry(waiting) {
            bare(&signature);
        }
        waiting.clear();
        return own.map(Cow::Borrowed);
    }
    let signature = carry(waiting).map(|signature| Cow::Owned(signature.into_owned()));
    waiting.clear();
    signature
}

/// Words of `FinishReason` that others have too, with what they mean there (Gemini API reference, seen 2026-11-21).
const OTHERS: [&str; 7] = [
    "OTHER",
    "LANGUAGE",
    "IMAGE_OTHER",
    "FINISH_REASON_UNSPECIFIED",
    "ESCALATION",
    "CONTINUATION",
    "PUP_LIMITED_DISABLED",
];

/// The word for why the model stopped. The second is whether it says less than was meant.
pub(super) fn finish_word<'f>(finish: &'f Finish<'_>) -> (&'f str, bool) {
    let native = finish.native.as_deref().filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    if let Some(word) = native {
        let known = super::response::finish(Text::from(word)).reason;
        let settled = finish.reason == FinishReason::ToolCalls && known == FinishReason::Stop;
        if OTHERS.contains(&word) || settled || (known == finish.reason && known != FinishReason::Other) {
            return (word, false);
        }
    }
    match finish.reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls => ("STOP", false),
        FinishReason::Length => ("MAX_TOKENS", false),
        FinishReason::ContentFilter | FinishReason::Refusal => ("SAFETY", false),
        FinishReason::Pause | FinishReason::Error | FinishReason::Other => ("OTHER", true),
    }
}

/// Writes `usageMetadata`: candidates without thoughts, the prompt without what tools put into it.
pub(super) fn write_usage(usage: Option<&Usage>, tier: Option<&str>, traffic: Option<&Raw<'_>>, o: &mut Object<'_>) {
    if let Some(usage) = usage {
        write_counts(usage, o);
    }
    if let Some(tier) = tier {
        o.string("serviceTier", tier_word(tier));
    }
    if let Some(traffic) = traffic {
        o.raw("trafficType", traffic);
    }
}

fn write_counts(usage: &Usage, o: &mut Object<'_>) {
    o.number("promptTokenCount", usage.input.saturating_sub(usage.tool_prompt));
    o.number("candidatesTokenCount", usage.output.saturating_sub(usage.reasoning));
    o.number("totalTokenCount", usage.total());
    for (name, count) in [
        ("cachedContentTokenCount", usage.cached),
        ("thoughtsTokenCount", usage.reasoning),
        ("toolUsePromptTokenCount", usage.tool_prompt),
    ] {
        if count > 0 {
            o.number(name, count);
        }
    }
    for (name, count) in [("promptTokensDetails", usage.audio_input), ("candidatesTokensDetails", usage.audio_output)] {
        if count > 0 {
            o.array(name, |a| {
                a.object(|o| {
                    o.string("modality", "AUDIO");
                    o.number("tokenCount", count);
                });
            });
        }
    }
}

/// Google's word for a service tier.
pub(super) fn tier_word(tier: &str) -> &str {
    if tier == "default" { "standard" } else { tier }
}

/// Names the counts that `usageMetadata` has no place for.
pub(super) fn uncounted(usage: &Usage, losses: &mut Losses) {
    for (name, count) in usage.parts() {
        let none = ["cache_write", "cache_write_1h", "accepted_prediction", "rejected_prediction", "searches"];
        if count > 0 && none.contains(&name) {
            losses.dropped(format!("usage.{name}"));
        }
    }
}

shape! {
    /// Log probabilities in OpenAI's shape.
    struct Probabilities {
        content "content": Vec<TokenOf<'a>>,
        refusal "refusal": Raw<'a>,
        reasoning "reasoning_content": Raw<'a>,
    }
}

shape! {
    struct TokenOf { token "token": Text<'a>, logprob "logprob": Number<'a>, top "top_logprobs": Vec<TokenOf<'a>> }
}

/// Writes the value of `logprobsResult` and tells the mean (`avgLogprobs`). The bytes of tokens, which OpenAI tells
/// too, say nothing that the tokens do not. `None`, the loss named: there is nothing to write.
pub(super) fn logprobs(json: &Raw<'_>, out: &mut Vec<u8>, losses: &mut Losses) -> Option<f64> {
    fn write(token: &TokenOf<'_>, o: &mut Object<'_>) {
        o.string("token", token.token.as_deref().unwrap_or_default());
        if let Some(logprob) = &token.logprob {
            o.digits("logProbability", logprob);
        }
    }
    let Ok(Probabilities { content: Some(tokens), refusal, reasoning, .. }) = json.read::<Probabilities<'_>>() else {
        losses.dropped("logprobs");
        return None;
    };
    if refusal.is_some() {
        losses.dropped("logprobs.refusal");
    }
    if reasoning.is_some_and(|list| !matches!(list.get(), "null" | "[]")) {
        losses.dropped("logprobs.reasoning_content");
    }
    writer::object(out, |o| {
        o.array("chosenCandidates", |a| tokens.iter().for_each(|token| a.object(|o| write(token, o))));
        if tokens.iter().any(|token| token.top.as_ref().is_some_and(|top| !top.is_empty())) {
            o.array("topCandidates", |a| {
                for token in &tokens {
                    a.object(|o| {
                        o.array("candidates", |a| {
                            token.top.iter().flatten().for_each(|token| a.object(|o| write(token, o)));
                        });
                    });
                }
            });
        }
    });
    let known: Vec<f64> = tokens.iter().filter_map(|token| token.logprob.as_ref()).map(Number::as_f64).collect();
    Some(known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_converse_are_not_ours() {
        assert!(is_own("executableCode", &Raw::literal(r#"{"executableCode":{"code":"1"}}"#)));
        assert!(!is_own("toolResult", &Raw::literal(r#"{"toolResult":{"toolUseId":"t"}}"#)));
    }
}
