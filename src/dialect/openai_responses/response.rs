//! Whole answers of a provider, read into the IR.

use crate::dialect::openai_chat::wire::{invalid, some};
use crate::ir::{Block, Candidate, Content, Finish, Response};
use crate::wire::json::{self, Extras, Invalid, Raw, Text, clip};

use super::wire::{Answer, ORIGIN, finish, is_echo};
use super::{items, usage};

/// Most items that an answer may have.
const MOST_ITEMS: usize = 65_536;

/// Reads a whole answer.
///
/// # Errors
/// The body is not an answer: not JSON, without output, or an error in place of one.
pub fn decode<'a>(body: &'a [u8]) -> Result<Response<'a>, Invalid> {
    let answer: Answer<'a> = json::read(body)?;
    if let Some(error) = answer.error.as_ref().filter(|error| !error.is_null()) {
        return Err(invalid("error", format!("an error in place of an answer: {}", clip(error.get(), 400))));
    }
    let output = answer.output.ok_or_else(|| invalid("output", "a value is required"))?;
    if output.len() > MOST_ITEMS {
        return Err(invalid("output", "too many items"));
    }
    let (mut blocks, mut logprobs) = (Vec::new(), Vec::new());
    for raw in output {
        blocks.append(&mut items::output(raw, &mut logprobs));
    }
    let candidate = Candidate {
        index: 0,
        finish: Some(ended(answer.status, answer.incomplete.and_then(|details| details.reason), called(&blocks))),
        blocks,
        logprobs: joined(&logprobs),
        extras: Extras::default(),
    };
    Ok(Response {
        origin: ORIGIN,
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        created: items::number(answer.created.as_ref()),
        candidates: vec![candidate],
        usage: usage::read(answer.usage.as_ref(), answer.tool_usage.as_ref()),
        service_tier: some(answer.service_tier),
        fingerprint: None,
        extras: said(answer.extras),
    })
}

/// The finish, with the provider's word for it.
pub fn ended<'a>(status: Option<Text<'a>>, incomplete: Option<Text<'a>>, called: bool) -> Finish<'a> {
    let status = status.unwrap_or_default();
    let reason = finish(&status, incomplete.as_deref(), called);
    Finish { reason, sequence: None, native: incomplete.or(some(Some(status))) }
}

/// The unknown members that say something of the answer.
pub fn said(mut extras: Extras<'_>) -> Extras<'_> {
    extras.0.retain(|(name, json)| !json.is_null() && !is_echo(name) && !matches!(json.get(), "[]" | "{}" | r#""""#));
    extras
}

/// Log probabilities in the IR's shape.
pub fn joined(tokens: &[Raw<'_>]) -> Option<Raw<'static>> {
    if tokens.is_empty() {
        return None;
    }
    let list: Vec<&str> = tokens.iter().map(Raw::get).collect();
    Some(Raw::trusted(format!(r#"{{"content":[{}]}}"#, list.join(","))))
}

fn called(blocks: &[Block<'_>]) -> bool {
    blocks.iter().any(|block| matches!(block.content, Content::ToolCall(_)))
}
