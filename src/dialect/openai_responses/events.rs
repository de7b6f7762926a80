//! Streamed answers, written: block events into the events of a response, each with its number.
//!
//! What ends an item or a part repeats it, and the last event repeats the whole answer, so the encoder keeps what it
//! has said. A block's end is written when the next one begins or the answer ends: only then is known whether more goes
//! into the same item, and whether the item was cut.

use std::borrow::Cow;

use crate::dialect::openai_chat::fault as chat_fault;
use crate::dialect::openai_chat::response::write_shown;
use crate::dialect::openai_chat::wire::unscored;
use crate::dialect::{ErrorShape, Shown, StreamEncoder};
use crate::ir::{Content, Delta, Event, FinishReason, Losses, Reasoning, ToolKind, Usage};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::Object;

use super::answer::{self, Head, State, Whole};
use super::frames::{Open, code, frame, write_error, write_list, write_part};
use super::output::{self, Body, Item, Part, lost};

/// Most bytes of an answer that are kept to be repeated.
const MOST: usize = 64 << 20;

#[derive(Default)]
pub struct Encoder {
    started: bool,
    /// Number of the next event.
    number: u64,
    created: u64,
    model: String,
    tier: Option<String>,
    /// The item that is open, and what part of it.
    item: Option<Item<'static>>,
    part: Open,
    /// Thoughts that are open are a summary.
    summary: bool,
    /// Number of the item that is open, or of the next one.
    index: u64,
    /// Items that are done, with commas between.
    output: Vec<u8>,
    /// Bytes of text and arguments that were kept.
    kept: usize,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match event {
            Event::Start { model, created, service_tier, fingerprint, extras, .. } => {
                self.model = model.to_string();
                self.created = created.unwrap_or(shown.now);
                self.tier = service_tier.as_ref().map(|tier| tier.to_string());
                if fingerprint.is_some() {
                    losses.dropped("system_fingerprint");
                }
                for (name, _) in extras.iter() {
                    losses.dropped(name.to_owned());
                }
                self.start(shown, out);
            }
            Event::Open { candidate, .. }
            | Event::Delta { candidate, .. }
            | Event::Close { candidate, .. }
            | Event::Logprobs { candidate, .. }
            | Event::Finish { candidate, .. }
                if *candidate != 0 =>
            {
                losses.dropped("candidates");
            }
            Event::Open { content, .. } => {
                self.start(shown, out);
                self.open(content, shown, out, losses);
            }
            Event::Delta { delta, .. } => self.delta(delta, out, losses),
            // Ends are written late, see above.
            Event::Close { .. } => {}
            Event::Logprobs { json, .. } => self.score(json, out, losses),
            Event::Finish { finish, .. } => self.finish = Some(finish.reason),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(shown, out, losses),
            // The failure is told by `error`.
            Event::Fault(_) => {}
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Extra { name, .. } => losses.dropped(name.to_string()),
        }
    }

    /// Writes `error`, which SDKs raise, and `response.failed`, which others wait for; OpenAI sends both.
    fn error(&mut self, error: &ErrorShape<'_>, shown: &Shown<'_>, out: &mut Vec<u8>) -> bool {
        self.start(shown, out);
        write_error(error, self.number, out);
        self.number += 1;
        self.close_item(State::Failed, shown, out, &mut Losses::default());
        let mut said = Vec::new();
        chat_fault::write(error, &mut said);
        let code = code(&said).unwrap_or_else(|| "server_error".to_owned());
        self.response("response.failed", State::Failed, shown, Some((&code, error.message)), out);
        true
    }
}

impl Encoder {
    fn frame(&mut self, name: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        frame(&mut self.number, name, out, members);
    }

    /// Writes an event about the item that is open.
    fn about(&mut self, name: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        let id = self.item.as_ref().map_or("", |item| &item.id);
        let index = self.index;
        frame(&mut self.number, name, out, |o| {
            o.string("item_id", id);
            o.number("output_index", index);
            members(o);
        });
    }

    fn start(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        if self.created == 0 {
            self.created = shown.now;
        }
        self.response("response.created", State::Running, shown, None, out);
        self.response("response.in_progress", State::Running, shown, None, out);
    }

    /// Writes an event with the whole answer as it stands.
    fn response(
        &mut self,
        name: &str,
        state: State,
        shown: &Shown<'_>,
        error: Option<(&str, &str)>,
        out: &mut Vec<u8>,
    ) {
        let head = Head { created: self.created, model: &self.model, service_tier: self.tier.as_deref() };
        let whole = Whole { state, error, usage: self.usage.as_ref() };
        let output = &self.output;
        frame(&mut self.number, name, out, |o| {
            o.object("response", |o| {
                answer::write(o, &head, &whole, shown, |out| write_list(out, output));
                if state != State::Running {
                    write_shown(o, shown);
                }
            });
        });
    }

    fn open(&mut self, content: &Content<'_>, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        if self.item.as_ref().is_some_and(|item| item.takes(content, None)) {
            self.close_part(out);
        } else {
            self.close_item(State::Completed, shown, out, losses);
            let Some(item) = begin(content, shown.asked.id, self.index) else {
                return losses.dropped(lost(content));
            };
            let index = self.index;
            self.frame("response.output_item.added", out, |o| {
                o.number("output_index", index);
                item.write_begun(o.value("item"));
            });
            self.item = Some(item);
        }
        match content {
            Content::Text { text, citations } => {
                self.open_part(Open::Text, out);
                self.text(text, out);
                for json in citations {
                    self.cite(json, out, losses);
                }
            }
            Content::Refusal(text) => {
                self.open_part(Open::Refusal, out);
                self.text(text, out);
            }
            Content::Reasoning(thought) => {
                if let Some(Item { body: Body::Reasoning(thoughts), .. }) = &mut self.item {
                    thoughts.prove(&owned(thought));
                }
                self.summary = thought.summary;
                if let Some(text) = &thought.text {
                    self.open_part(if thought.summary { Open::Summary } else { Open::Thought }, out);
                    self.text(text, out);
                }
            }
            Content::ToolCall(call) => {
                if let Some(Item { body: Body::Call(shown), .. }) = &mut self.item {
                    shown.signature = call.signature.clone().map(Text::into_owned);
                }
                self.argue(&call.arguments, out);
            }
            Content::Media(_) => {
                self.about("response.image_generation_call.in_progress", out, |_| {});
                self.about("response.image_generation_call.completed", out, |_| {});
            }
            _ => {}
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        match (delta, self.item.as_mut().map(|item| &mut item.body)) {
            (Delta::Text(text), Some(Body::Message { .. })) => self.text(text, out),
            (Delta::Text(text), Some(Body::Reasoning(_))) => {
                if self.part == Open::Nothing {
                    self.open_part(if self.summary { Open::Summary } else { Open::Thought }, out);
                }
                self.text(text, out);
            }
            (Delta::Signature(signature), Some(Body::Reasoning(thoughts))) => {
                thoughts.proof.signature = Some(signature.clone().into_owned());
            }
            (Delta::Encrypted(data), Some(Body::Reasoning(thoughts))) => {
                thoughts.proof.encrypted = Some(data.clone().into_owned());
            }
            (Delta::Signature(signature), Some(Body::Call(call))) => {
                call.signature = Some(signature.clone().into_owned());
            }
            (Delta::Arguments(piece), Some(Body::Call(_))) => self.argue(piece, out),
            (Delta::Citation(json), Some(Body::Message { .. })) => self.cite(json, out, losses),
            // The block was named as a loss when it opened.
            _ => {}
        }
    }

    /// Number of the part that is open in its list.
    fn place(&self) -> (&'static str, u64) {
        let (name, count) = match self.item.as_ref().map(|item| &item.body) {
            Some(Body::Message { parts, .. }) => ("content_index", parts.len()),
            Some(Body::Reasoning(thoughts)) if self.part == Open::Summary => ("summary_index", thoughts.summary.len()),
            Some(Body::Reasoning(thoughts)) => ("content_index", thoughts.content.len()),
            _ => ("content_index", 0),
        };
        (name, count.saturating_sub(1) as u64)
    }

    fn open_part(&mut self, part: Open, out: &mut Vec<u8>) {
        self.part = part;
        match self.item.as_mut().map(|item| &mut item.body) {
            Some(Body::Message { parts, .. }) => {
                parts.push(Part { refusal: part == Open::Refusal, ..Part::default() });
            }
            Some(Body::Reasoning(thoughts)) if part == Open::Summary => thoughts.summary.push(Cow::default()),
            Some(Body::Reasoning(thoughts)) => thoughts.content.push(Cow::default()),
            _ => return,
        }
        let (member, place) = self.place();
        let name = match part {
            Open::Summary => "response.reasoning_summary_part.added",
            _ => "response.content_part.added",
        };
        self.about(name, out, |o| {
            o.number(member, place);
            write_part(o, part, None, "");
        });
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        let kept = match self.item.as_mut().map(|item| &mut item.body) {
            Some(Body::Message { parts, .. }) => parts.last_mut().map(|part| &mut part.text),
            Some(Body::Reasoning(thoughts)) if self.part == Open::Summary => thoughts.summary.last_mut(),
            Some(Body::Reasoning(thoughts)) => thoughts.content.last_mut(),
            _ => None,
        };
        let Some(kept) = kept else { return };
        self.kept = self.kept.saturating_add(piece.len());
        if self.kept <= MOST {
            kept.to_mut().push_str(piece);
        }
        let (member, place) = self.place();
        let part = self.part;
        self.about(part.events().0, out, |o| {
            o.number(member, place);
            o.string("delta", piece);
            if part == Open::Text {
                o.array("logprobs", |_| {});
            }
        });
    }

    fn cite(&mut self, json: &Raw<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        let Some(Body::Message { parts, .. }) = self.item.as_mut().map(|item| &mut item.body) else { return };
        let (Some(json), Some(part)) = (output::annotation(json), parts.last_mut()) else {
            return losses.dropped("content.citations");
        };
        let number = part.annotations.len() as u64;
        part.annotations.push(json.clone().into_owned());
        let (member, place) = self.place();
        self.about("response.output_text.annotation.added", out, |o| {
            o.number(member, place);
            o.number("annotation_index", number);
            o.raw("annotation", &json);
        });
    }

    /// Log probabilities belong to a delta; they come after theirs, with one that adds no text.
    fn score(&mut self, json: &Raw<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        unscored(json, losses);
        let Some(tokens) = output::tokens(json) else { return };
        let part = match self.item.as_mut().map(|item| &mut item.body) {
            Some(Body::Message { parts, .. }) if self.part == Open::Text => parts.last_mut(),
            _ => None,
        };
        let Some(part) = part else { return losses.dropped("logprobs") };
        if !part.logprobs.is_empty() {
            part.logprobs.push(',');
        }
        part.logprobs.push_str(&tokens);
        let (member, place) = self.place();
        self.about("response.output_text.delta", out, |o| {
            o.number(member, place);
            o.string("delta", "");
            write_list(o.value("logprobs"), tokens.as_bytes());
        });
    }

    fn argue(&mut self, piece: &str, out: &mut Vec<u8>) {
        let Some(Body::Call(call)) = self.item.as_mut().map(|item| &mut item.body) else { return };
        if piece.is_empty() {
            return;
        }
        self.kept = self.kept.saturating_add(piece.len());
        if self.kept <= MOST {
            call.arguments.to_mut().push_str(piece);
        }
        let name = match call.kind {
            ToolKind::Function => "response.function_call_arguments.delta",
            ToolKind::Custom => "response.custom_tool_call_input.delta",
        };
        self.about(name, out, |o| o.string("delta", piece));
    }

    fn close_part(&mut self, out: &mut Vec<u8>) {
        let part = std::mem::take(&mut self.part);
        if part == Open::Nothing {
            return;
        }
        self.part = part;
        let (member, place) = self.place();
        self.part = Open::Nothing;
        // Lent out, so that events can be written beside it.
        let Some(item) = self.item.take() else { return };
        let (text, whole) = match &item.body {
            Body::Message { parts, .. } => (parts.last().map(|part| &part.text), parts.last()),
            Body::Reasoning(thoughts) if part == Open::Summary => (thoughts.summary.last(), None),
            Body::Reasoning(thoughts) => (thoughts.content.last(), None),
            _ => (None, None),
        };
        let text = text.map_or("", |text| text.as_ref());
        let index = self.index;
        let about = |o: &mut Object<'_>| {
            o.string("item_id", &item.id);
            o.number("output_index", index);
            o.number(member, place);
        };
        self.frame(part.events().1, out, |o| {
            about(o);
            o.string(if part == Open::Refusal { "refusal" } else { "text" }, text);
            if let (Open::Text, Some(whole)) = (part, whole) {
                write_list(o.value("logprobs"), whole.logprobs.as_bytes());
            }
        });
        let name = match part {
            Open::Summary => "response.reasoning_summary_part.done",
            _ => "response.content_part.done",
        };
        self.frame(name, out, |o| {
            about(o);
            write_part(o, part, whole, text);
        });
        self.item = Some(item);
    }

    /// Ends the item that is open, and adds it to the answer. `state` is that of the answer, if it ends with this item.
    fn close_item(&mut self, state: State, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        self.close_part(out);
        let Some(item) = self.item.take() else { return };
        if let Body::Call(call) = &item.body {
            let empty = (call.arguments.is_empty() && call.kind == ToolKind::Function).then_some("{}");
            let (index, arguments) = (self.index, empty.unwrap_or(&call.arguments));
            let prefix = match call.kind {
                ToolKind::Function => "response.function_call_arguments",
                ToolKind::Custom => "response.custom_tool_call_input",
            };
            let about = |o: &mut Object<'_>| {
                o.string("item_id", &item.id);
                o.number("output_index", index);
            };
            if let Some(piece) = empty {
                self.frame(&format!("{prefix}.delta"), out, |o| {
                    about(o);
                    o.string("delta", piece);
                });
            }
            self.frame(&format!("{prefix}.done"), out, |o| {
                about(o);
                o.string("name", &call.name);
                o.string(call.member(), arguments);
            });
        }
        let proof = item.proof(shown.asked.id, self.index + 1);
        self.done(&item, state.of_item(true), out, losses);
        if let Some(proof) = proof {
            let index = self.index;
            self.frame("response.output_item.added", out, |o| {
                o.number("output_index", index);
                proof.write_begun(o.value("item"));
            });
            self.done(&proof, "completed", out, losses);
        }
    }

    fn done(&mut self, item: &Item<'_>, status: &str, out: &mut Vec<u8>, losses: &mut Losses) {
        let mut json = Vec::new();
        item.write(&mut json, status, losses);
        let index = self.index;
        self.frame("response.output_item.done", out, |o| {
            o.number("output_index", index);
            o.value("item").extend_from_slice(&json);
        });
        self.index += 1;
        if self.kept > MOST || self.output.len().saturating_add(json.len()) > 2 * MOST {
            return losses.dropped("response.output");
        }
        if !self.output.is_empty() {
            self.output.push(b',');
        }
        self.output.append(&mut json);
    }

    fn end(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
        self.start(shown, out);
        let state = State::of(self.finish, losses);
        self.close_item(state, shown, out, losses);
        let name = match state {
            State::Incomplete(_) => "response.incomplete",
            _ => "response.completed",
        };
        self.response(name, state, shown, None, out);
    }
}

/// An item that outlives the event it began with.
fn begin(content: &Content<'_>, answer: &str, index: u64) -> Option<Item<'static>> {
    Item::begin(content, answer, index).map(Item::into_owned)
}

/// The proofs of a thought, owned.
fn owned(thought: &Reasoning<'_>) -> Reasoning<'static> {
    Reasoning {
        signature: thought.signature.clone().map(Text::into_owned),
        encrypted: thought.encrypted.clone().map(Text::into_owned),
        issuer: thought.issuer.clone().map(Text::into_owned),
        ..Reasoning::default()
    }
}
