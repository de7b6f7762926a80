//! Whole answers: a provider's body into the IR, and the IR into a caller's `chat.completion`.

use crate::dialect::Shown;
use crate::ir::message::CacheMark;
use crate::ir::{
    Block, Candidate, Content, FinishReason, Losses, Media, MediaKind, Reasoning, Response, Source, ToolCall, ToolKind,
};
use crate::wire::json::{self, Extras, Invalid, Kind, Number, Raw, Text, TextOr};
use crate::wire::writer::{self, Array, Object};

use super::wire::{
    Answer, Audio, Call, Choice, Message, ORIGIN, adopt, arguments, finish, finish_word, google_signature, invalid,
    is_annotation, is_nested, nested, some, whole, write_google_signature,
};
use super::{message, reasoning, turns, usage};

/// Reads a whole answer.
///
/// # Errors
/// The body is not an answer: not JSON, without choices, or an error in place of one.
pub fn decode<'a>(body: &'a [u8]) -> Result<Response<'a>, Invalid> {
    let answer: Answer<'a> = json::read(body)?;
    let Some(choices) = answer.choices else {
        let error = answer.error.filter(|error| !error.is_null());
        return Err(match error {
            Some(error) => {
                invalid("error", format!("an error in place of an answer: {}", json::clip(error.get(), 400)))
            }
            None => invalid("choices", "a value is required"),
        });
    };
    let mut extras = Extras::default();
    adopt(&mut extras, "", answer.extras);
    if let Some(error) = answer.error.filter(|error| !error.is_null()) {
        extras.push("error", error);
    }
    let mut counted = usage::read(answer.usage.as_ref());
    let mut candidates = Vec::with_capacity(choices.len().min(128));
    for (i, choice) in choices.into_iter().enumerate() {
        counted = counted.or_else(|| usage::read(choice.usage.as_ref()));
        candidates.push(candidate(i, choice));
    }
    Ok(Response {
        origin: ORIGIN,
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        created: whole(answer.created.as_ref()),
        candidates,
        usage: counted,
        service_tier: some(answer.service_tier),
        fingerprint: some(answer.fingerprint),
        extras,
    })
}

fn candidate<'a>(i: usize, choice: Choice<'a>) -> Candidate<'a> {
    let mut extras = Extras::default();
    adopt(&mut extras, "", choice.extras);
    let mut blocks = Vec::new();
    // `delta` in a whole answer (Perplexity) repeats the message or is empty.
    if let Some(message) = choice.message.or(choice.delta) {
        said(message, &mut blocks, &mut extras);
    }
    Candidate {
        index: whole(choice.index.as_ref()).and_then(|n| u32::try_from(n).ok()).unwrap_or(i as u32),
        blocks,
        finish: choice.finish.and_then(finish),
        logprobs: choice.logprobs.filter(|raw| !raw.is_null()),
        extras,
    }
}

fn said<'a>(mut message: Message<'a>, blocks: &mut Vec<Block<'a>>, extras: &mut Extras<'a>) {
    blocks.append(&mut reasoning::take(&mut message));
    match message.content {
        None => {}
        Some(TextOr::Text(text)) if text.is_empty() => {}
        Some(TextOr::Text(text)) => blocks.push(Block::text(text)),
        Some(TextOr::Full(parts)) => blocks.extend(parts.into_iter().filter_map(part)),
    }
    let mut others = message.extras;
    if let Some(raw) = others.take("annotations") {
        cite(raw, blocks, &mut others);
    }
    if let Some(text) = some(message.refusal) {
        blocks.push(Block::new(Content::Refusal(text)));
    }
    blocks.extend(message.images.unwrap_or_default().into_iter().filter_map(part));
    blocks.extend(message.audio.and_then(audio));
    blocks.extend(message.tool_calls.unwrap_or_default().into_iter().map(call));
    if let Some(function) = message.function_call
        && let Some(name) = some(function.name)
    {
        let call = ToolCall { name, arguments: arguments(function.arguments), ..ToolCall::default() };
        blocks.push(Block::new(Content::ToolCall(call)));
    }
    if let Some(json) = message.extra_content {
        others.push("extra_content", json);
    }
    adopt(extras, "message", others);
}

/// A part of a content list, of a provider that sends such (Mistral). `None`: it says nothing.
pub fn part(raw: Raw<'_>) -> Option<Block<'_>> {
    let Ok(block) = message::part(raw.clone()) else {
        return Some(Block::new(Content::Other { kind: Text::from("unknown"), json: raw }));
    };
    let empty = match &block.content {
        Content::Text { text, .. } => text.is_empty(),
        Content::Reasoning(thought) => thought.text.is_none(),
        _ => false,
    };
    (!empty).then_some(block)
}

fn cite<'a>(raw: Raw<'a>, blocks: &mut [Block<'a>], others: &mut Extras<'a>) {
    let text = blocks.iter_mut().rev().find_map(|block| match &mut block.content {
        Content::Text { citations, .. } => Some(citations),
        _ => None,
    });
    match (raw.open::<Vec<Raw<'a>>>(), text) {
        (Ok(list), _) if list.is_empty() => {}
        (Ok(mut list), Some(citations)) => citations.append(&mut list),
        _ => others.push("annotations", raw),
    }
}

fn audio(audio: Audio<'_>) -> Option<Block<'_>> {
    let mut extras = Extras::default();
    let source = match (some(audio.id), some(audio.data)) {
        (Some(id), Some(data)) => {
            let mut quoted = Vec::new();
            writer::string(&mut quoted, &id);
            extras.push("id", Raw::trusted(String::from_utf8(quoted).ok()?));
            Source::Base64(data)
        }
        (None, Some(data)) => Source::Base64(data),
        (Some(id), None) => Source::Id(id),
        (None, None) => return None,
    };
    adopt(&mut extras, "", audio.extras);
    let media = Media { kind: MediaKind::Audio, source, mime: None, name: None, detail: None };
    Some(Block::with(Content::Media(media), None, extras))
}

fn call(shape: Call<'_>) -> Block<'_> {
    let mut extras = Extras::default();
    adopt(&mut extras, "", shape.extras);
    let mut call = ToolCall {
        id: shape.id.unwrap_or_default(),
        signature: google_signature(shape.extra_content.as_ref()),
        ..ToolCall::default()
    };
    let custom = shape.kind.as_ref().is_some_and(|kind| kind == "custom");
    match (shape.function, shape.custom) {
        (function, Some(spec)) if custom || function.is_none() => {
            adopt(&mut extras, "custom", spec.extras);
            call.kind = ToolKind::Custom;
            call.name = spec.name.unwrap_or_default();
            call.arguments = spec.input.unwrap_or_default();
        }
        (Some(function), _) => {
            adopt(&mut extras, "function", function.extras);
            call.name = function.name.unwrap_or_default();
            call.arguments = arguments(function.arguments);
        }
        _ => {}
    }
    Block::with(Content::ToolCall(call), shape.cache.map(CacheMark), extras)
}

/// Writes a whole answer for a caller.
pub fn encode(response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let own = response.origin == ORIGIN;
    writer::object(out, |o| {
        o.string("id", &response.id);
        o.string("object", "chat.completion");
        o.number("created", response.created.unwrap_or(shown.now));
        o.string("model", &response.model);
        o.array("choices", |a| {
            for candidate in &response.candidates {
                a.object(|o| write_candidate(o, response, candidate, own, losses));
            }
        });
        if let Some(counted) = &response.usage {
            o.object("usage", |o| usage::write(o, counted));
        }
        if let Some(tier) = &response.service_tier {
            o.string("service_tier", tier);
        }
        if let Some(fingerprint) = &response.fingerprint {
            o.string("system_fingerprint", fingerprint);
        }
        for (name, json) in response.extras.iter() {
            if own {
                o.raw(name, json);
            } else {
                losses.dropped(name.to_owned());
            }
        }
        write_shown(o, shown);
    });
}

/// Writes what Portolan adds, where the cost is known.
pub fn write_shown(o: &mut Object<'_>, shown: &Shown<'_>) {
    if shown.costs.is_empty() {
        return;
    }
    o.bool("cached", shown.cached);
    for (name, amount) in shown.costs {
        match serde_json::from_str::<Number<'_>>(amount) {
            Ok(number) => o.digits(name, &number),
            Err(_) => o.string(name, amount),
        }
    }
}

fn write_candidate(
    o: &mut Object<'_>,
    response: &Response<'_>,
    candidate: &Candidate<'_>,
    own: bool,
    losses: &mut Losses,
) {
    o.number("index", u64::from(candidate.index));
    let mut called = false;
    o.object("message", |o| {
        called = write_message(o, response, candidate, losses);
        if own {
            for (name, json) in nested(&candidate.extras, "message") {
                o.raw(name, json);
            }
        }
    });
    match &candidate.logprobs {
        Some(json) => o.raw("logprobs", json),
        None => o.null("logprobs"),
    }
    let reason = candidate.finish.as_ref().map_or(FinishReason::Stop, |finish| finish.reason);
    let native = candidate.finish.as_ref().and_then(|finish| finish.native.as_deref());
    match (candidate.finish.is_some(), reason, native) {
        (false, ..) => o.string("finish_reason", if called { "tool_calls" } else { "stop" }),
        (true, FinishReason::Error | FinishReason::Other, Some(word)) if own => o.string("finish_reason", word),
        _ => {
            let (word, less) = finish_word(reason, called);
            if less {
                losses.altered("finish_reason");
            }
            o.string("finish_reason", word);
        }
    }
    for (name, json) in candidate.extras.iter() {
        match (own, name.starts_with("message.")) {
            (true, false) => o.raw(name, json),
            (true, true) => {}
            (false, _) => losses.dropped(format!("choices.{name}")),
        }
    }
}

/// Writes the members of `message`; tells whether there are tool calls.
fn write_message(o: &mut Object<'_>, response: &Response<'_>, candidate: &Candidate<'_>, losses: &mut Losses) -> bool {
    let mut text: Option<std::borrow::Cow<'_, str>> = None;
    let mut refusal = String::new();
    let mut annotations = Vec::new();
    let mut thoughts: Vec<&Reasoning<'_>> = Vec::new();
    let mut calls = Vec::new();
    let mut images = Vec::new();
    let mut audio = None;
    for block in &candidate.blocks {
        if response.origin != ORIGIN {
            for (name, _) in block.extras.iter() {
                losses.dropped(format!("content.{name}"));
            }
        }
        match &block.content {
            Content::Text { text: more, citations } => {
                match &mut text {
                    Some(text) => text.to_mut().push_str(more),
                    None => text = Some(std::borrow::Cow::Borrowed(more.as_str())),
                }
                for citation in citations {
                    if is_annotation(citation) {
                        annotations.push(citation);
                    } else {
                        losses.dropped("content.citations");
                    }
                }
            }
            Content::Refusal(more) => refusal.push_str(more),
            Content::Reasoning(thought) => thoughts.push(thought),
            Content::ToolCall(call) => calls.push((block, call)),
            Content::Media(media) if media.kind == MediaKind::Image => images.push(media),
            Content::Media(media) if media.kind == MediaKind::Audio && audio.is_none() => audio = Some((block, media)),
            other => losses.dropped(lost(other)),
        }
    }
    o.string("role", "assistant");
    match &text {
        Some(text) => o.string("content", text),
        None if calls.is_empty() && refusal.is_empty() && images.is_empty() && audio.is_none() => {
            o.string("content", "");
        }
        None => o.null("content"),
    }
    reasoning::write_text(o, "reasoning_content", &thoughts);
    if reasoning::are_detailed(&thoughts) {
        reasoning::write_details(o, &thoughts);
    }
    if refusal.is_empty() {
        o.null("refusal");
    } else {
        o.string("refusal", &refusal);
    }
    if !annotations.is_empty() {
        o.array("annotations", |a| annotations.iter().for_each(|json| a.raw(json)));
    }
    if !images.is_empty() {
        o.array("images", |a| images.iter().for_each(|media| write_image(a, media)));
    }
    if let Some((block, media)) = audio {
        write_audio(o, block, media);
    }
    let called = !calls.is_empty();
    if called {
        o.array("tool_calls", |a| {
            for (n, (block, call)) in calls.into_iter().enumerate() {
                a.object(|o| write_call(o, response, candidate.index, n, block, call));
            }
        });
    }
    called
}

/// The name of a block that Chat Completions cannot show.
pub fn lost(content: &Content<'_>) -> String {
    match content {
        Content::Other { kind, .. } => format!("content.{}", json::clip(kind, 80)),
        Content::ToolResult(_) => "content.tool_result".to_owned(),
        Content::Media(Media { kind: MediaKind::Video, .. }) => "content.video".to_owned(),
        Content::Media(Media { kind: MediaKind::Audio, .. }) => "content.audio".to_owned(),
        Content::Media(_) => "content.file".to_owned(),
        _ => "content".to_owned(),
    }
}

/// Writes an image of the model's as OpenRouter does; OpenAI's answers have none.
pub fn write_image(a: &mut Array<'_>, media: &Media<'_>) {
    a.object(|o| {
        o.string("type", "image_url");
        o.object("image_url", |o| turns::write_source(o, "url", media));
    });
}

fn write_audio(o: &mut Object<'_>, block: &Block<'_>, media: &Media<'_>) {
    o.object("audio", |o| {
        match &media.source {
            Source::Id(id) => o.string("id", id),
            _ => turns::write_source(o, "data", media),
        }
        o.extras(&block.extras);
    });
}

fn write_call(
    o: &mut Object<'_>,
    response: &Response<'_>,
    candidate: u32,
    n: usize,
    block: &Block<'_>,
    call: &ToolCall<'_>,
) {
    let none = Extras::default();
    let extras = if response.origin == ORIGIN { &block.extras } else { &none };
    if call.id.is_empty() {
        o.string("id", &made_id(&response.id, candidate, n as u64));
    } else {
        o.string("id", &call.id);
    }
    match call.kind {
        ToolKind::Function => {
            o.string("type", "function");
            o.object("function", |o| {
                o.string("name", &call.name);
                o.string("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
                nested(extras, "function").for_each(|(name, json)| o.raw(name, json));
            });
        }
        ToolKind::Custom => {
            o.string("type", "custom");
            o.object("custom", |o| {
                o.string("name", &call.name);
                o.string("input", &call.arguments);
                nested(extras, "custom").for_each(|(name, json)| o.raw(name, json));
            });
        }
    }
    if let Some(signature) = &call.signature {
        write_google_signature(o, signature);
    }
    for (name, json) in extras.iter().filter(|(name, _)| !is_nested(name, &["function", "custom"])) {
        o.raw(name, json);
    }
}

/// An id for a call whose provider gave none: stable for the answer and its place in it, and unlike those of other
/// answers, because a conversation keeps them all.
pub fn made_id(answer: &str, candidate: u32, n: u64) -> String {
    format!("call_{:08x}_{candidate}_{n}", crc32fast::hash(answer.as_bytes()))
}

/// Whether a raw value says anything: not null, and not an empty string, list or object.
pub fn says(raw: &Raw<'_>) -> bool {
    match raw.kind() {
        Kind::Null => false,
        Kind::String | Kind::Array | Kind::Object => raw.get().len() > 2,
        Kind::Number | Kind::Bool => true,
    }
}
