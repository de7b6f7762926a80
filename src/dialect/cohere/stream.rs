//! Streams: Cohere's events to block events.
//!
//! Its events mark where blocks begin and end, which is nearly the IR's own form. What is put in order here: the plan
//! before calls has no marks; citations come while a text is open and belong to it; and an answer that failed ends with
//! the same event as one that did not.

use super::response::{is_of_text, part};
use super::wire::{self, Call, Citation, Delta as Change, Event as Shape, Part, Piece, arguments, each, says, whole};
use super::{fault, logprobs, usage};
use crate::dialect::StreamDecoder;
use crate::ir::{Content, Delta, Event, Fault, FaultKind, Finish, FinishReason, Reasoning, ToolCall};
use crate::wire::json::{self, Extras, Raw, Text, clip};
use crate::wire::sse::Frame;

type Emit<'e> = dyn FnMut(Event<'_>) + 'e;

/// One streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Blocks begun.
    blocks: u32,
    open: Option<Open>,
    called: bool,
    ended: bool,
    failed: bool,
}

/// The block that is open.
#[derive(Debug)]
enum Open {
    Text,
    Thought {
        /// It is the plan before calls.
        plan: bool,
    },
    Call {
        index: Option<u64>,
        /// Arguments came.
        argued: bool,
    },
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        let data = frame.data.trim();
        // Cohere ends its streams with OpenAI's mark, after its own.
        if self.ended || self.failed || data == "[DONE]" {
            return Ok(());
        }
        if data.is_empty() {
            emit(Event::Ping);
            return Ok(());
        }
        let shape: Shape<'_> = json::read(data.as_bytes()).map_err(|e| garbage(&e.to_string()))?;
        let kind = shape.kind.clone().unwrap_or_else(|| frame.event.into());
        let mut delta = shape.delta.unwrap_or_default();
        if is_known(&kind) {
            tell(shape.extras, emit);
            if kind != "message-end" {
                tell(std::mem::take(&mut delta.extras), emit);
            }
            if kind != "message-start" {
                let message = delta.message.as_mut();
                tell(message.map(|message| std::mem::take(&mut message.extras)).unwrap_or_default(), emit);
            }
        }
        let index = whole(shape.index.as_ref());
        match kind.as_str() {
            "message-start" => self.start(shape.id, delta, emit)?,
            "content-start" | "content-delta" => {
                self.content(delta, kind.as_str() == "content-start", emit)?;
                if let Some(json) = shape.logprobs.and_then(logprobs::read) {
                    emit(Event::Logprobs { candidate: 0, json });
                }
            }
            "tool-plan-delta" => self.plan(delta.message.and_then(|message| message.plan), emit),
            "tool-call-start" => self.calls(index, delta.message, emit)?,
            "tool-call-delta" => self.arguments(index, delta.message, emit)?,
            "content-end" | "tool-call-end" => self.close(emit),
            "citation-start" => self.cite(delta.message, emit),
            "citation-end" => {}
            "message-end" => self.finish(delta, emit),
            // An error by itself; the name is not documented, the shape is that of an error answer.
            "error" => self.fail(fault::event(data), emit),
            _ => {
                let json = Raw::parse(data).unwrap_or(Raw::literal("null"));
                emit(Event::Extra { name: if kind.is_empty() { "event".into() } else { kind }, json });
            }
        }
        Ok(())
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
    fn start(&mut self, id: Option<Text<'_>>, delta: Change<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        if self.started {
            // Seen before the first block, it is a repetition. Later, another answer was put in the place of this one.
            return if self.blocks == 0 { Ok(()) } else { Err(garbage("a second message begins within the first")) };
        }
        let message = delta.message.unwrap_or_default();
        let mut extras = Extras::default();
        wire::adopt(&mut extras, "message", message.extras);
        self.introduce(id.unwrap_or_default(), extras, emit);
        // Empty by rule; what is there is the beginning.
        self.plan(message.plan, emit);
        for raw in message.content.map(each).unwrap_or_default() {
            self.begin(raw, emit)?;
        }
        Ok(())
    }

    fn introduce(&mut self, id: Text<'_>, extras: Extras<'_>, emit: &mut Emit<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            let model = Text::default();
            emit(Event::Start { id, model, created: None, service_tier: None, fingerprint: None, extras });
        }
    }

    fn content(&mut self, delta: Change<'_>, begins: bool, emit: &mut Emit<'_>) -> Result<(), Fault> {
        let Some(raw) = delta.message.and_then(|message| message.content).filter(|raw| !raw.is_null()) else {
            return Ok(());
        };
        if begins {
            return self.begin(raw, emit);
        }
        let piece: Part<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
        let (text, thinking) = (piece.text.unwrap_or_default(), piece.thinking.unwrap_or_default());
        tell(piece.extras, emit);
        if !thinking.is_empty() {
            self.want_thought(false, emit);
            self.add(Delta::Text(thinking), emit);
        }
        if !text.is_empty() {
            self.want_text(emit);
            self.add(Delta::Text(text), emit);
        }
        Ok(())
    }

    /// A block begins, mostly empty. What the IR has no word for is told whole at once.
    fn begin(&mut self, raw: Raw<'_>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        self.close(emit);
        let said: Part<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
        let thinks = said.kind.as_deref().map_or(said.thinking.is_some(), |kind| kind == "thinking");
        if said.kind.as_deref().is_none_or(|kind| matches!(kind, "text" | "thinking")) {
            tell(said.extras, emit);
        }
        let block = part(raw).map_err(|e| garbage(&e.to_string()))?;
        match block.map(|block| block.content) {
            None if thinks => self.want_thought(false, emit),
            None => self.want_text(emit),
            Some(content) => {
                let open = match &content {
                    Content::Text { .. } => Some(Open::Text),
                    Content::Reasoning(_) => Some(Open::Thought { plan: false }),
                    _ => None,
                };
                let whole = open.is_none();
                self.say(content, open, emit);
                if whole {
                    emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) });
                }
            }
        }
        Ok(())
    }

    fn plan(&mut self, text: Option<Text<'_>>, emit: &mut Emit<'_>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.want_thought(true, emit);
            self.add(Delta::Text(text), emit);
        }
    }

    fn calls(&mut self, index: Option<u64>, message: Option<Piece<'_>>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        for raw in message.and_then(|message| message.calls).map(each).unwrap_or_default() {
            let call: Call<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
            let function = call.function.unwrap_or_default();
            tell(call.extras, emit);
            tell(function.extras, emit);
            let arguments = arguments(function.arguments);
            let argued = !arguments.is_empty();
            self.close(emit);
            self.called = true;
            let call = ToolCall {
                id: call.id.unwrap_or_default(),
                name: function.name.unwrap_or_default(),
                arguments,
                ..ToolCall::default()
            };
            self.say(Content::ToolCall(call), Some(Open::Call { index, argued }), emit);
        }
        Ok(())
    }

    fn arguments(&mut self, index: Option<u64>, message: Option<Piece<'_>>, emit: &mut Emit<'_>) -> Result<(), Fault> {
        for raw in message.and_then(|message| message.calls).map(each).unwrap_or_default() {
            let call: Call<'_> = raw.open().map_err(|e| garbage(&e.to_string()))?;
            let piece = arguments(call.function.and_then(|function| function.arguments));
            if piece.is_empty() {
                continue;
            }
            match &mut self.open {
                Some(Open::Call { index: open, argued }) if index.is_none() || *open == index => *argued = true,
                _ => return Err(garbage("arguments of a tool call that is not open")),
            }
            self.add(Delta::Arguments(piece), emit);
        }
        Ok(())
    }

    fn cite(&mut self, message: Option<Piece<'_>>, emit: &mut Emit<'_>) {
        for raw in message.and_then(|message| message.citations).map(each).unwrap_or_default() {
            if raw.open::<Citation<'_>>().is_ok_and(|citation| is_of_text(&citation)) {
                self.want_text(emit);
                self.add(Delta::Citation(raw), emit);
            } else {
                emit(Event::Extra { name: "message.citations".into(), json: raw });
            }
        }
    }

    fn finish(&mut self, delta: Change<'_>, emit: &mut Emit<'_>) {
        self.close(emit);
        self.introduce(Text::default(), Extras::default(), emit);
        for (name, json) in delta.extras.0.into_iter().filter(|(_, json)| says(json)) {
            emit(Event::Extra { name, json });
        }
        let finish = delta.reason.map(wire::finish).unwrap_or_else(|| {
            // The mark of the end is there; only the word for it is missing.
            let reason = if self.called { FinishReason::ToolCalls } else { FinishReason::Other };
            Finish { reason, sequence: None, native: None }
        });
        let counted = usage::read(delta.usage.as_ref());
        let error = delta.error.filter(says);
        if error.is_some() || finish.reason == FinishReason::Error {
            if let Some(counted) = counted {
                emit(Event::Usage(counted));
            }
            let word = finish.native.as_deref();
            return self.fail(fault::broken(word, delta.error_type.as_deref(), error.as_ref()), emit);
        }
        emit(Event::Finish { candidate: 0, finish });
        if let Some(counted) = counted {
            emit(Event::Usage(counted));
        }
        self.ended = true;
        emit(Event::End);
    }

    fn fail(&mut self, fault: Fault, emit: &mut Emit<'_>) {
        self.failed = true;
        emit(Event::Fault(fault));
    }

    fn say(&mut self, content: Content<'_>, open: Option<Open>, emit: &mut Emit<'_>) {
        self.introduce(Text::default(), Extras::default(), emit);
        emit(Event::Open { candidate: 0, block: self.blocks, content });
        self.blocks = self.blocks.saturating_add(1);
        self.open = open;
    }

    fn add(&self, delta: Delta<'_>, emit: &mut Emit<'_>) {
        emit(Event::Delta { candidate: 0, block: self.blocks.saturating_sub(1), delta });
    }

    /// Sees to it that a block of text is open.
    fn want_text(&mut self, emit: &mut Emit<'_>) {
        if !matches!(self.open, Some(Open::Text)) {
            self.close(emit);
            let content = Content::Text { text: Text::default(), citations: Vec::new() };
            self.say(content, Some(Open::Text), emit);
        }
    }

    /// Sees to it that a thought is open, or the plan.
    fn want_thought(&mut self, wanted: bool, emit: &mut Emit<'_>) {
        if !matches!(self.open, Some(Open::Thought { plan }) if plan == wanted) {
            self.close(emit);
            let content = Content::Reasoning(Reasoning::default());
            self.say(content, Some(Open::Thought { plan: wanted }), emit);
        }
    }

    fn close(&mut self, emit: &mut Emit<'_>) {
        let Some(open) = self.open.take() else { return };
        if matches!(open, Open::Call { argued: false, .. }) {
            // A call without arguments has an empty object of them.
            self.add(Delta::Arguments("{}".into()), emit);
        }
        emit(Event::Close { candidate: 0, block: self.blocks.saturating_sub(1) });
    }
}

/// Whether an event is one that the decoder takes apart; any other is told whole.
fn is_known(kind: &str) -> bool {
    ["message-", "content-", "tool-", "citation-"].iter().any(|begin| kind.starts_with(begin))
}

/// Names what an event says that the IR has no word for.
fn tell(extras: Extras<'_>, emit: &mut Emit<'_>) {
    for (name, json) in extras.0.into_iter().filter(|(_, json)| says(json)) {
        emit(Event::Extra { name: format!("content.{name}").into(), json });
    }
}

fn garbage(message: &str) -> Fault {
    Fault::new(FaultKind::Garbage, format!("not an event of Chat: {}", clip(message, 300)))
}
