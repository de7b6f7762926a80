//! Answers, written: the IR to a message.
//!
//! The SDKs' types demand usage, ids that begin with `msg_` and a stop reason; where the provider said none, they are made
//! here. How thoughts of other issuers are written is told in [`seal`].

use super::super::seal;
use super::super::wire::Bag;
use super::{NAME, usage};
use crate::dialect::Shown;
use crate::ir::{
    Block, Candidate, Content, Finish, FinishReason, Losses, MediaKind, Reasoning, Response, ToolCall, ToolKind, Usage,
};
use crate::wire::json::{self, Kind, Raw};
use crate::wire::writer::{self, Array, Object};

/// Writes a whole answer.
pub(super) fn encode(response: &Response<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let own = response.origin.0 == NAME;
    let empty = Candidate::default();
    let mut candidates = response.candidates.iter();
    let candidate = candidates.next().unwrap_or(&empty);
    for other in candidates {
        losses.dropped(choice(other.index));
    }
    writer::object(out, |o| {
        o.string("id", &message_id(&response.id, shown));
        o.string("type", "message");
        o.string("role", "assistant");
        o.string("model", if response.model.is_empty() { shown.asked.model } else { &response.model });
        let mut said = Said::default();
        o.array("content", |a| {
            for block in &candidate.blocks {
                said.block(block, own, &response.id, shown, losses, a);
            }
        });
        let (word, sequence) = match &candidate.finish {
            Some(finish) => (stop_reason(finish, said.called(), said.refused, losses), finish.sequence.as_deref()),
            None if said.called() => ("tool_use", None),
            None => (if said.refused { "refusal" } else { "end_turn" }, None),
        };
        o.string("stop_reason", word);
        match sequence {
            Some(sequence) => o.string("stop_sequence", sequence),
            None => o.null("stop_sequence"),
        }
        o.object("usage", |o| {
            usage::write(o, &counted(response.usage, losses), true);
            if let Some(tier) = usage::tier(response.service_tier.as_deref(), losses) {
                o.string("service_tier", tier);
            }
        });
        for (name, json) in response.extras.iter().chain(candidate.extras.iter()) {
            if own {
                o.raw(name, json);
            } else {
                losses.dropped(name.to_owned());
            }
        }
        if response.fingerprint.is_some() {
            losses.dropped("system_fingerprint");
        }
        if candidate.logprobs.is_some() {
            losses.dropped("logprobs");
        }
        usage::costs(o, shown);
    });
}

/// The path of a candidate that is not shown: a message has one answer.
pub(super) fn choice(index: u32) -> String {
    format!("choices[{index}]")
}

/// What the provider counted. Programs read the counts without asking whether there are any.
pub(super) fn counted(usage: Option<Usage>, losses: &mut Losses) -> Usage {
    usage.unwrap_or_else(|| {
        losses.emulated("usage");
        Usage::default()
    })
}

/// The id of a message: the provider's where it is one of this dialect, else one made of the call's.
pub(super) fn message_id(id: &str, shown: &Shown<'_>) -> String {
    match (id.starts_with("msg_"), shown.asked.id) {
        (true, _) => id.to_owned(),
        (false, "") => format!("msg_{:08x}", crc32fast::hash(id.as_bytes())),
        (false, call) => format!("msg_{call}"),
    }
}

/// An id for a tool call whose provider gave none: stable for the answer and its place in it, unlike those of other
/// answers, because a conversation keeps them all, and no longer than the 40 characters that OpenAI takes.
pub(super) fn call_id(answer: &str, number: u64, shown: &Shown<'_>) -> String {
    let of = if shown.asked.id.is_empty() { answer } else { shown.asked.id };
    format!("toolu_{:08x}_{number}", crc32fast::hash(of.as_bytes()))
}

/// The limit was not the caller's, but the model's.
const FULL: &str = "model_context_window_exceeded";

/// The word for why the model stopped. `called`: there are tool calls; programs go on only at `tool_use`, and several
/// providers say that they stopped. `refused`: the model declined in words, which others have no reason for.
pub(super) fn stop_reason(finish: &Finish<'_>, called: bool, refused: bool, losses: &mut Losses) -> &'static str {
    match finish.reason {
        // Anthropic's own word is true beside calls too: code that the model wrote made them, and was answered.
        FinishReason::Stop if called && finish.native.as_deref() != Some("end_turn") => "tool_use",
        FinishReason::Stop if refused => "refusal",
        FinishReason::Stop => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        // Two words mean the same to the IR.
        FinishReason::Length if finish.native.as_deref() == Some(FULL) => FULL,
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::Error | FinishReason::Other => {
            losses.altered("stop_reason");
            if called { "tool_use" } else { "end_turn" }
        }
    }
}

/// What an answer had so far, as far as the reason to stop depends on it.
#[derive(Debug, Default)]
struct Said {
    calls: u64,
    refused: bool,
}

impl Said {
    fn called(&self) -> bool {
        self.calls > 0
    }

    fn block(
        &mut self,
        block: &Block<'_>,
        own: bool,
        answer: &str,
        shown: &Shown<'_>,
        losses: &mut Losses,
        a: &mut Array<'_>,
    ) {
        let extras = |o: &mut Object<'_>| {
            if own {
                o.extras(&block.extras);
            }
        };
        if !own {
            for (name, _) in block.extras.iter() {
                losses.dropped(format!("content.{name}"));
            }
        }
        match &block.content {
            Content::Text { text, citations } => {
                let cited: Vec<_> = citations.iter().filter(|json| is_citation(json)).collect();
                if cited.len() < citations.len() {
                    losses.dropped("content.citations");
                }
                // A block that says nothing is refused when it comes back.
                if text.is_empty() && cited.is_empty() && !own {
                    return;
                }
                a.object(|o| {
                    o.string("type", "text");
                    o.string("text", text);
                    if !cited.is_empty() {
                        o.array("citations", |a| cited.iter().for_each(|json| a.raw(json)));
                    }
                    extras(o);
                });
            }
            Content::Refusal(text) => {
                self.refused = true;
                losses.emulated("refusal");
                a.object(|o| {
                    o.string("type", "text");
                    o.string("text", text);
                });
            }
            Content::Reasoning(thought) => write_thought(thought, a),
            Content::ToolCall(call) => {
                let made = call.id.is_empty().then(|| call_id(answer, self.calls, shown));
                let id = made.as_deref().unwrap_or(&call.id);
                self.calls += 1;
                if let Some(signature) = &call.signature {
                    a.object(|o| write_redacted(&seal::call(id, signature), o));
                }
                a.object(|o| {
                    write_call(id, &call.name, o);
                    write_input(call, o, losses);
                    extras(o);
                });
            }
            Content::Other { json, .. } if own => a.raw(json),
            other => losses.dropped(lost(other)),
        }
    }
}

/// Writes a thought: one block, or two where there are both a text and encrypted data of Anthropic's.
fn write_thought(thought: &Reasoning<'_>, a: &mut Array<'_>) {
    let text = thought.text.as_deref().unwrap_or_default();
    if !is_own(thought) {
        let proof = thought.signature.is_some() || thought.encrypted.is_some();
        if !text.is_empty() {
            a.object(|o| write_thinking(text, &seal::thought(thought), o));
        } else if proof {
            a.object(|o| write_redacted(&seal::thought(thought), o));
        }
        return;
    }
    if !text.is_empty() || thought.signature.is_some() {
        a.object(|o| write_thinking(text, thought.signature.as_deref().unwrap_or_default(), o));
    }
    if let Some(data) = &thought.encrypted {
        a.object(|o| write_redacted(data, o));
    }
}

/// Whether Anthropic issued a thought: its proofs go as they are.
pub(super) fn is_own(thought: &Reasoning<'_>) -> bool {
    thought.issuer.as_deref() == Some(NAME)
}

pub(super) fn write_thinking(text: &str, signature: &str, o: &mut Object<'_>) {
    o.string("type", "thinking");
    o.string("thinking", text);
    o.string("signature", signature);
}

pub(super) fn write_redacted(data: &str, o: &mut Object<'_>) {
    o.string("type", "redacted_thinking");
    o.string("data", data);
}

/// Writes a call, all but its input.
pub(super) fn write_call(id: &str, name: &str, o: &mut Object<'_>) {
    o.string("type", "tool_use");
    o.string("id", id);
    o.string("name", name);
}

/// The member that holds text which is no JSON object, and how the call's path is named for it.
pub(super) fn wrapper(kind: ToolKind, losses: &mut Losses) -> &'static str {
    match kind {
        ToolKind::Custom => {
            losses.emulated("content.tool_use.custom");
            "input"
        }
        ToolKind::Function => {
            losses.altered("content.tool_use.input");
            "arguments"
        }
    }
}

fn write_input(call: &ToolCall<'_>, o: &mut Object<'_>, losses: &mut Losses) {
    let text = call.arguments.trim();
    match call.kind {
        ToolKind::Function if text.is_empty() => o.literal("input", "{}"),
        ToolKind::Function if Raw::parse(text).is_ok_and(|raw| raw.kind() == Kind::Object) => {
            o.value("input").extend_from_slice(text.as_bytes());
        }
        kind => {
            let name = wrapper(kind, losses);
            o.object("input", |o| o.string(name, &call.arguments));
        }
    }
}

/// A citation of this dialect: its kinds are all places (`char_location`, `web_search_result_location`, ...).
pub(super) fn is_citation(json: &Raw<'_>) -> bool {
    json.read::<Bag<'_>>().is_ok_and(|bag| {
        bag.extras
            .get("type")
            .and_then(|kind| kind.get().strip_suffix('"'))
            .is_some_and(|kind| kind.ends_with("_location"))
    })
}

/// The name of a block that a message cannot show.
pub(super) fn lost(content: &Content<'_>) -> String {
    match content {
        Content::Other { kind, .. } => format!("content.{}", json::clip(kind, 80)),
        Content::ToolResult(_) => "content.tool_result".to_owned(),
        Content::Media(media) => match media.kind {
            MediaKind::Image => "content.image".to_owned(),
            MediaKind::Audio => "content.audio".to_owned(),
            MediaKind::Video => "content.video".to_owned(),
            MediaKind::File => "content.file".to_owned(),
        },
        _ => "content".to_owned(),
    }
}
