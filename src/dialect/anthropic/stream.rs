//! Streams: Messages events to block events.
//!
//! The shapes are nearly the IR's own. What differs: usage comes twice and is put together; blocks of the provider's own
//! tools, whose input comes in pieces, are held until they are whole, since the IR carries them raw; and servers that only
//! imitate this API forget marks, which are put in their place. An event's kind is read from its data: the `event:` line
//! says the same, and some leave it out.

use super::response::{self, said};
use super::usage::Tally;
use super::wire::{Answer, Bag, Delta as Piece, Frame as Shape};
use super::{NAME, fault};
use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Finish, FinishReason, Reasoning, ToolCall};
use crate::wire::json::{self, Kind, Raw, Text};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// Most bytes of a block that is held.
const MOST_HELD: usize = 8 << 20;

/// One streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Blocks begun.
    blocks: u32,
    open: Option<Open>,
    called: bool,
    finished: bool,
    tally: Tally,
    ended: bool,
    failed: bool,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    Text,
    Thought,
    Call {
        /// Arguments came.
        argued: bool,
    },
    Held(Held),
}

/// A block that only this dialect knows, before it is whole.
#[derive(Debug)]
struct Held {
    kind: String,
    json: String,
    input: String,
    content: Option<String>,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let data = frame.data.trim();
        if data.is_empty() {
            emit(Event::Ping);
            return Ok(());
        }
        // Whatever follows the end is not of this answer (OpenRouter adds `[DONE]`).
        if self.ended || self.failed || data == "[DONE]" {
            return Ok(());
        }
        let shape: Shape<'_> =
            json::read(data.as_bytes()).map_err(|invalid| garbage(format!("an event of the stream: {invalid}")))?;
        let kind = shape.kind.clone().unwrap_or_else(|| frame.event.into());
        match kind.as_str() {
            // The reason of the end has been told: what comes now belongs to no answer that anybody could be shown.
            "content_block_start" | "content_block_delta" if self.finished => {
                Err(garbage("content goes on behind the reason why it ended"))
            }
            "message_start" => self.start(shape.message.unwrap_or_default(), emit),
            "content_block_start" => {
                let raw = shape.block.ok_or_else(|| garbage("a block begins without saying what it is"))?;
                self.begin(raw, emit)
            }
            "content_block_delta" => {
                let raw = shape.delta.ok_or_else(|| garbage("a delta without content"))?;
                self.delta(raw, emit)
            }
            "content_block_stop" => {
                self.close(emit);
                Ok(())
            }
            "message_delta" => {
                if let Some(raw) = shape.delta {
                    self.finish(open(&raw)?, emit);
                }
                if let Some(counts) = shape.usage {
                    self.tally.take(&counts);
                    self.count(emit);
                }
                for (name, json) in said(shape.extras).0 {
                    emit(Event::Extra { name, json });
                }
                Ok(())
            }
            "message_stop" => {
                self.stop(emit);
                Ok(())
            }
            "ping" => {
                emit(Event::Ping);
                Ok(())
            }
            "error" => {
                self.failed = true;
                let none = Raw::literal("{}");
                emit(Event::Fault(fault::event(shape.error.as_ref().unwrap_or(&none))));
                Ok(())
            }
            _ => {
                let json = Raw::parse(data).unwrap_or(Raw::literal("null"));
                emit(Event::Extra { name: kind, json });
                Ok(())
            }
        }
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.ended || self.failed {
            return Ok(());
        }
        self.close(emit);
        Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer was finished"))
    }
}

impl Decoder {
    fn start(&mut self, message: Answer<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.started {
            // Seen before the first block, it is a repetition. Later, another answer was put in the place of this one,
            // which nobody can take back.
            return if self.blocks == 0 { Ok(()) } else { Err(garbage("a second message begins within the first")) };
        }
        self.started = true;
        let tier = message.usage.as_ref().and_then(|counts| counts.tier.clone());
        if let Some(counts) = &message.usage {
            self.tally.take(counts);
        }
        emit(Event::Start {
            id: message.id.unwrap_or_default(),
            model: message.model.unwrap_or_default(),
            created: None,
            service_tier: tier,
            fingerprint: None,
            extras: said(message.extras),
        });
        self.count(emit);
        // Imitators send what they have with the start.
        for raw in message.content.unwrap_or_default() {
            self.begin(raw, emit)?;
            self.close(emit);
        }
        Ok(())
    }

    fn count(&self, emit: &mut dyn FnMut(Event<'_>)) {
        if let Some(usage) = self.tally.usage() {
            emit(Event::Usage(usage));
        }
    }

    fn begin(&mut self, raw: Raw<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        self.close(emit);
        self.introduce(emit);
        let block = response::block(raw.clone()).map_err(|invalid| garbage(format!("a block: {invalid}")))?;
        let open = match &block.content {
            Content::Text { .. } => Open::Text,
            Content::Reasoning(_) => Open::Thought,
            Content::ToolCall(_) => Open::Call { argued: false },
            content => {
                let kind = match content {
                    Content::Other { kind, .. } => kind.to_string(),
                    _ => String::new(),
                };
                let json = raw.get().to_owned();
                self.open = Some(Open::Held(Held { kind, json, input: String::new(), content: None }));
                return Ok(());
            }
        };
        let content = match block.content {
            // The input of a call that is yet to come is an empty object.
            Content::ToolCall(call) if is_empty(&call.arguments) => {
                Content::ToolCall(ToolCall { arguments: Text::default(), ..call })
            }
            content => content,
        };
        for (name, json) in block.extras.0 {
            emit(Event::Extra { name: format!("content.{name}").into(), json });
        }
        let argued = matches!(&content, Content::ToolCall(call) if !call.arguments.is_empty());
        self.called |= matches!(content, Content::ToolCall(_));
        self.say(content, emit);
        self.open = Some(match open {
            Open::Call { .. } => Open::Call { argued },
            open => open,
        });
        Ok(())
    }

    fn say(&mut self, content: Content<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Open { candidate: 0, block: self.blocks, content });
        self.blocks = self.blocks.saturating_add(1);
    }

    /// The start, where it was forgotten.
    fn introduce(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.started, true) {
            emit(Event::Start {
                id: Text::default(),
                model: Text::default(),
                created: None,
                service_tier: None,
                fingerprint: None,
                extras: json::Extras::default(),
            });
        }
    }

    fn delta(&mut self, raw: Raw<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let piece: Piece<'_> = open(&raw)?;
        let kind = piece.kind.unwrap_or_default();
        if matches!(kind.as_str(), "text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta") {
            for (name, json) in said(piece.extras).0 {
                emit(Event::Extra { name: format!("content.{name}").into(), json });
            }
        }
        match kind.as_str() {
            "text_delta" => {
                let text = piece.text.unwrap_or_default();
                if !text.is_empty() {
                    self.want_text(emit);
                    self.add(Delta::Text(text), emit);
                }
            }
            "thinking_delta" => {
                let text = piece.thinking.unwrap_or_default();
                if !text.is_empty() {
                    self.want_thought(emit);
                    self.add(Delta::Text(text), emit);
                }
            }
            "signature_delta" => {
                let signature = piece.signature.unwrap_or_default();
                if !signature.is_empty() {
                    self.want_thought(emit);
                    self.add(Delta::Signature(signature), emit);
                }
            }
            "citations_delta" => {
                if let Some(citation) = piece.citation {
                    self.want_text(emit);
                    self.add(Delta::Citation(citation), emit);
                }
            }
            "input_json_delta" => {
                let json = piece.json.unwrap_or_default();
                match &mut self.open {
                    Some(Open::Call { argued }) => {
                        if !json.is_empty() {
                            *argued = true;
                            self.add(Delta::Arguments(json), emit);
                        }
                    }
                    Some(Open::Held(held)) => {
                        held.input.push_str(&json);
                        if held.input.len() > MOST_HELD {
                            return Err(garbage("the input of a tool is too large"));
                        }
                    }
                    _ if json.is_empty() => {}
                    _ => return Err(garbage("input of a tool that was not named")),
                }
            }
            "compaction_delta" => match (&mut self.open, piece.content) {
                (Some(Open::Held(held)), Some(content)) if content.get().len() <= MOST_HELD => {
                    held.content = Some(content.get().to_owned());
                }
                _ => emit(Event::Extra { name: kind, json: raw }),
            },
            _ => emit(Event::Extra { name: kind, json: raw }),
        }
        Ok(())
    }

    fn add(&self, delta: Delta<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Delta { candidate: 0, block: self.blocks.saturating_sub(1), delta });
    }

    /// Sees to it that a block of text is open.
    fn want_text(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !matches!(self.open, Some(Open::Text)) {
            self.close(emit);
            self.introduce(emit);
            self.say(Content::Text { text: Text::default(), citations: Vec::new() }, emit);
            self.open = Some(Open::Text);
        }
    }

    /// Sees to it that a block of thoughts is open.
    fn want_thought(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !matches!(self.open, Some(Open::Thought)) {
            self.close(emit);
            self.introduce(emit);
            let issuer = Some(Text::from(NAME));
            self.say(Content::Reasoning(Reasoning { issuer, ..Reasoning::default() }), emit);
            self.open = Some(Open::Thought);
        }
    }

    /// Closes the open block, if there is one; a held one is told now that it is whole.
    fn close(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        match self.open.take() {
            None => return,
            Some(Open::Text | Open::Thought | Open::Call { argued: true }) => {}
            // A call without arguments has an empty object of them.
            Some(Open::Call { argued: false }) => self.add(Delta::Arguments("{}".into()), emit),
            Some(Open::Held(held)) => {
                let (kind, json) = held.whole();
                self.say(Content::Other { kind: kind.into(), json: Raw::trusted(json) }, emit);
            }
        }
        emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) });
    }

    fn finish(&mut self, delta: Piece<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        if let Some(reason) = delta.stop_reason
            && !self.finished
        {
            self.close(emit);
            self.introduce(emit);
            self.finished = true;
            emit(Event::Finish { candidate: 0, finish: response::finish(reason, delta.stop_sequence) });
        }
        for (name, json) in said(delta.extras).0 {
            emit(Event::Extra { name, json });
        }
    }

    fn stop(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        self.close(emit);
        self.introduce(emit);
        if !self.finished {
            // The mark of the end is there; only the word for it is missing.
            let reason = if self.called { FinishReason::ToolCalls } else { FinishReason::Other };
            emit(Event::Finish { candidate: 0, finish: Finish { reason, sequence: None, native: None } });
        }
        self.ended = true;
        emit(Event::End);
    }
}

impl Held {
    /// The block with what came in pieces in its place.
    fn whole(self) -> (String, String) {
        let input = Raw::parse(&self.input).ok();
        if self.input.is_empty() && self.content.is_none() {
            return (self.kind, self.json);
        }
        let Ok(Bag { extras }) = serde_json::from_str::<Bag<'_>>(&self.json) else { return (self.kind, self.json) };
        let mut out = Vec::with_capacity(self.json.len() + self.input.len());
        writer::object(&mut out, |o| {
            for (name, json) in extras.iter() {
                match (name, &input, &self.content) {
                    ("input", Some(input), _) => o.raw(name, input),
                    // Cut in the middle: kept as the text that it is.
                    ("input", None, _) if !self.input.is_empty() => o.string(name, &self.input),
                    ("content", _, Some(content)) => o.value(name).extend_from_slice(content.as_bytes()),
                    _ => o.raw(name, json),
                }
            }
        });
        (self.kind, String::from_utf8(out).unwrap_or(self.json))
    }
}

fn open<'a>(raw: &Raw<'a>) -> Result<Piece<'a>, Fault> {
    raw.open().map_err(|invalid| garbage(format!("an event of the stream: delta.{invalid}")))
}

fn garbage(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Garbage, message)
}

/// An object without members.
fn is_empty(json: &str) -> bool {
    Raw::parse(json)
        .is_ok_and(|raw| raw.kind() == Kind::Object && raw.read::<Bag<'_>>().is_ok_and(|bag| bag.extras.is_empty()))
}
