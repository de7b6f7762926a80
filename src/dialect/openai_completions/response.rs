//! Whole answers, written as `text_completion`; and what an answer depends on of its request.

use std::borrow::Cow;

use crate::dialect::openai_chat::response::write_shown;
use crate::dialect::openai_chat::usage;
use crate::dialect::openai_chat::wire::{finish_word, unscored};
use crate::dialect::{Asked, Shown};
use crate::ir::{Candidate, Content, FinishReason, Losses, MediaKind, Response};
use crate::wire::json::{Kind, clip};
use crate::wire::writer::{self, Object};

use super::logprobs;
use super::request::prompt;

/// What the caller asked of his answer's form.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The prompt, where it is to stand before each text.
    pub(super) echo: Option<String>,
    /// Characters of the prompt, from whose end offsets count.
    pub(super) offset: u64,
    /// Alternatives to each token.
    pub(super) tops: bool,
    /// No limit was given: the API's own holds.
    pub(super) unlimited: bool,
}

impl Wanted {
    pub(super) fn of(asked: &Asked<'_>) -> Wanted {
        if asked.members.is_none() {
            return Wanted::default();
        }
        let text = asked.member("prompt").and_then(|raw| prompt(&raw).ok());
        Wanted {
            offset: text.as_deref().map_or(0, logprobs::characters),
            tops: asked.member("logprobs").is_some_and(|raw| raw.kind() == Kind::Number && raw.get() != "0"),
            unlimited: asked.member("max_tokens").is_none(),
            echo: text
                .filter(|_| asked.member("echo").is_some_and(|raw| raw.get() == "true"))
                .map(|text| text.0.into_owned()),
        }
    }

    /// Names what is done here in the target's place.
    pub(super) fn name(&self, losses: &mut Losses) {
        if self.echo.is_some() {
            losses.emulated("echo");
        }
        if self.unlimited {
            losses.emulated("max_tokens");
        }
    }
}

/// Writes a whole answer for a caller.
pub(super) fn encode(response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let wanted = Wanted::of(&shown.asked);
    wanted.name(losses);
    writer::object(out, |o| {
        o.string("id", &id(&response.id, &shown.asked));
        o.string("object", "text_completion");
        o.number("created", response.created.unwrap_or(shown.now));
        o.string("model", if response.model.is_empty() { shown.asked.model } else { &response.model });
        o.array("choices", |a| {
            for candidate in &response.candidates {
                a.object(|o| write_choice(o, candidate, &wanted, losses));
            }
        });
        if let Some(counted) = &response.usage {
            o.object("usage", |o| usage::write(o, counted));
        }
        if let Some(fingerprint) = &response.fingerprint {
            o.string("system_fingerprint", fingerprint);
        }
        if response.service_tier.is_some() {
            losses.dropped("service_tier");
        }
        for (name, _) in response.extras.iter() {
            losses.dropped(name.to_owned());
        }
        write_shown(o, shown);
    });
}

/// The answer's id; where the provider gave none, one that is made of the call's.
pub(super) fn id<'i>(id: &'i str, asked: &Asked<'_>) -> Cow<'i, str> {
    if id.is_empty() { format!("cmpl-{}", asked.id).into() } else { id.into() }
}

fn write_choice(o: &mut Object<'_>, candidate: &Candidate<'_>, wanted: &Wanted, losses: &mut Losses) {
    let mut text = wanted.echo.clone().unwrap_or_default();
    for block in &candidate.blocks {
        for (name, _) in block.extras.iter() {
            losses.dropped(format!("content.{name}"));
        }
        text.push_str(said(&block.content, losses));
    }
    o.string("text", &text);
    o.number("index", u64::from(candidate.index));
    let mut offset = wanted.offset;
    if let Some(json) = &candidate.logprobs {
        unscored(json, losses);
    }
    match candidate.logprobs.as_ref().and_then(|json| logprobs::lists(json, wanted.tops, &mut offset)) {
        Some(lists) => o.value("logprobs").extend_from_slice(&lists),
        None => o.null("logprobs"),
    }
    let reason = candidate.finish.as_ref().map_or(FinishReason::Stop, |finish| finish.reason);
    o.string("finish_reason", word(reason, losses));
    for (name, _) in candidate.extras.iter() {
        losses.dropped(format!("choices.{name}"));
    }
}

/// The text of a block; what is no text is named.
pub(super) fn said<'c>(content: &'c Content<'_>, losses: &mut Losses) -> &'c str {
    match content {
        Content::Text { text, citations } => {
            if !citations.is_empty() {
                losses.dropped("content.citations");
            }
            text
        }
        // There is no other place for the model's own words of refusal.
        Content::Refusal(text) => {
            losses.altered("refusal");
            text
        }
        other => {
            losses.dropped(lost(other));
            ""
        }
    }
}

/// The name of a block that a text cannot show.
fn lost(content: &Content<'_>) -> Cow<'static, str> {
    match content {
        Content::Reasoning(_) => "reasoning".into(),
        Content::ToolCall(_) => "tool_calls".into(),
        Content::Media(media) => match media.kind {
            MediaKind::Image => "content.image".into(),
            MediaKind::Audio => "content.audio".into(),
            MediaKind::Video => "content.video".into(),
            MediaKind::File => "content.file".into(),
        },
        Content::Other { kind, .. } => format!("content.{}", clip(kind, 80)).into(),
        _ => "content".into(),
    }
}

/// The word for why the text ended; the API has no word for calls.
pub(super) fn word(reason: FinishReason, losses: &mut Losses) -> &'static str {
    let (word, less) = finish_word(reason, false);
    let (word, less) = if word == "tool_calls" { ("stop", true) } else { (word, less) };
    if less {
        losses.altered("finish_reason");
    }
    word
}
