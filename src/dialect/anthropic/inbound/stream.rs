//! Streamed answers, written: block events to the events of a message.
//!
//! The shapes are nearly the same. What differs: a block of text or thoughts begins here only when something of it is
//! known, since blocks that stay empty are refused when they come back, and whether a thought is shown or redacted is
//! told by what comes first; proofs of other issuers are gathered until the block ends, and go out as one seal; usage
//! and the reason to stop wait for each other. The start waits for the usage that Anthropic's own streams begin with.
//! Providers that count only at the end leave zeros there, and `message_delta` has all counts, as it has with Anthropic.

use super::super::seal;
use super::super::wire::Bag;
use super::answer::{self, call_id, choice, counted, is_citation, is_own, lost, message_id, stop_reason, wrapper};
use super::usage;
use crate::dialect::{Shown, StreamEncoder};
use crate::ir::{Content, Delta, Event, Finish, Losses, Reasoning, ToolCall, ToolKind, Usage};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{self, Object};

#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Told by the provider and not yet written.
    start: Option<Start>,
    started: bool,
    /// The provider's id of the answer.
    id: String,
    /// Blocks begun.
    blocks: u64,
    block: Block,
    calls: u64,
    refused: bool,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Start {
    model: String,
    tier: Option<&'static str>,
}

/// The block that is open.
#[derive(Debug, Default)]
enum Block {
    /// None, or one that is not shown.
    #[default]
    Silent,
    Text {
        begun: bool,
    },
    Thought {
        begun: bool,
        /// All but the text.
        thought: Reasoning<'static>,
    },
    Call {
        id: String,
        kind: ToolKind,
        input: Input,
        /// Came after the block had begun.
        signature: Option<String>,
    },
}

/// What the arguments turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Nothing,
    Object,
    /// No object: text, within one of ours.
    Wrapped,
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        let other = match event {
            Event::Open { candidate, .. }
            | Event::Delta { candidate, .. }
            | Event::Close { candidate, .. }
            | Event::Finish { candidate, .. }
            | Event::Logprobs { candidate, .. } => *candidate,
            _ => 0,
        };
        if other > 0 {
            return losses.dropped(choice(other));
        }
        match event {
            Event::Start { id, model, service_tier, fingerprint, extras, .. } => {
                self.id = id.to_string();
                let tier = usage::tier(service_tier.as_deref(), losses);
                self.start = Some(Start { model: model.to_string(), tier });
                if fingerprint.is_some() {
                    losses.dropped("system_fingerprint");
                }
                for (name, _) in extras.iter() {
                    losses.dropped(name.to_owned());
                }
            }
            Event::Open { content, .. } => self.open(content, shown, out, losses),
            Event::Delta { delta, .. } => self.delta(delta, shown, out, losses),
            Event::Close { .. } => self.close(shown, out),
            Event::Logprobs { .. } => losses.dropped("logprobs"),
            Event::Finish { finish, .. } => {
                let native = finish.native.clone().map(Text::into_owned);
                let sequence = finish.sequence.clone().map(Text::into_owned);
                self.finish = Some(Finish { reason: finish.reason, sequence, native });
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(shown, out, losses),
            // The failure is told by `Inbound::error_event`, which knows the request.
            Event::Fault(_) => {}
            Event::Ping => frame(out, "ping", |_| {}),
            Event::Extra { name, .. } => losses.dropped(name.to_string()),
        }
    }
}

impl Encoder {
    /// Writes `message_start`, once.
    fn introduce(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let Start { model, tier } = self.start.take().unwrap_or_default();
        let usage = self.usage.unwrap_or_default();
        frame(out, "message_start", |o| {
            o.object("message", |o| {
                o.string("id", &message_id(&self.id, shown));
                o.string("type", "message");
                o.string("role", "assistant");
                o.string("model", if model.is_empty() { shown.asked.model } else { &model });
                o.array("content", |_| {});
                o.null("stop_reason");
                o.null("stop_sequence");
                o.object("usage", |o| {
                    usage::write(o, &usage, true);
                    if let Some(tier) = tier {
                        o.string("service_tier", tier);
                    }
                });
            });
        });
    }

    fn open(&mut self, content: &Content<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        self.close(shown, out);
        match content {
            Content::Text { text, citations } => {
                self.block = Block::Text { begun: false };
                self.say(text, shown, out);
                for json in citations {
                    self.cite(json, shown, out, losses);
                }
            }
            Content::Refusal(text) => {
                self.refused = true;
                losses.emulated("refusal");
                self.block = Block::Text { begun: false };
                self.say(text, shown, out);
            }
            Content::Reasoning(thought) => {
                let own = |text: &Option<Text<'_>>| text.clone().map(Text::into_owned);
                self.block = Block::Thought {
                    begun: false,
                    thought: Reasoning {
                        text: None,
                        summary: thought.summary,
                        signature: own(&thought.signature),
                        encrypted: own(&thought.encrypted),
                        issuer: own(&thought.issuer),
                        id: own(&thought.id),
                    },
                };
                self.say(thought.text.as_deref().unwrap_or_default(), shown, out);
            }
            Content::ToolCall(call) => self.call(call, shown, out, losses),
            Content::Other { kind, json } if is_kind(kind, json) => {
                self.whole(shown, out, |out| write_line(out, json));
            }
            other => losses.dropped(lost(other)),
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match (delta, &mut self.block) {
            (Delta::Text(text), Block::Text { .. } | Block::Thought { .. }) => self.say(text, shown, out),
            (Delta::Citation(json), Block::Text { .. }) => self.cite(json, shown, out, losses),
            (Delta::Signature(proof), Block::Thought { thought, .. }) => {
                thought.signature = Some(proof.clone().into_owned());
            }
            (Delta::Encrypted(data), Block::Thought { thought, .. }) => {
                thought.encrypted = Some(data.clone().into_owned());
            }
            (Delta::Arguments(piece), Block::Call { .. }) => self.argue(piece, out, losses),
            (Delta::Signature(proof), Block::Call { signature, .. }) => *signature = Some(proof.to_string()),
            // The block was named as a loss when it opened.
            _ => {}
        }
    }

    /// Writes text of the open block, which begins with it.
    fn say(&mut self, piece: &str, shown: &Shown<'_>, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        self.begin(shown, out);
        let (kind, member) = match self.block {
            Block::Thought { .. } => ("thinking_delta", "thinking"),
            _ => ("text_delta", "text"),
        };
        self.piece(out, kind, |o| o.string(member, piece));
    }

    fn cite(&mut self, json: &Raw<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        if !is_citation(json) {
            return losses.dropped("content.citations");
        }
        self.begin(shown, out);
        self.piece(out, "citations_delta", |o| write_line(o.value("citation"), json));
    }

    /// Begins the open block of text or thoughts, unless it has begun.
    fn begin(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        let (text, begun) = match &mut self.block {
            Block::Text { begun } => (true, begun),
            Block::Thought { begun, .. } => (false, begun),
            _ => return,
        };
        if std::mem::replace(begun, true) {
            return;
        }
        self.start(shown, out, |out| {
            writer::object(out, |o| {
                if text {
                    o.string("type", "text");
                    o.string("text", "");
                } else {
                    answer::write_thinking("", "", o);
                }
            });
        });
    }

    fn call(&mut self, call: &ToolCall<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        let id = if call.id.is_empty() { call_id(&self.id, self.calls, shown) } else { call.id.to_string() };
        self.calls += 1;
        if let Some(signature) = &call.signature {
            self.redacted(&seal::call(&id, signature), shown, out);
        }
        self.start(shown, out, |out| {
            writer::object(out, |o| {
                answer::write_call(&id, &call.name, o);
                o.literal("input", "{}");
            });
        });
        self.block = Block::Call { id, kind: call.kind, input: Input::Nothing, signature: None };
        self.argue(&call.arguments, out, losses);
    }

    /// Writes a piece of a call's arguments. Its first letter tells whether they are an object.
    fn argue(&mut self, piece: &str, out: &mut Vec<u8>, losses: &mut Losses) {
        let Block::Call { kind, input, .. } = &mut self.block else { return };
        let mut opening = None;
        if *input == Input::Nothing {
            let piece = piece.trim_start();
            if *kind == ToolKind::Function && piece.is_empty() {
                return;
            }
            if *kind == ToolKind::Function && piece.starts_with('{') {
                *input = Input::Object;
            } else {
                *input = Input::Wrapped;
                opening = Some(wrapper(*kind, losses));
            }
        }
        match *input {
            Input::Wrapped => {
                let mut json = Vec::with_capacity(piece.len() + 16);
                if let Some(name) = opening {
                    json.extend_from_slice(b"{\"");
                    json.extend_from_slice(name.as_bytes());
                    json.extend_from_slice(b"\":\"");
                }
                writer::escape(&mut json, piece);
                let json = String::from_utf8_lossy(&json);
                self.piece(out, "input_json_delta", |o| o.string("partial_json", &json));
            }
            _ => self.piece(out, "input_json_delta", |o| o.string("partial_json", piece)),
        }
    }

    /// Ends the open block, if there is one.
    fn close(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.block) {
            Block::Silent | Block::Text { begun: false } => {}
            Block::Text { begun: true } => self.stop(out),
            Block::Thought { begun, thought } => self.conclude(begun, &thought, shown, out),
            Block::Call { id, input, signature, .. } => {
                if input == Input::Wrapped {
                    self.piece(out, "input_json_delta", |o| o.string("partial_json", "\"}"));
                }
                self.stop(out);
                if let Some(signature) = signature {
                    self.redacted(&seal::call(&id, &signature), shown, out);
                }
            }
        }
    }

    /// Ends a thought with what proves it.
    fn conclude(&mut self, begun: bool, thought: &Reasoning<'static>, shown: &Shown<'_>, out: &mut Vec<u8>) {
        let sealed = (!is_own(thought)).then(|| seal::thought(thought));
        let (signature, data) = match &sealed {
            Some(seal) if begun => (Some(seal.as_str()), None),
            Some(seal) => (None, (thought.signature.is_some() || thought.encrypted.is_some()).then_some(seal.as_str())),
            None => (thought.signature.as_deref(), thought.encrypted.as_deref()),
        };
        if begun || signature.is_some() {
            if !begun {
                self.block = Block::Thought { begun, thought: Reasoning::default() };
                self.begin(shown, out);
                self.block = Block::Silent;
            }
            if let Some(signature) = signature {
                self.piece(out, "signature_delta", |o| o.string("signature", signature));
            }
            self.stop(out);
        }
        if let Some(data) = data {
            self.redacted(data, shown, out);
        }
    }

    fn redacted(&mut self, data: &str, shown: &Shown<'_>, out: &mut Vec<u8>) {
        self.whole(shown, out, |out| writer::object(out, |o| answer::write_redacted(data, o)));
    }

    /// Writes a block that comes in one piece.
    fn whole(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>, block: impl FnOnce(&mut Vec<u8>)) {
        self.start(shown, out, block);
        self.stop(out);
    }

    fn start(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>, block: impl FnOnce(&mut Vec<u8>)) {
        self.introduce(shown, out);
        let index = self.blocks;
        self.blocks += 1;
        frame(out, "content_block_start", |o| {
            o.number("index", index);
            block(o.value("content_block"));
        });
    }

    fn piece(&self, out: &mut Vec<u8>, kind: &str, members: impl FnOnce(&mut Object<'_>)) {
        frame(out, "content_block_delta", |o| {
            o.number("index", self.blocks.saturating_sub(1));
            o.object("delta", |o| {
                o.string("type", kind);
                members(o);
            });
        });
    }

    fn stop(&self, out: &mut Vec<u8>) {
        frame(out, "content_block_stop", |o| o.number("index", self.blocks.saturating_sub(1)));
    }

    fn end(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        self.introduce(shown, out);
        self.close(shown, out);
        let called = self.calls > 0;
        let finish = self.finish.take();
        let word = match &finish {
            Some(finish) => stop_reason(finish, called, self.refused, losses),
            None if called => "tool_use",
            None => "end_turn",
        };
        let usage = counted(self.usage, losses);
        frame(out, "message_delta", |o| {
            o.object("delta", |o| {
                o.string("stop_reason", word);
                match finish.as_ref().and_then(|finish| finish.sequence.as_deref()) {
                    Some(sequence) => o.string("stop_sequence", sequence),
                    None => o.null("stop_sequence"),
                }
            });
            o.object("usage", |o| usage::write(o, &usage, false));
            usage::costs(o, shown);
        });
        frame(out, "message_stop", |_| {});
    }
}

/// Whether a block is one of this dialect's own: an event does not tell where it comes from. Names alone do not either:
/// Converse has a `server_tool_use` without a type, Responses a `compaction` without content.
fn is_kind(kind: &str, json: &Raw<'_>) -> bool {
    let known = matches!(kind, "server_tool_use" | "mcp_tool_use" | "container_upload" | "compaction")
        || kind.ends_with("_tool_result");
    let members = || json.read::<Bag<'_>>().map(|bag| bag.extras).unwrap_or_default();
    let typed =
        || members().get("type").and_then(|raw| raw.read::<Text<'_>>().ok()).is_some_and(|said| said.as_str() == kind);
    known && typed() && (kind != "compaction" || members().get("content").is_some())
}

/// Writes one event.
fn frame(out: &mut Vec<u8>, kind: &str, members: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    writer::object(out, |o| {
        o.string("type", kind);
        members(o);
    });
    out.extend_from_slice(b"\n\n");
}

/// Writes a provider's JSON on one line: a line feed would end the `data:` field, and between strings it is only space.
fn write_line(out: &mut Vec<u8>, json: &Raw<'_>) {
    out.extend(json.get().bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_other_dialects_are_known_by_their_members() {
        let own = |kind, json| is_kind(kind, &Raw::literal(json));
        assert!(own("server_tool_use", r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#));
        assert!(own("compaction", r#"{"type":"compaction","content":"so far"}"#));
        assert!(!own("server_tool_use", r#"{"toolUse":{"type":"server_tool_use","name":"f"}}"#));
        assert!(!own("compaction", r#"{"type":"compaction","id":"cmp_1","encrypted_content":"x"}"#));
        assert!(!own("web_search_call", r#"{"type":"web_search_call"}"#));
    }
}
