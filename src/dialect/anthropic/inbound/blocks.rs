//! Blocks of a request's messages, read strictly as far as we interpret them; kinds that we do not know ride along.

use super::super::response::{is_direct, said};
use super::super::seal::{self, Sealed};
use super::super::wire::some;
use super::{NAME, at, invalid, media, required};
use crate::ir::{Block, CacheMark, Content, MediaKind, Reasoning, ToolCall, ToolResult};
use crate::shape;
use crate::wire::json::{Invalid, Kind, Raw, Text, TextOr};

shape! {
    struct Part {
        kind "type": Text<'a>,
        text "text": Text<'a>,
        citations "citations": Raw<'a>,
        source "source": Raw<'a>,
        title "title": Text<'a>,
        thinking "thinking": Text<'a>,
        signature "signature": Text<'a>,
        data "data": Text<'a>,
        id "id": Text<'a>,
        name "name": Text<'a>,
        input "input": Raw<'a>,
        answers "tool_use_id": Text<'a>,
        content "content": Raw<'a>,
        is_error "is_error": bool,
        cache "cache_control": Raw<'a>,
    }
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    System,
    User,
    Assistant,
    /// In the result of a tool.
    Result,
}

/// The blocks of one message as they are read, with the signatures that were sealed beside its calls.
#[derive(Debug, Default)]
pub(super) struct Read<'a> {
    blocks: Vec<Block<'a>>,
    signatures: Vec<(Text<'a>, Text<'a>)>,
}

impl<'a> Read<'a> {
    /// Reads one block; `None` for a seal that belongs to another block.
    ///
    /// # Errors
    /// As [`decode`].
    pub(super) fn block(&mut self, raw: Raw<'a>, place: Place) -> Result<Option<Block<'a>>, Invalid> {
        let mut block = decode(raw, place)?;
        let Content::Reasoning(thought) = &mut block.content else { return Ok(Some(block)) };
        let proof = thought.signature.as_ref().or(thought.encrypted.as_ref());
        match proof.and_then(seal::open) {
            None => {}
            Some(Sealed::Call { id, signature }) => {
                self.signatures.push((id, signature));
                return Ok(None);
            }
            Some(Sealed::Thought(opened)) => *thought = Reasoning { text: thought.text.take(), ..opened },
        }
        Ok(Some(block))
    }

    pub(super) fn keep(&mut self, block: Block<'a>) {
        self.blocks.push(block);
    }

    /// All blocks, each call with its signature. A signature whose call was taken out of the conversation signs nothing.
    pub(super) fn end(mut self) -> Vec<Block<'a>> {
        for (id, signature) in self.signatures {
            let calls = self.blocks.iter_mut().filter_map(|block| match &mut block.content {
                Content::ToolCall(call) => Some(call),
                _ => None,
            });
            if let Some(call) = calls.into_iter().find(|call| call.id == id) {
                call.signature = some(Some(signature));
            }
        }
        self.blocks
    }
}

/// Reads a block.
///
/// # Errors
/// It lacks its type or what its type demands, or may not stand there.
pub(super) fn decode(raw: Raw<'_>, place: Place) -> Result<Block<'_>, Invalid> {
    if raw.kind() != Kind::Object {
        return Err(invalid("", "expected a block: an object with `type`"));
    }
    let mut part: Part<'_> = match raw.open() {
        Ok(part) => part,
        // A kind of tomorrow may have members of ours in other forms.
        Err(mistake) => {
            let kind = raw.open::<Kindred<'_>>()?.kind.ok_or_else(|| required("type"))?;
            return if KNOWN.contains(&kind.as_str()) { Err(mistake) } else { Ok(other(kind, raw)) };
        }
    };
    let kind = part.kind.take().ok_or_else(|| required("type"))?;
    let stands = |wanted: Place, whose: &str| {
        if place == wanted {
            return Ok(());
        }
        Err(invalid("type", format!("`{kind}` may stand in a message of the {whose} only")))
    };
    match kind.as_str() {
        "tool_use" | "thinking" | "redacted_thinking" => stands(Place::Assistant, "assistant")?,
        "tool_result" => stands(Place::User, "user")?,
        kind if KNOWN.contains(&kind) => {}
        _ => return Ok(other(kind, raw)),
    }
    let mut extras = said(std::mem::take(&mut part.extras));
    let cache = part.cache.take().map(CacheMark);
    let content = match kind.as_str() {
        "text" => {
            let citations = match part.citations {
                Some(raw) if raw.kind() == Kind::Array => raw.open().map_err(|e| at("citations", e))?,
                Some(_) => return Err(invalid("citations", "expected a list")),
                None => Vec::new(),
            };
            Content::Text { text: part.text.ok_or_else(|| required("text"))?, citations }
        }
        "image" | "document" => {
            let image = kind == "image";
            let source = part.source.ok_or_else(|| required("source"))?;
            let form = if image { MediaKind::Image } else { MediaKind::File };
            let Some(mut media) = media::decode(source, form, &mut extras).map_err(|e| at("source", e))? else {
                return Ok(other(kind, raw));
            };
            media.name = some(part.title);
            if let Some(json) = part.citations {
                extras.push("citations", json);
            }
            Content::Media(media)
        }
        "thinking" => Content::Reasoning(Reasoning {
            text: some(part.thinking),
            signature: some(part.signature),
            issuer: Some(Text::from(NAME)),
            ..Reasoning::default()
        }),
        "redacted_thinking" => Content::Reasoning(Reasoning {
            encrypted: Some(some(part.data).ok_or_else(|| required("data"))?),
            issuer: Some(Text::from(NAME)),
            ..Reasoning::default()
        }),
        "tool_use" => {
            let input = part.input.ok_or_else(|| required("input"))?;
            if input.kind() != Kind::Object {
                return Err(invalid("input", "expected an object"));
            }
            extras.0.retain(|(name, json)| name != "caller" || !is_direct(json));
            Content::ToolCall(ToolCall {
                id: some(part.id).ok_or_else(|| required("id"))?,
                name: some(part.name).ok_or_else(|| required("name"))?,
                arguments: input.into_text(),
                ..ToolCall::default()
            })
        }
        _ => Content::ToolResult(ToolResult {
            id: some(part.answers).ok_or_else(|| required("tool_use_id"))?,
            name: None,
            blocks: result(part.content)?,
            structured: None,
            is_error: part.is_error,
        }),
    };
    Ok(Block::with(content, cache, extras))
}

/// The kinds that are read.
const KNOWN: [&str; 7] = ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"];

shape! {
    struct Kindred { kind "type": Text<'a> }
}

fn other<'a>(kind: Text<'a>, json: Raw<'a>) -> Block<'a> {
    Block::new(Content::Other { kind, json })
}

fn result<'a>(content: Option<Raw<'a>>) -> Result<Vec<Block<'a>>, Invalid> {
    let content =
        content.map(|raw| raw.open::<TextOr<'a, Vec<Raw<'a>>>>().map_err(|e| at("content", e))).transpose()?;
    match content {
        None => Ok(Vec::new()),
        Some(TextOr::Text(text)) => Ok(vec![Block::text(text)]),
        Some(TextOr::Full(raws)) => raws
            .into_iter()
            .enumerate()
            .map(|(k, raw)| {
                let mut block = decode(raw, Place::Result).map_err(|e| at(&format!("content[{k}]"), e))?;
                block.whence = block.whence.of_part(k);
                Ok(block)
            })
            .collect(),
    }
}
