//! How thoughts and their signatures travel in a dialect that has no place of its own for them.
//!
//! OpenAI's Chat Completions neither show nor take reasoning. Others have agreed on carriers, and callers' SDKs keep
//! them from answer to next request: `reasoning_content` (DeepSeek and most), `reasoning` (OpenRouter, Groq, vLLM),
//! `reasoning_details` (OpenRouter: entries with text, signature or encrypted data, and a `format` that tells the
//! issuer), and on tool calls Google's `extra_content.google.thought_signature`. Towards callers these are our carriers
//! too, so that a signature comes back to its issuer byte for byte (pages seen 2026-11-21).

use crate::ir::{Block, Content, Reasoning};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{Array, Object};

use super::wire::{Detail, Message, google_signature, some};

/// `format` and the dialect whose provider it names. Any other format is the issuer's name as it is.
const FORMATS: [(&str, &str); 3] =
    [("anthropic-claude-v1", "anthropic"), ("google-gemini-v1", "gemini"), ("openai-responses-v1", "openai_responses")];

/// The issuer that Google's own carrier implies.
pub const GEMINI: &str = "gemini";

pub fn issuer(format: Text<'_>) -> Text<'_> {
    match FORMATS.iter().find(|(name, _)| format == *name) {
        Some((_, issuer)) => Text::from(*issuer),
        None => format,
    }
}

pub fn format(issuer: &str) -> &str {
    FORMATS.iter().find(|(_, name)| *name == issuer).map_or(issuer, |(format, _)| format)
}

/// What one entry of `reasoning_details` says; `None` when it says nothing.
pub fn detail<'a>(detail: Detail<'a>) -> Option<Reasoning<'a>> {
    let summary = detail.kind.as_ref().is_some_and(|kind| kind == "reasoning.summary");
    let reasoning = Reasoning {
        text: some(if summary { detail.summary } else { detail.text }),
        summary,
        signature: some(detail.signature),
        encrypted: some(detail.data),
        issuer: some(detail.format).filter(|format| format != "unknown").map(issuer),
        id: some(detail.id),
    };
    (reasoning.text.is_some() || reasoning.signature.is_some() || reasoning.encrypted.is_some()).then_some(reasoning)
}

/// Takes the reasoning out of a message: blocks in order, each thought once, whichever carriers told of it.
pub fn take<'a>(message: &mut Message<'a>) -> Vec<Block<'a>> {
    let plain = some(message.reasoning_content.take()).or(some(message.reasoning.take()));
    let mut thoughts: Vec<Reasoning<'a>> = Vec::new();
    for next in message.reasoning_details.take().unwrap_or_default().into_iter().filter_map(detail) {
        match thoughts.last_mut() {
            Some(last) if continues(last, &next) => {
                last.encrypted = next.encrypted;
                last.issuer = last.issuer.take().or(next.issuer);
            }
            _ => thoughts.push(next),
        }
    }
    if let Some(text) = plain.filter(|_| thoughts.iter().all(|thought| thought.text.is_none())) {
        // The signature may have come without the text that it signs.
        match thoughts.iter_mut().find(|thought| thought.signature.is_some()) {
            Some(signed) => signed.text = Some(text),
            None => thoughts.insert(0, Reasoning { text: Some(text), ..Reasoning::default() }),
        }
    }
    if let Some(signature) = google_signature(message.extra_content.as_ref()) {
        message.extra_content = None;
        if !thoughts.iter().any(|thought| thought.signature.as_ref() == Some(&signature)) {
            let issuer = Some(Text::from(GEMINI));
            thoughts.push(Reasoning { signature: Some(signature), issuer, ..Reasoning::default() });
        }
    }
    thoughts.into_iter().map(|thought| Block::new(Content::Reasoning(thought))).collect()
}

/// OpenAI's items have a summary and an encryption under one id.
fn continues(last: &Reasoning<'_>, next: &Reasoning<'_>) -> bool {
    last.id.is_some()
        && last.id == next.id
        && next.text.is_none()
        && last.encrypted.is_none()
        && next.encrypted.is_some()
}

/// Google's endpoint signs whole messages by a carrier of its own.
pub fn is_bare_google(thought: &Reasoning<'_>) -> bool {
    thought.text.is_none()
        && thought.encrypted.is_none()
        && thought.signature.is_some()
        && thought.issuer.as_ref().is_some_and(|issuer| issuer == GEMINI)
}

/// Whether a text alone would lose something of one thought.
pub fn is_detailed(thought: &Reasoning<'_>) -> bool {
    thought.signature.is_some()
        || thought.encrypted.is_some()
        || thought.issuer.is_some()
        || thought.id.is_some()
        || thought.summary
}

/// Whether a text alone would lose something of them all.
pub fn are_detailed(thoughts: &[&Reasoning<'_>]) -> bool {
    thoughts.len() > 1 || thoughts.iter().any(|thought| is_detailed(thought))
}

/// Writes the texts of all thoughts as one member.
pub fn write_text(o: &mut Object<'_>, name: &str, thoughts: &[&Reasoning<'_>]) {
    if thoughts.iter().any(|thought| thought.text.is_some()) {
        let text: String = thoughts.iter().filter_map(|thought| thought.text.as_deref()).collect();
        o.string(name, &text);
    }
}

/// Writes `reasoning_details`: all thoughts, so that they need no other carrier beside them.
pub fn write_details(o: &mut Object<'_>, thoughts: &[&Reasoning<'_>]) {
    o.array("reasoning_details", |a| {
        let mut index = 0;
        for thought in thoughts {
            write_thought(a, thought, &mut index);
        }
    });
}

fn write_thought(a: &mut Array<'_>, thought: &Reasoning<'_>, index: &mut u64) {
    if thought.text.is_some() || thought.signature.is_some() {
        let piece = Piece { text: thought.text.as_deref(), signature: thought.signature.as_deref(), data: None };
        write_piece(a, thought, piece, true, *index);
        *index += 1;
    }
    if thought.encrypted.is_some() {
        let piece = Piece { data: thought.encrypted.as_deref(), ..Piece::default() };
        write_piece(a, thought, piece, true, *index);
        *index += 1;
    }
}

/// What one entry brings.
#[derive(Clone, Copy, Default)]
pub struct Piece<'p> {
    pub text: Option<&'p str>,
    pub signature: Option<&'p str>,
    pub data: Option<&'p str>,
}

/// Writes one entry of `reasoning_details` for `thought`. `named` adds format and id: once for an index, because SDKs
/// that merge streamed entries append strings to strings.
pub fn write_piece(a: &mut Array<'_>, thought: &Reasoning<'_>, piece: Piece<'_>, named: bool, index: u64) {
    a.object(|o| {
        let text = if thought.summary { "summary" } else { "text" };
        match (piece.data, thought.summary) {
            (Some(_), _) => o.string("type", "reasoning.encrypted"),
            (None, true) => o.string("type", "reasoning.summary"),
            (None, false) => o.string("type", "reasoning.text"),
        }
        for (name, value) in [(text, piece.text), ("signature", piece.signature), ("data", piece.data)] {
            if let Some(value) = value {
                o.string(name, value);
            }
        }
        if let (true, Some(issuer)) = (named, &thought.issuer) {
            o.string("format", format(issuer));
        }
        if let (true, Some(id)) = (named, &thought.id) {
            o.string("id", id);
        }
        o.number("index", index);
    });
}

/// A part of Mistral's content lists: `thinking` as text, or as a list of text parts.
pub fn thinking<'a>(raw: &Raw<'a>) -> Option<Text<'a>> {
    if let Ok(text) = raw.open::<Text<'a>>() {
        return some(Some(text));
    }
    let parts: Vec<super::wire::Part<'a>> = raw.open().ok()?;
    let mut texts = parts.into_iter().filter_map(|part| some(part.text));
    let first = texts.next()?;
    match texts.next() {
        None => Some(first),
        Some(second) => {
            let rest: String = texts.map(|text| text.0).collect();
            Some(Text::from(format!("{first}{second}{rest}")))
        }
    }
}
