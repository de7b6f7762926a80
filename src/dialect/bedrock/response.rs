//! Answers: a Converse body to the IR.
//!
//! An answer says neither its id nor its model: the id is a header, and the model stands in the request's path (but where
//! a prompt router chose it, the trace tells). Blocks and stop reasons are read by the same functions in a stream, so
//! that it cannot come out differently. What the answer took in time is not part of it and is left out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::format::ANSWER;
use super::usage::usage;
use super::wire::{Answer, Bag, Call, Fields, Part, Picture, SERVER_TOOL, STOPS, Thought, Trace};
use super::{ISSUER, NAME};
use crate::ir::{
    Block, Candidate, Content, Finish, FinishReason, Media, MediaKind, Origin, Reasoning, Response, Source, ToolCall,
};
use crate::wire::json::{self, Extras, Invalid, Raw, Text};

/// Most blocks that an answer may have.
const MOST_BLOCKS: usize = 65_536;

/// Reads a whole answer.
///
/// # Errors
/// The body is an error, or no answer.
pub(super) fn decode(body: &[u8]) -> Result<Response<'_>, Invalid> {
    let answer: Answer<'_> = json::read(body)?;
    let invalid = |path: &str, message: String| Invalid { path: path.into(), message };
    let output = answer.output.unwrap_or_default();
    let message = output.message.unwrap_or_default();
    let Some(content) = message.content else {
        let message = answer.message.map_or_else(|| "expected a message".to_owned(), |message| message.to_string());
        return Err(invalid("output.message.content", message));
    };
    if content.len() > MOST_BLOCKS {
        return Err(invalid("output.message.content", "too many blocks".into()));
    }
    let mut calls = Calls::default();
    let mut blocks = Vec::with_capacity(content.len());
    for (i, raw) in content.into_iter().enumerate() {
        let read = block(raw).map_err(|e| invalid(&format!("output.message.content[{i}].{}", e.path), e.message))?;
        calls.see(&read);
        blocks.push(read.block);
    }
    let fields = answer.fields.filter(|fields| !fields.is_null());
    let finish = answer.stop.map(|reason| finish(reason, fields.as_ref(), calls));
    let mut extras = said(answer.extras);
    for (prefix, inner) in [("output", output.extras), ("output.message", message.extras)] {
        for (name, json) in said(inner).0 {
            extras.push(format!("{prefix}.{name}"), json);
        }
    }
    if let Some(trace) = &answer.trace {
        extras.push("trace", trace.clone());
    }
    leftover(fields.as_ref(), &mut extras);
    Ok(Response {
        origin: Origin(NAME),
        model: answer.trace.as_ref().and_then(routed).unwrap_or_default(),
        candidates: vec![Candidate { blocks, finish, ..Candidate::default() }],
        usage: answer.usage.as_ref().map(usage),
        service_tier: answer.tier.and_then(|tier| tier.kind),
        extras,
        ..Response::default()
    })
}

/// The members that say something.
pub(super) fn said(mut extras: Extras<'_>) -> Extras<'_> {
    extras.0.retain(|(_, json)| !json.is_null());
    extras
}

/// The model that a router chose.
fn routed<'a>(trace: &Raw<'a>) -> Option<Text<'a>> {
    trace.open::<Trace<'a>>().ok()?.router?.model
}

/// What the model added of its own, but for the sequence that it stopped at.
pub(super) fn leftover<'a>(fields: Option<&Raw<'a>>, extras: &mut Extras<'a>) {
    if let Some(fields) = fields
        && fields.open::<Fields<'a>>().is_ok_and(|fields| !said(fields.extras).is_empty())
    {
        extras.push("additionalModelResponseFields", fields.clone());
    }
}

/// A block, and whether it is the tool that stands for a schema.
pub(super) struct Read<'a> {
    pub(super) block: Block<'a>,
    answers: bool,
}

/// What was called in one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    pub(super) tools: bool,
    pub(super) answer: bool,
}

impl Calls {
    pub(super) fn see(&mut self, read: &Read<'_>) {
        self.answer |= read.answers;
        self.tools |= matches!(read.block.content, Content::ToolCall(_));
    }
}

/// Reads one block. Kinds that the IR has no word for are kept whole: traffic of tools that Bedrock runs itself above all.
///
/// # Errors
/// The block is not an object, or a member of it is not what it should be.
pub(super) fn block(raw: Raw<'_>) -> Result<Read<'_>, Invalid> {
    let part: Part<'_> = raw.open()?;
    let plain = |content| Ok(Read { block: Block::new(content), answers: false });
    let beside = |content, extras| Ok(Read { block: Block::with(content, None, extras), answers: false });
    let mut extras = said(part.extras);
    if let Some(text) = part.text {
        return beside(Content::Text { text, citations: Vec::new() }, extras);
    }
    if let Some(mut call) = part.call {
        let answers = call.name.as_deref() == Some(ANSWER);
        if call.kind.as_deref() == Some(SERVER_TOOL) {
            return plain(Content::Other { kind: SERVER_TOOL.into(), json: raw });
        }
        extras.0.append(&mut said(std::mem::take(&mut call.extras)).0);
        return Ok(Read { block: Block::with(self::call(call), None, extras), answers });
    }
    if let Some(mut thought) = part.reasoning {
        extras.0.append(&mut said(std::mem::take(&mut thought.extras)).0);
        return beside(Content::Reasoning(self::thought(thought)), extras);
    }
    if let Some(cited) = part.cited {
        let mut texts = cited.content.unwrap_or_default().into_iter().filter_map(|part| part.text);
        let first = texts.next().unwrap_or_default();
        let text = texts.fold(first, |all, next| Text::from(format!("{all}{next}")));
        return beside(Content::Text { text, citations: cited.citations.unwrap_or_default() }, extras);
    }
    if let Some(content) = part.image.and_then(|image| picture(&image)) {
        return beside(content, extras);
    }
    let kind = match extras.0.into_iter().next() {
        Some((name, _)) => name,
        None => Text::from("image"),
    };
    plain(Content::Other { kind, json: raw })
}

/// A call; text where it is the tool that stands for a schema.
pub(super) fn call(call: Call<'_>) -> Content<'_> {
    let arguments = call.input.map_or_else(|| Text::from("{}"), Raw::into_text);
    let name = call.name.unwrap_or_default();
    if name == ANSWER {
        return Content::Text { text: arguments, citations: Vec::new() };
    }
    Content::ToolCall(ToolCall { id: call.id.unwrap_or_default(), name, arguments, ..ToolCall::default() })
}

fn thought(thought: Thought<'_>) -> Reasoning<'_> {
    let told = thought.told.unwrap_or_default();
    let (encrypted, issuer) = match thought.redacted.filter(|data| !data.is_empty()) {
        Some(data) => {
            let (data, issuer) = redacted(data);
            (Some(data), issuer)
        }
        None => (None, ISSUER),
    };
    Reasoning {
        text: told.text.filter(|text| !text.is_empty()),
        signature: told.signature.filter(|signature| !signature.is_empty()),
        encrypted,
        issuer: Some(issuer.into()),
        ..Reasoning::default()
    }
}

/// Encrypted thoughts as Claude's own API has them, and who issued them. Bedrock gives bytes in base64, and Claude's are
/// letters themselves.
pub(super) fn redacted(data: Text<'_>) -> (Text<'_>, &'static str) {
    match STANDARD.decode(data.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => (Text(Cow::Owned(text)), ISSUER),
        None => (data, NAME),
    }
}

/// An image of the model's; `None` where its bytes are elsewhere.
pub(super) fn picture<'a>(image: &Picture<'a>) -> Option<Content<'a>> {
    let bytes = image.source.as_ref()?.bytes.clone()?;
    let mime = image.format.as_ref().map(|format| Text::from(format!("image/{format}")));
    Some(Content::Media(Media {
        kind: MediaKind::Image,
        source: Source::Base64(bytes),
        mime,
        name: None,
        detail: None,
    }))
}

/// Why the model stopped. That it called the tool which stands for a schema is no call, but an answer.
pub(super) fn finish<'a>(native: Text<'a>, fields: Option<&Raw<'a>>, calls: Calls) -> Finish<'a> {
    let known = STOPS.iter().find(|(word, _)| native == *word);
    let reason = match known.map_or(FinishReason::Other, |(_, reason)| *reason) {
        FinishReason::ToolCalls if calls.answer && !calls.tools => FinishReason::Stop,
        reason => reason,
    };
    let sequence = fields.and_then(|fields| fields.open::<Fields<'a>>().ok()).and_then(|fields| fields.sequence);
    Finish { reason, sequence, native: Some(native) }
}

/// An object of which one member is another's, for blocks that are put together.
pub(super) fn members<'a>(raw: &'a Raw<'_>) -> Extras<'a> {
    raw.read::<Bag<'a>>().map(|bag| bag.extras).unwrap_or_default()
}
