//! Streams: ConverseStream's events to block events.
//!
//! What differs from the IR: a block of text or thoughts has no start event, so its first delta opens it; what the model's
//! own tools did comes in pieces and is held until it is whole, since the IR carries it raw; usage comes after the stop,
//! in `metadata`, which is the last event. An answer that has its stop is whole without it. Failures are messages of
//! their own kind, whose names say so (see [`frames`](crate::wire::frames)).

use super::format::ANSWER;
use super::response::{self, Calls, leftover, said};
use super::usage::usage;
use super::wire::{Call, Delta as Piece, Payload, SERVER_TOOL, Start};
use super::{ISSUER, fault};
use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Reasoning, ToolCall};
use crate::wire::json::{self, Extras, Number, Raw, Text};
use crate::wire::sse::Frame;
use crate::wire::writer;

/// Most bytes of a block that is held.
const MOST_HELD: usize = 32 << 20;

/// One streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Blocks begun.
    blocks: u32,
    open: Option<Open>,
    calls: Calls,
    finished: bool,
    ended: bool,
    failed: bool,
}

/// The block that is open, by its number at Bedrock.
#[derive(Debug)]
struct Open {
    index: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thought,
    Call {
        /// Arguments came.
        argued: bool,
    },
    /// The tool that stands for a schema: its arguments are the answer's text.
    Answer,
    Held(Held),
}

/// A block that the IR carries raw, before it is whole.
#[derive(Debug)]
struct Held {
    /// Member of the block: `toolUse`, `toolResult`, `image`.
    member: &'static str,
    /// What the start said, as JSON.
    start: String,
    /// Pieces of text (`toolUse`), of JSON (`toolResult`), of base64 (`image`).
    pieces: String,
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.ended || self.failed || frame.comment {
            return Ok(());
        }
        if fault::is_name(frame.event) {
            self.failed = true;
            emit(Event::Fault(fault::event(frame.event, frame.data)));
            return Ok(());
        }
        let payload = |data| json::read::<Payload<'_>>(data).map_err(|invalid| garbage(format!("{invalid}")));
        match frame.event {
            "messageStart" => {
                self.introduce(emit);
                Ok(())
            }
            "contentBlockStart" => {
                let shape = payload(frame.data.as_bytes())?;
                tell(shape.extras, emit);
                self.begin(number(shape.index), shape.start, emit)
            }
            "contentBlockDelta" => {
                let shape = payload(frame.data.as_bytes())?;
                tell(shape.extras, emit);
                let raw = shape.delta.ok_or_else(|| garbage("a delta without content"))?;
                self.delta(number(shape.index), raw, emit)
            }
            "contentBlockStop" => {
                self.close(emit);
                Ok(())
            }
            "messageStop" => {
                self.stop(payload(frame.data.as_bytes())?, emit);
                Ok(())
            }
            "metadata" => {
                self.metadata(payload(frame.data.as_bytes())?, emit);
                Ok(())
            }
            event => {
                let json = Raw::parse(frame.data).map_err(|_| garbage("an event that is not JSON"))?;
                emit(Event::Extra { name: event.into(), json });
                Ok(())
            }
        }
    }

    fn end(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.ended || self.failed {
            return Ok(());
        }
        self.close(emit);
        if !self.finished {
            return Err(Fault::new(FaultKind::Truncated, "the stream ended before the answer was finished"));
        }
        self.ended = true;
        emit(Event::End);
        Ok(())
    }
}

impl Decoder {
    fn introduce(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.started, true) {
            emit(Event::Start {
                id: Text::default(),
                model: Text::default(),
                created: None,
                service_tier: None,
                fingerprint: None,
                extras: Extras::default(),
            });
        }
    }

    fn begin(&mut self, index: u64, start: Option<Raw<'_>>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.finished {
            return Err(garbage("a block begins after the end of the message"));
        }
        self.close(emit);
        self.introduce(emit);
        // Its first delta says what it is.
        let Some(raw) = start else { return Ok(()) };
        let shape: Start<'_> = raw.open().map_err(|invalid| garbage(format!("start.{invalid}")))?;
        if let Some(mut call) = shape.call {
            tell(shape.extras, emit);
            tell(std::mem::take(&mut call.extras), emit);
            self.begin_call(index, call, &raw, emit);
        } else if let Some(result) = shape.result {
            self.hold(index, "toolResult", &result);
        } else if shape.image.is_some() {
            if let Some(image) = response::members(&raw).get("image") {
                self.hold(index, "image", image);
            }
        } else if let Some((name, _)) = shape.extras.iter().next() {
            emit(Event::Extra { name: Text::from(format!("contentBlockStart.{name}")), json: raw.reborrow() });
        }
        Ok(())
    }

    fn begin_call(&mut self, index: u64, call: Call<'_>, raw: &Raw<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        if call.kind.as_deref() == Some(SERVER_TOOL) {
            if let Some(call) = response::members(raw).get("toolUse") {
                self.hold(index, "toolUse", call);
            }
            return;
        }
        let name = call.name.unwrap_or_default();
        if name == ANSWER {
            self.calls.answer = true;
            return self.say(index, Kind::Answer, Content::Text { text: Text::default(), citations: Vec::new() }, emit);
        }
        self.calls.tools = true;
        let id = call.id.unwrap_or_default();
        let content = Content::ToolCall(ToolCall { id, name, ..ToolCall::default() });
        self.say(index, Kind::Call { argued: false }, content, emit);
    }

    fn delta(&mut self, index: u64, raw: Raw<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        if self.finished {
            return Err(garbage("content after the end of the message"));
        }
        let piece: Piece<'_> = raw.open().map_err(|invalid| garbage(format!("delta.{invalid}")))?;
        if let Some(text) = piece.text {
            tell(piece.extras, emit);
            if !text.is_empty() {
                self.want_text(index, emit);
                self.add(Delta::Text(text), emit);
            }
        } else if let Some(call) = piece.call {
            tell(piece.extras, emit);
            tell(call.extras, emit);
            return self.argue(index, call.input.unwrap_or_default(), emit);
        } else if let Some(thought) = piece.reasoning {
            tell(piece.extras, emit);
            tell(thought.extras, emit);
            if let Some(text) = thought.text.filter(|text| !text.is_empty()) {
                self.want_thought(index, emit);
                self.add(Delta::Text(text), emit);
            }
            if let Some(signature) = thought.signature.filter(|signature| !signature.is_empty()) {
                self.want_thought(index, emit);
                self.add(Delta::Signature(signature), emit);
            }
            if let Some(data) = thought.redacted.filter(|data| !data.is_empty()) {
                self.encrypted(index, data, emit);
            }
        } else if let Some(citation) = piece.citation {
            self.want_text(index, emit);
            self.add(Delta::Citation(citation), emit);
        } else if let Some(items) = piece.result {
            for item in items {
                self.keep(index, "toolResult", item.get(), ",")?;
            }
        } else if let Some(image) = piece.image {
            let bytes = image.source.and_then(|source| source.bytes).unwrap_or_default();
            return self.keep(index, "image", &bytes, "");
        } else {
            let name = piece.extras.iter().next().map_or("delta", |(name, _)| name).to_owned();
            emit(Event::Extra { name: Text::from(format!("contentBlockDelta.{name}")), json: raw.reborrow() });
        }
        Ok(())
    }

    /// Takes the next piece of a call's arguments.
    fn argue(&mut self, index: u64, json: Text<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        match self.open.as_mut().filter(|open| open.index == index).map(|open| &mut open.kind) {
            Some(Kind::Call { argued }) => {
                if !json.is_empty() {
                    *argued = true;
                    self.add(Delta::Arguments(json), emit);
                }
                Ok(())
            }
            Some(Kind::Answer) => {
                if !json.is_empty() {
                    self.add(Delta::Text(json), emit);
                }
                Ok(())
            }
            Some(Kind::Held(_)) => self.keep(index, "toolUse", &json, ""),
            _ if json.is_empty() => Ok(()),
            _ => Err(garbage("arguments of a tool that was not named")),
        }
    }

    /// Adds to the block that is held.
    fn keep(&mut self, index: u64, member: &str, piece: &str, between: &str) -> Result<(), Fault> {
        match self.open.as_mut().filter(|open| open.index == index).map(|open| &mut open.kind) {
            Some(Kind::Held(held)) if held.member == member => {
                if held.pieces.len().saturating_add(piece.len()) > MOST_HELD {
                    return Err(garbage("a block is too large"));
                }
                if !held.pieces.is_empty() {
                    held.pieces.push_str(between);
                }
                held.pieces.push_str(piece);
                Ok(())
            }
            _ => Err(garbage(format!("a piece of {member} without its start"))),
        }
    }

    /// Encrypted thoughts, which come whole, are a block of their own unless that has just begun.
    fn encrypted(&mut self, index: u64, data: Text<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        let (data, issuer) = response::redacted(data);
        if matches!(&self.open, Some(open) if open.index == index && matches!(open.kind, Kind::Thought)) {
            return self.add(Delta::Encrypted(data), emit);
        }
        self.close(emit);
        self.introduce(emit);
        let thought = Reasoning { encrypted: Some(data), issuer: Some(issuer.into()), ..Reasoning::default() };
        self.say(index, Kind::Thought, Content::Reasoning(thought), emit);
    }

    fn hold(&mut self, index: u64, member: &'static str, start: &Raw<'_>) {
        let held = Held { member, start: start.get().to_owned(), pieces: String::new() };
        self.open = Some(Open { index, kind: Kind::Held(held) });
    }

    fn say(&mut self, index: u64, kind: Kind, content: Content<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Open { candidate: 0, block: self.blocks, content });
        self.blocks = self.blocks.saturating_add(1);
        self.open = Some(Open { index, kind });
    }

    fn add(&self, delta: Delta<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Delta { candidate: 0, block: self.blocks.saturating_sub(1), delta });
    }

    /// Sees to it that a block of text is open.
    fn want_text(&mut self, index: u64, emit: &mut dyn FnMut(Event<'_>)) {
        if !matches!(&self.open, Some(open) if open.index == index && matches!(open.kind, Kind::Text)) {
            self.close(emit);
            self.introduce(emit);
            self.say(index, Kind::Text, Content::Text { text: Text::default(), citations: Vec::new() }, emit);
        }
    }

    /// Sees to it that a block of thoughts is open.
    fn want_thought(&mut self, index: u64, emit: &mut dyn FnMut(Event<'_>)) {
        if !matches!(&self.open, Some(open) if open.index == index && matches!(open.kind, Kind::Thought)) {
            self.close(emit);
            self.introduce(emit);
            let issuer = Some(Text::from(ISSUER));
            let content = Content::Reasoning(Reasoning { issuer, ..Reasoning::default() });
            self.say(index, Kind::Thought, content, emit);
        }
    }

    /// Closes the open block, if there is one; a held one is told now that it is whole.
    fn close(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        let Some(Open { index, kind }) = self.open.take() else { return };
        match kind {
            Kind::Text | Kind::Thought | Kind::Answer | Kind::Call { argued: true } => {}
            // A call without arguments has an empty object of them.
            Kind::Call { argued: false } => self.add(Delta::Arguments("{}".into()), emit),
            Kind::Held(held) => {
                let whole = Raw::trusted(held.whole());
                let content = match whole.read().ok().and_then(|part: super::wire::Part<'_>| part.image) {
                    Some(image) => response::picture(&image),
                    None => None,
                };
                let kind = if held.member == "toolUse" { SERVER_TOOL } else { held.member };
                let content = content.unwrap_or_else(|| Content::Other { kind: kind.into(), json: whole.reborrow() });
                self.say(index, Kind::Text, content, emit);
                self.open = None;
            }
        }
        emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) });
    }

    fn stop(&mut self, shape: Payload<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        self.close(emit);
        self.introduce(emit);
        let fields = shape.fields.filter(|fields| !fields.is_null());
        if !std::mem::replace(&mut self.finished, true) {
            let reason = shape.stop.unwrap_or_default();
            emit(Event::Finish { candidate: 0, finish: response::finish(reason, fields.as_ref(), self.calls) });
        }
        let mut extras = said(shape.extras);
        leftover(fields.as_ref(), &mut extras);
        for (name, json) in extras.0 {
            emit(Event::Extra { name, json });
        }
    }

    fn metadata(&mut self, shape: Payload<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        for (name, json) in said(shape.extras).0 {
            emit(Event::Extra { name, json });
        }
        if let Some(counts) = &shape.usage {
            self.introduce(emit);
            emit(Event::Usage(usage(counts)));
        }
        if self.finished {
            self.ended = true;
            emit(Event::End);
        }
    }
}

impl Held {
    /// The block as a whole answer would have it.
    fn whole(&self) -> String {
        let start = Raw::parse(&self.start).unwrap_or(Raw::literal("{}"));
        let mut out = Vec::with_capacity(self.start.len() + self.pieces.len() + 64);
        writer::object(&mut out, |o| {
            o.object(self.member, |o| {
                let put = |name: &str| matches!((self.member, name), ("toolUse", "input") | ("toolResult", "content"));
                let members = response::members(&start);
                members.iter().filter(|(name, _)| !put(name)).for_each(|(name, json)| o.raw(name, json));
                match self.member {
                    "toolResult" => {
                        let list = o.value("content");
                        list.push(b'[');
                        list.extend_from_slice(self.pieces.as_bytes());
                        list.push(b']');
                    }
                    "image" => o.object("source", |o| o.string("bytes", &self.pieces)),
                    _ => match Raw::parse(&self.pieces) {
                        Ok(input) => o.raw("input", &input),
                        Err(_) if self.pieces.is_empty() => o.object("input", |_| {}),
                        // Cut in the middle: kept as the text that it is.
                        Err(_) => o.string("input", &self.pieces),
                    },
                }
            });
        });
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Names what an event says that the IR has no word for.
fn tell(extras: Extras<'_>, emit: &mut dyn FnMut(Event<'_>)) {
    for (name, json) in said(extras).0 {
        emit(Event::Extra { name: format!("content.{name}").into(), json });
    }
}

fn number(index: Option<Number<'_>>) -> u64 {
    index.as_ref().and_then(Number::as_u64).unwrap_or(0)
}

fn garbage(message: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Garbage, format!("an event of the stream: {message}"))
}
