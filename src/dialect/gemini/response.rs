//! Answers: `GenerateContentResponse` to the IR.
//!
//! The pieces that a stream needs too (parts to blocks, finish reasons, log probabilities) are here, so that a whole
//! answer and its stream cannot come out differently.

use super::NAME;
use super::media::guessed;
use super::name;
use super::wire::{Answer, Blob, Call, Candidate, Counts, Feedback, Logprobs, Part, Token, Tokens};
use crate::ir::{
    self, Block, Content, Finish, FinishReason, Media, MediaKind, Origin, Reasoning, Response, Source, ToolCall,
};
use crate::wire::json::{self, Extras, Invalid, Raw, Text};
use crate::wire::writer;

/// Most candidates an answer may have.
pub(super) const MOST_CANDIDATES: usize = 64;

/// Reads a whole answer. An array of answers is what `streamGenerateContent` sends without `alt=sse`: the same answer
/// in pieces, so they are put together.
pub(super) fn decode(body: &[u8]) -> Result<Response<'_>, Invalid> {
    let answers: Vec<Answer<'_>> = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => json::read(body)?,
        _ => vec![json::read(body)?],
    };
    let mut response = Response { origin: Origin(NAME), ..Response::default() };
    for answer in answers {
        add(&mut response, answer)?;
    }
    if response.candidates.is_empty() {
        return Err(Invalid { path: "candidates".into(), message: "expected at least one candidate".into() });
    }
    for candidate in &mut response.candidates {
        let called = candidate.blocks.iter().any(|block| matches!(block.content, Content::ToolCall(_)));
        settle(&mut candidate.finish, called);
    }
    Ok(response)
}

fn add<'a>(response: &mut Response<'a>, answer: Answer<'a>) -> Result<(), Invalid> {
    let Answer { candidates, feedback, usage, model, id, created, error, extras } = answer;
    if let Some(error) = error {
        let message = super::fault::read(200, error.get().as_bytes()).message;
        return Err(Invalid { path: "error".into(), message });
    }
    if let Some(id) = id {
        response.id = id;
    }
    if let Some(model) = model {
        response.model = model;
    }
    response.created = response.created.or_else(|| created.as_deref().and_then(seconds));
    if let Some(usage) = usage {
        note(&mut response.extras, &usage);
        response.usage = usage.usage().or(response.usage);
        response.service_tier = usage.tier.or(response.service_tier.take());
    }
    for candidate in candidates.unwrap_or_default() {
        candidate_of(&mut response.candidates, candidate)?;
    }
    if let Some(feedback) = feedback {
        if let Some(finish) = blocked(&feedback)
            && response.candidates.is_empty()
        {
            response.candidates.push(ir::Candidate { finish: Some(finish), ..ir::Candidate::default() });
        }
        response.extras.push("promptFeedback", feedback);
    }
    response.extras.0.extend(extras.0);
    Ok(())
}

/// What Vertex AI says of how the call was admitted (provisioned, on demand) is no count; it is kept by its path.
fn note<'a>(extras: &mut Extras<'a>, usage: &Counts<'a>) {
    if let Some(traffic) = &usage.traffic
        && extras.get(TRAFFIC).is_none()
    {
        extras.push(TRAFFIC, traffic.clone());
    }
}

pub(super) const TRAFFIC: &str = "usageMetadata.trafficType";

fn candidate_of<'a>(candidates: &mut Vec<ir::Candidate<'a>>, read: Candidate<'a>) -> Result<(), Invalid> {
    let Candidate { index, content, finish, logprobs, mut extras } = read;
    let index = index.and_then(|n| n.as_u64()).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let at = match candidates.iter().position(|candidate| candidate.index == index) {
        Some(at) => at,
        None if candidates.len() < MOST_CANDIDATES => {
            candidates.push(ir::Candidate { index, ..ir::Candidate::default() });
            candidates.len().saturating_sub(1)
        }
        None => return Err(Invalid { path: "candidates".into(), message: "too many candidates".into() }),
    };
    let Some(candidate) = candidates.get_mut(at) else { return Ok(()) };
    let content = content.unwrap_or_default();
    for (name, json) in content.extras.0 {
        candidate.extras.push(format!("content.{name}"), json);
    }
    for part in content.parts.unwrap_or_default() {
        if part.call.as_ref().is_some_and(|call| call.partial.is_some()) {
            let message = "arguments in pieces belong into a stream".into();
            return Err(Invalid { path: "candidates.content.parts.functionCall.partialArgs".into(), message });
        }
        blocks(part, &mut |block| candidate.blocks.push(block));
    }
    if let Some(finish) = finish {
        candidate.finish = Some(self::finish(finish.0));
    }
    if let Some(logprobs) = logprobs {
        candidate.logprobs = Some(self::logprobs(&logprobs));
    }
    candidate.extras.0.append(&mut extras.0);
    Ok(())
}

/// Turns a part into blocks: none where it says nothing, two where a part that is no thought and no call is signed. The
/// signature then becomes a reasoning block without text of its own, right before what it signs, and is put back there
/// by the encoder.
pub(super) fn blocks<'a>(part: Part<'a>, each: &mut impl FnMut(Block<'a>)) {
    let Part { text, thought, signature, inline, file, call, mut extras } = part;
    if thought == Some(true) && (call.is_some() || inline.is_some() || file.is_some()) {
        // An image that was only thought of, for example.
        extras.push("thought", Raw::literal("true"));
    }
    let mut put = |content: Content<'a>, extras: Extras<'a>| each(Block::with(content, None, extras));
    let issuer = || Some(Text::from(NAME));
    if let Some(mut call) = call {
        for (name, json) in std::mem::take(&mut call.extras).0 {
            extras.push(format!("functionCall.{name}"), json);
        }
        return put(Content::ToolCall(tool_call(call, signature)), extras);
    }
    if thought == Some(true) && text.is_some() {
        return put(
            Content::Reasoning(Reasoning { text, signature, issuer: issuer(), ..Reasoning::default() }),
            extras,
        );
    }
    let known = text.is_some() || inline.is_some() || file.is_some();
    if !known && !extras.is_empty() {
        return put(other(signature, extras), Extras::default());
    }
    if let Some(signature) = signature {
        let signature = Some(signature);
        put(Content::Reasoning(Reasoning { signature, issuer: issuer(), ..Reasoning::default() }), Extras::default());
    }
    if let Some(text) = text
        && (!text.is_empty() || !extras.is_empty())
    {
        put(Content::Text { text, citations: Vec::new() }, extras);
    } else if let Some(blob) = inline {
        put(Content::Media(media(blob)), extras);
    } else if let Some(file) = file {
        let uri = file.uri.unwrap_or_default();
        let kind = kind(Some(file.mime.as_deref().unwrap_or_else(|| guessed(&uri, MediaKind::File))));
        let source = Source::Url(uri);
        put(Content::Media(Media { kind, source, mime: file.mime, name: file.name, detail: None }), extras);
    }
}

pub(super) fn tool_call<'a>(call: Call<'a>, signature: Option<Text<'a>>) -> ToolCall<'a> {
    ToolCall {
        id: call.id.unwrap_or_default(),
        name: name::original(call.name.unwrap_or_default()),
        arguments: call.args.map_or_else(|| Text::from("{}"), Raw::into_text),
        signature,
        ..ToolCall::default()
    }
}

/// A part of a kind that only this dialect has (`executableCode`, `codeExecutionResult`, `toolCall`, ...), whole.
fn other<'a>(signature: Option<Text<'a>>, extras: Extras<'a>) -> Content<'a> {
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        o.extras(&extras);
        if let Some(signature) = &signature {
            o.string("thoughtSignature", signature);
        }
    });
    let kind = extras.0.into_iter().next().map(|(name, _)| name).unwrap_or_default();
    Content::Other { kind, json: raw(out) }
}

fn media(blob: Blob<'_>) -> Media<'_> {
    let kind = kind(blob.mime.as_deref());
    let source = Source::Base64(standard(blob.data.unwrap_or_default()));
    Media { kind, source, mime: blob.mime, name: blob.name, detail: None }
}

fn kind(mime: Option<&str>) -> MediaKind {
    match mime.and_then(|mime| mime.split('/').next()) {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::File,
    }
}

/// Base64 in the standard alphabet; protobuf JSON may use the one for URLs (RFC 4648 section 5).
fn standard(data: Text<'_>) -> Text<'_> {
    if !data.bytes().any(|byte| matches!(byte, b'-' | b'_')) {
        return data;
    }
    data.chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect::<String>()
        .into()
}

/// Why the model stopped. The numbers are those that both editions of the enumeration agree on.
pub(super) fn finish(word: Text<'_>) -> Finish<'_> {
    let reason = match word.as_str() {
        "STOP" | "1" => FinishReason::Stop,
        "MAX_TOKENS" | "2" => FinishReason::Length,
        "SAFETY"
        | "3"
        | "RECITATION"
        | "4"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE"
        | "NO_IMAGE" => FinishReason::Error,
        _ => FinishReason::Other,
    };
    Finish { reason, sequence: None, native: Some(word) }
}

/// Gemini stops with `STOP` also where it stops in order to call.
pub(super) fn settle(finish: &mut Option<Finish<'_>>, called: bool) {
    if let Some(finish) = finish
        && called
        && finish.reason == FinishReason::Stop
    {
        finish.reason = FinishReason::ToolCalls;
    }
}

/// The finish of an answer that was withheld because of its prompt (`promptFeedback.blockReason`).
pub(super) fn blocked(feedback: &Raw<'_>) -> Option<Finish<'static>> {
    let word = feedback.read::<Feedback<'_>>().ok()?.blocked?;
    let native = Some(word.0.into_owned());
    Some(Finish { reason: FinishReason::ContentFilter, sequence: None, native })
}

/// `logprobsResult` in OpenAI's shape; the bytes of a token are not told.
pub(super) fn logprobs(result: &Logprobs<'_>) -> Raw<'static> {
    fn members(o: &mut writer::Object<'_>, token: &Token<'_>) {
        o.string("token", token.token.as_deref().unwrap_or_default());
        match &token.logprob {
            Some(logprob) => o.digits("logprob", logprob),
            None => o.null("logprob"),
        }
        o.null("bytes");
    }
    let mut top = result.top.iter().flatten();
    let mut out = Vec::new();
    writer::object(&mut out, |o| {
        o.array("content", |a| {
            for chosen in result.chosen.iter().flatten() {
                let beside = top.next();
                a.object(|o| {
                    members(o, chosen);
                    o.array("top_logprobs", |a| {
                        for token in
                            beside.into_iter().flat_map(|Tokens { candidates, .. }| candidates.iter().flatten())
                        {
                            a.object(|o| members(o, token));
                        }
                    });
                });
            }
        });
    });
    raw(out)
}

/// Unix seconds of an RFC 3339 time.
pub(super) fn seconds(time: &str) -> Option<u64> {
    time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok())
}

/// What our writer wrote, as a value.
pub(super) fn raw(json: Vec<u8>) -> Raw<'static> {
    Raw::trusted(String::from_utf8(json).unwrap_or_default())
}
