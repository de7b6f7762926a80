//! Answers: a Chat body to the IR.

use super::wire::{self, Answer, Call, Citation, Message, Part, adopt, arguments, whole};
use super::{NAME, logprobs, usage};
use crate::ir::{Block, Candidate, Content, FinishReason, Origin, Reasoning, Response, ToolCall};
use crate::wire::json::{self, Extras, Invalid, Raw, Text, TextOr, clip};

/// Most blocks that an answer may have.
const MOST_BLOCKS: usize = 65_536;

/// Reads a whole answer.
///
/// # Errors
/// The body is an error, no answer, or one that the provider broke off for a failure of its own.
pub(super) fn decode(body: &[u8]) -> Result<Response<'_>, Invalid> {
    let answer: Answer<'_> = json::read(body)?;
    let invalid = |path: &str, message: String| Invalid { path: path.into(), message };
    let message = match answer.message {
        Some(TextOr::Full(message)) => message,
        Some(TextOr::Text(text)) => {
            return Err(invalid("message", format!("an error in place of an answer: {}", clip(&text, 400))));
        }
        None => return Err(invalid("message", "a value is required".into())),
    };
    let finish = answer.reason.map(wire::finish);
    if let Some(native) = finish.as_ref().filter(|finish| finish.reason == FinishReason::Error) {
        let word = native.native.as_deref().unwrap_or_default();
        return Err(invalid("finish_reason", format!("the provider broke the answer off: {word}")));
    }
    let mut extras = Extras::default();
    let blocks = blocks(message, &mut extras)?;
    adopt(&mut extras, "", answer.extras);
    let candidate =
        Candidate { blocks, finish, logprobs: answer.logprobs.and_then(logprobs::read), ..Candidate::default() };
    Ok(Response {
        origin: Origin(NAME),
        id: answer.id.unwrap_or_default(),
        candidates: vec![candidate],
        usage: usage::read(answer.usage.as_ref()),
        extras,
        ..Response::default()
    })
}

fn blocks<'a>(message: Message<'a>, extras: &mut Extras<'a>) -> Result<Vec<Block<'a>>, Invalid> {
    let mut blocks = Vec::new();
    if let Some(plan) = message.plan.filter(|plan| !plan.is_empty()) {
        blocks.push(thought(plan));
    }
    // Where each part of the content went.
    let mut places = Vec::new();
    match message.content {
        None => {}
        Some(TextOr::Text(text)) if text.is_empty() => {}
        Some(TextOr::Text(text)) => {
            places.push(Some(blocks.len()));
            blocks.push(Block::text(text));
        }
        Some(TextOr::Full(parts)) if parts.len() > MOST_BLOCKS => {
            return Err(Invalid { path: "message.content".into(), message: "too many parts".into() });
        }
        Some(TextOr::Full(parts)) => {
            for (i, raw) in parts.into_iter().enumerate() {
                let at = |e: Invalid| Invalid { path: format!("message.content[{i}].{}", e.path), message: e.message };
                let block = part(raw).map_err(at)?;
                places.push(block.is_some().then_some(blocks.len()));
                blocks.extend(block);
            }
        }
    }
    for citation in message.citations.unwrap_or_default() {
        cite(citation, &places, &mut blocks, extras);
    }
    for call in message.calls.unwrap_or_default().into_iter().take(MOST_BLOCKS) {
        blocks.push(whole_call(call));
    }
    adopt(extras, "message", message.extras);
    Ok(blocks)
}

/// Reads one part. `None`: it says nothing. Kinds that the IR has no word for are kept whole.
pub(super) fn part(raw: Raw<'_>) -> Result<Option<Block<'_>>, Invalid> {
    let part: Part<'_> = raw.open()?;
    let kind = part.kind.unwrap_or_else(|| if part.thinking.is_some() { "thinking" } else { "text" }.into());
    let mut extras = Extras::default();
    adopt(&mut extras, "", part.extras);
    Ok(match kind.as_str() {
        "text" => part.text.filter(|text| !text.is_empty()).map(|text| Block { extras, ..Block::text(text) }),
        "thinking" => part.thinking.filter(|text| !text.is_empty()).map(|text| Block { extras, ..thought(text) }),
        _ => Some(Block::new(Content::Other { kind, json: raw })),
    })
}

pub(super) fn thought(text: Text<'_>) -> Block<'_> {
    Block::new(Content::Reasoning(Reasoning { text: Some(text), ..Reasoning::default() }))
}

/// Puts a citation to the text that it belongs to.
fn cite<'a>(raw: Raw<'a>, places: &[Option<usize>], blocks: &mut [Block<'a>], extras: &mut Extras<'a>) {
    let said: Citation<'_> = raw.open().unwrap_or_default();
    let named = whole(said.content.as_ref()).and_then(|at| *places.get(usize::try_from(at).ok()?)?);
    let is_text = |block: &Block<'_>| matches!(block.content, Content::Text { .. });
    let at = named
        .filter(|at| blocks.get(*at).is_some_and(is_text))
        .or_else(|| blocks.iter().rposition(is_text))
        .filter(|_| is_of_text(&said));
    match at.and_then(|at| blocks.get_mut(at)).map(|block| &mut block.content) {
        Some(Content::Text { citations, .. }) => citations.push(raw),
        _ => extras.push("message.citations", raw),
    }
}

/// Whether a citation is one of the answer's text, rather than of a thought or a plan.
pub(super) fn is_of_text(citation: &Citation<'_>) -> bool {
    citation.kind.as_deref().is_none_or(|kind| kind == "TEXT_CONTENT")
}

fn whole_call(call: Call<'_>) -> Block<'_> {
    let function = call.function.unwrap_or_default();
    let mut extras = Extras::default();
    adopt(&mut extras, "", call.extras);
    adopt(&mut extras, "function", function.extras);
    let mut arguments = arguments(function.arguments);
    if arguments.trim().is_empty() {
        arguments = "{}".into();
    }
    let call = ToolCall {
        id: call.id.unwrap_or_default(),
        name: function.name.unwrap_or_default(),
        arguments,
        ..ToolCall::default()
    };
    Block::with(Content::ToolCall(call), None, extras)
}
