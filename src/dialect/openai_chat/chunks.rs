//! Streamed answers, written: block events into `chat.completion.chunk` frames.

use std::collections::BTreeMap;

use crate::dialect::{Shown, StreamEncoder};
use crate::ir::{Content, Delta, Event, FinishReason, Losses, MediaKind, Reasoning, ToolCall, ToolKind, Usage};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{self, Object};

use super::reasoning::{self, Piece};
use super::response::{lost, made_id, write_image, write_shown};
use super::usage;
use super::wire::{finish_word, is_annotation, write_google_signature};

pub struct Encoder {
    include_usage: bool,
    /// What every chunk begins with, up to `choices`.
    head: Vec<u8>,
    id: String,
    candidates: BTreeMap<u32, Candidate>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct Candidate {
    /// The chunk with the role went out.
    begun: bool,
    block: Block,
    /// Running number of tool calls.
    calls: u64,
    /// Running number of entries of `reasoning_details`.
    thoughts: u64,
}

/// The block that is open, as far as its deltas must know.
#[derive(Default)]
enum Block {
    /// None, or one that is not shown.
    #[default]
    Silent,
    Text,
    Refusal,
    Reasoning {
        thought: Reasoning<'static>,
        /// Text goes into `reasoning_details` too, where a signature over it is to be expected.
        detailed: bool,
        /// Format and id went out.
        named: bool,
        /// An entry was begun under the current number.
        begun: bool,
    },
    Call {
        kind: ToolKind,
        number: u64,
        /// Arguments went out.
        argued: bool,
    },
}

impl Encoder {
    pub fn new(include_usage: bool) -> Self {
        Encoder { include_usage, head: Vec::new(), id: String::new(), candidates: BTreeMap::new(), usage: None }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match event {
            Event::Start { id, model, created, service_tier, fingerprint, extras } => {
                self.id = id.to_string();
                self.begin(model, created.unwrap_or(shown.now), service_tier.as_ref(), fingerprint.as_ref());
                for (name, _) in extras.iter() {
                    losses.dropped(name.to_owned());
                }
            }
            Event::Open { candidate, content, .. } => self.open(*candidate, content, out, losses),
            Event::Delta { candidate, delta, .. } => self.delta(*candidate, delta, out, losses),
            Event::Close { candidate, .. } => self.close(*candidate, out),
            Event::Logprobs { candidate, json } => {
                self.role(*candidate, true, out);
                self.choice(*candidate, out, |_| {}, Some(json), None);
            }
            Event::Finish { candidate, finish } => {
                self.role(*candidate, true, out);
                let called = self.state(*candidate).calls > 0;
                let (word, less) = finish_word(finish.reason, called);
                let native = finish.native.as_deref();
                // OpenRouter's own word for a failure, which its callers know.
                let word = match finish.reason {
                    FinishReason::Error if native == Some("error") => "error",
                    _ => {
                        if less {
                            losses.altered("finish_reason");
                        }
                        word
                    }
                };
                self.choice(*candidate, out, |_| {}, None, Some(word));
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(shown, out),
            // The failure is told by `Inbound::error_event`, which knows the request.
            Event::Fault(_) => {}
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Extra { name, .. } => losses.dropped(name.to_string()),
        }
    }
}

impl Encoder {
    fn begin(&mut self, model: &str, created: u64, tier: Option<&Text<'_>>, fingerprint: Option<&Text<'_>>) {
        let mut head = Vec::with_capacity(192);
        writer::object(&mut head, |o| {
            o.string("id", &self.id);
            o.string("object", "chat.completion.chunk");
            o.number("created", created);
            o.string("model", model);
            if let Some(tier) = tier {
                o.string("service_tier", tier);
            }
            if let Some(fingerprint) = fingerprint {
                o.string("system_fingerprint", fingerprint);
            }
        });
        head.pop();
        self.head = head;
    }

    fn state(&mut self, index: u32) -> &mut Candidate {
        self.candidates.entry(index).or_default()
    }

    /// Writes the chunk that names the role, before anything else of the candidate.
    fn role(&mut self, index: u32, text: bool, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.state(index).begun, true) {
            let role = |o: &mut Object<'_>| {
                o.string("role", "assistant");
                if text {
                    o.string("content", "");
                } else {
                    o.null("content");
                }
            };
            self.choice(index, out, role, None, None);
        }
    }

    fn open(&mut self, index: u32, content: &Content<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        let text = matches!(content, Content::Text { .. });
        match content {
            Content::Text { text: piece, citations } => {
                self.role(index, text, out);
                self.state(index).block = Block::Text;
                self.say(index, "content", piece, out);
                for json in citations {
                    self.cite(index, json, out, losses);
                }
            }
            Content::Refusal(piece) => {
                self.role(index, text, out);
                self.state(index).block = Block::Refusal;
                self.say(index, "refusal", piece, out);
            }
            Content::Reasoning(thought) => {
                self.role(index, text, out);
                self.state(index).block = Block::Reasoning {
                    thought: Reasoning {
                        summary: thought.summary,
                        issuer: thought.issuer.clone().map(Text::into_owned),
                        id: thought.id.clone().map(Text::into_owned),
                        ..Reasoning::default()
                    },
                    detailed: reasoning::is_detailed(thought),
                    named: false,
                    begun: false,
                };
                if thought.text.is_some() || thought.signature.is_some() {
                    self.think(index, thought.text.as_deref(), thought.signature.as_deref(), out);
                }
                if let Some(data) = &thought.encrypted {
                    self.encrypted(index, data, out);
                }
            }
            Content::ToolCall(call) => {
                self.role(index, text, out);
                self.call(index, call, out);
            }
            Content::Media(media) if media.kind == MediaKind::Image => {
                self.role(index, text, out);
                self.state(index).block = Block::Silent;
                let images = |o: &mut Object<'_>| o.array("images", |a| write_image(a, media));
                self.choice(index, out, images, None, None);
            }
            other => {
                self.state(index).block = Block::Silent;
                losses.dropped(lost(other));
            }
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match (delta, &mut self.state(index).block) {
            (Delta::Text(piece), Block::Text) => self.say(index, "content", piece, out),
            (Delta::Text(piece), Block::Refusal) => self.say(index, "refusal", piece, out),
            (Delta::Text(piece), Block::Reasoning { .. }) => self.think(index, Some(piece), None, out),
            (Delta::Signature(signature), Block::Reasoning { .. }) => self.think(index, None, Some(signature), out),
            (Delta::Encrypted(data), Block::Reasoning { .. }) => self.encrypted(index, data, out),
            (Delta::Arguments(piece), Block::Call { kind, number, argued }) => {
                *argued |= !piece.is_empty();
                let (kind, number) = (*kind, *number);
                self.piece(index, number, out, |o| write_arguments(o, kind, piece));
            }
            (Delta::Signature(signature), Block::Call { number, .. }) => {
                let number = *number;
                self.piece(index, number, out, |o| write_google_signature(o, signature));
            }
            (Delta::Citation(json), Block::Text) => self.cite(index, json, out, losses),
            // The block was named as a loss when it opened.
            _ => {}
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<u8>) {
        let state = self.state(index);
        let block = std::mem::take(&mut state.block);
        match block {
            // A call without arguments: callers parse them, and `""` is no JSON.
            Block::Call { kind: ToolKind::Function, number, argued: false } => {
                self.piece(index, number, out, |o| write_arguments(o, ToolKind::Function, "{}"));
            }
            Block::Reasoning { begun: true, .. } => state.thoughts += 1,
            _ => {}
        }
    }

    fn say(&mut self, index: u32, member: &str, piece: &str, out: &mut Vec<u8>) {
        if !piece.is_empty() {
            self.choice(index, out, |o| o.string(member, piece), None, None);
        }
    }

    fn cite(&mut self, index: u32, json: &Raw<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        if is_annotation(json) {
            self.choice(index, out, |o| o.array("annotations", |a| write_line(a.value(), json)), None, None);
        } else {
            losses.dropped("content.citations");
        }
    }

    /// Writes text of a thought, its signature, or both.
    fn think(&mut self, index: u32, text: Option<&str>, signature: Option<&str>, out: &mut Vec<u8>) {
        let state = self.state(index);
        let number = state.thoughts;
        let Block::Reasoning { thought, detailed, named, begun } = &mut state.block else { return };
        let entry = (*detailed || signature.is_some()).then(|| {
            *begun = true;
            let name = !std::mem::replace(named, true);
            let identity = Reasoning { text: None, ..thought.clone() };
            (identity, name)
        });
        let piece = Piece { text, signature, data: None };
        let write = |o: &mut Object<'_>| {
            if let Some(text) = text {
                o.string("reasoning_content", text);
            }
            if let Some((identity, name)) = &entry {
                o.array("reasoning_details", |a| reasoning::write_piece(a, identity, piece, *name, number));
            }
        };
        self.choice(index, out, write, None, None);
    }

    /// Writes encrypted thoughts, an entry of their own.
    fn encrypted(&mut self, index: u32, data: &str, out: &mut Vec<u8>) {
        let state = self.state(index);
        let Block::Reasoning { thought, begun, .. } = &mut state.block else { return };
        if std::mem::take(begun) {
            state.thoughts += 1;
        }
        *begun = true;
        let identity = thought.clone();
        let number = state.thoughts;
        let piece = Piece { data: Some(data), ..Piece::default() };
        let write = |o: &mut Object<'_>| {
            o.array("reasoning_details", |a| reasoning::write_piece(a, &identity, piece, true, number));
        };
        self.choice(index, out, write, None, None);
    }

    fn call(&mut self, index: u32, call: &ToolCall<'_>, out: &mut Vec<u8>) {
        let state = self.state(index);
        let number = state.calls;
        state.calls += 1;
        state.block = Block::Call { kind: call.kind, number, argued: !call.arguments.is_empty() };
        let made = call.id.is_empty().then(|| made_id(&self.id, index, number));
        self.piece(index, number, out, |o| {
            o.string("id", made.as_deref().unwrap_or(&call.id));
            match call.kind {
                ToolKind::Function => {
                    o.string("type", "function");
                    o.object("function", |o| {
                        o.string("name", &call.name);
                        o.string("arguments", &call.arguments);
                    });
                }
                ToolKind::Custom => {
                    o.string("type", "custom");
                    o.object("custom", |o| {
                        o.string("name", &call.name);
                        o.string("input", &call.arguments);
                    });
                }
            }
            if let Some(signature) = &call.signature {
                write_google_signature(o, signature);
            }
        });
    }

    /// Writes a piece of tool call `number`.
    fn piece(&mut self, index: u32, number: u64, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        let calls = |o: &mut Object<'_>| {
            o.array("tool_calls", |a| {
                a.object(|o| {
                    o.number("index", number);
                    members(o);
                });
            });
        };
        self.choice(index, out, calls, None, None);
    }

    /// Writes one chunk with one choice.
    fn choice(
        &mut self,
        index: u32,
        out: &mut Vec<u8>,
        delta: impl FnOnce(&mut Object<'_>),
        logprobs: Option<&Raw<'_>>,
        finish: Option<&str>,
    ) {
        self.chunk(
            out,
            |o| {
                o.array("choices", |a| {
                    a.object(|o| {
                        o.number("index", u64::from(index));
                        o.object("delta", delta);
                        match logprobs {
                            Some(json) => write_line(o.value("logprobs"), json),
                            None => o.null("logprobs"),
                        }
                        match finish {
                            Some(word) => o.string("finish_reason", word),
                            None => o.null("finish_reason"),
                        }
                    });
                });
            },
            None,
        );
    }

    fn chunk(&mut self, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>), usage: Option<&Usage>) {
        if self.head.is_empty() {
            self.begin("", 0, None, None);
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.head);
        // The rest of the object: its opening brace becomes the comma after the head.
        let from = out.len();
        writer::object(out, |o| {
            members(o);
            match usage {
                Some(usage) => o.object("usage", |o| usage::write(o, usage)),
                None if self.include_usage => o.null("usage"),
                None => {}
            }
        });
        if let Some(brace) = out.get_mut(from) {
            *brace = b',';
        }
        out.extend_from_slice(b"\n\n");
    }

    fn end(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        if let Some(usage) = self.usage.take().filter(|_| self.include_usage) {
            let members = |o: &mut Object<'_>| {
                o.array("choices", |_| {});
                write_shown(o, shown);
            };
            self.chunk(out, members, Some(&usage));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

fn write_arguments(o: &mut Object<'_>, kind: ToolKind, piece: &str) {
    match kind {
        ToolKind::Function => o.object("function", |o| o.string("arguments", piece)),
        ToolKind::Custom => o.object("custom", |o| o.string("input", piece)),
    }
}

/// Writes a provider's JSON on one line: a line feed would end the `data:` field, and between strings it is only space.
fn write_line(out: &mut Vec<u8>, json: &Raw<'_>) {
    out.extend(json.get().bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
}
