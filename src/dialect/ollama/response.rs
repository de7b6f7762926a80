//! Answers: a chat body to the IR.

use super::NAME;
use super::wire::{self, Answer, Call, Message, adopt, arguments};
use crate::ir::{Block, Candidate, Content, Media, MediaKind, Origin, Reasoning, Response, Source, ToolCall};
use crate::wire::json::{self, Extras, Invalid, Text, clip};

/// Most blocks that an answer may have.
const MOST_BLOCKS: usize = 65_536;

/// Reads a whole answer.
///
/// # Errors
/// The body is an error, no answer, or a piece of a stream.
pub(super) fn decode(body: &[u8]) -> Result<Response<'_>, Invalid> {
    let answer: Answer<'_> = json::read(body)?;
    let invalid = |path: &str, message: String| Invalid { path: path.into(), message };
    if let Some(error) = answer.error.filter(|error| !error.is_null()) {
        return Err(invalid("error", format!("an error in place of an answer: {}", clip(error.get(), 400))));
    }
    let message = answer.message.ok_or_else(|| invalid("message", "a value is required".into()))?;
    if answer.done == Some(false) {
        return Err(invalid("done", "the answer is not whole".into()));
    }
    let mut extras = Extras::default();
    let blocks: Vec<_> = contents(message, &mut extras).map(Block::new).take(MOST_BLOCKS).collect();
    let called = blocks.iter().any(|block| matches!(block.content, Content::ToolCall(_)));
    adopt(&mut extras, "", answer.extras);
    let candidate = Candidate {
        blocks,
        finish: Some(wire::finish(answer.reason, called)),
        logprobs: wire::logprobs(answer.logprobs),
        ..Candidate::default()
    };
    Ok(Response {
        origin: Origin(NAME),
        id: wire::id(answer.created.as_ref()).into(),
        model: answer.model.unwrap_or_default(),
        created: wire::seconds(answer.created.as_ref()),
        candidates: vec![candidate],
        usage: wire::usage(answer.prompt.as_ref(), answer.answer.as_ref()),
        extras,
        ..Response::default()
    })
}

/// What a message says, in the order in which it was thought, said and done. A line of a stream is read by it too.
pub(super) fn contents<'a>(message: Message<'a>, extras: &mut Extras<'a>) -> impl Iterator<Item = Content<'a>> {
    adopt(extras, "message.", message.extras);
    let some = |text: Option<Text<'a>>| text.filter(|text| !text.is_empty());
    let thought =
        some(message.thinking).map(|text| Content::Reasoning(Reasoning { text: Some(text), ..Reasoning::default() }));
    let text = some(message.content).map(|text| Content::Text { text, citations: Vec::new() });
    let images = message.images.unwrap_or_default().into_iter().map(image);
    let calls = message.calls.unwrap_or_default().into_iter().map(call);
    thought.into_iter().chain(text).chain(images).chain(calls)
}

fn image(data: Text<'_>) -> Content<'_> {
    let source = Source::Base64(data);
    Content::Media(Media { kind: MediaKind::Image, source, mime: None, name: None, detail: None })
}

fn call(call: Call<'_>) -> Content<'_> {
    let function = call.function.unwrap_or_default();
    Content::ToolCall(ToolCall {
        id: call.id.unwrap_or_default(),
        name: function.name.unwrap_or_default(),
        arguments: arguments(function.arguments),
        ..ToolCall::default()
    })
}
