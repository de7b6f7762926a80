//! Messages of a request, read strictly: a caller deserves to be told which member of which message is wrong.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::ir::{
    Block, CacheMark, Content, Media, MediaKind, Message, Reasoning, Role, Source, ToolCall, ToolKind, ToolResult,
};
use crate::wire::json::{Extras, Invalid, Kind, Raw, Text, TextOr};

use super::reasoning;
use super::wire::{self, Call, File, InputAudio, Part, Url, adopt, arguments, at, google_signature, invalid, some};

/// The calls of a conversation as far as it was read: a result must answer one of them. OpenAI refuses another as well,
/// and a provider of another dialect would be told of a call that it cannot find.
#[derive(Default)]
pub struct Calls<'a> {
    ids: HashSet<Text<'a>>,
    /// Of the deprecated `function_call` form, which has no ids: a call is followed by its result, so the id made for the
    /// one is the other's.
    last: Option<String>,
}

/// Reads message `i`.
///
/// # Errors
/// The message is not one that OpenAI takes; the path is seen from the body.
pub fn decode<'a>(i: usize, message: wire::Message<'a>, calls: &mut Calls<'a>) -> Result<Message<'a>, Invalid> {
    let mut message = one(i, message, calls).map_err(|e| at(&format!("messages[{i}]"), e))?;
    message.blocks.iter_mut().for_each(|block| block.whence = block.whence.of_item(i));
    Ok(message)
}

fn one<'a>(i: usize, mut message: wire::Message<'a>, calls: &mut Calls<'a>) -> Result<Message<'a>, Invalid> {
    let role = message.role.take().ok_or_else(|| required("role"))?;
    let role = match role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let message = format!(
                "unknown role `{}`, expected one of system, developer, user, assistant, tool",
                crate::wire::json::clip(other, 40)
            );
            return Err(invalid("role", message));
        }
    };
    let mut blocks = Vec::new();
    let mut name = message.name.take();
    match role {
        Role::Assistant => assistant(i, &mut message, calls, &mut blocks)?,
        Role::Tool => {
            let id = match (message.tool_call_id.take(), calls.last.take()) {
                (Some(id), _) if calls.ids.contains(&id) => id,
                (Some(id), _) => {
                    let id = crate::wire::json::clip(&id, 80);
                    return Err(invalid("tool_call_id", format!("no tool call before this message has the id `{id}`")));
                }
                (None, Some(id)) => Text::from(id),
                (None, None) => return Err(required("tool_call_id")),
            };
            let result = ToolResult {
                id,
                name: name.take(),
                blocks: content(message.content.take(), true)?,
                structured: None,
                is_error: None,
            };
            blocks.push(Block::new(Content::ToolResult(result)));
        }
        Role::System | Role::Developer | Role::User => {
            blocks = content(message.content.take(), true)?;
            if blocks.is_empty() {
                return Err(invalid("content", "expected at least one part"));
            }
        }
    }
    let mut extras = Extras::default();
    adopt(&mut extras, "", message.extras);
    if let Some(mark) = message.cache {
        match blocks.last_mut() {
            Some(last) if last.cache.is_none() => last.cache = Some(CacheMark(mark)),
            _ => extras.push("cache_control", mark),
        }
    }
    if let Some(json) = message.extra_content {
        extras.push("extra_content", json);
    }
    Ok(Message { role, name, blocks, extras })
}

fn assistant<'a>(
    i: usize,
    message: &mut wire::Message<'a>,
    calls: &mut Calls<'a>,
    blocks: &mut Vec<Block<'a>>,
) -> Result<(), Invalid> {
    *blocks = reasoning::take(message);
    let shapes = message.tool_calls.take().unwrap_or_default();
    let mut said = content(message.content.take(), false)?;
    // An empty text says nothing, and other dialects refuse it.
    said.retain(|block| !matches!(&block.content, Content::Text { text, .. } if text.is_empty()));
    blocks.append(&mut said);
    if let Some(refusal) = some(message.refusal.take()) {
        blocks.push(Block::new(Content::Refusal(refusal)));
    }
    if let Some(id) = message.audio.take().and_then(|audio| some(audio.id)) {
        let media = Media { kind: MediaKind::Audio, source: Source::Id(id), mime: None, name: None, detail: None };
        blocks.push(Block::new(Content::Media(media)));
    }
    for (j, shape) in shapes.into_iter().enumerate() {
        let block = call(shape).map_err(|e| at(&format!("tool_calls[{j}]"), e))?;
        if let Content::ToolCall(call) = &block.content {
            calls.ids.insert(call.id.clone());
        }
        blocks.push(block);
    }
    if let Some(function) = message.function_call.take() {
        let id = format!("call_{i}");
        let call = ToolCall {
            id: Text::from(id.clone()),
            name: function.name.ok_or_else(|| required("function_call.name"))?,
            arguments: arguments(function.arguments),
            ..ToolCall::default()
        };
        calls.last = Some(id);
        blocks.push(Block::new(Content::ToolCall(call)));
    }
    Ok(())
}

fn call<'a>(shape: Call<'a>) -> Result<Block<'a>, Invalid> {
    let mut extras = Extras::default();
    let kind = shape.kind.as_deref();
    let id = shape.id.ok_or_else(|| required("id"))?;
    let signature = google_signature(shape.extra_content.as_ref());
    if let (None, Some(json)) = (&signature, shape.extra_content) {
        extras.push("extra_content", json);
    }
    if let Some(json) = shape.index {
        extras.push("index", json);
    }
    adopt(&mut extras, "", shape.extras);
    let call = match (kind, shape.function, shape.custom) {
        (Some("custom"), _, Some(custom)) => {
            adopt(&mut extras, "custom", custom.extras);
            ToolCall {
                id,
                name: custom.name.ok_or_else(|| required("custom.name"))?,
                arguments: custom.input.unwrap_or_default(),
                kind: ToolKind::Custom,
                signature,
            }
        }
        (Some("custom"), ..) => return Err(required("custom")),
        (None | Some("function"), Some(function), _) => {
            if function.arguments.as_ref().is_some_and(|raw| !matches!(raw.kind(), Kind::String | Kind::Null)) {
                return Err(invalid("function.arguments", "expected a string of JSON"));
            }
            adopt(&mut extras, "function", function.extras);
            ToolCall {
                id,
                name: function.name.ok_or_else(|| required("function.name"))?,
                arguments: arguments(function.arguments),
                kind: ToolKind::Function,
                signature,
            }
        }
        (None | Some("function"), None, _) => return Err(required("function")),
        (Some(_), ..) => return Err(invalid("type", "expected `function` or `custom`")),
    };
    Ok(Block::with(Content::ToolCall(call), shape.cache.map(CacheMark), extras))
}

fn content<'a>(content: Option<TextOr<'a, Vec<Raw<'a>>>>, demanded: bool) -> Result<Vec<Block<'a>>, Invalid> {
    match content {
        None if demanded => Err(required("content")),
        None => Ok(Vec::new()),
        Some(TextOr::Text(text)) => Ok(vec![Block::text(text)]),
        Some(TextOr::Full(parts)) => {
            let read = |(j, raw): (usize, Raw<'a>)| {
                let mut block = part(raw).map_err(|e| at(&format!("content[{j}]"), e))?;
                block.whence = block.whence.of_part(j);
                Ok(block)
            };
            parts.into_iter().enumerate().map(read).collect()
        }
    }
}

/// Reads one content part.
///
/// # Errors
/// The part lacks its type, or what its type demands. Types we do not know are no error.
pub fn part<'a>(raw: Raw<'a>) -> Result<Block<'a>, Invalid> {
    if raw.kind() != Kind::Object {
        return Err(invalid("", "expected a content part: an object with `type`"));
    }
    let part: Part<'a> = raw.open()?;
    let kind = part.kind.ok_or_else(|| required("type"))?;
    let mut extras = Extras::default();
    adopt(&mut extras, "", part.extras);
    let content = match kind.as_str() {
        "text" => Content::Text { text: part.text.ok_or_else(|| required("text"))?, citations: Vec::new() },
        "refusal" => Content::Refusal(part.refusal.ok_or_else(|| required("refusal"))?),
        "image_url" => Content::Media(at_url(MediaKind::Image, part.image_url, "image_url", &mut extras)?),
        "video_url" => Content::Media(at_url(MediaKind::Video, part.video_url, "video_url", &mut extras)?),
        "input_audio" => Content::Media(audio(part.input_audio, &mut extras)?),
        "file" => match file(part.file, &mut extras)? {
            Some(media) => Content::Media(media),
            None => return Ok(Block::new(Content::Other { kind, json: raw })),
        },
        // Mistral.
        "thinking" => {
            let text = part.thinking.as_ref().and_then(reasoning::thinking);
            Content::Reasoning(Reasoning { text, ..Reasoning::default() })
        }
        _ => return Ok(Block::new(Content::Other { kind, json: raw })),
    };
    Ok(Block::with(content, part.cache.map(CacheMark), extras))
}

fn at_url<'a>(
    kind: MediaKind,
    raw: Option<Raw<'a>>,
    name: &'static str,
    extras: &mut Extras<'a>,
) -> Result<Media<'a>, Invalid> {
    let raw = raw.ok_or_else(|| required(name))?;
    let (url, detail) = match raw.kind() {
        // Not OpenAI's, but several compatible servers take it.
        Kind::String => (raw.open().map_err(|e| at(name, e))?, None),
        _ => {
            let shape: Url<'a> = raw.open().map_err(|e| at(name, e))?;
            adopt(extras, name, shape.extras);
            (shape.url.ok_or_else(|| invalid(format!("{name}.url"), REQUIRED))?, shape.detail)
        }
    };
    let (source, mime) = source(url);
    Ok(Media { kind, source, mime, name: None, detail })
}

fn audio<'a>(raw: Option<Raw<'a>>, extras: &mut Extras<'a>) -> Result<Media<'a>, Invalid> {
    let name = "input_audio";
    let raw = raw.ok_or_else(|| required(name))?;
    let (source, mime) = match raw.kind() {
        // Mistral: an address or bare base64.
        Kind::String => match source(raw.open().map_err(|e| at(name, e))?) {
            (Source::Url(text), _) if !text.contains("://") => (Source::Base64(text), None),
            other => other,
        },
        _ => {
            let shape: InputAudio<'a> = raw.open().map_err(|e| at(name, e))?;
            adopt(extras, name, shape.extras);
            let data = shape.data.ok_or_else(|| invalid("input_audio.data", REQUIRED))?;
            (Source::Base64(data), shape.format.map(|format| Text::from(format!("audio/{format}"))))
        }
    };
    Ok(Media { kind: MediaKind::Audio, source, mime, name: None, detail: None })
}

fn file<'a>(raw: Option<Raw<'a>>, extras: &mut Extras<'a>) -> Result<Option<Media<'a>>, Invalid> {
    let raw = raw.ok_or_else(|| required("file"))?;
    let shape: File<'a> = raw.open().map_err(|e| at("file", e))?;
    let (source, mime) = match (shape.id, shape.data) {
        (Some(id), _) => (Source::Id(id), None),
        (None, Some(data)) => match source(data) {
            (Source::Url(text), _) if !text.contains("://") => (Source::Base64(text), None),
            other => other,
        },
        (None, None) => return Ok(None),
    };
    adopt(extras, "file", shape.extras);
    Ok(Some(Media { kind: MediaKind::File, source, mime, name: shape.name, detail: None }))
}

/// An address, or the bytes of a `data:` address (RFC 2397) with their type.
pub fn source<'a>(url: Text<'a>) -> (Source<'a>, Option<Text<'a>>) {
    const MARK: &str = ";base64,";
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    // The type stands at the start: no need to search megabytes.
    let head = crate::wire::json::clip(&url, 256);
    let Some(mark) = head.find(MARK).filter(|mark| is_data && *mark >= 5) else { return (Source::Url(url), None) };
    let cut = |from: usize, to: usize| match &url.0 {
        Cow::Borrowed(text) => Text(Cow::Borrowed(text.get(from..to).unwrap_or_default())),
        Cow::Owned(text) => Text(Cow::Owned(text.get(from..to).unwrap_or_default().to_owned())),
    };
    (Source::Base64(cut(mark + MARK.len(), url.len())), some(Some(cut(5, mark))))
}

const REQUIRED: &str = "a value is required";

fn required(name: &str) -> Invalid {
    invalid(name, REQUIRED)
}
