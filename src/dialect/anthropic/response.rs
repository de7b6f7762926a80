//! Answers: a Messages body to the IR.
//!
//! Blocks and stop reasons are read by the same functions in a stream, so that it cannot come out differently.

use super::NAME;
use super::usage::Tally;
use super::wire::{Answer, Part, STOPS, some};
use crate::ir::{Block, CacheMark, Candidate, Content, Finish, FinishReason, Origin, Reasoning, Response, ToolCall};
use crate::wire::json::{self, Extras, Invalid, Raw, Text};

/// Most blocks that an answer may have.
const MOST_BLOCKS: usize = 65_536;

/// Reads a whole answer.
///
/// # Errors
/// The body is an error, or no message.
pub(super) fn decode(body: &[u8]) -> Result<Response<'_>, Invalid> {
    let answer: Answer<'_> = json::read(body)?;
    if answer.error.is_some() || answer.kind.as_deref() == Some("error") {
        return Err(Invalid { path: "error".into(), message: super::fault::read(200, body).message });
    }
    let invalid = |message: &str| Invalid { path: "content".into(), message: message.into() };
    let content = answer.content.ok_or_else(|| invalid("expected a list of blocks"))?;
    if content.len() > MOST_BLOCKS {
        return Err(invalid("too many blocks"));
    }
    let at = |i: usize, e: Invalid| Invalid { path: format!("content[{i}].{}", e.path), message: e.message };
    let blocks =
        content.into_iter().enumerate().map(|(i, raw)| block(raw).map_err(|e| at(i, e))).collect::<Result<_, _>>()?;
    let finish = answer.stop_reason.map(|reason| finish(reason, answer.stop_sequence));
    let usage = answer.usage.as_ref().and_then(|counts| Tally::of(counts).usage());
    Ok(Response {
        origin: Origin(NAME),
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        candidates: vec![Candidate { blocks, finish, ..Candidate::default() }],
        usage,
        service_tier: answer.usage.and_then(|counts| counts.tier),
        extras: said(answer.extras),
        ..Response::default()
    })
}

/// The members that say something: Anthropic writes `null` where a feature was not used.
pub(super) fn said(mut extras: Extras<'_>) -> Extras<'_> {
    extras.0.retain(|(_, json)| !json.is_null());
    extras
}

/// Reads one block. Kinds that the IR has no word for are kept whole: traffic of the provider's own tools above all
/// (`server_tool_use`, `web_search_tool_result`, `mcp_tool_use`, ...), which goes back as it came.
pub(super) fn block(raw: Raw<'_>) -> Result<Block<'_>, Invalid> {
    let part: Part<'_> = raw.open()?;
    let kind = part.kind.ok_or_else(|| Invalid { path: "type".into(), message: "a value is required".into() })?;
    let issuer = || Some(Text::from(NAME));
    let content = match kind.as_str() {
        "text" => Content::Text { text: part.text.unwrap_or_default(), citations: part.citations.unwrap_or_default() },
        "thinking" => Content::Reasoning(Reasoning {
            text: some(part.thinking),
            signature: some(part.signature),
            issuer: issuer(),
            ..Reasoning::default()
        }),
        "redacted_thinking" => {
            Content::Reasoning(Reasoning { encrypted: some(part.data), issuer: issuer(), ..Reasoning::default() })
        }
        "tool_use" => Content::ToolCall(ToolCall {
            id: part.id.unwrap_or_default(),
            name: part.name.unwrap_or_default(),
            arguments: part.input.map_or_else(|| Text::from("{}"), Raw::into_text),
            ..ToolCall::default()
        }),
        _ => return Ok(Block::new(Content::Other { kind, json: raw })),
    };
    let mut extras = said(part.extras);
    extras.0.retain(|(name, json)| name != "caller" || !is_direct(json));
    Ok(Block::with(content, part.cache.map(CacheMark), extras))
}

/// Whether a call was made by the model itself, and not by code that it wrote ("Programmatic tool calling", seen
/// 2026-11-21). Newer models say so of every call; it is what a call is.
pub(super) fn is_direct(caller: &Raw<'_>) -> bool {
    caller.read::<Part<'_>>().is_ok_and(|caller| caller.kind.is_some_and(|kind| kind == "direct"))
}

pub(super) fn finish<'a>(native: Text<'a>, sequence: Option<Text<'a>>) -> Finish<'a> {
    let known = STOPS.iter().find(|(word, _)| native == *word);
    Finish { reason: known.map_or(FinishReason::Other, |(_, reason)| *reason), sequence, native: Some(native) }
}
