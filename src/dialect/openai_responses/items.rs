//! Items, read: those of a request and those of an answer, which are the same.

use crate::dialect::openai_chat::wire::{at, invalid, some, whole};
use crate::dialect::openai_chat::{message as chat, reasoning as formats};
use crate::ir::{Block, Content, Media, MediaKind, Message, Reasoning, Role, Source, ToolCall, ToolKind, ToolResult};
use crate::wire::json::{Extras, Invalid, Kind, Raw, Text, TextOr, clip};

use super::carry::{self, Carried};
use super::wire::{self, CallItem, ITEM, ImageItem, MessageItem, NAME, Part, ReasoningItem, ResultItem, Url, is_item};

/// What an item says.
#[derive(Debug)]
pub enum Item<'a> {
    /// A message of somebody other than the model.
    Message(Message<'a>),
    /// Something the model said, thought or called.
    Model(Vec<Block<'a>>),
    /// A result for a call.
    Result(Block<'a>),
    /// What only this dialect knows, from the caller's side.
    Client(Block<'a>),
    /// A signature on a call that is an item of its own.
    Proof { call: Text<'a>, signature: Text<'a> },
}

/// Reads one item.
///
/// # Errors
/// The item lacks what its kind demands; the path starts at the item. Kinds that we do not know are no error.
pub fn read<'a>(raw: Raw<'a>) -> Result<Item<'a>, Invalid> {
    if raw.kind() != Kind::Object {
        return Err(invalid("", "expected an item: an object"));
    }
    let shape: wire::Kind<'a> = raw.open()?;
    let kind: Text<'a> = match &shape.kind {
        Some(kind) => kind.open().map_err(|e| at("type", e))?,
        None if shape.role.is_some() => "message".into(),
        None if shape.id.is_some() => "item_reference".into(),
        None => return Err(invalid("type", REQUIRED)),
    };
    match kind.as_str() {
        "message" => message(&raw),
        "reasoning" => reasoning(&raw),
        "function_call" => call(&raw, ToolKind::Function),
        "custom_tool_call" => call(&raw, ToolKind::Custom),
        "function_call_output" | "custom_tool_call_output" => result(&raw),
        "image_generation_call" => Ok(Item::Model(vec![image(raw, kind)])),
        "item_reference" => Err(invalid(
            "",
            "references to stored items are not supported: send the item itself, or refer to a whole response with \
             `previous_response_id`",
        )),
        _ => {
            let client = shape.role.is_some() || kind.ends_with("_output") || kind.as_str() == "mcp_approval_response";
            let block = Block::new(Content::Other { kind, json: raw });
            Ok(if client { Item::Client(block) } else { Item::Model(vec![block]) })
        }
    }
}

/// Reads an item of an answer: blocks, with log probabilities apart. Total, because an odd item must not spoil an
/// answer: what cannot be read is kept whole.
pub fn output<'a>(raw: Raw<'a>, logprobs: &mut Vec<Raw<'a>>) -> Vec<Block<'a>> {
    match read(raw.clone()) {
        Ok(Item::Model(mut blocks)) => {
            for block in &mut blocks {
                if let Content::Reasoning(thought) = &mut block.content {
                    thought.issuer.get_or_insert_with(|| NAME.into());
                }
                if let Some(json) = block.extras.take(LOGPROBS) {
                    logprobs.extend(json.open::<Vec<Raw<'a>>>().unwrap_or_default());
                }
            }
            blocks
        }
        Ok(Item::Client(block)) => vec![block],
        _ => vec![Block::new(Content::Other { kind: "unknown".into(), json: raw })],
    }
}

/// Where [`read`] leaves the log probabilities of a text.
pub const LOGPROBS: &str = "logprobs";

const REQUIRED: &str = "a value is required";

fn message<'a>(raw: &Raw<'a>) -> Result<Item<'a>, Invalid> {
    let item: MessageItem<'a> = raw.open()?;
    let role = item.role.ok_or_else(|| invalid("role", REQUIRED))?;
    let role = match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        other => {
            let message =
                format!("unknown role `{}`, expected one of user, assistant, system, developer", clip(other, 40));
            return Err(invalid("role", message));
        }
    };
    let model = role == Role::Assistant;
    let mut blocks = content(item.content.ok_or_else(|| invalid("content", REQUIRED))?, "content")?;
    let mut extras = item.extras;
    extras.0.retain(|(_, json)| !json.is_null());
    if !model {
        if blocks.is_empty() {
            return Err(invalid("content", "expected at least one part"));
        }
        return Ok(Item::Message(Message { role, name: None, blocks, extras }));
    }
    // An empty text says nothing, and other dialects refuse it.
    blocks.retain(|block| !matches!(&block.content, Content::Text { text, .. } if text.is_empty()));
    if let Some(first) = blocks.first_mut() {
        // `id` and `status` go: they say where the provider keeps the item, and we have it keep nothing.
        first.extras.0.extend(extras.0.into_iter().map(|(name, json)| (Text::from(format!("{ITEM}{name}")), json)));
    }
    Ok(Item::Model(blocks))
}

/// Reads content that is a bare text or a list of parts.
fn content<'a>(content: TextOr<'a, Vec<Raw<'a>>>, path: &str) -> Result<Vec<Block<'a>>, Invalid> {
    match content {
        TextOr::Text(text) => Ok(vec![Block::text(text)]),
        TextOr::Full(parts) => {
            let read = |(j, raw): (usize, Raw<'a>)| {
                let mut block = part(raw).map_err(|e| at(&format!("{path}[{j}]"), e))?;
                block.whence = block.whence.of_part(j);
                Ok(block)
            };
            parts.into_iter().enumerate().map(read).collect()
        }
    }
}

/// Reads one part of a content list.
///
/// # Errors
/// The part lacks its type, or what its type demands. Types we do not know are no error.
pub fn part<'a>(raw: Raw<'a>) -> Result<Block<'a>, Invalid> {
    if raw.kind() != Kind::Object {
        return Err(invalid("", "expected a content part: an object with `type`"));
    }
    let part: Part<'a> = raw.open()?;
    let kind = part.kind.ok_or_else(|| invalid("type", REQUIRED))?;
    let mut extras = part.extras;
    extras.0.retain(|(_, json)| !json.is_null());
    let content = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" => {
            if let Some(json) = part.logprobs.filter(|json| json.get() != "[]") {
                extras.push(LOGPROBS, json);
            }
            let text = part.text.ok_or_else(|| invalid("text", REQUIRED))?;
            Content::Text { text, citations: part.annotations.unwrap_or_default() }
        }
        "refusal" => Content::Refusal(part.refusal.ok_or_else(|| invalid("refusal", REQUIRED))?),
        "input_image" => {
            let (source, mime) = match (part.image_url, part.file_id) {
                (Some(url), _) => chat::source(address(&url)?),
                (None, Some(id)) => (Source::Id(id), None),
                (None, None) => return Err(invalid("image_url", "`image_url` or `file_id` is required")),
            };
            Content::Media(Media { kind: MediaKind::Image, source, mime, name: None, detail: part.detail })
        }
        "input_file" => {
            let (source, mime) = match (part.file_id, part.file_url, part.file_data) {
                (Some(id), ..) => (Source::Id(id), None),
                (None, Some(url), _) => (Source::Url(url), None),
                (None, None, Some(data)) => match chat::source(data) {
                    // Bare base64.
                    (Source::Url(data), _) => (Source::Base64(data), None),
                    other => other,
                },
                (None, None, None) => {
                    return Err(invalid("file_data", "one of `file_data`, `file_url` and `file_id` is required"));
                }
            };
            Content::Media(Media { kind: MediaKind::File, source, mime, name: part.filename, detail: part.detail })
        }
        // The same part as in Chat Completions.
        "input_audio" => return chat::part(raw),
        _ => return Ok(Block::new(Content::Other { kind, json: raw })),
    };
    Ok(Block::with(content, None, extras))
}

fn address<'a>(raw: &Raw<'a>) -> Result<Text<'a>, Invalid> {
    if raw.kind() == Kind::Object {
        let shape: Url<'a> = raw.open().map_err(|e| at("image_url", e))?;
        return shape.url.ok_or_else(|| invalid("image_url.url", REQUIRED));
    }
    raw.open().map_err(|e| at("image_url", e))
}

/// A block for each part of the summary and of the thoughts, all with the item's id; the last one has the proofs.
fn reasoning<'a>(raw: &Raw<'a>) -> Result<Item<'a>, Invalid> {
    let item: ReasoningItem<'a> = raw.open()?;
    let id = some(item.id).filter(|id| !carry::is_made(id));
    let mut proof = Carried {
        issuer: some(item.format).filter(|format| format != "unknown").map(formats::issuer),
        signature: some(item.signature),
        encrypted: some(item.encrypted),
        call: None,
    };
    if let Some(text) = proof.encrypted.take_if(|text| carry::is_ours(text)) {
        proof = carry::unpack(&text).ok_or_else(|| {
            invalid("encrypted_content", "this is not what the answer had: reasoning items go back unchanged")
        })?;
    } else if proof.encrypted.is_some() || proof.signature.is_some() {
        proof.issuer.get_or_insert_with(|| NAME.into());
    } else {
        proof.issuer = None;
    }
    if let (Some(call), Some(signature)) = (proof.call, &proof.signature) {
        return Ok(Item::Proof { call, signature: signature.clone() });
    }
    let thought = |part: Part<'a>, summary: bool| {
        let text = some(part.text)?;
        let issuer = proof.issuer.clone();
        Some(Reasoning { text: Some(text), summary, issuer, id: id.clone(), ..Reasoning::default() })
    };
    let summaries = item.summary.unwrap_or_default().into_iter().filter_map(|part| thought(part, true));
    let contents = item.content.unwrap_or_default().into_iter().filter_map(|part| thought(part, false));
    let mut thoughts: Vec<Reasoning<'a>> = summaries.chain(contents).collect();
    if thoughts.is_empty() {
        thoughts.push(Reasoning { id: id.clone(), issuer: proof.issuer.clone(), ..Reasoning::default() });
    }
    if let Some(last) = thoughts.last_mut() {
        last.signature = proof.signature;
        last.encrypted = proof.encrypted;
    }
    thoughts.retain(|thought| *thought != Reasoning::default());
    Ok(Item::Model(thoughts.into_iter().map(|thought| Block::new(Content::Reasoning(thought))).collect()))
}

fn call<'a>(raw: &Raw<'a>, kind: ToolKind) -> Result<Item<'a>, Invalid> {
    let item: CallItem<'a> = raw.open()?;
    let arguments = match (kind, item.arguments, item.input) {
        (ToolKind::Custom, _, input) => input.ok_or_else(|| invalid("input", REQUIRED))?,
        (ToolKind::Function, Some(raw), _) if raw.kind() == Kind::String => {
            raw.open().map_err(|e| at("arguments", e))?
        }
        (ToolKind::Function, Some(_), _) => return Err(invalid("arguments", "expected a string of JSON")),
        (ToolKind::Function, None, _) => return Err(invalid("arguments", REQUIRED)),
    };
    let call = ToolCall {
        id: item.call_id.ok_or_else(|| invalid("call_id", REQUIRED))?,
        name: item.name.ok_or_else(|| invalid("name", REQUIRED))?,
        arguments,
        kind,
        signature: None,
    };
    let mut extras = item.extras;
    extras.0.retain(|(_, json)| !json.is_null());
    Ok(Item::Model(vec![Block::with(Content::ToolCall(call), None, extras)]))
}

fn result<'a>(raw: &Raw<'a>) -> Result<Item<'a>, Invalid> {
    let item: ResultItem<'a> = raw.open()?;
    let result = ToolResult {
        id: item.call_id.ok_or_else(|| invalid("call_id", REQUIRED))?,
        blocks: content(item.output.ok_or_else(|| invalid("output", REQUIRED))?, "output")?,
        ..ToolResult::default()
    };
    let mut extras: Extras<'a> = item.extras;
    extras.0.retain(|(_, json)| !json.is_null());
    Ok(Item::Result(Block::with(Content::ToolResult(result), None, extras)))
}

/// A picture that the model painted; without its bytes it is one of the provider's own affairs.
fn image<'a>(raw: Raw<'a>, kind: Text<'a>) -> Block<'a> {
    let Ok(ImageItem { result: Some(data), format, mut extras, .. }) = raw.open::<ImageItem<'a>>() else {
        return Block::new(Content::Other { kind, json: raw });
    };
    extras.0.retain(|(_, json)| !json.is_null());
    let mime = Text::from(format!("image/{}", format.as_deref().unwrap_or("png")));
    let source = Source::Base64(data);
    let media = Media { kind: MediaKind::Image, source, mime: Some(mime), name: None, detail: None };
    Block::with(Content::Media(media), None, extras)
}

/// A whole number, where the value is one.
pub fn number(raw: Option<&Raw<'_>>) -> Option<u64> {
    whole(raw)
}

/// Whether a kind, as [`Content::Other`] names it, is one of this dialect's. Anthropic has a `compaction` too, in clear.
pub fn is_ours(kind: &str, json: &Raw<'_>) -> bool {
    is_item(kind)
        && json.read::<wire::Kind<'_>>().is_ok_and(|shape| shape.kind.is_some())
        && (kind != "compaction" || json.get().contains("\"encrypted_content\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compaction_of_anthropics_is_not_one_of_ours() {
        let ours = Raw::literal(r#"{"type":"compaction","id":"cmp_1","encrypted_content":"x"}"#);
        let theirs = Raw::literal(r#"{"type":"compaction","content":"so far"}"#);
        assert!(is_ours("compaction", &ours) && !is_ours("compaction", &theirs));
    }
}
